# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A site to look at: what its Prometheus has measured for an hour, and the alerts that it fires.

The names, labels and magnitudes are those of the lab; the troubles are made up: a device is off,
one was never seen, a model's inputs have shifted, a disk fills up.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from typing import Any

STEP = 60
BEFORE = 8 * 3600
AFTER = 1800
RINGS = {
    "edge1": "ring_canary",
    "edge2": "ring_early",
    "edge3": "ring_early",
    "edge4": "ring_fleet",
    "edge5": "ring_fleet",
    "edge6": "ring_fleet",
}
OFF = "edge5"
UNSEEN = "edge6"
SERVING = [name for name in RINGS if name not in (OFF, UNSEEN)]
HOSTS = ["ctl1", "store1"]
MODELS = {"breast-cancer": "3", "digits": "1"}
PLAN = {
    "verdict": "FEASIBLE",
    "days": {
        "ends": "2028-03-02",
        "resources": [{"group": "all", "resource": "memory", "runs_out": "2028-06-14"}],
    },
}
DEVICES = [{"name": name, "ring": ring} for name, ring in RINGS.items()]


def labels(**values: str) -> str:
    """Labels as OpenMetrics writes them."""
    return "{" + ",".join(f'{name}="{value}"' for name, value in values.items()) + "}"


def steady(now: float) -> Iterator[tuple[str, str, float]]:
    """Series that stand still: name, labels, value."""
    for name in [*HOSTS, *SERVING, OFF]:
        up = 0 if name == OFF else 1
        yield "up", labels(host=name, instance=name, job="node"), up
        if up:
            yield "mlops:memory_available:ratio", labels(host=name, instance=name, job="node"), 0.62
        yield "probe_ssl_earliest_cert_expiry", labels(host=name, job="probe"), now + 397 * 86400
    for name in [*SERVING, OFF]:
        for job in ("model_serving", "model_releases", "units", "nginx"):
            yield "up", labels(host=name, instance=name, job=job), 0 if name == OFF else 1
    for job in ("prometheus", "alertmanager", "rollout"):
        yield "up", labels(host="ctl1", instance="ctl1", job=job), 1
    yield "pg_up", labels(host="ctl1", instance="ctl1", job="postgresql"), 1
    for service in ("gateway", "model_registry", "artifact_registry"):
        yield (
            "probe_success",
            labels(host="ctl1", service=service, instance=f"https://{service}"),
            1,
        )
    yield "probe_success", labels(host="store1", service="object_store", instance="https://s3"), 1
    for name in SERVING:
        for model, version in MODELS.items():
            one = {"host": name, "instance": name, "job": "model_serving", "model_name": model}
            release = {**one, "model_version": version}
            yield "mlops_model_info", labels(**release, digest="sha256:0a1b", run_id="7d01"), 1
            yield "mlops_model_loaded_timestamp_seconds", labels(**release), now - 5000
            yield "mlops_release_verified", labels(**one), 1
        for unit, used in (("mlops-model-serving.service", 0.34), ("mlops-nginx.service", 0.71)):
            where = labels(host=name, unit=unit)
            yield "mlops:unit_memory:used_of_planned", where, used
            yield "mlops:unit_cpu:cores", where, 0.04
            yield "mlops_unit_planned_cpu_cores", where, 0.5
    yield from rollouts(now)
    yield from drift()


def rollouts(now: float) -> Iterator[tuple[str, str, float]]:
    """What the control host tells of releases."""
    for model, version in MODELS.items():
        own = {"host": "ctl1", "model": model}
        state = "PARTIAL" if model == "breast-cancer" else "COMPLETED"
        info = {
            **own,
            "rollout": f"{model}-1",
            "version": version,
            "digest": "sha256:0a1b2c3d4e5f60",
        }
        yield "mlops_rollout_info", labels(**info, state=state), 1
        yield "mlops_rollout_started_seconds", labels(**own), now - 6000
        for place, number in (("committed", 4), ("deferred", 2), ("waiting", 0)):
            yield "mlops_rollout_devices", labels(**own, state=place), number
        for ring in sorted(set(RINGS.values())):
            yield "mlops_rollout_ring", labels(**own, ring=ring, state="passed"), 1


def drift() -> Iterator[tuple[str, str, float]]:
    """The inputs of one model have shifted; the other has no profile."""
    for name in SERVING:
        one = {"host": name, "model_name": "digits", "model_version": MODELS["digits"]}
        yield "mlops_model_window_requests", labels(**one), 0
        yield "mlops_model_drift_features", labels(**one), 0
    shifts = {"mean_radius": 0.41, "mean_texture": 0.14, "mean_area": 0.03, "prediction": 0.06}
    for number, name in enumerate(SERVING):
        one = {"host": name, "model_name": "breast-cancer", "model_version": "3"}
        yield "mlops_model_window_requests", labels(**one), 480 + number
        yield "mlops_model_drift_features", labels(**one), 3
        for feature, psi in shifts.items():
            for measure, value in (("psi", psi), ("missing", 0.002), ("out_of_range", psi / 10)):
                row = labels(**one, feature=feature, measure=measure)
                yield "mlops_model_drift", row, value
                yield "mlops_model_drift_limit", row, 0.2 if measure == "psi" else 0.05
        for source, value in (("window", 0.941), ("evaluation", 0.979)):
            yield "mlops_model_quality", labels(**one, measure="accuracy", source=source), value


def moving(second: float) -> Iterator[tuple[str, str, float]]:
    """Series that move, at a second of the hours that are shown."""
    wave = math.sin(second / 700)
    for number, name in enumerate([*HOSTS, *SERVING]):
        for cpu in ("0", "1"):
            idle = second * (0.93 - 0.11 * (number % 4))
            yield "node_cpu_seconds_total", labels(host=name, cpu=cpu, mode="idle"), idle
        size = 250e9
        free = size * 0.24 - (5.5e5 * second if name == "store1" else 0)
        where = labels(host=name, mountpoint="/")
        yield "node_filesystem_avail_bytes", where, free
        yield "mlops:filesystem_free:ratio", where, free / size
    for number, name in enumerate(SERVING):
        for model, version in MODELS.items():
            slow = 0.0016 if model == "digits" else 0.0031
            one = {"host": name, "model_name": model, "model_version": version}
            yield (
                "mlops:model_request_seconds:p95",
                labels(**one),
                slow * (1 + number / 9 + wave / 5),
            )
            rate = (2.4 if model == "digits" else 1.1) * (1 + wave / 4)
            yield "mlops:model_requests:rate5m", labels(**one, outcome="ok"), rate
            yield "mlops:model_requests:rate5m", labels(**one, outcome="error"), 0.002
            errors = labels(host=name, model_name=model)
            yield "mlops:model_errors:ratio5m", errors, 0.002 / rate


def open_metrics(now: float) -> Iterator[str]:
    """The series of the hours around now, as promtool reads them: each in one piece."""
    start = int(now) - BEFORE
    times = range(start, int(now) + AFTER, STEP)
    rows: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for name, where, value in steady(now):
        rows.setdefault(name, {})[where] = [(time, value) for time in times]
    for time in times:
        for name, where, value in moving(time - start):
            rows.setdefault(name, {}).setdefault(where, []).append((time, value))
    for name, series in sorted(rows.items()):
        yield f"# TYPE {name} unknown\n"
        for where, points in series.items():
            for time, value in points:
                yield f"{name}{where} {value!r} {time}\n"
    yield "# EOF\n"


def alerts(now: float) -> list[dict[str, Any]]:
    """What Prometheus would have sent to Alertmanager, in the words of the rules."""
    begun = datetime.datetime.fromtimestamp(now - 1500, datetime.timezone.utc)
    shared = {"startsAt": begun.isoformat()}
    return [
        # It fires for ever and asks for nobody: it is neither shown nor counted.
        {
            **shared,
            "labels": {"alertname": "Watchdog", "severity": "none", "site": "werk"},
            "annotations": {"summary": "Prometheus and Alertmanager work"},
        },
        {
            **shared,
            "labels": {
                "alertname": "HostUnreachable",
                "severity": "critical",
                "host": OFF,
                "instance": OFF,
                "job": "node",
                "site": "werk",
            },
            "annotations": {
                "summary": f"{OFF} does not answer",
                "description": f"The metrics of {OFF} could not be read for two minutes.",
                "runbook_url": "https://gateway.example/runbooks/HostUnreachable.html",
                "runbook": f"Log in to {OFF}; if it answers, run: systemctl status mlops-nginx.",
            },
        },
        {
            **shared,
            "labels": {
                "alertname": "DiskFillsUp",
                "severity": "warning",
                "host": "store1",
                "mountpoint": "/",
                "site": "werk",
            },
            "annotations": {
                "summary": "/ on store1 will be full within a day",
                "description": "Free space has shrunk so fast that a day exhausts it.",
                "runbook_url": "https://gateway.example/runbooks/DiskFillsUp.html",
                "runbook": "Find what grows with du -x on store1; lower retention.",
            },
        },
    ]
