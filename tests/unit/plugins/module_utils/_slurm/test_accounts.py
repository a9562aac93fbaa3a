# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way from what the accounting holds to the teams: what is ours changes, the rest stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._slurm.accounts import (
    State,
    Wanted,
    leave,
    mark_of,
    parse_state,
    plan,
)
from ansible_collections.mlops.onprem.plugins.module_utils._slurm.errors import SlurmError

MARK = mark_of("Site-1")
VISION = Wanted("vision", ("anna", "ben"), 3, 2)
TEXT = Wanted("text", ("carl",), None, 1, 2)
# As sacctmgr -nP of Slurm 24.11 wrote it.
CLUSTERS = "plant\n"
QOS = (
    "normal|Normal QOS default|||\n"
    f"vision|{MARK}|gres/gpu=3,gres/served=0||DenyOnLimit\n"
    f"text|{MARK}|gres/served=0|2|DenyOnLimit\n"
)
ACCOUNTS = f"root|default root account\nvision|{MARK}\ntext|{MARK}\nold|somebody's\n"
ASSOCIATIONS = (
    "root||1|normal|\nroot|root|1|normal|\nvision||2|vision|vision\nvision|anna|1|vision|vision\n"
    "vision|ben|1|vision|vision\ntext||1|text|text\ntext|carl|1|text|text\nold|dora|1|normal|\n"
)
STATE = parse_state(CLUSTERS, QOS, ACCOUNTS, ASSOCIATIONS)


def texts(state: State, *teams: Wanted) -> list[str]:
    return [change.text for change in plan(state, teams, "plant", MARK)]


def test_what_is_as_wanted_is_left_alone() -> None:
    assert texts(STATE, VISION, TEXT) == []


def test_an_empty_accounting_gets_everything_in_order() -> None:
    assert texts(State(), VISION) == [
        "add the cluster plant",
        "add the QoS vision: 3 GPUs at once",
        "add the account vision with fair share 2",
        "add anna to vision",
        "add ben to vision",
    ]
    calls = [" ".join(change.argv) for change in plan(State(), [TEXT], "plant", MARK)]
    assert calls[1:] == [
        f"add qos text Description={MARK} GrpTRES=gres/gpu=-1,gres/served=0 GrpJobs=2"
        " Flags=DenyOnLimit",
        f"add account text Cluster=plant Description={MARK} Organization=mlops Fairshare=1"
        " QOS=text DefaultQOS=text",
        "add user carl Account=text Cluster=plant",
    ]


def test_limits_and_members_follow_the_inventory() -> None:
    changed = replace(VISION, members=("anna", "eva"), gpus=None, fair_share=5)
    assert texts(STATE, changed, TEXT) == [
        "change the QoS vision: any number of GPUs",
        "change the account vision: fair share 5, QoS vision",
        "add eva to vision",
        "take ben out of vision",
    ]


def test_no_gpus_at_all_is_a_limit() -> None:
    calls = plan(STATE, [replace(VISION, gpus=0), TEXT], "plant", MARK)
    assert calls[0].argv[-3:] == (
        "GrpTRES=gres/gpu=0,gres/served=0",
        "GrpJobs=-1",
        "Flags=DenyOnLimit",
    )


@pytest.mark.parametrize(
    ("now", "then"), [(",gres/served=0", ""), ("||DenyOnLimit", "||"), ("served=0", "served=4")]
)
def test_a_team_that_could_ask_for_what_serves_is_closed(now: str, then: str) -> None:
    state = parse_state(CLUSTERS, QOS.replace(now, then, 1), ACCOUNTS, ASSOCIATIONS)
    calls = plan(state, [VISION, TEXT], "plant", MARK)
    assert [call.text for call in calls] == ["change the QoS vision: 3 GPUs at once"]
    assert "GrpTRES=gres/gpu=3,gres/served=0" in calls[0].argv


def test_a_team_that_left_goes_with_its_users_and_nobody_else_does() -> None:
    gone = ["take carl out of text", "remove the account text", "remove the QoS text"]
    assert texts(STATE, VISION) == gone
    every = [change.text for change in leave(STATE, "plant", MARK)]
    assert set(gone) < set(every)
    assert not [text for text in every if "old" in text or "dora" in text or "normal" in text]


@pytest.mark.parametrize(
    ("accounts", "qos", "words"),
    [
        ("vision|physics department", "", "the account vision is in Slurm's accounting already"),
        ("", "vision|fast lane|||", "the QoS vision is in Slurm's accounting already"),
        (f"vision|{mark_of('other')}", "", "give the team another name in mlops_teams"),
    ],
)
def test_what_is_somebody_elses_is_refused(accounts: str, qos: str, words: str) -> None:
    with pytest.raises(SlurmError, match=words):
        plan(parse_state(CLUSTERS, qos, accounts, ""), [VISION], "plant", MARK)


def test_an_answer_that_nobody_understands_is_an_error() -> None:
    with pytest.raises(SlurmError, match="sacctmgr answered with 1 fields, not 5"):
        parse_state(CLUSTERS, "warning", "", "")
