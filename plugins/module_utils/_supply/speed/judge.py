# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What measurements of hosts mean: parsing, percentiles, and the comparison of equal hosts."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..._findings.errors import PlatformError
from ..._findings.finding import PASS, WARN, Finding
from ..._findings.shape import ShapeError, mapping, number, optional

MIB = 2**20
SHARE_OF_MEDIAN = 0.9
# etcd's FAQ: the 99th percentile of wal_fsync_duration_seconds should be below 10 ms.
FDATASYNC_P99_MS = 10.0
# A write of etcd's log, as M. Olivi and M. Spreitzer measured them for the fio command in use.
LOG_WRITE_BYTES = 2300
LARGE_BYTES, SMALL_BYTES = MIB, 4096
# Fewer samples do not know their 99th percentile.
LEAST_SAMPLES = 100


class BenchmarkError(PlatformError):
    """Nothing can be measured, or an answer cannot be read; reads as a sentence."""


@dataclass(frozen=True)
class Metric:
    """One measured value: where it stands in a result, its name for people, and what is better."""

    section: str
    key: str
    label: str
    unit: str
    more_is_better: bool = True


METRICS = (
    # The median, as the 99th percentile of a short measurement is mostly chance.
    Metric("fdatasync", "p50_ms", "fdatasync median", "ms", more_is_better=False),
    Metric("sequential_write", "mib_per_s", "sequential write", "MiB/s"),
    Metric("sequential_read", "mib_per_s", "sequential read", "MiB/s"),
    Metric("random_read", "iops", "random read", "IOPS"),
    Metric("memory_copy", "mib_per_s", "memory copy", "MiB/s"),
    Metric("network", "mbit_per_s", "network", "Mbit/s"),
)


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least this share of all does not exceed (nearest rank)."""
    if not samples:
        raise BenchmarkError("there is no sample")
    return sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]


def latencies(seconds: Sequence[float]) -> dict[str, Any]:
    """Median and 99th percentile in ms; the latter is None below 100 samples."""
    found: dict[str, Any] = {"samples": len(seconds), "p50_ms": None, "p99_ms": None}
    if seconds:
        found["p50_ms"] = round(percentile(seconds, 0.5) * 1e3, 4)
    if len(seconds) >= LEAST_SAMPLES:
        found["p99_ms"] = round(percentile(seconds, 0.99) * 1e3, 4)
    return found


def throughput(size: int, seconds: float) -> dict[str, Any]:
    """MiB a second, and how much was moved in which time."""
    return {
        "mib_per_s": round(size / MIB / seconds, 1) if seconds > 0 else None,
        "mib": round(size / MIB, 1),
        "seconds": round(seconds, 4),
    }


def refusal(directory: str, free_mib: float, file_mib: int, margin_mib: int) -> str:
    """Why the file may not be written, as a sentence; empty where it may."""
    needed = file_mib + margin_mib
    if free_mib >= needed:
        return ""
    return (
        f"{directory} has {free_mib:.0f} MiB free, but the file takes {file_mib} MiB and"
        f" {margin_mib} MiB are kept free: choose a smaller file_mib, or free"
        f" {needed - free_mib:.0f} MiB"
    )


# -- fio ------------------------------------------------------------------------------------------


def fio_arguments(job: str, path: str, size_mib: int, seconds: float, direct: bool) -> list[str]:
    """The options of fio for one job on a file that exists already and is kept.

    One request at a time, as our own measurement has it: what a log, or one reader, feels.
    """
    common = [
        "--name=" + job,
        "--filename=" + path,
        f"--size={size_mib}m",
        f"--runtime={max(1, math.ceil(seconds))}",
        "--output-format=json",
        "--ioengine=psync",
        "--iodepth=1",
        "--numjobs=1",
        "--thread",
        "--allow_file_create=0",
        "--overwrite=1",
        "--fallocate=none",
        "--randrepeat=1",
    ]
    if job == "fdatasync":
        return [*common, "--rw=write", f"--bs={LOG_WRITE_BYTES}", "--fdatasync=1", "--time_based"]
    common.append(f"--direct={int(direct)}")
    if job == "sequential_write":
        return [*common, "--rw=write", f"--bs={LARGE_BYTES}", "--end_fsync=1"]
    if job == "sequential_read":
        return [*common, "--rw=read", f"--bs={LARGE_BYTES}"]
    if job == "random_read":
        return [*common, "--rw=randread", f"--bs={SMALL_BYTES}", "--time_based"]
    raise BenchmarkError(f"there is no job {job}")


def parse_fio(job: str, text: str) -> dict[str, Any]:
    """A section of the result from fio's JSON. Raises BenchmarkError where it is none."""
    # Versions print notes before the JSON.
    start = text.find("{")
    try:
        data = json.loads(text[start:]) if start >= 0 else None
        row = data["jobs"][0]  # type: ignore[index]
        if row.get("error"):
            raise BenchmarkError(f"fio failed with error {row['error']}")
        version = str(data["fio version"])  # type: ignore[index]
        if job == "fdatasync":
            lat = row["sync"]["lat_ns"]
            samples = int(lat["N"])
            enough = samples >= LEAST_SAMPLES
            found: dict[str, Any] = {
                "samples": samples,
                "p50_ms": round(float(lat["percentile"]["50.000000"]) / 1e6, 4),
                "p99_ms": round(float(lat["percentile"]["99.000000"]) / 1e6, 4) if enough else None,
            }
        else:
            side = row["write" if job == "sequential_write" else "read"]
            found = throughput(int(side["io_bytes"]), float(side["runtime"]) / 1e3)
            if job == "random_read":
                found["iops"] = round(float(side["iops"]), 1)
                found["p99_ms"] = round(float(side["clat_ns"]["percentile"]["99.000000"]) / 1e6, 4)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise BenchmarkError(f"fio's answer about {job} cannot be read ({error!r:.80})") from None
    except RecursionError:
        raise BenchmarkError(f"fio's answer about {job} cannot be read") from None
    for name, value in found.items():
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise BenchmarkError(f"fio's answer about {job} gives {value} as {name}")
    return {**found, "tool": version}


NOTHING: Mapping[str, Any] = {}


# -- comparison -----------------------------------------------------------------------------------


def shape_of(facts: Mapping[str, Any]) -> str:
    """What makes hosts equal: processor, memory (in GiB, up to an eighth), disks and GPUs.

    Taken from the facts of capacity_facts; what is unknown counts as its own kind.
    """
    cpu = _mapping(facts.get("cpu"))
    total = _mapping(facts.get("memory")).get("total_mib")
    memory = "?"
    if isinstance(total, (int, float)) and total > 0:
        # Firmware takes a little: what lies within an eighth of a power of two is one kind.
        step = 2 ** max(0, math.floor(math.log2(total / 1024)) - 3) if total >= 1024 else 1
        memory = f"{round(total / 1024 / step) * step:g}"
    disks = sorted(
        f"{row.get('model') or row.get('kind') or '?'}/{round((row.get('size_mib') or 0) / 1024)}"
        for row in map(_mapping, _list(facts.get("disks")))
        if row.get("kind") == "disk"
    )
    gpus = sorted(
        str(row.get("model") or "?")
        for row in map(_mapping, _list(_mapping(facts.get("gpus")).get("gpus")))
    )
    return "; ".join(
        (
            f"{cpu.get('model') or '?'} x {cpu.get('threads') or '?'}",
            f"{memory} GiB",
            "disks " + (", ".join(disks) or "none"),
            "GPUs " + (", ".join(gpus) or "none"),
        )
    )


def _equals(
    results: Mapping[str, Any], shapes: Mapping[str, str]
) -> dict[tuple[str, str, str], dict[str, float]]:
    """Values by host, for each section, way of measuring and shape: those may be compared."""
    groups: dict[tuple[str, str, str], dict[str, float]] = {}
    for host in sorted(results):
        for metric in METRICS:
            value, way = _value(host, results[host], metric)
            if value is not None:
                key = (metric.section, way, shapes.get(host, host))
                groups.setdefault(key, {})[host] = value
    return groups


def compare(
    results: Mapping[str, Any],
    shapes: Mapping[str, str],
    share: float = SHARE_OF_MEDIAN,
    fdatasync_p99_ms: float = FDATASYNC_P99_MS,
) -> tuple[list[Finding], list[str]]:
    """Findings about hosts that are slower than their equals, or too slow for a log.

    A throughput below ``share`` of the median of all hosts of the same shape is a finding, and so
    is a latency above the median divided by ``share``. Only values measured by the same tool in
    the same way are compared. Returned as well: what could not be compared, in sentences.
    """
    findings: list[Finding] = []
    alone: dict[str, list[str]] = {}
    units = {metric.section: metric for metric in METRICS}
    compared: dict[str, int] = {}
    slow: set[str] = set()
    for (section, _way, _shape), values in sorted(_equals(results, shapes).items()):
        metric = units[section]
        if len(values) < 2:
            alone.setdefault(next(iter(values)), []).append(metric.label)
            continue
        middle = statistics.median(values.values())
        for host, value in sorted(values.items()):
            compared[host] = compared.get(host, 0) + 1
            limit = share * middle if metric.more_is_better else middle / share
            if value < limit if metric.more_is_better else value > limit:
                slow.add(host)
                findings.append(_slow(host, metric, value, limit, middle, len(values), share))
    for host in sorted(results):
        findings.extend(_fdatasync(host, results[host], fdatasync_p99_ms))
        if compared.get(host) and host not in slow:
            findings.append(
                Finding(
                    "capacity_benchmark.equal_hosts",
                    host,
                    PASS,
                    f"{compared[host]} measurements are as good as those of equal hosts",
                )
            )
    return findings, [
        f"{host}: no other host of its shape was measured in the same way: {', '.join(labels)}"
        for host, labels in sorted(alone.items())
    ]


def _slow(
    host: str,
    metric: Metric,
    value: float,
    limit: float,
    middle: float,
    hosts: int,
    share: float,
) -> Finding:
    than = "at least" if metric.more_is_better else "at most"
    rule = f"{share:g} x {middle:g}" if metric.more_is_better else f"{middle:g} / {share:g}"
    return Finding(
        "capacity_benchmark.equal_hosts",
        host,
        WARN,
        f"{metric.label} is {value:g} {metric.unit}",
        f"{than} {limit:.4g} {metric.unit} ({rule}, the median of {hosts} hosts of equal shape)",
        "look for a failing or busy disk, a throttled processor, a bad link or memory module",
    )


def _fdatasync(host: str, result: object, limit: float) -> list[Finding]:
    section = _mapping(_mapping(result).get("fdatasync"))
    if not section:
        return []
    value = section.get("p99_ms")
    rule = ", the rule of etcd's documentation" if limit == FDATASYNC_P99_MS else ""
    wanted = f"below {limit:g} ms{rule}"
    remedy = "put logs and databases of this host on a faster disk, such as an SSD with capacitors"
    if value is None:
        found = f"fdatasync p99 is unknown: {section.get('samples', 0)} samples in the time given"
        return [Finding("capacity_benchmark.fdatasync", host, WARN, found, wanted, remedy)]
    good = float(value) < limit
    return [
        Finding(
            "capacity_benchmark.fdatasync",
            host,
            PASS if good else WARN,
            f"fdatasync p99 is {float(value):g} ms",
            wanted,
            "" if good else remedy,
        )
    ]


def _value(host: str, result: object, metric: Metric) -> tuple[float | None, str]:
    """The value of a metric, and how it was measured; None where it was not."""
    try:
        section: Mapping[str, Any] = optional(mapping(result), metric.section, mapping, NOTHING)
    except ShapeError as error:
        raise error.within(host) from None
    try:
        value = optional(section, metric.key, number, None)
    except ShapeError as error:
        raise error.within(metric.section).within(host) from None
    how = str(section.get("tool") or "")
    if "direct" in section:
        how += " past the page cache" if section["direct"] else " through the page cache"
    return value, how


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()
