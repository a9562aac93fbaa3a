# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the campaign of quotas judges what its guest told."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.soak.dataset_quotas import FULL, NUMBER, judged, limit_kib, rows
from tests.soak.guest import said

PLACE = "/data/images"
AT_MOST = f"{PLACE}: at most {{}} MiB"
ALL = {"mib": 24, "errno": ""}
PROJECTS = {
    # As repquota -P -n and xfs_quota report -p -n -N print them.
    "ext4": [
        "*** Report for project quotas on device /dev/vdb",
        "Project         used    soft    hard  grace    used  soft  hard  grace",
        "#0        --      20       0       0              2     0     0       ",
        f"#{NUMBER}  --   12292       0   {{}}              2     0     0       ",
    ],
    "xfs": ["#0    24576    0    0    00 [--------]", f"#{NUMBER}  12288  0  {{}}  00 [--------]"],
}


def told(kind: str) -> list[dict[str, Any]]:
    """What a guest tells where all is well."""

    def report(mib: int) -> list[str]:
        return [line.format(mib * 1024) for line in PROJECTS[kind]]

    no = {"mib": 3, "errno": FULL[kind]}
    deleted = {"changed": True, "changes": [f"{PLACE} of images: deleted with its data"]}
    limited = {"changed": True, "changes": [AT_MOST.format(16)]}
    more = {"changed": True, "changes": [AT_MOST.format(32)]}
    nothing = f"nothing limits what {PLACE} of images takes: /data is {kind} without prjquota"
    steps: dict[str, dict[str, Any]] = {
        "check": {"answer": limited, "there": False},
        "made": {"answer": limited, "report": report(16)},
        "again": {"answer": {}},
        "below": {"wrote": {"mib": 12, "errno": ""}},
        "above": {"wrote": no},
        "beside": {"wrote": ALL},
        "more": {"answer": more, "wrote": {"mib": 12, "errno": ""}},
        "free": {
            "answer": {"changed": True, "changes": [f"{PLACE}: no longer limited"]},
            "wrote": ALL,
            "report": report(0),
        },
        "free again": {"answer": {}},
        "full": {"answer": more, "wrote": {"mib": 0, "errno": FULL[kind]}},
        "left": {"answer": {"kept": ["stays"]}, "there": True, "report": report(32)},
        "deleted": {"answer": deleted, "report": report(0)},
        "nothing": {"place": False, "known": False, "data": ["beside", "lost+found"]},
        "uncounted": {
            "answer": {"changed": True, "unlimited": [nothing]},
            "wrote": {"mib": 12, "errno": ""},
        },
        "counted": {"answer": limited, "wrote": no},
        "end": {"answer": deleted, "report": PROJECTS[kind][:-1]},
    }
    return [{"kind": kind, "step": step, **seen} for step, seen in steps.items()]


@pytest.mark.parametrize("kind", sorted(FULL))
def test_every_claim_holds_where_all_is_well_and_none_without_its_step(kind: str) -> None:
    good = told(kind)
    claims = list(judged(kind, good))
    assert [step for step, _good, _seen in claims] == [f"{kind} {row['step']}" for row in good]
    assert [step for step, holds, _seen in claims if not holds] == []
    assert not any(holds for _step, holds, _seen in judged(kind, []))
    (other,) = set(FULL) - {kind}
    assert not any(holds for _step, holds, _seen in judged(kind, told(other)))


# One thing for each claim that would be wrong with the module, or with the file system.
WRONG: dict[str, tuple[str, Any]] = {
    "check": ("there", True),
    "made": ("report", []),
    "again": ("answer", {"changed": True, "changes": [AT_MOST.format(16)]}),
    "below": ("wrote", {"mib": 3, "errno": "EDQUOT"}),
    "above": ("wrote", {"mib": 12, "errno": ""}),
    "beside": ("wrote", {"mib": 3, "errno": "EDQUOT"}),
    "more": ("wrote", {"mib": 3, "errno": "EDQUOT"}),
    "free": ("report", [f"#{NUMBER} 12288 0 16384 00 [--------]"]),
    "free again": ("answer", {"changed": True}),
    "full": ("wrote", {"mib": 1, "errno": ""}),
    "left": ("there", False),
    "deleted": ("answer", {"failed": True, "msg": "no"}),
    "nothing": ("data", ["beside", "images"]),
    "uncounted": ("answer", {"changed": True}),
    "counted": ("wrote", {"mib": 12, "errno": ""}),
    "end": ("report", [f"#{NUMBER} 0 0 16384 00 [--------]"]),
}


@pytest.mark.parametrize("kind", sorted(FULL))
@pytest.mark.parametrize("step", list(WRONG))
def test_what_is_not_so_is_seen(kind: str, step: str) -> None:
    bad = copy.deepcopy(told(kind))
    key, value = WRONG[step]
    (row,) = [row for row in bad if row["step"] == step]
    row[key] = value
    assert [one for one, good, _seen in judged(kind, bad) if not good] == [f"{kind} {step}"]


def test_an_error_of_the_wrong_kind_is_no_quota() -> None:
    bad = told("ext4")
    for row in bad:
        if row["step"] == "above":
            row["wrote"] = {"mib": 3, "errno": "EIO"}
    assert [one for one, good, _seen in judged("ext4", bad) if not good] == ["ext4 above"]


def test_limits_are_read_of_what_both_tools_print() -> None:
    for kind, lines in PROJECTS.items():
        assert limit_kib([line.format(16384) for line in lines]) == 16384, kind
        assert limit_kib(lines[:-1]) == 0


def test_a_console_holds_more_than_the_guest_says() -> None:
    row = {"kind": "ext4", "step": "again", "answer": {}}
    console = f"[ 1.0] booted\r\nguest: {json.dumps(row)}\r\n[ 2.0] XFS\r\nguest: broke off\r\n"
    assert said(console) == [json.dumps(row), "broke off"]
    assert rows(said(console)) == [row]
