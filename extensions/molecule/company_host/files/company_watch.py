# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the company's services all the time, and note every time one does not answer."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from pathlib import Path

STATE = Path("/run/company-watch")
SERVICES = json.loads(Path("/usr/local/lib/company-watch.json").read_text())
SSL_REQUEST = bytes([0, 0, 0, 8, 4, 210, 22, 47])


def ask_web(service: dict) -> None:
    url = f"http://127.0.0.1:{service['port']}{service['path']}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        if service["word"] not in answer.read().decode():
            raise ValueError(f"{url} answers something else")


def ask_database() -> None:
    with socket.create_connection(("127.0.0.1", 5432), timeout=10) as connection:
        connection.sendall(SSL_REQUEST)
        if connection.recv(1) not in (b"S", b"N"):
            raise ValueError("the database does not answer")


rounds = 0
while True:
    for name, ask, arguments in [
        *((service["unit"], ask_web, (service,)) for service in SERVICES),
        ("postgresql", ask_database, ()),
    ]:
        try:
            ask(*arguments)
        except (OSError, ValueError) as error:
            with (STATE / "failures").open("a") as stream:
                stream.write(f"{time.time():.1f} {name}: {error}\n")
    rounds += 1
    (STATE / "rounds").write_text(f"{rounds}\n")
    time.sleep(0.5)
