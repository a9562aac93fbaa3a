# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 3: judge a candidate, as devices will run it, on data that it has not seen.

Thresholds, tolerance and data version are those of the operator: nothing that came with the model
says how it is judged. With a margin, the last release is measured on the same data, and a candidate
that falls behind it by more is refused. What is found stays here, under the digest of the bytes,
for ``publish``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import judgement as judgements
from . import tracking
from .candidate import Candidate, read_candidate
from .champion import Comparison, compare
from .config import Config
from .errors import PipelineError, Refused
from .fetched import fetched
from .judgement import Judgement, golden_of, judge, name_of
from .measure import measure
from .timing import Timings
from .trial import Limits, trial


def note(
    mlflow: Any,
    run_id: str,
    metrics: dict[str, float],
    verdict: str,
    against: Comparison | None = None,
) -> None:
    """Tell the model registry, for people to look at; no step asks it."""
    if mlflow is None or not run_id:
        return
    with tracking.sentences("note the verdict"):
        client = mlflow.MlflowClient()
        for name, value in metrics.items():
            client.log_metric(run_id, f"test_{name}", value)
        champion = against.champion if against is not None else None
        if champion is not None and champion.digest:
            for name, value in champion.metrics.items():
                client.log_metric(run_id, f"champion_{name}", value)
            client.set_tag(run_id, tracking.TAG_CHAMPION, champion.digest)
        client.set_tag(run_id, tracking.TAG_EVALUATION, verdict)


def assess(
    config: Config, timings: Timings, candidate: Candidate, data_version: str
) -> tuple[dict[str, Any], float]:
    """Try the candidate, then let the project measure it; the bytes stay what they were."""
    with timings.measure("try the release"):
        tried = trial(candidate, Limits.of(config.options), golden=golden_of(config, candidate))
    with timings.measure("judge"):
        found = measure(config, candidate.folder, data_version)
        read_candidate(candidate.folder).require(candidate.digest)
    return {**found, "trial": tried.to_json()}, max(tried.gaps.values(), default=0.0)


def run(
    config: Config,
    timings: Timings,
    run_id: str,
    data_version: str,
    candidate: str,
    package: Path | None = None,
    judgement: Path | None = None,
) -> dict[str, Any]:
    """Compare with the thresholds and with the expected answers; note the verdict."""
    thresholds = judgements.thresholds_of(config)
    margin = judgements.margin_of(config)
    with fetched(config, timings, candidate, run_id, package) as (release, mlflow):
        place = judgement or judgements.default_place(release.digest)
        judgements.forget(place)
        name = name_of(config, release)
        try:
            found, gap = assess(config, timings, release, data_version)
        except PipelineError:
            with timings.measure("note the verdict"):
                note(mlflow, run_id, {}, "failed")
            raise
        metrics = {**found["metrics"], "golden_gap": gap}
        problems = judge(metrics, thresholds)
        against = Comparison()
        if margin is not None and not problems:
            try:
                against = compare(config, timings, name, data_version, found)
            except PipelineError:
                with timings.measure("note the verdict"):
                    note(mlflow, run_id, metrics, "failed")
                raise
            if against.champion is not None:
                problems = judgements.outdone(metrics, thresholds, against.champion, margin)
        with timings.measure("note the verdict"):
            note(mlflow, run_id, metrics, "failed" if problems else "passed", against)
        if problems:
            where = f"run {run_id}" if run_id else str(package)
            raise Refused(f"The model of {where} is not good enough. {' '.join(problems)}")
        judgements.write(
            place,
            Judgement(
                candidate=release.digest,
                cases=judgements.cases_digest(release),
                tolerance=judgements.tolerance_of(config, release),
                thresholds=thresholds,
                metrics=metrics,
                data_version=data_version,
                project_commit=str(found.get("project_commit") or ""),
                lock_digest=str(found.get("lock_digest") or ""),
                time=judgements.now(),
                champion=against.champion,
            ),
        )
    return {
        "changed": True,
        "run_id": run_id,
        "model_name": name,
        "candidate": candidate,
        "thresholds": thresholds,
        "golden_gap": gap,
        "test_rows": found["rows"],
        "judgement": str(place),
        **found,
        **against.said(),
    }
