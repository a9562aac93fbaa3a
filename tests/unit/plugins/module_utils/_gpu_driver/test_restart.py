# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a host is restarted for its driver, and the sentence where it is not."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver.restart import (
    WANTING,
    decide,
    within,
)


def finding(name: str, severity: str = "warn", **more: str) -> dict[str, str]:
    row = {"found": f"{name} is found", "wanted": "", "remedy": f"mend {name}"}
    return {"id": f"gpu_driver.{name}", "severity": severity, **row, **more}


def asked(**more: Any) -> dict[str, Any]:
    """A host whose driver waits for a restart, and that may be restarted."""
    return {
        "host": "gpu1",
        "findings": [finding("pending")],
        "missing": [],
        "installed": [],
        "container": False,
        "local": False,
        "check": False,
        "reboot": True,
        "window": "",
        "clock": "14:10",
        "before": [],
        **more,
    }


@pytest.mark.parametrize(
    ("window", "clock", "inside"),
    [
        ("", "14:10", True),
        ("14:00-15:00", "14:00", True),
        ("14:00-15:00", "14:59", True),
        ("14:00-15:00", "15:00", False),
        ("14:00-15:00", "13:59", False),
        ("22:00-05:00", "23:59", True),
        ("22:00-05:00", "00:00", True),
        ("22:00-05:00", "04:59", True),
        ("22:00-05:00", "05:00", False),
        ("22:00-05:00", "21:59", False),
        ("14:10-14:10", "14:10", False),
        ("25:00-26:00", "14:10", False),
        ("always", "14:10", False),
        ("22:00-05:00 ", "23:00", False),
    ],
)
def test_hours_may_go_over_midnight_and_what_cannot_be_read_is_never(
    window: str, clock: str, inside: bool
) -> None:
    assert within(window, clock) is inside


@pytest.mark.parametrize(
    ("wanting", "why"),
    [
        *(
            ({"findings": [finding(name.partition(".")[2])]}, name.partition(".")[2])
            for name in WANTING
        ),
        (
            {"findings": [], "missing": ["ECC of GPU-a waits; set gpu_driver_reboot"]},
            "ECC of GPU-a",
        ),
        ({"findings": [], "installed": ["nvidia-driver"]}, "the driver was just installed"),
    ],
)
def test_what_wants_a_restart_gets_one_and_is_told(wanting: dict[str, Any], why: str) -> None:
    done = decide(asked(**wanting))
    assert done.act
    assert done.said.startswith("gpu1 is restarted: ")
    assert why in done.said


def test_a_host_that_is_well_is_left_alone_without_a_word() -> None:
    well = [finding("pending", "pass"), finding("next_boot", "pass"), finding("life")]
    missing = ["MIG of GPU-a was not taken"]
    done = decide(asked(findings=well, missing=missing))
    assert (done.act, done.said) == (False, "")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"reboot": False}, "gpu_driver_reboot is false; restart it yourself, or set gpu_driver"),
        ({"container": True}, "it is a container; restart the machine that it is on"),
        ({"local": True}, "Ansible runs on it; restart it yourself when this run has ended"),
        (
            {"findings": [finding("skew"), finding("next_boot")]},
            "next_boot is found; mend next_boot",
        ),
        ({"before": ["gpu0", "gpu9"]}, "gpu0, gpu9 failed before its turn; mend that, and run"),
        ({"window": "22:00-05:00"}, "it is 14:10, and gpu_driver_reboot_window is 22:00-05:00"),
        # What it would be mended by comes before when.
        ({"window": "22:00-05:00", "reboot": False}, "gpu_driver_reboot is false"),
    ],
)
def test_what_forbids_a_restart_is_told_with_what_to_do(more: dict[str, Any], why: str) -> None:
    for check in (False, True):
        done = decide(asked(**more, check=check))
        assert not done.act
        assert done.said.startswith("gpu1 has to be restarted (")
        assert f") and is not: {why}" in done.said
        assert done.said.count(". ") == 0
        assert done.said.endswith(".")


def test_a_check_says_so_and_restarts_nothing() -> None:
    done = decide(asked(check=True))
    assert done.as_dict() == {
        "act": False,
        "said": "gpu1 would be restarted: pending is found.",
    }
