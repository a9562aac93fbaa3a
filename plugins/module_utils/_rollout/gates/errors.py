# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that failed: against what is tolerable, and against the release before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..shapes import FAIL, INCONCLUSIVE, LEFT_OUT, MISSING, PASS, Gate, Look, Seen
from . import evalues
from .answers import some
from .settings import GateSettings

# A device that fails more than this share of what it is asked is broken by itself, however good
# the ring is as a whole. A ring passes when each of its devices is proved not to be.
BROKEN = 0.5
NO_CONTROL = "Left out: no device serves the release before, so there is nothing to compare with."


def by_device(
    counts: Sequence[tuple[str, int, int]], share: float, threshold: float
) -> tuple[float, str, list[str]]:
    """Evidence that a device is above a share, the most suspicious one, and those not cleared.

    The e-values of the devices are averaged, which is one again whatever hangs together between
    them, so that a single bad device among a hundred is found at the price of log(100).
    """
    logs = [evalues.above(count, total, share) for _host, count, total in counts]
    if not logs:
        return 0.0, "", []
    worst = max(range(len(logs)), key=logs.__getitem__)
    open_ = [
        host
        for host, count, total in counts
        if not total or evalues.below(count, total, BROKEN) < threshold
    ]
    return evalues.average(logs), counts[worst][0], open_


def judged(look: Look) -> list[Seen]:
    """Devices to judge one by one. One that never did anything is judged by who answers."""
    return [one for one in look.ring if one.answered or one.requests]


def _sums(seen: Sequence[Seen]) -> tuple[int, int]:
    return sum(one.errors for one in seen), sum(one.requests for one in seen)


def judge(
    look: Look, settings: GateSettings, memory: Mapping[str, float]
) -> tuple[Gate, dict[str, float]]:
    """Judge the share of failed requests, of all devices together and of each by itself."""
    errors, requests = _sums(look.ring)
    most, threshold = settings.error_rate_max, settings.fail_bar
    counts = [(one.host, one.errors, one.requests) for one in judged(look)]
    together = evalues.above(errors, requests, most)
    alone, worst, open_ = by_device(counts, most, settings.pass_bar)
    evidence = {"errors": together, "errors.device": alone}
    high = evalues.upper(errors, requests, settings.pass_bar)
    found = {
        "requests": float(requests),
        "errors": float(errors),
        "error_share": errors / requests if requests else 0.0,
        "error_share_upper": high,
        "log_evidence": round(together, 3),
        "log_evidence_device": round(alone, 3),
    }
    wanted = {
        "error_share_max": most,
        "requests_min": float(settings.min_requests),
        "log_evidence_fail": round(threshold, 3),
    }

    def gate(verdict: str, said: str) -> tuple[Gate, dict[str, float]]:
        return Gate("errors", verdict, said, found, wanted), evidence

    if max(together, memory.get("errors", 0.0)) >= threshold:
        return gate(
            FAIL,
            f"{errors} of {requests} requests failed, more than the tolerable {most:.2%} can "
            "explain.",
        )
    if max(alone, memory.get("errors.device", 0.0)) >= threshold:
        return gate(
            FAIL,
            f"{worst or 'One device'} fails more of its requests than the tolerable {most:.2%} "
            f"can explain, however good the others are ({errors} of {requests} in all).",
        )
    if not requests:
        return gate(MISSING, "No request was answered from the new release yet.")
    if requests < settings.min_requests:
        return gate(
            INCONCLUSIVE,
            f"{requests} requests so far, {settings.min_requests} are wanted before a verdict.",
        )
    if high >= most:
        return gate(
            INCONCLUSIVE,
            f"{errors} of {requests} requests failed; it may be up to {high:.2%}, and at most "
            f"{most:.2%} is tolerable.",
        )
    if open_:
        return gate(
            INCONCLUSIVE,
            f"The ring as a whole is good ({errors} of {requests} failed), but too little is known "
            f"of {some(open_)}.",
        )
    return gate(
        PASS,
        f"{errors} of {requests} requests failed: at most {high:.2%}, below the tolerable "
        f"{most:.2%}.",
    )


def _asked(seen: Sequence[Seen]) -> tuple[int, int]:
    """Failed and refused, of all: a release that no longer takes what clients send is worse."""
    errors, requests = _sums(seen)
    invalid = sum(one.invalid for one in seen)
    return errors + invalid, requests + invalid


def compare(
    look: Look, settings: GateSettings, memory: Mapping[str, float]
) -> tuple[Gate, dict[str, float]]:
    """Judge the share of failed and refused requests against devices on the release before."""
    name = "errors:control"
    if not look.control:
        return Gate(name, LEFT_OUT, NO_CONTROL), {}
    ring, control = _asked(look.ring), _asked(look.control)
    margin = settings.error_rate_increase_max
    found = {
        "requests": float(ring[1]),
        "failed": float(ring[0]),
        "failed_share": ring[0] / ring[1] if ring[1] else 0.0,
        "control_requests": float(control[1]),
        "control_failed": float(control[0]),
        "control_failed_share": control[0] / control[1] if control[1] else 0.0,
    }
    wanted = {"increase_max": margin, "log_evidence_fail": round(settings.fail_bar, 3)}
    if not ring[1] or not control[1]:
        where = "from the new release" if not ring[1] else "on the release before"
        return Gate(name, MISSING, f"No request was made {where} yet.", found, wanted), {}
    evidence = evalues.grew(ring, control, margin, settings.fail_bar)
    found["log_evidence"] = round(evidence, 3)
    shares = (
        f"{found['failed_share']:.2%} of {ring[1]} requests failed or were refused, "
        f"{found['control_failed_share']:.2%} of {control[1]} on the release before"
    )
    if max(evidence, memory.get(name, 0.0)) >= settings.fail_bar:
        verdict, said = FAIL, f"{shares}: an increase of more than {margin:.2%}."
    elif min(ring[1], control[1]) < settings.min_requests:
        verdict, said = INCONCLUSIVE, f"{shares}; {settings.min_requests} are wanted of each."
    elif evalues.grew_less(ring, control, margin, settings.pass_bar) >= settings.pass_bar:
        verdict, said = PASS, f"{shares}: an increase of less than {margin:.2%} is proved."
    else:
        verdict, said = INCONCLUSIVE, f"{shares}; an increase of {margin:.2%} is not ruled out yet."
    return Gate(name, verdict, said, found, wanted), {name: evidence}
