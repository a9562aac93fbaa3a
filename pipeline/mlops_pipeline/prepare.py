# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 1: let the project make its data; store them with a manifest, if they are not there."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from . import project, sources
from .config import Config
from .data import MANIFEST, Entry, build_manifest, describe_folder, sha256
from .errors import PipelineError
from .storage import open_storage
from .timing import Timings


def run(config: Config, timings: Timings) -> dict[str, Any]:
    """Prepare the data; the version is the digest of the manifest."""
    options = config.options
    code = project.load_project(options.text("project"), config.project_lock)
    parameters = config.parameters("prepare")
    with TemporaryDirectory(prefix="mlops-data-") as place:
        folder = Path(place)
        given: dict[str, Any] = {"output": folder / "data"}
        (folder / "data").mkdir()
        origin = ""
        source: list[Entry] = []
        if "source" in options.value:
            with timings.measure("fetch the source"):
                (folder / "source").mkdir()
                origin, source = sources.fetch(config, folder / "source")
            given[project.SOURCE] = folder / "source"
        with timings.measure("find the environment"):
            python = project.python_of(code, config.environments, config.project_python)
        with timings.measure("run the project"):
            said = project.run(
                code,
                "prepare",
                {**parameters, **given},
                python,
                config.limit,
                config.disk_mib,
            )
        files = describe_folder(folder / "data")
        if not files:
            raise PipelineError(
                f"The entry point prepare of {code.name} wrote no file into the folder {{output}}."
            )
        if any(each.path == MANIFEST for each in files):
            raise PipelineError(f"The project {code.name} wrote {MANIFEST}, which is our own name.")
        manifest = build_manifest(code.name, parameters, files, source, origin)
        version = sha256(manifest)
        with timings.measure("store"):
            storage = open_storage(options.text("data_uri"), config)
            changed = storage.read(f"{version}/{MANIFEST}") != manifest
            if changed:
                for entry in files:
                    storage.put(f"{version}/{entry.path}", folder / "data" / entry.path)
                # Last: a manifest that is there means that all of it is there.
                storage.write(f"{version}/{MANIFEST}", manifest)
    return {
        "changed": changed,
        "data_uri": f"{storage.uri}/{version}",
        "data_version": version,
        "project": code.name,
        "project_digest": code.digest,
        "rows": said.get("rows", {}),
        "files": len(files),
        "source_files": len(source),
        "bytes": sum(each.size for each in files),
    }
