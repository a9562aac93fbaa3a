# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the Python environment of the pipeline once, from the hash-locked list.

Prints one line of JSON: the Python of the environment, and whether it was built by this run. The
environment lies in the cache directory under a name made of what it depends on, so that another
list or another Python gives another environment and none is ever changed in place.
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


def run(command: list[str]) -> None:
    """Run a command; end with a sentence if it fails."""
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "1"}
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


def build(place: Path, requirements: Path) -> None:
    """Build the environment with uv, which is quick, or with venv and pip."""
    shutil.rmtree(place, ignore_errors=True)
    python = str(place / "bin" / "python")
    uv = find_uv()
    if uv:
        run([uv, "venv", "--quiet", "--python", sys.executable, str(place)])
        command = [uv, "pip", "install", "--quiet", "--python", python, "--require-hashes"]
        command += [*index_of_pip(), "-r", str(requirements)]
        run(command)
    else:
        run([sys.executable, "-m", "venv", str(place)])
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*command, "--require-hashes", "-r", str(requirements)])


def main() -> None:
    """Find the environment or build it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requirements", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    options = parser.parse_args()
    if sys.version_info < (3, 11):
        raise SystemExit(f"Found Python {sys.version.split()[0]}, wanted 3.11 or newer.")
    started = time.monotonic()
    identity = hashlib.sha256(options.requirements.read_bytes())
    identity.update(f"{sys.version} {sysconfig.get_platform()}".encode())
    options.cache.mkdir(parents=True, exist_ok=True)
    place = options.cache / f"pipeline-{identity.hexdigest()[:16]}"
    marker = place / ".complete"
    changed = False
    with (options.cache / ".pipeline.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not marker.exists():
            build(place, options.requirements)
            marker.touch()
            changed = True
    seconds = round(time.monotonic() - started, 3)
    python = str(place / "bin" / "python")
    print(json.dumps({"changed": changed, "python": python, "seconds": seconds}))


if __name__ == "__main__":
    main()
