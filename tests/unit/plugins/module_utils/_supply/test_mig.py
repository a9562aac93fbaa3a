# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that open MIG instances, and what nvidia-smi lists of them.

The form of the driver's files is that of NVIDIA's MIG User Guide ("Device Nodes and Capabilities");
the list of instances is the one recorded in NVIDIA/DCGM issue 138.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._supply.gpu import (
    Gpu,
    GpuReport,
    MigInstance,
)
from ansible_collections.mlops.onprem.plugins.module_utils._supply.mig import with_files, with_lists
from ansible_collections.mlops.onprem.plugins.module_utils._supply.tree import Host


def report(*numbers: int, minor: int | None = 1) -> GpuReport:
    instances = tuple(MigInstance(number, 0, 9728.0, 0.0, 14) for number in numbers)
    card = Gpu(0, "NVIDIA", "A100", "GPU-a", None, minor, mig_instances=instances)
    return GpuReport("nvml", None, None, (card,))


def put(root: Path, path: str, text: str = "") -> None:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def tree(root: Path, numbers: dict[str, int], files: tuple[int, ...]) -> Host:
    for part, number in numbers.items():
        text = f"DeviceFileMinor: {number}\nDeviceFileMode: 292\nDeviceFileModify: 1\n"
        put(root, f"/proc/driver/nvidia/capabilities/{part}/access", text)
    for number in files:
        put(root, f"/dev/nvidia-caps/nvidia-cap{number}")
    return Host(str(root))


# The card that is counted first has the file nvidia1; another card has an instance 3, too.
NUMBERS = {
    "gpu0/mig/gi3": 30,
    "gpu0/mig/gi3/ci0": 31,
    "gpu1/mig/gi3": 165,
    "gpu1/mig/gi3/ci0": 166,
    "gpu1/mig/gi5": 183,
    "gpu1/mig/gi5/ci0": 184,
}


def test_an_instance_has_the_two_files_of_its_own_on_its_own_card(tmp_path: Path) -> None:
    host = tree(tmp_path, NUMBERS, (1, 2, 30, 31, 165, 166, 183, 184))
    (card,) = with_files(report(3, 5), host).gpus
    assert [one.files for one in card.mig_instances] == [
        ("/dev/nvidia-caps/nvidia-cap165", "/dev/nvidia-caps/nvidia-cap166"),
        ("/dev/nvidia-caps/nvidia-cap183", "/dev/nvidia-caps/nvidia-cap184"),
    ]
    assert card.unknown == ()


def test_the_list_of_the_driver_tells_where_the_tree_does_not(tmp_path: Path) -> None:
    put(tmp_path, "/proc/driver/nvidia-caps/mig-minors", "gpu1/gi3/access 165\nconfig 1\n")
    host = tree(tmp_path, {"gpu1/mig/gi3/ci0": 166}, (165, 166))
    (card,) = with_files(report(3), host).gpus
    assert len(card.mig_instances[0].files) == 2


@pytest.mark.parametrize(
    ("minor", "numbers", "files", "said"),
    [
        (None, NUMBERS, (165, 166), "the driver does not tell the numbers of the card and the"),
        (
            1,
            {"gpu1/mig/gi3": 165},
            (165, 166),
            "/proc/driver/nvidia/capabilities/gpu1/mig/gi3/ci0/access names none",
        ),
        (
            1,
            NUMBERS,
            (165,),
            "there is no /dev/nvidia-caps/nvidia-cap166; nvidia-modprobe -f "
            "/proc/driver/nvidia/capabilities/gpu1/mig/gi3/ci0/access makes it",
        ),
    ],
)
def test_half_of_the_files_open_nothing_and_why_is_told(
    tmp_path: Path, minor: int | None, numbers: dict[str, int], files: tuple[int, ...], said: str
) -> None:
    host = tree(tmp_path, numbers, files)
    (card,) = with_files(report(3, minor=minor), host).gpus
    assert card.mig_instances[0].files == ()
    (why,) = card.unknown
    assert why.startswith(f"files of MIG instance 3/0: {said}")


PLACES = """
+-------------------------------------------------------+
| GPU instances:                                        |
| GPU   Name             Profile  Instance   Placement  |
|                          ID       ID       Start:Size |
|=======================================================|
|   0  MIG 1g.10gb         19        9          2:1     |
+-------------------------------------------------------+
|   0  MIG 1g.10gb         19       10          3:1     |
+-------------------------------------------------------+
|   0  MIG 2g.20gb         14        3          0:2     |
+-------------------------------------------------------+
|   0  MIG 3g.40gb          9        2          4:4     |
+-------------------------------------------------------+
|   1  MIG 1g.10gb         19       13          2:1     |
+-------------------------------------------------------+
"""
NAMES = """GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-a)
  MIG 3g.40gb     Device  0: (UUID: MIG-2)
  MIG 2g.20gb     Device  1: (UUID: MIG-3)
  MIG 1g.10gb     Device  2: (UUID: MIG-9)
  MIG 1g.10gb     Device  3: (UUID: MIG-10)
GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-b)
  MIG 1g.10gb     Device  0: (UUID: MIG-13)
"""


def test_nvidia_smi_lists_what_its_xml_leaves_out() -> None:
    (card,) = with_lists(report(2, 3, 9, 10), NAMES, PLACES).gpus
    assert [(one.uuid, one.profile, one.start) for one in card.mig_instances] == [
        ("MIG-2", "3g.40gb", 4),
        ("MIG-3", "2g.20gb", 0),
        ("MIG-9", "1g.10gb", 2),
        ("MIG-10", "1g.10gb", 3),
    ]


def test_an_instance_zero_is_an_instance() -> None:
    whole = "|   0  MIG 7g.80gb          0        0          0:8     |"
    names = "GPU 0: A100 (UUID: GPU-a)\n  MIG 7g.80gb     Device  0: (UUID: MIG-0)\n"
    (card,) = with_lists(report(0), names, whole).gpus
    assert (card.mig_instances[0].uuid, card.mig_instances[0].start) == ("MIG-0", 0)


def test_lists_that_are_empty_leave_it_unknown() -> None:
    told = with_lists(report(3), "", "No GPU instances found: Not Found\n")
    assert told == report(3)
