# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: read once, frozen, and written so that another controller reads the same."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.errors import RolloutError
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.plan import (
    Limits,
    forecast,
    from_dict,
    lines,
    make,
)
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.window import parse

from .fleet import MODEL, NEW, OLD, START

REQUEST: dict[str, Any] = {
    "digest": NEW,
    "version": "7",
    "size": 5_000_000,
    "groups": {"ring_canary": ["a"], "ring_fleet": ["b", "c"]},
    "devices": {"a": {"previous": OLD}, "b": {"online": False}, "c": {"transport": "pull"}},
    "bandwidth_mbit": 8,
    "bake_seconds": 60,
    "bake_limit_seconds": 300,
    "poll_seconds": 20,
    "approval": {"ring_fleet": ["anna"]},
    "window": "Mon-Fri 22:00-04:00 Europe/Berlin",
    "gates": {"error_rate_max": 0.01},
    "local": {"memory_mib": 100},
}


def made(**more: Any) -> Any:
    return make(MODEL, {**REQUEST, **more}, START)


def test_a_plan_is_read_back_as_it_was_written() -> None:
    plan = made()
    assert from_dict(json.loads(json.dumps(plan.as_dict()))) == plan
    assert plan.rollout == "demo-19700112T134640Z-11111111"


def test_a_plan_of_another_schema_is_refused() -> None:
    with pytest.raises(RolloutError, match="has the schema 2, this release reads 1"):
        from_dict({**made().as_dict(), "schema": 2})


def test_the_deadline_is_the_limit_of_baking_and_two_polls() -> None:
    push = {"devices": {"a": {"previous": OLD}, "b": {}, "c": {}}}
    assert made(**push).limits.deadline == 340
    # Where a device fetches its orders, what was told last is heard in time too.
    assert made().limits.deadline == 360
    assert Limits(bake_limit=10, poll=1).deadline == 12


def test_a_first_release_is_one_that_nobody_has_a_release_before() -> None:
    assert not made().first
    assert made(devices={"a": {}, "b": {}}).first


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"digest": "sha256:12"}, "digest: must be sha256: and 64 hexadecimal digits"),
        ({"odd": 1}, "has the unknown key 'odd'"),
        ({"devices": {"a": {"odd": 1}}}, "devices.a: has the unknown key 'odd'"),
        ({"devices": {"a": {"transport": "mail"}}}, "devices.a.transport: must be push or pull"),
        ({"bake_seconds": 400}, "bake_seconds: is 400 and bake_limit_seconds 300"),
        ({"poll_seconds": 0}, "poll_seconds: must be above 0"),
        ({"concurrent_downloads": 0}, "concurrent_downloads: must be at least 1"),
        ({"deferred_share": 1.5}, "deferred_share: must be a share from 0 to 1"),
        ({"on_failure": "some"}, "on_failure: must be ring or all"),
        ({"approval": {"ring_x": ["a"]}}, "approval: names the ring ring_x"),
        ({"approval": {"ring_fleet": "anna"}}, "approval.ring_fleet: must be a list"),
        ({"window": "nights"}, "rollout_window is 'nights'"),
    ],
)
def test_what_is_not_as_it_must_be_is_named_by_its_place(
    change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(RolloutError) as error:
        made(**change)
    assert sentence in str(error.value)


def test_a_model_is_named_so_that_its_name_can_be_a_directory() -> None:
    with pytest.raises(RolloutError, match=r"rollout_model is '\.\./etc'"):
        make("../etc", REQUEST, START)


def test_the_forecast_says_bytes_and_seconds_over_the_capped_link() -> None:
    rows = forecast(made(), lambda hosts: 1 / (hosts + 1))
    assert [(row["hosts"], row["bytes"], row["download_seconds"]) for row in rows] == [
        (1, 5_000_000, 5.0),
        (2, 10_000_000, 10.0),
    ]
    assert [row["seconds"] for row in rows] == [65.0, 70.0]
    assert [row["detectable"] for row in rows] == [1 / 2, 1 / 3]
    assert [row["offline"] for row in rows] == [0, 1]
    uncapped = forecast(made(bandwidth_mbit=0), lambda _hosts: 1.0)
    assert uncapped[1]["seconds"] == 60


def test_the_plan_as_people_read_it() -> None:
    plan = made()
    text = lines(plan, forecast(plan, lambda _hosts: 0.25), 0.9)
    assert text[0] == "Rollout of demo 7 to 3 devices in 2 rings."
    assert text[2] == (
        "ring_fleet: 2 devices (1 offline), detects a defect rate of 25 % or more with a "
        "probability of 90 %, 10 MB, at least 70 s, needs the approval of anna."
    )
    assert "reverts by itself after 360 s" in text[3]
    assert any("Europe/Berlin" in line for line in text)
    assert any("left out" in line for line in lines(made(devices={"a": {}, "b": {}}), [], 0.9))


# -- windows -----------------------------------------------------------------------------------


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize(
    ("window", "now", "seconds"),
    [
        ("", "2026-03-02T12:00:00", 0),
        # Monday evening in Berlin is 21:00 UTC in winter.
        ("Mon-Fri 22:00-04:00 Europe/Berlin", "2026-03-02T20:59:59", 1),
        ("Mon-Fri 22:00-04:00 Europe/Berlin", "2026-03-02T21:00:00", 0),
        ("Mon-Fri 22:00-04:00 Europe/Berlin", "2026-03-03T02:59:59", 0),
        ("Mon-Fri 22:00-04:00 Europe/Berlin", "2026-03-03T03:00:00", 18 * 3600),
        # In summer it is 20:00 UTC.
        ("Mon-Fri 22:00-04:00 Europe/Berlin", "2026-07-06T20:00:00", 0),
        # A Friday's window ends on Saturday morning; the next one is Monday's.
        ("Mon-Fri 22:00-04:00 Europe/Berlin", "2026-03-07T02:00:00", 0),
        ("Mon-Fri 22:00-04:00 Europe/Berlin", "2026-03-07T03:00:00", (18 + 48) * 3600),
        ("Sat,Sun 00:00-24:00", "2026-03-06T23:00:00", 3600),
        ("Sat,Sun 00:00-24:00", "2026-03-08T23:59:59", 0),
        ("Fri-Mon 10:00-11:00", "2026-03-01T10:30:00", 0),
        ("Fri-Mon 10:00-11:00", "2026-03-03T10:30:00", 3 * 86400 - 1800),
        ("daily 10:00-10:00", "2026-03-03T09:00:00", 0),
        ("Tue 10:00-11:00; Wed 09:00-10:00", "2026-03-03T11:00:00", 22 * 3600),
        ("Mon 10:00-11:00", "2026-03-02T11:00:00", 7 * 86400 - 3600),
    ],
)
def test_a_window_says_when_it_opens(window: str, now: str, seconds: float) -> None:
    assert parse(window).opens_in(at(now)) == seconds


@pytest.mark.parametrize(
    ("window", "sentence"),
    [
        ("Mon 22:00", "wanted are days, a time from and to, and a zone"),
        ("Mon 25:00-26:00", "25:00 is no time of day"),
        ("Mon 10:60-11:00", "10:60 is no time of day"),
        ("Xyz 10:00-11:00", "'Xyz' are no days of the week"),
        ("Mon 10:00-11:00 Mars/Olympus", "the time zone 'Mars/Olympus', which this host"),
    ],
)
def test_a_window_that_cannot_be_read_is_a_sentence(window: str, sentence: str) -> None:
    with pytest.raises(RolloutError) as error:
        parse(window)
    assert sentence in str(error.value)


CHANGES = [{"key": "serving.threads", "before": "null", "after": "2"}]


def test_a_configuration_alone_says_what_is_other_and_what_is_fetched() -> None:
    plan = made(changes=CHANGES, base="7", fetched=1000)
    assert from_dict(json.loads(json.dumps(plan.as_dict()))) == plan
    rows = forecast(plan, lambda _hosts: 0.1)
    assert [row["bytes"] for row in rows] == [1000, 2000]
    text = lines(plan, rows, 0.9)
    assert text[1:3] == [
        "A configuration alone, of version 7:",
        "  serving.threads: null -> 2",
    ]
    assert not any("configuration" in line for line in lines(made(), rows, 0.9))


def test_a_plan_of_the_release_before_has_no_configuration() -> None:
    old = made().as_dict()
    for name in ("changes", "base", "fetched"):
        del old[name]
    assert from_dict(old) == made()


def test_changes_that_cannot_be_read_are_refused() -> None:
    for changes, sentence in (
        ([{"key": "a"}], "before: is missing"),
        ([{**CHANGES[0], "why": "x"}], "has the unknown key"),
        ("threads", "must be a list"),
    ):
        with pytest.raises(RolloutError, match=sentence):
            made(changes=changes)
