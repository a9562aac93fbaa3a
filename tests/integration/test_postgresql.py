# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The modules that speak to PostgreSQL against a real server on this machine."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.databases import (
    Databases,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.judge import (
    DatabaseError,
)
from ansible_collections.mlops.onprem.plugins.modules import (
    postgresql_databases,
    postgresql_probe,
)

from tests.integration.postgresql_server import PostgresqlServer

RunModule = Callable[..., dict[str, Any]]
DATABASES = [
    {
        "name": "mlflow",
        "owner": "mlflow",
        "password": "mlflow-secret",
        "connection_limit": 30,
        "extra_databases": ["mlflow_auth"],
    },
    {
        "name": "mlops_monitoring",
        "owner": "mlops_monitoring",
        "password": "monitoring-secret",
        "connection_limit": 5,
        "monitoring": True,
    },
]
ALL_STEPS = [
    "create role mlflow (at most 30 connections)",
    "create role mlops_monitoring (at most 5 connections)",
    "grant pg_monitor to mlops_monitoring",
    "create database mlflow owned by mlflow",
    "mark database mlflow as made by this site and open it to its owner only",
    "create database mlflow_auth owned by mlflow",
    "mark database mlflow_auth as made by this site and open it to its owner only",
    "create database mlops_monitoring owned by mlops_monitoring",
    "mark database mlops_monitoring as made by this site and open it to its owner only",
]


@pytest.fixture(scope="module")
def running(postgresql_of: Callable[..., PostgresqlServer]) -> PostgresqlServer:
    return postgresql_of(15)


@pytest.fixture
def server(running: PostgresqlServer) -> Iterator[PostgresqlServer]:
    """The server as the company left it, before and after each test."""
    before = running.fingerprint()
    yield running
    for database in ("mlflow", "mlflow_auth", "mlops_monitoring"):
        running.sql(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
    for role in ("mlflow", "mlflow_auth", "mlops_monitoring"):
        running.sql(f"DROP ROLE IF EXISTS {role}")
    assert running.fingerprint() == before


def only_failure(result: dict[str, Any]) -> dict[str, str]:
    findings: list[dict[str, str]] = result["findings"]
    failures = [finding for finding in findings if finding["severity"] == "fail"]
    assert len(failures) == 1, result["findings"]
    return failures[0]


def failures(result: dict[str, Any]) -> str:
    return "; ".join(one["found"] for one in result["findings"] if one["severity"] == "fail")


def probe(run_module: RunModule, server: PostgresqlServer, **changes: Any) -> dict[str, Any]:
    return run_module(postgresql_probe, **{**server.account, "databases": DATABASES, **changes})


def apply(run_module: RunModule, server: PostgresqlServer, **changes: Any) -> dict[str, Any]:
    return run_module(postgresql_databases, **{**server.account, "databases": DATABASES, **changes})


# -- the probe ---------------------------------------------------------------------------------


def test_a_good_server_passes_every_check(run_module: RunModule, server: PostgresqlServer) -> None:
    result = probe(run_module, server)
    assert {finding["id"]: finding["severity"] for finding in result["findings"]} == {
        "metadata_db.reachable": "pass",
        "metadata_db.tls": "pass",
        "metadata_db.login": "pass",
        "metadata_db.version": "pass",
        "metadata_db.writable": "pass",
        "metadata_db.rights": "pass",
        "metadata_db.names": "pass",
        "metadata_db.connections": "pass",
        "metadata_db.encoding": "pass",
        "metadata_db.monitoring": "pass",
        "metadata_db.clock": "pass",
    }
    assert result["server"]["tls"] == "TLSv1.3"
    assert result["server"]["max_connections"] == 100


def test_a_wrong_password(run_module: RunModule, server: PostgresqlServer) -> None:
    result = probe(run_module, server, password="a-wrong-password")
    failure = only_failure(result)
    assert {**failure, "remedy": failure["remedy"].split(";")[0]} == {
        "id": "metadata_db.login",
        "host": f"127.0.0.1:{server.port}",
        "severity": "fail",
        "found": "the server refuses the password of dba",
        "wanted": "a login as dba to database postgres",
        "remedy": "set metadata_db_admin_password to the password of metadata_db_admin_user dba",
    }
    assert "a-wrong-password" not in str(result)


def test_a_closed_port(run_module: RunModule, server: PostgresqlServer, closed_port: int) -> None:
    assert probe(run_module, server, port=closed_port)["findings"] == [
        {
            "id": "metadata_db.reachable",
            "host": f"127.0.0.1:{closed_port}",
            "severity": "fail",
            "found": f"port {closed_port} of 127.0.0.1 is closed (connection refused)",
            "wanted": f"an open port at 127.0.0.1:{closed_port}",
            "remedy": "start the server, or correct metadata_db_host and metadata_db_port",
        }
    ]


@pytest.mark.parametrize(
    ("shown", "found", "remedy"),
    [
        ("expired", "a certificate that has expired", "renew the server's certificate"),
        (
            "other",
            "a certificate for another name than 127.0.0.1",
            "set metadata_db_host to a name in the certificate, or have this name added",
        ),
    ],
)
def test_a_certificate_that_does_not_do(
    run_module: RunModule, server: PostgresqlServer, shown: str, found: str, remedy: str
) -> None:
    with server.presenting(shown):
        failure = only_failure(probe(run_module, server))
    assert (failure["id"], failure["found"], failure["remedy"]) == (
        "metadata_db.tls",
        found,
        remedy,
    )


def test_verify_ca_accepts_another_name(run_module: RunModule, server: PostgresqlServer) -> None:
    with server.presenting("other"):
        result = probe(run_module, server, sslmode="verify-ca")
    assert {finding["severity"] for finding in result["findings"]} == {"pass"}


def test_an_authority_that_did_not_sign(run_module: RunModule, server: PostgresqlServer) -> None:
    failure = only_failure(probe(run_module, server, ca_file=str(server.place / "stranger.crt")))
    assert failure["id"] == "metadata_db.tls"
    assert failure["remedy"] == (
        "set metadata_db_ca_file to the PEM file of the authority that signed it"
    )


def test_a_ca_file_that_is_not_there(run_module: RunModule, server: PostgresqlServer) -> None:
    failure = only_failure(probe(run_module, server, ca_file="/nowhere/ca.crt"))
    assert failure["found"] == (
        "no certificate authority in /nowhere/ca.crt: no such file or directory"
    )


def test_a_server_that_is_too_old(run_module: RunModule, server: PostgresqlServer) -> None:
    result = probe(run_module, server, min_version=18)
    failure = only_failure(result)
    assert failure["id"] == "metadata_db.version"
    assert failure["found"].startswith("PostgreSQL 1")
    assert failure["wanted"] == "PostgreSQL 18 or newer"
    assert failure["remedy"] == (
        "set metadata_db_host to a newer server, or metadata_db_mode: managed"
    )


def test_an_account_without_rights(run_module: RunModule, server: PostgresqlServer) -> None:
    failure = only_failure(probe(run_module, server, user="clerk", password="clerk-secret"))
    assert failure["found"] == "clerk lacks CREATEDB and CREATEROLE"
    assert failure["remedy"] == (
        "ask for: ALTER ROLE clerk CREATEDB CREATEROLE, "
        "or set metadata_db_admin_user to another account"
    )


def test_a_database_of_somebody_else(run_module: RunModule, server: PostgresqlServer) -> None:
    databases = [{**DATABASES[0], "name": "company", "extra_databases": []}]
    failure = only_failure(probe(run_module, server, databases=databases))
    assert failure["found"] == "database company exists and is owned by company"
    assert failure["remedy"] == (
        "choose another name in metadata_db_databases, or set metadata_db_prefix"
    )


def test_pools_larger_than_the_server_allows(
    run_module: RunModule, server: PostgresqlServer
) -> None:
    databases = [{**DATABASES[0], "connection_limit": 200}]
    failure = only_failure(probe(run_module, server, databases=databases))
    assert failure["found"] == ("97 free connections (100 at most, 3 reserved, 0 in use by others)")
    assert failure["wanted"] == "201 for the pools of mlflow and one of ours"


def test_our_own_connections_do_not_count_as_foreign(
    run_module: RunModule, server: PostgresqlServer
) -> None:
    apply(run_module, server)
    with (
        psycopg.connect(
            host="127.0.0.1",
            port=server.port,
            user="mlflow",
            password="mlflow-secret",
            dbname="mlflow",
        ),
        psycopg.connect(
            host="127.0.0.1",
            port=server.port,
            user="company",
            password="company-secret",
            dbname="company",
        ),
    ):
        result = probe(run_module, server)
    assert result["server"]["free_connections"] == 96


def test_something_that_is_not_postgresql(run_module: RunModule, server: PostgresqlServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            connection, _address = listener.accept()
            with connection:
                connection.recv(8)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        failure = only_failure(probe(run_module, server, port=port))
        thread.join()
    assert failure["found"] == (
        f"something at 127.0.0.1:{port} that does not speak the PostgreSQL protocol"
    )


# -- databases and roles -----------------------------------------------------------------------


def test_a_first_run_creates_everything_and_a_second_nothing(
    run_module: RunModule, server: PostgresqlServer
) -> None:
    assert apply(run_module, server, check_mode=True)["steps"] == ALL_STEPS
    first = apply(run_module, server)
    assert (first["changed"], first["steps"]) == (True, ALL_STEPS)
    second = apply(run_module, server)
    assert (second["changed"], second["steps"]) == (False, [])
    result = probe(run_module, server, through="consumers", strict=True)
    assert [finding["severity"] for finding in result["findings"]] == ["pass"] * 5


def test_passwords_never_reach_the_servers_log(
    run_module: RunModule, server: PostgresqlServer
) -> None:
    before = len(server.log)
    apply(run_module, server)
    changed = [{**DATABASES[0], "password": "another-secret"}, DATABASES[1]]
    result = apply(run_module, server, databases=changed)
    assert result["steps"] == ["set password of mlflow"]
    written = server.log[before:]
    assert "CREATE ROLE" in written
    assert "-secret" not in written


def test_other_roles_may_not_enter(run_module: RunModule, server: PostgresqlServer) -> None:
    apply(run_module, server)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(
            host="127.0.0.1",
            port=server.port,
            user="company",
            password="company-secret",
            dbname="mlflow",
        )


def test_the_dba_does_not_stay_a_member_of_our_roles(
    run_module: RunModule, server: PostgresqlServer
) -> None:
    apply(run_module, server)
    lent = server.sql(
        "SELECT roleid::regrole::text FROM pg_auth_members "
        "WHERE member = 'dba'::regrole AND grantor = 'dba'::regrole"
    )
    assert lent == []


@pytest.mark.parametrize("after", range(len(ALL_STEPS) + 2))
def test_a_run_that_is_killed_anywhere_can_be_run_again(
    run_module: RunModule,
    server: PostgresqlServer,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    real, done = Databases.apply, []

    def stop_in_between(self: Any, session: Any, steps: Any) -> None:
        done.extend(steps[:after])
        real(self, session, steps[:after])
        os.close(session.connection.fileno())
        raise DatabaseError("killed")

    monkeypatch.setattr(Databases, "apply", stop_in_between)
    assert apply(run_module, server)["msg"] == "killed"
    monkeypatch.undo()
    result = apply(run_module, server)
    assert "msg" not in result
    already = [step.text for step in done]
    assert [step for step in result["steps"] if step.startswith(("create", "grant"))] == [
        step for step in ALL_STEPS if step.startswith(("create", "grant")) and step not in already
    ]
    assert apply(run_module, server)["steps"] == []
    assert apply(run_module, server, state="absent")["changed"] is True


def test_removal_drops_what_is_ours_even_in_use_and_nothing_else(
    run_module: RunModule, server: PostgresqlServer
) -> None:
    before = server.fingerprint()
    apply(run_module, server)
    with psycopg.connect(
        host="127.0.0.1",
        port=server.port,
        user="mlflow",
        password="mlflow-secret",
        dbname="mlflow",
    ) as connection:
        connection.execute("CREATE TABLE runs (id int)")
        connection.commit()
        result = apply(run_module, server, state="absent")
    assert result["steps"] == [
        "drop database mlflow",
        "drop database mlflow_auth",
        "drop database mlops_monitoring",
        "drop role mlflow",
        "drop role mlops_monitoring",
    ]
    assert server.fingerprint() == before
    assert apply(run_module, server, state="absent")["steps"] == []


def test_removal_needs_no_list_of_databases(
    run_module: RunModule, server: PostgresqlServer
) -> None:
    apply(run_module, server)
    result = apply(run_module, server, state="absent", databases=[])
    assert len(result["steps"]) == 5


OTHER = {"site_id": "e1f9b3a07c5d4482"}
NAMED_ONLY = {"site_id": ""}


def everything(server: PostgresqlServer) -> list[Any]:
    """The state of the roles and databases in question, with their comments and passwords."""
    return [
        server.sql(
            "SELECT *, shobj_description(oid, 'pg_authid') FROM pg_authid "
            "WHERE rolname ~ '^(mlflow|mlops|copy)' ORDER BY oid"
        ),
        server.sql(
            "SELECT *, shobj_description(oid, 'pg_database') FROM pg_database "
            "WHERE datname ~ '^(mlflow|mlops|copy)' ORDER BY oid"
        ),
    ]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (
            {"site": "elsewhere", **OTHER},
            {},
            "role mlflow exists and belongs to site elsewhere",
        ),
        (OTHER, {}, "belongs to another site of the name test (e1f9b3a07c5d4482)"),
        (OTHER, {"adopt_named_marks": True}, "another site of the name test (e1f9b3a07c5d4482)"),
        (
            NAMED_ONLY,
            {},
            "was made by a site of this name, whose identity is not known here",
        ),
        (OTHER, NAMED_ONLY, "belongs to another site of the name test (e1f9b3a07c5d4482)"),
        ({"site": "Zürich", **OTHER}, {"site": "Zürich"}, "another site of the name Z\\xfcrich"),
    ],
)
def test_what_another_site_made_is_refused_and_kept(
    run_module: RunModule,
    server: PostgresqlServer,
    first: dict[str, Any],
    second: dict[str, Any],
    said: str,
) -> None:
    apply(run_module, server, **first)
    before = everything(server)
    assert said in failures(probe(run_module, server, **second))
    for user in ("dba", "postgres"):
        account = {"user": user, "password": f"{user}-secret"}
        result = apply(run_module, server, **{**second, **account})
        assert (result["failed"], said in result["msg"]) == (True, True)
        removed = apply(run_module, server, state="absent", **{**second, **account})
        assert (removed["changed"], removed["steps"]) == (False, [])
    assert everything(server) == before
    assert apply(run_module, server, state="absent", **first)["changed"] is True


@pytest.mark.parametrize("later", [NAMED_ONLY, {"adopt_named_marks": True}])
def test_a_name_without_the_password_is_no_proof(
    run_module: RunModule, server: PostgresqlServer, later: dict[str, Any]
) -> None:
    """Two folders, one copied from the other before marks had an identity."""
    apply(run_module, server, **NAMED_ONLY)
    before = everything(server)
    copied = [{**entry, "password": "of-the-copy"} for entry in DATABASES]
    for state in ("present", "absent"):
        result = apply(run_module, server, databases=copied, state=state, **later)
        assert result["msg"].startswith(
            "Role mlflow bears the name of site test, but not its password: another site of this "
            "name may have made it."
        )
    assert everything(server) == before


def test_a_site_of_the_release_before_is_adopted_once(
    run_module: RunModule, server: PostgresqlServer
) -> None:
    apply(run_module, server, **NAMED_ONLY)
    steps = [
        "renew the mark of role mlflow",
        "renew the mark of role mlops_monitoring",
        "renew the mark of database mlflow",
        "renew the mark of database mlflow_auth",
        "renew the mark of database mlops_monitoring",
    ]
    assert apply(run_module, server, adopt_named_marks=True, check_mode=True)["steps"] == steps
    assert apply(run_module, server, adopt_named_marks=True)["steps"] == steps
    assert apply(run_module, server)["steps"] == []
    assert apply(run_module, server, state="absent", **NAMED_ONLY)["changed"] is False
    assert apply(run_module, server, site="renamed")["steps"] == steps
    assert len(apply(run_module, server, state="absent", site="renamed")["steps"]) == 5


def test_a_site_of_the_release_before_can_be_removed(
    run_module: RunModule, server: PostgresqlServer
) -> None:
    apply(run_module, server, **NAMED_ONLY)
    assert len(apply(run_module, server, state="absent", adopt_named_marks=True)["steps"]) == 5


@pytest.mark.parametrize("user", ["dba", "postgres"])
def test_a_copied_mark_makes_nothing_ours(
    run_module: RunModule, server: PostgresqlServer, user: str
) -> None:
    apply(run_module, server)
    mark = "Made by mlops.onprem for site test (7d0c1f5e88a94b21) as mlflow; removed with it."
    server.sql(
        "CREATE ROLE copy_role LOGIN",
        f"COMMENT ON ROLE copy_role IS '{mark}'",
        "CREATE DATABASE copy_base OWNER company",
        f"COMMENT ON DATABASE copy_base IS '{mark}'",
    )
    account = {"user": user, "password": f"{user}-secret"}
    try:
        result = apply(run_module, server, state="absent", **account)
        assert (len(result["steps"]), "copy" in str(result["steps"])) == (5, False)
        assert [sentence.split(": ", 1)[1] for sentence in result["told"]] == [
            "role copy_role is left as it is: it bears a mark that this site put on mlflow.",
            "database copy_base is left as it is: it is owned by company, and its comment speaks "
            "of this site.",
        ]
        assert len(everything(server)[0]) == len(everything(server)[1]) == 1
    finally:
        server.sql("DROP DATABASE copy_base", "DROP ROLE copy_role")


@pytest.mark.parametrize(
    "statements",
    [
        ["DROP DATABASE mlflow", "CREATE DATABASE mlflow OWNER mlflow"],
        ["COMMENT ON DATABASE mlflow IS NULL"],
        ["COMMENT ON DATABASE mlflow IS 'our experiments'"],
        [
            "ALTER DATABASE mlflow_auth RENAME TO copy_auth",
            "ALTER DATABASE mlflow RENAME TO mlflow_auth",
        ],
    ],
    ids=["made anew", "mark lost", "mark changed", "renamed"],
)
def test_a_database_without_its_mark_is_told_and_kept(
    run_module: RunModule, server: PostgresqlServer, statements: list[str]
) -> None:
    apply(run_module, server)
    server.sql(*statements)
    before = everything(server)
    try:
        assert "does not bear the mark of this site" in str(probe(run_module, server)["findings"])
        assert "does not bear the mark of this site" in apply(run_module, server)["msg"]
        removed = apply(run_module, server, state="absent")
        assert "was not made by site test, or has lost its mark" in removed["msg"]
        assert everything(server) == before
    finally:
        server.sql("DROP DATABASE IF EXISTS copy_auth")


def test_a_lost_mark_can_be_given_back_by_hand(
    run_module: RunModule, server: PostgresqlServer
) -> None:
    apply(run_module, server)
    server.sql("COMMENT ON DATABASE mlflow IS NULL")
    asked = only_failure(probe(run_module, server))["remedy"].split("ask for: ")[1]
    server.sql(asked)
    assert apply(run_module, server)["steps"] == []


def test_a_role_made_anew_by_hand_is_told_and_kept(
    run_module: RunModule, server: PostgresqlServer
) -> None:
    apply(run_module, server, databases=DATABASES[:1])
    apply(run_module, server, databases=DATABASES[:1], state="absent")
    server.sql("CREATE ROLE mlflow LOGIN PASSWORD 'by-hand'")
    before = everything(server)
    assert "role mlflow exists and was not made by this site" in apply(run_module, server)["msg"]
    assert apply(run_module, server, state="absent")["steps"] == []
    assert everything(server) == before


def test_a_role_that_something_elsewhere_needs_stops_removal_before_anything_is_dropped(
    run_module: RunModule, server: PostgresqlServer
) -> None:
    apply(run_module, server)
    server.sql("CREATE TABLE reports ()", "ALTER TABLE reports OWNER TO mlflow", database="company")
    before = everything(server)
    try:
        said = apply(run_module, server, state="absent")["msg"]
        assert said.startswith(
            "Role mlflow owns something in database company, or has rights there, and cannot be "
            'dropped: run there REASSIGN OWNED BY "mlflow" TO another role'
        )
        assert everything(server) == before
    finally:
        server.sql("DROP TABLE reports", database="company")


def test_a_role_of_the_company_is_refused_and_kept(
    run_module: RunModule, server: PostgresqlServer
) -> None:
    server.sql("CREATE ROLE mlflow LOGIN")
    result = apply(run_module, server)
    assert "role mlflow exists and was not made by this site" in result["msg"]
    assert server.sql("SELECT rolname FROM pg_roles WHERE rolname = 'mlops_monitoring'") == []


def test_a_wrong_password_changes_nothing(run_module: RunModule, server: PostgresqlServer) -> None:
    for check_mode in (False, True):
        result = apply(run_module, server, check_mode=check_mode, password="a-wrong-password")
        assert result["failed"] is True
        assert "the server refuses the password of dba" in result["msg"]
        assert "a-wrong-password" not in str(result)


def test_no_server_named_is_a_finding_about_the_host_that_asks(run_module: RunModule) -> None:
    result = run_module(postgresql_probe, host="", user="dba", password="dba-secret", site="test")
    assert result["findings"] == [
        {
            "id": "metadata_db.settings",
            "severity": "fail",
            "found": "metadata_db_host is empty",
            "wanted": "the name or address of the server",
            "remedy": "set metadata_db_host, or metadata_db_mode: managed",
        }
    ]
