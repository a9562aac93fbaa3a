# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process that loads a foreign model can still do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SANDBOX = Path(__file__).resolve().parents[3] / "pipeline/mlops_trial"
PROGRAM = """
import json, os, socket, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import sandbox
if len(sys.argv) > 5:
    def refuse(*ids):
        raise PermissionError(1, "Operation not permitted")
    os.setgroups = refuse
place, secret = Path(sys.argv[2]), sys.argv[3]
weaker = sandbox.before() + sandbox.after(place, True, 64, 1, 60)
found = {"weaker": weaker, "user": os.geteuid()}
def tried(name, action):
    try:
        action()
        found[name] = "done"
    except BaseException as error:
        found[name] = type(error).__name__
tried("own file", lambda: (place / "model").read_bytes())
tried("secret", lambda: open(secret).read())
tried("passwd", lambda: open("/etc/passwd").read())
tried("list", lambda: os.listdir("/"))
tried("write", lambda: (place / "new").write_text("x"))
tried("memory", lambda: bytearray(256 * 2**20))
def connect():
    with socket.socket() as sock:
        sock.settimeout(60)
        sock.connect(("127.0.0.1", int(sys.argv[4])))
tried("network", connect)
print(json.dumps(found))
"""


@pytest.fixture
def found() -> Iterator[dict[str, Any]]:
    """What a confined process could do."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield confined(Path(folder))


def confined(folder: Path, *more: str) -> dict[str, Any]:
    place = folder / "in"
    place.mkdir()
    (place / "model").write_text("x")
    secret = folder / "secrets.yml"
    secret.write_text("password")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = str(server.getsockname()[1])
        arguments = [str(SANDBOX), str(place), str(secret), port, *more]
        done = subprocess.run(
            [sys.executable, "-I", "-c", PROGRAM, *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_what_was_taken_away_is_away_and_the_rest_is_said(found: dict[str, Any]) -> None:
    said = " ".join(found["weaker"])
    assert found["own file"] == "done"
    assert found["memory"] == "MemoryError"
    for name, word in (
        ("network", "network"),
        ("secret", "file system"),
        ("passwd", "file system"),
        ("list", "file system"),
        ("write", "file system"),
    ):
        assert (found[name] != "done") or word in said, name
    assert (found["user"] not in (0, os.geteuid())) or "user of this process" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another user")
def test_root_gives_up_its_user_and_the_network(found: dict[str, Any]) -> None:
    assert found["user"] == 65534
    assert found["network"] != "done"
    assert found["write"] == "PermissionError"


@pytest.mark.skipif(os.geteuid() != 0, reason="others cannot take another user anyway")
def test_a_container_that_forbids_another_user_is_said() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        found = confined(Path(folder), "in a container")
    assert any(
        "does not let us take another: Operation not permitted" in each for each in found["weaker"]
    )
    assert found["own file"] == "done"
