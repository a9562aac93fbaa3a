"""The metadata database from outside: our own server on mol1, the company's behind mol2."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import psycopg
import pytest
import testinfra

from tests.infra.outside import ROOT, SITE, address_of
from tests.patience import PATIENCE

STATE = SITE / ".state"
MANAGED, COMPANY = address_of("mol1"), address_of("moldb")
CA_FILE = {MANAGED: STATE / "ca-bundle.crt", COMPANY: STATE / "company-ca.crt"}
MLFLOW = ("mlflow", "mlflow-of-the-scenario")
MONITORING = ("mlops_monitoring", "monitoring-of-the-scenario")


@pytest.fixture
def managed(request: pytest.FixtureRequest) -> Any:
    return testinfra.get_host("ssh://mol1", ssh_config=request.config.option.ssh_config)


@pytest.fixture
def user_of_company(request: pytest.FixtureRequest) -> Any:
    return testinfra.get_host("ssh://mol2", ssh_config=request.config.option.ssh_config)


def connect(server: str, account: tuple[str, str], database: str, **changes: Any) -> Any:
    arguments = {"sslmode": "verify-full", "sslrootcert": str(CA_FILE[server]), **changes}
    return psycopg.connect(
        host=server, user=account[0], password=account[1], dbname=database, **arguments
    )


@pytest.mark.parametrize("server", [MANAGED, COMPANY])
@pytest.mark.parametrize("database", ["mlflow", "mlflow_auth"])
def test_the_registry_can_work_in_its_databases(server: str, database: str) -> None:
    with connect(server, MLFLOW, database) as connection:
        connection.execute("CREATE TABLE seen (id int)")
        connection.execute("INSERT INTO seen VALUES (1)")
        assert connection.execute("SELECT id FROM seen").fetchall() == [(1,)]
        connection.rollback()


@pytest.mark.parametrize("server", [MANAGED, COMPANY])
def test_one_consumer_may_not_enter_the_database_of_another(server: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        connect(server, MONITORING, "mlflow")


def test_the_monitoring_of_our_own_server_sees_other_sessions() -> None:
    with connect(MANAGED, MONITORING, "mlops_monitoring") as connection:
        row = connection.execute("SELECT pg_has_role('pg_read_all_stats', 'USAGE')").fetchone()
    assert row == (True,)


def test_no_login_without_tls() -> None:
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        connect(MANAGED, MLFLOW, "mlflow", sslmode="disable", sslrootcert="")


def test_the_owner_of_the_server_is_not_reachable_from_outside() -> None:
    with pytest.raises(psycopg.OperationalError):
        connect(MANAGED, ("mlops-postgresql", ""), "postgres")


def test_the_service_runs_sandboxed_as_its_own_user(managed: Any) -> None:
    service = managed.service("mlops-postgresql")
    assert service.is_running
    assert service.is_enabled
    shown = managed.check_output(
        "systemctl show mlops-postgresql --property=User,Slice,NoNewPrivileges --value"
    )
    assert shown.split() == ["mlops.slice", "mlops-postgresql", "yes"]
    exposure = managed.check_output(
        "systemd-analyze security mlops-postgresql --no-pager | tail --lines=1"
    )
    assert float(exposure.split("service: ")[1].split()[0]) <= 4.0


def test_it_listens_on_its_address_and_on_loopback_only(managed: Any) -> None:
    listening = managed.check_output("ss --listening --tcp --numeric --no-header sport = :5432")
    assert sorted(line.split()[3] for line in listening.splitlines()) == [
        f"{MANAGED}:5432",
        "127.0.0.1:5432",
    ]


def test_the_packages_have_made_no_cluster_of_their_own(managed: Any) -> None:
    assert managed.check_output("ls /etc/postgresql") == ""
    assert managed.check_output("pgrep --count --euid postgres || true") == "0"


def test_files_are_not_open_to_everybody(managed: Any) -> None:
    assert managed.file("/etc/mlops/metadata_db/admin.sql").mode == 0o640
    assert managed.file("/var/lib/mlops/metadata_db").mode == 0o700


@pytest.mark.parametrize("secret", ["of-the-scenario", "SCRAM-SHA-256$"])
def test_no_secret_in_the_journal(managed: Any, secret: str) -> None:
    assert managed.run(f"journalctl --no-pager | grep --fixed-strings '{secret}'").stdout == ""


def test_it_is_back_after_its_process_was_killed(managed: Any) -> None:
    managed.check_output("systemctl kill --kill-whom=main --signal=KILL mlops-postgresql")
    deadline = time.monotonic() + PATIENCE
    while True:
        time.sleep(0.5)
        try:
            with connect(MANAGED, MLFLOW, "mlflow") as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
            break
        except psycopg.OperationalError:
            assert time.monotonic() < deadline


def test_a_host_that_uses_the_companys_server_gets_nothing(user_of_company: Any) -> None:
    assert not user_of_company.package("postgresql-17").is_installed
    assert not user_of_company.file("/etc/mlops/metadata_db").exists


def test_the_companys_server_holds_all_it_held_before() -> None:
    subprocess.run(
        [
            sys.executable,
            str(ROOT / "extensions/lab/lab.py"),
            "company-fingerprint",
            f"--topology={SITE.parent / 'topology.toml'}",
            f"--against={STATE / 'company.json'}",
        ],
        check=True,
    )
