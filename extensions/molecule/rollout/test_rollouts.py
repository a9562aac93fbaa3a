# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rollouts over eight devices, as a person starts them: one after the other, on the same site.

The order matters: each stands on the release that the one before has left. Those marked `soak` come
only with `make soak SOAK=rollout`, and instead of them those marked `quick` in CI.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest

ROOT = Path(__file__).resolve().parents[3]
HERE = ROOT / "extensions" / "molecule" / "rollout"
STATE = HERE / "inventory" / ".state"
TOPOLOGY = tomllib.loads((HERE / "topology.toml").read_text("utf-8"))
SCHEMA = json.loads((ROOT / "docs" / "schema" / "rollout.schema.json").read_text("utf-8"))
CANARY, EARLY = ("rdev1", "rdev2"), ("rdev3", "rdev4")
FLEET = ("rdev5", "rdev6")
PULL = ("rdev7", "rdev8")  # these fetch their orders; no connection of a rollout is made to them
DEVICES = (*CANARY, *EARLY, *FLEET, *PULL)
RINGS = ("ring_canary", "ring_early", "ring_fleet", "ring_pull")
SMALL = {"mlops_models": [{"name": "iris", "project": "iris", "memory_mib": 64}]}
PULL_FIRST = {"rollout_rings": ["ring_pull", "ring_canary", "ring_early", "ring_fleet"]}
VERSIONS = {
    "good": 1,
    "better": 2,
    "worse": 3,
    "slow": 4,
    "large": 5,
    "broken": 6,
    "shifted": 7,
    "stranger": 8,
    "tampered": 9,
    "unloadable": 14,
    "wrong": 15,
    "third": 10,
    "fourth": 11,
    "fifth": 12,
    "seventh": 16,
    "sixth": 13,
}
LONGEST = 600
ASK = (
    "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/release').read().decode())"
)


@cache
def digests() -> dict[str, str]:
    found: dict[str, str] = json.loads((STATE / "published.json").read_text("utf-8"))["digests"]
    return found


@dataclass
class Run:
    """A run of the playbook under way."""

    process: subprocess.Popen[str]
    log: Path

    def wait_for(self, words: str) -> None:
        """Until it has said so."""
        end = time.monotonic() + LONGEST
        while words not in self.log.read_text("utf-8"):
            assert time.monotonic() < end, self.log.read_text("utf-8")[-3000:]
            assert self.process.poll() is None, self.log.read_text("utf-8")[-3000:]
            time.sleep(0.1)

    def kill(self) -> None:
        """As the power of the controller's machine would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> tuple[int, str]:
        """How it ended, and all that it said."""
        code = self.process.wait(LONGEST)
        return code, self.log.read_text("utf-8")


def start(name: str, **more: Any) -> Run:
    values = {"rollout_model": "iris", "rollout_version": VERSIONS[name], **more}
    log = STATE / f"rollout-{name}-{time.monotonic_ns()}.log"
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "playbooks/rollout.yml"]
    command += ["--inventory", str(HERE / "inventory"), "--extra-vars", json.dumps(values)]
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "ANSIBLE_FORCE_COLOR": "false"}
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=stream,
            stderr=stream,
            text=True,
            start_new_session=True,
        )
    return Run(process, log)


def report() -> dict[str, Any]:
    """The last report; what is not as its schema says fails here."""
    pages = sorted((STATE / "rollouts").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    found: dict[str, Any] = json.loads(pages[-1].read_text("utf-8"))
    jsonschema.validate(found, SCHEMA)
    return found


def roll_out(name: str, **more: Any) -> tuple[int, dict[str, Any]]:
    code, said = start(name, **more).end()
    assert code in (0, 10, 11, 12), said[-4000:]
    found = report()
    assert (found["exit_code"], found["digest"]) == (code, digests()[name]), said[-4000:]
    return code, found


def on(host: str, command: str) -> str:
    done = subprocess.run(
        ["ssh", "-F", str(STATE / "ssh" / "config"), host, command],
        check=False,
        capture_output=True,
        text=True,
        timeout=LONGEST,
    )
    assert done.returncode == 0, f"{host}: {done.stderr}"
    return done.stdout


def served(host: str) -> str:
    """What a device says it serves, asked on the device."""
    answer = json.loads(on(host, f'python3 -c "{ASK}"'))
    found = (answer.get("models") or {}).get("iris") or {}
    return str(found.get("digest") or "")


def had(host: str) -> str:
    """All that a device has of releases: what was never staged is not among it."""
    return on(
        host, "ls -R /var/lib/mlops/model_serving/releases; journalctl -u mlops-model-serving"
    )


def all_serve(name: str, hosts: tuple[str, ...] = DEVICES) -> None:
    assert {host: served(host) for host in hosts} == dict.fromkeys(hosts, digests()[name])


def lab(*words: str) -> None:
    command = [sys.executable, "extensions/lab/lab.py", "podman", *words]
    command[3:3] = ["--topology", str(HERE / "topology.toml")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def wait_until(true: Callable[[], bool], what: str, seconds: float = LONGEST) -> None:
    """Until it is so, also where nothing answers in the meantime."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired, ValueError):
            if true():
                return
        assert time.monotonic() < end, f"not after {seconds} s: {what}"
        time.sleep(0.5)


@contextlib.contextmanager
def switched_off(host: str) -> Iterator[None]:
    """Without a device, which serves again afterwards."""
    container = f"mlops-{TOPOLOGY['project']}-{host}"  # a campaign's hosts have another project
    lab("stop", "--time", "10", container)
    try:
        yield
    finally:
        lab("start", container)
    wait_until(lambda: bool(served(host)), f"{host} serves")


def told(host: str) -> dict[str, Any]:
    """What a device that fetches its orders has told the gateway."""
    found: dict[str, Any] = json.loads(
        on("rctl", f"cat /var/lib/mlops/nginx/fleet/state/{host}.json")
    )
    return found


def stands_on(host: str, name: str) -> bool:
    """Whether such a device has told that it is on a release that its channel orders."""
    model = told(host)["models"]["iris"]
    answer = model["answer"]
    found = (model["digest"], answer["served"], answer["phase"])
    return found == (digests()[name], digests()[name], "committed")


def silent_for(host: str, seconds: float) -> bool:
    age = on(
        "rctl",
        f"echo $(($(date +%s) - $(stat -c %Y /var/lib/mlops/nginx/fleet/state/{host}.json)))",
    )
    return float(age) > seconds


JOURNAL = "/var/lib/mlops/rollout/iris/journal.jsonl"
Lines = queue.SimpleQueue[dict[str, Any]]


def journal_lines() -> int:
    return int(on("rctl", f"wc -l < {JOURNAL}"))


@contextlib.contextmanager
def journal_followed() -> Iterator[Lines]:
    """Each line of the journal as it is written."""
    ssh = ["ssh", "-F", str(STATE / "ssh" / "config"), "rctl"]
    process = subprocess.Popen([*ssh, f"tail -n 0 -F {JOURNAL}"], stdout=subprocess.PIPE, text=True)
    lines: Lines = queue.SimpleQueue()

    def follow() -> None:
        for line in process.stdout or ():
            lines.put(json.loads(line))

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield lines
    finally:
        process.kill()
        process.wait()
        thread.join()


def decision(line: dict[str, Any]) -> tuple[Any, ...]:
    """What a line decides, whichever controller wrote it."""
    names = [line.get("hosts") or (), [one["host"] for one in line.get("answers") or ()]]
    return (line["event"], line.get("ring"), line.get("step"), *map(tuple, map(sorted, names)))


def killed_at_each_decision(name: str) -> tuple[list[tuple[Any, ...]], int, int]:
    """Roll out, killed whenever the journal says what it did not say before, and take it up again.

    What was decided, how often the controller was killed for it, and how the last run ended. Lines
    that are written at once are one time. That somebody has taken the rollout over is said by each
    run, and decides nothing.
    """
    known: list[tuple[Any, ...]] = []
    kills = 0
    with journal_followed() as lines:
        while True:
            run = start(name)
            while run.process.poll() is None:
                try:
                    line = lines.get(timeout=0.2)
                except queue.Empty:
                    continue
                if line["event"] != "resumed" and decision(line) not in known:
                    run.kill()
                    kills += 1
                    known.append(decision(line))
                    while not lines.empty():
                        known.append(decision(lines.get()))
                    break
            else:
                return known, kills, run.end()[0]


def test_the_first_release_goes_through_the_same_gates() -> None:
    code, found = roll_out("good")
    assert (code, found["outcome"], found["from"]) == (0, "COMPLETED", "")
    gates = {gate["name"]: gate["verdict"] for gate in found["rings"][0]["gates"]}
    assert gates["answers"] == gates["errors"] == "PASS"
    assert gates["latency:control"] == gates["shift"] == "LEFT_OUT"
    all_serve("good")
    # Devices that fetch their orders were judged by requests that they were ordered to make.
    last = found["rings"][-1]
    assert (last["name"], last["state"]) == ("ring_pull", "passed")
    assert {gate["name"]: gate["verdict"] for gate in last["gates"]}["errors"] == "PASS"
    for host in PULL:
        model = told(host)["models"]["iris"]
        assert model["probes"] >= 250
        assert model["answer"]["phase"] == "committed"


def test_a_good_release_gets_through_with_a_killed_controller_and_a_device_that_is_off() -> None:
    with switched_off("rdev8"):
        wait_until(lambda: silent_for("rdev8", 16), "rdev8 is silent")
        for words in ("2 devices: stage.", "2 looked at beside", "ring_early begins"):
            run = start("better", rollout_deferred_share=0.5)
            run.wait_for(words)
            run.kill()
        all_serve("better", CANARY)
        all_serve("good", (*FLEET, "rdev7"))
        code, found = roll_out("better", rollout_deferred_share=0.5)
        assert (code, found["outcome"], found["deferred"]) == (12, "PARTIAL", ["rdev8"])
        all_serve("better", DEVICES[:-1])
    # It catches up by itself, and the next run of the same command writes that down.
    wait_until(lambda: served("rdev8") == digests()["better"], "rdev8 has caught up")
    wait_until(lambda: told("rdev8")["models"]["iris"]["answer"]["phase"] == "committed", "said")
    code, found = roll_out("better")
    assert (code, found["outcome"], found["deferred"]) == (0, "COMPLETED", [])
    all_serve("better")
    lines = journal_lines()
    assert roll_out("better")[0] == 0
    assert journal_lines() == lines


@pytest.mark.parametrize(
    ("name", "gate"),
    [
        # In the order in which they were signed: a device takes no older one.
        pytest.param("worse", "golden", marks=pytest.mark.soak),
        ("slow", "latency:control"),
        pytest.param("large", "load", marks=pytest.mark.soak),
        pytest.param("broken", "load", marks=pytest.mark.soak),
        ("shifted", "shift"),
        pytest.param("tampered", "signature", marks=pytest.mark.soak),
    ],
)
def test_a_bad_release_is_stopped_in_the_first_ring_and_undone(name: str, gate: str) -> None:
    code, found = roll_out(name, **(SMALL if name == "large" else {}))
    assert (code, found["outcome"]) == (10, "ROLLED_BACK")
    stopped = found["stopped_by"]
    assert (stopped["ring"], stopped["name"], stopped["verdict"]) == ("ring_canary", gate, "FAIL")
    assert ("64 MiB were declared" in stopped["said"]) is (name == "large")
    page = (STATE / "rollouts" / f"rollout-{found['id']}.html").read_text("utf-8")
    assert "What stopped it" in page
    assert [ring["state"] for ring in found["rings"]] == ["failed", *["not begun"] * 3]
    all_serve("better")
    digest = digests()[name].partition(":")[2]
    assert [host for host in (*EARLY, *FLEET, *PULL) if digest in had(host)] == []


@pytest.mark.parametrize(
    ("name", "gate"),
    [("unloadable", "load"), pytest.param("wrong", "golden", marks=pytest.mark.soak)],
)
def test_devices_that_fetch_their_orders_stop_a_bad_release(name: str, gate: str) -> None:
    code, found = roll_out(name, **PULL_FIRST)
    assert (code, found["outcome"]) == (10, "ROLLED_BACK")
    stopped = found["stopped_by"]
    assert (stopped["ring"], stopped["name"], stopped["verdict"]) == ("ring_pull", gate, "FAIL")
    assert [ring["state"] for ring in found["rings"]] == ["failed", *["not begun"] * 3]
    all_serve("better")
    digest = digests()[name].partition(":")[2]
    assert [host for host in (*CANARY, *EARLY, *FLEET) if digest in had(host)] == []
    for host in PULL:
        wait_until(lambda host=host: stands_on(host, "better"), f"{host} says what it is on")  # type: ignore[misc]


SCRAPES = (
    "import time, urllib.request as r; p = r.urlopen('http://127.0.0.1:8429/metrics').read();"
    "v = dict(l.rsplit(' ', 1) for l in p.decode().splitlines() if l[:1] not in ('#', ''));"
    "n = sum(int(v[k]) for k in v if k.startswith('vm_promscrape_scrapes_total'));"
    "print(v['process_start_time_seconds'], time.time(), n)"
)
RECEIVER = (
    "apt-get install -qq -y --no-install-recommends prometheus >/dev/null && "
    "systemctl disable -q --now prometheus && mkdir -p /root/receiver && "
    "echo 'storage: {tsdb: {out_of_order_time_window: 1h}}' > /root/receiver/prometheus.yml && "
    "systemd-run -q --unit=receiver prometheus --config.file=/root/receiver/prometheus.yml "
    "--storage.tsdb.path=/root/receiver/data --web.enable-remote-write-receiver "
    "--web.listen-address=127.0.0.1:9090 --web.route-prefix=/prometheus/"
)


def scraped(host: str) -> tuple[float, float, int]:
    """Since when the sender of a device runs, the time, and how often it has measured till then."""
    start, now, count = on(host, f'python3 -c "{SCRAPES}"').split()
    return float(start), float(now), int(count)


def received(host: str, start: float, end: float) -> int:
    """How many of these have come to Prometheus."""
    # What refuses the connection is measured as well, but not counted by the sender.
    span = int((end - start + 1) * 1000)
    query = f'sum(count_over_time(up{{host="{host}",job!="node"}}[{span}ms] @ {end}))'
    where = f"http://127.0.0.1:9090/prometheus/api/v1/query?query={quote(query, safe='')}"
    code = f"import urllib.request as r; print(r.urlopen('{where}').read().decode())"
    found = json.loads(on("rctl", f'python3 -c "{code}"'))["data"]["result"]
    return int(found[0]["value"][1]) if found else 0


def test_a_device_whose_network_is_cut_loses_nothing_that_it_measured() -> None:
    """Also where its sender, and what takes its samples, are restarted in the meantime."""
    gateway = "10.208.0.10"
    # What was measured before there was a Prometheus waits at the relay.
    on("rctl", RECEIVER)
    wait_until(lambda: received("rdev8", *scraped("rdev8")[:2]) > 0, "samples arrive")
    on("rdev7", f"ip route add blackhole {gateway}")
    try:
        cut = scraped("rdev7")
        wait_until(lambda: scraped("rdev7")[2] > cut[2] + 6, "it measures on")
        before = scraped("rdev7")
        on("rdev7", "systemctl restart mlops-metrics-sender")
        on("rctl", "systemctl restart mlops-metrics-relay")
        wait_until(lambda: scraped("rdev7")[2] > 6, "it measures on after a restart")
    finally:
        on("rdev7", f"ip route del blackhole {gateway}")
    after = scraped("rdev7")
    assert after[0] > before[0]
    for start, end, count in (before, after):
        wait_until(
            lambda start=start, end=end, count=count: received("rdev7", start, end) >= count,  # type: ignore[misc]
            f"{count} measurements have come",
        )
    rows = on("rdev7", "du -sm /var/lib/mlops/metrics_sender; ps -o rss= -C vmagent").split()
    print(f"sender: {rows[0]} MiB of disk, {int(rows[2]) // 1024} MiB of memory")


SHORT = """
import sys, time
from pathlib import Path
sys.path.insert(0, "/opt/mlops/fleet_signer")
from mlops_release.channel.publish import Publisher, Wanted
from mlops_release.channel.renewal import alone, site_of
fleet, keys = Path("/var/lib/mlops/fleet"), Path("/var/lib/mlops/fleet_signer")
with alone(keys):
    one = Publisher(site_of(fleet), fleet, keys, time.time())
    now = one.channels()["ring_pull"]
    one.publish(Wanted(now.ring, now.device_classes, now.models, now.next_poll, 20))
    one.hand_over()
"""


@pytest.mark.soak
def test_an_expired_channel_takes_nothing_from_devices_and_the_timer_heals_it() -> None:
    clock = "/usr/local/bin/timedatectl"
    for host in PULL:  # a container asks no time server, and without one expiry is not judged
        on(host, f"printf '#!/bin/sh\\necho yes\\n' > {clock}; chmod 755 {clock}")
    try:
        on("rctl", "systemctl stop mlops-fleet-renew.timer")
        on("rctl", f"python3 -c '{SHORT}'")
        for host in PULL:
            wait_until(lambda host=host: told(host)["stale"], f"{host} is stale")  # type: ignore[misc]
            assert "has expired" in told(host)["refusal"]
        all_serve("better", PULL)
        # The timer of the control host signs the same orders anew; nobody else has to be there.
        on("rctl", "systemctl start mlops-fleet-renew.service")
        for host in PULL:
            wait_until(lambda host=host: not told(host)["stale"], f"{host} is well")  # type: ignore[misc]
        all_serve("better", PULL)
        page = on("rctl", "cat /var/lib/mlops/fleet_metrics/channels.prom")
        assert "mlops_rollout_channel_renewal_failed 0" in page
        owners = on("rctl", "stat -c '%U %a' /var/lib/mlops/fleet_signer/*.key")
        assert set(owners.splitlines()) == {"mlops-fleet-signer 600"}
    finally:
        on("rctl", "systemctl start mlops-fleet-renew.timer")
        for host in PULL:
            on(host, f"rm -f {clock}")


def playbook(name: str, **values: Any) -> tuple[int, str]:
    command = [str(Path(sys.executable).parent / "ansible-playbook"), f"playbooks/{name}.yml"]
    command += ["--inventory", str(HERE / "inventory"), "--extra-vars", json.dumps(values)]
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "ANSIBLE_FORCE_COLOR": "false"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.soak
def test_a_device_without_a_certificate_is_let_in_by_a_bundle_and_a_person() -> None:
    on(
        "rdev8",
        "systemctl stop mlops-fleet-agent; rm -f /etc/mlops/tls/host.crt /etc/mlops/tls/host.key",
    )
    code, said = playbook("enrol", enrol_device="rdev8")
    assert code == 0, said[-3000:]
    bundle = STATE / "enrol-rdev8.tar"
    assert bundle.stat().st_mode & 0o077 == 0
    command = ["scp", "-q", "-F", str(STATE / "ssh" / "config"), str(bundle), "rdev8:/root/"]
    subprocess.run(command, check=True, timeout=LONGEST)
    run = "systemd-run --unit=enrol --collect -p StandardOutput=file:/root/enrol.out"
    on("rdev8", f"cd /root && tar -xf enrol-rdev8.tar && {run} /root/enrol-rdev8/mlops-enrol")
    wait_until(lambda: "handed in" in on("rdev8", "cat /root/enrol.out"), "asked")
    shown = on("rdev8", "cat /root/enrol.out").partition("of its key: ")[2].split()[0]
    # Without the fingerprint nobody is let in, and what asks is shown.
    code, said = playbook("enrol", enrol_approve="rdev8")
    assert code == 2
    assert f"enrol_fingerprint={shown}" in said, said[-3000:]
    before = told("rdev8")["at"]
    code, said = playbook("enrol", enrol_approve="rdev8", enrol_fingerprint=shown)
    assert code == 0, said[-3000:]
    wait_until(lambda: "is rdev8 now" in on("rdev8", "cat /root/enrol.out"), "let in")
    on("rdev8", "systemctl start mlops-fleet-agent; rm -r /root/enrol*")
    wait_until(lambda: told("rdev8")["at"] > before, "it tells how it is")
    journal = on("rctl", "cat /var/lib/mlops/fleet_enrolment/journal.jsonl").splitlines()
    assert [json.loads(line)["event"] for line in journal][-2:] == ["invited", "issued"]
    code, said = playbook("enrol", enrol_approve="rdev8", enrol_fingerprint=shown)
    assert code == 2
    assert "not invited" in said


@pytest.mark.soak
def test_persons_approve_pause_and_abort_a_rollout_and_take_it_back() -> None:
    """Each ring after the first waits for a person; what one says is done, and by whom is kept."""
    asked = {"rollout_approval": {"ring_early": ["ann", "bob"], "ring_fleet": ["cyd"]}}
    code, found = roll_out("third", **asked)
    assert (code, found["outcome"]) == (11, "PAUSED")
    assert "ring_early (2 devices) waits for the approval of ann or bob" in found["said"]
    all_serve("third", CANARY)
    all_serve("better", (*EARLY, *FLEET, *PULL))
    # Neither the same command again nor somebody else approves.
    assert roll_out("third", **asked)[0] == 11
    code, said = start("third", **asked, rollout_approved_by="eve").end()
    assert code not in (0, 10, 11, 12)
    assert "eve cannot approve the ring ring_early; ann or bob can" in " ".join(said.split())
    all_serve("better", EARLY)

    # Paused while the second ring is under way: the controller that leads it stops as well.
    long = {"rollout_bake_seconds": 40, "rollout_bake_limit_seconds": 120}
    run = start("third", **asked, **long, rollout_approved_by="bob")
    run.wait_for("ring_early begins")
    code, said = start("third", rollout_action="pause").end()
    assert code == 11, said[-3000:]
    code, said = run.end()
    assert code == 11, said[-3000:]
    found = report()
    assert found["outcome"] == "PAUSED"
    assert "paused the rollout" in found["said"]
    assert [(one["ring"], one["person"]) for one in found["approvals"]] == [("ring_early", "bob")]

    # Gone on with, the second ring passes, and the third waits for its own person.
    code, said = start("third", rollout_action="resume").end()
    assert code == 11, said[-3000:]
    assert "ring_fleet (2 devices) waits for the approval of cyd" in report()["said"]
    all_serve("third", (*CANARY, *EARLY))
    all_serve("better", (*FLEET, *PULL))

    # What is committed stays where a rollout is aborted, and goes back where it is taken back.
    code, said = start("third", rollout_action="abort").end()
    assert code == 11, said[-3000:]
    assert report()["outcome"] == "ABORTED"
    all_serve("third", (*CANARY, *EARLY))
    code, said = start("third", rollout_action="rollback").end()
    assert code == 10, said[-3000:]
    assert report()["outcome"] == "ROLLED_BACK"
    all_serve("better")


@pytest.mark.soak
def test_what_a_stranger_signed_is_refused_before_any_device_hears_of_it() -> None:
    code, said = start("stranger").end()
    assert code == 2
    assert "is not known here" in " ".join(said.split())
    digest = digests()["stranger"].partition(":")[2]
    assert [host for host in DEVICES if digest in had(host)] == []


@pytest.mark.soak
def test_a_controller_killed_at_each_decision_is_taken_up_by_the_same_command() -> None:
    known, kills, code = killed_at_each_decision("third")
    assert code == 0
    assert {ring for event, ring, *_more in known if event == "ring_passed"} == set(RINGS)
    # Of each ring, at least when it is told to stage, to activate and to commit.
    assert kills >= 3 * len(RINGS), known
    found = report()
    assert (found["outcome"], found["digest"]) == ("COMPLETED", digests()["third"])
    all_serve("third")


@pytest.mark.soak
def test_a_device_that_is_switched_off_is_deferred_and_caught_up() -> None:
    with switched_off("rdev8"):
        # One that has just been heard of is waited for as long as a ring may bake.
        wait_until(lambda: silent_for("rdev8", 16), "rdev8 is silent")
        code, found = roll_out("fourth", rollout_deferred_share=0.5)
    assert (code, found["outcome"], found["deferred"]) == (12, "PARTIAL", ["rdev8"])
    all_serve("fourth", DEVICES[:-1])
    code, found = roll_out("fourth")
    assert (code, found["deferred"]) == (0, [])
    all_serve("fourth")


@pytest.mark.soak
def test_of_two_controllers_one_leads_and_the_other_says_so() -> None:
    first = start("fifth")
    first.wait_for("2 looked at beside")
    second = start("fifth")
    code, said = first.end()
    assert code == 2
    assert "is led by another controller" in " ".join(said.split())
    code, said = second.end()
    assert code == 0, said[-3000:]
    all_serve("fifth")


@pytest.mark.soak
def test_a_device_without_a_network_goes_back_by_itself_and_its_ring_fails() -> None:
    """It fetches its orders and has switched; then no packet of it reaches the gateway."""
    gateway = "10.208.0.10"
    run = start("seventh", **PULL_FIRST, rollout_bake_seconds=40, rollout_bake_limit_seconds=60)
    run.wait_for("2 looked at beside")
    on("rdev7", f"ip route add blackhole {gateway}")
    try:
        code, said = run.end()
        assert code in (10, 12), said[-3000:]
        found = report()
        assert found["outcome"] in ("ROLLED_BACK", "ROLLED_BACK_PARTIAL"), found["said"]
        assert found["rings"][0]["state"] == "failed"
        wait_until(lambda: served("rdev7") == digests()["fifth"], "rdev7 is back")
    finally:
        on("rdev7", f"ip route del blackhole {gateway}")
    wait_until(lambda: stands_on("rdev7", "fifth"), "it says so")
    all_serve("fifth")


@pytest.mark.soak
def test_devices_that_nobody_speaks_to_after_they_switched_go_back_by_themselves() -> None:
    """Leaves a rollout that nobody has ended."""
    run = start("sixth", rollout_bake_seconds=50, rollout_bake_limit_seconds=60)
    run.wait_for("2 looked at beside")
    run.kill()
    all_serve("sixth", CANARY)
    wait_until(lambda: {served(host) for host in CANARY} == {digests()["fifth"]}, "back")
    all_serve("fifth")


ALONE: dict[str, Any] = {
    "rollout_version": "",
    "rollout_config": {"serving": {"threads": 2}},
}


def configured(host: str) -> dict[str, Any]:
    """How a device serves the model, as its server says."""
    answer = json.loads(on(host, f'python3 -c "{ASK}"'))
    found: dict[str, Any] = answer["models"]["iris"]
    return {**found["settings"], "version": found["model_version"]}


@pytest.mark.quick
def test_a_configuration_alone_is_rolled_out_where_nobody_asks_the_devices_beside() -> None:
    """On three devices: what the first ring is compared with fetches orders, and went back last."""
    few = ("rdev1", *PULL)
    base, before = configured("rdev1"), served("rdev1")
    only = [{"name": "iris", "project": "iris", "targets": list(few)}]
    code, said = start("better", **ALONE, mlops_models=only).end()
    assert code == 0, said[-4000:]
    found = report()
    assert [one["key"] for one in found["changes"]] == ["serving.threads"]
    assert (found["from"], [one["name"] for one in found["rings"]]) == (
        before,
        ["ring_canary", "ring_pull"],
    )
    assert max(host["moved"] for ring in found["rings"] for host in ring["hosts"]) < 1000
    gates = {gate["name"]: gate["verdict"] for gate in found["rings"][0]["gates"]}
    assert gates["errors:control"] == gates["latency:control"] == "PASS"
    for host in few:
        assert configured(host) == {**base, "threads": 2, "version": f"{base['version']}-config.1"}
    all_serve("better", (*EARLY, *FLEET, "rdev2"))


@pytest.mark.soak
def test_a_configuration_reaches_all_and_a_bad_one_comes_back() -> None:
    """Behind the others: it is signed now, and devices then take nothing that was signed before."""
    start("better", rollout_action="abort").end()  # what the one before has left, if it ran
    base, before = configured("rdev1"), served("rdev1")
    code, said = start("better", **{**ALONE, "rollout_config": {"serving": {"threads": 0}}}).end()
    assert code == 2
    assert "rollout_config.serving.threads is '0', wanted a whole number" in " ".join(said.split())
    code, said = start("better", **ALONE).end()
    assert code == 0, said[-4000:]
    found = report()
    assert [one["key"] for one in found["changes"]] == ["serving.threads"]
    assert found["from"] == before
    moved = [host["moved"] for ring in found["rings"] for host in ring["hosts"]]
    assert max(moved) < 1000
    for host in DEVICES:
        assert configured(host) == {**base, "threads": 2, "version": f"{base['version']}-config.1"}
    # A person takes it back: the configuration before it counts again.
    code, said = start("better", rollout_action="rollback").end()
    assert code == 10, said[-4000:]
    assert {served(host) for host in DEVICES} == {before}
    assert configured("rdev1") == base


TREE = (
    "find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /root "
    "-o -path /var/log -o -path /var/cache -o -path /var/lib/apt -o -path /var/lib/systemd "
    "-o -path /var/lib/dpkg "
    # Of services that come and go by themselves, as the one does that tells the time's state.
    "-o -path '/var/tmp/systemd-private-*' \\) -prune -o -printf '%p %m %u %g\\n' | sort"
)
INSTALL = "python3 -IB /root/enrol-rdev8/install.py"
PACKAGED = "nginx prometheus-nginx-exporter victoria-metrics"


@pytest.mark.soak
def test_a_device_that_nobody_reaches_is_installed_and_enrolled_by_a_stick() -> None:
    """Like one of an image with the packages: nothing of the platform is on it before or after."""
    code, output = start("better", **ALONE).end()  # so that its ring is to be on something
    assert code == 0, output[-4000:]
    owners = ["model_serving_sender", "model_serving_agent", "model_serving", "trust"]
    for owner in owners:
        command = [str(Path(sys.executable).parent / "ansible"), "rdev8"]
        command += ["--inventory", str(HERE / "inventory"), "--become"]
        command += ["--module-name", "mlops.onprem.host_remove", "--args", f"role={owner}"]
        subprocess.run(command, cwd=ROOT, check=True, timeout=LONGEST, capture_output=True)
    on("rdev8", "rm -rf /etc/mlops /var/lib/mlops")
    code, said = playbook(
        "enrol", enrol_device="rdev8", enrol_system="debian 13", enrol_machine="x86_64"
    )
    assert code == 0, said[-3000:]
    digest = said.partition("echo '")[2].split()[0]
    bundle = STATE / "enrol-rdev8.tar"
    command = ["scp", "-q", "-F", str(STATE / "ssh" / "config"), str(bundle), "rdev8:/root/"]
    subprocess.run(command, check=True, timeout=LONGEST)
    on("rdev8", f"cd /root && echo '{digest}  enrol-rdev8.tar' | sha256sum -c")
    on("rdev8", "cd /root && tar -xf enrol-rdev8.tar")

    # What is missing is said, and nothing done.
    before = on("rdev8", TREE)
    refused = on("rdev8", f"{INSTALL} 2>&1 || echo ended $?")
    assert "Found no package" in refused
    assert all(name in refused for name in PACKAGED.split())
    assert refused.endswith("ended 1\n")
    assert on("rdev8", TREE) == before

    on(
        "rdev8",
        f"apt-get install -qq -y --no-install-recommends {PACKAGED} >/dev/null 2>&1; "
        f"systemctl disable -q --now {PACKAGED}",
    )
    before = on("rdev8", TREE)
    run = "systemd-run --unit=install --collect -p StandardOutput=file:/root/install.out"
    on("rdev8", f"{run} {INSTALL}")
    wait_until(lambda: "handed in" in on("rdev8", "cat /root/install.out"), "asked")
    shown = on("rdev8", "cat /root/install.out").partition("of its key: ")[2].split()[0]
    code, said = playbook("enrol", enrol_approve="rdev8", enrol_fingerprint=shown)
    assert code == 0, said[-3000:]
    wait_until(lambda: "rdev8 is installed" in on("rdev8", "cat /root/install.out"), "installed")
    again = on("rdev8", INSTALL)
    assert again == "rdev8 is as it has to be.\n"
    # It fetches what its ring is on, by itself.
    wait_until(lambda: served("rdev8") == served("rdev7"), "it serves what its ring does")

    removed = on("rdev8", f"{INSTALL} --remove")
    assert "kept" not in removed
    assert on("rdev8", TREE) == before
    on(
        "rdev8",
        f"{INSTALL} --remove | grep 'Nothing of the platform'",
    )
