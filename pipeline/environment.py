# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a Python environment once, from a hash-locked list: the engine's, or that of a project.

Prints one line of JSON: the Python of the environment, and whether it was built by this run. The
environment lies in the cache directory under a name made of what it depends on, so that another
list or another Python gives another environment and none is ever changed in place. Two lists of
the same bytes share one environment.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path


def default_cache() -> Path:
    """Return the cache directory, where nobody names another."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "mlops.onprem"


def run(command: list[str]) -> None:
    """Run a command without our secrets; end with a sentence if it fails."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")
    }
    environment.update(UV_PYTHON_DOWNLOADS="never", UV_SYSTEM_CERTS="1")
    # This program's own import path is not that of the environment it builds.
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=1800
    )
    if done.returncode:
        tail = " ".join(done.stderr.strip().splitlines()[-3:])
        raise SystemExit(f"The command {' '.join(command[:4])} failed: {tail}")


def find_uv() -> str | None:
    """Return uv beside the running Python, or on the path."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


def index_of_pip() -> list[str]:
    """Return the index that pip is set up with; uv does not read pip's configuration."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True,
        text=True,
        check=False,
    )
    index = os.environ.get("PIP_INDEX_URL") or done.stdout.strip()
    return ["--default-index", index] if index and "UV_DEFAULT_INDEX" not in os.environ else []


def refuse_unlocked(requirements: Path) -> None:
    """Refuse a list that pins nothing, with the command that locks it."""
    try:
        text = requirements.read_text(encoding="utf-8")
    except OSError as error:
        raise SystemExit(f"The list {requirements} cannot be read: {error}.") from None
    if "--hash=sha256:" not in text:
        raise SystemExit(
            f"Found no hashes in {requirements}, wanted every package locked with one; make the "
            "list with: uv pip compile --generate-hashes --only-binary :all: requirements.in -o "
            f"{requirements.name}"
        )


def build(place: Path, requirements: Path) -> None:
    """Build the environment with uv, which is quick, or with venv and pip; run no build."""
    shutil.rmtree(place, ignore_errors=True)
    python = str(place / "bin" / "python")
    # A source package would run build tools that no hash covers.
    strict = ["--require-hashes", "--only-binary", ":all:"]
    uv = find_uv()
    if uv:
        run([uv, "venv", "--quiet", "--python", sys.executable, str(place)])
        command = [uv, "pip", "install", "--quiet", "--python", python, *strict]
        run([*command, *index_of_pip(), "-r", str(requirements)])
    else:
        run([sys.executable, "-m", "venv", str(place)])
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*command, *strict, "-r", str(requirements)])


def place_of(requirements: Path, cache: Path) -> Path:
    """Return where the environment of a list lies."""
    identity = hashlib.sha256(requirements.read_bytes())
    identity.update(f"{sys.version} {sysconfig.get_platform()}".encode())
    return cache / f"pipeline-{identity.hexdigest()[:16]}"


def ensure(requirements: Path, cache: Path) -> tuple[str, bool]:
    """Return the Python of an environment, and whether it had to be built."""
    if sys.version_info < (3, 11):
        raise SystemExit(f"Found Python {sys.version.split()[0]}, wanted 3.11 or newer.")
    refuse_unlocked(requirements)
    cache.mkdir(parents=True, exist_ok=True)
    place = place_of(requirements, cache)
    marker = place / ".complete"
    changed = False
    if not marker.exists():
        with (cache / ".pipeline.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not marker.exists():
                build(place, requirements)
                marker.touch()
                changed = True
    return str(place / "bin" / "python"), changed


def main() -> None:
    """Find the environments or build them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requirements", type=Path, help="hash-locked list")
    parser.add_argument(
        "--project", type=Path, action="append", default=[], help="folder with an MLproject"
    )
    parser.add_argument("--cache", type=Path, default=default_cache())
    options = parser.parse_args()
    if not options.requirements and not options.project:
        parser.error("name --requirements, --project or both")
    started = time.monotonic()
    lists = [options.requirements] if options.requirements else []
    if options.project:
        from mlops_pipeline.errors import PipelineError
        from mlops_pipeline.project import load_project

        try:
            lists += [load_project(folder).requirements for folder in options.project]
        except PipelineError as error:
            raise SystemExit(str(error)) from None
    found = [ensure(each, options.cache) for each in lists]
    answer = {
        "changed": any(changed for _python, changed in found),
        "python": found[0][0],
        "seconds": round(time.monotonic() - started, 3),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
