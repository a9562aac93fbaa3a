# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""llama.cpp as the role starts it, from its lock, with a small model of random weights."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._demand.running import ServingRun
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.placed import Placed
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.serving import (
    Host,
    Loaded,
    unit,
)
from mlops_pipeline import weights

from tests.fixtures import random_gguf
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "roles/workloads/files"
LOCK = FILES / "requirements-llama_cpp/requirements.txt"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mlops.onprem"
DEADLINE = PATIENCE


@pytest.fixture(scope="module")
def python() -> str:
    """Python of the engine's locked environment, built once."""
    name = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    place = CACHE / f"llama-{name}"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        pip = [str(place / "bin/pip"), "install", "--quiet", "--no-deps", "--require-hashes"]
        subprocess.run([*pip, "--only-binary", ":all:", "-r", str(LOCK)], check=True)
        (place / "complete").touch()
    return str(place / "bin/python")


@pytest.fixture(scope="module")
def release() -> Iterator[Path]:
    """A release as `weights` packages it."""
    with tempfile.TemporaryDirectory(prefix="llama-") as folder:
        place = Path(folder)
        (place / "model.gguf").write_bytes(random_gguf.model())
        found = weights.collect(place / "model.gguf", None)
        for name, data in found.made.items():
            (place / name).write_bytes(data)
        yield place


def tool(*words: str) -> subprocess.CompletedProcess[str]:
    """The command mlops-workload, as systemd calls it."""
    code = "import sys; from mlops_workload.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=FILES,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )


def ask(socket: Path, path: str, body: Any = None) -> Any:
    """Ask the engine by its socket."""
    code = (
        "import json, sys; from mlops_workload.web import ask;"
        "status, data = ask(*json.loads(sys.argv[1])); print(status); print(data.decode())"
    )
    words = [str(socket), "POST" if body else "GET", path, body]
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(words)],
        cwd=FILES,
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE,
    )
    status, _line, text = done.stdout.partition("\n")
    return int(status), text


@contextmanager
def engine(python: str, release: Path, place: Path, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """The process of a replica, with the very command line of its unit."""
    run = ServingRun("llama_cpp", "tiny", version=1, context_tokens=256, parallel=2, **more)
    one = Placed("chat", "serving", 0, "here", cpu_cores=1.0, run=run)
    made = unit(one, Loaded(str(release), "gguf"), Host("here"))
    words = [
        word.replace(f"/run/{made.name}", str(place)).replace(made.command[0], python)
        for word in made.command
    ]
    environment = {**os.environ, **made.environment, "PYTHONPATH": str(FILES)}
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE)


def where(place: Path, release: Path) -> list[str]:
    return ["--engine=llama_cpp", f"--directory={place}", f"--release={release}"]


def test_a_replica_proves_itself_serves_and_leaves(python: str, release: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="run-") as folder:
        place = Path(folder)
        with engine(python, release, place) as process:
            done = tool("admit", *where(place, release), f"--timeout={DEADLINE:.0f}")
            assert done.stdout == "1 golden answers are right.\n", done.stderr
            asked = {"prompt": "hello", "max_tokens": 12, "temperature": 0}
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                both = list(
                    pool.map(lambda _n: ask(place / "answer.sock", "/v1/completions", asked), "ab")
                )
            assert [status for status, _text in both] == [200, 200]
            first, second = (json.loads(text)["choices"][0]["text"] for _status, text in both)
            assert first == second != ""
            status, models = ask(place / "answer.sock", "/v1/models")
            assert (status, json.loads(models)["data"][0]["id"]) == (200, "tiny")
            _status, metrics = ask(place / "answer.sock", "/metrics")
            assert "llamacpp:tokens_predicted_total" in metrics
            said = tool("drain", "--engine=llama_cpp", f"--directory={place}")
            assert said.stdout == "No request is under way.\n"
            assert not (place / "answer.sock").is_symlink()
            process.terminate()
            assert process.wait(timeout=DEADLINE) == 0


def test_other_weights_are_not_let_in(python: str, release: Path, tmp_path: Path) -> None:
    wrong = {"cases": [{"request": {"prompt": "a"}, "expected": {"tokens": [1, 2, 3]}}]}
    (tmp_path / "golden.json").write_text(json.dumps(wrong))
    with (
        tempfile.TemporaryDirectory(prefix="run-") as folder,
        engine(python, release, Path(folder)),
    ):
        done = tool("admit", *where(Path(folder), tmp_path), f"--timeout={DEADLINE:.0f}")
        assert done.returncode == 1
        assert "the answer has other tokens than expected" in done.stderr
        assert not (Path(folder) / "answer.sock").is_symlink()


def test_a_parameter_that_llama_does_not_have_ends_the_start(python: str, release: Path) -> None:
    options = (("no_such_parameter", "1"),)
    with (
        tempfile.TemporaryDirectory(prefix="run-") as folder,
        engine(python, release, Path(folder), options=options) as process,
    ):
        ends = time.monotonic() + DEADLINE
        while process.poll() is None and time.monotonic() < ends:
            time.sleep(0.05)
        assert process.returncode == 1
        assert process.stderr is not None
        assert "has no parameter 'no_such_parameter'; correct options" in process.stderr.read()
