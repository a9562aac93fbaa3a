# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where devices fetch their orders: who may read, who may write where, what is kept of it."""

from __future__ import annotations

import base64
import hashlib
import http.client
import ssl
from collections.abc import Iterator

import pytest

from tests.integration import fleet_gateway
from tests.integration.fleet_gateway import Gateway
from tests.patience import PATIENCE, eventually
from tests.unit.plugins.module_utils._trust.companies import CLIENT, Holder, authority, leaf


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    try:
        fleet_gateway.program()
    except fleet_gateway.NoNginx as reason:
        pytest.skip(str(reason))
    with fleet_gateway.running(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def device(gateway: Gateway, name: str) -> Holder:
    return leaf(gateway.ca, [name], purposes=[CLIENT])


def ask(
    gateway: Gateway,
    method: str,
    path: str,
    holder: Holder | None = None,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own."""
    context = ssl.create_default_context(cadata=gateway.ca.pem)
    if holder is not None:
        file = gateway.place / "client.pem"
        file.write_text(holder.pem + holder.key)
        context.load_cert_chain(file)
    connection = http.client.HTTPSConnection(
        "localhost", gateway.port, timeout=PATIENCE, context=context
    )
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def states(gateway: Gateway) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in (gateway.written / "state").iterdir()}


def log(gateway: Gateway) -> str:
    return "".join(one.read_text() for one in (gateway.written / "log").iterdir())


def test_documents_are_handed_to_devices_of_the_site_and_to_nobody_else(gateway: Gateway) -> None:
    for path in ("root/1.json", "root/1.json.sig", "channel/ring_early.json"):
        gateway.publish(path, path.encode())
        assert ask(gateway, "GET", f"/fleet/{path}", device(gateway, "edge1"))[2] == path.encode()
        assert ask(gateway, "GET", f"/fleet/{path}")[0] == 403
        stranger = leaf(authority("Strangers"), ["edge1"], purposes=[CLIENT])
        assert ask(gateway, "GET", f"/fleet/{path}", stranger)[0] == 403
        old = leaf(gateway.ca, ["edge1"], purposes=[CLIENT], begin=-2, end=-1)
        assert ask(gateway, "GET", f"/fleet/{path}", old)[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "",
        "root",
        "root/",
        "channel/",
        "root/x.json",
        "state/",
        "state/edge1",
        "channel/../state",
        "issued/edge1.crt",
        "enrolment.htpasswd",
        "channel/.ring.json.new",
    ],
)
def test_nothing_else_is_handed_out(gateway: Gateway, path: str) -> None:
    gateway.publish("enrolment.htpasswd", b"")
    gateway.publish("issued/edge1.crt", b"")
    (gateway.documents / "channel/.ring.json.new").write_text("half")
    assert ask(gateway, "PUT", "/fleet/state/edge1", device(gateway, "edge1"), b"{}")[0] in (
        201,
        204,
    )
    assert ask(gateway, "GET", f"/fleet/{path}", device(gateway, "edge1"))[0] in (404, 405)


def test_a_device_writes_its_own_state_and_no_other(gateway: Gateway) -> None:
    one, other = device(gateway, "edge7"), device(gateway, "edge7.plant")
    assert ask(gateway, "PUT", "/fleet/state/edge7", one, b'{"n": 1}')[0] == 201
    assert ask(gateway, "PUT", "/fleet/state/edge7", one, b'{"n": 2}')[0] == 204
    assert ask(gateway, "PUT", "/fleet/state/edge7.plant", other, b"{}")[0] == 201
    before = states(gateway)
    assert before["edge7.json"] == b'{"n": 2}'
    for path in ("edge8", "edge7.plant", "edge", "edge77", "../state/edge8", "Edge7", "edge7%0a"):
        assert ask(gateway, "PUT", f"/fleet/state/{path}", one, b"no")[0] in (403, 404)
    assert ask(gateway, "PUT", "/fleet/state/edge7", None, b"no")[0] == 403
    assert states(gateway) == before


@pytest.mark.parametrize("name", ["edge1,edge2", "edge 1", ".", "..", ".hidden", "a/b", "edge1\n"])
def test_a_name_that_is_no_plain_name_may_do_nothing(gateway: Gateway, name: str) -> None:
    odd = device(gateway, name)
    before = states(gateway)
    for path in ("edge1", "edge", "hidden", "b"):
        assert ask(gateway, "PUT", f"/fleet/state/{path}", odd, b"no")[0] == 403
    assert states(gateway) == before


@pytest.mark.parametrize("method", ["DELETE", "MKCOL", "COPY", "MOVE", "POST", "PROPFIND", "GET"])
def test_a_state_can_be_put_and_nothing_else_done_to_it(gateway: Gateway, method: str) -> None:
    one = device(gateway, "edge9")
    ask(gateway, "PUT", "/fleet/state/edge9", one, b"kept")
    headers = {"Destination": "/fleet/state/edge10"}
    assert ask(gateway, method, "/fleet/state/edge9", one, b"", headers)[0] in (403, 405)
    assert states(gateway)["edge9.json"] == b"kept"
    assert "edge10.json" not in states(gateway)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_nobody_writes_documents(gateway: Gateway, method: str) -> None:
    gateway.publish("channel/ring_early.json", b"signed")
    one = device(gateway, "edge9")
    assert ask(gateway, method, "/fleet/channel/ring_early.json", one, b"mine")[0] == 405
    assert (gateway.documents / "channel/ring_early.json").read_bytes() == b"signed"


def test_a_state_has_a_size(gateway: Gateway) -> None:
    one = device(gateway, "edge11")
    assert ask(gateway, "PUT", "/fleet/state/edge11", one, b" " * 16384)[0] == 201
    assert ask(gateway, "PUT", "/fleet/state/edge11", one, b" " * 16385)[0] == 413
    assert len(states(gateway)["edge11.json"]) == 16384


def test_who_was_handed_what_is_kept_and_what_did_not_change_is_not_handed_out_again(
    gateway: Gateway,
) -> None:
    gateway.publish("channel/ring_kept.json", b"new")
    one = device(gateway, "edge12")
    path = "/fleet/channel/ring_kept.json"
    _status, headers, _body = ask(gateway, "GET", path, one)
    line = f' edge12 127.0.0.1 "GET {path}" 200 3\n'
    eventually(lambda: line in log(gateway), lambda: log(gateway))
    before = log(gateway)
    again = ask(gateway, "GET", path, one, headers={"If-None-Match": headers["etag"]})
    assert again[0] == 304
    assert ask(gateway, "GET", path)[0] == 403
    assert log(gateway) == before


def test_a_new_device_hands_in_its_request_by_the_token_of_its_name(gateway: Gateway) -> None:
    digest = base64.b64encode(hashlib.sha1(b"the token").digest()).decode()
    gateway.publish("enrolment.htpasswd", f"edge20:{{SHA}}{digest}\n".encode())
    gateway.publish("issued.htpasswd", f"edge20:{{SHA}}{digest}\n".encode())
    gateway.publish("issued/edge20.crt", b"issued")

    def headers(name: str, token: str) -> dict[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(f"{name}:{token}".encode()).decode()}

    good = headers("edge20", "the token")
    assert ask(gateway, "PUT", "/fleet/enroll/edge20.csr", None, b"csr", good)[0] == 201
    assert (gateway.written / "enroll/edge20.csr").read_bytes() == b"csr"
    assert ask(gateway, "GET", "/fleet/enroll/edge20.crt", headers=good)[2] == b"issued"
    for path, shown in (
        ("edge20", headers("edge20", "another")),
        ("edge21", good),
        ("edge21", headers("edge21", "the token")),
        ("edge20", {}),
    ):
        for method, end in (("PUT", "csr"), ("GET", "crt")):
            found = ask(gateway, method, f"/fleet/enroll/{path}.{end}", None, b"no", shown)
            assert found[0] in (401, 403)
    assert ask(gateway, "GET", "/fleet/enroll/edge20.csr", headers=good)[0] == 403
    assert (gateway.written / "enroll/edge20.csr").read_bytes() == b"csr"
    assert ask(gateway, "GET", "/fleet/state/edge20", headers=good)[0] == 403
