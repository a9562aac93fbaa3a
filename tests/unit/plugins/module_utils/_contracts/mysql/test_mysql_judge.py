# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a MariaDB or MySQL server, and what is planned there, from what was seen."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import Contract
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.endpoint import Endpoint, dial
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.marks import Site
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql.client import refusal_of
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql.databases import (
    NOT_THERE_YET,
    Databases,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql.greeting import (
    ask_for_tls,
    ssl_request,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql.judge import judge
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql.login import (
    Login,
    Refusal,
    Refused,
    Whose,
    judge_login,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql.owned import (
    accounts_of,
    holds_as_stored,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql.password import (
    fingerprint,
    native,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql.plan import (
    plan_absent,
    plan_present,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql.server import (
    RIGHTS,
    Account,
    AccountSeen,
    Consumer,
    DatabaseError,
    DatabaseSeen,
    Grant,
    Server,
    Thing,
    site_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.mysql.strangers import (
    strangers_in,
)

CONTRACT = Contract("accounting_db", "sql.example:3306", ("host", "port"))
SITE = Site("test", "7d0c1f5e88a94b21")
SLURM = Consumer("slurm", "secret", "slurm_acct_db", 20, tables=("*_table",))
ALL = frozenset({"CREATE USER", "SELECT", *RIGHTS})
ROOT = Account("root@%", (Grant("*", ALL, True),), True)
SETTINGS = {
    "innodb_buffer_pool_size": str(1 << 30),
    "innodb_lock_wait_timeout": "900",
    "innodb_log_file_size": str(96 << 20),
    "max_allowed_packet": str(16 << 20),
    "max_connections": "151",
    "Threads_connected": "5",
    "lower_case_table_names": "0",
    "read_only": "OFF",
}
GOOD = Server("11.8.9-MariaDB-0+deb13u1", True, ROOT, SETTINGS)
MADE = DatabaseSeen(
    "slurm_acct_db",
    mark=SITE.mark("slurm_acct_db"),
    accounts={"slurm@%": fingerprint(native("secret"))},
)
OURS = AccountSeen(
    "slurm",
    "%",
    "mysql_native_password",
    native("secret"),
    encrypted=True,
    connection_limit=20,
    grants=(Grant("slurm\\_acct\\_db", frozenset(RIGHTS)),),
)


def judged(server: Server) -> dict[str, tuple[str, str]]:
    return {
        finding.id.partition(".")[2]: (finding.severity, f"{finding.found}; {finding.remedy}")
        for finding in judge(CONTRACT, server, (SLURM,), [])
    }


def with_settings(**changes: str) -> Server:
    return replace(GOOD, settings={**SETTINGS, **changes})


def holds(consumer: Consumer, account: AccountSeen) -> bool:
    return bool(holds_as_stored(consumer, account))


def test_a_good_server_has_nothing_to_mend() -> None:
    assert {severity for severity, _text in judged(GOOD).values()} == {"pass"}


VERSIONS = [
    ("10.4.34-MariaDB", True, "fail"),
    ("10.5.1-MariaDB", True, "pass"),
    ("12.0.2-MariaDB", True, "pass"),
    ("5.7.44", False, "fail"),
    ("8.0.36-28", False, "pass"),
    ("9.1.0", False, "pass"),
    ("8.0.11-TiDB-v7.5.0", False, "fail"),
    ("nonsense", False, "fail"),
]


@pytest.mark.parametrize(("version", "mariadb", "severity"), VERSIONS)
def test_versions(version: str, mariadb: bool, severity: str) -> None:
    found = judged(replace(GOOD, version=version, mariadb=mariadb))
    assert found["version"][0] == severity
    assert (len(found) == 1) == (severity == "fail")


BAD = [
    ({"read_only": "ON"}, "writable", "fail", "set accounting_db_host to the primary"),
    ({"super_read_only": "ON"}, "writable", "fail", "super_read_only = ON"),
    ({"innodb_buffer_pool_size": "134217728"}, "buffer_pool", "warn", "= 128 MiB"),
    ({"innodb_redo_log_capacity": "8388608"}, "redo_log", "warn", "innodb_redo_log_capacity"),
    ({"innodb_lock_wait_timeout": "50"}, "lock_wait", "warn", "innodb_lock_wait_timeout = 900"),
    ({"max_allowed_packet": "1048576"}, "packet", "warn", "max_allowed_packet = 16777216"),
    ({"innodb_snapshot_isolation": "ON"}, "snapshot_isolation", "warn", "= OFF, and to keep it"),
    ({"lower_case_table_names": "2"}, "table_names", "warn", "a server on Linux"),
    ({"Threads_connected": "140"}, "connections", "warn", "raise max_connections"),
    ({"Threads_connected": "149"}, "connections", "fail", "2 free connections"),
    ({"wsrep_on": "ON", "wsrep_ready": "OFF"}, "galera", "fail", "not ready"),
    (
        {"wsrep_on": "ON", "wsrep_ready": "ON", "wsrep_cluster_status": "non-Primary"},
        "galera",
        "fail",
        "set accounting_db_host to another node",
    ),
]


@pytest.mark.parametrize(("settings", "check", "severity", "words"), BAD)
def test_what_is_wrong_with_settings(
    settings: dict[str, str], check: str, severity: str, words: str
) -> None:
    found = judged(with_settings(**settings))[check]
    assert found[0] == severity
    assert words in found[1]


def test_a_galera_node_in_its_primary_part_is_good() -> None:
    well = {"wsrep_on": "ON", "wsrep_ready": "ON", "wsrep_cluster_status": "Primary"}
    assert judged(with_settings(**well))["galera"][0] == "pass"


@pytest.mark.parametrize(
    ("room", "severity", "words"),
    [(None, "pass", "does not tell"), (5000, "pass", "5000 MiB"), (100, "warn", "make room")],
)
def test_room(room: int | None, severity: str, words: str) -> None:
    found = judged(replace(GOOD, room_mib=room))["room"]
    assert (found[0], words in found[1]) == (severity, True)


def test_a_proxy_and_a_password_check_are_told() -> None:
    found = judged(replace(GOOD, proxied=True, checks_passwords=True))
    assert "MaxScale or ProxySQL" in found["proxy"][1]
    assert "strict_password_validation" in found["password_check"][1]


COVERS = [
    ("*", "slurm_acct_db", True),
    ("slurm\\_acct\\_db", "slurm_acct_db", True),
    ("slurm_acct_db", "slurmXacct_db", True),
    ("slurm\\_acct\\_db", "slurmXacct_db", False),
    ("slurm%", "slurm_acct_db", True),
    ("%", "anything", True),
    ("other", "slurm_acct_db", False),
    ("slurm.acct", "slurmxacct", False),
]


@pytest.mark.parametrize(("scope", "database", "covers"), COVERS)
def test_patterns_of_databases(scope: str, database: str, covers: bool) -> None:
    assert Grant(scope, frozenset()).covers(database) is covers


def test_rights_that_cannot_be_lent_are_not_enough() -> None:
    here = Grant("slurm\\_acct\\_db", frozenset(RIGHTS), False)
    there = Grant("*", frozenset({"CREATE USER"}), True)
    account = Account("dba@%", (here, there), sees_accounts=True)
    found = judged(replace(GOOD, account=account))["rights"]
    assert found[0] == "fail"
    assert "GRANT ALL PRIVILEGES ON `slurm\\_acct\\_db`.* TO 'dba'@'%' WITH GRANT" in found[1]
    assert "CREATE USER" not in found[1].partition("ask for")[2]


def test_a_plan_needs_the_rights_for_it() -> None:
    poor = replace(GOOD, account=Account("dba@%", (), True))
    with pytest.raises(DatabaseError, match=r"GRANT CREATE USER ON \*\.\* TO 'dba'@'%'"):
        plan_present(CONTRACT, poor, (SLURM,), SITE, holds)


# -- plans -------------------------------------------------------------------------------------


def test_on_mariadb_a_database_has_its_mark_from_the_first_moment() -> None:
    first, second = plan_present(CONTRACT, GOOD, (SLURM,), SITE, holds)
    assert first.statements[0].values == (SITE.mark("slurm_acct_db"),)
    assert "COMMENT %s" in first.statements[0].sql
    assert "REQUIRE SSL" in second.statements[0].sql
    assert second.statements[0].values == (native("secret"),)
    assert "secret" not in repr((first, second))


def test_mysql_has_no_comments_on_databases_and_hashes_passwords_itself() -> None:
    mysql = replace(GOOD, version="8.4.3", mariadb=False)
    first, second = plan_present(CONTRACT, mysql, (SLURM,), SITE, holds)
    assert "COMMENT" not in first.statements[0].sql
    assert "IDENTIFIED BY %s" in second.statements[0].sql
    assert second.statements[0].values == ("secret",)


def test_a_server_that_checks_passwords_is_told_them() -> None:
    _first, second = plan_present(
        CONTRACT, replace(GOOD, checks_passwords=True), (SLURM,), SITE, holds
    )
    assert second.statements[0].values == ("secret",)


def test_what_is_there_already_needs_no_step() -> None:
    there = replace(GOOD, databases=(MADE,), accounts=(OURS,))
    assert plan_present(CONTRACT, there, (SLURM,), SITE, holds) == ()


def test_a_mark_knows_the_account_when_the_password_of_the_site_was_lost() -> None:
    there = replace(GOOD, databases=(MADE,), accounts=(OURS,))
    new = replace(SLURM, password="new")
    assert accounts_of(there, (new,), SITE, holds) == {"slurm@%"}
    (step,) = plan_present(CONTRACT, there, (new,), SITE, holds)
    assert step.text == "set password of slurm@%"


def test_an_account_whose_password_somebody_else_set_is_not_ours() -> None:
    theirs = replace(OURS, stored=native("theirs"))
    there = replace(GOOD, databases=(MADE,), accounts=(theirs,))
    assert accounts_of(there, (SLURM,), SITE, holds) == frozenset()
    with pytest.raises(DatabaseError, match="account slurm@% exists and was not made by this"):
        plan_present(CONTRACT, there, (SLURM,), SITE, holds)
    assert [step.text for step in plan_absent(there, (SLURM,), SITE, holds)] == [
        "drop database slurm_acct_db"
    ]


def test_the_account_goes_before_the_database_that_knows_it() -> None:
    there = replace(GOOD, databases=(MADE,), accounts=(OURS,))
    assert [step.text for step in plan_absent(there, (SLURM,), SITE, holds)] == [
        "drop account slurm@%",
        "drop database slurm_acct_db",
    ]


STRANGERS = [
    (Thing("table", "budgets"), "table budgets"),
    (Thing("table", "job_table"), ""),
    (Thing("table", "mlops_onprem"), ""),
    (Thing("view", "v", "clerk@%"), "view v"),
    (Thing("procedure", "get_parent_limits", "slurm@%"), ""),
]


@pytest.mark.parametrize(("thing", "words"), STRANGERS)
def test_whose_a_thing_in_our_database_is(thing: Thing, words: str) -> None:
    found = strangers_in(replace(MADE, things=(thing,)), SLURM, frozenset({"slurm@%"}))
    assert found == ([words] if words else [])


def test_without_patterns_every_table_is_the_accounts() -> None:
    seen = replace(MADE, things=(Thing("table", "budgets"),))
    assert strangers_in(seen, replace(SLURM, tables=()), frozenset()) == []


def test_a_site_without_an_identity_is_a_sentence() -> None:
    with pytest.raises(DatabaseError, match="accounting_db_site_id: '' is not an identity"):
        site_of("test", "")


# -- logins ------------------------------------------------------------------------------------

WHOSE = Whose("accounting_db_admin_password", "accounting_db_admin_user")
CODES = [
    (1045, "set accounting_db_admin_password"),
    (1049, "run the playbook"),
    (1040, "raise max_connections"),
    (1226, "MAX_USER_CONNECTIONS 0"),
    (1129, "FLUSH HOSTS"),
    (1130, "may log in from here"),
    (1820, "PASSWORD EXPIRE NEVER"),
    (4151, "ACCOUNT UNLOCK"),
    (3118, "ACCOUNT UNLOCK"),
    (1053, "wait and try again"),
    (2013, "init_connect"),
    (4242, "(error 4242)"),
]


@pytest.mark.parametrize(("code", "words"), CODES)
def test_every_refusal_has_its_sentence(code: int, words: str) -> None:
    error = Refused(Refusal(code, "Zugriff verweigert, geheim"))
    finding = judge_login(CONTRACT, Login("dba", "geheim"), error, WHOSE)
    assert words in finding.sentence
    assert "geheim" not in finding.sentence


def test_another_kind_of_login_is_named() -> None:
    said = "Authentication plugin 'gssapi' cannot be loaded"
    refusal = refusal_of(Exception(2059, said))
    assert (refusal.method, refusal.answered) == ("gssapi", True)
    finding = judge_login(CONTRACT, Login("dba", "x"), Refused(refusal), WHOSE)
    assert "log in by gssapi" in finding.found


@pytest.mark.parametrize(
    ("code", "answered"), [(1045, True), (2003, False), (3159, True), (0, False)]
)
def test_only_the_server_answers(code: int, answered: bool) -> None:
    assert Refusal(code).answered is answered


# -- the session -------------------------------------------------------------------------------


def databases_of(refusal: Refusal, **more: Any) -> Databases:
    def connect(_login: Login) -> Any:
        raise Refused(refusal)

    login = Login("dba", "word")
    return Databases(CONTRACT, login, SITE, (SLURM,), connect, lambda: 0.0, **more)


def test_a_server_that_is_still_to_be_installed_is_empty() -> None:
    steps = databases_of(Refusal(2003), to_be_installed=True).converge(check=True)
    assert steps[0].text == "create database slurm_acct_db"
    assert NOT_THERE_YET.databases == ()
    for refusal, check in ((Refusal(1045), True), (Refusal(2003), False)):
        with pytest.raises(DatabaseError):
            databases_of(refusal, to_be_installed=True).converge(check)


def test_a_password_that_cannot_be_tried_is_told() -> None:
    asking = databases_of(Refusal(1040, "too many"))
    account = replace(OURS, plugin="caching_sha2_password", stored="$A$005$x")
    assert asking.holds(SLURM, account) is False
    assert "cannot tell whether the password of slurm@% holds: too many" in asking.warnings[0]
    refused = databases_of(Refusal(1045))
    assert refused.holds(SLURM, account) is False
    assert refused.warnings == []


# -- the greeting ------------------------------------------------------------------------------

SERVER = Endpoint("sql.example", 3306, "")


def packet(body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + b"\0" + body


def greeting(flags: int) -> bytes:
    head = b"\x0a5.5.5-11.8.9-MariaDB\0" + b"\1\0\0\0" + b"x" * 8 + b"\0"
    return packet(head + flags.to_bytes(2, "little") + b"\x08\2\0" + b"\0" * 20)


ANSWERS = [
    (b"HTTP/1.1 400\r\n\r\n", "accounting_db.reachable"),
    (b"", "accounting_db.reachable"),
    (b"\0\0\0\0", "accounting_db.reachable"),
    (packet(b"\x0a8.0\0"), "accounting_db.reachable"),
    (packet(b"\xff\x10\x04Too many connections"), "accounting_db.reachable"),
    (packet(b"\xff"), "accounting_db.reachable"),
    (greeting(0xF7FF), "accounting_db.tls"),
]


@pytest.mark.parametrize(("answer", "check"), ANSWERS)
def test_what_answers_instead_of_tls(answer: bytes, check: str) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        dialled = dial(CONTRACT, SERVER, lambda _endpoint: ours, ask_for_tls)
    assert dialled.finding is not None
    assert dialled.finding.id == check


def test_a_server_that_offers_tls_is_asked_for_it() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(greeting(0xFFFF))
        assert ask_for_tls(CONTRACT, SERVER, ours) is None
        assert theirs.recv(64) == ssl_request()
        assert len(ssl_request()) == 36
