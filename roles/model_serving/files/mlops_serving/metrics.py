# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the server counts. No label takes a value that a client makes up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily

from . import drift, truth

LABELS = ["model_name", "model_version"]
OUTCOMES = ("ok", "invalid", "error")
# A rollout tells two releases apart where their answers fall into different buckets. Up to half a
# second, where devices answer, a bucket ends at most at 1.7 times the bound before it.
LATENCY_BUCKETS = (
    *(0.0005, 0.00075, 0.001, 0.0015, 0.0025, 0.0035, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025),
    *(0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75, 1, 2.5, 10),
)
REQUESTS = Counter(
    "mlops_model_requests",
    "Inference requests by outcome: ok, invalid (the request was refused) or error (ours).",
    [*LABELS, "outcome"],
)
LATENCY = Histogram(
    "mlops_model_request_seconds",
    "Time from the complete request to the encoded answer.",
    LABELS,
    buckets=LATENCY_BUCKETS,
)
PREDICTIONS = Counter(
    "mlops_model_predictions",
    "Predictions by bucket (class, or upper bound of the score): the first one of each request.",
    [*LABELS, "bucket"],
)
INFO = Gauge(
    "mlops_model_info",
    "1 for each model that answers now, with the digest of its release.",
    [*LABELS, "digest", "run_id"],
)
LOADED = Gauge(
    "mlops_model_loaded_timestamp_seconds", "When a model that answers now was loaded.", LABELS
)
LOAD_FAILURES = Counter("mlops_model_load_failures", "Releases that could not be loaded.")
RESPONSES = Counter("mlops_http_responses", "Answers of the server by status.", ["code"])
FRONT_ERRORS = Counter(
    "mlops_front_errors", "Answers that nginx gave itself, without the server, by status.", ["code"]
)
CLIENTS = Counter(
    "mlops_client_requests",
    "Inference requests of declared clients by outcome.",
    ["client", "outcome"],
)
MEMORY = Gauge("mlops_request_memory_bytes", "Memory that requests may take together.")
MEMORY_USED = Gauge("mlops_request_memory_used_bytes", "Memory set aside for requests now.")
WAITING = Gauge("mlops_requests_waiting", "Requests that wait for memory now.")

TURNED_AWAY = Counter(
    "mlops_requests_turned_away", "Inference requests for which there was no memory."
)

SAMPLES = Counter(
    "mlops_model_samples",
    "Requests of the share that is kept: stored in the object store, or dropped as there was no "
    "room for them here or there.",
    ["model_name", "outcome"],
)

CODES = frozenset(
    str(code) for code in (*range(400, 406), 408, *range(413, 418), 429, 431, *range(494, 506))
)
"""What nginx may answer without us."""

# A rule that adds two counters needs both from the beginning.
for _code in ("429", "500", "502", "503", "504"):
    FRONT_ERRORS.labels(_code)
RESPONSES.labels("500")


def count_sample(model: str, outcome: str, number: int) -> None:
    """Count requests that were kept, or were to be; models are those that the role names."""
    SAMPLES.labels(model, outcome).inc(number)


class ServedModels:
    """Keeps series for the versions that answer and drops those of versions that are gone."""

    def __init__(self) -> None:
        self._served: dict[str, tuple[str, str, str]] = {}
        self._buckets: dict[str, set[str]] = {}

    def announce(self, name: str, version: str, digest: str, run_id: str, now: float) -> None:
        """Make this the version of a model that the metrics speak of."""
        self.forget(name)
        self._served[name] = (version, digest, run_id)
        INFO.labels(name, version, digest, run_id).set(1)
        LOADED.labels(name, version).set(now)
        for outcome in OUTCOMES:
            REQUESTS.labels(name, version, outcome)
        LATENCY.labels(name, version)

    def forget(self, name: str) -> None:
        """Drop the series of a model that no longer answers."""
        if name not in self._served:
            return
        version, digest, run_id = self._served.pop(name)
        INFO.remove(name, version, digest, run_id)
        LOADED.remove(name, version)
        LATENCY.remove(name, version)
        for outcome in OUTCOMES:
            REQUESTS.remove(name, version, outcome)
        for bucket in self._buckets.pop(name, ()):
            PREDICTIONS.remove(name, version, bucket)

    def failed(self) -> None:
        """Count a release that could not be loaded."""
        LOAD_FAILURES.inc()

    def count(
        self, name: str, version: str, outcome: str, seconds: float | None, bucket: str = ""
    ) -> None:
        """Count a request and what was predicted, if the version it asked still answers."""
        if self._served.get(name, ("",))[0] != version:
            return
        REQUESTS.labels(name, version, outcome).inc()
        if seconds is not None:
            LATENCY.labels(name, version).observe(seconds)
        if bucket:
            self._buckets.setdefault(name, set()).add(bucket)
            PREDICTIONS.labels(name, version, bucket).inc()


class Drift:
    """How models differ from their profiles, written when Prometheus asks."""

    def __init__(
        self, models: Callable[[], Sequence[Any]], now: Callable[[], float] = time.time
    ) -> None:
        self._models = models
        self._now = now

    def describe(self) -> list[Any]:
        """Nothing is collected to register this."""
        return []

    def collect(self) -> Iterator[Any]:
        """At most ``2 * (4 * shown + 4) + 9`` series for each model, whatever clients send."""
        watched = GaugeMetricFamily(
            "mlops_model_drift_features",
            "Features that are compared with the profile of the release; 0 where it has none.",
            labels=LABELS,
        )
        requests = GaugeMetricFamily(
            "mlops_model_window_requests",
            "Requests of the last window that was compared with the profile; 0 before the first.",
            labels=LABELS,
        )
        ended = GaugeMetricFamily(
            "mlops_model_window_end_timestamp_seconds", "When that window ended.", labels=LABELS
        )
        labels = [*LABELS, "feature", "measure"]
        value = GaugeMetricFamily(
            "mlops_model_drift",
            "How far the last window is from the profile: psi, or a share of its requests.",
            labels=labels,
        )
        limit = GaugeMetricFamily(
            "mlops_model_drift_limit",
            "What the measure may be at the declared number of false alarms.",
            labels=labels,
        )
        quality = GaugeMetricFamily(
            "mlops_model_quality",
            "How right the last answers were of which the truth was told (window), and those of "
            "the evaluation before the model was signed (evaluation).",
            labels=[*LABELS, "measure", "source"],
        )
        for model in self._models():
            names = [model.name, model.version]
            for measure, found in (model.truths.quality() if model.truths else {}).items():
                quality.add_metric([*names, measure, "window"], found)
            for measure in truth.MEASURES:
                if measure in model.release.evaluation:
                    evaluated = model.release.evaluation[measure]
                    quality.add_metric([*names, measure, "evaluation"], evaluated)
            watch = model.watch
            watched.add_metric(names, len(watch.profile.features) if watch else 0)
            verdict = watch.current(self._now()) if watch else None
            requests.add_metric(names, verdict.requests if verdict else 0)
            if verdict is None:
                continue
            ended.add_metric(names, verdict.ended)
            features = [column.name for column in watch.profile.features]
            for one in drift.chosen(verdict.readings, features, watch.settings.shown):
                value.add_metric([*names, one.feature, one.measure], one.value)
                limit.add_metric([*names, one.feature, one.measure], one.limit)
        yield from (watched, requests, ended, value, limit, quality)


class FrontListener(asyncio.DatagramProtocol):
    """Takes the lines that nginx writes, as to a syslog, of the answers that it gave itself."""

    def datagram_received(self, data: bytes, _address: Any) -> None:
        """Count the status that ends a line."""
        code = data.rpartition(b" ")[2].strip().decode("ascii", "replace")
        if code in CODES:
            FRONT_ERRORS.labels(code).inc()
