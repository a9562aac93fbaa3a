# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open, refused and silent are told apart, in as long as the slowest of them takes."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host import ways

from tests.patience import PATIENCE


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def silent() -> Iterator[int]:
    """A port whose queue is full, so that it drops what else comes, as a firewall does."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        waiting = [socket.socket() for _number in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        yield port
        for one in waiting:
            one.close()


def closed() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_each_is_told_from_the_others(listening: int, silent: int) -> None:
    places = [("127.0.0.1", listening), ("127.0.0.1", closed()), ("127.0.0.1", silent)]
    places.append(("nobody.invalid", 443))
    assert ways.tried(places, 3.0) == ["open", "refused", "silent", "unnamed"]


def test_many_silent_ones_take_as_long_as_one(silent: int) -> None:
    before = time.monotonic()
    assert ways.tried([("127.0.0.1", silent)] * 200, 1.0) == ["silent"] * 200
    # One after the other they would take 200 s.
    assert time.monotonic() - before < PATIENCE


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EHOSTUNREACH, "forbidden"),
        (errno.ENETUNREACH, "forbidden"),
        (errno.EPERM, "forbidden"),
        (errno.ECONNREFUSED, "refused"),
        (errno.ECONNRESET, "open"),
        (errno.ETIMEDOUT, "silent"),
        (errno.EIO, "silent"),
    ],
)
def test_what_the_kernel_says(monkeypatch: pytest.MonkeyPatch, number: int, said: str) -> None:
    def failing(*_words: object, **_more: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(socket, "create_connection", failing)
    assert ways.answer_of(("10.0.0.1", 1)) == said
