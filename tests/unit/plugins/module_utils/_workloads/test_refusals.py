# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that keeps planned work from being started, told before anything changes."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._demand.workloads import (
    Known,
    parse_workloads,
)
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.refusals import (
    around_of,
    refusals,
)

TEAMS = [{"name": "vision", "members": ["anna", "ben"]}]
SUPPLY = {"g1": {"gpus": {"gpus": [{"uuid": "GPU-a", "model": "NVIDIA L40S"}]}}}
CARD = {"gpu": {"count": 1}}
IMAGE = f"registry.example.com/web@sha256:{'a' * 64}"
TRAIN = {
    "name": "train",
    "kind": "training",
    "requests": {"cpu_cores": 1},
    "run": {"command": ["true"], "team": "vision", "account": "anna"},
}
CHAT = {
    "name": "chat",
    "kind": "serving",
    "requests": {"cpu_cores": 1},
    "run": {"engine": "onnx", "model": "m", "version": 1},
}
WEB = {
    "name": "web",
    "kind": "service",
    "requests": {"cpu_cores": 1},
    "run": {"image": IMAGE, "port": 8080},
}
DATA = {
    "name": "images",
    "kind": "dataset",
    "requests": {"disks": [{"path": "/data/i", "size": "1GiB"}]},
    "run": {},
}


def told(
    *rows: dict[str, Any], scheduler: tuple[str, ...] = ("ctl1",), teams: object = TEAMS
) -> tuple[str, ...]:
    specs, wrong = parse_workloads(list(rows), Known())
    assert wrong == ()
    placement = [
        {
            "workload": row["name"],
            "replica": 0,
            "host": "g1",
            "gpu_ids": ["GPU-a"] if "gpu" in row else [],
        }
        for row in rows
    ]
    return refusals(specs, placement, around_of("s", teams, scheduler, SUPPLY))


def test_work_that_can_be_started_is_not_refused() -> None:
    assert told({**TRAIN, **CARD}, CHAT, WEB, DATA) == ()


def test_work_without_run_is_nobodys_business() -> None:
    plain = {key: value for key, value in TRAIN.items() if key != "run"}
    assert told(plain, scheduler=(), teams=None) == ()


@pytest.mark.parametrize(
    ("rows", "scheduler", "teams", "said"),
    [
        ([TRAIN], (), TEAMS, "train is started by a scheduler, and the inventory has none"),
        (
            [TRAIN],
            ("ctl1",),
            None,
            "the team vision, which mlops_teams does not have (it has none)",
        ),
        (
            [{**TRAIN, "run": {**TRAIN["run"], "account": "carl"}}],  # type: ignore[dict-item]
            ("ctl1",),
            TEAMS,
            "runs as carl, who is no member of vision",
        ),
        (
            [{**TRAIN, **CARD}, {**CHAT, **CARD}],
            ("ctl1",),
            TEAMS,
            "g1: GPU GPU-a is planned for chat and for the jobs of train",
        ),
        (
            [WEB, {**WEB, "name": "other"}],
            (),
            TEAMS,
            "g1: other 0 and web 0 both answer on port 8080",
        ),
        (
            [DATA, {**DATA, "name": "more"}],
            (),
            TEAMS,
            "g1: images and more would lie in one another",
        ),
        (
            [{**WEB, "run": {"image": IMAGE, "teams": ["x"]}}],
            (),
            TEAMS,
            "web may be called by the team x, which mlops_teams does not have (it has vision)",
        ),
        (
            [{**WEB, "run": {"image": IMAGE, "volumes": {"/a b": "/c"}}}],
            (),
            TEAMS,
            "web: the path '/a b' has signs that a quadlet takes for others",
        ),
    ],
)
def test_each_refusal_has_its_sentence(
    rows: list[dict[str, Any]], scheduler: tuple[str, ...], teams: object, said: str
) -> None:
    found = told(*rows, scheduler=scheduler, teams=teams)
    assert len(found) == 1
    assert said in found[0]
    assert "; " in found[0], "what mends it"


def test_cards_that_cannot_be_read_are_left_to_where_their_host_is_planned() -> None:
    damaged = {"gpus": {"gpus": [{"uuid": "GPU-b", "minor": "first"}]}}
    found = around_of("s", TEAMS, (), {**SUPPLY, "g2": damaged}).gpus
    assert found["g2"] == ()
    assert [card.model for card in found["g1"]] == ["NVIDIA L40S"]
