# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last release, measured as a candidate is: same data, same code, its exact files.

Only a release that the site has signed for this model is fetched and run. One that the model
registry names and that cannot be verified stops the step; it is not passed over, or whoever moves
the alias could switch the comparison off.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ansible_collections.mlops.onprem.plugins.module_utils._release.client import (
    READ_BYTES,
    RegistryClient,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.release import Release
from ansible_collections.mlops.onprem.plugins.module_utils._release.statement import Champion

from . import judgement as judgements
from .candidate import RELEASE_FOLDER, Candidate, read_candidate
from .config import Config
from .current import Last, find_last
from .errors import PipelineError
from .fetched import has_registry
from .measure import measure
from .signing import site_ring
from .timing import Timings
from .trial import Limits, workplace

HOW_TO_GO_ON = (
    "To publish without a comparison, leave margin out for this run (margin of the entry of "
    "mlops_models, or pipeline_margin)."
)


@dataclass(frozen=True)
class Comparison:
    """What a candidate was compared with, and that in words; empty where nothing was asked."""

    champion: Champion | None = None
    words: str = ""

    def said(self) -> dict[str, Any]:
        """What the step prints of it."""
        if self.champion is None:
            return {}
        return {"champion": asdict(self.champion), "comparison": self.words}


class FileSink:
    """Writes a blob to a file; a broken transfer goes on where it ended."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def start(self, digest: hashlib._Hash) -> int:
        """Feed what is there to the hash; return how much that is."""
        self.stream.seek(0)
        while part := self.stream.read(READ_BYTES):
            digest.update(part)
        return self.stream.tell()

    def write(self, data: bytes) -> None:
        """Append."""
        self.stream.write(data)

    def restart(self) -> None:
        """Forget what was written."""
        self.stream.seek(0)
        self.stream.truncate()


def find(config: Config, timings: Timings, name: str) -> Last:
    """Find the release to compare with; refuse where none could be told from a forged one."""
    if not has_registry(config):
        raise PipelineError(
            "margin compares with the release that the model registry names; set mlflow, url, or "
            "leave margin out."
        )
    if site_ring(config) is None:
        raise PipelineError(
            "margin compares with the last release, which is trusted if a key of release_keys has "
            "signed it; list the keys that devices trust, or leave margin out."
        )
    try:
        return find_last(config, timings, name)
    except (PipelineError, RegistryError) as error:
        raise PipelineError(
            f"There is nothing to compare the candidate with. {error} {HOW_TO_GO_ON}"
        ) from None


@contextlib.contextmanager
def fetched(
    config: Config, timings: Timings, registry: RegistryClient, release: Release
) -> Iterator[Candidate]:
    """Yield the exact files of a release, each checked by the digest in its manifest."""
    most = Limits.of(config.options).release_max_mib
    if release.size > most * 2**20:
        raise PipelineError(
            f"it has {release.size / 2**20:.1f} MiB, more than the {most} MiB of a release "
            "(limits, release_max_mib)."
        )
    with workplace() as place:
        folder = place / RELEASE_FOLDER
        folder.mkdir()
        folder.chmod(0o755)
        with timings.measure("fetch the last release"):
            for file, blob in sorted(release.files.items()):
                path: Path = folder / file
                with path.open("w+b") as stream:
                    registry.blob(blob, FileSink(stream), file)
                path.chmod(0o644)
        yield read_candidate(folder)


def ended(error: Exception) -> str:
    """A reason that may be the last line of somebody's program, as a sentence."""
    said = str(error).strip()
    return said if said.endswith((".", "!", "?")) else f"{said}."


def metrics_of(
    config: Config,
    candidate: Candidate,
    data_version: str,
    ours: Mapping[str, Any],
) -> dict[str, float]:
    """Measure the last release as the candidate was; return the metrics of the thresholds."""
    found = measure(config, candidate.folder, data_version)
    read_candidate(candidate.folder).require(candidate.digest)
    for part in ("project_digest", "lock_digest"):
        if found[part] != ours[part]:
            raise PipelineError("the code of the project was changed while this step ran.")
    wanted = judgements.thresholds_of(config)
    for name in sorted(wanted):
        if not math.isfinite(found["metrics"].get(name, math.nan)):
            known = ", ".join(sorted(found["metrics"])) or "none"
            raise PipelineError(f"the project gives no number for {name}; it gives {known}.")
    return {name: value for name, value in found["metrics"].items() if name in wanted}


def compare(
    config: Config,
    timings: Timings,
    name: str,
    data_version: str,
    ours: Mapping[str, Any],
) -> Comparison:
    """Measure the last release on the data of a candidate; ``ours`` is what was found of that."""
    margin = judgements.margin_of(config) or 0.0
    last = find(config, timings, name)
    release, registry = last.release, last.registry
    if release is None or registry is None:
        why = f" that counts: {last.unverified}" if last.unverified else ""
        return Comparison(Champion("", "", {}, margin), f"no release before it{why}")
    what = f"The last release of {name} (version {release.model_version}, {release.digest})"
    try:
        with (
            fetched(config, timings, registry, release) as champion,
            timings.measure("judge the last release"),
        ):
            metrics = metrics_of(config, champion, data_version, ours)
    except (PipelineError, RegistryError) as error:
        raise PipelineError(
            f"{what} cannot be measured on the data of this run, so there is nothing to compare "
            f"the candidate with: {ended(error)} {HOW_TO_GO_ON}"
        ) from None
    figures = ", ".join(f"{each} {value:.3f}" for each, value in sorted(metrics.items()))
    return Comparison(
        Champion(release.digest, release.model_version, metrics, margin),
        f"version {release.model_version} before it had {figures} (margin {margin:g})",
    )
