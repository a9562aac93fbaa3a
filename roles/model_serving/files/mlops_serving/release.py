# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies in the directory of a release, compared with its manifest."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import predictions, settings


class ReleaseError(Exception):
    """The release cannot be served; the message is a sentence for people."""


CONFIGURED = "-config."
"""What the version of a release ends with that differs from another in its configuration alone."""


def versions_of(version: str) -> tuple[str, ...]:
    """By which versions a model is asked: another configuration makes no other model of it."""
    own, _mark, number = version.rpartition(CONFIGURED)
    return (version, own) if own and number.isdigit() else (version,)


@dataclass(frozen=True)
class Release:
    """What the directory of a release says about it."""

    directory: Path
    digest: str
    model_name: str
    model_version: str
    run_id: str
    tolerance: float
    config: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, float] = field(default_factory=dict)
    """What was measured of the model before it was signed."""

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(path.stat().st_size for path in self.directory.rglob("*") if path.is_file())


def sha256_of(path: Path) -> str:
    """The digest of a file that need not fit into memory."""
    found = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def evaluation_in(directory: Path) -> dict[str, float]:
    """The figures of the signed evaluation, if it lies beside the release.

    Whether the signature is to be trusted is judged by who has fetched both; here it is only seen
    that it names this evaluation. What cannot be read is as if it were not there.
    """
    try:
        statement = (directory / "evaluation.json").read_bytes()
        named = [
            json.loads(base64.b64decode(pair["payload"]))["optional"].get("org.mlops.statement")
            for pair in json.loads((directory / "signature.json").read_bytes())
        ]
        if "sha256:" + hashlib.sha256(statement).hexdigest() not in named:
            return {}
        figures = json.loads(statement)["predicate"]["metrics"].items()
        told = {name: float(value) for name, value in figures}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {name: value for name, value in told.items() if math.isfinite(value)}


def read_release(directory: Path) -> Release:
    """Read a release's own description and compare every file with the manifest."""
    try:
        manifest_bytes = (directory / "manifest.json").read_bytes()
        manifest = json.loads(manifest_bytes)
        config = json.loads((directory / "config.json").read_bytes())
        notes = manifest["annotations"]
        digest = "sha256:" + hashlib.sha256(manifest_bytes).hexdigest()
        if directory.name != digest.partition(":")[2]:
            raise ReleaseError(
                f"The manifest in {directory} has the digest {digest}, not that of its directory."
            )
        for layer in manifest["layers"]:
            path = directory / layer["annotations"]["org.opencontainers.image.title"]
            found = "sha256:" + sha256_of(path)
            if found != layer["digest"]:
                raise ReleaseError(
                    f"The file {path} has the digest {found}, the manifest says {layer['digest']}."
                )
        predictions.edges_of(config.get("prediction_edges"))
        settings.read(config)
        return Release(
            directory=directory,
            digest=digest,
            model_name=notes["org.mlops.model.name"],
            model_version=notes["org.mlops.model.version"],
            run_id=notes.get("org.mlops.mlflow.run_id", ""),
            tolerance=float(config.get("tolerance", 1e-5)),
            config=config,
            evaluation=evaluation_in(directory),
        )
    except ReleaseError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReleaseError(
            f"The release in {directory} cannot be read: {type(error).__name__}: {error}."
        ) from error
