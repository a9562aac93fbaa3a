"""A day of five people, in the formats of the sources (those of ``tests/fixtures/audit``)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._audit import names
from ansible_collections.mlops.onprem.plugins.module_utils._audit.chain import Head, link
from ansible_collections.mlops.onprem.plugins.module_utils._audit.event import Event, seconds_of
from ansible_collections.mlops.onprem.plugins.module_utils._audit.sources import (
    devices,
    gateway,
    hourly,
    rollout,
    runs,
    slurm,
    workloads,
)

PEOPLE = ("ada", "ben", "cleo", "dan", "eva")
WHO = names.names(PEOPLE, ["admin", "push", "pull"], ["edge1", "edge2"], "", "5ec")
ADDRESSES = {"10.0.0.21": "edge1", "10.0.0.22": "edge2", "10.0.0.13": "ctl1"}
DAY = "2026-11-27"
ONE, TWO = ("sha256:" + digit * 64 for digit in "12")
API = "/mlflow/api/2.0/mlflow"


def at(clock: str) -> float:
    return seconds_of(f"{DAY}T{clock}Z")


def asked(
    clock: str,
    user: str,
    path: str,
    *,
    method: str = "POST",
    status: int = 200,
    body: object = None,
    digest: str = "",
    address: str = "10.0.0.50",
) -> bytes:
    """A line of the gateway's log."""
    told = {
        "msec": f"{at(clock):.3f}",
        "addr": address,
        "user": user,
        "method": method,
        "path": path,
        "status": str(status),
        "digest": digest,
        "body": json.dumps(body) if body else "",
    }
    return json.dumps(told).encode()


def train(begin: str, end: str, user: str, run: str, data: str, address: str) -> list[bytes]:
    tags = [{"key": "mlops.data_version", "value": data}]
    return [
        asked(
            begin,
            user,
            f"{API}/runs/create",
            body={"experiment_id": "3", "tags": tags},
            address=address,
        ),
        asked(
            end,
            user,
            f"{API}/runs/update",
            body={"run_id": run, "status": "FINISHED"},
            address=address,
        ),
    ]


def publish(clock: str, user: str, version: str, run: str, digest: str) -> list[bytes]:
    """What the pipeline does, in its order."""
    registry = "/v2/models/defects/manifests"
    tag = {"name": "defects", "version": version, "key": "mlops.release_digest", "value": digest}
    alias = {"name": "defects", "alias": "champion", "version": version}
    model = {"name": "defects", "run_id": run, "source": f"models:/{run}"}
    return [
        asked(f"{clock}:01", user, f"{API}/model-versions/create", body=model),
        asked(f"{clock}:02", "push", f"{registry}/{digest}", method="PUT", status=201),
        asked(
            f"{clock}:03",
            "push",
            f"{registry}/v{version}",
            method="PUT",
            status=201,
            digest=digest,
        ),
        asked(f"{clock}:04", user, f"{API}/model-versions/set-tag", body=tag),
        asked(f"{clock}:05", user, f"{API}/registered-models/alias", body=alias),
    ]


def gateway_day() -> list[bytes]:
    return [
        asked("07:55:00", "", "/healthz", method="GET"),
        asked("08:00:00", "ada", f"{API}/experiments/search", method="GET"),
        *train("08:01:00", "08:21:00", "ada", "run-a", "data-1", "10.0.0.51"),
        *train("08:05:00", "08:20:00", "ben", "run-b", "data-2", "10.0.0.52"),
        *publish("09:00", "ada", "1", "run-a", ONE),
        asked("09:30:00", "cleo", "/prometheus/api/v1/query", method="GET"),
        asked("09:31:00", "cleo", "/prometheus/api/v1/query", method="GET"),
        # Anybody may say any name where nobody asks for a password.
        asked("09:40:00", "dan", "/healthz", method="GET", address="10.9.9.9"),
        *[asked(f"10:00:0{n}", "eva", "/v2/", method="GET", status=401) for n in range(4)],
        asked("10:01:00", "eva", "/v2/", method="GET"),
        asked("10:05:00", "s3cret-typed-here", "/v2/", method="GET", status=401),
        asked(
            "11:00:00",
            "pull",
            f"/v2/models/defects/manifests/{ONE}",
            method="GET",
            digest=ONE,
            address="10.0.0.21",
        ),
        asked(
            "11:00:01",
            "pull",
            f"/v2/models/defects/manifests/{ONE}",
            method="GET",
            digest=ONE,
            address="10.0.0.21",
        ),
        *publish("14:00", "ben", "2", "run-b", TWO),
        asked(
            "15:30:00",
            "cleo",
            f"{API}/registered-models/alias",
            method="DELETE",
            body={"name": "defects", "alias": "champion"},
        ),
        asked(
            "16:00:00",
            "eva",
            f"{API}/registered-models/delete",
            method="DELETE",
            status=403,
            body={"name": "defects"},
        ),
        b'{"msec":"179',  # torn by a full disk
    ]


def entry(clock: str, rollout_name: str, event: str, **more: Any) -> bytes:
    """A line of a rollout's journal."""
    head = {
        "seq": 1,
        "generation": 1,
        "time": at(clock),
        "rollout": rollout_name,
        "event": event,
    }
    return json.dumps({**head, **more}).encode()


def answered(clock: str, name: str, host: str, step: str, phase: str, served: str) -> bytes:
    answer = {"host": host, "step": step, "reached": True, "phase": phase, "served": served}
    return entry(clock, name, "answered", answers=[answer])


def started(clock: str, name: str, by: str, version: str, digest: str, previous: str) -> bytes:
    plan = {
        "model": "defects",
        "version": version,
        "digest": digest,
        "rings": [
            {"name": "ring_canary", "hosts": ["edge1"]},
            {"name": "ring_fleet", "hosts": ["edge2"]},
        ],
        "devices": {host: {"previous": previous} for host in ("edge1", "edge2")},
    }
    return entry(clock, name, "started", plan=plan, by=by)


def journal() -> list[bytes]:
    return [
        started("11:00:00", "r1", "dan@desk", "1", ONE, ""),
        entry("11:00:00", "r1", "ring_begun", ring="ring_canary", hosts=["edge1"]),
        answered("11:01:00", "r1", "edge1", "activate", "activated", ONE),
        answered("11:05:00", "r1", "edge1", "commit", "committed", ONE),
        entry("11:06:00", "r1", "approved", ring="ring_fleet", by="cleo"),
        answered("11:07:00", "r1", "edge2", "activate", "activated", ONE),
        answered("11:08:00", "r1", "edge2", "commit", "committed", ONE),
        entry("11:08:01", "r1", "finished", outcome="COMPLETED", said="2 devices answer."),
        started("14:30:00", "r2", "root@desk", "2", TWO, ONE),
        answered("14:31:00", "r2", "edge1", "activate", "activated", TWO),
        entry("14:40:00", "r2", "reverting", hosts=["edge1"], outcome="ROLLED_BACK", said="bad"),
        answered("14:41:00", "r2", "edge1", "revert", "reverted", ONE),
        entry("14:41:01", "r2", "finished", outcome="ROLLED_BACK", said="latency"),
    ]


def run(clock: str, phase: str, name: str, by: str, **more: Any) -> bytes:
    told = {
        "id": name,
        "time": f"{DAY}T{clock}Z",
        "phase": phase,
        "by": by,
        "commit": "4f2a" * 10,
        "playbook": "site.yml",
        **more,
    }
    return json.dumps(told).encode()


def site_runs() -> list[bytes]:
    return [
        run("07:00:00", "begun", "one", "eva@desk"),
        run("07:05:00", "ended", "one", "eva@desk", changed={"ctl1": 3, "edge1": 0}),
        run("17:00:00", "begun", "two", "eva@desk"),
        run("17:01:00", "ended", "two", "eva@desk", changed={"ctl1": 1}, failed=["edge2"]),
        run("18:00:00", "begun", "three", "root@desk"),
    ]


JOBS = [
    f"41|ada|vision|train|COMPLETED|{DAY}T08:00:30|{DAY}T08:22:00|cpu=4,gres/gpu=1",
    f"42|ben|vision|sweep|FAILED|{DAY}T12:00:00|{DAY}T12:10:00|cpu=8",
    f"43|ben|vision|sweep|RUNNING|{DAY}T12:30:00|Unknown|cpu=8",
]


def info(host: str, version: str, digest: str) -> hourly.Sample:
    labels = {
        "host": host,
        "model_name": "defects",
        "model_version": version,
        "digest": digest,
        "run_id": "",
    }
    return labels, 1.0


def counted(host: str, client: str, count: float) -> hourly.Sample:
    return {"host": host, "client": client, "outcome": "ok"}, count


def device_day(memory: dict[str, Any]) -> list[Event]:
    now = [info("edge1", "1", ONE), info("edge2", "1", ONE)]
    found = []
    for clock, line, shop in (("12:10", 100, 7), ("12:50", 160, 7), ("13:10", 170, 27)):
        counts = [counted("edge1", "line-7", line), counted("edge2", "shop", shop)]
        found += devices.queries(counts, now, WHO, at(f"{clock}:00"), memory)
    counts = [counted("edge1", "line-7", 170), counted("edge2", "shop", 27)]
    return found + devices.queries(counts, now, WHO, at("14:10:00"), memory)


def of_team(team: str, code: str, count: float, workload: str = "chat") -> hourly.Sample:
    labels = {"host": "ctl1", "team": team, "workload": workload, "code": code}
    return labels, count


def workload_day(memory: dict[str, Any]) -> list[Event]:
    """The exporter of the gateway: a series comes with its first request, all go with a restart."""
    looks = {
        "15:10": [of_team("vision", "200", 900), of_team("platform", "200", 5)],
        "15:40": [
            *(of_team("vision", "200", 950), of_team("vision", "429", 3)),
            *(of_team("none", "401", 4), of_team("platform", "200", 65)),
        ],
        "16:10": [of_team("vision", "200", 10), of_team("speech", "503", 2, "search")],
        "17:10": [],
    }
    found = []
    for clock, counts in looks.items():
        found += workloads.queries(counts, at(f"{clock}:00"), memory)
    return found


def whole_day(who: names.Names = WHO) -> list[Event]:
    """All events, in the order of the sources, as the collector would hide names."""
    found = list(gateway.events(gateway_day(), who, ADDRESSES, "ctl1", {}))
    found = [traced(one) for one in found]
    found += rollout.events(journal(), who, "ctl1", {})
    for content in site_runs():
        found += runs.events(content, who)
    found += slurm.events(JOBS, who, "ctl1", {})
    found += device_day({})
    found += workload_day({})
    return [who.hide(one) for one in found]


def traced(event: Event) -> Event:
    """What the collector reads from the artifact registry about a release."""
    about = {ONE: ("1", "run-a", "data-1"), TWO: ("2", "run-b", "data-2")}
    if event.action != "release.publish":
        return event
    version, run_id, data = about[event.thing.digest]
    thing = event.thing.__class__(event.thing.kind, event.thing.name, version, event.thing.digest)
    details = {**event.details, "run_id": run_id, "data_version": data}
    return event.__class__(**{**event.__dict__, "thing": thing, "details": details})


def lines_of(events: Iterable[Event]) -> list[bytes]:
    return link(events, Head())[0]
