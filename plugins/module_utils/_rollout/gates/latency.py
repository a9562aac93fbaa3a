# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long answers take: against the objective, and against the release before.

"p95 is at most L" says that at most 5 % of the requests take longer than L. So a quantile is judged
as a share, which gives the confidence sequence of one quantile exactly (Howard & Ramdas 2022). A
histogram knows of each request the bucket alone: what fails a ring are requests that surely took
longer, what passes it are requests that surely did not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..shapes import FAIL, INCONCLUSIVE, LEFT_OUT, MISSING, PASS, Gate, Look
from . import evalues
from .answers import some
from .errors import NO_CONTROL, by_device, judged
from .histograms import Ordered, alike, edges, ordered, quantile, slower, slower_of, total
from .settings import GateSettings

QUANTILES = {"p95": 0.95, "p99": 0.99}
# "Slower by a factor" means: more than this share of the requests are slower than what as many on
# the release before are, times the factor.
SLACK = 0.05


def objectives(settings: GateSettings) -> dict[str, float]:
    """The declared objectives, in milliseconds."""
    found = {name: getattr(settings, f"latency_{name}_ms") for name in QUANTILES}
    return {name: limit for name, limit in found.items() if limit is not None}


def _shown(seconds: float) -> str:
    return "above the last bucket" if math.isinf(seconds) else f"{seconds * 1000:g} ms"


def _one(
    look: Look, settings: GateSettings, memory: Mapping[str, float], name: str, limit: float
) -> tuple[str, str, dict[str, float], dict[str, float]]:
    """One objective: verdict, sentence, numbers, evidence."""
    share, key = 1 - QUANTILES[name], f"latency.{name}"
    whole = alike(look.ring)
    surely, perhaps, requests = slower_of(whole, limit / 1000)
    counts = [
        (one.host, slower(buckets, limit / 1000), total(buckets))
        for one, buckets in [(one, ordered(one.latency)) for one in judged(look)]
    ]
    together = evalues.above(surely, requests, share)
    alone, worst, _open = by_device([(h, s[0], n) for h, s, n in counts], share, settings.pass_bar)
    _alone, _worst, open_ = by_device(
        [(h, s[1], n) for h, s, n in counts], share, settings.pass_bar
    )
    high = evalues.upper(perhaps, requests, settings.pass_bar)
    at_most = quantile(whole, QUANTILES[name])
    found = {
        f"slower_than_{name}": float(surely),
        f"perhaps_slower_than_{name}": float(perhaps),
        f"slower_share_upper_{name}": high,
        f"log_evidence_{name}": round(together, 3),
        f"log_evidence_{name}_device": round(alone, 3),
    }
    if math.isfinite(at_most):
        found[f"{name}_ms"] = at_most * 1000
    evidence = {key: together, f"{key}.device": alone}
    said = f"{name} is at most {_shown(at_most)} in {requests} requests, {limit:g} ms is wanted"
    if max(together, memory.get(key, 0.0)) >= settings.fail_bar:
        return (
            FAIL,
            f"{surely} of {requests} requests took longer than {limit:g} ms, more than {name} "
            "allows.",
            found,
            evidence,
        )
    if max(alone, memory.get(f"{key}.device", 0.0)) >= settings.fail_bar:
        return (
            FAIL,
            f"{worst or 'One device'} is slower than {limit:g} ms more often than {name} allows, "
            "however fast the others are.",
            found,
            evidence,
        )
    if high >= share:
        return (
            INCONCLUSIVE,
            f"{said}: up to {high:.2%} may take longer.",
            found,
            evidence,
        )
    if open_:
        return INCONCLUSIVE, f"{said}; too little is known of {some(open_)}.", found, evidence
    return PASS, f"{said}.", found, evidence


def judge(
    look: Look, settings: GateSettings, memory: Mapping[str, float]
) -> tuple[Gate, dict[str, float]]:
    """Judge the declared objectives, of all devices together and of each by itself."""
    limits = objectives(settings)
    if "latency" in settings.waive:
        return Gate("latency", LEFT_OUT, f"Left out: {settings.waive['latency']}"), {}
    if not limits:
        return Gate(
            "latency",
            LEFT_OUT,
            "Left out: no objective is declared; set latency_p95_ms or latency_p99_ms in "
            "rollout_gates.",
        ), {}
    requests = sum(map(total, alike(look.ring)))
    found, evidence = {"requests": float(requests)}, {}
    wanted = {f"{name}_ms": limit for name, limit in limits.items()}
    wanted["log_evidence_fail"] = round(settings.fail_bar, 3)
    verdicts: list[tuple[str, str]] = []
    for name, limit in limits.items():
        verdict, said, numbers, logs = _one(look, settings, memory, name, limit)
        found.update(numbers)
        evidence.update(logs)
        verdicts.append((verdict, said))
    failed = [said for verdict, said in verdicts if verdict == FAIL]
    still_open = [said for verdict, said in verdicts if verdict == INCONCLUSIVE]
    if failed:
        return Gate("latency", FAIL, failed[0], found, wanted), evidence
    if not requests:
        said = "No request was answered from the new release yet."
        return Gate("latency", MISSING, said, found, wanted), evidence
    if requests < settings.min_requests:
        said = f"{requests} requests so far, {settings.min_requests} are wanted before a verdict."
        return Gate("latency", INCONCLUSIVE, said, found, wanted), evidence
    if still_open:
        return Gate("latency", INCONCLUSIVE, still_open[0], found, wanted), evidence
    said = " ".join(said for _verdict, said in verdicts)
    return Gate("latency", PASS, said, found, wanted), evidence


Histograms = Sequence[Ordered]


def _pairs(
    ring: Histograms, control: Histograms, factor: float
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Bounds to compare: of the control's buckets, and of the ring's a factor above.

    The ring's bound is the next one at or above the factor where a ring is to fail, and the last
    one at or below it, though not below the control's, where it is to pass.
    """
    failing, passing, of_ring = [], [], edges(ring)
    for bound in edges(control):
        higher = [edge for edge in of_ring if edge >= factor * bound]
        lower = [edge for edge in of_ring if bound <= edge <= factor * bound]
        if higher:
            failing.append((bound, higher[0]))
        if lower:
            passing.append((bound, lower[-1]))
    return failing, passing


def _evidence(
    ring: Histograms, control: Histograms, pairs: Sequence[tuple[float, float]], threshold: float
) -> tuple[float, float]:
    """The averaged evidence that the ring is slower, and the bound where it shows most."""
    logs = []
    for bound, scaled in pairs:
        surely, _perhaps, requests = slower_of(ring, scaled)
        _surely, perhaps, of_control = slower_of(control, bound)
        logs.append(evalues.grew((surely, requests), (perhaps, of_control), SLACK, threshold))
    worst = max(range(len(logs)), key=logs.__getitem__)
    return evalues.average(logs), pairs[worst][1]


def _proved(
    ring: Histograms, control: Histograms, pairs: Sequence[tuple[float, float]], threshold: float
) -> bool:
    """Whether at every bound the ring is proved not to be slower."""
    for bound, scaled in pairs:
        _surely, perhaps, requests = slower_of(ring, scaled)
        surely, _perhaps, of_control = slower_of(control, bound)
        proof = evalues.grew_less((perhaps, requests), (surely, of_control), SLACK, threshold)
        if proof < threshold:
            return False
    return bool(pairs)


def compare(
    look: Look, settings: GateSettings, memory: Mapping[str, float]
) -> tuple[Gate, dict[str, float]]:
    """Judge latency against devices on the release before, bound by bound of the histogram.

    Assumes that devices of ring and control are of the same speed, or that rings are mixed alike.
    """
    name, factor = "latency:control", settings.latency_factor_max
    if "latency" in settings.waive:
        return Gate(name, LEFT_OUT, f"Left out: {settings.waive['latency']}"), {}
    if not look.control:
        return Gate(name, LEFT_OUT, NO_CONTROL), {}
    ring, control = alike(look.ring), alike(look.control)
    requests, of_control = sum(map(total, ring)), sum(map(total, control))
    found = {"requests": float(requests), "control_requests": float(of_control)}
    wanted = {
        "factor_max": factor,
        "slower_share_max": SLACK,
        "log_evidence_fail": round(settings.fail_bar, 3),
    }
    if not requests or not of_control:
        where = "from the new release" if not requests else "on the release before"
        return Gate(name, MISSING, f"No request was answered {where} yet.", found, wanted), {}
    for prefix, seen in (("", ring), ("control_", control)):
        middle, late = quantile(seen, 0.5), quantile(seen, 0.95)
        if math.isfinite(late):
            found.update({f"{prefix}p50_ms": middle * 1000, f"{prefix}p95_ms": late * 1000})
    failing, passing = _pairs(ring, control, factor)
    threshold = settings.fail_bar + math.log(max(1, len(failing)))
    evidence, at = _evidence(ring, control, failing, threshold) if failing else (0.0, 0.0)
    found["log_evidence"] = round(evidence, 3)
    halves = (
        f"half of {requests} requests took at most {_shown(quantile(ring, 0.5))}, of "
        f"{of_control} on the release before {_shown(quantile(control, 0.5))}"
    )
    if max(evidence, memory.get(name, 0.0)) >= settings.fail_bar:
        where = f" (above {_shown(at)})" if at else ""
        verdict, said = FAIL, f"Slower than the release before by more than {factor:g}{where}: "
    elif min(requests, of_control) < settings.min_requests:
        verdict, said = INCONCLUSIVE, f"{settings.min_requests} requests are wanted of each: "
    elif _proved(ring, control, passing, settings.pass_bar):
        verdict, said = PASS, f"Proved not to be slower by a factor of {factor:g}: "
    else:
        verdict, said = INCONCLUSIVE, f"A factor of {factor:g} is not ruled out yet: "
    return Gate(name, verdict, f"{said}{halves}.", found, wanted), {name: evidence}
