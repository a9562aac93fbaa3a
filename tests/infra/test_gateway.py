"""The gateway, as a browser sees it."""

from __future__ import annotations

import re
import socket
import ssl

import pytest
from testinfra.host import Host

from tests.infra.outside import Client, address, exposure, open_ports, secret, spills
from tests.patience import PATIENCE


def test_it_is_healthy(host: Host) -> None:
    assert Client(host).ask("GET", "/healthz").text == "ok\n"


def test_the_start_page_lists_the_services(host: Host) -> None:
    page = Client(host).ask("GET", "/")
    assert page.headers["Content-Type"].startswith("text/html")
    links = re.findall(r'<a href="(/[^"]*)"[^>]*>([^<]*)</a>', page.text)
    assert ("/mlflow/", "Experiments &amp; &lt;models&gt;") in links


def test_the_start_page_loads_nothing_from_elsewhere(host: Host) -> None:
    page = Client(host).ask("GET", "/")
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http://" not in page.text
    parts = re.findall(r'(?:src|rel="(?:icon|stylesheet)" href)="([^"]*)"', page.text)
    assert len(parts) == 6
    for part in parts:
        assert part.startswith("/start/"), part
        answer = Client(host).ask("GET", part)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].split(";")[0] in (
            "text/javascript",
            "text/css",
            "image/svg+xml",
        )


def test_the_start_page_says_nothing_of_the_site_without_an_account(host: Host) -> None:
    for path in ("/site.json", "/sign-in"):
        answer = Client(host).ask("GET", path)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic")


def test_who_signs_in_is_told_what_the_inventory_says(host: Host) -> None:
    account = ("admin", secret("gateway_admin_password"))
    answer = Client(host).ask("GET", "/site.json", auth=account)
    assert answer.headers["Mlops-Account"] == "admin"
    assert answer.headers["Mlops-Rights"] == "administrator"
    assert {"site", "devices", "hosts", "measured_here", "plan"} == set(answer.json())
    assert Client(host).ask("GET", "/sign-in", auth=account).status_code == 200


def test_browsers_are_told_to_stay_with_tls(host: Host) -> None:
    for path in ("/", "/healthz", "/nothing"):
        answer = Client(host).ask("GET", path)
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_what_does_not_exist_is_not_found(host: Host) -> None:
    assert Client(host).ask("GET", "/nothing").status_code == 404


@pytest.mark.parametrize("method", ["BREW", "TRACE", "PROPFIND"])
def test_methods_that_nobody_knows_are_refused(host: Host, method: str) -> None:
    assert Client(host).ask(method, "/healthz").status_code == 405


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(host: Host, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with socket.create_connection((address(host), 443), timeout=PATIENCE) as plain:  # noqa: SIM117
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(plain)


def test_nothing_but_tls_leaves_the_host(host: Host) -> None:
    assert open_ports(host) == {22, 443, 8444, 9443}


def test_it_is_sandboxed(host: Host) -> None:
    assert exposure(host, "mlops-nginx") <= 4.0


def test_its_password_is_nowhere_to_be_read(host: Host) -> None:
    assert spills(host, secret("gateway_admin_password")) == []


def entrance(host: Host, path: str) -> str:
    return f"https://{address(host)}:8444{path}"


def test_who_has_no_certificate_is_handed_no_order_and_leaves_no_state(host: Host) -> None:
    client = Client(host)
    assert client.ask("GET", entrance(host, "/healthz")).text == "ok\n"
    order = entrance(host, "/fleet/channel/ring_early.json")
    assert client.ask("GET", order).status_code == 403
    assert client.ask("PUT", entrance(host, "/fleet/state/edge1"), data=b"{}").status_code == 403
    assert host.run("ls /var/lib/mlops/nginx/fleet/state").stdout == ""


ASK = """
import http.client, socket, ssl, sys
context = ssl.create_default_context(cafile="/etc/mlops/tls/ca.crt")
context.load_cert_chain("/etc/mlops/tls/host.crt", "/etc/mlops/tls/host.key")
for row in sys.argv[2:]:
    method, path = row.split()
    connection = http.client.HTTPSConnection(sys.argv[1], 8444, context=context, timeout=120)
    connection.request(method, path, b"{}" if method == "PUT" else None)
    print(connection.getresponse().status)
"""


def test_a_device_is_handed_its_order_and_writes_its_own_state(host: Host) -> None:
    subject = host.check_output(
        "openssl x509 -in /etc/mlops/tls/host.crt -noout -subject -nameopt RFC2253"
    )
    name = subject.rpartition("CN=")[2]
    state = f"/var/lib/mlops/nginx/fleet/state/{name}.json"
    found = host.run(
        "python3 -c %s %s %s %s %s",
        ASK,
        address(host),
        "GET /fleet/channel/none.json",
        f"PUT /fleet/state/{name}",
        "PUT /fleet/state/another",
    )
    assert found.stdout.split() == ["404", "201", "403"], found.stderr
    assert host.file(state).content == b"{}"
    host.run_expect([0], f"rm {state}")
