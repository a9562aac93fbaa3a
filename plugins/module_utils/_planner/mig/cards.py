# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MIG profiles of the cards that are known: figures only.

Most figures come from NVIDIA/go-nvml, ``pkg/nvml/mock/gpus`` (Apache License 2.0), whose names of
profiles are kept. Cards that it lacks come from NVIDIA's Multi-Instance GPU User Guide, "Supported
MIG Profiles" (fractions of memory, most instances), and its AI Enterprise vGPU reference (H20).
``tests/fixtures/mig/geometry.json`` has them as they were taken, its README says which from where.

Not here, so that MIG of theirs is said to be unknown: RTX PRO 5000 and 4500 Blackwell, for which
editions of the guide give different numbers of slices, and the profiles ``+me.all`` of the RTX PRO
6000, which take the media engines of all others.
"""

from __future__ import annotations

from typing import NamedTuple


class Figures(NamedTuple):
    """One profile: compute slices, most instances, memory in MiB, and where it may begin."""

    slices: int
    max_instances: int
    memory_mib: int
    multiprocessors: int
    starts: tuple[int, ...]
    size: int


class CardFigures(NamedTuple):
    """One card: the name the driver gives it, its memory in MiB, and its profiles."""

    name: str
    memory_mib: int
    profiles: dict[str, Figures]


def _seven(eighth: int, quarter: int, half: int, whole: int, sm: int) -> dict[str, Figures]:
    """The profiles of a card with seven compute slices, by the memory of its parts in MiB."""
    return {
        "1_SLICE": Figures(1, 7, eighth, sm, (0, 1, 2, 3, 4, 5, 6), 1),
        "1_SLICE_REV1": Figures(1, 1, eighth, sm, (0, 1, 2, 3, 4, 5, 6), 1),
        "1_SLICE_REV2": Figures(1, 4, quarter, sm, (0, 2, 4, 6), 2),
        "2_SLICE": Figures(2, 3, quarter, 2 * sm, (0, 2, 4), 2),
        "3_SLICE": Figures(3, 2, half, 3 * sm, (0, 4), 4),
        "4_SLICE": Figures(4, 1, half, 4 * sm, (0,), 4),
        "7_SLICE": Figures(7, 1, whole, 7 * sm, (0,), 8),
    }


CARDS: dict[str, CardFigures] = {
    "A30_PCIE_24GB": CardFigures(
        "NVIDIA A30-PCIE-24GB",
        24576,
        {
            "1_SLICE": Figures(1, 4, 5836, 14, (0, 1, 2, 3), 1),
            "1_SLICE_REV1": Figures(1, 1, 5836, 14, (0, 1, 2, 3), 1),
            "2_SLICE": Figures(2, 2, 11672, 28, (0, 2), 2),
            "2_SLICE_REV1": Figures(2, 1, 11672, 28, (0, 2), 2),
            "4_SLICE": Figures(4, 1, 23344, 56, (0,), 4),
        },
    ),
    "A100_PCIE_40GB": CardFigures(
        "NVIDIA A100-PCIE-40GB",
        40960,
        {
            "1_SLICE": Figures(1, 7, 4864, 14, (0, 1, 2, 3, 4, 5, 6), 1),
            "1_SLICE_REV1": Figures(1, 1, 4864, 14, (0, 1, 2, 3, 4, 5, 6), 1),
            "1_SLICE_REV2": Figures(1, 4, 9856, 14, (0, 2, 4, 6), 2),
            "2_SLICE": Figures(2, 3, 9856, 28, (0, 2, 4), 2),
            "3_SLICE": Figures(3, 2, 19968, 42, (0, 4), 4),
            "4_SLICE": Figures(4, 1, 19968, 56, (0,), 4),
            "7_SLICE": Figures(7, 1, 40192, 98, (0,), 8),
        },
    ),
    "A100_PCIE_80GB": CardFigures(
        "NVIDIA A100-PCIE-80GB",
        81920,
        {
            "1_SLICE": Figures(1, 7, 9856, 14, (0, 1, 2, 3, 4, 5, 6), 1),
            "1_SLICE_REV1": Figures(1, 1, 9856, 14, (0, 1, 2, 3, 4, 5, 6), 1),
            "1_SLICE_REV2": Figures(1, 4, 19968, 14, (0, 2, 4, 6), 2),
            "2_SLICE": Figures(2, 3, 19968, 28, (0, 2, 4), 2),
            "3_SLICE": Figures(3, 2, 40192, 42, (0, 4), 4),
            "4_SLICE": Figures(4, 1, 40192, 56, (0,), 4),
            "7_SLICE": Figures(7, 1, 80384, 98, (0,), 8),
        },
    ),
    "A100_SXM4_40GB": CardFigures(
        "NVIDIA A100-SXM4-40GB",
        40960,
        {
            "1_SLICE": Figures(1, 7, 4864, 14, (0, 1, 2, 3, 4, 5, 6), 1),
            "1_SLICE_REV1": Figures(1, 1, 4864, 14, (0, 1, 2, 3, 4, 5, 6), 1),
            "1_SLICE_REV2": Figures(1, 4, 9856, 14, (0, 2, 4, 6), 2),
            "2_SLICE": Figures(2, 3, 9856, 28, (0, 2, 4), 2),
            "3_SLICE": Figures(3, 2, 19968, 42, (0, 4), 4),
            "4_SLICE": Figures(4, 1, 19968, 56, (0,), 4),
            "7_SLICE": Figures(7, 1, 40192, 98, (0,), 8),
        },
    ),
    "A100_SXM4_80GB": CardFigures(
        "NVIDIA A100-SXM4-80GB",
        81920,
        {
            "1_SLICE": Figures(1, 7, 9856, 14, (0, 1, 2, 3, 4, 5, 6), 1),
            "1_SLICE_REV1": Figures(1, 1, 9856, 14, (0, 1, 2, 3, 4, 5, 6), 1),
            "1_SLICE_REV2": Figures(1, 4, 19968, 14, (0, 2, 4, 6), 2),
            "2_SLICE": Figures(2, 3, 19968, 28, (0, 2, 4), 2),
            "3_SLICE": Figures(3, 2, 40192, 42, (0, 4), 4),
            "4_SLICE": Figures(4, 1, 40192, 56, (0,), 4),
            "7_SLICE": Figures(7, 1, 80384, 98, (0,), 8),
        },
    ),
    "H100_SXM5_80GB": CardFigures(
        "NVIDIA H100 80GB HBM3",
        81920,
        {
            "1_SLICE": Figures(1, 7, 10240, 16, (0, 1, 2, 3, 4, 5, 6), 1),
            "1_SLICE_REV1": Figures(1, 1, 10240, 16, (0, 1, 2, 3, 4, 5, 6), 1),
            "1_SLICE_REV2": Figures(1, 4, 20480, 16, (0, 1, 2, 3, 4, 5, 6), 1),
            "2_SLICE": Figures(2, 3, 20480, 32, (0, 2, 4), 2),
            "3_SLICE": Figures(3, 2, 40960, 48, (0, 4), 3),
            "4_SLICE": Figures(4, 1, 40960, 64, (0,), 4),
            "7_SLICE": Figures(7, 1, 81920, 112, (0,), 7),
        },
    ),
    "H200_SXM5_141GB": CardFigures(
        "NVIDIA H200 141GB HBM3e",
        144384,
        {
            "1_SLICE": Figures(1, 7, 18432, 16, (0, 1, 2, 3, 4, 5, 6), 1),
            "1_SLICE_REV1": Figures(1, 1, 18432, 16, (0, 1, 2, 3, 4, 5, 6), 1),
            "1_SLICE_REV2": Figures(1, 4, 35840, 16, (0, 1, 2, 3, 4, 5, 6), 1),
            "2_SLICE": Figures(2, 3, 35840, 32, (0, 2, 4), 2),
            "3_SLICE": Figures(3, 2, 72704, 48, (0, 4), 3),
            "4_SLICE": Figures(4, 1, 72704, 64, (0,), 4),
            "7_SLICE": Figures(7, 1, 144384, 112, (0,), 7),
        },
    ),
    "B200_SXM5_180GB": CardFigures(
        "NVIDIA B200 180GB HBM3e",
        184320,
        {
            "1_SLICE": Figures(1, 7, 23552, 18, (0, 1, 2, 3, 4, 5, 6), 1),
            "1_SLICE_REV1": Figures(1, 1, 23552, 18, (0, 1, 2, 3, 4, 5, 6), 1),
            "1_SLICE_REV2": Figures(1, 4, 46080, 18, (0, 1, 2, 3, 4, 5, 6), 1),
            "2_SLICE": Figures(2, 3, 46080, 36, (0, 2, 4), 2),
            "3_SLICE": Figures(3, 2, 92160, 54, (0, 4), 3),
            "4_SLICE": Figures(4, 1, 92160, 72, (0,), 4),
            "7_SLICE": Figures(7, 1, 184320, 126, (0,), 7),
        },
    ),
    "H100_NVL_94GB": CardFigures("NVIDIA H100 NVL", 96256, _seven(10875, 22016, 47227, 94843, 16)),
    "GH200_SXM5_96GB": CardFigures(
        "NVIDIA GH200 480GB", 98304, _seven(12288, 24576, 49152, 98304, 16)
    ),
    "H20_SXM5_96GB": CardFigures("NVIDIA H20", 98304, _seven(12288, 24576, 49152, 98304, 10)),
    "GB200_SXM5_186GB": CardFigures(
        "NVIDIA GB200", 190464, _seven(23808, 47616, 95232, 190464, 18)
    ),
    "B300_SXM6_269GB": CardFigures(
        "NVIDIA B300 SXM6 AC", 275456, _seven(34432, 68864, 137728, 275456, 18)
    ),
    "GB300_SXM6_278GB": CardFigures(
        "NVIDIA GB300", 284672, _seven(35584, 71168, 142336, 284672, 18)
    ),
    "RTXPRO6000_PCIE_96GB": CardFigures(
        "NVIDIA RTX PRO 6000 Blackwell",
        98304,
        {
            "1_SLICE": Figures(1, 4, 24187, 46, (0, 1, 2, 3), 1),
            "1_SLICE_REV1": Figures(1, 1, 24187, 46, (0, 1, 2, 3), 1),
            "1_SLICE_GFX": Figures(1, 4, 24187, 46, (0, 1, 2, 3), 1),
            "1_SLICE_NO_ME": Figures(1, 4, 24187, 46, (0, 1, 2, 3), 1),
            "2_SLICE": Figures(2, 2, 48517, 94, (0, 2), 2),
            "2_SLICE_GFX": Figures(2, 2, 48517, 94, (0, 2), 2),
            "2_SLICE_NO_ME": Figures(2, 2, 48517, 94, (0, 2), 2),
            "4_SLICE": Figures(4, 1, 97280, 188, (0,), 4),
            "4_SLICE_GFX": Figures(4, 1, 97280, 188, (0,), 4),
        },
    ),
}

# Cards that the driver calls by other words than the family of their key: all words of one set.
# The cards made for China have the geometry of their sisters (the vGPU reference names the same
# profiles for H800 and H100, A800 and A100).
FAMILIES: dict[str, tuple[frozenset[str], ...]] = {
    "A100": (frozenset({"A100"}), frozenset({"A800"})),
    "H100": (frozenset({"H100"}), frozenset({"H800"})),
    "RTXPRO6000": (frozenset({"RTX", "PRO", "6000", "BLACKWELL"}),),
}

# What comes after the memory in the name of a profile, by the end of its name in the figures.
VARIANTS = {"_REV1": "+me", "_GFX": "+gfx", "_NO_ME": "-me"}
