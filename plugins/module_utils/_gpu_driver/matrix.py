# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What fits together: architectures of NVIDIA, branches of the driver, kernels, CUDA. Only data.

Sources, by the names that NVIDIA and Debian give them:

CUDA-ARCH   "CUDA Toolkit, Driver, and Architecture Matrix" (data center driver documentation):
            first and last branch of an architecture. Kepler ends with R470.
UNIX-LEGACY "Unix graphics feature deprecation schedule" and "Current graphics driver releases":
            Maxwell, Pascal and Volta end with R580.
OPEN        "NVIDIA Transitions Fully Towards Open-Source GPU Kernel Modules": Grace Hopper and
            Blackwell need the open module, Maxwell to Volta the closed one; for Turing and later
            the open one is recommended. Open since R515.
CUDA-MIN    CUDA release notes, "Minimum Required Driver Version for CUDA Minor Version
            Compatibility".
LIFE        "Supported Drivers and CUDA Toolkit Versions" (data center driver documentation): kind
            and end of life of the branches.
MEASURED    Built by this project against trixie's kernels (``make soak SOAK=gpu_driver``).
PCI-IDS     pci.ids of Debian trixie (2025.06.09), which names the chip of each device.
"""

from __future__ import annotations

from typing import NamedTuple

KEPLER, MAXWELL, PASCAL, VOLTA = "Kepler", "Maxwell", "Pascal", "Volta"
TURING, AMPERE, ADA, HOPPER, BLACKWELL = "Turing", "Ampere", "Ada", "Hopper", "Blackwell"
GRACE_HOPPER = "Grace Hopper"
UNKNOWN = "unknown"


class Architecture(NamedTuple):
    """Branches that drive an architecture, and with which kernel module."""

    name: str
    first: int  # branch of the driver, such as 570
    last: int | None  # None: still driven
    open: bool
    closed: bool
    source: str


ARCHITECTURES: dict[str, Architecture] = {
    row.name: row
    for row in (
        Architecture(KEPLER, 304, 470, False, True, "CUDA-ARCH"),
        Architecture(MAXWELL, 340, 580, False, True, "CUDA-ARCH, UNIX-LEGACY"),
        Architecture(PASCAL, 367, 580, False, True, "CUDA-ARCH, UNIX-LEGACY"),
        Architecture(VOLTA, 384, 580, False, True, "CUDA-ARCH, UNIX-LEGACY"),
        Architecture(TURING, 410, None, True, True, "CUDA-ARCH, OPEN"),
        Architecture(AMPERE, 450, None, True, True, "CUDA-ARCH, OPEN"),
        Architecture(ADA, 520, None, True, True, "CUDA-ARCH, OPEN"),
        Architecture(HOPPER, 520, None, True, True, "CUDA-ARCH, OPEN"),
        Architecture(GRACE_HOPPER, 535, None, True, False, "OPEN"),
        Architecture(BLACKWELL, 570, None, True, False, "CUDA-ARCH, OPEN"),
    )
}
OPEN_SINCE = 515  # OPEN

# PCI-IDS: devices of a chip lie in blocks. The last row that holds a number counts.
DEVICES: tuple[tuple[int, int, str], ...] = (
    (0x0FC0, 0x103F, KEPLER),  # GK107, GK110, GK210
    (0x1180, 0x11FF, KEPLER),  # GK104, GK106
    (0x1280, 0x12FF, KEPLER),  # GK208
    (0x1340, 0x15BF, MAXWELL),  # GM107, GM108, GM204, GM206
    (0x15C0, 0x15FF, PASCAL),  # GP100
    (0x1600, 0x17FF, MAXWELL),  # GM204, GM200, GM108
    (0x1B00, 0x1D7F, PASCAL),  # GP102 to GP108
    (0x1D80, 0x1DFF, VOLTA),  # GV100
    (0x1E00, 0x1FFF, TURING),  # TU102 to TU106, TU117
    (0x2080, 0x20FF, AMPERE),  # GA100
    (0x2180, 0x21FF, TURING),  # TU116
    (0x2200, 0x227F, AMPERE),  # GA102
    (0x2300, 0x237F, HOPPER),  # GH100
    (0x2342, 0x2342, GRACE_HOPPER),
    (0x2348, 0x2348, GRACE_HOPPER),
    (0x2400, 0x25FF, AMPERE),  # GA103 to GA107
    (0x2680, 0x28FF, ADA),  # AD102 to AD107
    (0x2900, 0x2FFF, BLACKWELL),  # GB100, GB102, GB202 to GB207
    (0x3180, 0x31FF, BLACKWELL),  # GB110
)
# Older than anything that a driver of today knows (Fermi, Tesla and before).
OLDEST = 0x0FC0
FERMI: tuple[tuple[int, int], ...] = ((0x1040, 0x10FF), (0x1140, 0x117F), (0x1200, 0x127F))


class Branch(NamedTuple):
    """A branch of the driver: how long NVIDIA mends it, and the major version of CUDA it brings."""

    number: int
    kind: str
    end: str  # year and month; empty: ended, as LIFE says of all that it does not list
    cuda: int
    source: str


BRANCHES: dict[int, Branch] = {
    row.number: row
    for row in (
        Branch(470, "long-term support", "", 11, "LIFE"),
        Branch(535, "long-term support", "2026-06", 12, "LIFE"),
        Branch(550, "production", "", 12, "LIFE"),
        Branch(570, "production", "2026-02", 12, "LIFE"),
        Branch(580, "long-term support", "2028-06", 13, "LIFE"),
        Branch(595, "production", "2027-03", 13, "LIFE"),
        Branch(610, "new feature", "2026-08", 13, "LIFE"),
        Branch(620, "long-term support", "2029-09", 13, "LIFE"),
    )
}

# CUDA-MIN: programs built with any minor version of this major one start with this driver.
CUDA_MINIMUM: dict[int, str] = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}


class KernelLimit(NamedTuple):
    """A module that does not build for kernels from a release on; the compiler says why."""

    family: str  # "debian": of that package only
    branch: int
    open: bool
    kernel: tuple[int, ...]  # from this release on, within its series
    said: str
    source: str


KERNEL_LIMITS: tuple[KernelLimit, ...] = (
    KernelLimit(
        "debian",
        550,
        True,
        (6, 12, 107),
        "too few arguments to function 'pci_resize_resource'",
        "MEASURED: 550.163.01-2 for 6.12.107 and 6.12.117; the closed module builds for both",
    ),
)


class Candidate(NamedTuple):
    """Packages that together are a driver for computing, without a desktop."""

    kernel: str  # the package with the source of the kernel module
    open: bool
    source: str  # debian or nvidia
    packages: tuple[str, ...]


CANDIDATES: tuple[Candidate, ...] = (
    Candidate(
        "nvidia-kernel-dkms",
        False,
        "debian",
        ("nvidia-kernel-dkms", "nvidia-smi", "libcuda1", "nvidia-persistenced"),
    ),
    Candidate(
        "nvidia-open-kernel-dkms",
        True,
        "debian",
        ("nvidia-open-kernel-dkms", "nvidia-smi", "libcuda1", "nvidia-persistenced"),
    ),
    Candidate(
        "nvidia-tesla-535-kernel-dkms",
        False,
        "debian",
        (
            "nvidia-tesla-535-kernel-dkms",
            "nvidia-tesla-535-smi",
            "libnvidia-tesla-535-cuda1",
            "nvidia-persistenced",
        ),
    ),
    # "NVIDIA Driver Installation Guide", compute-only systems on Debian.
    Candidate(
        "nvidia-kernel-open-dkms",
        True,
        "nvidia",
        ("nvidia-kernel-open-dkms", "nvidia-driver-cuda"),
    ),
    Candidate("nvidia-kernel-dkms", False, "nvidia", ("nvidia-kernel-dkms", "nvidia-driver-cuda")),
)


def architecture_of(device: int) -> str:
    """The architecture of a PCI device of NVIDIA; ``unknown`` where no row has it."""
    found = UNKNOWN
    for first, last, name in DEVICES:
        if first <= device <= last:
            found = name
    return found


def outdated(device: int) -> bool:
    """Whether the device is older than Kepler, which no driver of today drives."""
    return device < OLDEST or any(first <= device <= last for first, last in FERMI)
