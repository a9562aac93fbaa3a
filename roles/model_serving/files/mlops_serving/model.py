# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release as a model that answers, checked before it answers anyone."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from . import drift, engine, protocol, truth
from .predictions import Buckets
from .profile import ProfileError
from .release import Release, ReleaseError, versions_of
from .samples import Samples, sampler_of
from .settings import Settings

logger = logging.getLogger("kserve")


@dataclass(frozen=True)
class Answer:
    """The body of an answer, how long its JSON is, how it is compressed, what was predicted."""

    body: bytes
    json_length: int | None
    encoding: str
    bucket: str = ""


def asked(request: Mapping[str, Any]) -> bytes:
    """By what the inputs of a request are known again."""
    inputs = orjson.dumps(request["inputs"], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(inputs).digest()


class OnnxModel:
    """The active release of one model."""

    def __init__(
        self,
        release: Release,
        settings: Settings,
        provider: str = engine.CPU,
        samples: Samples | None = None,
    ) -> None:
        self.release = release
        self.settings = settings.of(release.config)
        self.name = release.model_name
        self.version = release.model_version
        self.loaded_at = 0.0
        try:
            self.engine = engine.load(release.directory, self.settings.threads, provider)
        except engine.EngineError as error:
            raise ReleaseError(f"Release {release.digest}: {error}") from error
        self.buckets = Buckets(next(iter(self.engine.outputs), ""), release.config)
        self.watch = self._watch() if self.settings.drift_false_alarms_per_month > 0 else None
        remembered = self.settings.truth_requests
        self.truths = truth.Truths(remembered) if remembered > 0 else None
        self.sampler = sampler_of(samples, self.name, self.version, self.engine, release.config)
        self._golden: frozenset[bytes] = frozenset()
        classes = release.config.get("classes")
        self._classes = classes if isinstance(classes, list) else []

    def _watch(self) -> drift.Watch | None:
        """Compare with the profile of the release; without one it is served all the same."""
        settings = drift.Settings(
            self.settings.drift_window_seconds,
            self.settings.drift_window_requests,
            self.settings.drift_false_alarms_per_month,
            self.settings.drift_features,
        )
        try:
            watch = drift.make(self.release.directory, settings, time.time)
        except ProfileError as error:
            logger.warning("%s The model is served and not watched.", error)
            return None
        shapes = {name: tensor.shape for name, tensor in self.engine.inputs.items()}
        lacking = watch.fits(shapes, self.engine.outputs) if watch is not None else ""
        if lacking:
            logger.warning(
                "The profile of %s is of another model: %s. It is not watched.", self.name, lacking
            )
            return None
        return watch

    def _observe(self, ask: protocol.Ask, answers: list[Any]) -> None:
        """Look at a request that was answered; whatever goes wrong here is not the client's."""
        if self.watch is None:
            return
        try:
            self.watch.observe(ask.feed, ask.names, answers, time.time())
        except Exception:  # an answer is worth more than its statistics
            logger.exception("The model %s is no longer watched.", self.name)
            self.watch = None

    def _sample(self, identifier: str, ask: protocol.Ask, answers: list[Any]) -> None:
        """Keep a share of the requests; whatever goes wrong here is not the client's."""
        if self.sampler is None:
            return
        try:
            self.sampler.offer(identifier, ask.feed, ask.names, answers, time.time())
        except Exception:  # an answer is worth more than a sample of it
            self.sampler.failed()

    @property
    def request_max(self) -> int:
        """Bytes of the largest request that it takes."""
        return self.settings.request_max_mib * 2**20

    @property
    def takes_strings(self) -> bool:
        """Whether an input is made of strings, which take more memory than numbers."""
        return any(tensor.datatype == engine.BYTES for tensor in self.engine.inputs.values())

    def _remember(self, identifier: str, names: Sequence[str], answers: list[Any]) -> None:
        """Keep the first prediction until somebody says what was right."""
        if self.truths is None or self.buckets.output not in names:
            return
        values = answers[[*names].index(self.buckets.output)]
        self.truths.remember(identifier, truth.prediction_of(values, self._classes))

    def metadata(self) -> dict[str, Any]:
        """What the protocol says of a model."""

        def listed(tensors: dict[str, engine.Tensor]) -> list[dict[str, Any]]:
            return [
                {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
                for tensor in tensors.values()
            ]

        return {
            "name": self.name,
            "versions": [*versions_of(self.version)],
            "platform": "onnxruntime_onnx",
            "inputs": listed(self.engine.inputs),
            "outputs": listed(self.engine.outputs),
        }

    def answer(
        self,
        body: bytes,
        length: str | None,
        identifier: str,
        accepted: str,
        watched: bool = False,
        golden: bool = False,
    ) -> Answer:
        """Answer a request; runs in a thread, as it computes from beginning to end.

        ``golden`` is what whoever asks says of it: one that the release brings is not watched.
        """
        document, binary = protocol.split(body, length)
        try:
            request = orjson.loads(document)
        except ValueError as error:
            raise protocol.ProtocolError(400, f"The request is not JSON: {error}.") from None
        ask = protocol.decode(self.engine, request, binary)
        watched = watched and not (golden and asked(request) in self._golden)
        del request
        answers = self.engine.run(ask.feed, ask.names)
        bucket = self.buckets.of(ask.names, answers)
        if watched:
            self._observe(ask, answers)
            self._remember(ask.identifier or identifier, ask.names, answers)
            self._sample(ask.identifier or identifier, ask, answers)
        outputs, blobs = protocol.encode(self.engine, ask, answers)
        head = orjson.dumps(
            {
                "model_name": self.name,
                "model_version": self.version,
                "id": ask.identifier or identifier,
                "outputs": outputs,
            },
            option=orjson.OPT_SERIALIZE_NUMPY,
        )
        whole = b"".join([head, *blobs]) if blobs else head
        packed = accepted if len(whole) >= protocol.COMPRESS_FROM else ""
        return Answer(
            protocol.deflate(whole, packed) if packed else whole,
            len(head) if blobs else None,
            packed,
            bucket,
        )

    def check_golden(self) -> int:
        """Compare with the trainer's own predictions that travel in the release."""
        path = self.release.directory / "golden.json"
        try:
            golden = json.loads(path.read_bytes())
            cases = engine.check_golden(self.engine, golden, self.release.tolerance)
            self._golden = frozenset(asked(case["request"]) for case in golden["cases"])
            return cases
        except engine.EngineError as error:
            raise ReleaseError(f"Release {self.release.digest}: {error}") from error
        except (OSError, ValueError, AttributeError) as error:
            raise ReleaseError(f"The golden answers in {path} cannot be read: {error}.") from error
