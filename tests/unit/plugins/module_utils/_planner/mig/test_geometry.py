# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MIG layouts against a brute force over the geometry that fixtures/mig/README.md describes."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations_with_replacement, product
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._planner.mig import geometry

GEOMETRY: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[5] / "fixtures" / "mig" / "geometry.json").read_text()
)
OF_40_GB = ("1g.5gb", "1g.5gb+me", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb")
OF_80_GB = ("1g.10gb", "1g.10gb+me", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")
OF_96_GB = ("1g.12gb", "1g.12gb+me", "1g.24gb", "2g.24gb", "3g.48gb", "4g.48gb", "7g.96gb")
# As the user guide writes them, in the order of the recorded profiles.
NAMES = {
    "A30_PCIE_24GB": ("1g.6gb", "1g.6gb+me", "2g.12gb", "2g.12gb+me", "4g.24gb"),
    "A100_PCIE_40GB": OF_40_GB,
    "A100_PCIE_80GB": OF_80_GB,
    "A100_SXM4_40GB": OF_40_GB,
    "A100_SXM4_80GB": OF_80_GB,
    "H100_SXM5_80GB": OF_80_GB,
    "H200_SXM5_141GB": (
        *("1g.18gb", "1g.18gb+me", "1g.35gb", "2g.35gb"),
        *("3g.71gb", "4g.71gb", "7g.141gb"),
    ),
    "B200_SXM5_180GB": (
        *("1g.23gb", "1g.23gb+me", "1g.45gb", "2g.45gb"),
        *("3g.90gb", "4g.90gb", "7g.180gb"),
    ),
    # As the user guide, and hosts that have them, write the names of newer cards.
    "H100_NVL_94GB": (
        *("1g.12gb", "1g.12gb+me", "1g.24gb", "2g.24gb"),
        *("3g.47gb", "4g.47gb", "7g.94gb"),
    ),
    "GH200_SXM5_96GB": OF_96_GB,
    "H20_SXM5_96GB": OF_96_GB,
    "GB200_SXM5_186GB": (
        *("1g.23gb", "1g.23gb+me", "1g.47gb", "2g.47gb"),
        *("3g.93gb", "4g.93gb", "7g.186gb"),
    ),
    "B300_SXM6_269GB": (
        *("1g.34gb", "1g.34gb+me", "1g.67gb", "2g.67gb"),
        *("3g.135gb", "4g.135gb", "7g.269gb"),
    ),
    "GB300_SXM6_278GB": (
        *("1g.35gb", "1g.35gb+me", "1g.70gb", "2g.70gb"),
        *("3g.139gb", "4g.139gb", "7g.278gb"),
    ),
    "RTXPRO6000_PCIE_96GB": (
        *("1g.24gb", "1g.24gb+me", "1g.24gb+gfx", "1g.24gb-me"),
        *("2g.48gb", "2g.48gb+gfx", "2g.48gb-me", "4g.96gb", "4g.96gb+gfx"),
    ),
}
# Cards of four slices; the RTX PRO 6000 has too many profiles to try every combination here, its
# layouts are told one by one below.
OF_FOUR = ("A30_PCIE_24GB", "RTXPRO6000_PCIE_96GB")
TRIED = tuple(key for key in NAMES if key != "RTXPRO6000_PCIE_96GB")


def brute_force(key: str) -> set[geometry.Layout]:
    """Every layout of the recorded geometry, found by laying instances down in every order.

    A layout is allowed where placements do not overlap, no profile exceeds its instances, and
    neither compute slices nor memory (in eighths of the card's, or quarters) run out.
    """
    card = GEOMETRY[key]
    profiles = list(card["profiles"].values())
    compute = max(profile["slices"] for profile in profiles)
    parts = 4 if key in OF_FOUR else 8
    share = [round(profile["memory_mib"] / (card["memory_mib"] / parts)) for profile in profiles]
    found: set[tuple[int, ...]] = set()
    seen: set[tuple[frozenset[int], tuple[int, ...]]] = set()
    waiting: list[tuple[frozenset[int], tuple[int, ...]]] = [(frozenset(), (0,) * len(profiles))]
    while waiting:
        state = waiting.pop()
        if state in seen:
            continue
        seen.add(state)
        used, counts = state
        found.add(counts)
        for index, profile in enumerate(profiles):
            if counts[index] == profile["max_instances"]:
                continue
            more = (*counts[:index], counts[index] + 1, *counts[index + 1 :])
            for spot in profile["placements"]:
                cells = frozenset(range(spot["start"], spot["start"] + spot["size"]))
                if not cells & used:
                    waiting.append((used | cells, more))
    return {
        geometry.canonical(dict(zip(NAMES[key], counts)))
        for counts in found
        if sum(n * profile["slices"] for n, profile in zip(counts, profiles)) <= compute
        and sum(n * part for n, part in zip(counts, share)) <= parts
    }


def test_every_card_of_the_recorded_geometry_is_known() -> None:
    assert set(geometry.known()) == set(GEOMETRY) == set(NAMES)


@pytest.mark.parametrize("key", NAMES)
def test_the_data_are_the_recorded_figures(key: str) -> None:
    card = geometry.card(key)
    assert (card.name, card.memory_mib) == (GEOMETRY[key]["name"], GEOMETRY[key]["memory_mib"])
    recorded = GEOMETRY[key]["profiles"].values()
    assert tuple(card.profiles) == NAMES[key]
    for profile, row in zip(card.profiles.values(), recorded):
        assert (profile.slices, profile.max_instances, profile.memory_mib) == (
            row["slices"],
            row["max_instances"],
            row["memory_mib"],
        )
        assert set(profile.starts) <= {spot["start"] for spot in row["placements"]}
        assert all(profile.memory_slices >= spot["size"] for spot in row["placements"])


@pytest.mark.parametrize("key", TRIED)
def test_every_layout_is_accepted_and_every_other_combination_refused(key: str) -> None:
    allowed = brute_force(key)
    card = geometry.card(key)
    ranges = [range(profile.max_instances + 1) for profile in card.profiles.values()]
    tried = 0
    for numbers in product(*ranges):
        counts = dict(zip(card.profiles, numbers))
        found = geometry.place(key, counts)
        assert (found is not None) == (geometry.canonical(counts) in allowed), counts
        assert bool(geometry.explain(key, counts)) == (found is None)
        if found is not None:
            assert geometry.conflict(key, found) == ""
            assert Counter(name for name, _start in found) == Counter(counts)
        tried += 1
    assert tried == (120 if key.startswith("A30") else 3840)
    assert geometry.layouts(key) == allowed


@pytest.mark.parametrize("key", TRIED)
def test_on_an_empty_card_the_sums_of_both_kinds_of_slices_decide(key: str) -> None:
    card = geometry.card(key)
    ranges = [range(profile.max_instances + 1) for profile in card.profiles.values()]
    for numbers in product(*ranges):
        chosen = list(zip(card.profiles.values(), numbers))
        fits = (
            sum(number * profile.slices for profile, number in chosen) <= card.slices
            and sum(number * profile.memory_slices for profile, number in chosen)
            <= card.memory_slices
        )
        counts = {profile.name: number for profile, number in chosen}
        assert (geometry.place(key, counts) is not None) is fits


@pytest.mark.parametrize("key", NAMES)
def test_more_instances_of_a_profile_than_allowed_are_refused(key: str) -> None:
    for profile in geometry.card(key).profiles.values():
        assert geometry.place(key, {profile.name: profile.max_instances}) is not None
        assert geometry.place(key, {profile.name: profile.max_instances + 1}) is None


@pytest.mark.parametrize(
    ("key", "layouts"), [(key, 22 if key.startswith("A30") else 128) for key in TRIED]
)
def test_all_cards_with_seven_compute_slices_allow_the_same_number_of_layouts(
    key: str, layouts: int
) -> None:
    assert len(geometry.layouts(key)) == layouts


def test_the_largest_layouts_of_an_a100_are_those_of_the_user_guide() -> None:
    plain = {
        "1g.5gb": 1,
        "2g.10gb": 2,
        "3g.20gb": 3,
        "4g.20gb": 4,
        "7g.40gb": 7,
    }
    found = {
        tuple(sorted(plain[name] for name, count in layout for _one in range(count)))[::-1]
        for layout in geometry.layouts("A100_SXM4_40GB")
        if all(name in plain for name, _count in layout)
        and not any(
            geometry.place("A100_SXM4_40GB", {**dict(layout), name: dict(layout).get(name, 0) + 1})
            for name in plain
        )
    }
    assert found == {
        (7,),
        (4, 3),
        (4, 2, 1),
        (4, 1, 1, 1),
        (3, 3),
        (3, 2, 2),
        (3, 2, 1, 1),
        (3, 1, 1, 1, 1),
        (2, 2, 2, 1),
        (2, 2, 1, 1, 1),
        (2, 1, 1, 1, 1, 1),
        (1, 1, 1, 1, 1, 1, 1),
    }


@pytest.mark.parametrize(
    ("counts", "cause"),
    [
        # The combinations that the user guide shows for the RTX PRO 6000, and what is beside them.
        ({"4g.96gb": 1}, ""),
        ({"4g.96gb+gfx": 1}, ""),
        ({"2g.48gb": 2}, ""),
        ({"2g.48gb": 1, "1g.24gb": 2}, ""),
        ({"2g.48gb+gfx": 1, "1g.24gb+gfx": 1, "1g.24gb+me": 1}, ""),
        ({"1g.24gb+gfx": 2, "1g.24gb-me": 2}, ""),
        ({"1g.24gb": 4}, ""),
        ({"1g.24gb": 3, "2g.48gb": 1}, geometry.SUM),
        ({"4g.96gb": 1, "1g.24gb-me": 1}, geometry.SUM),
        ({"1g.24gb+me": 2}, geometry.INSTANCES),
        ({"2g.48gb+me.all": 1}, geometry.UNKNOWN),
        ({"3g.40gb": 1}, geometry.UNKNOWN),
    ],
)
def test_an_rtx_pro_6000_is_cut_into_four(counts: dict[str, int], cause: str) -> None:
    key = "RTXPRO6000_PCIE_96GB"
    assert geometry.cause(key, counts) == cause
    assert (geometry.place(key, counts) is None) is bool(cause)
    # A half may begin in the middle or not at all: two single ones in the way leave none.
    apart = (("1g.24gb", 1), ("1g.24gb", 2))
    assert geometry.cause(key, {"2g.48gb": 1}, apart) == geometry.PLACEMENT


@pytest.mark.parametrize("key", [key for key in NAMES if key not in OF_FOUR])
def test_two_3g_and_a_1g_fit_by_sum_but_not_by_placement(key: str) -> None:
    small, large = NAMES[key][0], NAMES[key][4]
    assert geometry.place(key, {large: 2}) is not None
    assert geometry.place(key, {large: 2, small: 1}) is None
    assert geometry.cause(key, {large: 2, small: 1}) == geometry.PLACEMENT


@pytest.mark.parametrize(
    ("counts", "taken", "cause", "sentence"),
    [
        (
            {"3g.40gb": 2, "1g.10gb": 1},
            (),
            geometry.PLACEMENT,
            "1 x 1g.10gb + 2 x 3g.40gb: fits by the sum of compute slices (1 + 3 + 3 = 7 of 7) but"
            " not by placement on NVIDIA A100-SXM4-80GB: their memory slices are 1 + 4 + 4 = 9 of 8"
            " (1g.10gb takes 1 and begins at 0 to 6; 3g.40gb takes 4 and"
            " begins at 0 or 4)",
        ),
        (
            {"3g.40gb": 1},
            (("1g.10gb", 1), ("1g.10gb", 5)),
            geometry.PLACEMENT,
            "1 x 3g.40gb beside 1g.10gb at 1, 1g.10gb at 5: fits by the sum of compute slices"
            " (3 + 1 + 1 = 5 of 7) but not by placement on NVIDIA A100-SXM4-80GB: their 4 + 1 + 1 ="
            " 6 memory slices of 8 cannot be laid out (3g.40gb takes 4 and begins at 0 or 4;"
            " 1g.10gb takes 1 and begins at 0 to 6)",
        ),
        (
            {"4g.40gb": 1, "2g.20gb": 2},
            (),
            geometry.SUM,
            "2 x 2g.20gb + 1 x 4g.40gb: too large by sum, 2 + 2 + 4 = 8 compute slices of the 7 of"
            " NVIDIA A100-SXM4-80GB",
        ),
        (
            {"1g.10gb+me": 2},
            (),
            geometry.INSTANCES,
            "2 x 1g.10gb+me: NVIDIA A100-SXM4-80GB allows at most 1 x 1g.10gb+me, not 2",
        ),
        (
            {"3g.20gb": 1},
            (),
            geometry.UNKNOWN,
            "NVIDIA A100-SXM4-80GB has no MIG profile 3g.20gb; it has 1g.10gb, 1g.10gb+me, 1g.20gb,"
            " 2g.20gb, 3g.40gb, 4g.40gb, 7g.80gb",
        ),
        ({"3g.40gb": 1, "1g.10gb": 4}, (), "", ""),
    ],
)
def test_a_refusal_says_why(
    counts: dict[str, int], taken: tuple[geometry.Placed, ...], cause: str, sentence: str
) -> None:
    assert geometry.cause("A100_SXM4_80GB", counts, taken) == cause
    assert geometry.explain("A100_SXM4_80GB", counts, taken) == sentence


def test_instances_that_are_there_stay_where_they_are() -> None:
    key, small = "A100_SXM4_80GB", "1g.10gb"
    for first, second in combinations_with_replacement(range(7), 2):
        if first == second:
            continue
        found = geometry.place(key, {"3g.40gb": 1}, ((small, first), (small, second)))
        # A half of the card must be free: both stand in slices 0-3, or both in 4-6.
        assert (found is not None) == ((first < 4) == (second < 4))
        if found is not None:
            assert found == (("3g.40gb", 4 if first < 4 else 0),)


@pytest.mark.parametrize(
    ("placed", "problem"),
    [
        ([("3g.40gb", 0), ("3g.40gb", 4)], ""),
        (
            [("3g.40gb", 0), ("1g.10gb", 3)],
            "1g.10gb at 3 and 3g.40gb at 0 share memory slice 3",
        ),
        ([("3g.40gb", 2)], "3g.40gb cannot begin at memory slice 2 of NVIDIA H100 80GB HBM3"),
        ([("1g.20gb", 1)], "1g.20gb cannot begin at memory slice 1 of NVIDIA H100 80GB HBM3"),
        ([("3g.20gb", 0)], "NVIDIA H100 80GB HBM3 has no MIG profile 3g.20gb"),
        (
            [("1g.10gb+me", 0), ("1g.10gb+me", 1)],
            "2 x 1g.10gb+me: NVIDIA H100 80GB HBM3 allows at most 1 x 1g.10gb+me, not 2",
        ),
    ],
)
def test_a_given_placement_is_checked_without_search(
    placed: list[geometry.Placed], problem: str
) -> None:
    assert geometry.conflict("H100_SXM5_80GB", placed) == problem


@pytest.mark.parametrize(
    ("model", "memory", "key"),
    [
        ("NVIDIA A100-SXM4-80GB", 81920, "A100_SXM4_80GB"),
        ("NVIDIA A100-SXM4-40GB", 40536, "A100_SXM4_40GB"),
        ("NVIDIA A100-PCIE-40GB", 40960, "A100_PCIE_40GB"),
        ("NVIDIA A100 80GB PCIe", 81920, "A100_PCIE_80GB"),
        ("NVIDIA H100 80GB HBM3", 81559, "H100_SXM5_80GB"),
        ("NVIDIA H100 PCIe", 81559, "H100_SXM5_80GB"),
        ("NVIDIA H100 NVL", 95830, "H100_NVL_94GB"),
        ("NVIDIA H800", 81559, "H100_SXM5_80GB"),
        ("NVIDIA A800-SXM4-80GB", 81920, "A100_SXM4_80GB"),
        ("NVIDIA H200", 143771, "H200_SXM5_141GB"),
        ("NVIDIA B200", 183359, "B200_SXM5_180GB"),
        ("NVIDIA A30", 24576, "A30_PCIE_24GB"),
        ("NVIDIA A30", None, "A30_PCIE_24GB"),
        ("NVIDIA H200 NVL", 143771, "H200_SXM5_141GB"),
        ("NVIDIA GH200 480GB", 97871, "GH200_SXM5_96GB"),
        ("NVIDIA GH200 480GB", None, "GH200_SXM5_96GB"),
        ("NVIDIA GH200 144G HBM3e", 147456, ""),
        ("NVIDIA H20", 97871, "H20_SXM5_96GB"),
        ("NVIDIA H20-3e", 143771, ""),
        ("NVIDIA GB200", 189471, "GB200_SXM5_186GB"),
        ("NVIDIA B300 SXM6 AC", 275040, "B300_SXM6_269GB"),
        ("NVIDIA GB300", 284208, "GB300_SXM6_278GB"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "RTXPRO6000_PCIE_96GB"),
        (
            "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
            97887,
            "RTXPRO6000_PCIE_96GB",
        ),
        ("NVIDIA RTX 6000 Ada Generation", 49140, ""),
        ("NVIDIA RTX PRO 5000 Blackwell", 48935, ""),
        ("NVIDIA A100-SXM4-80GB", None, "A100_SXM4_80GB"),
        ("A100", 0, ""),
        ("A100", 40960, "A100_PCIE_40GB"),
        ("A100_SXM4_40GB", None, "A100_SXM4_40GB"),
        ("Tesla T4", 15360, ""),
        ("", None, ""),
    ],
)
def test_a_card_is_known_by_the_name_the_driver_gives_it(
    model: str, memory: float | None, key: str
) -> None:
    assert geometry.card_of(model, memory) == key


def test_nonsense_is_refused() -> None:
    with pytest.raises(
        geometry.MigError, match=r"^no MIG geometry is known for 'T4'; known are A30_"
    ):
        geometry.place("T4", {"1g.5gb": 1})
    with pytest.raises(
        geometry.MigError, match=r"^the number of 1g.5gb must be at least 0, but is -1$"
    ):
        geometry.place("A100_PCIE_40GB", {"1g.5gb": -1})
