# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``evaluate`` has found, on its way to ``publish``, which signs it.

It stays on the operator's own disk, in a file that nobody else may write, under the digest of the
bytes that were judged. The model registry gets a copy to look at, and is not asked.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._release.statement import (
    Champion,
    Evaluation,
)

from .candidate import Candidate, check_digest, check_name
from .config import Config
from .errors import PipelineError

MAX_BYTES = 1024 * 1024
# So that 0.8 with a margin of 0.1 allows 0.7, which binary fractions miss by a hair.
HAIR = 1e-9


@dataclass(frozen=True)
class Judgement:
    """Which bytes were judged, on what, by what, and what came of it."""

    candidate: str
    cases: str
    tolerance: float
    thresholds: Mapping[str, float]
    metrics: Mapping[str, float]
    data_version: str
    project_commit: str
    lock_digest: str
    time: str
    champion: Champion | None = None

    def evaluation(self) -> Evaluation:
        """What is signed of it."""
        return Evaluation(
            candidate=self.candidate,
            project_commit=self.project_commit,
            lock=as_digest(self.lock_digest),
            data_manifest=as_digest(self.data_version),
            cases=self.cases,
            thresholds=self.thresholds,
            metrics=self.metrics,
            tolerance=self.tolerance,
            time=self.time,
            key_id="",
            champion=self.champion,
        )


def as_digest(text: str) -> str:
    """A digest as registries write it; data versions come without the algorithm."""
    return f"sha256:{text}" if text and ":" not in text else text


def now() -> str:
    """The time, as statements have it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def cases_digest(candidate: Candidate) -> str:
    """The digest of the golden answers."""
    return next(f"sha256:{each.sha256}" for each in candidate.files if each.path == "golden.json")


def judge(metrics: Mapping[str, float], thresholds: Mapping[str, float]) -> list[str]:
    """Return a sentence for each threshold that is not reached."""
    sentences = []
    for name, wanted in sorted(thresholds.items()):
        if name not in metrics:
            known = ", ".join(sorted(metrics)) or "none"
            sentences.append(f"There is no metric {name}; known are {known}.")
        elif not metrics[name] >= wanted:
            sentences.append(f"The {name} is {metrics[name]:.4f}, wanted {wanted} or more.")
    return sentences


def thresholds_of(config: Config) -> dict[str, float]:
    """The operator's thresholds."""
    found = {}
    for name, value in config.options.get("thresholds", dict, {}).items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise PipelineError(
                f"{config.options.where}, thresholds, {name}: found {value!r}, wanted a number."
            )
        found[str(name)] = float(value)
    return found


def margin_of(config: Config) -> float | None:
    """By how much a candidate may be worse than the last release; None compares nothing."""
    if not config.compares:
        return None
    margin = config.options.number("margin")
    if not (math.isfinite(margin) and margin >= 0):
        raise PipelineError(
            f"{config.options.where}, margin: found {margin:g}, wanted a number from 0 up."
        )
    if not thresholds_of(config):
        raise PipelineError(
            f"{config.options.where}, margin: it compares the metrics of thresholds, and there is "
            "none; name at least one, or leave margin out."
        )
    return margin


def outdone(
    metrics: Mapping[str, float],
    thresholds: Mapping[str, float],
    champion: Champion,
    margin: float,
) -> list[str]:
    """Return a sentence for each metric of the thresholds in which the last release is ahead.

    Larger is better, as with thresholds. A candidate may be worse by the margin, not by more; with
    a margin of 0 it has to be as good in every one.
    """
    sentences = []
    for name in sorted(thresholds) if champion.digest else []:
        ours, theirs = metrics.get(name, math.nan), champion.metrics.get(name, math.nan)
        if not ours >= theirs - margin - HAIR:
            sentences.append(
                f"The {name} is {ours:.4f}, that of the last release (version {champion.version}) "
                f"on the same data {theirs:.4f}; wanted {theirs - margin:.4f} or more, as the "
                f"margin is {margin:g}."
            )
    return sentences


def tolerance_of(config: Config, candidate: Candidate) -> float:
    """How far answers may be from the expected ones.

    The operator's word counts; without one, that of the candidate, whose digest the operator has
    named. Devices read the candidate's, which therefore may not be larger.
    """
    found = candidate.config().get("tolerance", candidate.golden()["tolerance"])
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not found >= 0:
        raise PipelineError(f"config.json, tolerance: found {found!r}, wanted a number from 0 up.")
    wanted = config.options.number("tolerance", float(found))
    if max(float(found), float(candidate.golden()["tolerance"])) > wanted:
        raise PipelineError(
            f"The candidate lets answers differ by {float(found):g}; the tolerance of the "
            f"configuration is {wanted:g}. Make the candidate again with that tolerance."
        )
    return wanted


def name_of(config: Config, candidate: Candidate) -> str:
    """The name of the model: that of the configuration, which the candidate must bear."""
    found = candidate.config().get("model_name")
    wanted = config.options.text("model_name", str(found))
    if found != wanted:
        raise PipelineError(
            f"The candidate was made for the model {found!r}, the configuration names {wanted!r}."
        )
    return check_name(wanted)


def golden_of(config: Config, candidate: Candidate) -> Mapping[str, Any]:
    """The cases of a candidate, judged by the operator's tolerance."""
    return {**candidate.golden(), "tolerance": tolerance_of(config, candidate)}


def default_place(candidate: str) -> Path:
    """Where the judgement of a candidate lies when no file is named."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    name = check_digest(candidate).partition(":")[2]
    return Path(state) / "mlops.onprem/judgements" / f"{name}.json"


def write(path: Path, judgement: Judgement) -> None:
    """Write a judgement, whole or not at all, for nobody else to write."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=".judgement-", delete=False, encoding="utf-8"
        ) as stream:
            json.dump(asdict(judgement), stream, sort_keys=True, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        Path(stream.name).replace(path)
    except OSError as error:
        raise PipelineError(f"The judgement cannot be written to {path}: {error}.") from None


def forget(path: Path) -> None:
    """Take back an earlier judgement: the same bytes have failed now."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise PipelineError(f"The judgement {path} cannot be removed: {error}.") from None


def read(path: Path, candidate: str) -> Judgement | None:
    """Read the judgement of a candidate; None if there is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PipelineError(f"The judgement {path} cannot be read: {error.strerror}.") from None
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise PipelineError(f"The judgement {path} cannot be read: it is not a plain file.")
    with os.fdopen(handle, "rb") as stream:
        if found.st_mode & 0o022 or found.st_uid not in (0, os.geteuid()):
            raise PipelineError(
                f"The judgement {path} could have been written by somebody else; run evaluate "
                "again, and let nobody else write there."
            )
        data = stream.read(MAX_BYTES)
    judgement = parse(data, path)
    if judgement.candidate != candidate:
        raise PipelineError(
            f"The judgement {path} is about {judgement.candidate}, wanted {candidate}."
        )
    return judgement


def parse(data: bytes, path: Path) -> Judgement:
    """Read what was written."""
    wrong = PipelineError(f"The judgement {path} is not one that evaluate has written.")
    try:
        value: Any = json.loads(data)
        if value.get("champion") is not None:
            value["champion"] = Champion(**value["champion"])
        judgement = Judgement(**value)
        figures = [
            judgement.tolerance,
            *judgement.thresholds.values(),
            *judgement.metrics.values(),
        ]
        texts = [value[name] for name in ("cases", "data_version", "project_commit", "lock_digest")]
        if judgement.champion is not None:
            figures += [judgement.champion.margin, *judgement.champion.metrics.values()]
            texts += [judgement.champion.digest, judgement.champion.version]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise wrong from None
    if not all(type(each) in (int, float) for each in figures) or not all(
        isinstance(each, str) for each in texts
    ):
        raise wrong
    return judgement
