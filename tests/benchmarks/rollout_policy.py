# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulate rollouts judged by the real gates, beside what others judge by.

    python tests/benchmarks/rollout_policy.py [--rollouts 10000] [--jobs 2] [--only errors]
                                              [--output build/benchmarks/rollout_policy.json]

Prints, with 10,000 rollouts a cell:

- how often a release that is exactly as bad as is tolerable is failed, however often it is looked
  at (has to stay below alpha), and how often a fixed-sample test that is peeked at fails it;
- how many releases with a defect are caught by a ring of a size, and how many devices have it
  then, beside thresholds in percent of a group (the way of hawkBit) and the peeked test;
- a fleet of 10,000 devices: a healthy release completes, a defect of 5 % is stopped early.

hawkBit's groups have a success condition and an error condition, each a percentage of the devices
of the group; its documentation names no default for the error condition, its REST API one of 100
for the success condition. Here: error above 10 %, and success from 80 % or at 100 %.

Ends with 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / ".collections")]

from ansible_collections.mlops.onprem.plugins.module_utils._rollout.gates import (  # noqa: E402
    REQUESTS,
    GateSettings,
    detectable,
    judge,
    verdict_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.gates.power import (  # noqa: E402
    at_least,
)
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.gates.shift import (  # noqa: E402
    reach,
)
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.shapes import (  # noqa: E402
    FAIL,
    INCONCLUSIVE,
    PASS,
    Look,
    Seen,
)

Random = np.random.Generator
ALPHA = 0.05
FIRST_SEED = 100_003
POLL = 30.0
NO_EXTRAS = {"shift": "not part of this cell", "latency": "not part of this cell"}
# Upper bounds of the server's buckets between which the simulated latencies lie, in seconds.
BOUNDS = (0.005, 0.01, 0.015, 0.02, 0.025, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25)
LABELS = (*map(str, BOUNDS), "+Inf")
SCORES = (*(f"{0.05 * step:g}" for step in range(1, 20)), "+Inf")


# -- the policy ------------------------------------------------------------------------------------


def bake(looks: Iterator[Look], settings: GateSettings) -> tuple[str, int]:
    """Look at a ring until a gate decides, as the controller does; what it said, after how many."""
    memory: dict[str, float] = {}
    number, verdict = 0, INCONCLUSIVE
    for number, look in enumerate(looks, 1):
        gates, memory = judge(look, settings, memory)
        verdict = verdict_of(gates)
        if verdict in (PASS, FAIL):
            return verdict, number
    return verdict, number


@dataclass
class Counters:
    """What a simulated device has counted so far."""

    host: str
    requests: int = 0
    errors: int = 0
    latency: Any = None
    predictions: Any = None

    def seen(self) -> Seen:
        """The same as the gates take it."""
        return Seen(
            self.host,
            "sha256:simulated",
            True,
            self.requests,
            self.errors,
            {} if self.latency is None else dict(zip(LABELS, self.latency.tolist())),
            {} if self.predictions is None else dict(zip(SCORES, self.predictions.tolist())),
        )


def traffic(
    random: Random,
    rates: Sequence[float],
    control: float,
    *,
    looks: int,
    each: int,
    latency: tuple[Any, Any] | None = None,
    predictions: tuple[Any, Any] | None = None,
) -> Iterator[Look]:
    """A ring with an error rate for each device, and a control of as many; more at each look."""
    ring = [Counters(f"new{number}") for number in range(len(rates))]
    old = [Counters(f"old{number}") for number in range(len(rates))]
    for number in range(looks):
        for side, devices in enumerate((ring, old)):
            for device, rate in zip(devices, rates, strict=True):
                device.requests += each
                device.errors += int(random.binomial(each, (rate, control)[side]))
                if latency is not None:
                    more = random.multinomial(each, latency[side])
                    device.latency = more if device.latency is None else device.latency + more
                if predictions is not None:
                    more = random.multinomial(each, predictions[side])
                    old_ = device.predictions
                    device.predictions = more if old_ is None else old_ + more
        yield Look(
            tuple(device.seen() for device in ring),
            tuple(device.seen() for device in old),
            number,
            POLL * (number + 1),
        )


def activated(
    random: Random, failing: Sequence[bool], *, looks: int = 6, each: int = 20
) -> Iterator[Look]:
    """A ring of devices of which some never answer; the others do, one after the other."""
    heard = random.integers(0, 3, len(failing))
    for number in range(looks):
        ring = tuple(
            Seen(f"d{index}", "sha256:simulated", False)
            if bad or heard[index] > number
            else Seen(f"d{index}", "sha256:simulated", True, each * (number + 1))
            for index, bad in enumerate(failing)
        )
        yield Look(ring, (), number, POLL * (number + 1))


# -- what others judge by --------------------------------------------------------------------------


def peeked(counts: Sequence[tuple[int, int]], tolerated: float, alpha: float = ALPHA) -> bool:
    """Whether a binomial test of a fixed sample refuses at any of the looks."""
    return any(at_least(count, total, tolerated) <= alpha for count, total in counts)


def percentage(failed: int, devices: int, error: float, success: float) -> str:
    """A group with thresholds in percent: FAIL above one, PASS from the other, else it stays."""
    if failed > error * devices:
        return FAIL
    return PASS if devices - failed >= success * devices else INCONCLUSIVE


# -- cells -----------------------------------------------------------------------------------------


def spread(random: Random, work: Callable[[Random], dict[str, Any]], count: int) -> list[Any]:
    """So many rollouts of a cell."""
    return [work(random) for _number in range(count)]


def _block(cell: str, seed: int, count: int) -> list[dict[str, Any]]:
    return spread(np.random.default_rng(seed), CELLS[cell], count)


def at_limit_errors(random: Random) -> dict[str, Any]:
    """Every request fails with exactly the tolerable probability; two devices, forty looks."""
    settings = GateSettings.parse({"waive": NO_EXTRAS, "alpha": ALPHA}).over(1)
    kept: list[tuple[int, int]] = []

    def noted() -> Iterator[Look]:
        rates = [settings.error_rate_max] * 2
        for look in traffic(random, rates, settings.error_rate_max, looks=40, each=50):
            kept.append((sum(s.errors for s in look.ring), sum(s.requests for s in look.ring)))
            yield look

    verdict, looks = bake(noted(), settings)
    return {"verdict": verdict, "looks": looks, "peeked": peeked(kept, settings.error_rate_max)}


def at_limit_increase(random: Random) -> dict[str, Any]:
    """The new release fails exactly as much more often as is tolerable; both within the rate."""
    given = {"error_rate_max": 0.08, "error_rate_increase_max": 0.03, "waive": NO_EXTRAS}
    settings = GateSettings.parse({**given, "alpha": ALPHA}).over(1)
    verdict, looks = bake(traffic(random, [0.05] * 2, 0.02, looks=40, each=50), settings)
    return {"verdict": verdict, "looks": looks}


def at_limit_devices(random: Random) -> dict[str, Any]:
    """Devices fail with exactly the tolerable probability, in five rings of 100."""
    given = {"device_failure_rate_max": 0.02, "waive": NO_EXTRAS, "alpha": ALPHA}
    settings = GateSettings.parse(given).over(5)
    tests, verdict = [], PASS
    for _ring in range(5):
        failing = random.random(100) < settings.device_failure_rate_max
        order = np.cumsum(failing)
        tests.append(peeked([(int(order[n]), n + 1) for n in range(4, 100, 5)], 0.02))
        verdict, _looks = bake(activated(random, failing.tolist()), settings)
        if verdict == FAIL:
            break
    return {"verdict": verdict, "peeked": any(tests)}


def _lognormal(middle: float, sigma: float = 0.4) -> Any:
    """Shares of the buckets of latency."""
    upto = [
        0.5 * (1 + math.erf(math.log(bound / middle) / sigma / math.sqrt(2))) for bound in BOUNDS
    ]
    return np.diff([0.0, *upto, 1.0])


def _scores(middle: float, sigma: float = 0.2) -> Any:
    """Shares of the buckets of a score."""
    upto = [
        0.5 * (1 + math.erf((0.05 * step - middle) / sigma / math.sqrt(2))) for step in range(1, 20)
    ]
    return np.diff([0.0, *upto, 1.0])


def at_limit_latency(random: Random) -> dict[str, Any]:
    """Exactly 5 % take longer than the p95 objective; the control is as slow."""
    waive = {"shift": "not part of this cell"}
    given = {"latency_p95_ms": 50, "waive": waive, "alpha": ALPHA}
    settings = GateSettings.parse(given).over(1)
    shares = _lognormal(0.02)
    slow = BOUNDS.index(0.05) + 1
    shares[slow:] *= 0.05 / shares[slow:].sum()
    shares[:slow] *= 0.95 / shares[:slow].sum()
    looks = traffic(random, [0.0] * 2, 0.0, looks=20, each=50, latency=(shares, shares))
    verdict, number = bake(looks, settings)
    return {"verdict": verdict, "looks": number}


def at_limit_shift(random: Random) -> dict[str, Any]:
    """Of two classes one has become more frequent, by exactly the tolerable index."""
    waive = {"latency": "not part of this cell"}
    settings = GateSettings.parse({"waive": waive, "alpha": ALPHA}).over(1)
    more = reach(0.5, settings.psi_max, True)
    shares = [np.array([share, 1 - share, *[0.0] * 18]) for share in (more, 0.5)]
    looks = traffic(random, [0.0] * 2, 0.0, looks=40, each=50, predictions=(shares[0], shares[1]))
    verdict, number = bake(looks, settings)
    return {"verdict": verdict, "looks": number}


def a_good_release(random: Random) -> dict[str, Any]:
    """0.2 % of requests fail, everything else is as before: how often and how soon it passes."""
    settings = GateSettings.parse({"latency_p95_ms": 75, "alpha": ALPHA}).over(5)
    latency, predictions = _lognormal(0.02), _scores(0.5)
    looks = traffic(
        random,
        [0.002] * 2,
        0.002,
        looks=30,
        each=100,
        latency=(latency, latency),
        predictions=(predictions, predictions),
    )
    verdict, number = bake(looks, settings)
    return {"verdict": verdict, "looks": number}


def half_slower(random: Random) -> dict[str, Any]:
    """Answers take half as long again, where a factor of 1.2 is tolerable."""
    waive = {"shift": "not part of this cell"}
    given = {"latency_factor_max": 1.2, "waive": waive, "alpha": ALPHA}
    latency = (_lognormal(0.03), _lognormal(0.02))
    looks = traffic(random, [0.002] * 2, 0.002, looks=30, each=100, latency=latency)
    verdict, number = bake(looks, GateSettings.parse(given).over(5))
    return {"verdict": verdict, "looks": number}


def shifted(random: Random) -> dict[str, Any]:
    """Scores have moved by one standard deviation (an index near 1)."""
    waive = {"latency": "not part of this cell"}
    settings = GateSettings.parse({"waive": waive, "alpha": ALPHA}).over(5)
    shares = (_scores(0.7), _scores(0.5))
    looks = traffic(random, [0.002] * 2, 0.002, looks=30, each=100, predictions=shares)
    verdict, number = bake(looks, settings)
    return {"verdict": verdict, "looks": number}


def one_broken(random: Random) -> dict[str, Any]:
    """One device in a hundred fails half of its requests, the others none: the mean is 0.5 %."""
    settings = GateSettings.parse({"waive": NO_EXTRAS, "alpha": ALPHA}).over(5)
    rates = [0.5] + [0.0] * 99
    verdict, number = bake(traffic(random, rates, 0.0, looks=10, each=10), settings)
    return {"verdict": verdict, "looks": number}


# Releases that keep every threshold: the share that is failed has to stay below alpha.
LIMITS: dict[str, Callable[[Random], dict[str, Any]]] = {
    "errors": at_limit_errors,
    "increase": at_limit_increase,
    "devices": at_limit_devices,
    "latency": at_limit_latency,
    "shift": at_limit_shift,
}
# What has to be decided right.
DECIDED: dict[str, tuple[Callable[[Random], dict[str, Any]], str]] = {
    "good": (a_good_release, PASS),
    "half slower": (half_slower, FAIL),
    "shifted": (shifted, FAIL),
    "one broken": (one_broken, FAIL),
}
CELLS = {**LIMITS, **{name: cell for name, (cell, _wanted) in DECIDED.items()}}


def blocks(work: Callable[[int, int], list[Any]], rollouts: int, jobs: int) -> list[Any]:
    """So many rollouts, the same ones whatever the number of jobs."""
    count = max(1, rollouts // 250)
    sizes = [len(part) for part in np.array_split(np.arange(rollouts), count)]
    seeds = [FIRST_SEED + number for number in range(count)]
    if jobs == 1:
        found = list(map(work, seeds, sizes))
    else:
        with ProcessPoolExecutor(jobs) as pool:
            found = list(pool.map(work, seeds, sizes))
    return [row for block in found for row in block]


def run(cell: str, rollouts: int, jobs: int) -> list[dict[str, Any]]:
    """All rollouts of a cell."""
    return blocks(partial(_block, cell), rollouts, jobs)


@dataclass(frozen=True)
class Share:
    """How many of the rollouts of a cell ended in a verdict."""

    cell: str
    rollouts: int
    passed: float
    failed: float
    looks: float
    peeked: float | None
    seconds: float

    @classmethod
    def of(cls, cell: str, rollouts: int, jobs: int) -> Share:
        started = time.monotonic()
        rows = run(cell, rollouts, jobs)
        peeks = [row["peeked"] for row in rows if "peeked" in row]
        return cls(
            cell,
            len(rows),
            sum(row["verdict"] == PASS for row in rows) / len(rows),
            sum(row["verdict"] == FAIL for row in rows) / len(rows),
            float(np.mean([row.get("looks", 0) for row in rows])),
            sum(peeks) / len(peeks) if peeks else None,
            round(time.monotonic() - started, 1),
        )


# -- devices that fail, ring by ring ---------------------------------------------------------------

POLICIES = ("gates", "gates, 1 % tolerated", "10 % / 80 %", "10 % / 100 %", "peeked test")
TOLERATED = 0.01
SILENT = {"waive": NO_EXTRAS, "silent_seconds": 90, "min_requests": 1}
STRICT = GateSettings.parse(SILENT)
LENIENT = GateSettings.parse({**SILENT, "device_failure_rate_max": TOLERATED})


def ring_verdict(policy: str, random: Random, failing: Any) -> str:
    """What a policy makes of a ring of which some devices fail."""
    devices, failed = len(failing), int(failing.sum())
    if policy == "10 % / 80 %":
        return percentage(failed, devices, 0.1, 0.8)
    if policy == "10 % / 100 %":
        return percentage(failed, devices, 0.1, 1.0)
    if policy == "peeked test":
        order = np.cumsum(failing)
        step = max(1, devices // 20)
        counts = [(int(order[n - 1]), n) for n in range(step, devices + 1, step)]
        return FAIL if peeked(counts, TOLERATED) else PASS
    settings = LENIENT if "tolerated" in policy else STRICT
    return bake(activated(random, failing.tolist()), settings)[0]


@dataclass(frozen=True)
class Caught:
    """Of rings of a size, for a defect and a policy: stopped, and failed by the policy itself."""

    policy: str
    devices: int
    defect: float
    rollouts: int
    stopped: float
    failed: float


def _rings_of(policy: str, devices: int, defect: float, seed: int, count: int) -> list[str]:
    random = np.random.default_rng(seed)
    return [
        ring_verdict(policy, random, random.random(devices) < defect) for _number in range(count)
    ]


def caught(policy: str, devices: int, defect: float, rollouts: int, jobs: int) -> Caught:
    """Rings of a size: how many do not go on to the next one."""
    found = blocks(partial(_rings_of, policy, devices, defect), rollouts, jobs)
    stopped = sum(verdict != PASS for verdict in found) / rollouts
    failed = sum(verdict == FAIL for verdict in found) / rollouts
    return Caught(policy, devices, defect, rollouts, stopped, failed)


FLEET = 10_000
EARLY = 0.02
RINGS = (100, 900, 9000)


@dataclass(frozen=True)
class Fleet:
    """What became of rollouts to a fleet, and how many devices had the release when it stopped."""

    policy: str
    defect: float
    rollouts: int
    completed: float
    stopped: float
    exposed_mean: float
    early: float  # stopped while at most 2 % of the fleet had it


def _fleets_of(policy: str, defect: float, seed: int, count: int) -> list[tuple[bool, int]]:
    random = np.random.default_rng(seed)
    found = []
    for _number in range(count):
        reached, verdict = 0, PASS
        for devices in RINGS:
            reached += devices
            verdict = ring_verdict(policy, random, random.random(devices) < defect)
            if verdict != PASS:
                break
        found.append((verdict == PASS, reached))
    return found


def fleet(policy: str, defect: float, rollouts: int, jobs: int) -> Fleet:
    """Rollouts to 10,000 devices in rings of 1 %, 10 % and the rest."""
    found = blocks(partial(_fleets_of, policy, defect), rollouts, jobs)
    completed = sum(done for done, _reached in found) / rollouts
    exposed = [reached for _done, reached in found]
    early = sum(reached <= EARLY * FLEET for reached in exposed) / rollouts
    return Fleet(policy, defect, rollouts, completed, 1 - completed, float(np.mean(exposed)), early)


# -- the program -----------------------------------------------------------------------------------


def _limits(rollouts: int, jobs: int, names: Sequence[str]) -> list[Share]:
    print(f"Releases exactly at a threshold, {rollouts:,} rollouts each; alpha is {ALPHA:.0%}")
    print(f"  {'threshold':<12} {'failed':>8} {'looks':>6} {'peeked fixed-sample test':>26}")
    found = []
    for name in names:
        share = Share.of(name, rollouts, jobs)
        found.append(share)
        beside = "" if share.peeked is None else f"{share.peeked:.2%}"
        print(f"  {name:<12} {share.failed:>8.2%} {share.looks:>6.1f} {beside:>26}", flush=True)
    return found


def _decided(rollouts: int, jobs: int, names: Sequence[str]) -> list[Share]:
    print(f"\nReleases to decide on, {rollouts:,} rollouts each")
    print(f"  {'release':<12} {'passed':>8} {'failed':>8} {'looks':>6}")
    found = []
    for name in names:
        share = Share.of(name, rollouts, jobs)
        found.append(share)
        print(
            f"  {name:<12} {share.passed:>8.2%} {share.failed:>8.2%} {share.looks:>6.1f}",
            flush=True,
        )
    return found


def _rings(rollouts: int, jobs: int) -> list[Caught]:
    print(f"\nRings with devices that fail: stopped (failed by the policy), {rollouts:,} each")
    print(f"  {'devices':>7} {'defect':>7} " + " ".join(f"{policy:>21}" for policy in POLICIES))
    found = []
    for devices in (3, 10, 30, 100):
        for defect in (0.002, 0.05, 0.2):
            row = [caught(policy, devices, defect, rollouts, jobs) for policy in POLICIES]
            found += row
            cells = " ".join(f"{one.stopped:>11.1%} ({one.failed:>6.1%})" for one in row)
            print(f"  {devices:>7} {defect:>7.1%} {cells}", flush=True)
    return found


def _fleets(rollouts: int, jobs: int) -> list[Fleet]:
    print(f"\nFleets of {FLEET:,} devices in rings of {RINGS}")
    heads = ("policy", "defect", "rollouts", "completed", "have it", "early")
    print("  {:<22} {:>7} {:>8} {:>9} {:>8} {:>7}".format(*heads))
    found = []
    for policy in POLICIES:
        for defect in (0.0, 0.002, 0.05):
            # A ring of thousands takes the gates seconds; one that stops in the first does not.
            slow = policy.startswith("gates") and defect < 0.01
            row = fleet(policy, defect, max(1, rollouts // 1000) if slow else rollouts, jobs)
            found.append(row)
            print(
                f"  {policy:<22} {defect:>7.1%} {row.rollouts:>8,} {row.completed:>9.1%}"
                f" {row.exposed_mean:>8,.0f} {row.early:>7.1%}",
                flush=True,
            )
    return found


def broken(limits: Sequence[Share], decided: Sequence[Share], fleets: Sequence[Fleet]) -> list[str]:
    """The promises that do not hold."""
    found = [f"{one.cell}: {one.failed:.2%} failed" for one in limits if one.failed >= ALPHA]
    for one in decided:
        right = one.passed if DECIDED[one.cell][1] == PASS else one.failed
        if right < 1 - ALPHA:
            found.append(f"{one.cell}: {right:.2%} decided right")
    for row in fleets:
        if row.policy == "gates" and row.defect == 0 and row.completed < 1:
            found.append(f"healthy fleet: {row.completed:.1%} completed")
        # By chance a ring of 100 may have next to none of the 5 % of devices that fail.
        late = row.completed or row.early < 1 - ALPHA or row.exposed_mean > EARLY * FLEET
        if row.policy.startswith("gates") and row.defect == 0.05 and late:
            found.append(f"{row.policy}: {row.exposed_mean:,.0f} devices had a 5 % defect")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rollouts", type=int, default=10_000, help="in each cell")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=[*CELLS, "rings", "fleets"])
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks/rollout_policy.json"))
    said = parser.parse_args()
    wanted = said.only or [*CELLS, "rings", "fleets"]
    settings = GateSettings()
    sizes = (1, 3, 10, 100, 1000)
    for of, unit in (("devices", "devices"), (REQUESTS, "requests")):
        told = ", ".join(f"{size:,}: {detectable(size, settings, of):.1%}" for size in sizes)
        print(f"Smallest defect rate seen with {settings.power:.0%}, by {unit}: {told}")
    limits = _limits(said.rollouts, said.jobs, [name for name in LIMITS if name in wanted])
    decided = _decided(said.rollouts, said.jobs, [name for name in DECIDED if name in wanted])
    rings = _rings(said.rollouts, said.jobs) if "rings" in wanted else []
    fleets = _fleets(said.rollouts, said.jobs) if "fleets" in wanted else []
    wrong = broken(limits, decided, fleets)
    print("\n" + ("\n".join(wrong) if wrong else "Every promise holds."))
    said.output.parent.mkdir(parents=True, exist_ok=True)
    rows = {
        "limits": list(map(asdict, limits)),
        "decided": list(map(asdict, decided)),
        "rings": list(map(asdict, rings)),
        "fleets": list(map(asdict, fleets)),
    }
    said.output.write_text(json.dumps({**rows, "wrong": wrong}, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
