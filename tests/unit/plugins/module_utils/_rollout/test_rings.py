# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rings: declared groups win; else the hash of a name decides, and adding devices moves nobody."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.errors import RolloutError
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.rings import (
    Measured,
    cut,
    memory_class,
    place_of,
    ring_groups,
)

PI = Measured("aarch64", 7800)
BOX = Measured("x86_64", 15900, "NVIDIA T4")


def fleet(number: int, kind: Measured = PI) -> dict[str, Measured]:
    return {f"edge{index}": kind for index in range(number)}


def test_groups_named_ring_are_rings_in_the_usual_order_and_others_by_name() -> None:
    groups = ["ring_fleet", "ring_b", "all", "ring_canary", "ring_a", "ring_early"]
    assert ring_groups(groups) == ("ring_canary", "ring_early", "ring_fleet", "ring_a", "ring_b")


def test_declared_rings_are_those_of_the_inventory_in_their_order() -> None:
    found = cut(fleet(3), {"late": ["edge0"], "soon": ["edge2", "other"]}, ["soon", "late"])
    assert [(ring.name, ring.hosts) for ring in found.rings] == [
        ("soon", ("edge2",)),
        ("late", ("edge0", "edge1")),  # edge1 is in no ring, so in the last
    ]


def test_a_ring_without_a_device_is_left_out_and_said() -> None:
    found = cut(fleet(1), {"ring_canary": ["edge0"], "ring_fleet": []})
    assert [ring.name for ring in found.rings] == ["ring_canary"]
    assert found.said == ("The ring ring_fleet has no device and is left out.",)


def test_a_device_in_two_rings_is_a_sentence() -> None:
    with pytest.raises(RolloutError) as error:
        cut(fleet(1), {"ring_a": ["edge0"], "ring_b": ["edge0"]})
    assert str(error.value) == (
        "The host edge0 is in the ring groups ring_a and ring_b; a device belongs to one ring. "
        "Take it out of one of the groups in the inventory."
    )


def test_a_ring_that_is_no_group_is_a_sentence() -> None:
    with pytest.raises(RolloutError, match="The ring ring_x is no group of the inventory"):
        cut(fleet(1), {"ring_a": ["edge0"]}, ["ring_x"])


def test_a_class_that_is_not_in_the_first_declared_ring_is_said() -> None:
    found = cut(
        {"edge0": PI, "edge1": PI, "box": BOX},
        {"ring_canary": ["edge0"], "ring_fleet": ["edge1", "box"]},
    )
    assert len(found.said) == 1
    assert "No device of the class x86_64, 16 GiB, NVIDIA T4 is in the first ring" in found.said[0]


def test_without_groups_the_hash_of_the_name_decides_by_cumulative_shares() -> None:
    devices = fleet(4000)
    found = cut(devices, {}, shares=[0.01, 0.1, 1.0])
    sizes = [len(ring.hosts) for ring in found.rings]
    assert sum(sizes) == 4000
    assert 20 <= sizes[0] <= 65
    assert 300 <= sizes[1] <= 420
    assert all(place_of(host) < 0.01 for host in found.rings[0].hosts)
    assert all(0.01 <= place_of(host) < 0.1 for host in found.rings[1].hosts)


def test_adding_devices_moves_nobody() -> None:
    before = cut(fleet(300), {}, shares=[0.05, 0.3, 1.0])
    after = cut(fleet(900), {}, shares=[0.05, 0.3, 1.0], earlier=before.promoted)
    for old, new in zip(before.rings, after.rings):
        assert set(old.hosts) <= set(new.hosts)


def test_every_class_is_in_the_first_ring_and_one_that_was_promoted_stays() -> None:
    devices = {**fleet(200), **{f"box{index}": BOX for index in range(5)}}
    found = cut(devices, {}, shares=[0.02, 1.0])
    boxes = [host for host in found.rings[0].hosts if host.startswith("box")]
    assert len(boxes) == 1
    assert found.promoted == tuple(boxes)
    # More boxes, one of which has a lower hash: the one that was promoted stays all the same.
    devices.update({f"box{index}": BOX for index in range(5, 40)})
    lowest = min((host for host in devices if host.startswith("box")), key=place_of)
    assert lowest not in boxes
    again = cut(devices, {}, shares=[0.02, 1.0], earlier=found.promoted)
    assert set(boxes) <= set(again.rings[0].hosts)


def test_a_ring_of_a_small_fleet_may_be_empty_but_there_is_always_a_first() -> None:
    found = cut({"edge0": PI}, {}, shares=[0.0001, 1.0])
    assert [ring.hosts for ring in found.rings] == [("edge0",)]


@pytest.mark.parametrize("shares", [[], [0.1], [0.5, 0.5, 1.0], [0.0, 1.0], [0.9, 0.1, 1.0]])
def test_shares_that_cut_nothing_are_refused(shares: list[float]) -> None:
    with pytest.raises(RolloutError, match="rollout_ring_shares"):
        cut(fleet(2), {}, shares=shares)


def test_no_device_is_a_sentence() -> None:
    with pytest.raises(RolloutError, match="There is no device to roll out to"):
        cut({}, {})


def test_memory_is_the_size_on_the_box() -> None:
    assert [memory_class(mib) for mib in (7800, 8192, 900, 3800, 15900, 460)] == [
        8,
        8,
        1,
        4,
        16,
        0.5,
    ]
    assert Measured().kind == "unknown architecture, unknown memory, no accelerator"
    assert PI.kind == "aarch64, 8 GiB, no accelerator"
