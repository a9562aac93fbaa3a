# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the campaign of restarts judges a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.soak.driver_reboot import (
    CARDS,
    NAMES,
    PENDING,
    REASON,
    UPDATED,
    Claims,
    Seen,
    of_closed,
    of_mended,
    of_turns,
    slurm_texts,
)

BEFORE = {name: f"{name} once" for name in NAMES}
IDLE = {"gpu1": "idle none", "gpu2": "idle none"}
NOT = f"has to be restarted ({PENDING}) and is not"
CLOSED = Seen(
    0,
    "; ".join(f"{name} {NOT}: it is 10:00, and so on" for name in NAMES),
    BEFORE,
    BEFORE,
    asked={},
    updates=[],
    nodes=IDLE,
)
TURNS = Seen(
    2,
    f"gpu2 was restarted and is not well: the plan uses the GPU {CARDS['gpu2']}, which"
    " nvidia-smi -L does not list. It stays drained, and no host after it is restarted. Look with"
    " nvidia-smi."
    f" control {NOT}: gpu2 failed before its turn; mend that, and run again.",
    BEFORE,
    {**BEFORE, "gpu1": "gpu1 again", "gpu2": "gpu2 again"},
    asked={"gpu1": ["gpu1 again"], "gpu2": ["gpu2 again"], "control": []},
    updates=[("gpu1", "DRAINING"), ("gpu1", "IDLE"), ("gpu2", "DRAINED")],
    nodes={"gpu1": f"idle {REASON}", "gpu2": f"drained {REASON}"},
    waiting="gpu1 once",
    job="COMPLETED",
    serving=f"drained {REASON}",
)
MENDED = Seen(
    0,
    "gpu2 is restarted, and control",
    BEFORE,
    {**BEFORE, "gpu2": "gpu2 again", "control": "control again"},
    asked={"gpu2": ["gpu2 again"], "control": ["control again"]},
    updates=[("control", "IDLE")],
    nodes={"gpu1": "idle none", "gpu2": f"idle {REASON}", "control": "idle none"},
)


def wrong(claims: Claims) -> list[str]:
    return [step for step, good in claims if not good]


@pytest.mark.parametrize(
    ("judge", "seen"), [(of_closed, CLOSED), (of_turns, TURNS), (of_mended, MENDED)]
)
def test_what_is_as_it_should_be_is_so(judge: Callable[[Seen], Claims], seen: Seen) -> None:
    assert wrong(judge(seen)) == []


@pytest.mark.parametrize(
    ("judge", "seen", "more", "steps"),
    [
        (
            of_closed,
            CLOSED,
            {"after": {**BEFORE, "control": "again"}},
            ["nobody is restarted"],
        ),
        (of_closed, CLOSED, {"said": f"gpu1 {NOT}: it is 10:00"}, ["each says why"]),
        (of_closed, CLOSED, {"updates": [("gpu1", "DRAINED")]}, ["nothing is told to Slurm"]),
        (of_closed, CLOSED, {"code": 2}, ["ends well"]),
        (
            of_turns,
            TURNS,
            {"after": {**TURNS.after, "control": "again"}},
            ["two are restarted"],
        ),
        (
            of_turns,
            TURNS,
            {"after": {**TURNS.after, "gpu1": "gpu1 once"}},
            ["two are restarted", "looked at in the new start"],
        ),
        (
            of_turns,
            TURNS,
            {"updates": [("gpu1", "DRAINING"), ("gpu2", "DRAINED"), ("gpu1", "IDLE")]},
            ["one after the other"],
        ),
        (of_turns, TURNS, {"waiting": "gpu1 again"}, ["waits for the job"]),
        (of_turns, TURNS, {"job": "NODE_FAIL"}, ["the job ends by itself"]),
        (of_turns, TURNS, {"serving": "idle none"}, ["waits for what serves"]),
        (
            of_turns,
            TURNS,
            {"asked": {**TURNS.asked, "gpu1": ["gpu1 once"]}},
            ["looked at in the new start"],
        ),
        (
            of_turns,
            TURNS,
            {"nodes": {**TURNS.nodes, "gpu1": f"drained {REASON}"}},
            ["given back"],
        ),
        (of_turns, TURNS, {"nodes": IDLE}, ["the ill one stays drained"]),
        (of_turns, TURNS, {"code": 0}, ["says what is wrong"]),
        (of_turns, TURNS, {"said": TURNS.said.partition(" control")[0]}, ["the next says why not"]),
        (
            of_mended,
            MENDED,
            {"after": dict.fromkeys(NAMES, "again")},
            ["both are restarted", "looked at in the new start"],
        ),
        (of_mended, MENDED, {"updates": []}, ["the controller is waited for"]),
        (of_mended, MENDED, {"asked": {}}, ["looked at in the new start"]),
        (
            of_mended,
            MENDED,
            {"nodes": {**MENDED.nodes, "control": f"drained {REASON}"}},
            ["all work"],
        ),
        (of_mended, MENDED, {"code": 2}, ["ends well"]),
    ],
)
def test_what_is_not_so_is_seen(
    judge: Callable[[Seen], Claims], seen: Seen, more: dict[str, Any], steps: list[str]
) -> None:
    assert wrong(judge(replace(seen, **more))) == steps


def test_what_the_controller_was_told_is_read_from_its_journal() -> None:
    text = (
        "slurmctld: update_node: node gpu1 reason set to: mlops: its host is restarted\n"
        "slurmctld: update_node: node gpu1 state set to DRAINING\n"
        "slurmctld: Node gpu1 now responding\n"
    )
    assert UPDATED.findall(text) == [("gpu1", "DRAINING")]


def test_the_guests_have_what_the_role_writes_without_the_accounting() -> None:
    texts = slurm_texts()
    assert "Accounting" not in texts["slurm.conf"]
    assert "ReturnToService=2" in texts["slurm.conf"]
    assert [name for name in NAMES if f"NodeName={name} " in texts["slurm.conf"]] == list(NAMES)
    assert "CgroupPlugin=disabled" in texts["cgroup.conf"]
