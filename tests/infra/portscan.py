"""Every TCP port that a host offers to the network, and whether it speaks TLS. Prints JSON.

    portscan.py ADDRESS [ADDRESS ...]

One address: a list of {port, tls, says}; several: an object of such lists by address. `tls` is the
protocol that was agreed on, or false; `says` is what a service that is not TLS says first.
"""

from __future__ import annotations

import argparse
import errno
import json
import select
import socket
import ssl
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

BATCH = 1000
LAST_PORT = 65535
# Seconds for what a program says itself, once the kernel has taken the connection for it.
WORDS_PATIENCE = 30.0


def open_ports(address: str, ports: Iterable[int], patience: float) -> Iterator[int]:
    """Ports that accept a connection. A host that drops packets costs `patience` per batch."""
    poll = select.poll()
    waiting: dict[int, tuple[socket.socket, int]] = {}
    for port in ports:
        connection = socket.socket()
        connection.setblocking(False)
        code = connection.connect_ex((address, port))
        if code in {0, errno.EINPROGRESS}:
            waiting[connection.fileno()] = (connection, port)
            poll.register(connection, select.POLLOUT)
        else:
            connection.close()
    deadline = time.monotonic() + patience
    while waiting:
        # What has answered by then counts, also where nobody looked in time.
        left = max(0.0, deadline - time.monotonic())
        answered = poll.poll(left * 1000)
        if not answered and not left:
            break
        for descriptor, _event in answered:
            connection, port = waiting.pop(descriptor)
            poll.unregister(descriptor)
            if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                yield port
            connection.close()
    for connection, _port in waiting.values():
        connection.close()


def speaks_tls(address: str, port: int, patience: float) -> str | bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # whether it is TLS at all, not whose
    try:
        with socket.create_connection((address, port), patience) as plain:
            plain.settimeout(patience)
            with context.wrap_socket(plain) as secure:
                return secure.version() or True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # a refusal in TLS, e.g. no client certificate
    except OSError:
        return False


def first_words(address: str, port: int, patience: float) -> str:
    try:
        with socket.create_connection((address, port), patience) as connection:
            connection.settimeout(patience)
            return connection.recv(80).decode("ascii", "replace").strip()
    except OSError:
        return ""


def scan(address: str, patience: float) -> list[dict[str, Any]]:
    found: list[int] = []
    for first in range(1, LAST_PORT + 1, BATCH):
        found += open_ports(address, range(first, min(first + BATCH, LAST_PORT + 1)), patience)
    answer = []
    for port in sorted(found):
        tls = speaks_tls(address, port, WORDS_PATIENCE)
        says = "" if tls else first_words(address, port, WORDS_PATIENCE)
        answer.append({"port": port, "tls": tls, "says": says})
    return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("address", nargs="+")
    parser.add_argument("--patience", type=float, default=3.0, metavar="SECONDS")
    options = parser.parse_args()
    answers = {address: scan(address, options.patience) for address in options.address}
    json.dump(answers if len(answers) > 1 else next(iter(answers.values())), sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
