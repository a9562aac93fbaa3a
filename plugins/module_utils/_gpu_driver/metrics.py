# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What no exporter of nvitop's kind tells of GPUs, as text for Prometheus.

Written beside the exporter by a timer: planned and seen cards, Xid of this boot from the kernel's
log, remapped rows, throttling, the temperature at which a card slows down, and the versions of
module, libraries and persistence daemon.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

# ``NVRM: Xid (PCI:0000:3b:00): 79, pid=…`` ("XID Errors", NVIDIA GPU deployment and management).
XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)")
# Reasons for which a card is slower than it could be and that are nobody's setting.
THROTTLES = ("hw_slowdown", "hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake_slowdown")


@dataclass(frozen=True)
class Sample:
    """One line: name, labels and value."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float

    @property
    def text(self) -> str:
        """As Prometheus reads it."""
        said = ",".join(f'{key}="{_escaped(value)}"' for key, value in self.labels)
        return f"{self.name}{{{said}}} {self.value:g}" if said else f"{self.name} {self.value:g}"


HELP: Mapping[str, str] = {
    "mlops_gpu_planned": "Cards that the plan uses on this host.",
    "mlops_gpu_seen": "Cards that the driver tells.",
    "mlops_gpu_xid": "Errors of a kind (Xid) in the kernel's log of this boot.",
    "mlops_gpu_remapped_rows": "Rows of memory that were remapped, by cause.",
    "mlops_gpu_remapping_pending": "Whether rows wait for a reset to be remapped.",
    "mlops_gpu_remapping_failed": "Whether a row could not be remapped.",
    "mlops_gpu_throttled": "Whether a card is slowed down, by reason.",
    "mlops_gpu_temperature_celsius": "Temperature.",
    "mlops_gpu_slowdown_celsius": "Temperature at which the card slows itself down.",
    "mlops_gpu_driver_info": "Versions of the driver.",
    "mlops_gpu_driver_skew": "Whether module, libraries and daemon are of different versions.",
    "mlops_gpu_driver_answers": "Whether the driver answers.",
}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def of_driver(loaded: str, library: str, daemon: str) -> list[Sample]:
    """The versions, and whether they differ. What is not there differs from nothing."""
    there = {one for one in (loaded, library, daemon) if one}
    labels = (("module", loaded), ("library", library), ("persistenced", daemon))
    return [
        Sample("mlops_gpu_driver_info", labels, 1),
        Sample("mlops_gpu_driver_skew", (), float(len(there) > 1)),
    ]


def of_log(log: str) -> list[Sample]:
    """Xid by card and kind, of the kernel's log."""
    counted: dict[tuple[str, str], int] = {}
    for bus, kind in XID.findall(log):
        key = (bus.lower().rstrip("."), kind)
        counted[key] = counted.get(key, 0) + 1
    return [
        Sample("mlops_gpu_xid", (("pci", bus), ("xid", kind)), count)
        for (bus, kind), count in sorted(counted.items())
    ]


def of_cards(answer: str) -> list[Sample]:
    """What ``nvidia-smi -q -x`` tells, of any version of its form."""
    try:
        root = ElementTree.fromstring(answer.strip())  # noqa: S314, the driver's own answer
    except ElementTree.ParseError:
        return [Sample("mlops_gpu_driver_answers", (), 0)]
    found = [Sample("mlops_gpu_driver_answers", (), 1)]
    for index, card in enumerate(root.findall("gpu")):
        uuid = (card.findtext("uuid") or "").strip()
        labels = (("gpu", str(index)), ("uuid", uuid))
        found.append(Sample("mlops_gpu_seen", labels, 1))
        found += _card(card, labels)
    return found


def _card(card: ElementTree.Element, labels: tuple[tuple[str, str], ...]) -> list[Sample]:
    found = []
    for word, cause in (("corr", "correctable"), ("unc", "uncorrectable")):
        rows = _number(card, f"remapped_rows/remapped_row_{word}")
        if rows is not None:
            found.append(Sample("mlops_gpu_remapped_rows", (*labels, ("cause", cause)), rows))
    for word, name in (("pending", "pending"), ("failure", "failed")):
        said = (card.findtext(f"remapped_rows/remapped_row_{word}") or "").strip()
        if said in ("Yes", "No"):
            found.append(Sample(f"mlops_gpu_remapping_{name}", labels, float(said == "Yes")))
    for reason in THROTTLES:
        for group in ("clocks_throttle", "clocks_event"):
            said = card.findtext(f"{group}_reasons/{group}_reason_{reason}") or ""
            if said.strip() in ("Active", "Not Active"):
                value = float(said.strip() == "Active")
                found.append(Sample("mlops_gpu_throttled", (*labels, ("reason", reason)), value))
                break
    for name, path in (
        ("temperature", "temperature/gpu_temp"),
        ("slowdown", "temperature/gpu_temp_slow_threshold"),
    ):
        degrees = _number(card, path)
        if degrees is not None:
            found.append(Sample(f"mlops_gpu_{name}_celsius", labels, degrees))
    return found


def _number(card: ElementTree.Element, path: str) -> float | None:
    match = re.match(r"-?\d+(?:\.\d+)?", (card.findtext(path) or "").strip())
    return float(match.group()) if match else None


def of_plan(planned: Sequence[str]) -> list[Sample]:
    """The cards that the plan uses here."""
    return [Sample("mlops_gpu_planned", (("uuid", one),), 1) for one in dict.fromkeys(planned)]


def page(samples: Sequence[Sample]) -> str:
    """The whole text, samples of one name together."""
    rows: list[str] = []
    for name, about in HELP.items():
        mine = [one.text for one in samples if one.name == name]
        if mine:
            rows += [f"# HELP {name} {about}", f"# TYPE {name} gauge", *mine]
    return "\n".join([*rows, ""])
