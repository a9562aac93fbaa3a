# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bucket of a histogram a prediction falls into: at most twenty, whatever clients send.

A rollout compares how the predictions of two releases are distributed. So a bucket depends on the
prediction alone and means the same on every device. One prediction of a request counts, the first:
a client with large batches weighs no more than others.
"""

from __future__ import annotations

import bisect
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MOST = 20
OTHER = "other"
ABOVE = "+Inf"
# Scores from 0 to 1 in steps of 0.05; what is above the last bound, or no number, is above.
SCORES = tuple(round(0.05 * step, 2) for step in range(1, MOST))
# Of a tensor that is neither a score nor scores of classes, the mean of so many numbers.
LOOKED_AT = 1000


def edges_of(value: Any) -> tuple[float, ...]:
    """Read ``prediction_edges`` of a release's config; a ValueError says what is wrong."""
    if value is None:
        return SCORES
    if not isinstance(value, list) or not 1 <= len(value) < MOST:
        raise ValueError(f"prediction_edges must be a list of 1 to {MOST - 1} numbers")
    if any(isinstance(one, bool) or not isinstance(one, (int, float)) for one in value):
        raise ValueError("prediction_edges must be numbers")
    found = tuple(float(one) for one in value)
    if not all(map(math.isfinite, found)) or list(found) != sorted(set(found)):
        raise ValueError("prediction_edges must be finite numbers, each larger than the one before")
    return found


class Buckets:
    """Finds the bucket of the first output of a model.

    ``config`` is that of the release: ``classes``, the labels in their order, and
    ``prediction_edges``, the upper bounds for a score.
    """

    def __init__(self, output: str, config: Mapping[str, Any]) -> None:
        self.output = output
        self.edges = edges_of(config.get("prediction_edges"))
        self._names = [f"{edge:g}" for edge in self.edges]
        self._classes: dict[str, int] = {}
        classes = config.get("classes")
        for index, label in enumerate(classes if isinstance(classes, list) else ()):
            self._classes.setdefault(str(label), index)

    def of(self, names: Sequence[str], outputs: Sequence[Any]) -> str:
        """The bucket of an answer; empty where it holds no prediction."""
        for name, values in zip(names, outputs, strict=True):
            if name == self.output:
                return self._first(values) if values.size else ""
        return ""

    def _first(self, values: Any) -> str:
        first = values[0] if values.ndim else values
        if values.dtype.kind == "f":
            return self._score(first)
        return self._label(first.flat[0] if isinstance(first, np.ndarray) else first)

    def _score(self, first: Any) -> str:
        if first.ndim == 1 and first.size > 1:
            return self._numbered(int(first.argmax()))
        number = float(first if not first.ndim else first.ravel()[:LOOKED_AT].mean())
        at = len(self.edges) if math.isnan(number) else bisect.bisect_left(self.edges, number)
        return self._names[at] if at < len(self._names) else ABOVE

    def _label(self, value: Any) -> str:
        label = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        if self._classes:
            return self._numbered(self._classes.get(label, -1))
        if isinstance(value, (bool, np.bool_)):
            return str(int(value))
        if isinstance(value, (int, np.integer)):
            return self._numbered(int(value))
        # Strings that the release does not list: a number that is the same on every device.
        return str(zlib.crc32(label.encode()) % (MOST - 1))

    @staticmethod
    def _numbered(index: int) -> str:
        return str(index) if 0 <= index < MOST - 1 else OTHER
