# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pack the engine and one project into a file: all that a control host needs to train by itself.

Prints one line of JSON: the file, and whether it was written by this run. It lies in the cache
directory under a name made of its content: the same code gives the same bytes, wherever and
whenever they are packed, and none is ever changed in place.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from environment import default_cache
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.project import Project, files_of, load_project

ROOT = Path(__file__).resolve().parents[1]
# What the engine is made of, as it imports it. A test lets it run from a bundle alone.
ENGINE = (
    "pipeline/environment.py",
    "pipeline/mlops_pipeline",
    "pipeline/mlops_trial",
    "plugins/module_utils/_contracts/__init__.py",
    "plugins/module_utils/_contracts/client_certificate.py",
    "plugins/module_utils/_contracts/contract.py",
    "plugins/module_utils/_contracts/deadline.py",
    "plugins/module_utils/_contracts/endpoint.py",
    "plugins/module_utils/_contracts/s3/__init__.py",
    "plugins/module_utils/_contracts/s3/client.py",
    "plugins/module_utils/_contracts/s3/judge.py",
    "plugins/module_utils/_findings",
    "plugins/module_utils/_release",
    "roles/model_serving/files/mlops_serving",
)
PROJECT, LOCK = "project", "project.lock"
MOMENT = (1980, 1, 1, 0, 0, 0)  # the earliest that the format knows


def sources(project: Project) -> Iterator[tuple[str, Path]]:
    """Name in the bundle and place of every file; the locked list may lie outside the project."""
    for name in ENGINE:
        place = ROOT / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            yield str(path.relative_to(ROOT)), path
    for path in files_of(project.folder):
        yield f"{PROJECT}/{path.relative_to(project.folder)}", path
    yield LOCK, project.requirements


def packed(project: Project) -> bytes:
    """The bundle: a zip archive, the same for the same files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(sources(project)):
            archive.writestr(zipfile.ZipInfo(name, MOMENT), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def ensure(project: Project, cache: Path) -> tuple[Path, bool]:
    """Return the file of a bundle, and whether it had to be written."""
    content = packed(project)
    place = cache / f"bundle-{hashlib.sha256(content).hexdigest()[:16]}.zip"
    if place.exists():
        return place, False
    cache.mkdir(parents=True, exist_ok=True)
    beside = place.with_suffix(f".{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(place)
    return place, True


def main() -> None:
    """Pack, unless that was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", required=True, help="folder with an MLproject, or a sample")
    parser.add_argument("--cache", type=Path, default=default_cache())
    options = parser.parse_args()
    started = time.monotonic()
    try:
        code = load_project(options.project)
        place, changed = ensure(code, options.cache.expanduser())
    except PipelineError as error:
        raise SystemExit(str(error)) from None
    answer = {
        "changed": changed,
        "bundle": str(place),
        "requirements": str(code.requirements),
        "seconds": round(time.monotonic() - started, 3),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
