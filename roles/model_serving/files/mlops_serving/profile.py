# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reference profile of a model: how its inputs and its predictions were distributed.

The pipeline makes it and the model server compares with it, both with this file. It needs numpy and
nothing of the server. The form is described in docs/schema/reference_profile.schema.json.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FILE = "profile.json"
KIND = "mlops.onprem/reference-profile"
VERSION = 1
MOST_FEATURES = 64
MOST_BYTES = 2**20
MOST_ROWS = 100_000
LEAST_ROWS = 50
BINS = 10
MOST_CATEGORIES = 100
TOP_CATEGORIES = 19
FEW = 20
"""Whole numbers with at most so many values are categories."""
NAME_LENGTH = 100

NUMBER = "number"
CATEGORY = "category"
PREDICTION = "prediction"
CONFIDENCE = "confidence"


class ProfileError(Exception):
    """A profile that cannot be made or read; the message is a sentence for people."""


@dataclass(frozen=True)
class Column:
    """One input, or one place of an input, or what was predicted.

    A number has ``edges``: the bin of a value is how many edges are below it. A category has
    ``values``, the frequent ones first; its bins are the first of them, and one for all others.
    """

    name: str
    kind: str
    counts: tuple[int, ...]
    tensor: str = ""
    index: int = 0
    missing: int = 0
    edges: tuple[float, ...] = ()
    minimum: float = 0.0
    maximum: float = 0.0
    values: tuple[str, ...] = ()
    complete: bool = True
    """Whether ``values`` are all that were seen; only then can another be called new."""
    singletons: int = 0
    """How many values were seen once: as many new ones are to be expected among as many rows."""

    @property
    def rows(self) -> int:
        """Rows in which it had a value."""
        return sum(self.counts)


@dataclass(frozen=True)
class Profile:
    """What the server compares with."""

    rows: int
    features: tuple[Column, ...]
    prediction: Column | None = None
    confidence: Column | None = None
    left_out: int = 0
    chosen: str = "all"
    """Why these features and no others: all, declared or most_variable."""

    def to_json(self) -> dict[str, Any]:
        """The content of the file."""
        return {"kind": KIND, "version": VERSION, **asdict(self)}


# -- making one -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """What a release says about its inputs: labels and the features to watch."""

    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    declared: Sequence[str] = ()
    prediction: str = ""
    """The output that is the prediction: the first one, as for buckets of predictions."""


def labels(tensor: str, size: int, names: Sequence[str]) -> list[str]:
    """Name the columns of one input; what was predicted has names of its own."""
    found = [tensor] if size == 1 else [f"{tensor}[{at}]" for at in range(size)]
    if len(names) == size:
        found = [str(name)[:NAME_LENGTH] for name in names]
    return [f"{name}_" if name in (PREDICTION, CONFIDENCE) else name for name in found]


def flat(values: Any) -> Any:
    """An array as rows and columns."""
    values = np.asarray(values)
    return values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def is_missing(values: Any) -> Any:
    """Which values are missing: no number, or an empty string."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind in "OUS":
        return np.asarray([_text(value) == "" for value in values], dtype=bool)
    return np.zeros(len(values), dtype=bool)


def as_category(value: Any) -> str:
    """How a value of a category is written down."""
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    return _text(value)[:NAME_LENGTH]


def describe(name: str, values: Any, tensor: str = "", index: int = 0) -> Column:
    """Describe one column."""
    absent = is_missing(values)
    there = values[~absent]
    missing = int(absent.sum())
    if values.dtype.kind in "iu" and len(np.unique(there)) > FEW:
        return _number(name, there.astype(np.float64), missing, tensor, index)
    if values.dtype.kind == "f":
        return _number(name, there.astype(np.float64), missing, tensor, index)
    seen = Counter(as_category(value) for value in there.tolist())
    ordered = sorted(seen, key=lambda value: (-seen[value], value))
    top = ordered[:TOP_CATEGORIES]
    rest = sum(seen[value] for value in ordered[TOP_CATEGORIES:])
    return Column(
        name=name,
        kind=CATEGORY,
        counts=(*(seen[value] for value in top), rest),
        tensor=tensor,
        index=index,
        missing=missing,
        values=tuple(ordered[:MOST_CATEGORIES]),
        complete=len(ordered) <= MOST_CATEGORIES,
        singletons=sum(1 for value in ordered if seen[value] == 1),
    )


def _number(name: str, there: Any, missing: int, tensor: str, index: int) -> Column:
    finite = there[np.isfinite(there)]
    edges: tuple[float, ...] = ()
    if finite.size:
        # Values that stand among the data: a bin is never empty by rounding, and many equal
        # values (zeros of an image) end a bin of their own.
        found = np.quantile(finite, np.arange(1, BINS) / BINS, method="lower")
        edges = tuple(float(edge) for edge in np.unique(found) if edge < finite.max())
    counts = np.bincount(np.searchsorted(edges, there, side="left"), minlength=len(edges) + 1)
    return Column(
        name=name,
        kind=NUMBER,
        counts=tuple(int(count) for count in counts),
        tensor=tensor,
        index=index,
        missing=missing,
        edges=edges,
        minimum=float(finite.min()) if finite.size else 0.0,
        maximum=float(finite.max()) if finite.size else 0.0,
    )


def variety(values: Any) -> float:
    """How much a column varies, comparable between units: entropy over ten equal steps."""
    absent = is_missing(values)
    there = values[~absent]
    if not there.size:
        return 0.0
    if values.dtype.kind in "OUSb":
        counts = np.asarray([*Counter(map(as_category, there.tolist())).values()], dtype=float)
    else:
        number = there.astype(np.float64)
        low, high = np.quantile(number, (0.01, 0.99))
        if not high > low or not np.isfinite(high - low):
            return 0.0
        counts = np.histogram(np.clip(number, low, high), BINS, (low, high))[0].astype(float)
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


def choose(columns: Sequence[tuple[str, Any]], declared: Sequence[str]) -> tuple[list[int], str]:
    """Which columns are watched, in their order, and why these."""
    names = [name for name, _values in columns]
    if declared:
        unknown = sorted(set(declared) - set(names))
        if unknown or len(declared) > MOST_FEATURES:
            raise ProfileError(
                f"profile_features names {len(declared)} features, of which the model does not "
                f"have {', '.join(unknown) or 'none'}; wanted at most {MOST_FEATURES} of "
                f"{', '.join(names[:10])}{' …' if len(names) > 10 else ''}."
            )
        return [at for at, name in enumerate(names) if name in set(declared)], "declared"
    if len(columns) <= MOST_FEATURES:
        return [*range(len(columns))], "all"
    order = sorted(range(len(columns)), key=lambda at: (-variety(columns[at][1]), at))
    return sorted(order[:MOST_FEATURES]), "most_variable"


def of_prediction(values: Any) -> tuple[Any, Any]:
    """What is compared of an output: the class or the number of each row, and how sure it is."""
    rows = flat(values)
    if rows.dtype.kind == "f" and rows.shape[1] > 1:
        return rows.argmax(axis=1), confidence_of(rows)
    first = rows[:, 0]
    return first, None


def confidence_of(rows: Any) -> Any:
    """The largest of several probabilities; nothing where they are none."""
    with np.errstate(invalid="ignore"):
        sums = np.abs(rows.astype(np.float64).sum(axis=1) - 1.0) < 1e-3
        if rows.shape[1] < 2 or not bool(sums.all()) or bool((rows < -1e-6).any()):
            return None
    return rows.max(axis=1)


def build(
    inputs: Mapping[str, Any], outputs: Mapping[str, Any], wanted: Wanted = Wanted()
) -> Profile:
    """Make a profile of rows and of what the model answers to them."""
    rows = min((len(flat(values)) for values in inputs.values()), default=0)
    if rows < LEAST_ROWS:
        raise ProfileError(
            f"The reference has {rows} rows, wanted {LEAST_ROWS} or more: of fewer nobody can say "
            "how the inputs of the model are distributed."
        )
    columns: list[tuple[str, Any]] = []
    places: list[tuple[str, int]] = []
    for tensor, values in inputs.items():
        table = flat(values)
        for at, name in enumerate(labels(tensor, table.shape[1], wanted.names.get(tensor, ()))):
            columns.append((name, table[:, at]))
            places.append((tensor, at))
    chosen, why = choose(columns, wanted.declared)
    features = tuple(describe(*columns[at], *places[at]) for at in chosen)
    prediction = confidence = None
    main = wanted.prediction if wanted.prediction in outputs else next(iter(outputs), "")
    if main:
        values, sure = of_prediction(outputs[main])
        prediction = describe(PREDICTION, np.asarray(values), main)
        source = main
        for name, other in outputs.items():
            if sure is None and name != main and np.asarray(other).dtype.kind == "f":
                sure, source = confidence_of(flat(other)), name
        if sure is not None:
            confidence = describe(CONFIDENCE, sure, source)
    return Profile(rows, features, prediction, confidence, len(columns) - len(chosen), why)


# -- reading one ------------------------------------------------------------------------------


def _column(value: Any, place: str) -> Column:
    if not isinstance(value, dict):
        raise ProfileError(f"{place} is not an object.")
    try:
        column = Column(
            name=str(value["name"])[:NAME_LENGTH],
            kind=str(value["kind"]),
            counts=tuple(int(count) for count in value["counts"]),
            tensor=str(value.get("tensor", "")),
            index=int(value.get("index", 0)),
            missing=int(value.get("missing", 0)),
            edges=tuple(float(edge) for edge in value.get("edges", ())),
            minimum=float(value.get("minimum", 0.0)),
            maximum=float(value.get("maximum", 0.0)),
            values=tuple(str(each) for each in value.get("values", ())),
            complete=bool(value.get("complete", True)),
            singletons=int(value.get("singletons", 0)),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ProfileError(f"{place}: {type(error).__name__}: {error}.") from None
    bins = len(column.edges) + 1 if column.kind == NUMBER else None
    if column.kind == CATEGORY:
        bins = min(len(column.values), TOP_CATEGORIES) + 1
    if bins is None or len(column.counts) != bins:
        raise ProfileError(f"{place} is a {column.kind} with {len(column.counts)} counts.")
    numbers = (column.index, column.missing, column.singletons, *column.counts)
    if min(numbers) < 0 or len(column.edges) >= BINS * 2 or len(column.values) > MOST_CATEGORIES:
        raise ProfileError(f"{place} has a count below zero, or too many edges or values.")
    if list(column.edges) != sorted(set(column.edges)) or not np.isfinite(column.edges).all():
        raise ProfileError(f"{place}: the edges do not rise.")
    return column


def parse(value: Any) -> Profile | None:
    """Read the content of a profile; nothing where it is a profile of another kind."""
    if not isinstance(value, dict) or value.get("kind") != KIND:
        return None
    if value.get("version") != VERSION:
        return None
    listed = value.get("features")
    if not isinstance(listed, list) or len(listed) > MOST_FEATURES:
        raise ProfileError(f"features is no list of at most {MOST_FEATURES}.")
    features = tuple(_column(each, f"feature {n}") for n, each in enumerate(listed, start=1))
    if len({column.name for column in features}) != len(features):
        raise ProfileError("two features have the same name.")
    found: dict[str, Column | None] = {}
    for name in (PREDICTION, CONFIDENCE):
        found[name] = _column(value[name], name) if value.get(name) is not None else None
    try:
        rows, left_out = int(value["rows"]), int(value.get("left_out", 0))
    except (KeyError, TypeError, ValueError):
        raise ProfileError("rows is not a number.") from None
    return Profile(
        rows,
        features,
        found[PREDICTION],
        found[CONFIDENCE],
        left_out,
        str(value.get("chosen", "all")),
    )


def read(directory: Path) -> Profile | None:
    """Read the profile of a release; nothing where it has none of this kind."""
    path = directory / FILE
    if not path.exists():
        return None
    try:
        if path.stat().st_size > MOST_BYTES:
            # Who put another kind of profile here before this one was known may go on.
            return None
        return parse(json.loads(path.read_bytes()))
    except ProfileError as error:
        raise ProfileError(f"The reference profile {path} cannot be used: {error}") from None
    except (OSError, ValueError, RecursionError):
        return None
