# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands lines to a syslog server: RFC 5424 over TLS, framed as RFC 5425 says.

Syslog acknowledges nothing. So a batch counts as taken only when the server has read the connection
to its end and closed its side, after we have closed ours; until then the place in the stream stays,
and all of it is sent again. The server may see a line twice (its ``seq`` tells), and misses none.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import ssl
import struct
import termios
import time
from collections.abc import Iterable, Mapping

from .errors import AuditError
from .event import DENIED, FAILURE, Event

FACILITY = 13  # log audit, RFC 5424 section 6.2.1
_SEVERITY = {DENIED: 4, FAILURE: 4}  # warning; everything else is 6, informational
TIMEOUT = 15.0


def message(event: Event, line: bytes, host: str) -> bytes:
    """A line as a message of RFC 5424; the line itself is the text, and is ASCII."""
    priority = FACILITY * 8 + _SEVERITY.get(event.outcome, 6)
    name = "".join(c for c in host if 33 <= ord(c) <= 126)[:255] or "-"
    head = f"<{priority}>1 {event.time} {name} mlops-audit - {event.action[:32]} - "
    return head.encode("ascii") + line


def frame(text: bytes) -> bytes:
    """Octet counting (RFC 5425, section 4.3)."""
    return str(len(text)).encode() + b" " + text


def send(target: Mapping[str, str], messages: Iterable[bytes]) -> None:
    """Send a batch; returns when the server has read it all, and raises where it has not."""
    where = f"{target['host']}:{target['port']}"
    try:
        context = ssl.create_default_context(cafile=target["ca_file"])
        if target.get("cert_file"):
            context.load_cert_chain(target["cert_file"], target["key_file"])
        raw = socket.create_connection((target["host"], int(target["port"])), TIMEOUT)
        with (
            contextlib.closing(raw),
            context.wrap_socket(raw, server_hostname=target["host"]) as stream,
        ):
            for one in messages:
                stream.sendall(frame(one))
            _end(stream)
    except (OSError, ValueError) as error:
        raise AuditError(
            f"The syslog server {where} did not take the events: {error}. They stay and are sent "
            "again (audit_log_syslog_host)."
        ) from None


def _end(stream: ssl.SSLSocket) -> None:
    """Wait until the other side has read everything and closed.

    Its kernel has acknowledged all bytes, so its socket was open when they came. If its program had
    closed without having read them, that would be a reset, and not an end.
    """
    begun = time.monotonic()
    while _unacknowledged(stream):
        if time.monotonic() - begun > TIMEOUT:
            raise OSError("it has not acknowledged what was sent")
        time.sleep(0.01)
    stream.setblocking(False)
    # It says that nothing more comes. Many servers do not answer this, and just close.
    with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
        stream.unwrap()
    stream.settimeout(TIMEOUT)
    stream.shutdown(socket.SHUT_WR)
    while stream.recv(4096):
        pass


def _unacknowledged(stream: socket.socket) -> int:
    return int(struct.unpack("i", fcntl.ioctl(stream, termios.TIOCOUTQ, bytes(4)))[0])
