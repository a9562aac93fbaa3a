# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What answers instead of TLS on PostgreSQL's port is said."""

from __future__ import annotations

import socket

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import Contract
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.endpoint import Endpoint, dial
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.greeting import (
    ask_for_tls,
)

DATABASE = Contract("metadata_db", "db.example.com:5432", ("host", "port"))
SERVER = Endpoint("db.example.com", 5432, "")


@pytest.mark.parametrize(
    ("answer", "check", "found"),
    [
        (b"N", "metadata_db.tls", "PostgreSQL at db.example.com:5432 without TLS (ssl = off)"),
        (
            b"H",
            "metadata_db.reachable",
            "something at db.example.com:5432 that does not speak the PostgreSQL protocol",
        ),
        (
            b"",
            "metadata_db.reachable",
            "something at db.example.com:5432 that does not speak the PostgreSQL protocol",
        ),
    ],
)
def test_what_answers_instead_of_tls(answer: bytes, check: str, found: str) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        if answer:
            theirs.sendall(answer)
        else:
            theirs.shutdown(socket.SHUT_WR)
        dialled = dial(DATABASE, SERVER, lambda _endpoint: ours, ask_for_tls)
    assert dialled.finding is not None
    assert (dialled.finding.id, dialled.finding.found) == (check, found)


def test_a_server_that_offers_tls_is_no_finding() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"S")
        assert ask_for_tls(DATABASE, SERVER, ours) is None
        assert theirs.recv(8) == b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
