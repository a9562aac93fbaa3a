# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an account may do at the gateway, asked of an nginx with the configuration of the roles."""

from __future__ import annotations

import base64
import http.client
import os
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from ansible_collections.mlops.onprem.plugins.filter.htpasswd import htpasswd
from ansible_collections.mlops.onprem.plugins.filter.people import people

from tests.integration.fleet_gateway import ROLES, NoNginx, free_port, nginx_of, program, rendered
from tests.patience import PATIENCE
from tests.unit.plugins.module_utils._trust.companies import authority, leaf

# A name that is a word of nginx is one of the people as well.
PEOPLE = people(
    [
        {"name": "default", "rights": "viewer"},
        {"name": "sam"},
        {"name": "o.p", "rights": "operator"},
        {"name": "ada", "rights": "administrator"},
    ]
)
SILENCES = "/alertmanager/api/v2/silences"
SILENCE = "/alertmanager/api/v2/silence/0f8fad5b-d9cb-469f-a165-70867728950e"


class Behind(BaseHTTPRequestHandler):
    """Prometheus and Alertmanager: whoever comes here has passed."""

    shown: ClassVar[list[tuple[str, list[str]]]] = []

    def do_GET(self) -> None:
        self.shown.append((self.path, self.headers.get_all("Authorization") or []))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_DELETE = do_PUT = do_GET  # noqa: N815

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def moved(text: str, place: Path) -> str:
    """A configuration of the roles, with all paths below one directory."""
    for old, new in (
        ("/etc/mlops/nginx/", f"{place}/"),
        ("/etc/mlops/tls/", f"{place}/"),
        ("/etc/mlops/gateway/", f"{place}/"),
        ("/var/lib/mlops/nginx", f"{place}/nginx"),
        ("/run/mlops-nginx/", f"{place}/"),
        ("include /etc/nginx/mime.types;", "types { }"),
        ("    http2 on;\n", ""),  # older ones do not know the word
    ):
        text = text.replace(old, new)
    return text


def configuration(place: Path, port: int, behind: int) -> str:
    """Write what nginx reads; the text of its main file."""
    host = leaf(authority("Site"), ["localhost"])
    (place / "host.crt").write_text(host.pem)
    (place / "host.key").write_text(host.key)
    passwords = {person["name"]: f"of {person['name']}" for person in PEOPLE}
    accounts = htpasswd({"admin": "of admin", **passwords}, "0123456789abcdef")
    (place / "people.htpasswd").write_text(accounts)
    for name in ("sites.d", "gateway.d", "metrics.d", "nginx"):
        (place / name).mkdir()
    site = rendered(
        ROLES / "gateway/templates/site.conf.j2",
        gateway_port=f"127.0.0.1:{port}",
        __gateway_people=PEOPLE,
    )
    address = f"127.0.0.1:{behind}"
    inner = rendered(
        ROLES / "monitoring/templates/gateway.conf.j2",
        __monitoring_prometheus=address,
        __monitoring_alertmanager=address,
    )
    main = rendered(
        ROLES / "common/templates/nginx.conf.j2",
        common_nginx_status_port=free_port(),
        common_nginx_metrics_port=f"127.0.0.1:{free_port()}",
        common_nginx_access_log=False,
        __common_nginx_metrics_clients=[],
        __common_nginx_metrics_client_ca=f"{place}/host.crt",
    )
    (place / "status.account").write_text("return 401;\n")
    for name in ("prometheus", "alertmanager"):
        line = f'proxy_set_header Authorization "Basic of-{name}";\n'
        (place / f"{name}.account").write_text(line)
    (place / "sites.d/gateway.conf").write_text(moved(site, place))
    (place / "gateway.d/monitoring.conf").write_text(moved(inner, place))
    main = moved(main, place)
    return ("user root;\n" if os.geteuid() == 0 else "") + main


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a gateway that runs."""
    try:
        program()
    except NoNginx as reason:
        pytest.skip(str(reason))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Behind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place, port = tmp_path_factory.mktemp("gateway"), free_port()
    place.chmod(0o755)
    try:
        with nginx_of(place, port, configuration(place, port, server.server_address[1])):
            yield port
    finally:
        server.shutdown()


def ask(port: int, account: str, method: str, path: str, password: str = "") -> int:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=context)
    words = base64.b64encode(f"{account}:{password or f'of {account}'}".encode()).decode()
    headers = {"Authorization": f"Basic {words}"} if account else {}
    body = b"{}" if method in ("POST", "PUT") else None
    try:
        connection.request(method, path, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


READING = ("GET", "/prometheus/api/v1/alerts")
QUESTION = ("POST", "/prometheus/api/v1/query_range")
LOOKING = ("GET", SILENCES)
SILENCING = ("POST", SILENCES)
ENDING = ("DELETE", SILENCE)
ALARM = ("POST", "/alertmanager/api/v2/alerts")
RELOAD = ("POST", "/prometheus/-/reload")
TRICK = ("POST", "/prometheus/-/reload%20administrator")
EVERYTHING = [READING, QUESTION, LOOKING, SILENCING, ENDING, ALARM, RELOAD, TRICK]


@pytest.mark.parametrize(
    ("account", "allowed"),
    [
        ("default", [READING, QUESTION, LOOKING]),
        ("sam", [READING, QUESTION, LOOKING]),
        ("o.p", [READING, QUESTION, LOOKING, SILENCING, ENDING]),
        ("ada", EVERYTHING),
        ("admin", EVERYTHING),
    ],
)
def test_each_right_allows_what_it_says_and_nothing_else(
    gateway: int, account: str, allowed: list[tuple[str, str]]
) -> None:
    seen = {what: ask(gateway, account, *what) for what in EVERYTHING}
    assert seen == {what: 200 if what in allowed else 403 for what in EVERYTHING}


@pytest.mark.parametrize(("account", "password"), [("ada", "guess"), ("removed", "x"), ("", "")])
@pytest.mark.parametrize("what", [READING, SILENCING, RELOAD])
def test_who_has_no_account_learns_nothing_of_rights(
    gateway: int, account: str, password: str, what: tuple[str, str]
) -> None:
    assert ask(gateway, account, *what, password=password) == 401


def test_what_an_account_may_do_is_not_told_before_its_password_is_right(gateway: int) -> None:
    told = {name: ask(gateway, name, *SILENCING, password="no") for name in ("default", "o.p")}
    assert told == {"default": 401, "o.p": 401}


def test_a_service_sees_the_account_of_the_platform_and_none_of_a_person(gateway: int) -> None:
    Behind.shown.clear()
    assert ask(gateway, "ada", *READING) == 200
    assert ask(gateway, "ada", "POST", SILENCES) == 200
    assert ask(gateway, "default", "GET", SILENCES) == 200
    assert Behind.shown == [
        (READING[1], ["Basic of-prometheus"]),
        (SILENCES, ["Basic of-alertmanager"]),
        (SILENCES, ["Basic of-alertmanager"]),
    ]
