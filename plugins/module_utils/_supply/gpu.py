# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs from the output of ``nvidia-smi -q -x`` and from PCI ids: text in, values out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
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


class GpuError(Exception):
    """The driver's answer cannot be used; reads as a sentence."""


@dataclass(frozen=True)
class MigInstance:
    """One slice of a card that acts as a GPU."""

    gpu_instance_id: int | None
    compute_instance_id: int | None
    memory_mib: float | None
    memory_used_mib: float | None
    multiprocessors: int | None


@dataclass(frozen=True)
class Gpu:
    """One card. None is unknown or not there, as listed in `unknown`."""

    index: int
    vendor: str
    model: str | None
    uuid: str | None
    pci_bus_id: str | None
    architecture: str | None = None
    memory_mib: float | None = None
    memory_used_mib: float | None = None
    memory_free_mib: float | None = None
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
            "mig_instances": [asdict(row) for row in self.mig_instances],
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
        value = self.text(*paths)
        return None if value is None else value.lower() in ("yes", "pending")


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
    processes = element.find("processes")
    return Gpu(
        index=index,
        vendor="NVIDIA",
        model=row.text("product_name"),
        uuid=row.text("uuid"),
        pci_bus_id=row.text("pci/pci_bus_id") or element.get("id"),
        architecture=row.text("product_architecture"),
        memory_mib=row.number("memory_mib", "fb_memory_usage/total"),
        memory_used_mib=row.number("memory_used_mib", "fb_memory_usage/used"),
        memory_free_mib=row.number("memory_free_mib", "fb_memory_usage/free"),
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
        remapped_rows_failure=row.yes("remapped_rows/remapped_row_failure"),
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
        processes=None if processes is None else len(processes.findall("process_info")),
        driver=driver,
        unknown=tuple(row.unknown),
    )


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
        driver=None,
        unknown=("memory_free_mib: shared with the processors",),
    )
    return GpuReport("device-tree", None, None, (gpu,))
