# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts can be declared lost, and the sentence for each that cannot."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._demand.lost import lost_hosts, without

GROUPS = {
    "all": ["ctl1", "db1", "s1", "s2", "gpu1", "gpu2"],
    "control": ["ctl1"],
    "metadata_db": ["db1"],
    "scheduler": ["s1", "s2"],
    "gpu": ["gpu1", "gpu2"],
    "edge": [],
}


@pytest.mark.parametrize(
    ("value", "hosts"),
    [
        (None, ()),
        ([], ()),
        (["gpu2"], ("gpu2",)),
        ("gpu2", ("gpu2",)),
        ("gpu2, gpu1", ("gpu2", "gpu1")),
        (["gpu2", "gpu2"], ("gpu2",)),
        (["s1"], ("s1",)),
        (["gpu1", "gpu2"], ("gpu1", "gpu2")),
    ],
)
def test_hosts_that_carry_work_can_be_lost(value: object, hosts: tuple[str, ...]) -> None:
    found = lost_hosts(value, GROUPS)
    assert (found.hosts, found.mistakes) == (hosts, ())


@pytest.mark.parametrize(
    ("value", "said", "mends"),
    [
        (["gpu3"], "names 'gpu3', which is no host of the inventory; did you mean gpu", "mend"),
        (["ctl1"], "names ctl1, the host of the control plane", "take ctl1 out"),
        (["db1"], "names db1, after which no host of the group metadata_db is left", "take db1"),
        (["s1", "s2"], "names s1, after which no host of the group scheduler is left", "take s1"),
        ({"gpu2": True}, "mlops_lost_hosts: must be a list", "mend mlops_lost_hosts"),
        ([[7]], "mlops_lost_hosts: [0]", "mend mlops_lost_hosts"),
        ("the inventory says so", "which is no host of the inventory", "mend mlops_lost_hosts"),
    ],
)
def test_others_are_refused_in_a_sentence(value: object, said: str, mends: str) -> None:
    found = lost_hosts(value, GROUPS)
    assert found.hosts == ()
    assert said in found.mistakes[0].found
    assert mends in found.mistakes[0].remedy


def test_one_that_cannot_be_lost_does_not_hide_one_that_can() -> None:
    found = lost_hosts(["gpu2", "ctl1", "nobody"], GROUPS)
    assert found.hosts == ("gpu2",)
    assert len(found.mistakes) == 2


def test_the_groups_are_those_of_the_hosts_that_are_left() -> None:
    assert without(GROUPS, ("gpu2",))["gpu"] == ["gpu1"]
    assert without(GROUPS, ("gpu2",))["all"] == ["ctl1", "db1", "s1", "s2", "gpu1"]
    assert GROUPS["gpu"] == ["gpu1", "gpu2"]
