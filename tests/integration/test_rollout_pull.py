# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rollouts to devices that fetch their orders: no connection is made to any of them.

nginx has the configuration of the roles, TLS is mutual and real, and so is the code of the agent,
of the steps on the device, of the modules of the control host and of the turn that carries between
them. Registry and model server are doubles. While the controller waits, the devices poll.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.mlops.onprem.plugins.action import rollout_root, rollout_turn
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.rules import Clock
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import (
    Interrupted,
    RegistryClient,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.agent import (
    Agent,
    Local,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.device import Device
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.fleet import (
    FleetSettings,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.fleet import (
    Gateway as Entrance,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.orders import Order
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.polling import trust_of
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.rollout import Rollouts
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.source import Source
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.store import ReleaseStore
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.evidence import read_metrics
from ansible_collections.mlops.onprem.plugins.modules import (
    fleet_states,
    rollout,
    rollout_channel,
)
from cryptography.hazmat.primitives import serialization

from tests.benchmarks import channel_world as world
from tests.integration import fleet_gateway
from tests.integration.conftest import RunModule
from tests.integration.fleet_gateway import Gateway
from tests.patience import PATIENCE
from tests.unit.plugins.module_utils._release.conftest import (
    MODEL,
    SITE,
    Bench,
    FakeRegistry,
    FakeRing,
    FakeServing,
)
from tests.unit.plugins.module_utils._trust.companies import CLIENT, authority, leaf

RINGS = {"ring_canary": ["edge1"], "ring_early": ["edge2"], "ring_fleet": ["edge3"]}
GOLDEN = json.dumps(
    {"cases": [{"request": {"echo": [0.5, 2.0]}, "expected": {"y": [0.5, 2.0]}}]}
).encode()
GATES = {"waive": {"shift": "clients are doubles"}, "min_requests": 50}
MODULES = {
    "rollout": rollout,
    "rollout_channel": rollout_channel,
    "fleet_states": fleet_states,
}
REQUESTS = 500


@dataclass
class Phone:
    """One device: real agent and real steps, a double of a model server that clients ask."""

    name: str
    bench: Bench
    rollouts: Rollouts
    bad: set[str]
    agent: Agent = field(init=False)
    counted: dict[str, list[int]] = field(default_factory=dict)
    ever: set[str] = field(default_factory=set)
    on: bool = True
    quiet: bool = False  # no client asks it
    probed: int = 0

    @property
    def served(self) -> str:
        return self.bench.serving.digest or ""

    def metrics(self) -> str:
        """Its page; between two looks clients have asked some hundred times."""
        digest = self.served
        if not digest:
            return ""
        count = self.counted.setdefault(digest, [0, 0])
        own, self.probed = self.bench.serving.probes - self.probed, self.bench.serving.probes
        asked = own if self.quiet else REQUESTS
        count[0] += asked
        count[1] += asked // 5 if digest in self.bad else 0
        of = f'model_name="{MODEL}",model_version="{digest[-4:]}"'
        well = count[0] - count[1]
        rows = [
            f'mlops_model_info{{{of},digest="{digest}"}} 1',
            f'mlops_model_requests_total{{{of},outcome="ok"}} {well}',
            f'mlops_model_requests_total{{{of},outcome="error"}} {count[1]}',
            f'mlops_model_request_seconds_bucket{{{of},le="0.1"}} {well}',
            f'mlops_model_request_seconds_bucket{{{of},le="+Inf"}} {well}',
        ]
        return "\n".join(rows) + "\n"

    def poll(self) -> None:
        """Ask once. Time passes faster for the rollout than for nginx, which turns away who asks
        too often; the timer of a device would try again, and so does this."""
        give_up = time.monotonic() + PATIENCE
        while self.on:
            try:
                self.agent.poll()
            except Interrupted as turned_away:
                if "HTTP 429" not in str(turned_away) or time.monotonic() > give_up:
                    raise
                time.sleep(2)  # in which nginx allows for a whole poll again
                continue
            self.ever.add(self.served)
            return


class Turn(rollout_turn.ActionModule):
    """The action, with modules that run in this process."""

    site: Site

    def _execute_module(self, **given: Any) -> dict[str, Any]:
        name = given["module_name"].rpartition(".")[2]
        return self.site.run(name, given["module_args"])


class Site:
    """The control host and the devices."""

    def __init__(
        self,
        place: Path,
        gateway: Gateway,
        run_module: RunModule,
        rings: dict[str, list[str]],
        push: tuple[str, ...],
        trusted: Any = None,
        client: Callable[[str], RegistryClient] | None = None,
    ) -> None:
        self.place, self.gateway, self.run_module = place, gateway, run_module
        self.rings, self.push = rings, push
        self.ring_of = {host: ring for ring, hosts in rings.items() for host in hosts}
        self.then: Callable[[], None] = lambda: None
        self.journals, self.signer = place / "journals", place / "signer"
        for directory in (self.journals, self.signer):
            directory.mkdir()
        self.shift = 0.0
        self.bad: set[str] = set()
        self.registry = FakeRegistry()
        self.trusted = trusted or FakeRing()
        self.client = client or (
            lambda path: RegistryClient("https://registry", path, self.registry, "pull", "secret")
        )
        self.asked: list[str] = []
        self.hostvars: dict[str, dict[str, Any]] = {host: {} for host in self.ring_of}
        self.keys()
        self.phones = {host: self._phone(host) for host in self.ring_of}

    def now(self) -> float:
        return time.time() + self.shift

    def run(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        """Run a module as the action asks for it, with the directories of this test."""
        self.asked.append(f"{name} {args.get('step') or args.get('ask')}")
        if name == "rollout_look":
            return self.look(args)
        places = {
            "rollout": {"metrics": str(self.place / "none/rollout.prom")},
            "rollout_channel": {
                "directory": str(self.gateway.documents),
                "key_directory": str(self.signer),
            },
            "fleet_states": {"directory": str(self.gateway.written / "state")},
        }
        return self.run_module(MODULES[name], **{**args, **places[name]})

    def look(self, args: dict[str, Any]) -> dict[str, Any]:
        """Only devices that are pushed to can be reached."""
        sides: dict[str, Any] = {}
        for side in ("ring", "control"):
            assert {one["name"] for one in args[side]} <= set(self.push)
            sides[side] = [
                asdict(
                    read_metrics(
                        self.phones[one["name"]].metrics(), one["name"], MODEL, one["digest"], 1.0
                    )
                )
                for one in args[side]
            ]
        return {**sides, "queries": {}, "problems": {}}

    def keys(self) -> None:
        """As playbooks/fleet_keys.yml: the online key here, the first root by another one."""
        online = self.run("rollout_channel", {"step": "key", "site": SITE})
        args = {name: one.get("default") for name, one in rollout_root.SPEC.items()}
        key = world.Key.make().private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        args.update(site=SITE, root_keys=[key.decode()], online_keys=[online["public_key"]])
        made = rollout_root.make({**args, "directory": str(self.place)}, int(time.time()), True)
        said = {name: made[name] for name in ("root", "signatures")}
        found = self.run("rollout_channel", {"step": "root", "site": SITE, **said})
        (self.place / "root.json").write_text(found["first_root"]["root"])
        (self.place / "root.json.sig").write_text(found["first_root"]["signatures"])

    def _phone(self, name: str) -> Phone:
        place = self.place / name
        for part in ("state", "releases"):
            (place / part).mkdir(parents=True)
        holder = leaf(self.gateway.ca, [name], purposes=[CLIENT])
        for file, text in (("c", holder.pem), ("k", holder.key), ("ca", self.gateway.ca.pem)):
            (place / file).write_text(text)
        store, ring = ReleaseStore(place / "releases"), self.trusted
        serving = FakeServing(store)
        source = Source("models", self.client, ring, SITE)
        device = Device(
            store, source, serving, keep=3, patience=2.0, metrics=place / "releases.prom"
        )
        bench = Bench(store, self.registry, serving, ring, device)
        rollouts = Rollouts(device, name, lock_file=place / "lock", patience=1.0)
        phone = Phone(name, bench, rollouts, self.bad)
        settings = FleetSettings(
            f"https://localhost:{self.gateway.port}",
            name,
            SITE,
            self.ring_of[name],
            str(place / "ca"),
            str(place / "c"),
            str(place / "k"),
            str(self.place / "root.json"),
            str(place / "state"),
        )
        local = Local(
            lambda: Clock(time.time(), True),
            phone.metrics,
            lambda: 2e9,
        )
        phone.agent = Agent(
            name,
            self.ring_of[name],
            Entrance(settings).contact,
            trust_of(settings),
            rollouts,
            local,
            place / "state",
        )
        return phone

    def publish(self, version: str) -> tuple[str, int]:
        bench = self.phones["edge1"].bench
        digest = bench.publish(version, golden_json=GOLDEN)
        return digest, bench.counter

    def wait(self, seconds: float) -> None:
        """The controller sleeps; the devices do not."""
        self.shift += seconds
        for name, phone in self.phones.items():
            if name not in self.push:
                phone.poll()
        self.then()

    def turn(
        self,
        release: tuple[str, int],
        action: str = "start",
        about: dict[str, Any] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """One run of the action, as tasks/turn.yml has it."""
        digest, counter = release
        limits = {"bake_seconds": 30, "bake_limit_seconds": 3600, "poll_seconds": 10}
        args = {
            "asked": {"model": MODEL, "action": action},
            "limits": {**limits, "gates": GATES, "on_failure": "all"},
            "release": {
                "model_version": digest[-4:],
                "digest": digest,
                "counter": counter,
                "size": 10_000,
            },
            "hosts": list(self.ring_of),
            "fleet": {
                "site": SITE,
                "devices": {
                    host: {"channel": ring, "device_class": ""}
                    for host, ring in self.ring_of.items()
                    if host not in self.push
                },
            },
            "addresses": [
                {"name": host, "serving": "https://x", "metrics": "https://x"}
                for host in self.ring_of
            ],
            "journals": str(self.journals),
            "reports": str(self.place / "reports"),
            **more,
        }
        args["release"] = {**args["release"], **(about or {})}
        task = SimpleNamespace(args=args, check_mode=False, async_val=0, diff=False, action="turn")
        shell = SimpleNamespace(tmpdir=None)
        connection = SimpleNamespace(_shell=shell, has_pipelining=True)
        action_module = Turn(
            cast("Any", task), cast("Any", connection), cast("Any", None), None, None, None
        )
        action_module.site = self
        variables = {"hostvars": self.hostvars, "groups": self.rings}
        result: dict[str, Any] = action_module.run(None, variables)
        return result

    def lead(self, release: tuple[str, int], **more: Any) -> dict[str, Any]:
        """A whole run, with the tasks on those devices that are pushed to."""
        for host in self.push:
            self.hostvars[host]["__rollout_looked"] = {"served": self.phones[host].served}
        done: dict[str, Any] = {}
        for _number in range(30):
            done = self.turn(release, last=done, **more)
            if not done["orders"]:
                return done
            assert set(done["orders"]) <= set(self.push)
            for host, told in done["orders"].items():
                names = Order.__dataclass_fields__
                order = Order(**{name: told[name] for name in names if name in told})
                self.hostvars[host]["__rollout_answer"] = (
                    self.phones[host].rollouts.do(order).to_json()
                )
        raise AssertionError("the run never ends")

    def channel(self, ring: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            (self.gateway.documents / f"channel/{ring}.json").read_bytes()
        )
        return found

    def served(self) -> set[str]:
        return {phone.served for phone in self.phones.values()}


Begin = Callable[..., Site]


@pytest.fixture
def begin(
    tmp_path: Path, run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Begin]:
    try:
        fleet_gateway.program()
    except fleet_gateway.NoNginx as reason:
        pytest.skip(str(reason))
    with fleet_gateway.running(tmp_path / "gateway", authority("Site")) as gateway:

        def make(rings: dict[str, list[str]] | None = None, push: tuple[str, ...] = ()) -> Site:
            found = Site(tmp_path, gateway, run_module, rings or RINGS, push)
            monkeypatch.setattr(rollout, "time", SimpleNamespace(time=found.now))
            monkeypatch.setattr(rollout_turn, "time", SimpleNamespace(sleep=found.wait))
            found.wait(0)
            return found

        yield make


def test_good_releases_reach_every_device_and_a_bad_one_is_taken_back(begin: Begin) -> None:
    site = begin()
    first = site.publish("1")
    done = site.turn(first)
    assert (done["outcome"], done["exit_code"]) == ("COMPLETED", 0), done["report"]
    assert {one["channel"]: one["last"] for one in done["report"]["lockouts"]} == {
        ring: hosts[-1] for ring, hosts in RINGS.items()
    }
    assert "2033-05-18T03:33:20Z (edge3)" in Path(done["page"]).read_text()
    assert site.served() == {first[0]}
    for ring in RINGS:
        channel = site.channel(ring)
        told = channel["models"][0]
        assert (told["step"], told["digest"], channel["next_poll"]) == ("commit", first[0], 300)

    bad = site.publish("2")
    site.bad.add(bad[0])
    done = site.turn(bad)
    assert (done["outcome"], done["exit_code"]) == ("ROLLED_BACK", 10), done["report"]
    assert site.served() == {first[0]}
    assert bad[0] in site.phones["edge1"].ever
    assert all(bad[0] not in site.phones[host].ever for host in ("edge2", "edge3"))
    for ring in RINGS:
        told = site.channel(ring)["models"][0]
        assert (told["step"], told["digest"]) == ("commit", first[0])

    good = site.publish("3")
    done = site.turn(good)
    assert (done["outcome"], done["exit_code"]) == ("COMPLETED", 0), done["report"]
    assert site.served() == {good[0]}
    assert not any(name.startswith(("rollout_look", "rollout_device")) for name in site.asked)


def test_under_a_ring_that_went_back_new_and_late_devices_take_what_the_fleet_is_on(
    begin: Begin,
) -> None:
    site = begin({"ring_canary": ["edge1", "edge2"], "ring_fleet": ["edge3"]})
    late, early = site.phones["edge2"], site.phones["edge1"]
    late.on = False
    limits = {
        "bake_seconds": 30, "bake_limit_seconds": 90, "poll_seconds": 10, "deferred_share": 0.5,
        "gates": GATES, "on_failure": "all",
    }  # fmt: skip
    first = site.publish("1")
    assert site.turn(first, limits=limits)["outcome"] == "PARTIAL"
    bad = site.publish("2")
    site.bad.add(bad[0])
    done = site.turn(bad, limits=limits)
    assert done["outcome"] == "ROLLED_BACK", done["report"]
    told = site.channel("ring_canary")["models"][0]
    assert (told["step"], told["digest"], told["rollback"]) == ("commit", first[0], True)

    late.on = True
    site.ring_of["edge4"] = "ring_canary"
    fresh = site.phones["edge4"] = site._phone("edge4")
    site.wait(0)
    for phone in (late, fresh):
        assert (phone.served, bad[0] in phone.ever) == (first[0], False)
        record = phone.bench.store.record(MODEL)
        assert (record.phase, record.digest) == ("committed", first[0])
    # The one that went back has nothing to do, and its ring can be compared with.
    moved, record = early.bench.device.moved, early.bench.store.record(MODEL)
    assert (record.phase, record.digest) == ("reverted", bad[0])
    state = json.loads((site.gateway.written / "state/edge1.json").read_bytes())["models"][MODEL]
    assert (state["answer"]["phase"], state["answer"]["served"]) == ("committed", first[0])
    site.wait(0)
    assert (early.bench.device.moved, early.bench.store.record(MODEL)) == (moved, record)

    site.rings["ring_canary"].append("edge4")
    site.hostvars["edge4"] = {}
    good = site.publish("3")
    done = site.turn(good)
    assert done["outcome"] == "COMPLETED", done["report"]
    assert site.served() == {good[0]}


def test_without_a_client_a_ring_is_compared_with_devices_that_went_back(begin: Begin) -> None:
    """All that is asked are the golden requests that the channels order, also beside a ring."""
    rings = {"ring_canary": ["edge1"], "ring_fleet": ["edge2"]}
    site = begin(rings)
    limits = {
        "bake_seconds": 30, "bake_limit_seconds": 900, "poll_seconds": 10, "idle_seconds": 60,
        "probe_requests": 300, "gates": GATES, "on_failure": "all",
    }  # fmt: skip
    for phone in site.phones.values():
        phone.quiet = True
    first, bad, good = site.publish("1"), site.publish("2"), site.publish("3")
    assert site.turn(first, limits=limits)["outcome"] == "COMPLETED"
    site.bad.add(bad[0])
    done = site.turn(bad, limits={**limits, "rings": ["ring_fleet", "ring_canary"]})
    assert done["outcome"] == "ROLLED_BACK", done["report"]
    assert bad[0] in site.phones["edge2"].ever
    done = site.turn(good, limits=limits)
    assert done["outcome"] == "COMPLETED", done["report"]
    gates = {gate["name"]: gate["verdict"] for gate in done["report"]["rings"][0]["gates"]}
    assert gates["errors:control"] == gates["latency:control"] == "PASS"


def test_devices_of_both_kinds_in_one_ring(begin: Begin) -> None:
    site = begin({"ring_canary": ["edge1", "edge2"], "ring_fleet": ["edge3"]}, ("edge2",))
    good = site.publish("1")
    done = site.lead(good)
    assert done["outcome"] == "COMPLETED", done["report"]
    assert site.served() == {good[0]}
    bad = site.publish("2")
    site.bad.add(bad[0])
    assert site.lead(bad)["outcome"] == "ROLLED_BACK"
    assert site.served() == {good[0]}
    assert bad[0] in site.phones["edge1"].ever


def test_a_run_that_was_killed_is_taken_up_and_a_late_device_catches_up_by_itself(
    begin: Begin,
) -> None:
    site = begin({"ring_canary": ["edge1"], "ring_fleet": ["edge2", "edge3"]})
    late = site.phones["edge3"]
    late.on = False
    limits = {
        "bake_seconds": 30, "bake_limit_seconds": 90, "poll_seconds": 10, "deferred_share": 0.5,
        "gates": GATES,
    }  # fmt: skip
    good = site.publish("1")
    waits: list[None] = []

    def kill() -> None:
        waits.append(None)
        if len(waits) == 3:
            raise KeyboardInterrupt

    site.then = kill
    with pytest.raises(KeyboardInterrupt):
        site.turn(good, limits=limits)
    done = site.turn(good, limits=limits)
    assert (done["outcome"], done["exit_code"], done["generation"]) == ("PARTIAL", 12, 2)
    assert late.served == ""
    late.on = True
    site.wait(0)
    assert late.served == good[0]
    done = site.turn(good, limits=limits)
    assert done["outcome"] == "COMPLETED", done["report"]


def test_a_device_that_its_operator_locked_is_deferred_and_says_why(begin: Begin) -> None:
    site = begin({"ring_canary": ["edge1"], "ring_fleet": ["edge2", "edge3"]})
    (site.place / "edge3/lock").write_text("The belt runs.")
    done = site.turn(
        site.publish("1"),
        limits={"bake_limit_seconds": 300, "deferred_share": 0.5, "gates": GATES},
    )
    assert done["outcome"] == "PARTIAL", done["report"]
    assert site.phones["edge3"].served == ""
    assert "The belt runs." in done["complained"]["edge3"]
    assert "edge3 (It refused to stage: The device is locked" in done["report"]["said"]


def test_a_pause_takes_the_order_back_and_an_abort_does_not_undo_what_passed(
    begin: Begin,
) -> None:
    site = begin()
    first, second = site.publish("1"), site.publish("2")
    assert site.turn(first)["outcome"] == "COMPLETED"
    said: list[str] = []

    def pause() -> None:
        if site.phones["edge2"].served == second[0] and not said:
            said.append(site.turn(second, "pause")["outcome"])

    site.then = pause
    done = site.turn(second)
    assert (done["outcome"], done["exit_code"], said) == ("PAUSED", 11, ["PAUSED"])
    assert site.channel("ring_early")["models"] == []
    assert site.channel("ring_canary")["models"][0]["step"] == "commit"
    assert site.channel("ring_fleet")["models"][0]["digest"] == first[0]
    done = site.turn(second, "abort")
    assert done["outcome"] == "ABORTED", done["report"]
    served = {name: phone.served for name, phone in site.phones.items()}
    assert served == {"edge1": second[0], "edge2": first[0], "edge3": first[0]}


def test_what_cannot_be_told_by_channel_is_refused_before_anything_begins(begin: Begin) -> None:
    site = begin()
    good = site.publish("1")
    site.ring_of["edge3"] = "ring_early"
    with pytest.raises(AnsibleActionFail, match="is not for edge3, which follow the channel"):
        site.turn(good, hosts=["edge1", "edge2"])
    site.rings = {"ring_canary": ["edge1", "edge2"], "ring_fleet": ["edge3"]}
    with pytest.raises(AnsibleActionFail, match="edge3 of the ring ring_fleet follows"):
        site.turn(good)
    for path in (site.gateway.documents / "root").iterdir():
        path.unlink()
    with pytest.raises(AnsibleActionFail, match="There is no root document"):
        site.turn(good)
    assert not list(site.journals.glob("*/journal.jsonl"))
    assert site.served() == {""}
