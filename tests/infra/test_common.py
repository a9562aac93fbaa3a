"""One nginx for two roles and an application, seen from outside."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.infra import issued
from tests.infra.outside import address_of
from tests.patience import PATIENCE

UNITS = ["mlops-nginx", "mlops-nginx-exporter", "mlops-scenario"]
CURL = (
    "python3 -c 'import ssl,sys,urllib.request as u;"
    'c=ssl.create_default_context(cafile="/etc/mlops/tls/ca.crt");'
    "len(sys.argv)>2 and c.load_cert_chain(*sys.argv[2:]);"
    "print(u.urlopen(sys.argv[1],context=c,timeout=60).read().decode())' "
)
METRICS = f"https://{address_of('mol3')}:9443/metrics/nginx"


@pytest.mark.parametrize("name", UNITS)
def test_the_service_runs_enabled_in_our_slice(host: Host, name: str) -> None:
    service = host.service(name)
    assert service.is_running
    assert service.is_enabled
    assert host.check_output(f"systemctl show -P Slice {name}") == "mlops.slice"
    assert host.check_output(f"systemctl show -P User {name}").startswith("mlops-")


@pytest.mark.parametrize("name", UNITS)
def test_the_service_is_sandboxed(host: Host, name: str) -> None:
    said = host.check_output(f"systemd-analyze security --no-pager {name}.service | tail -1")
    assert float(said.split(":")[1].split()[0]) <= 2.0


@pytest.mark.parametrize("name", UNITS)
def test_a_killed_service_is_back(host: Host, name: str) -> None:
    before = host.check_output(f"systemctl show -P MainPID {name}")
    host.check_output(f"kill -9 {before}")
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        now = host.check_output(f"systemctl show -P MainPID {name}")
        if now not in ("0", before) and host.service(name).is_running:
            return
        time.sleep(0.3)
    pytest.fail(f"{name} did not come back")


@pytest.mark.parametrize("name", ["nginx", "prometheus-nginx-exporter"])
def test_the_packaged_unit_rests(host: Host, name: str) -> None:
    assert host.package(name).is_installed
    assert not host.service(name).is_running
    assert not host.service(name).is_enabled


def test_only_tls_ports_are_seen_from_outside(host: Host) -> None:
    listening = {
        line.split()[3] for line in host.check_output("ss -Hltn").splitlines() if line.strip()
    }
    outside = {one.rsplit(":", 1)[1] for one in listening if not one.startswith(("127.", "[::1]"))}
    assert outside <= {"22", "443", "8443", "9443"}


def test_metrics_are_for_named_clients_only(host: Host) -> None:
    own = " /etc/mlops/tls/host.crt /etc/mlops/tls/host.key"
    assert "nginx_up 1" in host.check_output(CURL + METRICS + own)
    refused = host.run(CURL + METRICS)
    assert refused.rc != 0
    assert "403" in refused.stderr


# The common name that is let in stands in each of them, but none is its subject.
OTHER_SUBJECTS = [
    "/CN=mol1",
    "/CN=MOL3",
    "/O=x,CN=mol3/CN=intern-laptop",
    "/CN=mol3/CN=intern-laptop",
    "/CN=intern-laptop/O=mol3",
    "/O=Company/CN=mol3",
    "/CN=mol3,O=x",
]


def test_the_whole_subject_is_let_in(host: Host, tmp_path: Path) -> None:
    assert issued.status(tmp_path, issued.platform(tmp_path), "/CN=mol3", METRICS) == 200


@pytest.mark.parametrize("subject", OTHER_SUBJECTS)
def test_no_other_subject_reads_metrics(host: Host, tmp_path: Path, subject: str) -> None:
    assert issued.status(tmp_path, issued.platform(tmp_path), subject, METRICS) == 403


def test_who_vouches_for_servers_does_not_vouch_for_clients(host: Host, tmp_path: Path) -> None:
    company = issued.company(tmp_path)
    bundle = "/etc/mlops/tls/ca.crt"
    host.check_output(f"cp -p {bundle} {bundle}.kept")
    try:
        host.check_output(f"cat >> {bundle} <<'END'\n{company.certificate.read_text()}\nEND")
        host.check_output("systemctl reload mlops-nginx")
        assert issued.status(tmp_path, company, "/CN=mol3", METRICS) == 400
    finally:
        host.check_output(f"mv {bundle}.kept {bundle}")
        host.check_output("systemctl reload mlops-nginx")


def test_the_exporter_cannot_read_the_key_of_the_host(host: Host) -> None:
    assert host.check_output("id -nG mlops-nginx-exporter") == "mlops-nginx-exporter"
    read = "setpriv --reuid=mlops-nginx-exporter --regid=mlops-nginx-exporter --init-groups cat"
    assert host.run(f"{read} /etc/mlops/tls/host.key").rc != 0
    assert host.run(f"{read} /etc/mlops/tls/ca.crt").rc == 0


def test_old_tls_is_refused(host: Host) -> None:
    said = host.run("openssl s_client -connect 127.0.0.1:443 -tls1_1 </dev/null 2>&1").stdout
    assert "Cipher is (NONE)" in said


def test_secrets_are_neither_readable_nor_logged(host: Host) -> None:
    assert host.file("/etc/mlops/scenario/env").mode == 0o600
    assert host.file("/var/lib/mlops/ledger.json").mode == 0o600
    assert host.run("journalctl --no-pager | grep -q hush[-]hush").rc == 1
    assert host.run("grep -rqs hush[-]hush /proc/[0-9]*/cmdline").rc == 1


def test_nothing_of_the_transaction_is_left(host: Host) -> None:
    assert not host.file("/usr/sbin/policy-rc.d").exists
    assert not host.file("/root/.ansible").exists
