# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Predictions wait, in memory, for somebody to say what was right; then the quality is known.

Only the first prediction of a request is remembered, under the id of the request: no input. The
oldest are forgotten first, so that what is kept is bounded whatever clients send.
"""

from __future__ import annotations

import csv
import io
import math
import threading
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LEAST = 50
"""Fewer answers that were judged say nothing of quality."""
WINDOW = 500
MEASURES = ("accuracy", "f1_macro", "rmse")
CSV = "text/csv"
ID_LENGTH = 128
LABEL_LENGTH = 100
SCHEMA = {
    "type": "object",
    "required": ["truth"],
    "properties": {
        "truth": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "value"],
                "properties": {
                    "id": {"type": "string"},
                    "value": {"type": ["string", "number", "boolean"]},
                },
            },
        }
    },
}


class TruthError(ValueError):
    """What was sent cannot be read; the message is a sentence for people."""


def prediction_of(values: Any, classes: Sequence[Any]) -> Any:
    """The first prediction of an output: a number, or a label as text."""
    flat = values[:1].ravel() if values.ndim else values.ravel()
    if not flat.size:
        return None
    if flat.dtype.kind == "f":
        if flat.size == 1:
            return float(flat[0])
        place = int(flat.argmax())
        return label_of(classes[place] if place < len(classes) else place)
    return label_of(flat[0])


def label_of(value: Any) -> str:
    """A label as it is compared: 1, 1.0 and true are the same."""
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text[:LABEL_LENGTH]


def entries_of(document: Any) -> list[tuple[str, Any]]:
    """Read ``{"truth": [{"id": …, "value": …}]}``."""
    listed = document.get("truth") if isinstance(document, Mapping) else None
    if not isinstance(listed, list):
        raise TruthError('Wanted {"truth": [{"id": "…", "value": …}]}.')
    found = []
    for number, entry in enumerate(listed, start=1):
        identifier = entry.get("id") if isinstance(entry, Mapping) else None
        value = entry.get("value") if isinstance(entry, Mapping) else None
        if not isinstance(identifier, str) or not isinstance(value, (str, int, float)):
            raise TruthError(
                f"Entry {number} has no id that is a string, or no value that is a number or a "
                "string."
            )
        found.append((identifier, value))
    return found


def entries_of_csv(data: bytes) -> list[tuple[str, Any]]:
    """Read a table with the columns id and value, and whatever others."""
    try:
        rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        head = [name.strip() for name in next(rows, [])]
        if not {"id", "value"} <= set(head):
            raise TruthError(f"Wanted CSV with the columns id and value, found {shown(head)}.")
        found = []
        places = head.index("id"), head.index("value")
        for row in rows:
            if not row:
                continue
            if len(row) <= max(places):
                raise TruthError(f"Line {rows.line_num} has {len(row)} of {len(head)} columns.")
            if any(row[len(head) :]):  # such as a number with a comma
                raise TruthError(
                    f"Line {rows.line_num} has {len(row)} of {len(head)} columns; numbers have a "
                    "point, and text with a comma stands in quotes."
                )
            if not row[places[1]].strip():
                raise TruthError(
                    f"Line {rows.line_num} has no value; leave out rows of which nothing is known."
                )
            found.append((row[places[0]], row[places[1]]))
    except (UnicodeDecodeError, csv.Error) as error:
        raise TruthError(f"The body is not CSV in UTF-8: {error}.") from None
    return found


def shown(names: Sequence[str]) -> str:
    """The beginning of what was found."""
    return ", ".join(names)[:200] or "nothing"


class Truths:
    """What one model has answered, and how right it was."""

    def __init__(self, remembered: int, window: int = WINDOW) -> None:
        self._most = remembered
        self._waiting: OrderedDict[str, Any] = OrderedDict()
        self._judged: deque[tuple[Any, Any]] = deque(maxlen=window)
        self._lock = threading.Lock()

    def remember(self, identifier: str, prediction: Any) -> None:
        """Keep a prediction; one with the same id takes its place."""
        if prediction is None or len(identifier) > ID_LENGTH:
            return
        with self._lock:
            self._waiting.pop(identifier, None)
            self._waiting[identifier] = prediction
            if len(self._waiting) > self._most:
                self._waiting.popitem(last=False)

    def learn(self, entries: Sequence[tuple[str, Any]]) -> tuple[int, int]:
        """Compare what is known now; return how many were remembered, and how many were not."""
        known = 0
        with self._lock:
            for identifier, value in entries:
                predicted = self._waiting.get(identifier)
                truth = self._truth(predicted, value)
                if truth is None:
                    continue
                del self._waiting[identifier]
                self._judged.append((predicted, truth))
                known += 1
        return known, len(entries) - known

    @staticmethod
    def _truth(predicted: Any, value: Any) -> Any:
        """The truth in the form of the prediction; nothing where it has none."""
        if predicted is None:
            return None
        if not isinstance(predicted, float):
            return label_of(value)
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return number if math.isfinite(number) else None

    def quality(self) -> dict[str, float]:
        """What the last judged answers were worth; nothing while there are too few."""
        with self._lock:
            pairs = [*self._judged]
        if len(pairs) < LEAST:
            return {}
        if isinstance(pairs[0][0], float):
            squares = [(predicted - truth) ** 2 for predicted, truth in pairs]
            return {"rmse": math.sqrt(sum(squares) / len(squares)), "judged": float(len(pairs))}
        right = sum(predicted == truth for predicted, truth in pairs)
        return {
            "accuracy": right / len(pairs),
            "f1_macro": macro_f1(pairs),
            "judged": float(len(pairs)),
        }


def macro_f1(pairs: Sequence[tuple[str, str]]) -> float:
    """The mean of F1 over all labels that were predicted or true."""
    found = []
    for label in {label for pair in pairs for label in pair}:
        hit = sum(predicted == truth == label for predicted, truth in pairs)
        either = sum((predicted == label) + (truth == label) for predicted, truth in pairs)
        found.append(2 * hit / either)
    return sum(found) / len(found)
