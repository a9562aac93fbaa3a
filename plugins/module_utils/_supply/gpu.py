# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs from the output of ``nvidia-smi -q -x`` and from PCI ids: text in, values out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any
from xml.etree import ElementTree

NVIDIA_VENDOR = "0x10de"
AMD_VENDOR = "0x1002"
INTEL_VENDOR = "0x8086"
VENDORS = {NVIDIA_VENDOR: "NVIDIA", AMD_VENDOR: "AMD", INTEL_VENDOR: "Intel"}
# What the driver writes for "this card does not have it" and for "could not be read".
NOT_THERE = frozenset(
    ("", "n/a", "[n/a]", "not supported", "[not supported]", "none", "unknown error")
)


# Chips without memory of their own: their driver gives no size, or that of the whole machine.
SHARED_MEMORY = re.compile(r"\b(nvgpu|tegra|jetson|orin|xavier|thor|gb10|n1x?)\b", re.IGNORECASE)
LOST = re.compile(r"gpu is lost|card is lost|requires? reset|fallen off", re.IGNORECASE)


# Cards whose memory the kernel takes for a part of the host's, on nodes without processors.
COHERENT = re.compile(r"\b(gh200|gb200|gb300)\b", re.IGNORECASE)


class GpuError(Exception):
    """The driver's answer cannot be used; reads as a sentence."""


@dataclass(frozen=True)
class MigInstance:
    """One slice of a card that acts as a GPU.

    ``start`` is the first of its slices of memory, ``files`` are those that have to be opened for
    it besides that of its card; empty where one of them is missing.
    """

    gpu_instance_id: int | None
    compute_instance_id: int | None
    memory_mib: float | None
    memory_used_mib: float | None
    multiprocessors: int | None
    uuid: str | None = None
    profile: str | None = None
    start: int | None = None
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gpu:
    """One card. None is unknown or not there, as listed in `unknown`.

    ``index`` is its place in the driver's count, by the order of the bus. ``minor`` names its
    device file, ``/dev/nvidia<minor>``, in the order in which the driver found the cards.
    ``memory_shared``: its memory is that of the host. ``memory_used_mib`` is without what the
    driver keeps (``memory_reserved_mib``) where that is known. ``lost``: it no longer answers.
    """

    index: int
    vendor: str
    model: str | None
    uuid: str | None
    pci_bus_id: str | None
    minor: int | None = None
    architecture: str | None = None
    memory_mib: float | None = None
    memory_used_mib: float | None = None
    memory_free_mib: float | None = None
    memory_reserved_mib: float | None = None
    memory_shared: bool = False
    pcie_generation_now: int | None = None
    pcie_generation_max: int | None = None
    pcie_width_now: int | None = None
    pcie_width_max: int | None = None
    mig_mode: str | None = None
    mig_pending: str | None = None
    mig_instances: tuple[MigInstance, ...] = ()
    ecc_mode: str | None = None
    ecc_uncorrected: int | None = None
    retired_pages_pending: bool | None = None
    remapped_rows_failure: bool | None = None
    remapped_rows_pending: bool | None = None
    repair_pending: bool | None = None
    recovery_action: str | None = None
    fabric_problem: str | None = None
    addressing_mode: str | None = None
    lost: bool = False
    compute_mode: str | None = None
    utilisation_percent: float | None = None
    temperature_celsius: float | None = None
    power_limit_watts: float | None = None
    processes: int | None = None
    driver: str | None = None
    unknown: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            **asdict(self),
            "mig_instances": [
                {**asdict(row), "files": list(row.files)} for row in self.mig_instances
            ],
            "unknown": list(self.unknown),
        }


@dataclass(frozen=True)
class GpuReport:
    """All cards, and how they were found."""

    source: str
    driver_version: str | None
    cuda_version: str | None
    gpus: tuple[Gpu, ...]
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "gpus": [gpu.as_dict() for gpu in self.gpus]}


class _Row:
    """Typed getters over one element; what cannot be read is noted by name."""

    def __init__(self, element: ElementTree.Element) -> None:
        self.element = element
        self.unknown: list[str] = []

    def text(self, *paths: str) -> str | None:
        for path in paths:
            value = self.element.findtext(path)
            if value is not None and value.strip().lower() not in NOT_THERE:
                return value.strip()
        return None

    def number(self, name: str, *paths: str) -> float | None:
        value = self.text(*paths)
        match = re.match(r"(\d+(?:\.\d+)?)(?:\s|x|$)", value + " ") if value else None
        if match is None:
            said = next((t for p in paths if (t := self.element.findtext(p)) is not None), None)
            reason = (
                "the driver does not report it"
                if said is None
                else f"the driver says {said.strip()}"
            )
            self.unknown.append(f"{name}: {reason}")
            return None
        return float(match.group(1))

    def whole(self, name: str, *paths: str) -> int | None:
        value = self.number(name, *paths)
        return None if value is None else int(value)

    def yes(self, *paths: str) -> bool | None:
        """Whether any of these says yes; None if none says yes or no."""
        said = {value.lower() for path in paths if (value := self.text(path)) is not None}
        if said & {"yes", "pending", "true"}:
            return True
        return False if said & {"no", "false"} else None


def parse_nvidia_smi(text: str) -> GpuReport:
    """Read the XML of any schema version. Keys moved over the years: several places are tried."""
    try:
        root = ElementTree.fromstring(text.strip())  # noqa: S314, the driver's own answer
    except ElementTree.ParseError as error:
        raise GpuError(f"nvidia-smi answered with no readable XML: {error}") from None
    if root.tag != "nvidia_smi_log":
        raise GpuError(f"nvidia-smi answered with <{root.tag}> in place of <nvidia_smi_log>")
    head = _Row(root)
    gpus = tuple(
        _gpu(index, element, head.text("driver_version"))
        for index, element in enumerate(root.findall("gpu"))
    )
    attached = root.findtext("attached_gpus")
    problem = None
    if attached and attached.strip().isdecimal() and int(attached) != len(gpus):
        problem = (
            f"nvidia-smi speaks of {attached.strip()} GPUs and describes {len(gpus)}; "
            "a card may have fallen off the bus"
        )
    return GpuReport(
        "nvidia-smi", head.text("driver_version"), head.text("cuda_version"), gpus, problem
    )


def _gpu(index: int, element: ElementTree.Element, driver: str | None) -> Gpu:
    row = _Row(element)
    link = "pci/pci_gpu_link_info"
    model = row.text("product_name")
    memory = row.number("memory_mib", "fb_memory_usage/total")
    return Gpu(
        index=index,
        vendor="NVIDIA",
        model=model,
        uuid=row.text("uuid"),
        pci_bus_id=row.text("pci/pci_bus_id") or element.get("id"),
        minor=row.whole("minor", "minor_number"),
        architecture=row.text("product_architecture"),
        memory_mib=memory,
        memory_used_mib=row.number("memory_used_mib", "fb_memory_usage/used"),
        memory_free_mib=row.number("memory_free_mib", "fb_memory_usage/free"),
        memory_reserved_mib=_figure(element, "fb_memory_usage/reserved"),
        memory_shared=has_no_memory(model, row.text("addressing_mode"), memory is not None),
        pcie_generation_now=row.whole("pcie_generation_now", f"{link}/pcie_gen/current_link_gen"),
        pcie_generation_max=row.whole("pcie_generation_max", f"{link}/pcie_gen/max_link_gen"),
        pcie_width_now=row.whole("pcie_width_now", f"{link}/link_widths/current_link_width"),
        pcie_width_max=row.whole("pcie_width_max", f"{link}/link_widths/max_link_width"),
        mig_mode=row.text("mig_mode/current_mig"),
        mig_pending=row.text("mig_mode/pending_mig"),
        mig_instances=tuple(_mig(found) for found in element.findall("mig_devices/mig_device")),
        ecc_mode=row.text("ecc_mode/current_ecc"),
        ecc_uncorrected=_uncorrected(element),
        retired_pages_pending=row.yes(
            "retired_pages/pending_retirement", "retired_pages/pending_blacklist"
        ),
        remapped_rows_failure=row.yes(
            "remapped_rows/remapped_row_failure",
            "ecc_errors/unrepairable_memory",
            "ecc_errors/aggregate/unrepairable_memory",
        ),
        remapped_rows_pending=row.yes("remapped_rows/remapped_row_pending"),
        repair_pending=row.yes(
            "ecc_errors/channel_repair_pending",
            "ecc_errors/tpc_repair_pending",
            "ecc_errors/aggregate/channel_repair_pending",
            "ecc_errors/aggregate/tpc_repair_pending",
        ),
        recovery_action=row.text("gpu_recovery_action"),
        fabric_problem=_fabric(row),
        addressing_mode=row.text("addressing_mode"),
        lost=any(LOST.search(part.text or "") for part in element.iter()),
        compute_mode=row.text("compute_mode"),
        utilisation_percent=row.number("utilisation_percent", "utilization/gpu_util"),
        temperature_celsius=row.number("temperature_celsius", "temperature/gpu_temp"),
        power_limit_watts=row.number(
            "power_limit_watts",
            "gpu_power_readings/current_power_limit",
            "gpu_power_readings/power_limit",
            "power_readings/enforced_power_limit",
            "power_readings/power_limit",
        ),
        processes=_processes(element),
        driver=driver,
        unknown=tuple(row.unknown),
    )


def _figure(element: ElementTree.Element, path: str) -> float | None:
    match = re.match(r"(\d+(?:\.\d+)?)\s*MiB", (element.findtext(path) or "").strip())
    return float(match.group(1)) if match else None


def _processes(element: ElementTree.Element) -> int | None:
    """How many processes use the card; None where the driver does not show them."""
    found = element.find("processes")
    if found is None or (found.text or "").strip().lower() in ("n/a", "not supported"):
        return None
    return len(found.findall("process_info"))


def _fabric(row: _Row) -> str | None:
    """What is wrong between the card and the others of its fabric; None where nothing is."""
    state, status = row.text("fabric/state"), row.text("fabric/status")
    wrong = []
    if state is not None and state.lower() not in ("completed", "not supported"):
        wrong.append(f"state {state}")
    if status is not None and status.lower() not in ("success", "nvml_success"):
        wrong.append(f"status {status}")
    health = row.element.find("fabric/health")
    for part in [] if health is None else list(health):
        said = (part.text or "").strip().lower()
        if said in NOT_THERE or said in ("full", "healthy", "false", "no", "ok"):
            continue
        wrong.append(f"{part.tag} {(part.text or '').strip()}")
    return ", ".join(wrong) or None


def _mig(element: ElementTree.Element) -> MigInstance:
    row = _Row(element)
    return MigInstance(
        gpu_instance_id=row.whole("gpu_instance_id", "gpu_instance_id"),
        compute_instance_id=row.whole("compute_instance_id", "compute_instance_id"),
        memory_mib=row.number("memory_mib", "fb_memory_usage/total"),
        memory_used_mib=row.number("memory_used_mib", "fb_memory_usage/used"),
        multiprocessors=row.whole(
            "multiprocessors", "device_attributes/shared/multiprocessor_count"
        ),
    )


def _uncorrected(element: ElementTree.Element) -> int | None:
    """Uncorrectable errors since the last reset of the counters, over all memories that report."""
    total: int | None = None
    aggregate = element.find("ecc_errors/aggregate")
    for counter in [] if aggregate is None else list(aggregate.iter()):
        if "uncorrectable" in counter.tag or "double_bit" in counter.tag:
            said = (counter.text or "").strip()
            if said.isdecimal():
                total = (total or 0) + int(said)
    return total


@dataclass(frozen=True)
class PciDevice:
    """A device on the bus, as /sys/bus/pci/devices tells it."""

    address: str
    vendor: str
    device: str
    cls: str
    driver: str | None


def from_pci(devices: Iterable[PciDevice]) -> GpuReport:
    """Accelerators on the bus when no driver can be asked. Consoles of servers are left out."""
    gpus: list[Gpu] = []
    for device in devices:
        is_3d = device.cls.startswith(("0x0302", "0x0380", "0x1200"))
        is_display = device.cls.startswith("0x03")
        if not (is_3d or (is_display and device.vendor in (NVIDIA_VENDOR, AMD_VENDOR))):
            continue
        vendor = VENDORS.get(device.vendor, device.vendor)
        working = device.driver in ("nvidia", "amdgpu", "i915", "xe")
        why = (
            f"driver {device.driver} is loaded but could not be asked"
            if working
            else "driver missing"
        )
        gpus.append(
            Gpu(
                index=len(gpus),
                vendor=vendor,
                model=f"{vendor} {device.device}",
                uuid=None,
                pci_bus_id=device.address,
                driver=device.driver,
                unknown=(f"memory_mib: {why}",),
            )
        )
    problem = None
    if gpus:
        names = ", ".join(f"{gpu.model} at {gpu.pci_bus_id}" for gpu in gpus)
        reasons = "; ".join(sorted({gpu.unknown[0].partition(": ")[2] for gpu in gpus}))
        problem = f"{reasons}: {names}"
    return GpuReport("pci" if gpus else "none", None, None, tuple(gpus), problem)


def from_device_tree(model: str, compatible: str, memory_mib: float | None) -> GpuReport | None:
    """A Jetson: its GPU shares the machine's memory and is on no bus."""
    if "nvidia,tegra" not in compatible:
        return None
    chip = next((part for part in compatible.split("\0") if part.startswith("nvidia,tegra")), "")
    gpu = Gpu(
        index=0,
        vendor="NVIDIA",
        model=model.strip("\0 \n"),
        uuid=None,
        pci_bus_id=None,
        architecture=chip.partition(",")[2],
        memory_mib=memory_mib,
        memory_shared=True,
        driver=None,
        unknown=("memory_free_mib: shared with the processors",),
    )
    return GpuReport("device-tree", None, None, (gpu,))


def has_no_memory(model: str | None, addressing: str | None, told: bool) -> bool:
    """Whether a card works in the memory of the host: known by its name, or by what it tells.

    A card in one address space with the host (ATS) may still have memory of its own, which its
    driver then tells.
    """
    return bool(SHARED_MEMORY.search(model or "")) or (addressing == "ATS" and not told)


def with_main_memory(report: GpuReport, memory_mib: float | None) -> GpuReport:
    """The report with the machine's memory as that of the cards that have none of their own."""
    return replace(
        report,
        gpus=tuple(
            replace(gpu, memory_mib=memory_mib) if gpu.memory_shared and not gpu.lost else gpu
            for gpu in report.gpus
        ),
    )


def without_cards(
    memory: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]], gpus: Iterable[Gpu]
) -> dict[str, float]:
    """Total and available memory of a host without that of its cards, as far as it is in there.

    With one address space for processors and cards (Grace Hopper) the kernel counts the memory of
    the cards as the host's, on a node of its own for each card, which has no processors.
    """
    bare = [node for node in nodes if not node["cpus"] and node["memory_mib"]]
    total, available = memory.get("total_mib"), memory.get("available_mib")
    if total is None:
        return {}
    gone = kept = 0.0
    for gpu in gpus:
        coherent = gpu.addressing_mode == "ATS" or COHERENT.search(gpu.model or "")
        if gpu.memory_shared or not coherent or not gpu.memory_mib:
            continue
        near = [n for n in bare if 0.8 <= n["memory_mib"] / gpu.memory_mib <= 1.1]
        if near:
            bare.remove(near[0])
            gone += near[0]["memory_mib"]
            free = near[0].get("free_mib")
            kept += near[0]["memory_mib"] if free is None else free
    if not gone:
        return {}
    found = {"total_mib": round(max(0.0, total - gone), 1)}
    if available is not None:
        found["available_mib"] = round(min(found["total_mib"], max(0.0, available - kept)), 1)
    return found
