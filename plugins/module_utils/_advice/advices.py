# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to change in the inventory, from what Prometheus kept of the last weeks.

Each advice is a variable and its new value, what that saves, and where it comes from. It is never
applied by itself, and it has three answers: advise, keep, too little data.
"""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from .._demand.quantities import cores, size
from .._demand.workloads import Spec
from .._planner.arrays import np
from .level import trend
from .request import ADVISE, CPU, KEEP, MEMORY, TOO_LITTLE, Answer, Evidence, Settings, advise
from .usage import Usage, largest

UNIT = re.compile(r"mlops-workload-(.+)-([0-9]+)\.service")
MIB = 2.0**20
NAMES = {CPU: "processors", MEMORY: "memory"}
IDLE = 0.5  # of a GPU's time: below, two could share it
COARSE = (
    "utilisation tells how long any kernel ran, not how much of the card it used, so a card that"
    " looks half idle may be fuller"
)
MOST_DAYS = 3650


@dataclass(frozen=True)
class Advice:
    """One answer about one variable. ``saving`` is in ``unit``, for all replicas; below 0 it costs.

    ``change`` is what the answer does to an entry of ``mlops_workloads``, to be planned again.
    """

    subject: str
    variable: str
    verdict: str
    now: str
    then: str
    saving: float
    unit: str
    why: str
    measure: str
    window_days: int
    quantile: float
    change: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as docs/schema/advice.schema.json describes it."""
        return {key: value for key, value in asdict(self).items() if key != "change"}


def usages(
    matrix: Sequence[Mapping[str, Any]], start: float, end: float, step: float
) -> list[tuple[Mapping[str, str], Usage]]:
    """The series of a range query of Prometheus, NaN where it had none."""
    number = int((end - start) // step) + 1
    found = []
    for row in matrix:
        values = np.full(number, np.nan)
        for time, value in row["values"]:
            at = round((float(time) - start) / step)
            if 0 <= at < number:
                values[at] = float(value)
        found.append((row["metric"], Usage(start, step, values)))
    return found


def by_workload(series: Sequence[tuple[Mapping[str, str], Usage]]) -> dict[str, Usage]:
    """What the largest replica of each workload used, by the names of their units."""
    found: dict[str, list[Usage]] = defaultdict(list)
    for labels, usage in series:
        match = UNIT.fullmatch(labels.get("unit", ""))
        if match:
            found[match[1]].append(usage)
    return {name: largest(some) for name, some in found.items()}


def scaled(usage: Usage, factor: float) -> Usage:
    """The same in another unit."""
    return replace(usage, values=usage.values * factor)


def of_workload(
    spec: Spec, measured: Mapping[str, Mapping[str, Usage]], settings: Settings
) -> list[Advice]:
    """What to do with the requests of a workload; ``measured`` has a usage by measure and name."""
    found = []
    rows = (
        (CPU, spec.request.cpu_cores, spec.limit.cpu_cores),
        (MEMORY, spec.request.memory_mib, spec.limit.memory_mib),
    )
    for measure, request, limit in rows:
        usage = measured.get(measure, {}).get(spec.name)
        if usage is None:
            if spec.run is not None:
                found.append(_unseen(spec, measure, request))
            continue
        answer = advise(measure, usage, request, settings, limit)
        found.append(_told(spec, measure, request, answer))
    return found


def _unseen(spec: Spec, measure: str, request: float) -> Advice:
    said = _figure(measure, request)
    return Advice(
        f"workload {spec.name}",
        f"mlops_workloads[{spec.name}].requests.{measure}",
        TOO_LITTLE,
        said,
        said,
        0.0,
        _unit(measure),
        "nothing of it was measured",
        NAMES[measure],
        0,
        1.0,
    )


def _told(spec: Spec, measure: str, request: float, answer: Answer) -> Advice:
    change = None
    if answer.verdict == ADVISE:
        change = {"requests": {measure: answer.value}}
    return Advice(
        f"workload {spec.name}",
        f"mlops_workloads[{spec.name}].requests.{measure}",
        answer.verdict,
        _figure(measure, request),
        _figure(measure, answer.value),
        (request - answer.value) * spec.replicas,
        _unit(measure),
        answer.why or _because(measure, answer.evidence),
        NAMES[measure],
        answer.evidence.days,
        answer.evidence.quantile,
        change,
    )


def _because(measure: str, evidence: Evidence) -> str:
    part = "at most" if measure == MEMORY else f"{evidence.quantile:.0%} of the time at most"
    return (
        f"in {evidence.settled} days it used {part} {_figure(measure, evidence.used)}; "
        f"{_figure(measure, evidence.expected)} are expected of the time ahead"
    )


def _figure(measure: str, value: float) -> str:
    return f"{value:,.0f} MiB" if measure == MEMORY else f"{value:.3g} cores"


def _unit(measure: str) -> str:
    return "MiB" if measure == MEMORY else "cores"


def of_gpu(
    spec: Spec, busy: Sequence[Usage], used: Sequence[Usage], settings: Settings
) -> Advice | None:
    """Whether a workload with a whole GPU could do with a part of one.

    ``busy`` are parts of the time (0 to 1) of each of its GPUs, ``used`` bytes of their memory.
    None where the workload does not hold one whole GPU.
    """
    if spec.gpu.count != 1:
        return None
    told = Advice(
        f"workload {spec.name}",
        f"mlops_workloads[{spec.name}].gpu",
        TOO_LITTLE,
        "count: 1",
        "count: 1",
        0.0,
        "GPUs",
        "its GPUs were not measured",
        "GPU",
        0,
        1.0,
    )
    if not busy or not used:
        return told
    days = [float(np.quantile(day, 0.99)) for day in largest(busy).blocks(settings.block)]
    need = advise(MEMORY, scaled(largest(used), 1 / MIB), 0.0, settings)
    told = replace(told, window_days=len(days), quantile=0.99)
    if need.verdict == TOO_LITTLE:
        return replace(told, why=need.why)
    if not days or max(days) > IDLE:
        return replace(told, verdict=KEEP, why=f"it was busy for up to {max(days, default=0):.0%}")
    return replace(
        told,
        verdict=ADVISE,
        then=f"memory: {need.value:,.0f} MiB",
        saving=0.0,
        why=f"99% of the time it was busy for at most {max(days):.0%}; {COARSE}",
        change={"gpu": {"memory_mib": need.value}},
    )


def unasked(asked: Mapping[str, float], covered: Mapping[str, float], days: int) -> list[Advice]:
    """Models that nobody has asked, by requests and the part of the window each was there."""
    found = []
    for model, requests in sorted(asked.items()):
        if requests:
            continue
        whole = covered.get(model, 0.0) >= 0.8
        found.append(
            Advice(
                f"model {model}",
                f"mlops_models[{model}]",
                ADVISE if whole else TOO_LITTLE,
                "served",
                "not served" if whole else "served",
                0.0,
                "",
                f"nobody has asked it in {days} days"
                if whole
                else f"nobody has asked it, and it was there for {covered.get(model, 0.0):.0%} of"
                f" {days} days only",
                "requests",
                days,
                1.0,
            )
        )
    return found


def of_disk(host: str, path: str, free: Usage, keep: float, settings: Settings) -> Advice | None:
    """When a file system is full at the pace of the last weeks; None where it is not foreseen.

    ``free`` are bytes; below ``keep`` of them it counts as full.
    """
    days = [float(day.min()) for day in free.blocks(settings.block)]
    if len(days) < settings.blocks:
        return None
    pace = trend(-np.asarray(days))
    left = (days[-1] - keep) / pace if pace > 0 else float("inf")
    if left > MOST_DAYS or left < 0:
        return None
    gib = 2.0**30
    return Advice(
        f"{host} {path}",
        "mlops_host_offers, or a larger file system",
        ADVISE,
        f"{days[-1] / gib:,.1f} GiB free",
        f"full in {left:,.0f} days",
        0.0,
        "",
        f"it loses {pace / gib:,.2f} GiB a day; it is full in {left:,.0f} days",
        "disk",
        len(days),
        0.0,
    )


def changed(workloads: Sequence[Mapping[str, Any]], advices: Sequence[Advice]) -> list[Any]:
    """``mlops_workloads`` with all that is advised, limits raised where a request needs it."""
    changes: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for one in advices:
        if one.change:
            changes[one.subject.removeprefix("workload ")].append(one.change)
    return [_changed(entry, changes.get(str(entry.get("name")), [])) for entry in workloads]


def _changed(entry: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]) -> Any:
    found: dict[str, Any] = copy.deepcopy(dict(entry))
    for change in changes:
        if "gpu" in change:
            models = (found.get("gpu") or {}).get("models")
            found["gpu"] = {**change["gpu"], **({"models": models} if models else {})}
        for measure, value in (change.get("requests") or {}).items():
            word = "memory" if measure == MEMORY else measure
            for part in ("requests", "limits"):
                given = dict(found.get(part) or {})
                keys = [key for key in given if key == word or key.startswith(f"{word}_")]
                if part == "requests" or keys:
                    for key in keys:
                        del given[key]
                    given[measure] = value if part == "requests" else _limit(entry, measure, value)
                    found[part] = given
    return found


def _limit(entry: Mapping[str, Any], measure: str, value: float) -> Any:
    """The limit that stands, or the request where that is higher."""
    given = entry["limits"]
    stands = size(given, "memory") if measure == MEMORY else cores(given[measure])
    return max(value, stands or 0.0)
