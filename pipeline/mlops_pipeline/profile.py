# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reference profile of a candidate: how its inputs and its answers are distributed.

It is made of rows that the project names, by the code of the model server, in the child process
that also tries the model. Devices compare what they are asked with it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .candidate import PROFILE_FILE, Candidate, assemble, write_json
from .errors import PipelineError
from .trial import Limits, trial, workplace

REFERENCE_FILE = "reference.npz"
MOST_ROWS = 100_000
MOST_MIB = 64
MOST_FILE_MIB = 1024
LEAST_ROWS = 50


def read_rows(path: Path) -> dict[str, Any]:
    """Read one array for each input; of very many rows evenly spread ones."""
    import numpy as np

    try:
        if path.is_symlink() or not path.is_file():
            raise PipelineError(f"{path.name} is not a plain file.")
        if path.stat().st_size > MOST_FILE_MIB * 2**20:
            raise PipelineError(
                f"{path.name} has {path.stat().st_size / 2**20:.0f} MiB, wanted at most "
                f"{MOST_FILE_MIB}; a profile needs {MOST_ROWS} rows at most."
            )
        with np.load(path, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise PipelineError(
            f"{path.name} cannot be read: {error}. Wanted an npz file with one array for each "
            "input of the model, one row an example (numpy.savez, no objects)."
        ) from None
    rows = {len(value) if value.ndim else 0 for value in found.values()}
    if len(rows) != 1:
        raise PipelineError(
            f"The arrays of {path.name} have {', '.join(map(str, sorted(rows))) or 'no'} rows; "
            "wanted one row of each input for each example."
        )
    (count,) = rows
    if count < LEAST_ROWS:
        raise PipelineError(
            f"{path.name} has {count} rows, wanted {LEAST_ROWS} or more; leave it out to release "
            "the model without a profile."
        )
    size = sum(value.nbytes for value in found.values())
    keep = min(count, MOST_ROWS, max(LEAST_ROWS, int(count * MOST_MIB * 2**20 / max(size, 1))))
    if keep == count:
        return found
    chosen = np.linspace(0, count - 1, keep).astype(int)
    return {name: value[chosen] for name, value in found.items()}


def order_of(settings: Mapping[str, Any], rows: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json says of the features: their names, and which of them are watched."""
    names = settings.get("feature_names")
    tensor = settings.get("input") or (next(iter(rows)) if len(rows) == 1 else "")
    declared = settings.get("profile_features") or []
    for what, value in (("feature_names", names or []), ("profile_features", declared)):
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise PipelineError(f"config.json, {what}: wanted a list of names.")
    return {
        "names": {str(tensor): [str(name) for name in names]} if names and tensor else {},
        "declared": [str(name) for name in declared],
    }


def make(
    model: Path, settings: Mapping[str, Any], rows: Mapping[str, Any], limits: Limits
) -> Mapping[str, Any]:
    """Ask the model for its answers to the rows; return the profile of both."""
    with workplace() as place:
        draft: Candidate = assemble(place / "draft", model, {}, {}, most_mib=limits.release_max_mib)
        tried = trial(draft, limits, rows=rows, latency=0, profile=order_of(settings, rows))
    if not tried.profile:
        raise PipelineError("The model has answered the reference and no profile came of it.")
    return tried.profile


def write(folder: Path, made: Mapping[str, Any]) -> Path:
    """Write a profile into a folder."""
    path = folder / PROFILE_FILE
    write_json(path, dict(made))
    return path
