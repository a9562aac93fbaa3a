# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host does for its replicas: golden requests, letting in and out, the page of metrics."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import socketserver
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.patience import PATIENCE

FILES = Path(__file__).resolve().parents[3] / "roles" / "workloads" / "files"
sys.path.insert(0, str(FILES))
cli: Any = importlib.import_module("mlops_workload.cli")
exporter: Any = importlib.import_module("mlops_workload.exporter")
golden: Any = importlib.import_module("mlops_workload.golden")
sys.path.remove(str(FILES))


class Engine(socketserver.ThreadingUnixStreamServer):
    """Answers as llama.cpp does, with the tokens that it is told to."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.tokens = [[1, 2, 3]]
        self.busy = [0]
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def _say(self, value: str) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(value.encode())

            def do_GET(self) -> None:
                if self.path == "/metrics":
                    number = engine.busy.pop(0) if len(engine.busy) > 1 else engine.busy[0]
                    name = "llamacpp:requests_processing"
                    self._say(f"# TYPE {name} gauge\n{name} {number}\n")
                else:
                    self._say('{"status": "ok"}')

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                found = engine.tokens.pop(0) if len(engine.tokens) > 1 else engine.tokens[0]
                self._say(json.dumps({"tokens": found, "content": "".join(map(str, found))}))

            def address_string(self) -> str:
                return "test"

            def log_message(self, *_said: Any) -> None:
                return

        super().__init__(str(path), Handler)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(tmp_path / "engine.sock") as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def release(tmp_path: Path, *expected: Any) -> Path:
    cases = [{"request": {"prompt": "a"}, **({"expected": one} if one else {})} for one in expected]
    (tmp_path / "golden.json").write_text(json.dumps({"cases": cases}))
    return tmp_path


def options(tmp_path: Path, **more: Any) -> argparse.Namespace:
    said = {"engine": "llama_cpp", "directory": tmp_path, "release": tmp_path, "timeout": PATIENCE}
    return argparse.Namespace(**{**said, **more})


def test_a_replica_is_let_in_with_the_right_tokens(engine: Engine, tmp_path: Path) -> None:
    release(tmp_path, {"tokens": [1, 2, 3]}, None)
    assert cli.admit(options(tmp_path)) == "2 golden answers are right."
    assert (tmp_path / "answer.sock").readlink() == Path("engine.sock")


def test_a_replica_with_other_tokens_is_not_found(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "answer.sock").symlink_to("engine.sock")
    release(tmp_path, {"tokens": [1, 2, 4]})
    with pytest.raises(golden.Wrong, match=r"^Golden case 1: the answer has other tokens than exp"):
        cli.admit(options(tmp_path))
    assert not (tmp_path / "answer.sock").is_symlink()


def test_without_an_expected_answer_it_has_to_say_the_same_twice(
    engine: Engine, tmp_path: Path
) -> None:
    engine.tokens = [[1, 2, 3], [1, 2, 9]]
    with pytest.raises(golden.Wrong, match="other tokens"):
        golden.check("llama_cpp", str(tmp_path / "engine.sock"), release(tmp_path, None))


def test_an_engine_that_says_nothing_is_wrong(engine: Engine, tmp_path: Path) -> None:
    engine.tokens = [[]]
    with pytest.raises(golden.Wrong, match="answered with nothing"):
        golden.check("llama_cpp", str(tmp_path / "engine.sock"), release(tmp_path, None))


def test_an_engine_that_never_is_ready_ends_the_wait(tmp_path: Path) -> None:
    now = iter(float(second) for second in range(100))
    with pytest.raises(golden.Wrong, match="not ready within 5 s"):
        cli.admit(
            options(tmp_path, timeout=5.0), clock=lambda: next(now), pause=lambda _seconds: None
        )


def test_an_engine_that_ended_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINPID", "999999999")
    with pytest.raises(golden.Wrong, match="ended as it started"):
        cli.admit(options(tmp_path))


def test_nobody_is_let_in_while_the_last_requests_are_answered(
    engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "answer.sock").symlink_to("engine.sock")
    engine.busy = [2, 1, 0, 1, 0]
    looks: list[bool] = []
    said = cli.drain(
        options(tmp_path),
        pause=lambda _seconds: looks.append((tmp_path / "answer.sock").is_symlink()),
    )
    assert said == "No request is under way."
    assert looks == [False] * 7
    engine.busy = [1]
    now = iter(float(second) for second in range(100))
    said = cli.drain(
        options(tmp_path, timeout=5.0), clock=lambda: next(now), pause=lambda _seconds: None
    )
    assert said == "Requests were still under way after 5 s."


def test_golden_requests_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(golden.Wrong, match="cannot be read"):
        golden.cases_of(tmp_path)


def test_the_page_names_every_replica_and_keeps_families_together(
    engine: Engine, tmp_path: Path
) -> None:
    socket = str(tmp_path / "engine.sock")
    row = {"workload": "chat", "engine": "llama_cpp"}
    usage = exporter.Usage()
    usage.take(
        b'<190>Nov 28 mlops_usage: {"team":"vision","workload":"chat","status":"200",'
        b'"seconds":"0.2","bytes":"100"}'
    )
    usage.take(b"nothing that can be read")
    text = exporter.page_of(
        [
            {**row, "replica": "0", "socket": socket},
            {**row, "replica": "1", "socket": socket},
            {**row, "replica": "2", "socket": str(tmp_path / "none.sock")},
        ],
        usage,
    )
    assert 'mlops_workload_up{workload="chat",replica="2",engine="llama_cpp"} 0' in text
    lines = text.splitlines()
    place = lines.index("# TYPE llamacpp:requests_processing gauge")
    assert lines[place + 1 : place + 3] == [
        'llamacpp:requests_processing{workload="chat",replica="0"} 0',
        'llamacpp:requests_processing{workload="chat",replica="1"} 0',
    ]
    assert lines.count("# TYPE llamacpp:requests_processing gauge") == 1
    assert 'mlops_workload_requests_total{team="vision",workload="chat",code="200"} 1' in lines
    assert (
        'mlops_workload_request_seconds_bucket{team="vision",workload="chat",le="0.25"} 1' in lines
    )
    assert (
        'mlops_workload_request_seconds_bucket{team="vision",workload="chat",le="0.1"} 0' in lines
    )


def llama() -> Any:
    spec = importlib.util.spec_from_file_location("mlops_llama", FILES / "mlops_llama/__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Parameters:
    """A few of those that llama.cpp has."""

    n_batch = 512
    cont_batching = True
    rope_freq_base = 0.0


def test_a_parameter_is_set_in_its_own_type_and_an_unknown_one_is_refused() -> None:
    made, module = Parameters(), llama()
    module.set_options(made, ["n_batch=64", "cont_batching=false", "rope_freq_base=1.5"])
    assert (made.n_batch, made.cont_batching, made.rope_freq_base) == (64, False, 1.5)
    with pytest.raises(ValueError, match=r"llama\.cpp has no parameter 'n_bach'"):
        module.set_options(made, ["n_bach=64"])
    with pytest.raises(ValueError, match="wanted true or false"):
        module.set_options(made, ["cont_batching=maybe"])
