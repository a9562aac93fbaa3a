# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device that is switched off does not stop the site; a host that others need does."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._assess.deferred import at_most, defer
from ansible_collections.mlops.onprem.plugins.module_utils._assess.judge import judge
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import FAIL, Finding
from ansible_collections.mlops.onprem.plugins.module_utils._findings.waivers import Waivers

CAMERAS = [f"cam{number}" for number in range(1, 101)]
GROUPS = {
    "all": ["ctl1", "s3", *CAMERAS],
    "control": ["ctl1"],
    "object_store": ["s3"],
    "edge": CAMERAS,
}


def lost(host: str, found: str = "cannot be reached: timed out") -> Finding:
    return Finding("assess.unreachable", host, FAIL, found, "", "check with: ssh")


def verdict(
    off: list[str], percent: float = 20, groups: dict[str, list[str]] | None = None
) -> tuple[str, list[str]]:
    findings, deferred = defer([lost(host) for host in off], groups or GROUPS, percent)
    return judge(findings, Waivers((), ())).verdict, deferred


def test_a_hundred_devices_with_three_off() -> None:
    findings, deferred = defer([lost(host) for host in CAMERAS[:3]], GROUPS, 20)
    assert deferred == CAMERAS[:3]
    assert {(row.id, row.severity) for row in findings} == {("assess.deferred", "warn")}
    assert "this run leaves the device out" in findings[0].sentence
    assert "the next run of site.yml catches it up" in findings[0].remedy


@pytest.mark.parametrize(
    ("off", "percent", "said"),
    [
        (CAMERAS[:20], 20, "go"),
        (CAMERAS[:21], 20, "refused"),
        (CAMERAS[:1], 0, "refused"),
        (CAMERAS, 100, "go"),
        (["ctl1"], 100, "refused"),
        (["s3", "cam1"], 100, "refused"),
        ([], 20, "go"),
    ],
)
def test_how_many_may_be_off(off: list[str], percent: float, said: str) -> None:
    assert verdict(off, percent)[0] == said


def test_too_many_are_told_with_the_variable() -> None:
    findings, deferred = defer([lost(host) for host in CAMERAS[:21]], GROUPS, 20)
    assert deferred == []
    assert findings[-1].sentence == (
        "site: 21 of 100 devices cannot be reached, wanted at most 20 (mlops_deferred_devices_max "
        "is 20 percent); look at the network to the devices, or raise mlops_deferred_devices_max"
    )


def test_a_device_that_others_need_is_none() -> None:
    groups = {"all": ["a", "b", "c"], "control": ["a"], "edge": ["a", "b", "c"]}
    assert verdict(["a"], 100, groups) == ("refused", [])
    assert verdict(["b"], 20, groups) == ("go", ["b"])


@pytest.mark.parametrize(
    ("devices", "percent", "most"),
    [
        (1, 20, 0),
        (2, 20, 1),
        (6, 20, 2),
        (10, 20, 2),
        (11, 20, 2),
        (100, 20, 20),
        (6, 0, 0),
        (1, 100, 1),
    ],
)
def test_small_sites_may_lack_two(devices: int, percent: float, most: int) -> None:
    assert at_most(devices, percent) == most


@pytest.mark.parametrize(
    "found",
    [
        "does not let this account in: Permission denied (publickey)",
        "has an address that does not resolve: Name or service not known",
        "is reached with a password, for which this machine has no sshpass: sshpass",
    ],
)
def test_a_device_that_can_be_mended_from_here_is_not_switched_off(found: str) -> None:
    rows = [lost("cam1", found)]
    assert defer(rows, GROUPS, 20) == (rows, [])
