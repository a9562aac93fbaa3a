# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The desk: real files, a real lock, the real gates. One controller leads, whoever was killed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._rollout import keeper as keeping
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.desk import Asked, Desk
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.errors import RolloutError
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.keeper import Keeper
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.shapes import Order

from .fleet import BASE, MODEL, NEW, OLD, RINGS, START, Device

HOSTS = [host for hosts in RINGS.values() for host in hosts]
REQUEST: dict[str, Any] = {
    **BASE,
    "groups": RINGS,
    "devices": {host: {"previous": OLD} for host in HOSTS},
    "gates": {"min_requests": 20, "waive": {"shift": "the test sends no predictions"}},
}


class Site:
    """A control host with a directory of journals, and the devices of a fleet."""

    def __init__(self, place: Path) -> None:
        self.directory, self.metrics = place / "rollout", place / "metrics" / "rollout.prom"
        self.directory.mkdir()
        self.metrics.parent.mkdir()
        self.devices = {host: Device(host) for host in HOSTS}
        self.counts = dict.fromkeys(HOSTS, 0)
        self.errors = dict.fromkeys(HOSTS, 0)
        self.now = START

    @property
    def journal(self) -> Path:
        return self.directory / MODEL / "journal.jsonl"

    def ask(self, ask: str, check: bool = False, **more: Any) -> dict[str, Any]:
        asked = Asked(ask, MODEL, **{"holder": "anna", **more})
        return Desk(self.directory, self.metrics, check).answer(asked, self.now)

    def begin(self, **more: Any) -> dict[str, Any]:
        return self.ask("begin", request={**REQUEST, **more})

    def look(self, watch: dict[str, Any]) -> dict[str, Any]:
        def seen(host: str) -> dict[str, Any]:
            device = self.devices[host]
            self.counts[host] += 200
            if device.ill and device.served == NEW:
                self.errors[host] += 100
            count = self.counts[host]
            return {
                "host": host, "digest": device.served, "answered": True, "requests": count,
                "errors": self.errors[host],
                "latency": {"0.1": count, "+Inf": 0}, "at": self.now,
            }  # fmt: skip

        return {
            "ring": [seen(host) for host in watch["ring"]],
            "control": [seen(host) for host in watch["control"]],
        }

    def lead(self, told: dict[str, Any], most: int = 200) -> dict[str, Any]:
        """Carry out what was decided until the rollout has an outcome."""
        for _turn in range(most):
            if told["outcome"]:
                return told
            answers = []
            for row in told["orders"]:
                order = {name: row[name] for name in row if name not in ("host", "transport")}
                answer = self.devices[row["host"]].obey(Order(**order), self.now)
                answers.append({**vars(answer), "gates": [vars(gate) for gate in answer.gates]})
            self.now += told["wait_seconds"] + 1
            look = self.look(told["watch"]) if told["watch"] else None
            told = self.ask("next", generation=told["generation"], answers=answers, look=look)
        raise AssertionError("the rollout never ends")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_good_release_completes_by_the_real_gates(site: Site) -> None:
    told = site.lead(site.begin())
    assert (told["outcome"], told["exit_code"]) == ("COMPLETED", 0)
    assert told["committed"] == dict.fromkeys(HOSTS, NEW)
    assert told["release"] == NEW
    events = [line["event"] for line in told["journal"]]
    assert (events[0], events[-1]) == ("started", "finished")


def test_a_bad_release_is_stopped_by_the_gate_that_sees_it(site: Site) -> None:
    for host in HOSTS:
        site.devices[host].ill = True
    told = site.lead(site.begin())
    assert (told["outcome"], told["exit_code"]) == ("ROLLED_BACK", 10)
    failed = next(line for line in told["journal"] if line["event"] == "ring_failed")
    assert failed["ring"] == "ring_canary"
    assert {gate["name"] for gate in failed["gates"] if gate["verdict"] == "FAIL"} >= {"errors"}
    assert [host for host in HOSTS if site.devices[host].seen] == ["a1"]


def test_what_was_counted_before_the_ring_is_no_evidence(site: Site) -> None:
    # An old release that was never right: its errors were counted before, on the same page.
    for host in HOSTS:
        site.counts[host], site.errors[host] = 100_000, 50_000
    assert site.lead(site.begin())["outcome"] == "COMPLETED"


def test_min_requests_of_the_plan_is_that_of_the_gates(site: Site) -> None:
    gates = {"waive": {"shift": "the test sends no predictions"}}
    told = site.lead(site.begin(gates=gates, min_requests=1_000_000))
    assert told["outcome"] == "PAUSED"
    assert told["exit_code"] == 11


def test_the_plan_is_told_and_nothing_is_written(site: Site) -> None:
    told = site.ask("plan", request=REQUEST)
    assert told["text"][0] == "Rollout of demo 7 to 6 devices in 3 rings."
    assert [row["hosts"] for row in told["forecast"]] == [1, 2, 3]
    assert 0 < told["forecast"][2]["detectable"] < told["forecast"][0]["detectable"] <= 1
    assert told["changed"] is False
    assert list(site.directory.iterdir()) == []
    # Gates with their thresholds, also those that nobody declared.
    gates = [line for line in told["text"] if line.startswith("Gate ")]
    names = [line.split(": ")[0] for line in gates]
    assert [name.removeprefix("Gate ") for name in names] == [
        "load", "golden", "answers", "errors", "errors:control", "latency", "latency:control",
        "shift",
    ]  # fmt: skip
    assert "less than 2 % of the requests fail, proved by at least 20." in gates[3]
    assert gates[-1] == "Gate shift: left out: the test sends no predictions."
    assert "at most 5 %, all rings and looks together" in told["text"][-1]


def test_check_mode_decides_and_writes_nothing(site: Site) -> None:
    told = site.ask("begin", check=True, request=REQUEST)
    assert told["changed"] is True
    assert [order["host"] for order in told["orders"]] == ["a1"]
    assert list(site.directory.iterdir()) == []
    begun = site.begin()
    content = site.journal.read_bytes()
    assert site.ask("pause", check=True)["changed"] is True
    assert site.ask("next", check=True, generation=begun["generation"])["changed"] is False
    assert site.journal.read_bytes() == content


def test_without_the_role_there_is_no_directory_and_a_sentence(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "none", tmp_path / "m", False)
    with pytest.raises(RolloutError, match="apply the role rollout to this host first"):
        desk.answer(Asked("begin", MODEL, request=REQUEST), START)
    assert desk.answer(Asked("status", MODEL), START)["rollout"] == ""


def test_of_two_controllers_that_begin_one_wins_and_the_other_is_told_who(site: Site) -> None:
    site.begin()
    with pytest.raises(RolloutError) as error:
        site.ask("begin", holder="ben", request=REQUEST)
    assert "has not ended (staging); anna since 1970-01-12 13:46:40 UTC leads it" in str(
        error.value
    )


def test_the_controller_that_was_replaced_is_told_by_whom_and_since_when(site: Site) -> None:
    first = site.begin()
    site.now += 60
    second = site.ask("resume", holder="ben@ci")
    assert second["generation"] == first["generation"] + 1
    with pytest.raises(RolloutError) as error:
        site.ask("next", generation=first["generation"])
    assert "is led by another controller: ben@ci since 1970-01-12 13:47:40 UTC" in str(error.value)
    assert "this one has 1" in str(error.value)
    assert site.lead(second)["outcome"] == "COMPLETED"


@pytest.mark.parametrize("word", ["abort", "rollback"])
def test_who_ends_a_rollout_leads_it(site: Site, word: str) -> None:
    first = site.begin()
    ending = site.ask(word, holder="ben", reason="odd scores")
    with pytest.raises(RolloutError, match="led by another controller: ben"):
        site.ask("next", generation=first["generation"])
    assert site.lead(ending)["outcome"] in ("ABORTED", "ROLLED_BACK")


def test_a_pause_is_seen_by_the_controller_that_leads(site: Site) -> None:
    first = site.begin()
    site.ask("pause", holder="ben", reason="line 2")
    told = site.ask("next", generation=first["generation"])
    assert (told["outcome"], told["orders"]) == ("PAUSED", [])
    assert site.ask("status")["outcome"] == "PAUSED"


def test_the_lock_is_waited_for_and_then_a_sentence(site: Site) -> None:
    site.begin()
    keeper = Keeper(site.directory, MODEL)
    waited: list[float] = []
    with (
        keeper.held(),
        pytest.raises(RolloutError) as error,
        Keeper(site.directory, MODEL).held(1.0, waited.append),
    ):
        pass
    assert "is being written by another controller (anna since" in str(error.value)
    assert sum(waited) == pytest.approx(1.0)
    with keeper.held(0.0):
        pass


def test_generations_rise_also_where_a_controller_died_before_its_first_line(site: Site) -> None:
    site.begin()
    keeper = Keeper(site.directory, MODEL)
    with keeper.held():
        keeper.hold(keeping.Holder(7, "carl", START))
    assert site.ask("resume")["generation"] == 8


def test_a_torn_last_line_is_cut_off_before_the_next_is_written(site: Site) -> None:
    told = site.begin()
    whole = site.journal.read_bytes()
    with site.journal.open("ab") as stream:
        stream.write(b'{"seq":4,"generation":1,"ti')
    assert site.lead(site.ask("resume"))["outcome"] == "COMPLETED"
    assert site.journal.read_bytes().startswith(whole + b'{"seq":4,"generation":2')
    assert told["generation"] == 1


def test_any_other_damage_stops_everything(site: Site) -> None:
    site.begin()
    lines = site.journal.read_bytes().splitlines(keepends=True)
    site.journal.write_bytes(b"".join([lines[0], *lines[2:]]))
    for ask in ("status", "resume"):
        with pytest.raises(RolloutError, match="is damaged in line 2"):
            site.ask(ask)


def test_every_line_is_on_the_disk_before_it_is_answered(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        real(handle)

    monkeypatch.setattr("os.fsync", fsync)
    site.begin()
    # The lock first; then each of the three lines; then the names of the new files.
    assert synced == ["lock", *["journal.jsonl"] * 3, MODEL, "rollout"]


@pytest.mark.parametrize("line", range(1, 30))
def test_killed_while_it_writes_any_line_another_controller_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch, line: int
) -> None:
    real, written = keeping._write, [0]

    def dies(handle: int, data: bytes) -> None:
        if data.startswith(b'{"seq"'):
            written[0] += 1
            if written[0] == line:
                real(handle, data[: len(data) // 2])
                raise KeyboardInterrupt
        real(handle, data)

    monkeypatch.setattr(keeping, "_write", dies)
    with pytest.raises(KeyboardInterrupt):
        site.lead(site.begin())
    monkeypatch.setattr(keeping, "_write", real)
    told = site.ask("status")
    told = site.lead(site.ask("resume") if told["rollout"] else site.begin())
    assert told["outcome"] == "COMPLETED"


def test_prometheus_is_handed_events_rings_gates_and_devices(site: Site) -> None:
    site.lead(site.begin())
    page = site.metrics.read_text()
    assert f'mlops_rollout_devices{{model="{MODEL}",state="committed"}} 6' in page
    assert f'mlops_rollout_events_total{{model="{MODEL}",event="ring_passed"}} 3' in page
    assert f'mlops_rollout_ring{{model="{MODEL}",ring="ring_fleet",state="passed"}} 1' in page
    assert 'gate="errors",verdict="PASS"} 1' in page
    assert 'state="COMPLETED"} 1' in page
    assert stat.S_IMODE(site.metrics.stat().st_mode) == 0o644
    assert page.count("# TYPE mlops_rollout_info") == 1
    other = Asked("begin", "other", holder="anna", request=REQUEST)
    Desk(site.directory, site.metrics, False).answer(other, START)
    both = site.metrics.read_text()
    assert both.count("# TYPE mlops_rollout_info") == 1
    assert 'mlops_rollout_generation{model="other"} 1' in both
    assert 'mlops_rollout_generation{model="demo"} 1' in both


def test_gates_that_cannot_be_read_stop_it_before_it_begins(site: Site) -> None:
    with pytest.raises(RolloutError, match=r"The gates cannot be read: rollout_gates"):
        site.begin(gates={"error_rate": 1})
    assert not site.journal.exists()


@pytest.mark.parametrize(
    ("answers", "look", "sentence"),
    [
        ([{"host": "a1"}], None, r"The answers of the devices cannot be read: answers\[0\]"),
        ([], {"ring": 3}, r"What was seen of the ring cannot be read: look\.ring"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(
    site: Site, answers: list[Any], look: Any, sentence: str
) -> None:
    told = site.begin()
    with pytest.raises(RolloutError, match=sentence):
        site.ask("next", generation=told["generation"], answers=answers, look=look)


def test_a_clock_that_is_set_back_a_little_makes_no_line_earlier_than_the_one_before(
    site: Site,
) -> None:
    told = site.begin()
    site.now -= 20
    times = [line["time"] for line in site.lead(told)["journal"]]
    assert times == sorted(times)
