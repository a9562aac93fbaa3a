# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a MariaDB or MySQL server for TLS: the server speaks first, in the clear."""

from __future__ import annotations

import socket
import struct

from ..._findings.finding import Finding
from ..contract import Contract
from ..endpoint import Endpoint

CLIENT_PROTOCOL_41, CLIENT_SSL, CLIENT_SECURE_CONNECTION = 0x200, 0x800, 0x8000
_UTF8MB4 = 45
_LONGEST = 1 << 16
HOST_BLOCKED, HOST_REFUSED, TOO_MANY = 1129, 1130, 1040


def ssl_request() -> bytes:
    """What a client says that goes on in TLS (protocol 4.1)."""
    flags = CLIENT_PROTOCOL_41 | CLIENT_SSL | CLIENT_SECURE_CONNECTION
    body = struct.pack("<IIB23x", flags, 1 << 24, _UTF8MB4)
    return struct.pack("<I", len(body))[:3] + b"\x01" + body


def ask_for_tls(contract: Contract, endpoint: Endpoint, sock: socket.socket) -> Finding | None:
    """Read the greeting and begin TLS; a finding if the server does not go that way."""
    packet = _packet(sock)
    if packet[:1] == b"\xff":
        return _refused(contract, endpoint, packet)
    flags = _capabilities(packet)
    if flags is None:
        return contract.failed(
            "reachable",
            f"something at {endpoint.address} that does not speak the protocol of MariaDB",
            "a MariaDB or MySQL server",
            f"correct {contract.address_variables}",
        )
    if not flags & CLIENT_SSL:
        return contract.failed(
            "tls",
            f"a server at {endpoint.address} without TLS (have_ssl is not YES)",
            "TLS 1.2 or newer",
            "ask the server's owner to set ssl_cert and ssl_key",
        )
    sock.sendall(ssl_request())
    return None


def _packet(sock: socket.socket) -> bytes:
    """The first packet; empty where nothing of that kind comes."""
    head = _exactly(sock, 4)
    size = int.from_bytes(head[:3], "little") if len(head) == 4 else 0
    return _exactly(sock, size) if 0 < size < _LONGEST else b""


def _exactly(sock: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = sock.recv(size - len(found))
        if not more:
            return b""
        found += more
    return found


def _capabilities(packet: bytes) -> int | None:
    """Of a greeting of protocol 10: version, thread, 8 bytes of a challenge, 0, flags."""
    end = packet.find(b"\0", 1)
    if packet[:1] != b"\x0a" or end < 0 or len(packet) < end + 16:
        return None
    return int(struct.unpack_from("<H", packet, end + 14)[0])


def _refused(contract: Contract, endpoint: Endpoint, packet: bytes) -> Finding:
    """The server turns this machine away before anybody has said a name. Codes, not words."""
    code = struct.unpack_from("<H", packet, 1)[0] if len(packet) >= 3 else 0
    found, remedy = _SAID.get(
        code,
        (f"a server that ends the connection at once (error {code})", "see the server's log"),
    )
    return contract.failed("reachable", found, f"a greeting from {endpoint.address}", remedy)


_SAID = {
    HOST_REFUSED: (
        "a server that has no account for connections from this controller",
        "ask its owner for an account that may log in from here, such as 'NAME'@'%'",
    ),
    HOST_BLOCKED: (
        "a server that has blocked this controller after too many broken connections",
        "ask its owner for: FLUSH HOSTS",
    ),
    TOO_MANY: ("no free connection", "raise max_connections on the server, or close connections"),
}
