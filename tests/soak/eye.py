# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody who looks at a site's start page: Chromium, which keeps it open all the time.

Chromium gives up its requests when an address of the machine comes or goes, which hosts of the lab
do in a campaign. So it runs in a network of its own (``tests/alone.py``) and reaches the gateway
through a socket in the file system, which belongs to no network: what is inside is passed on by
``python -m tests.soak.eye SOCKET PORT COMMAND...``, what is outside by this class.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.alone import alone
from tests.browsers import browser

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "tests/browser/eye.mjs"
PORT = 8443
BLOCK = 65536
Connect = Callable[[], socket.socket]


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(BLOCK):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _join(one: socket.socket, connect: Connect) -> None:
    """Pass on what comes on a connection, both ways, until both are at an end."""
    with one:
        try:
            other = connect()
        except OSError:
            return
        with other:
            back = threading.Thread(target=_copy, args=(other, one), daemon=True)
            back.start()
            _copy(one, other)
            back.join()


def pass_on(listener: socket.socket, connect: Connect) -> None:
    """Take connections for ever, and pass each on to another one."""

    def take() -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _address = listener.accept()
                threading.Thread(target=_join, args=(one, connect), daemon=True).start()

    threading.Thread(target=take, daemon=True).start()


def to_address(host: str, port: int) -> Connect:
    return lambda: socket.create_connection((host, port), timeout=60)


def to_file(path: Path) -> Connect:
    def connect() -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.connect(str(path))
        return made

    return connect


class Eye:
    """The page, as it is drawn now."""

    def __init__(self, running: subprocess.Popen[str]) -> None:
        self._running = running

    def see(self, word: str = "look") -> tuple[set[tuple[str, str]], str]:
        """Alert and host of each alert that is drawn, and what the page says is wrong with it."""
        assert self._running.stdin is not None
        assert self._running.stdout is not None
        self._running.stdin.write(f"{word}\n")
        self._running.stdin.flush()
        line = self._running.stdout.readline()
        if not line:
            raise SystemExit("the browser has ended")
        found: dict[str, Any] = json.loads(line)
        return {(alert, host) for alert, host in found["alerts"]}, str(found["problem"])


@contextlib.contextmanager
def looking(
    place: Path, connect: Connect, account: tuple[str, str], scheme: str = "https"
) -> Iterator[Eye]:
    """Look at the start page behind these connections for as long as the block lasts."""
    chromium = browser()
    path = place / "gateway.socket"
    with socket.socket(socket.AF_UNIX) as outside:
        outside.bind(str(path))
        outside.listen(64)
        pass_on(outside, connect)
        settings = {
            "url": f"{scheme}://127.0.0.1:{PORT}",
            "account": account[0],
            "password": account[1],
            "chromium": str(chromium.chromium),
            "packages": str(chromium.packages),
            "pictures": str(place),
        }
        program = [chromium.node, str(PROGRAM)]
        inside = [sys.executable, "-m", "tests.soak.eye", str(path), str(PORT), *program]
        running = subprocess.Popen(
            alone(inside),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={
                **chromium.environment,
                "PYTHONPATH": ":".join(filter(None, sys.path)),
                "MLOPS_EYE": json.dumps(settings),  # with a password, which everybody sees in words
            },
        )
        try:
            yield Eye(running)
        finally:
            assert running.stdin is not None
            running.stdin.close()
            running.wait(timeout=300)
            path.unlink()


def main(words: list[str]) -> int:
    """Inside: pass on, and run the browser's program with the same input and output."""
    path, port, *command = words
    with socket.create_server(("127.0.0.1", int(port))) as listener:
        pass_on(listener, to_file(Path(path)))
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
