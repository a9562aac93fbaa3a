# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Space of stores: datasets, MLflow, Prometheus, Ceph and backups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..._findings.shape import ShapeError, each, field, known_keys, optional, shown, text
from ..quantities import size_keys
from . import fields
from .answer import DEFAULT_PATH, Estimate, Figure, Need, figure, in_mib, told

SECONDS_A_DAY = 86_400
DAYS_A_YEAR = 365.25
GROWTH_SOURCE = "compound: size x (1 + rate)^years; linear: size x (1 + rate x years)"
MLFLOW_SOURCE = "runs kept x what each writes; MLflow backend and artifact stores"
# PostgreSQL, "Database Page Layout": 24 bytes of row header and 4 of item pointer; a metric of
# MLflow's schema has about 90 bytes of values, and its primary key repeats them all.
METRIC_ROW_BYTES = 250.0
# Rows of params and tags hold a key and a text; the index repeats run and key.
TEXT_ROW_BYTES = 300.0
PROMETHEUS_SOURCE = (
    "Prometheus documentation, Storage: retention time x ingested samples per second x bytes per"
    " sample (1 to 2)"
)
PROMETHEUS_OVERHEAD_PERCENT = 20.0
PROMETHEUS_OVERHEAD_SOURCE = (
    "Robust Perception, How much disk space do Prometheus blocks use: 10 % for blocks that straddle"
    " the end of the retention, 10 % for compaction"
)
CEPH_SOURCE = (
    "Ceph documentation: raw x k / (k + m) or 1 / replicas; mon_osd_nearfull_ratio 0.85; room for"
    " the recovery of one failure domain"
)
NEARFULL = 0.85
BACKUP_SOURCE = (
    "every restore point of the retention needs its full backup and the increments after it"
)

GROWTH_KEYS = ("growth_percent_per_year", "growth", "years")
DATASET_KEYS = (*size_keys("size"), *GROWTH_KEYS, "copies", "path")
MLFLOW_KEYS = (
    *("runs_per_day", "retention_days", "metrics_per_run", "params_per_run", "tags_per_run"),
    *("metric_row_bytes", "text_row_bytes", "path"),
    *size_keys("artifacts_per_run"),
)
PROMETHEUS_KEYS = (
    *("samples_per_second", "series", "scrape_interval_seconds", "retention_days"),
    *("bytes_per_sample", "overhead_percent", "path"),
)
CEPH_KEYS = (
    *("failure_domains", "domains_tib", "replicas", "data_chunks", "coding_chunks"),
    *("full_ratio", "domains_lost"),
    *size_keys("raw_per_domain"),
    *size_keys("wanted"),
)
BACKUP_KEYS = (
    *size_keys("size"),
    *("change_percent_per_day", "full_every_days", "retention_days", "copies", "path"),
    "compression_ratio",
)


def _path(data: Mapping[str, Any]) -> str:
    path = optional(data, "path", text, DEFAULT_PATH)
    if not path.startswith("/"):
        raise ShapeError(f"must be an absolute path, but is {shown(path)}", "path")
    return path


def _disk(data: Mapping[str, Any], size: float) -> Need:
    return Need(disk_mib=in_mib(size), disk_path=_path(data))


def dataset(name: str, data: Mapping[str, Any]) -> Estimate:
    """Space of a dataset after some years of growth, in bytes, all copies together.

    Compound growth multiplies each year, linear growth adds the same share of today's size.
    """
    known_keys(data, DATASET_KEYS)
    size = fields.size(data, "size")
    percent = optional(data, "growth_percent_per_year", fields.within(0, 10_000), 0.0)
    way = optional(data, "growth", fields.choice("compound", "linear"), "compound")
    years = optional(data, "years", fields.within(0, 50), 0.0)
    copies = optional(data, "copies", fields.up_to(1000), 1)
    rate = percent / 100
    if way == "linear":
        factor, formula = 1 + rate * years, f"(1 + {rate:g} x {years:g})"
    else:
        factor, formula = _power(1 + rate, years), f"(1 + {rate:g})^{years:g}"
    total = size * factor * copies
    if total > fields.MOST * 2**40:
        raise ShapeError("grows beyond what can be stored; see growth_percent_per_year and years")
    formula = f"{told(size)} x {formula} x {copies} copies"
    found = figure("space", formula, math.ceil(total), "bytes", GROWTH_SOURCE)
    return Estimate(name, "dataset", (found,), _disk(data, total))


def _power(base: float, exponent: float) -> float:
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf


def mlflow(name: str, data: Mapping[str, Any]) -> Estimate:
    """Space of MLflow's artifacts and of the rows in its database, in bytes.

    Runs kept are runs a day x days of retention. A row of metrics takes about 250 bytes with its
    index, one of params or tags 300; both can be given, better from the site's own database.
    """
    known_keys(data, MLFLOW_KEYS)
    runs_a_day = field(data, "runs_per_day", fields.above_zero)
    days = field(data, "retention_days", fields.within(0.001, 100_000))
    artifacts = fields.size(data, "artifacts_per_run", 0.0)
    metrics = optional(data, "metrics_per_run", fields.amount, 0.0)
    texts = optional(data, "params_per_run", fields.amount, 0.0)
    texts += optional(data, "tags_per_run", fields.amount, 0.0)
    metric_bytes = optional(data, "metric_row_bytes", fields.within(1, 1e6), METRIC_ROW_BYTES)
    text_bytes = optional(data, "text_row_bytes", fields.within(1, 1e6), TEXT_ROW_BYTES)
    runs = runs_a_day * days
    kept = figure("runs", f"{told(runs_a_day)} x {told(days)} days", runs, "runs", MLFLOW_SOURCE)
    rows = figure(
        "rows",
        f"{told(runs)} x ({told(metrics + texts)})",
        runs * (metrics + texts),
        "rows",
        MLFLOW_SOURCE,
    )
    database = runs * (metrics * metric_bytes + texts * text_bytes)
    formula = (
        f"{told(runs)} x ({told(metrics)} x {told(metric_bytes)} +"
        f" {told(texts)} x {told(text_bytes)})"
    )
    stored = figure(
        "artifacts",
        f"{told(runs)} x {told(artifacts)}",
        math.ceil(runs * artifacts),
        "bytes",
        MLFLOW_SOURCE,
    )
    table = figure("database", formula, math.ceil(database), "bytes", MLFLOW_SOURCE)
    note = "The demand is that of the artifacts; the database has its own place."
    return Estimate(
        name, "mlflow", (stored, table, kept, rows), _disk(data, runs * artifacts), (note,)
    )


def prometheus(name: str, data: Mapping[str, Any]) -> Estimate:
    """Space of Prometheus, in bytes: retention x samples a second x bytes a sample.

    A sample takes 1 to 2 bytes; 2 are counted where nothing is said. ``overhead_percent`` (20) is
    added for blocks that straddle the end of the retention and for compaction.
    """
    known_keys(data, PROMETHEUS_KEYS)
    days = field(data, "retention_days", fields.within(0.001, 100_000))
    each_sample = optional(data, "bytes_per_sample", fields.within(0.1, 100), 2.0)
    parts: list[Figure] = []
    if data.get("samples_per_second") is not None:
        if data.get("series") is not None:
            raise ShapeError("gives samples_per_second and series; give one of them")
        rate = field(data, "samples_per_second", fields.above_zero)
    else:
        series = field(data, "series", fields.above_zero)
        interval = optional(data, "scrape_interval_seconds", fields.within(0.1, 86_400), 15.0)
        rate = series / interval
        parts.append(
            figure(
                "rate",
                f"{told(series)} series / {told(interval)} s",
                rate,
                "samples / s",
                PROMETHEUS_SOURCE,
            )
        )
    percent = optional(
        data, "overhead_percent", fields.within(0, 1000), PROMETHEUS_OVERHEAD_PERCENT
    )
    kept = math.ceil(days * SECONDS_A_DAY * rate * each_sample)
    formula = (
        f"{told(days)} days x {SECONDS_A_DAY:,} s x {told(rate)} samples / s x {each_sample:g}"
    )
    parts.append(figure("samples", formula, kept, "bytes", PROMETHEUS_SOURCE))
    total = math.ceil(kept * (1 + percent / 100))
    formula = f"{told(kept)} x (1 + {percent:g} / 100)"
    found = figure("space", formula, total, "bytes", PROMETHEUS_OVERHEAD_SOURCE)
    return Estimate(name, "prometheus", (found, *parts), _disk(data, total))


def _failure_domains(data: Mapping[str, Any]) -> Sequence[float]:
    """Bytes of each failure domain: listed, or so many of one size."""
    if data.get("domains_tib") is None:
        number = field(data, "failure_domains", fields.up_to(10_000))
        return [fields.size(data, "raw_per_domain")] * number
    if data.get("failure_domains") is not None:
        raise ShapeError("gives domains_tib and failure_domains; give one of them")
    tib = field(data, "domains_tib", lambda value: each(value, fields.above_zero))
    if len(tib) > 10_000:
        raise ShapeError(f"has {len(tib)} entries, more than 10000", "domains_tib")
    return [one * 2**40 for one in tib]


def _pieces(data: Mapping[str, Any]) -> tuple[int, int, str]:
    """How many pieces of an object hold data, how many there are, and the share in words."""
    if data.get("replicas") is None:
        data_pieces = field(data, "data_chunks", fields.up_to(100))
        coding = field(data, "coding_chunks", fields.up_to(100))
        return data_pieces, data_pieces + coding, f"{data_pieces} / ({data_pieces} + {coding})"
    if data.get("data_chunks") is not None or data.get("coding_chunks") is not None:
        raise ShapeError("gives replicas and chunks; give one of them")
    pieces = field(data, "replicas", fields.up_to(100))
    return 1, pieces, f"1 / {pieces}"


def ceph(name: str, data: Mapping[str, Any]) -> Estimate:
    """What a Ceph cluster can hold for its users, in bytes.

    usable = (raw - largest failure domain) x efficiency x 0.85, where efficiency is 1 / replicas,
    or k / (k + m) of erasure coding. The lost domain's data must find room on the others, and a
    cluster warns when 85 % full. Every piece of an object lies in another failure domain, so that
    with unequal domains the small ones may limit it further: no more than the largest x with
    sum(min(domain, x)) >= pieces * x for each of the pieces.
    """
    known_keys(data, CEPH_KEYS)
    sizes = _failure_domains(data)
    data_pieces, pieces, efficiency = _pieces(data)
    full = optional(data, "full_ratio", fields.within(0.01, 1), NEARFULL)
    lost = optional(data, "domains_lost", fields.up_to(100, 0), 1)
    if len(sizes) < pieces:
        raise ShapeError(
            f"has {len(sizes)} failure domains, but {pieces} pieces of every object need one each"
        )
    if lost >= len(sizes):
        raise ShapeError(
            f"must be below the number of failure domains ({len(sizes)})", "domains_lost"
        )
    ordered = sorted(sizes)
    left = ordered[: len(ordered) - lost] if lost else ordered
    raw, room = sum(ordered), sum(ordered) - sum(left)
    by_rule = (raw - room) * data_pieces / pieces * full
    notes: list[str] = []
    if len(left) < pieces:
        notes.append(
            f"With {len(sizes)} failure domains and {pieces} pieces of every object there is no"
            " place to recover to: until the lost domain is back, data are there but less safe."
        )
    spread = _most_per_piece(left if len(left) >= pieces else ordered, pieces) * data_pieces * full
    parts = [figure("raw", f"{len(sizes)} failure domains", raw, "bytes", CEPH_SOURCE)]
    formula = f"({told(raw)} - {told(room)}) x {efficiency} x {full:g}"
    if spread < by_rule * (1 - 1e-9):
        parts.append(figure("without_limits", formula, math.floor(by_rule), "bytes", CEPH_SOURCE))
        formula = (
            f"{told(spread / full / data_pieces)} for each of {pieces} pieces x {data_pieces} x"
            f" {full:g}"
        )
        notes.append("The failure domains are unequal: the small ones limit the pieces.")
    usable = math.floor(min(by_rule, spread) + 1e-6)
    parts.insert(0, figure("usable", formula, usable, "bytes", CEPH_SOURCE))
    wanted = fields.size(data, "wanted", 0.0)
    if wanted > usable:
        parts.append(
            figure(
                "missing", f"{told(wanted)} - {told(usable)}", wanted - usable, "bytes", CEPH_SOURCE
            )
        )
        notes.append("What is wanted does not fit.")
    return Estimate(name, "ceph", tuple(parts), None, tuple(notes))


def _most_per_piece(ordered: Sequence[float], pieces: int) -> float:
    """The largest x with sum(min(domain, x)) >= pieces * x, for ascending domains.

    Where the j largest domains are cut to x, the rest sums to r: x = r / (pieces - j).
    """
    rest, cut = sum(ordered), 0
    while cut < pieces - 1 and rest / (pieces - cut) < ordered[-1 - cut]:
        rest -= ordered[-1 - cut]
        cut += 1
    return rest / (pieces - cut)


def backup(name: str, data: Mapping[str, Any]) -> Estimate:
    """Space of daily backups, in bytes, on the worst day.

    A full backup every F days, increments on the others, restore points of the last R days: up to
    R + F - 1 backups are kept, as the oldest point's full backup can be F - 1 days older. Of them
    ceil((R + F - 1) / F) are full.
    """
    known_keys(data, BACKUP_KEYS)
    size = fields.size(data, "size")
    changed = optional(data, "change_percent_per_day", fields.within(0, 100), 5.0)
    every = optional(data, "full_every_days", fields.up_to(3650), 7)
    days = field(data, "retention_days", fields.up_to(100_000))
    copies = optional(data, "copies", fields.up_to(100), 1)
    ratio = optional(data, "compression_ratio", fields.within(0.01, 1), 1.0)
    kept = days + every - 1
    full = math.ceil(kept / every)
    increments = kept - full
    total = (full + increments * changed / 100) * size * ratio * copies
    count = figure(
        "full", f"ceil(({days} + {every} - 1) / {every})", full, "backups", BACKUP_SOURCE
    )
    rest = figure(
        "increments", f"{days} + {every} - 1 - {full}", increments, "backups", BACKUP_SOURCE
    )
    formula = (
        f"({full} + {increments} x {changed / 100:g}) x {told(size)} x {ratio:g} x {copies} copies"
    )
    found = figure("space", formula, math.ceil(total), "bytes", BACKUP_SOURCE)
    return Estimate(name, "backup", (found, count, rest), _disk(data, total))
