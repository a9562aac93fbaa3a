# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each gate judges by, in sentences, before anything is rolled out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..._findings.sentence import amount, plain
from .settings import GateSettings, Query

NO_CONTROL = "left out, no device serves the model yet"


def sentences(settings: GateSettings, local: Mapping[str, float], first: bool) -> list[str]:
    """Each gate with its threshold, in the order in which they are judged.

    Args:
        settings: Of the gates over a ring.
        local: Limits of the gates on each device: ``memory_mib``, ``p95_ms`` and ``p99_ms``.
        first: Whether no device serves the model yet, so that there is nothing to compare with.
    """
    gates = [*_on_the_device(local), *_answering(settings, first), *_compared(settings, first)]
    gates += [(f"queries:{query.name}", _bounds(query)) for query in settings.queries]
    return [f"Gate {name}: {said}." for name, said in gates]


def certainty(settings: GateSettings) -> str:
    """How sure the verdicts of a rollout are."""
    return (
        "A release that keeps every threshold is failed with a probability of at most "
        f"{share(settings.alpha)}, all rings and looks together."
    )


def share(value: float) -> str:
    """A share as per cent."""
    return f"{plain(100 * value, 2)} %"


def _on_the_device(local: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    memory = local.get("memory_mib")
    within = f" within {amount(memory, 0)} MiB" if memory else ""
    yield "load", f"the release loads on each device{within}"
    yield "golden", "its golden answers come within its tolerance on each device"


def _answering(settings: GateSettings, first: bool) -> Iterator[tuple[str, str]]:
    failing = (
        share(settings.device_failure_rate_max) if settings.device_failure_rate_max else "none"
    )
    yield (
        "answers",
        f"a device that is silent for {plain(settings.silent_seconds, 1)} s has failed, and "
        f"{failing} of a ring may",
    )
    yield (
        "errors",
        f"less than {share(settings.error_rate_max)} of the requests fail, proved by at least "
        f"{amount(settings.min_requests, 0)}",
    )
    more = f"at most {share(settings.error_rate_increase_max)} more than on the release before"
    yield "errors:control", NO_CONTROL if first else more


def _compared(settings: GateSettings, first: bool) -> Iterator[tuple[str, str]]:
    waived = settings.waive
    slow = f"left out: {waived['latency']}" if "latency" in waived else ""
    yield "latency", slow or _objective(settings)
    factor = (
        "at most 5 % of the requests are slower than the release before times "
        f"{plain(settings.latency_factor_max, 2)}"
    )
    yield "latency:control", slow or (NO_CONTROL if first else factor)
    shifted = f"the predictions' population stability index is at most {plain(settings.psi_max, 3)}"
    reason = f"left out: {waived['shift']}" if "shift" in waived else ""
    yield "shift", reason or (NO_CONTROL if first else shifted)


def _objective(settings: GateSettings) -> str:
    given = {"p95": settings.latency_p95_ms, "p99": settings.latency_p99_ms}
    said = [f"{name} at most {plain(limit, 3)} ms" for name, limit in given.items() if limit]
    return " and ".join(said) or "left out, no objective is declared (latency_p95_ms)"


def _bounds(query: Query) -> str:
    bounds = (("at least", query.least), ("at most", query.most))
    said = [f"{word} {limit:g}" for word, limit in bounds if limit is not None]
    return f"{query.query} is {' and '.join(said)}"
