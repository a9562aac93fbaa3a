# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of rollouts as people write them, before any host is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.settings import problems

ROOT = Path(__file__).resolve().parents[5]
GROUPS = {
    "ring_canary": ["e1"],
    "ring_early": [],
    "ring_fleet": ["e2", "e3"],
    "line": ["e1"],
}
DEVICES = ["e1", "e2", "e3"]


@pytest.mark.parametrize(
    "said",
    [
        "{}",
        "{bake_seconds: 10:30}",  # YAML 1.1 makes the seconds of it that were meant
        "{bake_seconds: '600', bake_limit_seconds: '3600'}",
        "{ring_shares: [0.1, 1]}",
        "{rings: [ring_canary, ring_early, ring_fleet]}",
        "{approval: {ring_early: [ada]}}",
        "{window: [Mon-Fri 22:00-04:00 Europe/Berlin]}",
        "{gates: {error_rate_max: 0.05, waive: {shift: no traffic yet}}}",
        "{version: 7-config.1}",
        "{version: 7, digest: ''}",
        "{action: resume, transport: pull, on_failure: ring}",
    ],
)
def test_what_a_rollout_can_be_planned_by_is_no_problem(said: str) -> None:
    assert problems(yaml.safe_load(said), GROUPS, DEVICES) == []


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("{bake_seconds: 10 min}", "rollout_bake_seconds: must be a number, but is '10 min'"),
        ("{deferred_share: 20%}", "but is '20%'; write 0.2"),
        ("{deferred_share: 2}", "rollout_deferred_share: must be a share from 0 to 1"),
        ("{poll_seconds: 0}", "rollout_poll_seconds: must be above 0"),
        ("{concurrent_downloads: four}", "rollout_concurrent_downloads: must be a number"),
        ("{contact_seconds: 1}", "rollout_contact_seconds: must be from 5 to"),
        ("{bake_limit_seconds: 10, bake_seconds: 20}", "cannot bake longer than its limit"),
        ("{ring_shares: [10, 100]}", "rollout_ring_shares[0]: must be a share from 0 to 1"),
        ("{ring_shares: [0.1, 0.5]}", "of which the last is 1.0"),
        ("{rings: ring_canary}", "rollout_rings: must be a list, but is a text"),
        ("{rings: [ring_canry]}", "The ring ring_canry is no group of the inventory"),
        ("{rings: [ring_canary, ring_canary]}", "The ring ring_canary is there twice"),
        ("{rings: [ring_canary, line]}", "The host e1 is in the ring groups ring_canary and line"),
        ("{window: {days: Mon}}", "rollout_window: must be a list, but is a mapping"),
        ("{window: [22:30]}", "rollout_window is '1350'"),
        ("{gates: {latency_p95: 50}}", "did you mean latency_p95_ms?"),
        ("{gates: {waive: {shift: yes}}}", "rollout_gates.waive.shift: must be a text"),
        ("{approval: {ring_canry: [ada]}}", "names the ring ring_canry, and the rings are ring_c"),
        ("{approval: {ring_canary: []}}", "rollout_approval.ring_canary: must name at least one"),
        ("{approval: {ring_canary: [no]}}", "rollout_approval.ring_canary[0]: must be a text"),
        ("{action: stat}", "rollout_action: must be one of start, status"),
        ("{on_failure: no}", "rollout_on_failure: must be one of ring, all, but is False"),
        ("{version: 1.10}", "rollout_version: must be a version"),
        ("{version: true}", "rollout_version: must be a version"),
        ("{version: '7\\n8'}", "rollout_version: must be a version"),
        ("{digest: 0123}", "rollout_digest: must be sha256: and 64 hexadecimal digits"),
        ("{model: 'Größe'}", "rollout_model: must be a name of small letters"),
        ("{config: [threads]}", "rollout_config: must be a mapping, but is a list"),
    ],
)
def test_what_no_rollout_can_be_planned_by_is_one_sentence(said: str, wrong: str) -> None:
    found = problems(yaml.safe_load(said), GROUPS, DEVICES)
    assert len(found) == 1, found
    assert wrong in found[0]


def test_everything_that_is_wrong_is_told_at_once() -> None:
    given = {"bake_seconds": "soon", "gates": [], "rings": ["nowhere"], "action": "go"}
    assert len(problems(given, GROUPS, DEVICES)) == 4


def test_of_a_device_in_two_usual_rings_the_inventory_tells_unless_rings_are_declared() -> None:
    twice = {"ring_canary": ["e1"], "ring_fleet": ["e1", "e2"], "ring_late": ["e2"]}
    assert problems({}, twice, ["e1"]) == []
    [said] = problems({}, twice, ["e1", "e2"])
    assert "The host e2 is in the ring groups ring_fleet and ring_late" in said
    [said] = problems({"rings": ["ring_canary", "ring_fleet"]}, twice, ["e1"])
    assert "The host e1 is in the ring groups ring_canary and ring_fleet" in said


def test_rings_by_shares_have_names_too() -> None:
    assert problems({"approval": {"share_2": ["ada"]}}, {}, [f"e{n}" for n in range(400)]) == []
    [said] = problems({"approval": {"ring_fleet": ["ada"]}}, {}, ["e1"])
    assert "names the ring ring_fleet" in said


def test_the_role_asks_about_every_variable_that_it_has() -> None:
    told: dict[str, Any] = yaml.safe_load((ROOT / "roles/rollout/defaults/main.yml").read_text())
    asked = yaml.safe_load((ROOT / "roles/rollout/vars/main.yml").read_text())["__rollout_wrong"]
    unasked = [name for name in told if f": {name}" not in asked]
    assert unasked == ["rollout_approved_by"]  # any name may be somebody's
