# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The thresholds of the gates as people write them: ``rollout_gates``, parsed once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..._findings.shape import (
    ShapeError,
    each,
    known_keys,
    mapping,
    number,
    optional,
    shown,
    text,
    whole,
)
from ..._findings.shape import field as required

PLACE = "rollout_gates"
# What may be left out by a declared reason. That a device answers and makes no errors may not.
WAIVABLE = ("latency", "shift")
KEYS = (
    "error_rate_max",
    "error_rate_increase_max",
    "latency_p95_ms",
    "latency_p99_ms",
    "latency_factor_max",
    "psi_max",
    "device_failure_rate_max",
    "alpha",
    "power",
    "min_requests",
    "silent_seconds",
    "waive",
    "queries",
)
# So many rings share alpha where nobody says how many there are.
USUAL_RINGS = 5


@dataclass(frozen=True)
class Query:
    """A PromQL gate of the site: one number, within bounds."""

    name: str
    query: str
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True)
class GateSettings:
    """What is tolerable, and how sure a verdict has to be.

    ``alpha`` bounds the probability that a rollout of a release which keeps every threshold is
    failed by its statistical gates, however often they are looked at. Each ring gets an equal part
    of it, and within a ring each test that can fail it (Bonferroni); looks cost nothing, as the
    tests are valid at every look. A PASS needs proof at ``alpha`` itself: a release that is worse
    than a threshold must be taken for better by that threshold's own gate. ``power`` is the
    probability with which the plan wants a defect to be seen.
    """

    error_rate_max: float = 0.02
    error_rate_increase_max: float = 0.02
    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = None
    latency_factor_max: float = 2.0
    psi_max: float = 0.25
    device_failure_rate_max: float = 0.0
    alpha: float = 0.05
    power: float = 0.9
    min_requests: int = 100
    silent_seconds: float = 120.0
    waive: Mapping[str, str] = field(default_factory=dict)
    queries: tuple[Query, ...] = ()
    rings: int = USUAL_RINGS

    @classmethod
    def parse(cls, value: object) -> GateSettings:
        """Read ``rollout_gates``. Raises ShapeError, which reads as a sentence with the place."""
        try:
            return _parsed(value)
        except ShapeError as error:
            raise error.within(PLACE) from None

    def over(self, rings: int) -> GateSettings:
        """The same for a plan of so many rings, which share alpha."""
        return replace(self, rings=max(1, rings))

    @property
    def tests(self) -> tuple[str, ...]:
        """The tests by which a ring can fail by chance; each has an equal part of alpha."""
        found = ["errors", "errors.device", "errors:control"]
        if self.device_failure_rate_max:
            found.append("answers")
        if "latency" not in self.waive:
            found.append("latency:control")
            for name in ("p95", "p99"):
                if getattr(self, f"latency_{name}_ms") is not None:
                    found += [f"latency.{name}", f"latency.{name}.device"]
        if "shift" not in self.waive:
            found.append("shift")
        return tuple(found)

    @property
    def fail_bar(self) -> float:
        """The logarithm of the e-value from which on a test fails a ring."""
        return math.log(self.rings * len(self.tests) / self.alpha)

    @property
    def pass_bar(self) -> float:
        """The logarithm of the e-value from which on a threshold is proved to be kept."""
        return -math.log(self.alpha)


def _known(given: Mapping[str, Any], allowed: Sequence[str]) -> None:
    try:
        known_keys(given, allowed)
    except ShapeError as error:
        wrong = next(key for key in given if key not in allowed)
        close = difflib.get_close_matches(wrong[:64], allowed, 1, 0.6)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ShapeError(error.problem + hint, error.path) from None


def _between(least: float, most: float, what: str) -> Callable[[Any], float]:
    def check(value: object) -> float:
        found = number(value)
        if not least <= found <= most:
            raise ShapeError(f"{what} from {least:g} to {most:g}, but is {shown(value)}")
        return found

    return check


_share = _between(0.0001, 0.5, "must be a share")


def _positive(value: object) -> float:
    found = number(value)
    if not found:
        raise ShapeError("must be above 0")
    return found


def _figure(value: object) -> float:
    """A bound of a query's answer: any finite number, below 0 too."""
    if isinstance(value, (int, float, str)) and str(value).strip().startswith("-"):
        return -number(str(value).strip()[1:])
    return number(value)


def _waived(value: object) -> Mapping[str, str]:
    given = mapping(value)
    _known(given, WAIVABLE)
    return {key: required(given, key, text) for key in given}


def _query(value: object) -> Query:
    given = mapping(value)
    _known(given, ("name", "query", "min", "max"))
    found = Query(
        required(given, "name", text),
        required(given, "query", text),
        optional(given, "min", _figure, None),
        optional(given, "max", _figure, None),
    )
    if found.least is None and found.most is None:
        raise ShapeError("must have min or max, which say what answer is good")
    if found.least is not None and found.most is not None and found.least > found.most:
        raise ShapeError(f"is {found.least:g}, above max ({found.most:g})", "min")
    return found


def _queries(value: object) -> tuple[Query, ...]:
    found = each(value, _query)
    names = [query.name for query in found]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ShapeError(f"{shown(name)} is there twice", f"[{index}].name")
    return found


def _parsed(value: object) -> GateSettings:
    given = mapping({} if value is None else value)
    _known(given, KEYS)
    usual = GateSettings()
    found = GateSettings(
        error_rate_max=optional(given, "error_rate_max", _share, usual.error_rate_max),
        error_rate_increase_max=optional(
            given, "error_rate_increase_max", _share, usual.error_rate_increase_max
        ),
        latency_p95_ms=optional(given, "latency_p95_ms", _positive, None),
        latency_p99_ms=optional(given, "latency_p99_ms", _positive, None),
        latency_factor_max=optional(
            given,
            "latency_factor_max",
            _between(1.05, 100, "must be a factor"),
            usual.latency_factor_max,
        ),
        psi_max=optional(given, "psi_max", _between(0.01, 10, "must be an index"), usual.psi_max),
        device_failure_rate_max=optional(
            given,
            "device_failure_rate_max",
            _between(0.0, 0.5, "must be a share"),
            usual.device_failure_rate_max,
        ),
        alpha=optional(given, "alpha", _share, usual.alpha),
        power=optional(given, "power", _between(0.5, 0.9999, "must be a share"), usual.power),
        min_requests=optional(given, "min_requests", whole, usual.min_requests),
        silent_seconds=optional(given, "silent_seconds", _positive, usual.silent_seconds),
        waive=optional(given, "waive", _waived, {}),
        queries=optional(given, "queries", _queries, ()),
    )
    if (
        found.latency_p95_ms
        and found.latency_p99_ms
        and found.latency_p99_ms < found.latency_p95_ms
    ):
        raise ShapeError(
            f"is {found.latency_p99_ms:g}, below latency_p95_ms ({found.latency_p95_ms:g});"
            " the slowest one in a hundred is never faster than the slowest five",
            "latency_p99_ms",
        )
    return found
