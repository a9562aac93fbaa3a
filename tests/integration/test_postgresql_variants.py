# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Servers that nobody prepared for us: their encodings, languages, rules of login and poolers."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql import databases
from ansible_collections.mlops.onprem.plugins.modules import (
    postgresql_databases,
    postgresql_probe,
)

from tests.patience import PATIENCE

from .conftest import free_port
from .postgresql_programs import Programs
from .postgresql_server import PostgresqlServer, as_somebody, give_away
from .test_postgresql import ALL_STEPS, DATABASES, OTHER, everything

RunModule = Callable[..., dict[str, Any]]
Say = Callable[..., str]
ENCODINGS = [(major, name) for major in (15, 17) for name in ("UTF8", "SQL_ASCII", "LATIN1")]
ODD = (
    'CREATE ROLE "M\xfcller" LOGIN',
    'CREATE DATABASE "Gr\xf6\xdfe" OWNER "M\xfcller"',
    "COMMENT ON ROLE \"M\xfcller\" IS 'f\xfcr die B\xfccher'",
)


@pytest.fixture(params=ENCODINGS, ids=lambda one: f"{one[0]} {one[1]}")
def server(
    request: pytest.FixtureRequest, postgresql_of: Callable[..., PostgresqlServer]
) -> Iterator[PostgresqlServer]:
    yield from as_it_was(postgresql_of(*request.param))


@pytest.fixture
def old(postgresql_of: Callable[..., PostgresqlServer]) -> Iterator[PostgresqlServer]:
    yield from as_it_was(postgresql_of(15))


@pytest.fixture
def new(postgresql_of: Callable[..., PostgresqlServer]) -> Iterator[PostgresqlServer]:
    yield from as_it_was(postgresql_of(17))


def as_it_was(server: PostgresqlServer) -> Iterator[PostgresqlServer]:
    """The server as the company left it, before and after each test."""
    before = server.fingerprint()
    usual = (server.place / "data/pg_hba.conf").read_text()
    yield server
    if (server.place / "data/pg_hba.conf").read_text() != usual:
        server.write_hba(usual)
    for database in ("mlflow", "mlflow_auth", "mlops_monitoring"):
        server.sql(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
    for role in ("mlflow", "mlops_monitoring"):
        server.sql(f"DROP ROLE IF EXISTS {role}")
    assert server.fingerprint() == before


@contextlib.contextmanager
def odd_things(server: PostgresqlServer) -> Iterator[None]:
    """What a company's other applications keep, in names that UTF-8 does not know."""
    server.sql("CREATE DATABASE odd ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        server.sql(*ODD, database="odd", encoding="latin1")
        yield
    finally:
        server.sql(
            'DROP DATABASE IF EXISTS "Gr\xf6\xdfe"',
            'DROP ROLE IF EXISTS "M\xfcller"',
            database="odd",
            encoding="latin1",
        )
        server.sql("DROP DATABASE odd")


def all_steps(server: PostgresqlServer) -> list[str]:
    """A DBA may grant pg_monitor before PostgreSQL 16 only."""
    old = server.sql("SHOW server_version_num")[0][0] < "160000"
    return [step for step in ALL_STEPS if old or not step.startswith("grant pg_monitor")]


def probe(run_module: RunModule, server: PostgresqlServer, **changes: Any) -> dict[str, Any]:
    return run_module(postgresql_probe, **{**server.account, "databases": DATABASES, **changes})


def apply(run_module: RunModule, server: PostgresqlServer, **changes: Any) -> dict[str, Any]:
    return run_module(postgresql_databases, **{**server.account, "databases": DATABASES, **changes})


def failures(result: dict[str, Any]) -> list[dict[str, str]]:
    return [one for one in result["findings"] if one["severity"] == "fail"]


def said_by_all(run_module: RunModule, server: PostgresqlServer, **changes: Any) -> str:
    """What the probe says; creation, removal and check mode have to say the same and do nothing."""
    (failure,) = failures(probe(run_module, server, **changes))
    sentence = f"{failure['found']}, wanted {failure['wanted']}; {failure['remedy']}"
    for state in ("present", "absent"):
        for check_mode in (False, True):
            result = apply(run_module, server, state=state, check_mode=check_mode, **changes)
            assert result.get("failed"), result
            assert result["msg"].endswith(sentence), (result["msg"], sentence)
    return sentence


# -- every encoding ----------------------------------------------------------------------------


def test_from_nothing_to_nothing_beside_names_of_any_encoding(
    run_module: RunModule, server: PostgresqlServer
) -> None:
    with odd_things(server):
        before = server.fingerprint()
        assert failures(probe(run_module, server)) == []
        assert apply(run_module, server, check_mode=True)["steps"] == all_steps(server)
        assert server.fingerprint() == before
        assert apply(run_module, server)["steps"] == all_steps(server)
        assert apply(run_module, server)["steps"] == []
        result = probe(run_module, server)
        assert "mlflow, mlflow_auth and mlops_monitoring already made" in str(result["findings"])
        through = probe(run_module, server, through="consumers")
        assert {finding["severity"] for finding in through["findings"]} == {"pass"}
        assert apply(run_module, server, state="absent", check_mode=True)["changed"] is True
        assert len(apply(run_module, server, state="absent")["steps"]) == 5
        assert apply(run_module, server, state="absent")["steps"] == []
        assert server.fingerprint() == before


@pytest.mark.parametrize("user", ["dba", "postgres"])
def test_what_somebody_else_has_in_these_names_is_seen_and_kept(
    run_module: RunModule, server: PostgresqlServer, user: str
) -> None:
    account = {"user": user, "password": f"{user}-secret"}
    with odd_things(server):
        server.sql(
            "CREATE ROLE mlflow LOGIN",
            "COMMENT ON ROLE mlflow IS 'B\xfccher'",
            'CREATE DATABASE mlops_monitoring OWNER "M\xfcller"',
            "COMMENT ON DATABASE mlops_monitoring IS 'B\xfccher'",
            database="odd",
            encoding="latin1",
        )
        try:
            before = everything_as_bytes(server)
            found = [one["found"] for one in failures(probe(run_module, server, **account))]
            assert found[0] == "role mlflow exists and was not made by this site"
            assert found[1].startswith("database mlops_monitoring exists and is owned by M")
            result = apply(run_module, server, **account)
            assert all(one in result["msg"] for one in found)
            assert apply(run_module, server, state="absent", **account)["steps"] == []
            assert everything_as_bytes(server) == before
        finally:
            server.sql("DROP DATABASE mlops_monitoring", "DROP ROLE mlflow")


def everything_as_bytes(server: PostgresqlServer) -> list[Any]:
    return [
        server.sql("SELECT * FROM pg_authid ORDER BY oid", encoding="sql_ascii"),
        server.sql(
            "SELECT oid, datname, datdba, datacl, datallowconn FROM pg_database ORDER BY oid",
            encoding="sql_ascii",
        ),
        server.sql("SELECT * FROM pg_shdescription ORDER BY 1, 2, 3", encoding="sql_ascii"),
    ]


@pytest.mark.parametrize("site", ["test", "Z\xfcrich, B\xfcro \u0141\xf3d\u017a"])
def test_two_sites_of_one_name_keep_apart(
    run_module: RunModule, server: PostgresqlServer, site: str
) -> None:
    apply(run_module, server, site=site)
    before = everything(server)
    assert (
        "another site of the name"
        in failures(probe(run_module, server, site=site, **OTHER))[0]["found"]
    )
    assert "another site of the name" in apply(run_module, server, site=site, **OTHER)["msg"]
    assert apply(run_module, server, state="absent", site=site, **OTHER)["steps"] == []
    assert everything(server) == before
    assert apply(run_module, server, site=site)["steps"] == []
    assert len(apply(run_module, server, state="absent", site=site)["steps"]) == 5


# -- refused logins, in any language -----------------------------------------------------------


@pytest.fixture(params=["", "de_DE.UTF-8"], ids=["English", "German"])
def speaking(request: pytest.FixtureRequest, new: PostgresqlServer) -> Iterator[PostgresqlServer]:
    """A server that says everything in a language."""
    if request.param and not new.environment:
        pytest.skip("the server that is installed here has no other language")
    with new.setting("lc_messages", request.param or "C"):
        if request.param:
            with pytest.raises(psycopg.Error, match="existiert nicht"):
                new.sql("SELECT FROM nirgends")
        yield new


@pytest.mark.parametrize(
    ("before", "changes", "found", "remedy", "after"),
    [
        (
            [],
            {"password": "falsch"},
            "the server refuses the password of dba",
            "set metadata_db_admin_password",
            [],
        ),
        (
            [],
            {"password": ""},
            "no password is given for dba",
            "set metadata_db_admin_password",
            [],
        ),
        (
            [],
            {"database": "nirgends"},
            "there is no database nirgends",
            "set metadata_db_admin_database",
            [],
        ),
        (
            ["ALTER ROLE dba NOLOGIN"],
            {},
            "dba may not log in",
            "set metadata_db_admin_user to a role with LOGIN",
            ["ALTER ROLE dba LOGIN"],
        ),
        (
            ["ALTER ROLE dba CONNECTION LIMIT 0"],
            {},
            "dba may open no further connection",
            "ask for: ALTER ROLE dba CONNECTION LIMIT -1",
            ["ALTER ROLE dba CONNECTION LIMIT -1"],
        ),
        (
            ["CREATE DATABASE crowded CONNECTION LIMIT 0"],
            {"database": "crowded"},
            "database crowded takes no further connection",
            "ask for: ALTER DATABASE crowded CONNECTION LIMIT -1",
            ["DROP DATABASE crowded"],
        ),
        (
            ["CREATE DATABASE shut", "REVOKE CONNECT ON DATABASE shut FROM PUBLIC"],
            {"database": "shut"},
            "dba may not connect to database shut",
            "ask for: GRANT CONNECT ON DATABASE shut TO dba, or set metadata_db_admin_database",
            ["DROP DATABASE shut"],
        ),
        (
            [],
            {"database": "template0"},
            "database template0 takes no connections",
            "set metadata_db_admin_database",
            [],
        ),
        (
            ["ALTER ROLE dba VALID UNTIL '2001-01-01'"],
            {},
            "the server refuses the password of dba",
            "set metadata_db_admin_password to the password of metadata_db_admin_user dba; if it "
            "is that, it has expired (VALID UNTIL)",
            [
                "ALTER ROLE dba VALID UNTIL 'infinity'",
                "UPDATE pg_authid SET rolvaliduntil = NULL WHERE rolname = 'dba'",
            ],
        ),
    ],
    ids=["wrong", "empty", "no database", "nologin", "limit", "full", "shut", "closed", "expired"],
)
def test_a_refused_login_is_told_alike_by_all_in_any_language(
    run_module: RunModule,
    speaking: PostgresqlServer,
    before: list[str],
    changes: dict[str, Any],
    found: str,
    remedy: str,
    after: list[str],
) -> None:
    speaking.sql(*before)
    try:
        sentence = said_by_all(run_module, speaking, **changes)
    finally:
        speaking.sql(*after)
    assert sentence.startswith(found)
    assert remedy in sentence


def test_a_password_is_not_set_because_a_database_is_gone_or_a_role_is_full(
    run_module: RunModule, speaking: PostgresqlServer
) -> None:
    apply(run_module, speaking)
    speaking.sql("DROP DATABASE mlflow", "ALTER ROLE mlops_monitoring CONNECTION LIMIT 0")
    steps = apply(run_module, speaking)["steps"]
    assert not [step for step in steps if "password" in step]
    assert steps[0] == "change connection limit of mlops_monitoring from 0 to 5"
    assert apply(run_module, speaking)["steps"] == []


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["host all all all reject"], "no line in the server's pg_hba.conf lets dba in"),
        (["host company all all md5"], "no line in the server's pg_hba.conf lets dba in"),
        (["hostnossl all all all md5"], "no line in the server's pg_hba.conf lets dba in"),
        (
            ["host all all all ldap ldapserver=127.0.0.1 ldapprefix=x"],
            "the server has the password of dba checked elsewhere (LDAP",
        ),
        (["host all all all gss"], "the server wants dba to log in by GSSAPI (Kerberos)"),
    ],
    ids=["reject", "no line", "hostnossl", "ldap", "gss"],
)
def test_the_rules_of_the_server_are_told_apart_from_the_password(
    run_module: RunModule, speaking: PostgresqlServer, lines: list[str], found: str
) -> None:
    speaking.hba(*lines)
    sentence = said_by_all(run_module, speaking)
    assert sentence.startswith(found)
    assert "hostssl postgres dba <address of the client> scram-sha-256" in sentence


@pytest.mark.parametrize("rule", ["cert", "scram-sha-256 clientcert=verify-ca"])
def test_a_client_certificate_that_is_demanded_is_told(
    run_module: RunModule, new: PostgresqlServer, rule: str
) -> None:
    with new.setting("ssl_ca_file", new.ca_file):
        new.hba(f"hostssl all all all {rule}")
        sentence = said_by_all(run_module, new)
    assert "give one for dba in metadata_db_client_certificates" in sentence


def test_a_password_stored_as_md5_under_rules_for_scram_is_named(
    run_module: RunModule, old: PostgresqlServer
) -> None:
    old.sql("SET password_encryption = md5; CREATE ROLE antique LOGIN PASSWORD 'antique-secret'")
    try:
        account = {"user": "antique", "password": "antique-secret"}
        assert "stored as md5" in said_by_all(run_module, old, **account)
        old.hba("host all all all md5")
        (failure,) = failures(probe(run_module, old, **account))
        assert failure["found"] == "antique lacks CREATEDB and CREATEROLE"
    finally:
        old.sql("DROP ROLE antique")


# -- the way to the server ---------------------------------------------------------------------


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port at which something else answers each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                connection, _address = listener.accept()
                with connection, contextlib.suppress(OSError):
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            done.set()
            with (
                contextlib.suppress(OSError),
                socket.create_connection(listener.getsockname(), PATIENCE),
            ):
                pass
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_ways_that_end_before_the_server_are_told_alike_by_all(
    run_module: RunModule, new: PostgresqlServer, closed_port: int
) -> None:
    stranger = str(new.place / "stranger.crt")
    assert "metadata_db_host is 'a,b'" in said_by_all(run_module, new, host="a,b")
    assert "metadata_db_host is '/tmp'" in said_by_all(run_module, new, host="/tmp")
    assert "is closed (connection refused)" in said_by_all(run_module, new, port=closed_port)
    assert "no address for the name" in said_by_all(run_module, new, host="nowhere.invalid")
    assert "set metadata_db_ca_file" in said_by_all(run_module, new, ca_file=stranger)
    assert "no certificate authority in" in said_by_all(run_module, new, ca_file="/nowhere")
    assert "another name than localhost.invalid" in said_by_name(run_module, new)
    with answering(lambda sock: sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        assert "does not speak the PostgreSQL protocol" in said_by_all(run_module, new, port=port)
    with answering(lambda sock: sock.sendall(sock.recv(8)[:0] + b"N")) as port:
        assert "without TLS (ssl = off)" in said_by_all(run_module, new, port=port)


def said_by_name(run_module: RunModule, server: PostgresqlServer) -> str:
    with server.presenting("other"):
        return said_by_all(run_module, server).replace("127.0.0.1", "localhost.invalid")


def test_an_issuing_authority_without_its_root_is_told_as_such(
    run_module: RunModule, new: PostgresqlServer
) -> None:
    issuing = str(new.place / "issuing.crt")
    with new.presenting("issued"):
        assert failures(probe(run_module, new)) == []
        sentence = said_by_all(run_module, new, ca_file=issuing)
    assert "metadata_db_ca_file" in sentence
    assert "metadata_db_admin_password" not in sentence


def test_a_server_that_says_nothing_ends_in_time(
    run_module: RunModule, new: PostgresqlServer
) -> None:
    silent = threading.Event()

    def say_nothing(_sock: socket.socket) -> None:
        silent.wait(3600)

    with answering(say_nothing) as port:
        begun = time.monotonic()
        (failure,) = failures(probe(run_module, new, port=port, timeout=2))
        silent.set()
    assert failure["id"] in ("metadata_db.tls", "metadata_db.reachable")
    assert time.monotonic() - begun < PATIENCE


@pytest.mark.parametrize(("timeout", "seconds"), [(2, 3600), (3600, 2)])
def test_a_server_that_says_nothing_after_tls_ends_in_time(
    run_module: RunModule,
    new: PostgresqlServer,
    monkeypatch: pytest.MonkeyPatch,
    timeout: int,
    seconds: int,
) -> None:
    monkeypatch.setattr(postgresql_probe, "SECONDS", seconds)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(new.place / "server.crt", new.place / "server.key")

    def say_nothing(sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        sock.recv(8)
        sock.sendall(b"S")
        with context.wrap_socket(sock, server_side=True) as tls:
            while tls.recv(4096):
                pass

    with answering(say_nothing) as port:
        begun = time.monotonic()
        result = probe(run_module, new, port=port, timeout=timeout)
        assert time.monotonic() - begun < PATIENCE
    (failure,) = failures(result)
    assert failure["id"] == "metadata_db.login"
    assert failure["remedy"] == "see the server's log and load, and proxies between"


def test_only_a_server_that_is_to_be_installed_may_be_missing(
    run_module: RunModule, new: PostgresqlServer, closed_port: int
) -> None:
    missing = {"port": closed_port, "to_be_installed": True}
    assert apply(run_module, new, check_mode=True, **missing)["steps"] == ALL_STEPS
    assert apply(run_module, new, **missing)["failed"] is True
    wrong = {"to_be_installed": True, "check_mode": True, "password": "falsch"}
    assert "refuses the password" in apply(run_module, new, **wrong)["msg"]


# -- the user's environment --------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment",
    [
        {"PGSERVICE": "elsewhere", "PGSERVICEFILE": "/nowhere/service"},
        {"PGHOSTADDR": "127.0.0.9"},
        {"PGREQUIREAUTH": "none"},
        {"PGTARGETSESSIONATTRS": "standby"},
        {"PGSSLMINPROTOCOLVERSION": "TLSv1.3", "PGSSLMAXPROTOCOLVERSION": "TLSv1.2"},
        {"PGCHANNELBINDING": "disable", "PGSSLCERT": "/etc/hostname", "PGSSLKEY": "/etc/hostname"},
        {"PGSSLNEGOTIATION": "direct", "PGOPTIONS": "-c no_such_setting=1"},
        {"PGCLIENTENCODING": "EUC_JP", "PGDATESTYLE": "German", "PGTZ": "Nowhere/Place"},
        {"PGSSLCRL": "/etc/hostname", "PGSSLCRLDIR": "/nowhere", "PGPASSFILE": "/etc/shadow"},
        {"PGCONNECT_TIMEOUT": "nonsense", "PGGSSENCMODE": "require", "PGKRBSRVNAME": "x"},
        {"PGSSLMODE": "disable", "PGSSLROOTCERT": "/nowhere", "PGSSLCOMPRESSION": "1"},
        {"PGSYSCONFDIR": "/nowhere", "PGLOADBALANCEHOSTS": "nonsense", "PGPORT": "1"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_no_variable_of_the_user_reaches_the_login(
    run_module: RunModule,
    new: PostgresqlServer,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
) -> None:
    usual = probe(run_module, new)["findings"]

    def use() -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    use()
    assert without_clock(probe(run_module, new)["findings"]) == without_clock(usual)
    use()
    assert apply(run_module, new)["steps"] == all_steps(new)


def without_clock(findings: list[dict[str, str]]) -> list[dict[str, str]]:
    return [
        finding for finding in findings if not finding["id"].endswith((".clock", ".connections"))
    ]


@pytest.mark.parametrize("file", ["postgresql.crt", "root.crl", "root.crt", "postgresql.key"])
def test_no_file_of_the_user_reaches_the_login(
    run_module: RunModule,
    new: PostgresqlServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    file: str,
) -> None:
    place = tmp_path / ".postgresql"
    place.mkdir()
    (place / file).write_text("not what it should be\n")
    (tmp_path / ".pgpass").write_text("*:*:*:dba:dba-secret\n")
    (tmp_path / ".pgpass").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert failures(probe(run_module, new)) == []
    (failure,) = failures(probe(run_module, new, password=""))
    assert failure["found"] == "no password is given for dba"


def test_without_a_file_the_authorities_of_the_controller_count(
    run_module: RunModule, new: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", new.ca_file)
    for sslmode in ("verify-full", "verify-ca"):
        assert failures(probe(run_module, new, ca_file="", sslmode=sslmode)) == []


# -- pgbouncer ---------------------------------------------------------------------------------


@pytest.fixture(params=["session", "transaction"])
def pooler(
    request: pytest.FixtureRequest,
    new: PostgresqlServer,
    programs_of: Callable[[int], Programs],
) -> Iterator[int]:
    """pgbouncer as Debian configures it, in front of the server, with TLS."""
    program = programs_of(17).find("pgbouncer")
    assert program is not None, "pgbouncer did not come with the packages"
    place, port = new.place / f"pgbouncer-{request.param}", free_port()
    place.mkdir()
    (place / "users").write_text('"dba" "dba-secret"\n')
    (place / "ini").write_text(
        f"[databases]\n* = host={new.place} port={new.port} user=dba\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {place}/users\npool_mode = {request.param}\n"
        f"client_tls_sslmode = require\nclient_tls_key_file = {new.place}/server.key\n"
        f"client_tls_cert_file = {new.place}/server.crt\n"
    )
    give_away(place, *place.iterdir())
    with subprocess.Popen(
        [program, "-q", place / "ini"], stderr=subprocess.DEVNULL, cwd="/", **as_somebody()
    ) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while not answers(port):
                assert time.monotonic() < deadline
            yield port
        finally:
            process.terminate()
    for path in (*place.iterdir(), place):
        path.rmdir() if path.is_dir() else path.unlink()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 60):
        return True
    time.sleep(0.05)
    return False


def test_a_pooler_is_told_works_and_keeps_nothing(
    run_module: RunModule, new: PostgresqlServer, pooler: int
) -> None:
    result = probe(run_module, new, port=pooler)
    assert failures(result) == []
    (told,) = [one for one in result["findings"] if one["id"] == "metadata_db.pooler"]
    assert told["severity"] == "warn"
    assert told["remedy"].startswith("set metadata_db_host and metadata_db_port to the server")
    one_role = DATABASES[:1]
    assert apply(run_module, new, port=pooler, databases=one_role)["changed"] is True
    assert new.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
    again = apply(run_module, new, port=pooler, databases=one_role)
    assert (again["steps"], "cannot tell whether the password" in str(again["told"])) == ([], True)
    begun = time.monotonic()
    assert apply(run_module, new, databases=one_role)["steps"] == []
    # A lock that the pooler kept would be waited for as long as the module waits at all.
    assert time.monotonic() - begun < 10
    with psycopg.connect(
        host="127.0.0.1",
        port=pooler,
        user="dba",
        password="dba-secret",
        dbname="postgres",
        sslmode="require",
    ) as connection:
        shown = [
            connection.execute(f"SHOW {name}").fetchone()
            for name in ("statement_timeout", "createrole_self_grant", "role")
        ]
    assert shown == [("0",), ("",), ("none",)]
    assert len(apply(run_module, new, port=pooler, state="absent")["steps"]) == 3


def test_what_a_pooler_refuses_is_not_a_wrong_password(
    run_module: RunModule, new: PostgresqlServer, pooler: int
) -> None:
    (failure,) = failures(
        probe(run_module, new, port=pooler, databases=[], database="postgres", user="clerk")
    )
    assert "clerk" in failure["found"]
    assert failure["id"] == "metadata_db.login"


@pytest.mark.parametrize("state", ["present", "absent"])
def test_who_holds_the_lock_is_named(
    run_module: RunModule,
    new: PostgresqlServer,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
) -> None:
    monkeypatch.setattr(databases, "PAUSE_SECONDS", 0.05)
    with psycopg.connect(
        host=str(new.place),
        port=new.port,
        user="postgres",
        dbname="postgres",
        application_name="a run elsewhere",
        autocommit=True,
    ) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('mlops.onprem'))")
        pid = connection.info.backend_pid
        result = apply(run_module, new, state=state)
    assert f"process {pid} of postgres (a run elsewhere) holds the lock" in result["msg"]
    assert f"ask for: SELECT pg_terminate_backend({pid})." in result["msg"]


# -- accounts ----------------------------------------------------------------------------------


def lent(server: PostgresqlServer) -> list[Any]:
    return server.sql(
        "SELECT roleid::regrole::text FROM pg_auth_members "
        "WHERE member = 'dba'::regrole AND grantor = 'dba'::regrole"
    )


@pytest.mark.parametrize("major", [15, 17])
def test_a_database_in_use_by_a_superuser_is_told_and_nothing_stays_lent(
    run_module: RunModule, postgresql_of: Callable[..., PostgresqlServer], major: int
) -> None:
    for server in as_it_was(postgresql_of(major)):
        apply(run_module, server)
        with psycopg.connect(
            host=str(server.place),
            port=server.port,
            user="postgres",
            dbname="mlflow",
            application_name="exporter",
        ) as connection:
            pid = connection.info.backend_pid
            result = apply(run_module, server, state="absent")
        assert f"Connected to it: process {pid} of postgres (exporter)." in result["msg"]
        assert lent(server) == []
        assert len(apply(run_module, server, state="absent")["steps"]) == 5


@pytest.mark.parametrize("state", ["present", "absent"])
def test_another_account_than_the_one_that_made_it_is_told(
    run_module: RunModule, new: PostgresqlServer, state: str
) -> None:
    apply(run_module, new)
    new.sql("CREATE ROLE second LOGIN CREATEDB CREATEROLE PASSWORD 'second-secret'")
    try:
        before = everything(new)
        account = {"user": "second", "password": "second-secret"}
        result = apply(run_module, new, state=state, **account)
        assert (
            "second may not alter mlflow and mlops_monitoring, which another account created"
            in result["msg"]
        )
        assert "GRANT mlflow, mlops_monitoring TO second WITH ADMIN OPTION" in result["msg"]
        assert everything(new) == before
    finally:
        new.sql("DROP ROLE second")


def test_an_account_that_acts_as_another_is_named(
    run_module: RunModule, new: PostgresqlServer
) -> None:
    new.sql("CREATE ROLE team", "GRANT team TO dba", "ALTER ROLE dba SET role = team")
    try:
        (failure,) = failures(probe(run_module, new))
        assert failure["found"] == (
            "dba acts as team (its setting role), which lacks CREATEDB and CREATEROLE"
        )
    finally:
        new.sql("ALTER ROLE dba RESET role", "DROP ROLE team")


@pytest.mark.parametrize(
    "password",
    ["soft\u00adhyphen", "\u2168 \u00a0 \u200b", "\u06271", "b\u00fccher", "it's \"\\ %s"],
)
def test_a_password_of_any_kind_is_set_once(
    run_module: RunModule, new: PostgresqlServer, password: str
) -> None:
    wanted = [{**DATABASES[0], "password": password}]
    assert apply(run_module, new, databases=wanted)["changed"] is True
    assert apply(run_module, new, databases=wanted)["steps"] == []


def test_a_password_of_ours_that_expired_is_valid_again(
    run_module: RunModule, new: PostgresqlServer
) -> None:
    apply(run_module, new)
    new.sql("ALTER ROLE mlflow VALID UNTIL '2001-01-01'")
    assert apply(run_module, new)["steps"] == [
        "let the password of mlflow not expire",
        "set password of mlflow",
    ]
    assert apply(run_module, new)["steps"] == []


def test_a_company_with_roles_of_our_names_can_install_with_a_prefix(
    run_module: RunModule, new: PostgresqlServer
) -> None:
    new.sql("CREATE ROLE mlflow LOGIN", "CREATE DATABASE mlflow OWNER mlflow")
    before = new.sql("SELECT oid, datdba, datacl FROM pg_database WHERE datname = 'mlflow'")
    wanted = [{**DATABASES[0], "name": "x_mlflow", "owner": "x_mlflow", "extra_databases": []}]
    assert "or set metadata_db_prefix" in failures(probe(run_module, new))[0]["remedy"]
    assert apply(run_module, new, databases=wanted)["changed"] is True
    assert apply(run_module, new, databases=wanted, state="absent")["changed"] is True
    after = new.sql("SELECT oid, datdba, datacl FROM pg_database WHERE datname = 'mlflow'")
    assert after == before
