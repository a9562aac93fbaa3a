"""What a lab site really wrote (``tests/fixtures/audit``), read as events."""

from __future__ import annotations

import json
from pathlib import Path

from ansible_collections.mlops.onprem.plugins.module_utils._audit import names
from ansible_collections.mlops.onprem.plugins.module_utils._audit.event import Event
from ansible_collections.mlops.onprem.plugins.module_utils._audit.sources import gateway, rollout

from tests.unit.plugins.module_utils._audit.day import asked

ROOT = Path(__file__).resolve().parents[5]
FIXTURES = ROOT / "tests" / "fixtures" / "audit"
WHO = names.names([], ["admin", "push", "pull"], [], "", "s")
RELEASE = "sha256:e69f991a5ab49c026911c51ecf367238773ae927ac4edb690c97c2afb6f93f08"


def lines(name: str) -> list[bytes]:
    return (FIXTURES / name).read_bytes().splitlines()


def of(found: list[Event], action: str) -> list[Event]:
    return [one for one in found if one.action == action]


def test_a_run_of_the_pipeline_is_told_by_what_it_asked_of_the_gateway() -> None:
    found = gateway.events(lines("gateway.log"), WHO, {"10.203.0.13": "ctl1"}, "ctl1", {})
    begun, finished = of(found, "model.train")
    assert begun.details["data_version"].startswith("d52c9ffde508")
    assert (finished.thing.name, finished.outcome) == (
        "13432cc664ea425da1b0b16d005ff671",
        "success",
    )
    (tag,) = of(found, "model.tag")
    assert (tag.thing.version, tag.thing.digest) == ("1", RELEASE)
    (alias,) = of(found, "model.alias")
    assert (alias.thing.name, alias.thing.version, alias.details["alias"]) == (
        "breast-cancer",
        "1",
        "champion",
    )
    pulled = [(one.actor.name, one.thing.digest) for one in of(found, "release.pull")]
    assert pulled == [("push", RELEASE), ("pull", RELEASE)]
    assert {one.outcome for one in found} == {"success"}


def test_nothing_of_a_request_but_what_is_named_stands_in_an_event() -> None:
    found = gateway.events(lines("gateway.log"), WHO, {}, "ctl1", {})
    told = b"".join(one.line() for one in found)
    assert b"mlflow.source" not in told
    assert b"/srv/project" not in told


def test_a_rollout_is_told_by_its_journal() -> None:
    found = rollout.events(lines("journal.jsonl"), WHO, "ctl1", {})
    assert [(one.actor.name, one.action) for one in found] == [
        ("root@desk", "release.rollout"),
        ("rollout", "release.ring"),
        ("edge1", "device.serve"),
        ("edge1", "device.serve"),
        ("rollout", "release.finish"),
    ]
    assert {one.thing.digest for one in found} == {RELEASE}


def test_a_signature_is_told_by_the_release_that_it_is_of() -> None:
    path = f"/v2/models/defects/manifests/{RELEASE.replace(':', '-')}.sig"
    found = gateway.events(
        [asked("09:00:00", "push", path, method="PUT", status=201)], WHO, {}, "c", {}
    )
    (one,) = of(found, "release.sign")
    assert one.thing.digest == RELEASE


def test_every_event_is_as_the_schema_says() -> None:
    schema = json.loads((ROOT / "docs" / "schema" / "event.schema.json").read_text())
    found = gateway.events(lines("gateway.log"), WHO, {}, "ctl1", {})
    found += rollout.events(lines("journal.jsonl"), WHO, "ctl1", {})
    assert found
    for one in found:
        told = json.loads(one.at(1, "0" * 64).line())
        assert sorted(told) == sorted(schema["required"])
        assert told["source"] in schema["properties"]["source"]["enum"]
        assert told["actor"]["kind"] in schema["properties"]["actor"]["properties"]["kind"]["enum"]
        assert told["outcome"] in schema["properties"]["outcome"]["enum"]
