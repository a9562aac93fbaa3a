"""Certificates of the hosts, from outside."""

from __future__ import annotations

import socket
import ssl

from testinfra.host import Host

from tests.infra.outside import address, ca_bundle

DIRECTORY = "/etc/mlops/tls"


def names(host: Host) -> str:
    return str(
        host.check_output(f"openssl x509 -in {DIRECTORY}/host.crt -noout -ext subjectAltName")
    )


def test_the_key_is_for_its_group_only(host: Host) -> None:
    key = host.file(f"{DIRECTORY}/host.key")
    assert (key.user, key.group, key.mode) == ("root", "mlops-tls", 0o640)


def test_the_certificate_is_for_the_key(host: Host) -> None:
    public = "openssl {} -in {} -noout -pubkey"
    of_key = host.check_output(f"openssl pkey -in {DIRECTORY}/host.key -pubout")
    assert of_key == host.check_output(public.format("x509", f"{DIRECTORY}/host.crt"))


def test_the_certificate_names_the_host(host: Host) -> None:
    assert f"IP Address:{address(host)}" in names(host)
    assert f"DNS:{host.check_output('hostname')}" in names(host)


def test_the_certificate_names_what_the_site_adds(host: Host) -> None:
    assert f"DNS:{host.check_output('hostname')}.example.com" in names(host)


def test_the_host_trusts_itself(host: Host) -> None:
    for purpose in ("sslserver", "sslclient"):
        verify = f"openssl verify -x509_strict -purpose {purpose} -CAfile"
        assert host.run(f"{verify} {DIRECTORY}/ca.crt {DIRECTORY}/host.crt").succeeded


def test_a_client_on_the_controller_trusts_the_host(host: Host) -> None:
    serve = (
        "systemd-run --quiet --unit=seen-from-outside "
        f"openssl s_server -accept 8443 -cert {DIRECTORY}/host.crt -key {DIRECTORY}/host.key -quiet"
    )
    host.check_output(serve)
    try:
        host.check_output(
            "for i in $(seq 50); do ss -Hltn | grep -q :8443 && break; sleep .1; done"
        )
        context = ssl.create_default_context(cafile=ca_bundle())
        with (
            socket.create_connection((address(host), 8443), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=address(host)) as secured,
        ):
            assert secured.version() == "TLSv1.3"
    finally:
        host.check_output("systemctl stop seen-from-outside.service")
