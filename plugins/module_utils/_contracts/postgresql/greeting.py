# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a PostgreSQL server for TLS, which is not the first thing said on its port."""

from __future__ import annotations

import socket
import struct

from ..._findings.finding import Finding
from ..contract import Contract
from ..endpoint import Endpoint

SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def ask_for_tls(contract: Contract, endpoint: Endpoint, sock: socket.socket) -> Finding | None:
    """The answer to SSLRequest is S for yes, N for no; anything else is not PostgreSQL."""
    sock.sendall(SSL_REQUEST)
    answer = sock.recv(1).decode("latin-1")
    return None if answer == "S" else _no_tls(contract, endpoint, answer)


def _no_tls(contract: Contract, endpoint: Endpoint, answer: str) -> Finding:
    if answer == "N":
        return contract.failed(
            "tls",
            f"PostgreSQL at {endpoint.address} without TLS (ssl = off)",
            "TLS 1.2 or newer",
            "ask the server's owner to set ssl = on with a certificate",
        )
    return contract.failed(
        "reachable",
        f"something at {endpoint.address} that does not speak the PostgreSQL protocol",
        "a PostgreSQL server",
        f"correct {contract.address_variables}",
    )
