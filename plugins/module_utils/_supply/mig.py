# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MIG instances of a host: the files that open each, and what nvidia-smi lists of them.

An instance is opened by the file of its card and two more, one for the GPU instance and one for the
compute instance in it (NVIDIA, MIG User Guide, "Device Nodes and Capabilities"). The driver tells
their numbers by the minor number of the card:

    /proc/driver/nvidia/capabilities/gpu0/mig/gi3/access      DeviceFileMinor: 30
    /proc/driver/nvidia/capabilities/gpu0/mig/gi3/ci0/access  DeviceFileMinor: 31
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from .gpu import Gpu, GpuReport, MigInstance
from .tree import Host

TREE = "/proc/driver/nvidia/capabilities"
# All numbers of the driver in one list, also of instances that nobody made: ``gpu0/gi3/access 30``.
LIST = "/proc/driver/nvidia-caps/mig-minors"
FILES = "/dev/nvidia-caps"
_MINOR = re.compile(r"^DeviceFileMinor:\s*(\d+)\s*$", re.MULTILINE)
_CARD = re.compile(r"^GPU\s+\d+:.*\(UUID:\s*(\S+)\)\s*$")
_NAMED = re.compile(r"^\s+MIG\s+(\S+)\s+Device\s+(\d+):\s+\(UUID:\s*(\S+)\)\s*$")
# A row of ``nvidia-smi mig -lgi``: GPU, name, profile, instance, start and size of the placement.
PLACED = re.compile(r"^\|\s*(\d+)\s+MIG\s+(\S+)\s+(\d+)\s+(\d+)\s+(\d+):(\d+)\s*\|", re.MULTILINE)


def with_files(report: GpuReport, host: Host) -> GpuReport:
    """The report with the files of each instance; what is missing is noted with its card."""
    if not any(gpu.mig_instances for gpu in report.gpus):
        return report
    listed = _listed(host.read(LIST))
    return replace(report, gpus=tuple(_with_files(gpu, host, listed) for gpu in report.gpus))


def _with_files(gpu: Gpu, host: Host, listed: Mapping[str, int]) -> Gpu:
    found, unknown = [], []
    for one in gpu.mig_instances:
        files, wrong = _files_of(gpu.minor, one, host, listed)
        found.append(replace(one, files=files))
        if wrong:
            gi, ci = one.gpu_instance_id, one.compute_instance_id
            unknown.append(f"files of MIG instance {gi}/{ci}: {wrong}")
    return replace(gpu, mig_instances=tuple(found), unknown=(*gpu.unknown, *unknown))


def _files_of(
    minor: int | None, one: MigInstance, host: Host, listed: Mapping[str, int]
) -> tuple[tuple[str, ...], str]:
    """All files or none, and why none."""
    gi, ci = one.gpu_instance_id, one.compute_instance_id
    if minor is None or gi is None or ci is None:
        return (), "the driver does not tell the numbers of the card and the instance"
    files = []
    for part in (f"gi{gi}/access", f"gi{gi}/ci{ci}/access"):
        path = f"{TREE}/gpu{minor}/mig/{part}"
        told = _MINOR.search(host.read(path))
        number = int(told[1]) if told else listed.get(f"gpu{minor}/{part}")
        if number is None:
            return (), f"{path} names none"
        file = f"{FILES}/nvidia-cap{number}"
        if not host.exists(file):
            return (), f"there is no {file}; nvidia-modprobe -f {path} makes it"
        files.append(file)
    return tuple(files), ""


def _listed(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def with_lists(report: GpuReport, names: str, places: str) -> GpuReport:
    """The report with what ``nvidia-smi -L`` and ``nvidia-smi mig -lgi`` list of instances.

    The first lists them in the order of the XML, the second by the number of the GPU instance.
    """
    named: dict[str, dict[int, tuple[str, str]]] = {}
    card = ""
    for line in names.splitlines():
        head, row = _CARD.match(line), _NAMED.match(line)
        if head:
            card = head[1]
        elif row:
            named.setdefault(card, {})[int(row[2])] = (row[1], row[3])
    starts = {
        (int(index), int(gi)): int(start)
        for index, _name, _profile, gi, start, _size in PLACED.findall(places)
    }
    gpus = []
    for gpu in report.gpus:
        rows = named.get(gpu.uuid or "", {})
        found = []
        for at, one in enumerate(gpu.mig_instances):
            profile, uuid = rows.get(at, (None, None))
            gi = one.gpu_instance_id
            start = None if gi is None else starts.get((gpu.index, gi))
            found.append(replace(one, uuid=uuid, profile=profile, start=start))
        gpus.append(replace(gpu, mig_instances=tuple(found)))
    return replace(report, gpus=tuple(gpus))
