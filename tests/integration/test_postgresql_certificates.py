# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""A company's server that wants to see a client certificate of everybody who logs in."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ansible_collections.mlops.onprem.plugins.modules import postgresql_probe
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from .postgresql_server import Key, PostgresqlServer, certificate, name
from .test_postgresql import DATABASES
from .test_postgresql_variants import all_steps, apply, as_it_was, failures, probe, said_by_all

RunModule = Callable[..., dict[str, Any]]
EVERYBODY = ("dba", "mlflow", "mlops_monitoring")


class Clients:
    """An authority for clients that the server trusts, and what it issues."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.ca_file = place / "clients.crt"
        self.ca_file.write_bytes(
            certificate("Clients", self.key, "Clients", self.key, (-1, 90), [])
        )

    def issue(
        self,
        subject: str,
        days: tuple[int, int] = (-1, 90),
        use: Any = ExtendedKeyUsageOID.CLIENT_AUTH,
        issuer: tuple[str, Key] | None = None,
        passphrase: bytes = b"",
    ) -> dict[str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.timezone.utc)
        by, by_key = issuer or ("Clients", self.key)
        leaf = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(by))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .sign(by_key, hashes.SHA256())
        )
        base = self.place / f"{subject}-{len(list(self.place.iterdir()))}"
        files = {"certificate_file": f"{base}.crt", "key_file": f"{base}.key"}
        Path(files["certificate_file"]).write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        encryption: Any = serialization.NoEncryption()
        if passphrase:
            encryption = serialization.BestAvailableEncryption(passphrase)
        Path(files["key_file"]).write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
            )
        )
        Path(files["key_file"]).chmod(0o600)
        return files

    def of_everybody(self) -> list[dict[str, str]]:
        return [{"login": login, **self.issue(login)} for login in EVERYBODY]


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    return Clients(tmp_path)


@pytest.fixture(params=[15, 17])
def server(
    request: pytest.FixtureRequest,
    postgresql_of: Callable[..., PostgresqlServer],
    clients: Clients,
) -> Iterator[PostgresqlServer]:
    server = postgresql_of(request.param)
    trusted = server.place / "clients.crt"
    trusted.write_bytes(clients.ca_file.read_bytes())
    trusted.chmod(0o644)
    for one in as_it_was(server):
        with one.setting("ssl_ca_file", str(trusted)):
            yield one


RULES = {
    "cert": "hostssl all all all cert",
    "name compared": "hostssl all all all scram-sha-256 clientcert=verify-full",
    "any name": "hostssl all all all scram-sha-256 clientcert=verify-ca",
}


@pytest.mark.parametrize("rule", RULES)
def test_from_nothing_to_nothing_with_certificates(
    run_module: RunModule, server: PostgresqlServer, clients: Clients, rule: str
) -> None:
    server.hba(RULES[rule])
    one_for_all: list[dict[str, str]] = [clients.issue("platform")]
    shown = one_for_all if rule == "any name" else clients.of_everybody()
    if rule == "cert":
        server.account["password"] = ""
    assert failures(probe(run_module, server, client_certificates=shown)) == []
    assert apply(run_module, server, client_certificates=shown)["steps"] == all_steps(server)
    assert apply(run_module, server, client_certificates=shown)["steps"] == []
    through = probe(run_module, server, client_certificates=shown, through="consumers")
    assert {finding["severity"] for finding in through["findings"]} == {"pass"}
    assert any("client certificate of" in one["found"] for one in through["findings"])
    removed = apply(run_module, server, client_certificates=shown, state="absent")
    assert len(removed["steps"]) == 5


@pytest.mark.parametrize("rule", RULES)
def test_one_that_is_wanted_and_not_given_is_told_with_the_variable(
    run_module: RunModule, server: PostgresqlServer, rule: str
) -> None:
    server.hba(RULES[rule])
    sentence = said_by_all(run_module, server)
    assert "give one for dba in metadata_db_client_certificates" in sentence


@pytest.mark.parametrize("rule", ["cert", "name compared"])
def test_one_of_another_name_is_not_taken_for_a_wrong_password(
    run_module: RunModule, server: PostgresqlServer, clients: Clients, rule: str
) -> None:
    server.hba(RULES[rule])
    shown = [clients.issue("platform")]
    sentence = said_by_all(run_module, server, client_certificates=shown)
    assert sentence.startswith(
        "the server does not take the client certificate of platform for dba"
    )
    assert "password of" not in sentence


def test_a_role_without_one_is_told_before_it_is_made(
    run_module: RunModule, server: PostgresqlServer, clients: Clients
) -> None:
    server.hba(RULES["any name"])
    shown = [{"login": "dba", **clients.issue("dba")}]
    found = failures(probe(run_module, server, client_certificates=shown))
    assert len(found) == 2
    assert "lets mlflow in" in found[0]["found"]
    assert "give one for mlflow in metadata_db_client_certificates" in found[0]["remedy"]


def test_a_role_that_the_rules_do_not_name_is_told_before_it_is_made(
    run_module: RunModule, server: PostgresqlServer
) -> None:
    server.hba("hostssl postgres,mlops_monitoring dba,mlops_monitoring all scram-sha-256")
    (found,) = failures(probe(run_module, server))
    assert "no line in the server's pg_hba.conf lets mlflow in" in found["found"]


def test_a_role_whose_certificate_is_refused_is_told_where_it_is_made(
    run_module: RunModule, server: PostgresqlServer, clients: Clients
) -> None:
    server.hba(RULES["name compared"])
    shown = [clients.issue("platform"), {"login": "dba", **clients.issue("dba")}]
    result = apply(run_module, server, client_certificates=shown)
    assert result.get("failed"), result
    assert "does not take the client certificate of platform for mlflow" in result["msg"]
    mended = clients.of_everybody()
    assert apply(run_module, server, client_certificates=mended)["steps"] == []


def test_one_of_an_unknown_authority_is_told(
    run_module: RunModule, server: PostgresqlServer, clients: Clients
) -> None:
    server.hba(RULES["any name"])
    stranger = ("Stranger", ec.generate_private_key(ec.SECP256R1()))
    shown = [clients.issue("dba", issuer=stranger)]
    sentence = said_by_all(run_module, server, client_certificates=shown)
    assert "ends the connection of dba at the client certificate of dba" in sentence
    assert "ssl_ca_file" in sentence


def test_a_certificate_that_nobody_asks_for_does_no_harm(
    run_module: RunModule, server: PostgresqlServer, clients: Clients
) -> None:
    result = probe(run_module, server, client_certificates=[clients.issue("anybody")])
    assert failures(result) == []


# -- files that do not do ------------------------------------------------------------------------


def missing(clients: Clients) -> list[dict[str, str]]:
    one = clients.issue("dba")
    Path(one["key_file"]).unlink()
    return [one]


def readable(clients: Clients) -> list[dict[str, str]]:
    one = clients.issue("dba")
    Path(one["key_file"]).chmod(0o644)
    return [one]


def mixed_up(clients: Clients) -> list[dict[str, str]]:
    return [{**clients.issue("dba"), "key_file": clients.issue("dba")["key_file"]}]


def exchanged(clients: Clients) -> list[dict[str, str]]:
    one = clients.issue("dba")
    return [{"certificate_file": one["key_file"], "key_file": one["certificate_file"]}]


def vaulted(clients: Clients) -> list[dict[str, str]]:
    one = clients.issue("dba")
    Path(one["key_file"]).write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    return [one]


def twice(clients: Clients) -> list[dict[str, str]]:
    return [clients.issue("dba"), clients.issue("dba")]


FILES: dict[str, tuple[Callable[[Clients], list[dict[str, str]]], str, str]] = {
    "missing": (missing, "cannot be read on the controller (no such file", "correct metadata_db_"),
    "readable": (readable, "has mode 0644", "chmod 0600"),
    "mixed up": (mixed_up, "does not belong to the certificate", "the two files that belong"),
    "exchanged": (exchanged, "is no certificate in PEM form", "-----BEGIN CERTIFICATE-----"),
    "vaulted": (vaulted, "is encrypted by ansible-vault", "ansible-vault decrypt"),
    "twice": (twice, "two certificates for every other login", "correct metadata_db_client"),
    "expired": (
        lambda clients: [clients.issue("dba", days=(-9, -1))],
        "of dba ended on",
        "renew it",
    ),
    "not yet": (
        lambda clients: [clients.issue("dba", days=(2, 9))],
        "is not valid before",
        "the clock of the controller",
    ),
    "for servers": (
        lambda clients: [clients.issue("dba", use=ExtendedKeyUsageOID.SERVER_AUTH)],
        "is not for clients",
        "clientAuth",
    ),
    "passphrase": (
        lambda clients: [clients.issue("dba", passphrase=b"geheim")],
        "is protected by a passphrase",
        "openssl pkey -in",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_that_do_not_do_are_told_before_anything_is_connected(
    run_module: RunModule, clients: Clients, kind: str
) -> None:
    make, found, remedy = FILES[kind]
    nowhere: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 1,
        "user": "dba",
        "password": "dba-secret",
        "site": "test",
        "databases": DATABASES,
    }
    result = run_module(postgresql_probe, **nowhere, client_certificates=make(clients))
    (failure,) = failures(result)
    assert failure["id"] == "metadata_db.client_certificate"
    assert found in failure["found"]
    assert remedy in failure["remedy"]
    assert "geheim" not in str(result)
    assert "PRIVATE KEY-----\n" not in str(result)


def test_one_that_ends_soon_is_a_warning(
    run_module: RunModule, server: PostgresqlServer, clients: Clients
) -> None:
    shown = [clients.issue("dba", days=(-1, 5))]
    findings = probe(run_module, server, client_certificates=shown)["findings"]
    (soon,) = [one for one in findings if one["id"] == "metadata_db.client_certificate"]
    assert soon["severity"] == "warn"
    assert "carries it to the hosts" in soon["remedy"]


def test_what_the_services_are_told_logs_in(
    run_module: RunModule, server: PostgresqlServer, clients: Clients
) -> None:
    """The words of the two connection strings, as libpq takes them."""
    server.hba(RULES["name compared"])
    shown = clients.of_everybody()
    apply(run_module, server, client_certificates=shown)
    mlflow = shown[1]
    Path(mlflow["key_file"]).chmod(0o400)
    url = (
        f"postgresql://mlflow:mlflow-secret@127.0.0.1:{server.port}/mlflow?sslmode=verify-full"
        f"&sslrootcert={server.ca_file}"
    )
    with pytest.raises(psycopg.OperationalError, match=r"certificate|Zertifikat"):
        psycopg.connect(url)
    words = f"&sslcert={mlflow['certificate_file']}&sslkey={mlflow['key_file']}"
    with psycopg.connect(url + words) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("mlflow",)
