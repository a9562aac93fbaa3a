# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates that were withdrawn, shown to an nginx with the configuration of the roles."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import fleet_gateway
from tests.integration.fleet_gateway import Gateway
from tests.integration.test_fleet_gateway import ask, device, states
from tests.unit.plugins.module_utils._trust.companies import CLIENT, Holder, authority, leaf

CA = authority("Site")
# Two certificates of one device: the old one is withdrawn, the new one is not.
OLD, NEW = (leaf(CA, ["edge8"], purposes=[CLIENT]) for _number in range(2))
SERIAL = f"{OLD.certificate.serial_number:x}"
REVOKED = [
    {"name": "edge7", "why": "stolen"},
    {"name": "ctl2"},
    {"serial": SERIAL.rjust(len(SERIAL) + len(SERIAL) % 2, "0")},
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    try:
        fleet_gateway.program()
    except fleet_gateway.NoNginx as reason:
        pytest.skip(str(reason))
    place = tmp_path_factory.mktemp("revoked")
    with fleet_gateway.running(place, CA, revoked=REVOKED) as running:
        running.publish("root/1.json", b"{}")
        yield running


@pytest.mark.parametrize("name", ["edge7", "edge70", "line1-edge7", "edge7.plant"])
def test_a_name_is_refused_and_its_neighbours_are_not(gateway: Gateway, name: str) -> None:
    holder, refused = device(gateway, name), name == "edge7"
    read = ask(gateway, "GET", "/fleet/root/1.json", holder)[0]
    written = ask(gateway, "PUT", f"/fleet/state/{name}", holder, b"{}")[0]
    assert (read, written) == ((403, 403) if refused else (200, 201))
    assert (f"{name}.json" in states(gateway)) is not refused


def test_a_serial_number_refuses_the_old_certificate_and_not_the_new_one(gateway: Gateway) -> None:
    assert ask(gateway, "GET", "/fleet/root/1.json", OLD)[0] == 403
    assert ask(gateway, "GET", "/fleet/root/1.json", NEW)[0] == 200


def status_of_metrics(gateway: Gateway, name: str) -> int:
    holder = device(gateway, name)
    file = gateway.place / "reader.pem"
    file.write_text(holder.pem + holder.key)
    context = ssl.create_default_context(cadata=gateway.ca.pem)
    context.load_cert_chain(file)
    connection = http.client.HTTPSConnection(
        "localhost", gateway.metrics, timeout=30, context=context
    )
    try:
        connection.request("GET", "/metrics/none")
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_reader_of_metrics_is_refused(gateway: Gateway) -> None:
    """Both may read; there is no such page."""
    assert status_of_metrics(gateway, "ctl1") == 404
    assert status_of_metrics(gateway, "ctl2") == 403
    assert status_of_metrics(gateway, "edge9") == 403


def asked_again(gateway: Gateway, holder: Holder, place: Path) -> list[tuple[str, bool]]:
    """The status of a request, and of one in the same session: was it resumed?"""
    file = place / "client.pem"
    file.write_text(holder.pem + holder.key)
    context = ssl.create_default_context(cadata=gateway.ca.pem)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(file)
    found, session = [], None
    for _number in range(2):
        raw = socket.create_connection(("127.0.0.1", gateway.port), timeout=30)
        with context.wrap_socket(raw, server_hostname="localhost", session=session) as one:
            one.sendall(
                b"GET /fleet/root/1.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            answer = b""
            while data := one.recv(4096):
                answer += data
            session = one.session
            found.append((answer.split()[1].decode(), bool(one.session_reused)))
    return found


def test_a_resumed_session_is_judged_as_well(gateway: Gateway, tmp_path: Path) -> None:
    assert asked_again(gateway, OLD, tmp_path) == [("403", False), ("403", True)]
    assert asked_again(gateway, NEW, tmp_path) == [("200", False), ("200", True)]
