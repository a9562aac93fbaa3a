# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden requests: what is asked of a device, and what the trainer's own model answered."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import CheckError

SENT_WITH = {"content-type": "application/json", "x-mlops-golden": "1"}
"""The header says what it is: the model server leaves the release's own requests out of what it
watches and keeps of clients' ones."""


@dataclass(frozen=True)
class GoldenCase:
    """One request of the Open Inference Protocol and the answer to expect, by output."""

    request: Mapping[str, Any]
    expected: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Golden:
    """All cases of a release and the largest difference accepted."""

    cases: tuple[GoldenCase, ...]
    tolerance: float


def parse_golden(text: str) -> Golden:
    """Read the golden answers of a release, naming the request that lacks one."""
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise CheckError(f"The golden answers are not JSON ({error}).") from None
    entries = value.get("cases") if isinstance(value, dict) else None
    if not isinstance(entries, list) or not entries:
        raise CheckError(
            "The release has no golden answer to compare with; set golden_cases and train again."
        )
    tolerance = value.get("tolerance")
    if not isinstance(tolerance, (int, float)) or isinstance(tolerance, bool) or tolerance < 0:
        raise CheckError(f"The tolerance of the golden answers is {tolerance!r}, wanted a number.")
    cases = []
    for number, entry in enumerate(entries, start=1):
        request = entry.get("request") if isinstance(entry, dict) else None
        expected = entry.get("expected") if isinstance(entry, dict) else None
        if not isinstance(request, dict) or not request.get("inputs"):
            raise CheckError(f"Golden request {number} of {len(entries)} asks nothing.")
        if not isinstance(expected, dict) or not expected or not all(expected.values()):
            raise CheckError(
                f"The golden answer to request {number} of {len(entries)} is missing; the release "
                "was not packaged by the step publish, or was changed since."
            )
        try:
            answers = {
                name: tuple(float(each) for each in values) for name, values in expected.items()
            }
        except (TypeError, ValueError):
            raise CheckError(
                f"The golden answer to request {number} of {len(entries)} is not a list of numbers."
            ) from None
        cases.append(GoldenCase(request, answers))
    return Golden(tuple(cases), float(tolerance))


def gap(case: GoldenCase, answer: Mapping[str, Any]) -> float:
    """Return the largest difference from the golden answer; infinite if there is no answer."""
    outputs = {
        output.get("name"): output.get("data")
        for output in answer.get("outputs") or ()
        if isinstance(output, dict)
    }
    worst = 0.0
    for name, expected in case.expected.items():
        found = outputs.get(name)
        if not isinstance(found, list) or len(found) != len(expected):
            return math.inf
        for one, other in zip(found, expected):
            if not isinstance(one, (int, float)) or math.isnan(one):
                return math.inf
            worst = max(worst, abs(float(one) - other))
    return worst


def compare(golden: Golden, answers: Sequence[Mapping[str, Any]]) -> tuple[float, str]:
    """Compare all answers; return the largest difference and a sentence if it is too large."""
    gaps = [gap(case, answer) for case, answer in zip(golden.cases, answers)]
    worst = max(gaps, default=0.0)
    wrong = [number for number, each in enumerate(gaps, start=1) if each > golden.tolerance]
    if not wrong:
        return worst, ""
    size = "has other outputs" if math.isinf(worst) else f"differs by up to {worst:.3g}"
    return worst, (
        f"{len(wrong)} of {len(golden.cases)} answers are not the trainer's "
        f"(request {wrong[0]} {size}; at most {golden.tolerance:g} is accepted)"
    )
