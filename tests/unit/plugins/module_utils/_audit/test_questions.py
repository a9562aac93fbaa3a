"""Two-and-twenty questions about a day of five people."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._audit import names
from ansible_collections.mlops.onprem.plugins.module_utils._audit.errors import AuditError
from ansible_collections.mlops.onprem.plugins.module_utils._audit.event import Event, parse
from ansible_collections.mlops.onprem.plugins.module_utils._audit.questions import (
    Question,
    answer,
    covered,
)

from tests.unit.plugins.module_utils._audit.day import (
    ADDRESSES,
    DAY,
    ONE,
    PEOPLE,
    TWO,
    lines_of,
    whole_day,
)

EVENTS = [parse(line) for line in lines_of(whole_day())]


def rows(kind: str, **asked: Any) -> list[dict[str, Any]]:
    return [dict(one) for one in answer(Question(kind, **asked), EVENTS).rows]


def at(clock: str) -> str:
    return f"{DAY}T{clock}Z"


def names_of(found: list[dict[str, Any]]) -> list[str]:
    return [one["actor"]["name"] for one in found]


# Which model answered, who put it there, from which data.


def test_1_what_answered_before_noon() -> None:
    (one,) = rows("serving", device="edge1", at=at("11:30:00"))
    assert (one["model"], one["version"], one["digest"]) == ("defects", "1", ONE)


def test_2_who_put_it_there() -> None:
    (one,) = rows("serving", device="edge1", at=at("11:30:00"))
    assert (one["put_there_by"], one["rollout"]) == ("dan", "r1")


def test_3_from_which_data_and_run_and_whose() -> None:
    (one,) = rows("serving", device="edge2", at=at("23:00:00"))
    assert (one["data_version"], one["run_id"], one["trained_by"]) == ("data-1", "run-a", "ada")


def test_4_what_answered_while_the_second_release_was_tried() -> None:
    (one,) = rows("serving", device="edge1", at=at("14:35:00"))
    assert (one["version"], one["digest"], one["put_there_by"]) == ("2", TWO, "root@desk")
    assert one["data_version"] == "data-2"


def test_5_what_answered_after_it_went_back() -> None:
    (one,) = rows("serving", device="edge1", at=at("15:00:00"))
    assert (one["version"], one["digest"], one["since"]) == ("1", ONE, at("14:41:00.000"))


def test_6_the_other_device_never_had_the_second_one() -> None:
    (one,) = rows("serving", device="edge2", at=at("14:35:00"))
    assert (one["version"], one["since"]) == ("1", at("11:07:00.000"))


def test_7_nothing_answered_before_the_first_rollout() -> None:
    asked = Question("serving", device="edge1", at=at("10:59:00"))
    assert answer(asked, EVENTS).rows == ()
    assert answer(asked, EVENTS).text == (
        "Nothing is known to have answered on edge1 at 2026-11-27T10:59:00Z.",
    )


def test_8_from_which_data_every_release_comes() -> None:
    found = rows("data", model="defects")
    assert [(one["version"], one["data_version"], one["trained_by"]) for one in found] == [
        ("1", "data-1", "ada"),
        ("2", "data-2", "ben"),
    ]


# Who used a model.


def test_9_who_asked_the_model_and_how_often() -> None:
    found = [one for one in rows("users", model="defects") if one["what"] == "model.query"]
    assert [(one["who"], one["times"], one["devices"]) for one in found] == [
        ("line-7", 70, ["edge1"]),
        ("shop", 20, ["edge2"]),
    ]


def test_10_who_asked_it_in_one_hour() -> None:
    found = rows("users", model="defects", since=at("12:30:00"), until=at("13:30:00"))
    assert [(one["who"], one["times"]) for one in found] == [("line-7", 60)]


def test_11_which_device_fetched_it() -> None:
    (one,) = rows("actions", actions=["release.pull"])
    assert (one["actor"]["name"], one["details"]["from_host"]) == ("pull", "edge1")


def test_21_which_teams_asked_a_workload() -> None:
    found = [one for one in rows("users", model="chat") if one["what"] == "workload.query"]
    assert [(one["who"], one["kind"], one["times"]) for one in found] == [("vision", "service", 60)]


def test_22_which_teams_a_workload_turned_away_and_how_often() -> None:
    found = [
        (one["actor"]["name"], one["outcome"], one["details"]["count"])
        for one in rows("actions", actions=["workload.query"])
        if one["outcome"] != "success"
    ]
    assert sorted(found) == [("", "denied", 4), ("speech", "failure", 2), ("vision", "denied", 3)]


# What a person did.


def test_12_what_ada_did() -> None:
    done = [one["action"] for one in rows("person", person="ada")]
    assert sorted(set(done)) == [
        "job.end",
        "job.submit",
        "login.granted",
        "model.alias",
        "model.register",
        "model.tag",
        "model.train",
    ]


def test_13_who_registered() -> None:
    assert names_of(rows("actions", actions=["model.register"])) == ["ada", "ben"]


def test_14_who_moved_and_who_took_away_the_alias() -> None:
    found = rows("actions", actions=["model.alias"])
    assert [(one["actor"]["name"], one["details"].get("removed", False)) for one in found] == [
        ("ada", False),
        ("ben", False),
        ("cleo", True),
    ]


def test_15_who_approved_the_second_ring() -> None:
    (one,) = rows("actions", actions=["release.approve"])
    assert (one["actor"], one["details"]["ring"]) == (
        {"kind": "person", "name": "cleo"},
        "ring_fleet",
    )


def test_16_what_went_back_and_when() -> None:
    (one,) = rows("actions", actions=["release.rollback"])
    assert (one["time"], one["details"]["hosts"], one["outcome"]) == (
        at("14:40:00.000"),
        ["edge1"],
        "failure",
    )


def test_17_whose_jobs_failed() -> None:
    found = [one for one in rows("actions", actions=["job.end"]) if one["outcome"] == "failure"]
    assert [(one["actor"]["name"], one["object"]["name"]) for one in found] == [("ben", "42")]


# Who was turned away.


def test_18_who_showed_a_wrong_password_and_how_often() -> None:
    denied = [one for one in rows("denied") if one["action"] != "workload.query"]
    eva, nobody, forbidden = denied
    assert (eva["actor"]["name"], eva["details"]["count"]) == ("eva", 4)
    assert (nobody["actor"], "claimed" in nobody["details"]) == (
        {"kind": "unknown", "name": ""},
        True,
    )
    assert (forbidden["actor"]["name"], forbidden["action"]) == ("eva", "model.delete")


# What changed on the site.


def test_19_what_changed_on_the_site_and_who_did_it() -> None:
    one, two, three = rows("changes")
    assert (one["by"], one["changed"], one["outcome"]) == ("eva", {"ctl1": 3}, "success")
    assert (two["changed"], two["failed"], two["outcome"]) == ({"ctl1": 1}, ["edge2"], "failure")
    assert (three["by"], three["outcome"]) == ("root@desk", "not known to have ended")


def test_20_who_came_in_by_hour() -> None:
    found = rows("actions", actions=["login.granted"], until=at("10:30:00"))
    assert [(one["actor"]["name"], one["details"]["service"]) for one in found] == [
        ("ada", "mlflow"),
        ("ada", "mlflow"),
        ("ben", "mlflow"),
        ("ada", "mlflow"),
        ("push", "artifact_registry"),
        ("cleo", "prometheus"),
        ("eva", "artifact_registry"),
    ]


# What nobody may be said to have done.


def test_a_name_that_nobody_checked_is_nobody() -> None:
    assert [one for one in rows("person", person="dan") if one["action"] != "release.rollout"] == []


def test_a_password_in_the_field_of_the_name_is_nowhere() -> None:
    assert b"s3cret" not in b"".join(lines_of(whole_day()))


def test_people_are_found_by_name_behind_their_pseudonyms_by_who_has_the_key() -> None:
    hidden = names.names(PEOPLE, ["admin", "push", "pull"], [], "the key", "5ec")
    events = [parse(line) for line in lines_of(whole_day(hidden))]
    stream = b"".join(lines_of(events))
    assert [name for name in PEOPLE if f'"{name}"'.encode() in stream] == []
    assert [one for one in ADDRESSES if one.startswith("10.0.0.5") and one.encode() in stream] == []
    found = answer(Question("person", person="ada"), events, "the key").rows
    assert len(found) == len(answer(Question("person", person="ada"), EVENTS).rows)
    assert answer(Question("person", person="ada"), events, "another").rows == ()


def test_services_keep_their_names() -> None:
    hidden = names.names(PEOPLE, ["push", "pull"], [], "the key", "5ec")
    told = {one.actor.name for one in whole_day(hidden)}
    assert {"push", "pull", "edge1", "line-7"} <= told


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Question("weather"), "Found the question 'weather', wanted one of serving, users"),
        (Question("serving"), "The question serving needs history_device."),
        (Question("users"), "The question users needs history_model."),
        (Question("denied", since="yesterday"), "Found the time 'yesterday', wanted one such as"),
        # Also where the question does not look at it.
        (
            Question("serving", device="edge1", since="gestern"),
            "Found the time 'gestern', wanted one such as",
        ),
        (
            Question("users", model="defects", since="2026-12-01", until="2026-11-01"),
            "Found history_until 2026-11-01, which is before history_since 2026-12-01",
        ),
    ],
)
def test_what_cannot_be_asked_is_said(asked: Question, said: str) -> None:
    with pytest.raises(AuditError) as caught:
        answer(asked, EVENTS)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Question("serving", device="egde1"), "Known devices are edge1"),
        (Question("users", model="defect"), "Known models are"),
        (Question("data", model="defect"), "Known models are"),
        (Question("actions", actions=("model.alais",)), "Known actions are"),
    ],
)
def test_who_mistypes_a_name_is_told_which_there_are(asked: Question, said: str) -> None:
    found = answer(asked, EVENTS)
    assert found.rows == ()
    assert said in found.text[0]


def test_a_name_that_is_known_is_not_told_to_be_mistyped() -> None:
    found = answer(Question("serving", device="edge1", at="2020-01-01"), EVENTS)
    assert found.text == ("Nothing is known to have answered on edge1 at 2020-01-01.",)


@pytest.mark.parametrize("day", [DAY, DAY.replace("-", "")])
def test_a_day_that_ends_a_period_is_part_of_it_however_it_is_written(day: str) -> None:
    assert rows("changes", until=day) == rows("changes", until=f"{DAY}T23:59:59.999Z")
    assert rows("changes", until=day) != []


def test_an_answer_says_what_it_is_from() -> None:
    assert covered(EVENTS).startswith(f"From {len(EVENTS)} events, 2026-11-27T07:00:00.000Z to ")
    assert covered([]) == "The stream is empty."


def test_every_answer_is_a_sentence_for_people() -> None:
    for kind in ("serving", "users", "person", "changes", "data", "denied", "actions"):
        found = answer(Question(kind, device="edge1", model="defects", person="ben"), EVENTS)
        assert found.text
        assert all(isinstance(line, str) and line for line in found.text)


def test_events_are_as_the_schema_says() -> None:
    assert len({event.seq for event in EVENTS}) == len(EVENTS)
    assert all(isinstance(one, Event) for one in EVENTS)
