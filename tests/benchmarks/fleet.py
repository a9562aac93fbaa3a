# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout to ten thousand devices that fetch their orders, and what it costs the control host.

The gateway is nginx with the configuration of the roles. The devices are coroutines in processes of
their own, each with its own certificate; some are switched off. A release that fails every tenth
request is rolled out first, then a good one. What counts is the CPU time of nginx and of the part
of the controller that signs, collects and judges: publishing by the code of the channel documents,
collecting by that of the module fleet_states, judging by the gates.

Idle polls, and all devices coming back at the same moment, are measured apart.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".collections"))
sys.path.insert(0, str(ROOT))

from ansible_collections.mlops.onprem.plugins.module_utils._rollout.gates import (  # noqa: E402
    GateSettings,
    judge,
    verdict_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.shapes import (  # noqa: E402
    LEFT_OUT,
    PASS,
    Look,
)
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.states import (  # noqa: E402
    Collected,
    collect,
)
from ansible_collections.mlops.onprem.plugins.modules.fleet_states import read_all  # noqa: E402

from tests.benchmarks import channel_world as world  # noqa: E402
from tests.benchmarks.fleet_agents import OLD, fleet_process  # noqa: E402
from tests.integration import fleet_gateway  # noqa: E402
from tests.integration.fleet_gateway import Gateway  # noqa: E402
from tests.unit.plugins.module_utils._trust.companies import CLIENT, authority, leaf  # noqa: E402

RINGS = {
    "ring_canary": 0.01,
    "ring_early": 0.04,
    "ring_third": 0.15,
    "ring_fourth": 0.3,
    "ring_fleet": 0.5,
}
MODEL = "defects"
BAD, GOOD = "sha256:" + "b" * 64, "sha256:" + "a" * 64
DEFECT = 0.1
CPU_MS, MEMORY_MIB = 6.0, 512.0
# An idle poll costs the same whoever makes it: these rings are enough.
IDLE = ("ring_canary", "ring_early", "ring_third")
# So many devices come in a second, whatever the size of their ring.
COME_PER_SECOND = 200
CONTROL_DEVICES = 100
LEAST_DEVICES = 90
# A small ring bakes longer, until it has answered about as much as a large one.
RING_REQUESTS = 40_000
TICK = os.sysconf("SC_CLK_TCK")
LOOK_SECONDS = 0.5
SETTINGS = GateSettings.parse({"waive": {"shift": "no traffic of its own"}})


@dataclass
class Used:
    """What a part of the run took of the control host: seconds of CPU."""

    nginx: float = 0.0
    controller: float = 0.0
    counted: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def row(self, devices: int) -> dict[str, Any]:
        """The same for one device, in ms."""
        return {
            "nginx_cpu_ms_per_device": round(1000 * self.nginx / devices, 3),
            "controller_cpu_ms_per_device": round(1000 * self.controller / devices, 3),
            "cpu_ms_per_device": round(1000 * (self.nginx + self.controller) / devices, 3),
            "contacts_per_device": round(self.counted["contacts"] / devices, 3),
            "seconds": round(self.seconds, 1),
            "counted": dict(sorted(self.counted.items())),
        }


def workers(master: int) -> list[int]:
    """nginx and its workers."""
    found = [master]
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == master:
            found.append(int(path.parent.name))
    return found


def cpu_of(pids: Sequence[int]) -> float:
    """Seconds of CPU that processes have used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def memory_of(pids: Sequence[int]) -> float:
    """MiB that processes have now; of a page that several share each has its part (PSS)."""
    kib = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                kib += int(line.split()[1])
    return kib / 1024


def watch_memory(pipe: Any, pids: Sequence[int]) -> None:
    """A process of its own: until it is told to end, look often; then tell the most."""
    most = memory_of(pids)
    while not pipe.poll(LOOK_SECONDS):
        most = max(most, memory_of(pids))
    pipe.recv()
    pipe.send(most)


class Devices:
    """All devices, in their processes."""

    def __init__(
        self, gateway: Gateway, names: Mapping[str, str], processes: int, scale: float, root: Any
    ) -> None:
        place = gateway.place / "devices"
        place.mkdir()
        (gateway.place / "ca.pem").write_text(gateway.ca.pem)
        rows = []
        sizes = Counter(names.values())
        for number, (name, ring) in enumerate(names.items()):
            holder = leaf(gateway.ca, [name], purposes=[CLIENT])
            (place / f"{name}.pem").write_text(holder.pem + holder.key)
            # From several addresses, as one has no more than 28,000 ports.
            address = f"127.0.1.{1 + number % 200}"
            asked = max(100, RING_REQUESTS // sizes[ring])
            rows.append((name, ring, str(place / f"{name}.pem"), address, asked))
        spawn = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for number in range(processes):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(
                target=fleet_process,
                args=(
                    theirs,
                    rows[number::processes],
                    gateway.port,
                    str(gateway.place / "ca.pem"),
                    (root.data, root.signatures),
                    {BAD: DEFECT},
                    scale,
                ),
            )
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def poll(self, rings: Sequence[str], spread: float) -> dict[str, Any]:
        """Have the devices of some rings poll once, and wait until all have."""
        for pipe in self._pipes:
            pipe.send({"rings": list(rings), "spread": spread})
        said = [pipe.recv() for pipe in self._pipes]
        together: dict[str, Any] = {"seconds": max(one["seconds"] for one in said)}
        for name in ("counted", "ever", "served"):
            total: Counter[str] = Counter()
            for one in said:
                total.update(one[name])
            together[name] = total
        return together

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join(30)


class Bench:
    """One site: gateway, devices, keys of the channel and the part of the controller."""

    def __init__(self, place: Path, agents: int, offline: float, processes: int, scale: float):
        self.root_key, self.online = world.Key.make(), world.Key.make()
        self.rings = self._rings(agents)
        self.hosts = [host for hosts in self.rings.values() for host in hosts]
        self.off = set(self.hosts[20 :: round(1 / offline)] if offline else ())
        self.root = world.signed(
            world.root(1, [self.root_key], [self.online]).to_bytes(), [self.root_key]
        )
        self._context = fleet_gateway.running(place, authority("Site"))
        self.gateway = self._context.__enter__()
        names = {
            host: ring
            for ring, hosts in self.rings.items()
            for host in hosts
            if host not in self.off
        }
        self.devices = Devices(self.gateway, names, processes, scale, self.root)
        self.online_in = Counter(names.values())
        self.pids = workers(self.gateway.pid)
        spawn = multiprocessing.get_context("spawn")
        self._memory, theirs = spawn.Pipe()
        self._watch = spawn.Process(target=watch_memory, args=(theirs, [*self.pids, os.getpid()]))
        self._watch.start()
        self.sequence = 0
        self.handed_out = 0

    @staticmethod
    def _rings(agents: int) -> dict[str, list[str]]:
        found, taken = {}, 0
        for number, (ring, share) in enumerate(RINGS.items(), start=1):
            last = number == len(RINGS)
            size = agents - taken if last else max(2, round(agents * share))
            found[ring] = [f"edge{taken + one:05d}" for one in range(size)]
            taken += size
        return found

    def memory(self) -> float:
        """The most MiB that nginx and the controller had together at any look."""
        self._memory.send(None)
        most = float(self._memory.recv())
        self._watch.join(30)
        return most

    def close(self) -> None:
        """Take everything away."""
        self._watch.terminate()
        self.devices.close()
        self._context.__exit__(None, None, None)

    # -- the controller ---------------------------------------------------------------------

    def order(self, ring: str, step: str, rollout: str, digest: str, counter: int) -> None:
        """Publish one order to one ring."""
        self.sequence += 1
        target = world.target(
            step=step, rollout=rollout, digest=digest, counter=counter, deadline=900.0
        )
        channel = world.channel(self.sequence, target, ring=ring, next_poll=15)
        signed = world.signed(channel.to_bytes(), [self.online])
        self.gateway.publish(f"channel/{ring}.json.sig", signed.signatures)
        self.gateway.publish(f"channel/{ring}.json", signed.data)

    def collected(self, hosts: Sequence[str], step: str, rollout: str, digest: str) -> Collected:
        """What these devices have told."""
        states = read_all(self.gateway.written / "state", hosts)
        return collect(states, hosts, MODEL, rollout, 1, digest, step)

    def judged(self, ring: str, rollout: str, digest: str) -> tuple[str, dict[str, str], Collected]:
        """What the gates say of a ring beside devices that have the release before.

        With the sentences of those that did not pass: they are why a rollout ended there.
        """
        told = self.collected(self.rings[ring], "activate", rollout, digest)
        seen = self.collected(self.rings[ring], "look", rollout, digest).seen
        order = list(self.rings)
        later = [host for name in order[order.index(ring) + 1 :] for host in self.rings[name]]
        control = self.collected(later[:CONTROL_DEVICES], "look", rollout, OLD).seen
        gates, _memory = judge(Look(seen, control, 0, 60.0), SETTINGS, {})
        why = {one.name: one.said for one in gates if one.verdict not in (PASS, LEFT_OUT)}
        return verdict_of(gates), why, told

    # -- measuring --------------------------------------------------------------------------

    def _spent(self, used: Used, work: Any) -> Any:
        """Do something and add what it took."""
        nginx, own = cpu_of(self.pids), time.process_time()
        result = work()
        used.nginx += cpu_of(self.pids) - nginx
        used.controller += time.process_time() - own
        return result

    def poll(self, used: Used, rings: Sequence[str], spread: float | None = None) -> dict[str, Any]:
        """One poll of the devices of some rings; of all without one."""
        online = sum(self.online_in[ring] for ring in rings or self.rings)
        over = online / COME_PER_SECOND if spread is None else spread
        said: dict[str, Any] = self._spent(used, lambda: self.devices.poll(rings, over))
        sys.stderr.write(f"{online} devices polled in {said['seconds']:.0f} s\n")
        used.counted.update(said["counted"])
        used.seconds += said["seconds"]
        self.handed_out += said["counted"]["handed out"]
        return said

    def rollout(self, name: str, digest: str, counter: int) -> dict[str, Any]:
        """Bring a release to ring after ring, as long as the gates pass; else undo it."""
        used = Used()
        reached: list[str] = []
        verdicts: dict[str, str] = {}
        deferred: list[str] = []
        said: dict[str, Any] = {}
        why: dict[str, str] = {}
        for ring in self.rings:
            self._spent(used, lambda r=ring: self.order(r, "activate", name, digest, counter))
            self.poll(used, [ring])
            verdict, why, told = self._spent(used, lambda r=ring: self.judged(r, name, digest))
            verdicts[ring] = verdict
            reached += [host for host in self.rings[ring] if host not in told.silent]
            deferred += told.silent
            step = "commit" if verdict == "PASS" and not told.waiting else "revert"
            self._spent(used, lambda r=ring, s=step: self.order(r, s, name, digest, counter))
            said = self.poll(used, [ring])
            ended = self._spent(
                used, lambda r=ring, s=step: self.collected(self.rings[r], s, name, digest)
            )
            assert not ended.waiting, ended.waiting[:5]
            if step == "revert":
                break
        return {
            "verdicts": verdicts,
            "why": why,
            "completed": len(verdicts) == len(self.rings) and set(verdicts.values()) == {"PASS"},
            "devices": len(reached),
            "share_exposed": round(said["ever"].get(digest, 0) / len(self.hosts), 4),
            "serving": said["served"].get(digest, 0),
            "deferred": len(deferred),
            **used.row(len(reached)),
        }

    def apart(self, rings: Sequence[str] = (), spread: float | None = None) -> dict[str, Any]:
        """One poll of the devices of some rings, or of all, where nothing has changed."""
        used = Used()
        self.poll(used, rings, spread)
        return used.row(sum(self.online_in[ring] for ring in rings or self.rings))


def handed_out(gateway: Gateway) -> int:
    """How many documents the log of the gateway says were handed out."""
    return sum(
        len(path.read_text().splitlines()) for path in (gateway.written / "log").glob("*.log")
    )


def measure(
    place: Path, agents: int, offline: float = 0.02, processes: int = 2, scale: float = 1.0
) -> dict[str, Any]:
    """The whole run."""
    bench = Bench(place, agents, offline, processes, scale)
    try:
        # A site that stands: every ring has a document, every device has told how it is.
        for ring in bench.rings:
            bench.order(ring, "revert", "nothing-begun", OLD, 3)
        bench.apart()
        bad = bench.rollout("defects-8", BAD, 8)
        good = bench.rollout("defects-9", GOOD, 9)
        idle = bench.apart(IDLE)
        herd = bench.apart(spread=0.0)
        return {
            "agents": agents,
            "offline": len(bench.off),
            "rings": {ring: len(hosts) for ring, hosts in bench.rings.items()},
            "bad": bad,
            "good": good,
            "idle_poll": idle,
            "herd": herd,
            "memory_mib": round(bench.memory(), 1),
            "handed_out": handed_out(bench.gateway),
            "handed_out_by_devices": bench.handed_out,
        }
    finally:
        bench.close()


def problems(report: dict[str, Any]) -> list[str]:
    """What is not as it has to be."""
    said = []
    good, bad, online = report["good"], report["bad"], report["agents"] - report["offline"]
    if not good["completed"] or good["serving"] != online:
        said.append(f"the good release is served by {good['serving']} devices of {online}")
    if bad["completed"] or bad["serving"]:
        said.append(f"the bad release is served by {bad['serving']} devices")
    if bad["share_exposed"] > 0.05:
        said.append(f"{bad['share_exposed']:.1%} of the devices had the bad release")
    if report["handed_out"] != report["handed_out_by_devices"]:
        said.append(
            f"the log has {report['handed_out']} documents that were handed out, the devices have "
            f"had {report['handed_out_by_devices']}"
        )
    for name in ("bad", "good", "idle_poll", "herd"):
        lost = report[name]["counted"].get("lost", 0)
        if lost:
            said.append(f"{name}: {lost} devices never came through")
    return said


def too_much(report: dict[str, Any]) -> list[str]:
    """What takes more of the control host than it may."""
    said = []
    for name in ("bad", "good"):
        found = report[name]["cpu_ms_per_device"]
        # To publish and to judge costs the same for one device as for a hundred.
        if found > CPU_MS and report[name]["devices"] >= LEAST_DEVICES:
            said.append(f"{name}: {found} ms of CPU for each device, wanted {CPU_MS}")
    if report["memory_mib"] > MEMORY_MIB:
        said.append(f"{report['memory_mib']} MiB of memory, wanted {MEMORY_MIB}")
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 where something is not as it has to be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=10000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", default="build/benchmarks/fleet.json")
    options = parser.parse_args(arguments)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        fleet_gateway.program()
    except fleet_gateway.NoNginx as reason:
        sys.stderr.write(f"{reason}\n")
        return 1
    with tempfile.TemporaryDirectory(prefix="mlops-fleet-") as place:
        report = measure(Path(place), options.agents, processes=options.processes)
    text = json.dumps(report, indent=2)
    Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    Path(options.output).write_text(text + "\n")
    sys.stdout.write(text + "\n")
    said = [*problems(report), *too_much(report)]
    for sentence in said:
        sys.stderr.write(f"{sentence}\n")
    return 1 if said else 0


if __name__ == "__main__":
    raise SystemExit(main())
