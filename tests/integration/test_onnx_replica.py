# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica of a workload with an ONNX model: started with the engine's own command line."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._demand.running import ONNX, ServingRun
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.engines import (
    CPU_PROVIDER,
    ENGINES,
    Started,
)

from tests.benchmarks import serving
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "roles/workloads/files"))
web: Any = importlib.import_module("mlops_workload.web")
golden: Any = importlib.import_module("mlops_workload.golden")


@pytest.fixture(scope="module")
def python() -> str:
    try:
        return str(serving.environment())
    except serving.CannotServe as reason:
        pytest.skip(str(reason))


def release(root: Path) -> Path:
    """A release as the library of a host has it: a directory of its digest."""
    fixture = serving.FIXTURE
    digest = serving.put_release(
        root, "iris", "2", fixture / "model.onnx", (fixture / "golden.json").read_bytes()
    )
    return root / "releases" / digest.partition(":")[2]


@contextmanager
def replica(python: str, place: Path, folder: Path) -> Iterator[tuple[Path, Any]]:
    """The process as its unit starts it, but for the sandbox."""
    socket = folder / "engine.sock"
    run = ServingRun(ONNX, model="iris", version=2, execution_provider=CPU_PROVIDER)
    engine = ENGINES[ONNX]
    words = engine.command(
        Started(run, str(place), str(socket), 1, 512, gpu=False, share=0.0, python=python)
    )
    variables = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(serving.FILES),
        "PYTHONDONTWRITEBYTECODE": "1",
        **engine.environment,
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, env=variables, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield socket, process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_a_replica_answers_at_its_socket_with_the_one_release(python: str, tmp_path: Path) -> None:
    place = release(tmp_path)
    (tmp_path / "models").rename(tmp_path / "no_models")  # the links of a device
    folder = tmp_path / "run"
    folder.mkdir()
    ready = ENGINES[ONNX].ready
    with replica(python, place, folder) as (socket, process):
        deadline = time.monotonic() + PATIENCE
        while True:
            said = (folder / "log").read_text(errors="replace")[-2000:]
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            try:
                if web.ask(str(socket), "GET", ready)[0] == 200:
                    break
            except web.Unanswered:
                pass
            time.sleep(0.05)
        assert golden.ready(ONNX, str(socket))
        assert golden.check(ONNX, str(socket), place) >= 1
        status, told = web.ask_json(str(socket), "GET", "/release")
        assert (status, list(told["models"])) == (200, ["iris"])
        question = json.loads(serving.document(3))
        status, told = web.ask_json(str(socket), "POST", "/v2/models/iris/infer", question)
        assert status == 200
        assert told["outputs"][0]["shape"] == [3]
        # Nothing but the socket: the port of a device's server is not taken.
        assert process.poll() is None
        table = Path(f"/proc/{process.pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        inodes = {row.split()[9] for row in table if row.split()[3] == "0A"}
        held = {
            str(link.readlink()).partition("[")[2].rstrip("]")
            for link in Path(f"/proc/{process.pid}/fd").iterdir()
            if str(link.readlink()).startswith("socket:")
        }
        assert held
        assert not inodes & held
    assert process.returncode in (0, -signal.SIGTERM)


def test_a_release_that_was_changed_is_not_served(python: str, tmp_path: Path) -> None:
    place = release(tmp_path)
    model = place / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    folder = tmp_path / "run"
    folder.mkdir()
    with replica(python, place, folder) as (socket, process):
        process.wait(PATIENCE)
        assert process.returncode != 0
        assert "the manifest says" in (folder / "log").read_text(errors="replace")
        with pytest.raises(web.Unanswered):
            web.ask(str(socket), "GET", "/v2/health/ready")
