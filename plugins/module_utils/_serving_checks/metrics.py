# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus is asked about each device, and what its answers mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import CheckError


@dataclass(frozen=True)
class Expectation:
    """A metric that must be there for each device, measured after a moment."""

    title: str
    query: str
    minimum: float


def quote(text: str) -> str:
    """Write a label value in a query."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def expectations(name: str, version: str, digest: str, requests: int) -> list[Expectation]:
    """Return what must be found about a release that has just answered requests."""
    model = f"model_name={quote(name)},model_version={quote(version)}"
    return [
        Expectation("model", f"mlops_model_info{{{model},digest={quote(digest)}}}", 1.0),
        Expectation(
            "requests", f'mlops_model_requests_total{{{model},outcome="ok"}}', float(requests)
        ),
    ]


def parse_vector(value: Any, label: str) -> dict[str, float]:
    """Read the answer to an instant query: the largest value by label."""
    if not isinstance(value, dict) or value.get("status") != "success":
        reason = value.get("error") if isinstance(value, dict) else None
        raise CheckError(f"Prometheus did not answer the query: {reason or 'no reason given'}.")
    data = value.get("data")
    if not isinstance(data, dict) or data.get("resultType") not in ("vector", "scalar"):
        raise CheckError("Prometheus answered with something else than a list of samples.")
    if data["resultType"] == "scalar":
        return {"": float(data["result"][1])}
    found: dict[str, float] = {}
    for entry in data["result"]:
        name = entry["metric"].get(label, "")
        sample = float(entry["value"][1])
        found[name] = max(sample, found.get(name, sample))
    return found


def missing(
    wanted: list[str],
    expectation: Expectation,
    values: Mapping[str, float],
    measured: Mapping[str, float],
    since: float,
) -> dict[str, str]:
    """Return a sentence for each device whose metric is not there, too old or too small."""
    sentences: dict[str, str] = {}
    for device in wanted:
        if device not in values:
            sentences[device] = f"Prometheus has no {expectation.title} metric of {device}"
        elif measured.get(device, 0.0) < since:
            sentences[device] = (
                f"Prometheus has not measured {device} since the requests were sent "
                f"({expectation.title} metric)"
            )
        elif values[device] < expectation.minimum:
            sentences[device] = (
                f"Prometheus counts {values[device]:g} for the {expectation.title} metric of "
                f"{device}, wanted {expectation.minimum:g} or more"
            )
    return sentences
