# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A share of the requests of a model, kept in memory until the control host fetches them.

Nothing is kept unless the file that the role writes names the model. Of a request the first row of
each input and output is taken, without what is to be left out; hashes are made when it is fetched.
No answer waits for any of it: what does not fit into the memory set aside is dropped and counted.

A batch that was handed out is handed out again until somebody says that it is stored, so that
nothing is lost between here and the object store, and nothing is there twice under two names.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import math
import random
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .access import Client, Clients
from .profile import labels

logger = logging.getLogger("kserve")
MOST_BYTES = 4 * 2**20
"""Memory of all samples that wait, with those that were handed out and are not stored yet."""
MOST_OF_ONE = 64 * 2**10
MOST_OF_BATCH = 2**20
MOST_ANSWER = 64 * 2**10
"""Bytes of what the control host says when it fetches."""
OVERHEAD = 400
"""Memory of a sample beside its values."""
ALWAYS_NAMED = 64
"""Up to so many columns each value has its name beside it; of larger inputs there is a list."""
COLLECTOR = "samples"
DROP, HASH = "drop", "hash"
IDENTIFIER = "id"
STORED, DROPPED = "stored", "dropped"


class SamplesError(Exception):
    """The file of the role cannot be read; the message is a sentence for people."""


@dataclass(frozen=True)
class Rule:
    """Which share of the requests of a model is kept, and what is left out or hashed of each."""

    rate: float
    redact: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """What is taken of one input or output."""

    tensor: str
    columns: Sequence[str]
    kept: Sequence[int] | None
    """Places of the columns that are kept; None for all of them."""
    hashed: frozenset[int]

    def take(self, values: Any) -> Any:
        """The first row, a copy without what is left out."""
        line = values[:1].ravel() if values.ndim else values.ravel()
        return line.copy() if self.kept is None else line[self.kept]

    def shown(self, line: Any, hashed: Callable[[str], str]) -> Any:
        """As it is written: by name, or a list where there are many, all kept as they are."""
        places = range(len(line)) if self.kept is None else self.kept
        values = [
            hashed(_text(value)) if place in self.hashed else _plain(value)
            for place, value in zip(places, line.tolist(), strict=True)
        ]
        if len(self.columns) > ALWAYS_NAMED and self.kept is None and not self.hashed:
            return values
        return dict(zip((self.columns[place] for place in places), values, strict=True))


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    """As JSON has it, which knows no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def part_of(tensor: Any, names: Sequence[str], redact: Mapping[str, str]) -> tuple[Part, set[str]]:
    """What is taken of a tensor, and which names of the rules it has."""
    sizes = tensor.shape[1:] if len(tensor.shape) > 1 else tensor.shape
    size = int(np.prod(sizes)) if all(each > 0 for each in sizes) else 1
    columns = labels(tensor.name, max(size, 1), names)
    by_column = {
        place: redact.get(column, redact.get(tensor.name)) for place, column in enumerate(columns)
    }
    used = {name for name in redact if name == tensor.name or name in columns}
    dropped = {place for place, how in by_column.items() if how == DROP}
    kept = [place for place in by_column if place not in dropped] if dropped else None
    hashed = frozenset(place for place, how in by_column.items() if how == HASH)
    return Part(tensor.name, columns, kept, hashed), used


@dataclass(frozen=True)
class Sample:
    """One request, as it waits."""

    model: str
    version: str
    at: float
    identifier: str
    inputs: Sequence[tuple[Part, Any]]
    outputs: Sequence[tuple[Part, Any]]
    size: int


def _size(line: Any) -> int:
    if line.dtype.kind == "O":
        return sum(len(value) + 60 for value in line)
    return int(line.nbytes)


class Samples:
    """What waits, of all models of the server."""

    def __init__(
        self,
        rules: Mapping[str, Rule],
        clients: Clients,
        key: bytes,
        count: Callable[[str, str, int], None],
        most: int = MOST_BYTES,
    ) -> None:
        self.rules = rules
        self.clients = clients
        self._key = key
        self._count = count
        self._most = most
        self._lock = threading.Lock()
        self._waiting: deque[Sample] = deque()
        self._used = 0
        self._batch = ""
        self._handed: list[Sample] = []
        for name in rules:
            for outcome in (STORED, DROPPED):
                count(name, outcome, 0)

    def put(self, sample: Sample) -> None:
        """Keep a sample, or drop it where there is no room."""
        with self._lock:
            fits = sample.size <= MOST_OF_ONE and self._used + sample.size <= self._most
            if fits:
                self._waiting.append(sample)
                self._used += sample.size
        if not fits:
            self._count(sample.model, DROPPED, 1)

    def drop(self, model: str) -> None:
        """Count one that could not be taken."""
        self._count(model, DROPPED, 1)

    def fetch(self, done: str, stored: Mapping[str, int]) -> tuple[str, bytes]:
        """Forget the batch that was stored; hand out the next one, or the last one once more."""
        with self._lock:
            finished = self._finish(done)
            if not self._handed:
                self._begin()
            batch, handed = self._batch, list(self._handed)
        for model, number in finished.items():
            kept = min(max(0, stored.get(model, 0)), number)
            self._count(model, STORED, kept)
            self._count(model, DROPPED, number - kept)
        lines = [json.dumps(self.shown(one), ensure_ascii=False) for one in handed]
        return batch, "".join(f"{line}\n" for line in lines).encode(errors="replace")

    def _finish(self, done: str) -> Counter[str]:
        if not done or done != self._batch:
            return Counter()
        finished = Counter(one.model for one in self._handed)
        self._used -= sum(one.size for one in self._handed)
        self._batch, self._handed = "", []
        return finished

    def _begin(self) -> None:
        room = MOST_OF_BATCH
        while self._waiting and (not self._handed or room >= self._waiting[0].size):
            self._handed.append(self._waiting.popleft())
            room -= self._handed[-1].size
        self._batch = uuid.uuid4().hex if self._handed else ""

    def hashed(self, text: str) -> str:
        """The same for the same value on every device; nobody without the key can try values."""
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()[:32]

    def shown(self, one: Sample) -> dict[str, Any]:
        """A sample as it is stored."""
        how = self.rules[one.model].redact.get(IDENTIFIER)
        identifier = self.hashed(one.identifier) if how == HASH else one.identifier
        return {
            "model": one.model,
            "version": one.version,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one.at)),
            **({} if how == DROP else {"id": identifier}),
            "inputs": {part.tensor: part.shown(line, self.hashed) for part, line in one.inputs},
            "outputs": {part.tensor: part.shown(line, self.hashed) for part, line in one.outputs},
        }


class Sampler:
    """Takes samples of one model."""

    def __init__(
        self,
        samples: Samples,
        model: str,
        version: str,
        parts: Mapping[str, Part],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._samples = samples
        self._model = model
        self._version = version
        self._parts = parts
        self._rate = samples.rules[model].rate
        self._chance = chance

    def offer(
        self,
        identifier: str,
        feed: Mapping[str, Any],
        names: Sequence[str],
        answers: Sequence[Any],
        now: float,
    ) -> None:
        """Keep this request if it is one of the share."""
        if self._chance() >= self._rate:
            return
        inputs = [(self._parts[name], self._parts[name].take(feed[name])) for name in feed]
        outputs = [
            (self._parts[name], self._parts[name].take(values))
            for name, values in zip(names, answers, strict=True)
        ]
        size = OVERHEAD + len(identifier) + sum(_size(line) for _part, line in inputs + outputs)
        one = Sample(self._model, self._version, now, identifier, inputs, outputs, size)
        self._samples.put(one)

    def failed(self) -> None:
        """Count a request of which no sample could be taken."""
        self._samples.drop(self._model)


def sampler_of(
    samples: Samples | None, model: str, version: str, engine: Any, config: Mapping[str, Any]
) -> Sampler | None:
    """What samples a release; none if nobody asked, or if a field to be redacted is not there.

    Of a name that no input has nobody can say what was meant, so nothing is kept.
    """
    rule = samples.rules.get(model) if samples else None
    if samples is None or rule is None:
        return None
    named = config.get("feature_names")
    names = [str(name) for name in named] if isinstance(named, list) else []
    only = next(iter(engine.inputs)) if len(engine.inputs) == 1 else ""
    known = {IDENTIFIER}
    parts: dict[str, Part] = {}
    for tensors in (engine.inputs, engine.outputs):
        for tensor in tensors.values():
            own = names if tensor.name == (config.get("input") or only) else []
            parts[tensor.name], used = part_of(tensor, own, rule.redact)
            known |= used
    strange = sorted(set(rule.redact) - known)
    if strange:
        logger.error(
            "No request of %s is kept: mlops_models[].sample.redact names %s, and the release has"
            " no such input or column.",
            *(model, ", ".join(strange)[:200]),
        )
        return None
    return Sampler(samples, model, version, parts)


def read_samples(path: Path | None, count: Callable[[str, str, int], None]) -> Samples | None:
    """Read the file that the role places; none where no model is sampled."""
    if path is None:
        return None
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        rules = {
            one["name"]: Rule(float(one["rate"]), dict(one["redact"])) for one in given["models"]
        }
        clients = Clients([Client(COLLECTOR, str(given["token_hash"]))])
        key = str(given["key"]).encode()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SamplesError(f"What is to be sampled, in {path}, cannot be read: {error}.") from error
    return Samples(rules, clients, key, count) if rules else None
