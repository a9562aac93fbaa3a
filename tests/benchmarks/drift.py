# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How soon the model server sees that its inputs have changed, and how often it is wrong.

    python tests/benchmarks/drift.py [--months 12] [--trials 20] [--quick] [--output FILE]

Needs requirements/drift.txt (`make bench-drift` builds its environment). Real data sets that ship
inside scikit-learn, and the model of the sample project on each. Beside it, on the same streams:
ADWIN of river as it comes (delta 0.002), one for each feature, and the data drift of Evidently as
it comes (Kolmogorov-Smirnov at 0.05 for each feature, an alarm if half of them differ), once for
each window. False alarms are counted where nothing has changed: each month has a reference of its
own, 720 windows of 500 requests. A delay is counted in requests from the change to the verdict.

Also what it costs: processor time of a request in the running server with a profile and without,
and memory. Prints tables and writes everything as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import statistics
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ["DO_NOT_TRACK"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from tests.benchmarks import drift_world as world
from tests.benchmarks import serving

DATASETS = ("breast_cancer", "digits", "wine")
DECLARED = (1.0, 0.01)
MOST_REQUESTS = 10 * world.WINDOW
Ask = Callable[[str, int], float]


def population(name: str) -> world.Population:
    """A data set of scikit-learn, as the sample project has it."""
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    side = 8 if name == "digits" else 0
    return world.Population(name, bunch.data.astype(np.float32), bunch.target, side)


def train(rows: Any, labels: Any) -> world.Predict:
    """The model of the sample project."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(rows, labels)
    predict: world.Predict = model.predict_proba
    return predict


def remembered(train: Callable[[Any, Any], world.Predict]) -> Callable[[Any, Any], world.Predict]:
    """Train once for the same rows: streams of one seed differ only in what becomes of them."""
    known: dict[str, world.Predict] = {}

    def once(rows: Any, labels: Any) -> world.Predict:
        key = hashlib.sha256(rows.tobytes() + labels.tobytes()).hexdigest()
        if key not in known:
            known[key] = train(rows, labels)
        return known[key]

    return once


# -- what others find -------------------------------------------------------------------------


class Adwin:
    """One detector for each feature."""

    def __init__(self, features: int) -> None:
        from river.drift import ADWIN

        self.detectors = [ADWIN() for _feature in range(features)]

    def alarms(self, row: Any) -> int:
        """Look at a request; say how many features are found to have changed."""
        found = 0
        for detector, value in zip(self.detectors, row.tolist(), strict=True):
            if value == value:
                detector.update(value)
                found += detector.drift_detected
        return found


def adwin_quiet(known: world.Population, requests: int, seed: int) -> float:
    """False alarms of a month, from so many requests."""
    chance = np.random.default_rng(seed)
    detector = Adwin(known.rows.shape[1])
    found = sum(
        detector.alarms(known.rows[at]) for at in chance.integers(0, len(known.rows), requests)
    )
    return found / requests * world.WINDOW * world.MONTH


def adwin_delay(stream: world.Stream) -> int | None:
    """Requests to the first alarm after the change; it has seen the reference before."""
    detector = Adwin(stream.after.shape[1])
    for row in (*stream.world.reference, *stream.before):
        detector.alarms(row)
    for at, row in enumerate(stream.after, start=1):
        if detector.alarms(row):
            return at
    return None


def evidently(reference: Any, rows: Any) -> tuple[bool, int]:
    """Whether the data set has drifted by Evidently's default, and how many features have."""
    import pandas as pd
    from evidently import Report
    from evidently.metrics import DriftedColumnsCount

    names = [f"f{at}" for at in range(reference.shape[1])]
    # A column without a single other value cannot be tested by it.
    spread = np.nanstd(reference, axis=0) > 0
    names = [name for name, varies in zip(names, spread, strict=True) if varies]
    before = pd.DataFrame(reference[:, spread].astype(float), columns=names)
    now = pd.DataFrame(rows[:, spread].astype(float), columns=names)
    # What the preset asks, without the pictures of each feature: the same count in an eighth of
    # the time (4.9 and 0.6 s of processor time for 64 features).
    said = Report([DriftedColumnsCount()]).run(now, before).dict()
    for metric in said["metrics"]:
        if metric["metric_name"].startswith("DriftedColumnsCount"):
            value = metric["value"]
            return float(value["share"]) >= 0.5, int(value["count"])
    raise SystemExit("Evidently's report has no DriftedColumnsCount.")


def evidently_quiet(known: world.Population, windows: int, seed: int) -> tuple[float, float]:
    """False alarms of a month: of the data set, and of any feature."""
    chance = np.random.default_rng(seed)
    whole = single = 0
    for _window in range(windows):
        reference = known.rows[chance.integers(0, len(known.rows), len(known.rows))]
        found = evidently(reference, known.rows[chance.integers(0, len(known.rows), world.WINDOW)])
        whole += found[0]
        single += found[1] > 0
    return whole / windows * world.MONTH, single / windows * world.MONTH


def evidently_delay(stream: world.Stream, windows: int) -> int | None:
    """Requests to the end of the first window in which half of the features differ."""
    rows = np.concatenate([stream.before, stream.after])
    for window in range(windows):
        part = rows[window * world.WINDOW : (window + 1) * world.WINDOW]
        if evidently(stream.world.reference, part)[0]:
            return (window + 1) * world.WINDOW - len(stream.before)
    return None


# -- tables -----------------------------------------------------------------------------------


def said(delays: list[int | None]) -> str:
    """The median delay, and how often there was none."""
    found = [delay for delay in delays if delay is not None]
    if not found:
        return f"never ({len(delays)})"
    missed = len(delays) - len(found)
    more = f", {missed} of {len(delays)} not" if missed else ""
    return f"{statistics.median(found):.0f}{more}"


def measure_quiet(options: argparse.Namespace) -> list[dict[str, Any]]:
    """False alarms a month."""
    found = []
    print("\nfalse alarms in a month (720 windows of 500 requests), nothing has changed")
    print(f"{'data':14} {'declared':>9} {'found':>8} {'of months':>10}")
    for name in DATASETS:
        known = population(name)
        for declared in DECLARED:
            one = world.quiet(known, train, declared, options.months, seed=11)
            found.append({"data": name, "declared": declared, "per_month": one.per_month})
            print(f"{name:14} {declared:9g} {one.per_month:8.3f} {options.months:10}", flush=True)
        requests = options.adwin_windows * world.WINDOW
        adwin = adwin_quiet(known, requests, 12)
        whole, single = evidently_quiet(known, options.evidently_windows, 13)
        print(f"{name:14} ADWIN {adwin:.1f} (from {options.adwin_windows} windows)")
        print(
            f"{name:14} Evidently {whole:.0f}, any feature {single:.0f} "
            f"(from {options.evidently_windows} windows)",
            flush=True,
        )
        found.append(
            {"data": name, "adwin": adwin, "evidently": whole, "evidently_any_feature": single}
        )
    return found


def measure_delays(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Requests from a change to the verdict."""
    found = []
    head = ("data", "change", "0.01 a month", "1 a month", "ADWIN", "Evidently")
    print("\nrequests from the change to the verdict (median; never: not within 5,000)")
    print(f"{head[0]:14} {head[1]:26} {head[2]:>16} {head[3]:>16} {head[4]:>16} {head[5]:>16}")
    for name in DATASETS:
        known, once = population(name), remembered(train)
        for change in (*world.CHANGES, world.NOVEL):
            if change == world.NOVEL and len(np.unique(known.labels)) < 3:
                continue
            streams = [
                world.changed(known, once, change, MOST_REQUESTS, seed)
                for seed in range(100, 100 + options.trials)
            ]
            ours = {
                declared: [world.delay(stream, declared) for stream in streams]
                for declared in (0.01, 1.0)
            }
            adwin = [adwin_delay(stream) for stream in streams[: options.other_trials]]
            other = [evidently_delay(stream, 3) for stream in streams[: options.evidently_trials]]
            found.append(
                {
                    "data": name,
                    "change": change,
                    "ours": ours[0.01],
                    "ours_at_1": ours[1.0],
                    "adwin": adwin,
                    "evidently": other,
                }
            )
            cells = [said(each) for each in (ours[0.01], ours[1.0], adwin, other)]
            print(f"{name:14} {change:26} " + " ".join(f"{cell:>16}" for cell in cells), flush=True)
    return found


# -- what it costs ----------------------------------------------------------------------------


def cpu_seconds(process: int) -> float:
    """Processor time that a process has taken."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def resident_mib(process: int) -> float:
    """Memory that a process has now."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


PLAIN, AGAIN, WATCHED = "plain", "plain-again", "watched"


@contextlib.contextmanager
def running(profiles_of: dict[str, bytes | None]) -> Iterator[tuple[serving.Server, Ask]]:
    """A server of these models, and a way to ask one so many times: processor seconds it took.

    All models are in one process: two processes differ by more than what is measured here, by where
    the system has put their parts in memory.
    """
    with TemporaryDirectory(prefix="mlops-drift-") as place:
        root = Path(place)
        fixture = serving.FIXTURE
        golden = (fixture / "golden.json").read_bytes()
        for name, profile in profiles_of.items():
            more = {"profile.json": profile} if profile else {}
            serving.put_release(root, name, "1", fixture / "model.onnx", golden, more)
        with serving.serving(root, 512) as server:

            def ask(name: str, count: int) -> float:
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
                before = cpu_seconds(server.process.pid)
                for _request in range(count):
                    connection.request("POST", f"/v2/models/{name}/infer", serving.document(1))
                    answer = connection.getresponse()
                    answer.read()
                    if answer.status != 200:
                        raise SystemExit(f"The server answered {answer.status}.")
                connection.close()
                return cpu_seconds(server.process.pid) - before

            yield server, ask


def in_process(features: int) -> dict[str, float]:
    """Microseconds of a request, milliseconds of a verdict and KiB of a watch."""
    drift, profiles = world.drift, world.profiles
    chance = np.random.default_rng(0)
    rows = chance.normal(size=(2000, features)).astype(np.float32)
    sure = 1 / (1 + np.exp(-rows[:, 0].astype(float)))
    made = profiles.build({"x": rows}, {"p": np.stack([1 - sure, sure], axis=1)})
    tracemalloc.start()
    watch = drift.Watch(made, drift.Settings(1e9, 500), 0.0)
    kib = tracemalloc.get_traced_memory()[0] / 1024
    tracemalloc.stop()
    answer = [np.asarray([[0.3, 0.7]])]
    count = 20_000
    started = time.process_time()
    for at in range(count):
        watch.observe({"x": rows[at % 2000][None]}, ("p",), answer, 0.0)
    each = (time.process_time() - started) / count * 1e6
    started = time.process_time()
    watch.observe({"x": rows[:1]}, ("p",), answer, 2e9)
    verdict = (time.process_time() - started) * 1e3
    if watch.verdict is None:
        raise SystemExit("There is no verdict.")
    return {"features": features, "request_us": each, "verdict_ms": verdict, "watch_kib": kib}


def measure_cost(rounds: int, requests: int) -> dict[str, Any]:
    """Processor time and memory, with and without a profile, in turn; and without, once more."""
    profiles = world.profiles
    rows = np.random.default_rng(0).normal(serving.ROW, 0.5, (1000, 4)).astype(np.float32)
    made = json.dumps(profiles.build({"features": rows}, {}).to_json()).encode()
    names = (PLAIN, WATCHED, AGAIN)
    spent: dict[str, list[float]] = {name: [] for name in names}
    with running({PLAIN: None, WATCHED: made, AGAIN: None}) as (_server, ask):
        for name in names:
            ask(name, 300)
        for number in range(rounds):
            # Whoever is first in one round is last in another.
            for name in names[number % 3 :] + names[: number % 3]:
                spent[name].append(ask(name, requests) / requests * 1e6)
    memory = {}
    for name, profile in ((PLAIN, None), (WATCHED, made)):
        with running({name: profile}) as (server, ask):
            ask(name, 600)
            memory[name] = resident_mib(server.process.pid)
    # Rounds are compared each with itself: the machine is faster in one than in another.
    shares = {
        name: statistics.median(
            one / plain - 1 for one, plain in zip(spent[name], spent[PLAIN], strict=True)
        )
        for name in (WATCHED, AGAIN)
    }
    without, with_it = (statistics.median(spent[key]) for key in (PLAIN, WATCHED))
    many = [in_process(4), in_process(64)]
    found = {
        "request_us_without": without,
        "request_us_with": with_it,
        "share": shares[WATCHED],
        "share_of_nothing": shares[AGAIN],
        "rounds": spent,
        "memory_mib": memory[WATCHED] - memory[PLAIN],
        "in_process": many,
    }
    print("\nwhat it costs: one server, 4 features, processor time of a request, in turn")
    print(
        f"without {without:.0f} us, with {with_it:.0f} us: {found['share']:+.1%} (median of "
        f"{rounds} rounds; the same model without once more {found['share_of_nothing']:+.1%}); "
        f"memory {found['memory_mib']:+.1f} MiB"
    )
    for one in many:
        print(
            f"{one['features']:3} features: {one['request_us']:.1f} us a request "
            f"({one['request_us'] / without:.1%} of it), {one['verdict_ms']:.1f} ms a verdict, "
            f"{one['watch_kib']:.0f} KiB"
        )
    return found


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=12)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="two months, three trials")
    parser.add_argument("--only", choices=("quiet", "delays", "cost"))
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks/drift.json"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.quick:
        options.months, options.trials = 2, 3
    options.other_trials = min(options.trials, 10)
    options.evidently_trials = min(options.trials, 3)
    options.adwin_windows = 72 if options.quick else 720
    options.evidently_windows = 5 if options.quick else 30
    found: dict[str, Any] = {}
    if options.only in (None, "cost"):
        try:
            found["cost"] = measure_cost(3 if options.quick else 21, 500)
        except serving.CannotServe as reason:
            print(f"what it costs was not measured: {reason}")
    if options.only in (None, "quiet"):
        found["quiet"] = measure_quiet(options)
    if options.only in (None, "delays"):
        found["delays"] = measure_delays(options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
