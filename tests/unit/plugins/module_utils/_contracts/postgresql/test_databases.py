# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One login, one lock, steps up to the first refusal; check mode changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import Contract
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.marks import (
    Site,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql import databases
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.databases import (
    LOCK,
    LOCK_OF_TRANSACTION,
    UNLOCK,
    Databases,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.judge import (
    Account,
    Connections,
    Consumer,
    DatabaseError,
    DatabaseSeen,
    RoleSeen,
    Server,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.login import (
    Login,
    Refusal,
    Refused,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import Finding

LAB = Site("lab", "5f1e0a7c93d24b66")
CONTRACT = Contract("metadata_db", "db:5432", ("host", "port"))
DBA = Login("dba", "dba-secret", "postgres")
MLFLOW = Consumer("mlflow", "secret", ("mlflow",), 20)
EMPTY = Server(
    170006, "17.6", Account("dba", createdb=True, createrole=True), Connections(100, 3, 12)
)
STEPS = [
    "create role mlflow (at most 20 connections)",
    "act as mlflow",
    "create database mlflow owned by mlflow",
    "mark database mlflow as made by this site and open it to its owner only",
    "end acting as mlflow",
]


@dataclass
class Fake:
    """A server that remembers statements and refuses what it is told to refuse."""

    refuse_login: dict[str, Refused] = field(default_factory=dict)
    refuse_statement: str = ""
    statements: list[str] = field(default_factory=list)
    atomic: list[bool] = field(default_factory=list)
    opened: int = 0
    closed: int = 0
    pooled: bool = False
    locked: int = 0
    """How often the lock is found taken."""
    rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)

    def connect(self, login: Login) -> Fake:
        if login.user in self.refuse_login:
            raise self.refuse_login[login.user]
        self.opened += 1
        return self

    def query(self, sql: str, _values: Sequence[Any]) -> list[tuple[Any, ...]]:
        if sql in self.rows:
            return self.rows[sql]
        self.execute((sql,))
        self.locked -= 1
        return [(self.locked < 0,)]

    def execute(self, statements: Sequence[str], atomic: bool = False) -> None:
        for statement in statements:
            if self.refuse_statement and statement.startswith(self.refuse_statement):
                raise Refused(f"ERROR: no\nLINE 1: {statement}", "no")
            self.statements.append(statement)
            self.atomic.append(atomic)

    def close(self) -> None:
        self.closed += 1


def no_way() -> Finding:
    return CONTRACT.failed("reachable", "a closed port", "an open port", "open it")


def site(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, server: Server = EMPTY, **more: Any
) -> Databases:
    monkeypatch.setattr(databases, "read_server", lambda *_arguments: server)
    more = {"reach": no_way, "pause": lambda _seconds: None, **more}
    return Databases(CONTRACT, DBA, LAB, (MLFLOW,), fake.connect, verifier, lambda: 0.0, **more)


def verifier(_password: str) -> str:
    return "SCRAM"


WRONG = Refused("nein", "Passwort-Authentifizierung fehlgeschlagen", Refusal("28P01"))


def test_all_is_made_behind_one_lock_and_the_login_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    steps = site(fake, monkeypatch).converge(check=False)
    assert [step.text for step in steps] == STEPS
    assert fake.statements[:2] == [LOCK, "SET LOCAL createrole_self_grant = ''"]
    made = dict(zip(fake.statements, fake.atomic))
    assert [atomic for text, atomic in made.items() if text.startswith("CREATE DATABASE")] == [
        False
    ]
    assert [atomic for text, atomic in made.items() if text.startswith("CREATE ROLE")] == [True]
    assert (fake.opened, fake.closed) == (1, 1)


def test_check_mode_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    assert [step.text for step in site(fake, monkeypatch).converge(check=True)] == STEPS
    assert fake.statements == []


@pytest.mark.parametrize(
    ("check", "to_be_installed", "planned"),
    [(False, False, False), (True, False, False), (False, True, False), (True, True, True)],
)
def test_a_server_that_does_not_answer_is_a_refusal_unless_it_is_to_be_installed(
    monkeypatch: pytest.MonkeyPatch, check: bool, to_be_installed: bool, planned: bool
) -> None:
    fake = Fake({"dba": Refused("Verbindung abgelehnt")})
    wanted = site(fake, monkeypatch, to_be_installed=to_be_installed)
    if planned:
        assert next(step.text for step in wanted.converge(check)) == STEPS[0]
        return
    with pytest.raises(DatabaseError) as refusal:
        wanted.converge(check)
    assert str(refusal.value) == "db:5432: a closed port, wanted an open port; open it"


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("to_be_installed", [False, True])
def test_a_wrong_password_is_an_error_in_check_mode_too(
    monkeypatch: pytest.MonkeyPatch, check: bool, to_be_installed: bool
) -> None:
    fake = Fake({"dba": WRONG})
    with pytest.raises(DatabaseError, match="the server refuses the password of dba"):
        site(fake, monkeypatch, to_be_installed=to_be_installed).converge(check)


def test_the_lock_is_waited_for_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(locked=3)
    site(fake, monkeypatch).converge(check=False)
    assert fake.statements.count(LOCK) == 4
    assert fake.statements[-1] == UNLOCK


def test_who_holds_the_lock_is_named_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(locked=99, rows={databases.HOLDER: [(471, "dba", "pgbouncer", "idle")]})
    with pytest.raises(DatabaseError) as refusal:
        site(fake, monkeypatch).converge(check=False)
    assert str(refusal.value) == (
        "db:5432: process 471 of dba (pgbouncer), idle holds the lock with which runs of "
        "mlops.onprem wait for each other. Wait for that run to end; if there is none, ask for: "
        "SELECT pg_terminate_backend(471)."
    )
    assert set(fake.statements) == {LOCK}


def test_behind_a_pooler_the_lock_ends_with_a_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = Fake(pooled=True)
    site(fake, monkeypatch).converge(check=False)
    assert fake.statements[:3] == [
        "BEGIN",
        "SET LOCAL idle_in_transaction_session_timeout = 0",
        LOCK_OF_TRANSACTION,
    ]
    assert fake.statements[-1] == "ROLLBACK"
    assert LOCK not in fake.statements
    assert (fake.opened, fake.closed) == (2, 2)


def test_what_was_lent_is_given_back_when_a_step_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(refuse_statement="CREATE DATABASE")
    with pytest.raises(DatabaseError):
        site(fake, monkeypatch).converge(check=False)
    assert fake.statements[-2:] == ['REVOKE "mlflow" FROM CURRENT_USER', UNLOCK]


def test_who_keeps_a_database_from_being_dropped_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    server = replace(
        EMPTY,
        roles=(RoleSeen("mlflow", LAB.mark("mlflow"), 20),),
        databases=(DatabaseSeen("mlflow", "mlflow", LAB.mark("mlflow")),),
    )
    fake = Fake(
        refuse_statement="DROP DATABASE",
        rows={databases.CONNECTED: [(12, "postgres", "exporter"), (13, "erp", "")]},
    )
    with pytest.raises(DatabaseError) as refusal:
        site(fake, monkeypatch, server, present=False).converge(check=False)
    assert str(refusal.value) == (
        "db:5432: cannot drop database mlflow: no. Connected to it: process 12 of postgres "
        "(exporter) and process 13 of erp. End what opens these connections, and run again"
    )
    assert 'REVOKE "mlflow" FROM CURRENT_USER' in fake.statements


def test_the_first_refusal_ends_it_and_hides_the_statement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = Fake(refuse_statement="CREATE DATABASE")
    with pytest.raises(DatabaseError) as refusal:
        site(fake, monkeypatch).converge(check=False)
    assert str(refusal.value) == ("db:5432: cannot create database mlflow owned by mlflow: no")
    assert fake.closed == 1
    assert not any(statement.startswith("COMMENT ON DATABASE") for statement in fake.statements)


def test_a_server_that_cannot_be_locked_or_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(refuse_statement="SELECT pg_try_advisory_lock")
    with pytest.raises(DatabaseError, match=r"^db:5432: no$"):
        site(fake, monkeypatch).converge(check=False)
    assert fake.closed == 1


@pytest.mark.parametrize(
    ("sqlstate", "holds", "warnings"),
    [
        ("", True, 1),
        ("28P01", False, 0),
        ("53300", True, 1),
        ("28000", True, 1),
        ("57P03", True, 0),
        ("3D000", True, 0),
        ("42501", True, 0),
        ("55000", True, 0),
    ],
)
def test_whether_a_password_holds_is_found_out_by_logging_in(
    monkeypatch: pytest.MonkeyPatch, sqlstate: str, holds: bool, warnings: int
) -> None:
    refused = Refused("nein, secret", "nein, secret", Refusal(sqlstate))
    wanted = site(Fake({"mlflow": refused}), monkeypatch)
    assert wanted.password_holds(MLFLOW) is holds
    assert len(wanted.warnings) == warnings
    assert "secret" not in " ".join(wanted.warnings)


def test_a_pooler_that_knows_no_role_of_ours_is_no_proof_of_a_wrong_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = site(Fake({"mlflow": WRONG}), monkeypatch, pooled=True)
    assert wanted.password_holds(MLFLOW) is True
    assert len(wanted.warnings) == 1


def test_a_password_that_holds_is_nothing_to_speak_of(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = site(Fake(), monkeypatch)
    assert wanted.password_holds(MLFLOW) is True
    assert wanted.warnings == []


def test_removal_drops_what_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(
        170006,
        "17.6",
        EMPTY.account,
        EMPTY.connections,
        roles=(RoleSeen("mlflow", LAB.mark("mlflow"), 20),),
    )
    fake = Fake()
    steps = site(fake, monkeypatch, server, present=False).converge(check=False)
    assert [step.text for step in steps] == ["drop role mlflow"]
