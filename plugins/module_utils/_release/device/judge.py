# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates that a device judges itself: memory, golden answers and speed, all measured here."""

from __future__ import annotations

import json
import math
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Protocol

from ..release import CONFIG_FILE, GOLDEN_FILE
from .orders import FAIL, LEFT_OUT, MISSING, PASS, Gate

UNIT = "mlops-model-serving.service"
MIB = 2**20
REQUESTS = 40
MOST_REQUESTS = 1000
TOLERANCE = 1e-5


class Gauge(Protocol):
    """Measures the memory of the model server while something is done."""

    def start(self) -> None:
        """Begin to measure."""

    def stop(self) -> int | None:
        """Return by how many bytes the server has grown at most, None if that is not known."""


class ServerGauge:
    """How much the resident memory of the model server grows, at most, above what it was before.

    What is there before holds the server itself, the release that is still served and all other
    models. So what comes on top is what loading the new release takes. The kernel's own mark of
    the peak (``VmHWM``) is used where it can be set back; beside it the memory is looked at fifty
    times a second, which misses shorter peaks. Requests answered meanwhile count with it.
    """

    def __init__(self, unit: str = UNIT, proc: Path = Path("/proc"), every: float = 0.02) -> None:
        self._unit = unit
        self._proc = proc
        self._every = every
        self._place: Path | None = None
        self._before = self._most = 0
        self._marked = False
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def _find(self) -> Path | None:
        """The server's directory in /proc."""
        try:
            done = subprocess.run(
                ["systemctl", "show", "--property", "MainPID", "--value", self._unit],
                check=False,
                capture_output=True,
                text=True,
                timeout=30,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        pid = done.stdout.strip()
        return self._proc / pid if pid.isdigit() and pid != "0" else None

    def _read(self, name: str) -> int:
        place = self._place or self._proc
        try:
            for line in (place / "status").read_text(encoding="ascii").splitlines():
                if line.startswith(name + ":"):
                    return int(line.split()[1]) * 1024
        except (OSError, ValueError):
            pass
        return 0

    def _watch(self) -> None:
        while not self._done.wait(self._every):
            self._most = max(self._most, self._read("VmRSS"))

    def start(self) -> None:
        self._place = self._find()
        if self._place is None:
            return
        try:
            (self._place / "clear_refs").write_text("5", encoding="ascii")
            self._marked = True
        except OSError:
            self._marked = False
        self._before = self._most = self._read("VmRSS")
        self._done.clear()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int | None:
        if self._place is None or self._thread is None:
            return None
        self._done.set()
        self._thread.join()
        self._thread = None
        now = self._read("VmRSS")
        if not self._before or not now:
            return None
        peak = self._read("VmHWM") if self._marked else 0
        return max(self._most, peak, now) - self._before


def memory_gate(growth: int, limits: Mapping[str, float]) -> Gate:
    """Judge what loading took; a release that could not be loaded does not come here."""
    wanted = {"memory_mib": limits["memory_mib"]} if "memory_mib" in limits else {}
    if growth < 0:
        verdict = MISSING if wanted else PASS
        return Gate("load", verdict, "It loads; its memory could not be measured.", {}, wanted)
    mib = round(growth / MIB, 1)
    said = f"Loading it took {mib:g} MiB above what the model server had"
    if not wanted:
        return Gate("load", PASS, f"{said}; no limit is declared.", {"memory_mib": mib})
    ok = mib <= wanted["memory_mib"]
    end = f"at most {wanted['memory_mib']:g} MiB {'are' if ok else 'were'} declared."
    return Gate("load", PASS if ok else FAIL, f"{said}; {end}", {"memory_mib": mib}, wanted)


def failed_load(failure: str) -> tuple[Gate, ...]:
    """The gates of a release that the model server refused: it says which one."""
    if "olden case" in failure or "olden answers" in failure:
        return (
            Gate("load", PASS, "It loads."),
            Gate("golden", FAIL, f"{failure.rstrip('.')}."),
        )
    return (Gate("load", FAIL, f"It cannot be served: {failure.rstrip('.')}."),)


@dataclass(frozen=True)
class Golden:
    """The questions that travel in a release, with the answers that are expected."""

    cases: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    tolerance: float = TOLERANCE


def read_golden(place: Path) -> Golden:
    """Read them as the model server does. Raises OSError, ValueError, TypeError, KeyError."""
    config = json.loads((place / CONFIG_FILE).read_bytes())
    value = json.loads((place / GOLDEN_FILE).read_bytes())
    cases = [case for case in value["cases"] if isinstance(case["request"], dict)]
    tolerance = config.get("tolerance", TOLERANCE) if isinstance(config, dict) else TOLERANCE
    return Golden(cases, float(tolerance))


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [one for part in value for one in _flat(part)]
    return [value]


def _no_number(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def gap(found: Any, wanted: Any) -> float:
    """Say how far an answer is from the one expected, as the model server does.

    Numbers with a fraction: the difference, divided by the expected number where that is above 1.
    Everything else is equal or infinitely far away; null stands for what is no number.
    """
    ours, theirs = _flat(found), _flat(wanted)
    if len(ours) != len(theirs):
        return math.inf
    worst = 0.0
    for one, other in zip(ours, theirs):
        nothing = [value is None or _no_number(value) for value in (one, other)]
        if any(nothing):
            worst = max(worst, 0.0 if all(nothing) else math.inf)
        elif isinstance(one, float) and isinstance(other, (int, float)):
            far = abs(one - other) / max(1.0, abs(other)) if one != other else 0.0
            worst = max(worst, math.inf if math.isnan(far) else far)
        elif one != other:
            return math.inf
    return worst


def far(answer: Any, expected: Mapping[str, Any]) -> float:
    """The largest gap of an answer of the protocol."""
    outputs = answer.get("outputs") if isinstance(answer, dict) else None
    named = {one.get("name"): one.get("data") for one in outputs or [] if isinstance(one, dict)}
    return max((gap(named.get(name), value) for name, value in expected.items()), default=0.0)


@dataclass(frozen=True)
class Asked:
    """What came of asking a number of golden questions."""

    seconds: tuple[float, ...] = ()
    worst: float = 0.0
    wrong: int = 0
    failure: str = ""


Ask = Callable[[Any], tuple[int, Any]]
"""Asks the model server of the device one question: the HTTP status and what came."""


def ask(
    golden: Golden, number: int, one: Ask, clock: Callable[[], float] = time.monotonic
) -> Asked:
    """Ask so many golden questions, one after the other, and look at the clock each time."""
    seconds, worst, wrong = [], 0.0, 0
    for turn in range(number):
        case = golden.cases[turn % len(golden.cases)]
        began = clock()
        status, answer = one(case["request"])
        seconds.append(clock() - began)
        if status != 200:
            said = answer.get("error") if isinstance(answer, dict) else ""
            return Asked(failure=str(said or f"the model server answered HTTP {status}"))
        this = far(answer, case.get("expected") or {})
        worst = max(worst, this)
        wrong += not this <= golden.tolerance
    return Asked(tuple(seconds), worst, wrong)


def golden_gate(asked: Asked, tolerance: float) -> Gate:
    """Judge the answers."""
    if asked.failure:
        said = f"A golden request was not answered: {asked.failure.rstrip('.')}."
        return Gate("golden", FAIL, said)
    number = len(asked.seconds)
    found = {"requests": float(number), "wrong": float(asked.wrong)}
    if math.isfinite(asked.worst):
        found["gap"] = asked.worst
    wanted = {"wrong": 0.0, "gap": tolerance}
    if asked.wrong:
        how = f"{asked.worst:.3g}" if "gap" in found else "in kind"
        said = f"{asked.wrong} of {number} golden answers are other ones (by up to {how};"
        return Gate("golden", FAIL, f"{said} at most {tolerance:g} is accepted).", found, wanted)
    said = f"{number} golden answers are those of the trainer within {tolerance:g}."
    return Gate("golden", PASS, said, found, wanted)


def quantile(seconds: Sequence[float], share: float) -> float:
    """The smallest of the times that this share of them does not exceed (nearest rank)."""
    ordered = sorted(seconds)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def speeds(seconds: Sequence[float]) -> dict[str, float]:
    """The times that are compared with limits, in milliseconds."""
    return {
        "p95_ms": round(quantile(seconds, 0.95) * 1000, 3),
        "p99_ms": round(quantile(seconds, 0.99) * 1000, 3),
    }


def speed_gate(tries: Sequence[Sequence[float]], limits: Mapping[str, float]) -> Gate:
    """Judge the times of the answers; the best of the tries counts.

    A device is busy with other things now and then, and a slow release is slow each time.
    """
    wanted = {name: limits[name] for name in ("p95_ms", "p99_ms") if name in limits}
    rows = [speeds(seconds) for seconds in tries]
    found = min(rows, key=lambda row: max((row[name] / wanted[name] for name in wanted), default=0))
    number = {"requests": float(len(tries[0])), "tries": float(len(tries))}
    shown = f"95 % of {len(tries[0])} golden requests took {found['p95_ms']:g} ms at most"
    if not wanted:
        return Gate("speed", LEFT_OUT, f"{shown}; no limit is declared.", {**found, **number})
    slow = [name for name in wanted if found[name] > wanted[name]]
    if slow:
        name = slow[0]
        said = (
            f"The {name.partition('_')[0]} of {len(tries[0])} golden requests is {found[name]:g} "
            f"ms, in the better of {len(tries)} tries; at most {wanted[name]:g} ms are wanted."
        )
        return Gate("speed", FAIL, said, {**found, **number}, wanted)
    return Gate("speed", PASS, f"{shown}, which is within the limit.", {**found, **number}, wanted)


def too_slow(seconds: Sequence[float], limits: Mapping[str, float]) -> bool:
    """Whether it is worth another try."""
    return speed_gate([seconds], limits).verdict == FAIL


def judge(place: Path, limits: Mapping[str, float], one: Ask) -> tuple[Gate, ...]:
    """Ask the golden questions of a release that is served, and judge answers and times."""
    try:
        golden = read_golden(place)
    except (OSError, ValueError, TypeError, KeyError) as error:
        return (Gate("golden", FAIL, f"The golden answers cannot be read: {error}."),)
    if not golden.cases:
        said = "The release has no golden answers."
        return tuple(Gate(name, LEFT_OUT, said) for name in ("golden", "speed"))
    wanted = int(limits.get("golden_requests", 0)) or REQUESTS
    number = min(max(wanted, len(golden.cases)), MOST_REQUESTS)
    # The first answers of a fresh model are slower; they are judged, their times are not.
    first = ask(golden, min(len(golden.cases), number), one)
    if first.failure or first.wrong:
        return (golden_gate(first, golden.tolerance),)
    asked = ask(golden, number, one)
    gate = golden_gate(asked, golden.tolerance)
    if gate.verdict == FAIL:
        return (gate,)
    tries = [asked.seconds]
    if too_slow(asked.seconds, limits):
        again = ask(golden, number, one)
        tries += [again.seconds] if again.seconds else []
    return (gate, speed_gate(tries, limits))
