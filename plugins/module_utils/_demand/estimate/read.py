# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A list of estimates as people write it: each parsed, refused by its field's path, or answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..._findings.shape import ShapeError, field, items, known_keys, mapping, optional, text
from . import cache, fields, fleet, memory, serving, storage
from .answer import Estimate
from .model_files import Files

MOST_ESTIMATES = 1000

Answer = Callable[[str, Mapping[str, Any], Files], Estimate]


def _plain(answer: Callable[[str, Mapping[str, Any]], Estimate]) -> Answer:
    return lambda name, data, _files: answer(name, data)


KINDS: dict[str, Answer] = {
    "model": memory.model,
    "kv_cache": _plain(cache.kv_cache),
    "training": _plain(memory.training),
    "serving": serving.serving,
    "dataset": _plain(storage.dataset),
    "mlflow": _plain(storage.mlflow),
    "prometheus": _plain(storage.prometheus),
    "ceph": _plain(storage.ceph),
    "backup": _plain(storage.backup),
    "edge_download": _plain(fleet.edge_download),
    "ring_size": _plain(fleet.ring_size),
}
KEYS = {
    "model": memory.MODEL_KEYS,
    "kv_cache": cache.KV_KEYS,
    "training": memory.TRAINING_KEYS,
    "serving": serving.SERVING_KEYS,
    "dataset": storage.DATASET_KEYS,
    "mlflow": storage.MLFLOW_KEYS,
    "prometheus": storage.PROMETHEUS_KEYS,
    "ceph": storage.CEPH_KEYS,
    "backup": storage.BACKUP_KEYS,
    "edge_download": fleet.DOWNLOAD_KEYS,
    "ring_size": fleet.RING_KEYS,
}


def estimate_all(value: object, files: Files, place: str = "estimates") -> tuple[Estimate, ...]:
    """Every estimate of a list. Raises ShapeError, such as ``estimates[2].kv_heads: ...``."""
    try:
        rows = items(value)
        if len(rows) > MOST_ESTIMATES:
            raise ShapeError(f"has {len(rows)} entries, more than {MOST_ESTIMATES}")
    except ShapeError as error:
        raise error.within(place) from None
    found: list[Estimate] = []
    names: set[str] = set()
    for index, row in enumerate(rows):
        try:
            one = estimate(row, files, f"{index + 1}")
            if one.name in names:
                raise ShapeError(f"{one.name!r} is the name of an earlier estimate", "name")
        except ShapeError as error:
            raise error.within(f"{place}[{index}]") from None
        names.add(one.name)
        found.append(one)
    return tuple(found)


def estimate(value: object, files: Files, default_name: str = "1") -> Estimate:
    """One estimate from what a person wrote."""
    given = mapping(value)
    kind = field(given, "kind", fields.choice(*KINDS))
    known_keys(given, ("name", "kind", *KEYS[kind]))
    name = optional(given, "name", text, f"{kind}_{default_name}")
    rest = {key: one for key, one in given.items() if key not in ("name", "kind")}
    return KINDS[kind](name, rest, files)


def report(estimates: Iterable[Estimate]) -> list[str]:
    """Every figure as a line of text, and the notes."""
    lines: list[str] = []
    for one in estimates:
        lines.extend(f"{one.name}: {row.name}: {row.formula}" for row in one.figures)
        lines.extend(f"{one.name}: {note}" for note in one.notes)
    return lines
