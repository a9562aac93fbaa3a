# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""MariaDB servers of a company: what we say of them, make in them, and leave in them."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql import databases
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql.password import native
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql.server import RIGHTS
from ansible_collections.mlops.onprem.plugins.modules import mysql_databases, mysql_probe

from .conftest import free_port
from .mysql_server import SITE_ID, MysqlServer, unpacked

# Both releases of Debian with MARIADB_VERSIONS=10.11,11.8, which python -m tests.soak.mariadb sets.
VERSIONS = os.environ.get("MARIADB_VERSIONS", "11.8").split(",")
RunModule = Callable[..., dict[str, Any]]
PASSWORD = "slurm-of-the-test-7f3a"
DATABASES = [
    {
        "name": "slurm_acct_db",
        "owner": "slurm",
        "password": PASSWORD,
        "connection_limit": 20,
        "tables": ["*_table"],
    }
]
ALL_STEPS = [
    "create database slurm_acct_db",
    "create account slurm@% (over TLS only, at most 20 connections)",
]
GONE = ["drop account slurm@%", "drop database slurm_acct_db"]


@pytest.fixture(scope="module", params=VERSIONS)
def one(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MysqlServer]:
    place = tmp_path_factory.mktemp("mariadb")
    root = unpacked(request.param, place)
    server = MysqlServer(place / "server", root, free_port())
    try:
        server.create()
        yield server
    finally:
        server.stop()


@pytest.fixture
def server(one: MysqlServer) -> Iterator[MysqlServer]:
    """The server as the company left it, before and after each test."""
    before = one.fingerprint()
    yield one
    one.sql("DROP DATABASE IF EXISTS slurm_acct_db")
    for (host,) in one.sql("SELECT Host FROM mysql.global_priv WHERE User = 'slurm'"):
        one.sql(f"DROP USER 'slurm'@'{host}'")
    assert one.fingerprint() == before


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "TRIES", 2)
    monkeypatch.setattr(databases, "PAUSE_SECONDS", 0.05)


def probe(run_module: RunModule, server: MysqlServer, **changes: Any) -> dict[str, Any]:
    return run_module(mysql_probe, **{**server.account, "databases": DATABASES, **changes})


def apply(run_module: RunModule, server: MysqlServer, **changes: Any) -> dict[str, Any]:
    return run_module(mysql_databases, **{**server.account, "databases": DATABASES, **changes})


def by_id(result: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {one["id"].partition(".")[2]: one for one in result["findings"]}


def failures(result: dict[str, Any]) -> list[dict[str, str]]:
    return [one for one in result["findings"] if one["severity"] == "fail"]


def said_by_all(run_module: RunModule, server: MysqlServer, **changes: Any) -> str:
    """What the probe says; creation, removal and check mode have to say the same and do nothing."""
    (failure,) = failures(probe(run_module, server, **changes))
    sentence = f"{failure['found']}, wanted {failure['wanted']}; {failure['remedy']}"
    for state in ("present", "absent"):
        for check_mode in (False, True):
            result = apply(run_module, server, state=state, check_mode=check_mode, **changes)
            assert result.get("failed"), result
            assert result["msg"].endswith(sentence), (result["msg"], sentence)
    return sentence


def as_slurm(server: MysqlServer, tls: bool = True, password: str = PASSWORD) -> Any:
    return pymysql.connect(
        host="127.0.0.1",
        port=server.port,
        user="slurm",
        password=password,
        database="slurm_acct_db",
        autocommit=True,
        **({"ssl_ca": server.ca_file} if tls else {"ssl_disabled": True}),
    )


# -- from nothing to nothing -------------------------------------------------------------------


def test_from_nothing_to_nothing(run_module: RunModule, server: MysqlServer) -> None:
    before = server.fingerprint()
    first = probe(run_module, server)
    assert failures(first) == []
    assert by_id(first)["names"]["found"] == "slurm_acct_db free to be created"
    assert apply(run_module, server, check_mode=True)["steps"] == ALL_STEPS
    assert server.fingerprint() == before
    assert server.sql("SHOW DATABASES LIKE 'slurm%'") == []
    made = apply(run_module, server)
    assert (made["steps"], made["changed"]) == (ALL_STEPS, True)
    assert made["diff"]["after"] == "".join(f"{step}\n" for step in ALL_STEPS)
    again = apply(run_module, server)
    assert (again["steps"], again["changed"], again["told"]) == ([], False, [])
    assert by_id(probe(run_module, server))["names"]["found"].endswith("made by this site")
    through = probe(run_module, server, through="consumers")
    assert {finding["severity"] for finding in through["findings"]} == {"pass"}
    assert server.fingerprint() == before
    assert apply(run_module, server, state="absent", check_mode=True)["steps"] == GONE
    assert len(server.sql("SHOW DATABASES LIKE 'slurm%'")) == 1
    assert apply(run_module, server, state="absent")["steps"] == GONE
    assert apply(run_module, server, state="absent")["steps"] == []
    assert server.sql("SHOW DATABASES LIKE 'slurm%'") == []
    assert server.sql("SELECT * FROM mysql.db WHERE User = 'slurm'") == []


def test_no_password_stands_in_the_servers_log(run_module: RunModule, server: MysqlServer) -> None:
    apply(run_module, server)
    other = [{**DATABASES[0], "password": "another-1b2c3d"}]
    assert apply(run_module, server, databases=other)["steps"] == ["set password of slurm@%"]
    apply(run_module, server, state="absent", databases=other)
    assert native("another-1b2c3d") in server.queries
    for word in (PASSWORD, "another-1b2c3d"):
        assert word not in server.queries
        assert word not in server.log


def test_the_account_can_do_its_work_and_nothing_else(
    run_module: RunModule, server: MysqlServer
) -> None:
    apply(run_module, server)
    with as_slurm(server) as session, session.cursor() as cursor:
        for statement in (
            "CREATE TABLE job_table (id int AUTO_INCREMENT PRIMARY KEY, name tinytext)",
            "CREATE PROCEDURE limits(x text) BEGIN SET @y = x; END",
            "CALL limits('a')",
            "INSERT INTO job_table (name) VALUES ('one')",
            "ALTER TABLE job_table ADD COLUMN more int, ADD INDEX by_more (more)",
            "DROP PROCEDURE limits",
        ):
            cursor.execute(statement)
        for statement in (
            "SELECT * FROM company.accounts",
            "CREATE DATABASE other",
            "SELECT * FROM mysql.global_priv",
            "GRANT SELECT ON slurm_acct_db.* TO clerk@'%'",
            "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1",
        ):
            with pytest.raises(pymysql.MySQLError):
                cursor.execute(statement)


def test_the_account_logs_in_over_tls_only(run_module: RunModule, server: MysqlServer) -> None:
    apply(run_module, server)
    as_slurm(server).close()
    with pytest.raises(pymysql.MySQLError):
        as_slurm(server, tls=False)


def test_the_database_sorts_as_slurm_wants_whatever_the_server_does(
    run_module: RunModule, server: MysqlServer
) -> None:
    with server.setting("collation_server", "latin1_german2_ci"):  # and its character set with it
        apply(run_module, server)
    ((charset, collation),) = server.sql(
        "SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM "
        "information_schema.SCHEMATA WHERE SCHEMA_NAME = 'slurm_acct_db'"
    )
    assert (charset, collation) == ("utf8mb4", "utf8mb4_general_ci")


# -- what was changed by others ----------------------------------------------------------------

DRIFT = [
    ("ALTER USER slurm@'%' REQUIRE NONE", "let slurm@% log in over TLS only"),
    (
        "ALTER USER slurm@'%' WITH MAX_USER_CONNECTIONS 3",
        "change connection limit of slurm@% from 3 to 20",
    ),
    ("ALTER USER slurm@'%' ACCOUNT LOCK", "unlock slurm@%"),
    (
        "REVOKE ALTER, INDEX ON `slurm\\_acct\\_db`.* FROM slurm@'%'",
        "give slurm@% ALTER and INDEX on slurm_acct_db",
    ),
]


@pytest.mark.parametrize(("change", "step"), DRIFT)
def test_what_drifted_is_mended(
    run_module: RunModule, server: MysqlServer, change: str, step: str
) -> None:
    apply(run_module, server)
    server.sql(change)
    assert apply(run_module, server, check_mode=True)["steps"] == [step]
    assert apply(run_module, server)["steps"] == [step]
    assert apply(run_module, server)["steps"] == []


def test_a_host_for_the_account_replaces_the_one_before(
    run_module: RunModule, server: MysqlServer
) -> None:
    apply(run_module, server)
    narrow = [{**DATABASES[0], "account_host": "10.1.2.%"}]
    assert apply(run_module, server, databases=narrow)["steps"] == [
        "create account slurm@10.1.2.% (over TLS only, at most 20 connections)",
        "drop account slurm@%",
    ]
    assert apply(run_module, server, databases=narrow)["steps"] == []
    through = by_id(probe(run_module, server, databases=narrow, through="consumers"))
    assert "may only log in from there" in through["login"]["found"]
    gone = apply(run_module, server, databases=narrow, state="absent")["steps"]
    assert gone == ["drop account slurm@10.1.2.%", "drop database slurm_acct_db"]


def test_a_run_that_was_killed_is_finished_by_the_next(
    run_module: RunModule, server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(run_module, server)
    mark = server.sql(
        "SELECT SCHEMA_COMMENT FROM information_schema.SCHEMATA WHERE SCHEMA_NAME='slurm_acct_db'"
    )[0][0]
    server.sql("DROP TABLE slurm_acct_db.mlops_onprem", "DROP USER slurm@'%'")
    assert SITE_ID in mark
    steps = apply(run_module, server)["steps"]
    assert steps == ["mark database slurm_acct_db as made by this site", ALL_STEPS[1]]
    # The account stands, and nothing says yet who made it, nor may it do anything.
    server.sql("DELETE FROM slurm_acct_db.mlops_onprem")
    server.sql("REVOKE ALL PRIVILEGES, GRANT OPTION FROM slurm@'%'")
    steps = apply(run_module, server)["steps"]
    assert steps[0] == "take down who made slurm@%"
    assert steps[1].startswith("give slurm@% SELECT, INSERT,")
    assert apply(run_module, server)["steps"] == []
    # A removal that was killed after the account: the database still knows whose it is.
    server.sql("DROP USER slurm@'%'")
    assert apply(run_module, server, state="absent")["steps"] == GONE[1:]


# -- what is not ours --------------------------------------------------------------------------


def test_a_database_of_somebody_else_is_not_touched(
    run_module: RunModule, server: MysqlServer
) -> None:
    server.sql("CREATE DATABASE slurm_acct_db", "CREATE TABLE slurm_acct_db.t (id int)")
    (failure,) = failures(probe(run_module, server))
    assert failure["found"] == "database slurm_acct_db exists and was not made by this site"
    assert "accounting_db_prefix" in failure["remedy"]
    result = apply(run_module, server)
    assert result["failed"]
    assert failure["found"] in result["msg"]
    removed = apply(run_module, server, state="absent")
    assert removed["changed"] is False
    assert "is left as it is" in removed["told"][0]
    assert server.sql("SHOW TABLES FROM slurm_acct_db") == [("t",)]


def test_an_empty_database_without_a_mark_is_not_taken_over(
    run_module: RunModule, server: MysqlServer
) -> None:
    server.sql("CREATE DATABASE slurm_acct_db")
    assert "DROP DATABASE slurm_acct_db" in apply(run_module, server)["msg"]
    assert apply(run_module, server, state="absent")["steps"] == []
    assert len(server.sql("SHOW DATABASES LIKE 'slurm%'")) == 1


def test_another_site_of_the_same_name_keeps_what_it_has(
    run_module: RunModule, server: MysqlServer
) -> None:
    apply(run_module, server)
    mine = [{**DATABASES[0], "password": "of-the-other-site"}]
    other = {"databases": mine, "site_id": "0000aaaa1111bbbb"}
    said = apply(run_module, server, **other)["msg"]
    assert f"belongs to another site of the name test ({SITE_ID})" in said
    assert f"accounting_db_site_id: {SITE_ID}" in said
    removed = apply(run_module, server, state="absent", **other)
    assert removed["steps"] == []
    assert len(removed["told"]) == 2
    as_slurm(server).close()


@pytest.mark.parametrize("host", ["%", "10.%"])
def test_an_account_of_somebody_else_is_not_touched(
    run_module: RunModule, server: MysqlServer, host: str
) -> None:
    server.sql(f"CREATE USER slurm@'{host}' IDENTIFIED BY 'their-own'")
    stood = server.sql("SELECT Priv FROM mysql.global_priv WHERE User = 'slurm'")
    (failure,) = failures(probe(run_module, server))
    assert failure["found"].startswith(f"account slurm@{host} exists and was not made by this site")
    assert apply(run_module, server)["failed"]
    removed = apply(run_module, server, state="absent")
    assert (removed["steps"], "is left as it is" in removed["told"][0]) == ([], True)
    assert server.sql("SELECT Priv FROM mysql.global_priv WHERE User = 'slurm'") == stood


def test_an_account_that_was_made_anew_is_not_taken_for_ours(
    run_module: RunModule, server: MysqlServer
) -> None:
    apply(run_module, server)
    server.sql("DROP USER slurm@'%'", "CREATE USER slurm@'%' IDENTIFIED BY 'their-own'")
    assert "its password is not the one that this site gave it" in apply(run_module, server)["msg"]
    # Theirs has no rights in our database, so that goes alone.
    removed = apply(run_module, server, state="absent")
    assert removed["steps"] == GONE[1:]
    assert removed["told"] == [
        f"127.0.0.1:{server.port}: account slurm@% is left as it is: it was not made by this site."
    ]


def test_secrets_that_were_lost_are_set_anew(run_module: RunModule, server: MysqlServer) -> None:
    """The mark knows the password that we gave, so a new one may be set."""
    apply(run_module, server)
    new = [{**DATABASES[0], "password": "after-the-loss"}]
    assert failures(probe(run_module, server, databases=new)) == []
    assert apply(run_module, server, databases=new)["steps"] == ["set password of slurm@%"]
    as_slurm(server, password="after-the-loss").close()
    assert apply(run_module, server, databases=new)["steps"] == []


def test_a_copy_of_our_database_is_not_dropped(run_module: RunModule, server: MysqlServer) -> None:
    apply(run_module, server)
    server.sql(
        "CREATE DATABASE slurm_old",
        "CREATE TABLE slurm_old.mlops_onprem LIKE slurm_acct_db.mlops_onprem",
        "GRANT ALL PRIVILEGES ON slurm_old.* TO dba@'%'",
    )
    try:
        removed = apply(run_module, server, state="absent")
        assert removed["steps"] == GONE
        assert "bears a mark that this site put on slurm_acct_db" in removed["told"][0]
        assert len(server.sql("SHOW DATABASES LIKE 'slurm_old'")) == 1
    finally:
        server.sql("DROP DATABASE slurm_old", "REVOKE ALL PRIVILEGES ON slurm_old.* FROM dba@'%'")


BEGUN = [
    ("CREATE TABLE slurm_acct_db.budgets (id int)", "table budgets"),
    ("CREATE VIEW slurm_acct_db.v AS SELECT 1 AS one", "view v"),
    ("GRANT SELECT ON `slurm\\_acct\\_db`.* TO clerk@'%'", "rights of clerk@%"),
    ("GRANT SELECT ON slurm_acct_db.mlops_onprem TO clerk@'%'", "rights of clerk@%"),
    (
        "CREATE EVENT slurm_acct_db.e ON SCHEDULE EVERY 1 DAY DO SELECT 1",
        "event e",
    ),
    ("CREATE PROCEDURE slurm_acct_db.p() SELECT 1", "procedure p"),
]


@pytest.mark.parametrize(("change", "what"), BEGUN)
def test_a_database_that_others_began_to_use_is_not_dropped(
    run_module: RunModule, server: MysqlServer, change: str, what: str
) -> None:
    apply(run_module, server)
    server.sql(change)
    try:
        for check_mode in (True, False):
            result = apply(run_module, server, state="absent", check_mode=check_mode)
            assert result["failed"]
            assert f"others have begun to use it: {what}" in result["msg"]
        as_slurm(server).close()
        assert apply(run_module, server)["steps"] == []
    finally:
        if "clerk" in change:
            server.sql(change.replace("GRANT", "REVOKE", 1).replace(" TO ", " FROM ", 1))


def test_a_table_that_refers_to_ours_keeps_it(run_module: RunModule, server: MysqlServer) -> None:
    apply(run_module, server)
    server.sql(
        "CREATE TABLE slurm_acct_db.job_table (id int PRIMARY KEY)",
        "CREATE TABLE company.bills (job int, FOREIGN KEY (job) REFERENCES "
        "slurm_acct_db.job_table (id))",
        "GRANT SELECT ON company.* TO dba@'%'",
    )
    try:
        said = apply(run_module, server, state="absent")["msg"]
        assert "foreign keys of company.bills" in said
    finally:
        server.sql("DROP TABLE company.bills", "REVOKE SELECT ON company.* FROM dba@'%'")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("GRANT SELECT ON company.* TO slurm@'%'", "rights on company"),
        ("GRANT PROCESS ON *.* TO slurm@'%'", "rights on the whole server"),
        ("GRANT SELECT ON company.accounts TO slurm@'%'", "rights on company.accounts"),
    ],
)
def test_an_account_that_got_more_is_not_dropped(
    run_module: RunModule, server: MysqlServer, change: str, what: str
) -> None:
    apply(run_module, server)
    server.sql(change)
    assert (
        f"slurm@% was made by site test, but has got {what}"
        in apply(run_module, server, state="absent")["msg"]
    )
    as_slurm(server).close()


def test_a_database_that_is_in_use_is_not_waited_for_without_end(
    run_module: RunModule, server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(run_module, server)
    from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql import client

    monkeypatch.setattr(client, "_LIMITS", ("SET SESSION lock_wait_timeout = 1",))
    server.sql("GRANT PROCESS ON *.* TO dba@'%'")
    session = as_slurm(server)
    try:
        with session.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT * FROM mlops_onprem")
            said = apply(run_module, server, state="absent")["msg"]
        assert "cannot drop database slurm_acct_db" in said or "cannot drop account" in said
        assert "of slurm from" in said
    finally:
        session.close()
        server.sql("REVOKE PROCESS ON *.* FROM dba@'%'")
    assert apply(run_module, server, state="absent")["steps"][-1] == GONE[1]


def test_two_runs_do_not_work_at_once(run_module: RunModule, server: MysqlServer) -> None:
    holder = pymysql.connect(unix_socket=str(server.place / "socket"), user="root")
    try:
        with holder.cursor() as cursor:
            cursor.execute("SELECT GET_LOCK('mlops.onprem', 0)")
            said = apply(run_module, server)["msg"]
            assert f"connection {holder.thread_id()} holds the lock" in said
            assert f"KILL {holder.thread_id()}" in said
            assert apply(run_module, server, check_mode=True)["steps"] == ALL_STEPS
    finally:
        holder.close()
    assert apply(run_module, server)["steps"] == ALL_STEPS


# -- logins ------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", ["wrong", ""])
def test_a_wrong_password(run_module: RunModule, server: MysqlServer, password: str) -> None:
    said = said_by_all(run_module, server, password=password)
    assert "accounting_db_admin_password" in said
    assert "wrong" not in said


def test_messages_in_another_language(run_module: RunModule, server: MysqlServer) -> None:
    with server.started_with("--lc-messages=de_DE"):
        assert "refuses dba with this password" in said_by_all(run_module, server, password="wrong")
        assert apply(run_module, server)["steps"] == ALL_STEPS
        assert apply(run_module, server, state="absent")["steps"] == GONE


def test_an_account_without_rights(run_module: RunModule, server: MysqlServer) -> None:
    who = {"user": "clerk", "password": "clerk-secret"}
    (failure,) = failures(probe(run_module, server, **who))
    assert failure["id"] == "accounting_db.rights"
    for grant in (
        "GRANT CREATE USER ON *.* TO 'clerk'@'%'",
        "GRANT SELECT ON mysql.* TO 'clerk'@'%'",
        "GRANT ALL PRIVILEGES ON `slurm\\_acct\\_db`.* TO 'clerk'@'%' WITH GRANT OPTION",
    ):
        assert grant in failure["remedy"]
    assert failure["remedy"] in apply(run_module, server, **who)["msg"]
    said = apply(run_module, server, state="absent", **who)["msg"]
    assert "nothing is dropped" in said


@pytest.mark.parametrize("pattern", ["slurm_acct_db", "slurm\\_%", "%"])
def test_rights_as_dbas_write_them_are_enough(
    run_module: RunModule, server: MysqlServer, pattern: str
) -> None:
    server.sql(
        "CREATE USER dba2@'%' IDENTIFIED BY 'dba2-secret'",
        "CREATE ROLE helpers",
        "GRANT CREATE USER ON *.* TO dba2@'%'",
        "GRANT SELECT ON mysql.* TO helpers",
        f"GRANT ALL PRIVILEGES ON `{pattern}`.* TO dba2@'%' WITH GRANT OPTION",
        "GRANT helpers TO dba2@'%'",
        "SET DEFAULT ROLE helpers FOR dba2@'%'",
    )
    who = {"user": "dba2", "password": "dba2-secret"}
    try:
        assert failures(probe(run_module, server, **who)) == []
        made = apply(run_module, server, **who)
        assert made.get("steps") == ALL_STEPS, made
        assert apply(run_module, server, **who)["steps"] == []
        assert apply(run_module, server, state="absent", **who)["steps"] == GONE
    finally:
        server.sql("DROP USER dba2@'%'", "DROP ROLE helpers")


def test_the_root_of_a_server_is_an_account_too(run_module: RunModule, server: MysqlServer) -> None:
    who = {"user": "chief", "password": "chief-secret"}
    made = apply(run_module, server, **who)
    assert made.get("steps") == ALL_STEPS, made
    assert apply(run_module, server, **who)["steps"] == []
    assert apply(run_module, server, state="absent", **who)["steps"] == GONE


REFUSED = [
    ("ALTER USER new@'%' ACCOUNT LOCK", "new is locked", "ACCOUNT UNLOCK"),
    (
        "ALTER USER new@'%' WITH MAX_USER_CONNECTIONS 1",
        "new may open no further connection",
        "MAX_USER_CONNECTIONS 0",
    ),
    ("ALTER USER new@'%' PASSWORD EXPIRE", "the password of new has expired", "EXPIRE NEVER"),
]


@pytest.mark.parametrize(("change", "found", "remedy"), REFUSED)
def test_an_account_that_may_not_log_in(
    run_module: RunModule, server: MysqlServer, change: str, found: str, remedy: str
) -> None:
    server.sql("CREATE USER new@'%' IDENTIFIED BY 'new-secret'", change)
    who = {"user": "new", "password": "new-secret"}
    with contextlib.ExitStack() as stack:
        stack.callback(server.sql, "DROP USER new@'%'")
        if "CONNECTIONS" in change:
            stack.enter_context(pymysql.connect(host="127.0.0.1", port=server.port, **who))
        (failure,) = failures(probe(run_module, server, **who))
    assert found in failure["found"]
    assert remedy in failure["remedy"]


# -- settings ----------------------------------------------------------------------------------


def test_small_settings_are_warned_of(run_module: RunModule, server: MysqlServer) -> None:
    found = by_id(probe(run_module, server))
    assert found["buffer_pool"]["severity"] == "warn"
    assert found["buffer_pool"]["found"] == "innodb_buffer_pool_size = 32 MiB"
    assert "innodb_buffer_pool_size = 1073741824" in found["buffer_pool"]["remedy"]
    assert found["lock_wait"]["found"] == "innodb_lock_wait_timeout = 50"
    assert found["packet"]["severity"] == "pass"
    assert found["redo_log"]["severity"] == "pass"
    assert found["clock"]["severity"] == "pass"
    with (
        server.setting("innodb_lock_wait_timeout", "900"),
        server.setting("max_allowed_packet", "1048576"),
    ):
        found = by_id(probe(run_module, server))
    assert found["lock_wait"]["severity"] == "pass"
    assert found["packet"]["severity"] == "warn"


def test_a_server_that_takes_no_writes(run_module: RunModule, server: MysqlServer) -> None:
    with server.setting("read_only", "ON"):
        (failure,) = failures(probe(run_module, server))
    assert failure["id"] == "accounting_db.writable"
    assert "set accounting_db_host to the primary" in failure["remedy"]


def test_too_few_connections(run_module: RunModule, server: MysqlServer) -> None:
    with server.setting("max_connections", "12"):
        assert by_id(probe(run_module, server))["connections"]["severity"] in ("warn", "fail")


def test_an_account_without_a_name_is_warned_of(run_module: RunModule, server: MysqlServer) -> None:
    server.sql("CREATE USER ''@'10.%'")
    try:
        found = by_id(probe(run_module, server))["nameless"]
        assert found["severity"] == "warn"
        assert "DROP USER ''@'10.%'" in found["remedy"]
    finally:
        server.sql("DROP USER ''@'10.%'")


# -- the way to the server ---------------------------------------------------------------------


def test_certificates(run_module: RunModule, server: MysqlServer) -> None:
    stranger = str(server.place / "stranger.crt")
    assert "accounting_db_ca_file" in said_by_all(run_module, server, ca_file=stranger)
    missing = str(server.place / "nothing.crt")
    assert "no certificate authority in" in said_by_all(run_module, server, ca_file=missing)


def test_a_server_without_tls(run_module: RunModule, server: MysqlServer) -> None:
    server.halt()
    command = ["--skip-ssl"]
    server.start(*command)
    try:
        (failure,) = failures(probe(run_module, server))
    finally:
        server.halt()
        server.start()
    assert failure["found"].startswith("a server at 127.0.0.1")
    assert "ask the server's owner to set ssl_cert" in failure["remedy"]


def test_nobody_there(run_module: RunModule, server: MysqlServer, closed_port: int) -> None:
    assert "is closed" in said_by_all(run_module, server, port=closed_port)
    check = {"check_mode": True, "to_be_installed": True, "port": closed_port}
    assert apply(run_module, server, **check)["steps"] == ALL_STEPS
    wrong = {**check, "port": server.port, "password": "wrong"}
    assert apply(run_module, server, **wrong)["failed"]


@pytest.mark.parametrize("host", ["", "a,b", "/run/socket", "user@host"])
def test_no_name_of_a_server(run_module: RunModule, server: MysqlServer, host: str) -> None:
    (failure,) = failures(probe(run_module, server, host=host))
    assert failure["id"] == "accounting_db.settings"
    assert apply(run_module, server, host=host)["failed"]


def answering(words: bytes) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _address = listener.accept()
                except OSError:
                    return
                connection.sendall(words)
                connection.settimeout(5)
                with contextlib.suppress(OSError):
                    connection.recv(64)
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


STRANGE = [
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak the protocol of MariaDB"),
    (
        b"\x46\x00\x00\x00\xff\x6a\x04" + b"x" * 67,
        "no account for connections from this controller",
    ),
    (b"\x46\x00\x00\x00\xff\x69\x04" + b"x" * 67, "blocked this controller"),
]


@pytest.mark.parametrize(("words", "found"), STRANGE)
def test_something_else_answers(
    run_module: RunModule, server: MysqlServer, words: bytes, found: str
) -> None:
    for port in answering(words):
        (failure,) = failures(probe(run_module, server, port=port))
        assert found in failure["found"]


WRONG = [
    ({"name": "Slurm"}, "not a name of at most 63"),
    ({"name": "mysql"}, "one of the server's own"),
    ({"owner": "sl'urm"}, "not a name of at most 63"),
    ({"account_host": "%' OR ''='"}, "is not a host, an address or a pattern"),
    ({"password": ""}, "the password of slurm is empty"),
    ({"connection_limit": 0}, "is not a positive number"),
]


@pytest.mark.parametrize(("change", "said"), WRONG)
def test_wishes_that_are_wrong(
    run_module: RunModule, server: MysqlServer, change: dict[str, Any], said: str
) -> None:
    result = apply(run_module, server, databases=[{**DATABASES[0], **change}])
    assert said in result["msg"]
    assert server.sql("SHOW DATABASES LIKE 'slurm%'") == []


def test_the_rights_of_an_owner_are_all_that_is_given(
    run_module: RunModule, server: MysqlServer
) -> None:
    apply(run_module, server)
    rows = server.sql(
        "SELECT PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.SCHEMA_PRIVILEGES "
        "WHERE GRANTEE = '''slurm''@''%'''"
    )
    assert {row[0] for row in rows} == set(RIGHTS)
    assert {row[1] for row in rows} == {"NO"}
    assert Path(server.ca_file).exists()
