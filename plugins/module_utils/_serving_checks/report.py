# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The closing table: each step and device with verdict, seconds and finding."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from .latency import outliers

PASS, WARN, FAIL, SKIP = "pass", "warn", "FAIL", "-"
PART_SHARE = 0.6
PART_SECONDS = 5.0
LATENCY_FLOOR_MS = 10.0
FETCH_FLOOR_SECONDS = 5.0
STEPS = ("prepare", "train", "evaluate", "publish")
PACKAGED = ("package", "publish")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    step: str
    verdict: str
    seconds: float | None
    finding: str


def _slowest_part(step: str, seconds: float, parts: Mapping[str, float]) -> str:
    """Say where the time of a step went, if most of a long step went into one part."""
    if not parts:
        return ""
    part = max(parts, key=lambda name: parts[name])
    spent = parts[part]
    if spent < PART_SECONDS or spent < PART_SHARE * seconds:
        return ""
    return f"{spent / seconds:.0%} of the time of {step} went into: {part}"


def _what(step: str, result: Mapping[str, Any]) -> str:
    """Say what a step did."""
    if step == "prepare":
        rows = result.get("rows") or {}
        state = "new" if result.get("changed") else "unchanged"
        if not rows:
            return f"{result.get('files')} files, {result.get('bytes')} bytes, data {state}"
        dealt = ", ".join(f"{count} rows to {part}" for part, count in sorted(rows.items())[::-1])
        return f"{dealt}, data {state}"
    if step == "train":
        return f"run {str(result.get('run_id'))[:8]}, {result.get('golden_cases')} golden answers"
    if step == "package":
        return f"{result.get('cases')} cases, answers {result.get('answers')}"
    if step == "evaluate":
        numbers = ", ".join(
            f"{name} {value:.3f}" for name, value in sorted(result.get("metrics", {}).items())
        )
        against = f"; {result['comparison']}" if result.get("comparison") else ""
        return f"{numbers}; ONNX differs by {result.get('golden_gap', 0):.1g}{against}"
    return (
        f"{result.get('model_name')} version {result.get('model_version')}, "
        f"{str(result.get('digest'))[:19]}, {result.get('bytes_pushed', 0)} bytes pushed"
    )


def step_answers(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what each step printed, from what its task returned."""
    reused = raw.get("current")
    if isinstance(reused, Mapping):
        printed = reused.get("result") or {}
        if printed.get("digest") or reused.get("failed"):
            return [{"error": reused.get("msg"), **printed, "step": "current"}]
    note = (reused.get("result") or {}).get("unverified") if isinstance(reused, Mapping) else None
    packaged = raw.get("package")
    ran = isinstance(packaged, Mapping) and packaged and not packaged.get("skipped")
    answers = []
    if note:
        said = f"the last release is not used again: {note} A new one is published"
        answers.append({**(reused or {}).get("result", {}), "step": "current", "note": said})
    for step in PACKAGED if ran else STEPS:
        task = raw.get(step)
        if not isinstance(task, Mapping) or task.get("skipped"):
            answers.append({"step": step, "skipped": True})
        else:
            answers.append({"error": task.get("msg"), **(task.get("result") or {}), "step": step})
    return answers


def release_answers(raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what each device answered to the release, from what its task returned."""
    answers: dict[str, dict[str, Any]] = {}
    for name, task in raw.items():
        if not isinstance(task, Mapping) or task.get("skipped"):
            continue
        if task.get("unreachable"):
            reason = " ".join(str(task.get("msg") or "").split())[:160]
            answers[name] = {"ok": False, "error": f"{name} cannot be reached over SSH: {reason}"}
        elif task.get("failed"):
            answers[name] = {
                "ok": False,
                "error": f"{name}: {task.get('msg')}",
                "seconds": task.get("seconds"),
            }
        else:
            keys = ("changed", "bytes", "seconds", "digest")
            answers[name] = {"ok": True, **{key: task.get(key) for key in keys}}
    return answers


def step_rows(steps: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return a row for each step of the pipeline that was run, or should have been."""
    rows = []
    for entry in steps:
        step = str(entry["step"])
        if entry.get("skipped"):
            rows.append(Row(step, SKIP, None, str(entry.get("why") or "not reached")))
            continue
        seconds = float(entry.get("seconds") or 0.0)
        if not entry.get("ok"):
            reason = str(entry.get("error") or "it gave no reason")
            rows.append(Row(step, FAIL, seconds, reason))
            continue
        if entry.get("note"):
            rows.append(Row(step, WARN, seconds, str(entry["note"])))
            continue
        slow = _slowest_part(step, seconds, entry.get("timings") or {})
        done = "the last release is used again" if step == "current" else _what(step, entry)
        rows.append(Row(step, WARN if slow else PASS, seconds, f"{done}; {slow}" if slow else done))
    return rows


def release_rows(
    releases: Mapping[str, Mapping[str, Any]], rings: Mapping[str, str], size: int
) -> list[Row]:
    """Return a row for each device about fetching and activating the release."""
    seconds = {name: float(entry["seconds"]) for name, entry in releases.items() if entry.get("ok")}
    slow = outliers(seconds, rings, floor=FETCH_FLOOR_SECONDS)
    rows = []
    for name, entry in sorted(releases.items()):
        step = f"release {name}"
        if not entry.get("ok"):
            rows.append(Row(step, FAIL, entry.get("seconds"), str(entry.get("error"))))
            continue
        moved = int(entry.get("bytes") or 0)
        done = "activated" if entry.get("changed") else "already active"
        notes = [f"{done}, {moved} bytes fetched"]
        verdict = PASS
        if size and moved > size:
            verdict = WARN
            notes.append(f"fetched {moved / size:.1f} times its size: the connection broke")
        if name in slow:
            verdict = WARN
            notes.append(f"{slow[name][0]:.0f} times the median of {slow[name][1]}")
        rows.append(Row(step, verdict, seconds[name], "; ".join(notes)))
    return rows


def device_rows(devices: Sequence[Mapping[str, Any]], rings: Mapping[str, str]) -> list[Row]:
    """Return a row for each device about its answers and their latency."""
    p95 = {str(entry["name"]): float(entry["p95_ms"]) for entry in devices if entry.get("ok")}
    slow = outliers(p95, rings, floor=LATENCY_FLOOR_MS)
    rows = []
    for entry in devices:
        name = str(entry["name"])
        step = f"predict {name}"
        if not entry.get("ok"):
            rows.append(Row(step, FAIL, entry.get("seconds"), str(entry.get("error"))))
            continue
        note = (
            f"{entry['answers']} answers agree within {entry['tolerance']:g}, "
            f"p50 {entry['p50_ms']:.1f} ms, p95 {entry['p95_ms']:.1f} ms"
        )
        verdict = PASS
        if name in slow:
            verdict = WARN
            note += f"; its p95 is {slow[name][0]:.1f} times the median of {slow[name][1]}"
        rows.append(Row(step, verdict, entry.get("seconds"), note))
    return rows


def metric_rows(metrics: Mapping[str, Any], devices: Sequence[str]) -> list[Row]:
    """Return a row for each device about what Prometheus knows of it."""
    if not devices:
        return []
    if metrics.get("error"):
        return [Row("metrics", FAIL, metrics.get("seconds"), str(metrics["error"]))]
    problems = metrics.get("problems") or {}
    rows = []
    for name in devices:
        if name in problems:
            rows.append(Row(f"metrics {name}", FAIL, metrics.get("seconds"), problems[name]))
        else:
            seen = (metrics.get("seen") or {}).get(name)
            note = "model and request metrics found in Prometheus"
            if seen is not None:
                note += f", {seen:g} requests counted"
            rows.append(Row(f"metrics {name}", PASS, metrics.get("seconds"), note))
    return rows


def whole_row(steps: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Point at the step that took most of the pipeline's time, if one did."""
    spent = {
        str(entry["step"]): float(entry.get("seconds") or 0)
        for entry in steps
        if not entry.get("skipped")
    }
    total = sum(spent.values())
    if len(spent) < 2 or total < 60:
        return []
    step = max(spent, key=lambda name: spent[name])
    if spent[step] < PART_SHARE * total:
        return []
    return [Row("pipeline", WARN, total, f"{spent[step] / total:.0%} of the time went into {step}")]


def model_found(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was found of a model, in the form of the report."""
    return {
        "name": str(model["name"]),
        "steps": step_answers(model["steps"]),
        "releases": release_answers(model.get("releases") or {}),
        "release_bytes": int(model.get("release_bytes") or 0),
        "devices": list(model.get("devices") or ()),
        "metrics": dict(model.get("metrics") or {}),
    }


def model_rows(found: Mapping[str, Any], rings: Mapping[str, str], title: str = "") -> list[Row]:
    """Return every row of a model; the title names it where there are several."""
    answered = [str(entry["name"]) for entry in found["devices"] if entry.get("ok")]
    rows = [
        *step_rows(found["steps"]),
        *release_rows(found["releases"], rings, found["release_bytes"]),
        *device_rows(found["devices"], rings),
        *metric_rows(found["metrics"], answered),
        *whole_row(found["steps"]),
    ]
    return [replace(row, step=f"{row.step} ({title})") for row in rows] if title else rows


def verdict(rows: Sequence[Row]) -> str:
    """Return the verdict over all. A single failure fails it; so does having checked nothing."""
    if any(row.verdict == FAIL for row in rows) or not any(row.verdict != SKIP for row in rows):
        return FAIL
    return WARN if any(row.verdict == WARN for row in rows) else PASS


def render(rows: Sequence[Row], width: int = 110) -> str:
    """Draw the table."""
    step_width = max(len("step"), *(len(row.step) for row in rows)) if rows else 4
    left = f"{{:<{step_width}}}  {{:<7}}  {{:>7}}  "
    indent = step_width + 20
    lines = [left.format("step", "verdict", "seconds") + "finding", "─" * min(width, 110)]
    for row in rows:
        text = textwrap.wrap(row.finding, max(30, width - indent)) or [""]
        seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
        lines.append(left.format(row.step, row.verdict, seconds) + text[0])
        lines += [" " * indent + more for more in text[1:]]
    return "\n".join(line.rstrip() for line in lines)


def to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows as plain data."""
    return [{**asdict(row), "verdict": row.verdict.lower()} for row in rows]
