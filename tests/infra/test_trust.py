"""Certificates of the hosts, from outside."""

from __future__ import annotations

import socket
import ssl

from testinfra.host import Host

from tests.infra.outside import address, ca_bundle, secret
from tests.patience import PATIENCE

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
        host.check_output("timeout 120 sh -c 'until ss -Hltn | grep -q :8443; do sleep .1; done'")
        context = ssl.create_default_context(cafile=ca_bundle())
        with (
            socket.create_connection((address(host), 8443), timeout=PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=address(host)) as secured,
        ):
            assert secured.version() == "TLSv1.3"
    finally:
        host.check_output("systemctl stop seen-from-outside.service")


SIGN = (
    "openssl x509 -req -CA /run/authority/ca.crt -CAkey /run/authority/ca.key -copy_extensions copy"
)
SERVICE = """[Service]
ExecStart=/usr/bin/sleep infinity
ExecReload=/usr/bin/touch /run/authority/reloaded
"""


def days_left(host: Host) -> int:
    end = host.check_output(
        f"openssl x509 -in {DIRECTORY}/host.crt -noout -enddate -dateopt iso_8601"
    )
    seconds = host.check_output("date -d %s +%%s", end.partition("=")[2])
    return round((int(seconds) - int(host.check_output("date +%s"))) / 86400)


def test_the_host_renews_its_certificate_by_itself(host: Host) -> None:
    assert host.service("mlops-certificate.timer").is_enabled
    host.check_output("install -d -m 700 /run/authority")
    key, unit = secret("trust_ca_key"), "/run/systemd/system/mlops-mariadb.service"
    try:
        host.check_output("umask 077; printf %%s %s > /run/authority/ca.key", key)
        host.check_output(f"cp {DIRECTORY}/authority.crt /run/authority/ca.crt")
        # Nothing is due: nobody is asked, and the certificate stays.
        host.check_output("systemctl start mlops-certificate.service")
        assert days_left(host) > 300
        subject = host.check_output(
            f"openssl x509 -in {DIRECTORY}/host.crt -noout -subject -nameopt compat"
        ).partition("=")[2]
        alternatives = names(host).splitlines()[-1].strip().replace("IP Address:", "IP:")
        host.check_output(
            f"openssl req -new -key {DIRECTORY}/host.key -subj '{subject.strip()}' "
            f"-addext 'subjectAltName={alternatives}' | {SIGN} -days 10 -out /run/authority/short"
        )
        host.check_output(f"cat /run/authority/short > {DIRECTORY}/host.crt")
        assert days_left(host) == 10
        host.check_output("printf %%s %s > %s", SERVICE, unit)
        host.check_output("systemctl daemon-reload && systemctl start mlops-mariadb.service")
        host.check_output("systemctl start mlops-certificate.service")
        assert days_left(host) == 90
        assert host.file("/run/authority/reloaded").exists
        certificate = host.file(f"{DIRECTORY}/host.crt")
        assert (certificate.user, certificate.group, certificate.mode) == (
            *("root", "mlops-tls"),
            0o644,
        )
        test_the_host_trusts_itself(host)
    finally:
        host.run(f"systemctl stop mlops-mariadb.service; rm -rf /run/authority {unit}")
        host.check_output("systemctl daemon-reload")
