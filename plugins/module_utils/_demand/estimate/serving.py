# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replicas of a service from its load: Little's law, Erlang C, or the peak of a trace."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..._findings.shape import ShapeError, each, field, known_keys, mapping, optional, text
from . import fields
from .answer import Estimate, Figure, Need, figure, told
from .model_files import Files

LITTLE_SOURCE = "Little 1961: requests in progress = arrival rate x time in the system"
# At a share r of a server's time the mean wait of an M/M/1 queue is r / (1 - r) service times:
# 2.3 at 0.7, 9 at 0.9. Above it the wait runs away.
UTILISATION = 0.7
ERLANG_SOURCE = "M/M/c queue, Erlang C (Erlang 1917): P(wait > t) = C(c, a) exp(-(c / s - rate) t)"
PEAK_SOURCE = "the busiest window of the trace, by Little's law"
DISPERSION_SOURCE = (
    "index of dispersion of counts (Cox & Lewis 1966): variance / mean is 1 for Poisson arrivals"
)
# One-sided 5 % limit of the normal distribution.
LIMIT_Z = 1.645
# Fewer windows say little about how arrivals are spread.
LEAST_WINDOWS = 20
MOST_SLOTS = 2_000_000
MOST_ARRIVALS = 5_000_000
MOST_TRACE_BYTES = 2**26
MOST_WINDOWS = 10_000_000

SERVING_KEYS = (
    *("rate_per_second", "arrivals", "arrivals_file", "window_seconds", "service_seconds"),
    *("concurrency", "max_utilisation", "waiting", "spare_replicas", "each_replica"),
)


@dataclass(frozen=True)
class Waiting:
    """A promise: at least ``quantile`` of the requests wait at most ``seconds``."""

    seconds: float
    quantile: float


@dataclass(frozen=True)
class Trace:
    """What a trace of arrivals says; ``dispersion`` is None where it is too short to tell."""

    rate: float
    peak: int
    windows: int
    dispersion: float | None
    limit: float

    @property
    def poisson_like(self) -> bool:
        """Whether arrivals come no more in bursts than independent ones would."""
        return self.dispersion is not None and self.dispersion <= self.limit


def _delayed(blocked: float, slots: int, load: float) -> float:
    busy = load / slots
    return blocked / (1 - busy * (1 - blocked))


def slots_for(rate: float, service: float, waiting: Waiting, step: int = 1) -> tuple[int, float]:
    """The fewest slots, in steps of ``step``, that keep the promise; and the share that waits too
    long. Raises ShapeError where it would take more than two million.
    """
    load = rate * service
    if load >= MOST_SLOTS:
        raise ShapeError(f"keeps {told(load)} slots busy, more than {MOST_SLOTS} are not estimated")
    blocked, server = 1.0, 0
    while server < MOST_SLOTS:
        server += 1
        blocked = load * blocked / (server + load * blocked)
        if server % step or load >= server:
            continue
        late = _delayed(blocked, server, load)
        late *= math.exp(-(server / service - rate) * waiting.seconds)
        if late <= 1 - waiting.quantile:
            return server, late
    raise ShapeError(f"needs more than {MOST_SLOTS} slots to keep the promise about waiting")


def look_at_trace(arrivals: Sequence[float], window: float) -> Trace:
    """Mean rate, most arrivals in any window of that length, and how bursty arrivals are.

    The busiest window is found by sliding it over all arrivals. For Poisson arrivals the variance
    of counts in n windows divided by their mean is near 1, and above 1 + 1.645 sqrt(2 / (n - 1))
    in 1 case of 20.
    """
    times = sorted(arrivals)
    if len(times) < 2 or times[-1] <= times[0]:
        raise ShapeError("must have at least two different times")
    span = times[-1] - times[0]
    peak = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= window:
            first += 1
        peak = max(peak, last - first + 1)
    windows = int(min(span // window, MOST_WINDOWS + 1))
    if windows > MOST_WINDOWS:
        raise ShapeError(f"spans more than {MOST_WINDOWS} windows of {window:g} s")
    rate = (len(times) - 1) / span
    if windows < LEAST_WINDOWS:
        return Trace(rate, peak, windows, None, math.inf)
    counts = [0] * windows
    for at in times:
        index = int((at - times[0]) // window)
        if index < windows:
            counts[index] += 1
    spread = statistics.variance(counts) / statistics.fmean(counts)
    return Trace(rate, peak, windows, spread, 1 + LIMIT_Z * math.sqrt(2 / (windows - 1)))


def serving(name: str, data: Mapping[str, Any], files: Files) -> Estimate:
    """Replicas for a load.

    With a rate alone, Little's law: rate x service time requests are in progress; a replica
    takes ``concurrency`` of them and shall be busy at most ``max_utilisation`` of the time. With a
    promise about waiting, the M/M/c queue. With a trace the queue only where arrivals are
    Poisson-like (see `look_at_trace`), else Little's law for the busiest window.
    """
    known_keys(data, SERVING_KEYS)
    service = field(data, "service_seconds", fields.within(1e-6, 1e6))
    concurrency = optional(data, "concurrency", fields.up_to(100_000), 1)
    busy = optional(data, "max_utilisation", fields.within(0.01, 1), UTILISATION)
    spare = optional(data, "spare_replicas", fields.up_to(10_000, 0), 0)
    waiting = optional(data, "waiting", lambda value: _waiting(mapping(value)), None)
    window = optional(data, "window_seconds", fields.within(1e-3, 1e6), 60.0)
    parts: list[Figure] = []
    notes: list[str] = []
    ways = ("rate_per_second", "arrivals", "arrivals_file")
    given = [key for key in ways if data.get(key) is not None]
    if len(given) != 1:
        raise ShapeError(f"must have one of {', '.join(ways)}")
    if given == ["rate_per_second"]:
        rate = peak = field(data, "rate_per_second", fields.within(1e-9, 1e9))
    else:
        trace = _trace(data, given[0], window, files)
        rate, peak = trace.rate, trace.peak / window
        parts.extend(_trace_figures(trace, window))
        if waiting and not trace.poisson_like:
            why = "is too short to tell" if trace.dispersion is None else "comes in bursts"
            notes.append(f"The trace {why}: the peak window is used, and no queue is assumed.")
            waiting = None
        elif waiting:
            notes.append("The trace is Poisson-like: the queue is used, with its mean rate.")
    if waiting:
        slots, late = slots_for(rate, service, waiting, concurrency)
        replicas = slots // concurrency
        load = figure(
            "load",
            f"{told(rate)} / s x {told(service)} s",
            rate * service,
            "erlangs",
            LITTLE_SOURCE,
        )
        late_figure = figure(
            "waiting_longer",
            f"C({slots}, {told(load.value)}) x exp(-({slots} / {told(service)} - {told(rate)})"
            f" x {told(waiting.seconds)})",
            late,
            "of all requests",
            ERLANG_SOURCE,
        )
        formula = f"fewest slots with P(wait > {told(waiting.seconds)} s) <= " + told(
            1 - waiting.quantile
        )
        formula += f": {slots} / {concurrency}"
        parts.extend((load, late_figure))
        source = ERLANG_SOURCE
    else:
        load_value = peak * service
        # A hair less, so that 0.7 x 10 slots carry a load of 7 in spite of rounding.
        replicas = max(1, math.ceil(load_value / (concurrency * busy) - 1e-9))
        if replicas > MOST_SLOTS:
            raise ShapeError(f"needs {told(replicas)} replicas; see the rate and the times")
        formula = f"ceil({told(peak)} / s x {told(service)} s / ({concurrency} x {told(busy)}))"
        source = LITTLE_SOURCE if given == ["rate_per_second"] else PEAK_SOURCE
    if spare:
        formula += f" + {spare} to spare"
    found = figure("replicas", formula, replicas + spare, "replicas", source)
    each_one = optional(data, "each_replica", lambda value: _each(mapping(value)), Need())
    need = Need(
        each_one.cpu_cores,
        each_one.memory_mib,
        each_one.gpu_memory_mib,
        each_one.gpu_count,
        replicas=replicas + spare,
    )
    return Estimate(name, "serving", (found, *parts), need, tuple(notes))


def _waiting(data: Mapping[str, Any]) -> Waiting:
    known_keys(data, ("seconds", "quantile"))
    return Waiting(
        field(data, "seconds", fields.amount), optional(data, "quantile", fields.share, 0.95)
    )


def _each(data: Mapping[str, Any]) -> Need:
    known_keys(data, ("cpu_cores", "memory_mib", "gpu_memory_mib"))
    gpu = optional(data, "gpu_memory_mib", fields.amount, 0.0)
    return Need(
        cpu_cores=optional(data, "cpu_cores", fields.cores, 0.0),
        memory_mib=math.ceil(optional(data, "memory_mib", fields.amount, 0.0)),
        gpu_memory_mib=math.ceil(gpu),
        gpu_count=1 if gpu else 0,
    )


def _trace(data: Mapping[str, Any], key: str, window: float, files: Files) -> Trace:
    if key == "arrivals":
        return field(
            data, key, lambda value: look_at_trace(each(value, fields.within(0, 1e15)), window)
        )
    return field(data, key, lambda value: look_at_trace(_times_of_file(text(value), files), window))


def _times_of_file(path: str, files: Files) -> list[float]:
    """One time in seconds on each line; empty lines do not count."""
    try:
        with files.open(path) as stream:
            raw = stream.read(MOST_TRACE_BYTES + 1)
    except OSError as error:
        raise ShapeError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(raw) > MOST_TRACE_BYTES:
        raise ShapeError(f"{path} has more than {MOST_TRACE_BYTES} bytes")
    times = []
    parse = fields.within(0, 1e15)
    for number, line in enumerate(raw.splitlines(), 1):
        said = line.strip().decode("utf-8", "replace")
        if not said:
            continue
        try:
            times.append(parse(said))
        except ShapeError as error:
            raise ShapeError(f"{path}, line {number}: {error.problem}") from None
    return times


def _trace_figures(trace: Trace, window: float) -> list[Figure]:
    found = [
        figure(
            "peak_rate",
            f"{told(trace.peak)} arrivals / {told(window)} s",
            trace.peak / window,
            "/ s",
            PEAK_SOURCE,
        )
    ]
    if trace.dispersion is not None:
        formula = f"variance / mean of {trace.windows} windows (limit {told(trace.limit)})"
        found.append(figure("dispersion", formula, trace.dispersion, "", DISPERSION_SOURCE))
    return found
