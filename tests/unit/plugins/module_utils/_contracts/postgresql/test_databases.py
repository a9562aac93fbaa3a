# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One login, one lock, steps up to the first refusal; check mode changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import Contract
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql import databases
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.databases import (
    LOCK,
    Databases,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.judge import (
    Account,
    Connections,
    Consumer,
    DatabaseError,
    Login,
    RoleSeen,
    Server,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.marks import (
    Site,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.read import Refused

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

    refuse_login: dict[str, str] = field(default_factory=dict)
    refuse_statement: str = ""
    statements: list[str] = field(default_factory=list)
    atomic: list[bool] = field(default_factory=list)
    opened: int = 0
    closed: int = 0

    def connect(self, login: Login) -> Fake:
        if login.user in self.refuse_login:
            raise Refused(self.refuse_login[login.user])
        self.opened += 1
        return self

    def query(self, _sql: str, _values: Sequence[Any]) -> list[tuple[Any, ...]]:
        raise AssertionError("the server is read by a double")

    def execute(self, statements: Sequence[str], atomic: bool = False) -> None:
        for statement in statements:
            if self.refuse_statement and statement.startswith(self.refuse_statement):
                raise Refused(f"ERROR: no\nLINE 1: {statement}", "no")
            self.statements.append(statement)
            self.atomic.append(atomic)

    def close(self) -> None:
        self.closed += 1


def site(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, server: Server = EMPTY, present: bool = True
) -> Databases:
    monkeypatch.setattr(databases, "read_server", lambda *_arguments: server)
    return Databases(
        CONTRACT, DBA, LAB, (MLFLOW,), fake.connect, lambda _p: "SCRAM", lambda: 0.0, present
    )


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


@pytest.mark.parametrize("check", [False, True])
def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, check: bool) -> None:
    wanted = site(Fake({"dba": "connection refused"}), monkeypatch)
    if check:
        assert next(step.text for step in wanted.converge(check)) == STEPS[0]
        return
    with pytest.raises(DatabaseError, match=r"^db:5432: the server turns dba away: connection ref"):
        wanted.converge(check)


def test_a_wrong_password_is_an_error_in_check_mode_too(monkeypatch: pytest.MonkeyPatch) -> None:
    said = 'FATAL:  password authentication failed for user "dba"'
    with pytest.raises(DatabaseError, match="set metadata_db_admin_password"):
        site(Fake({"dba": said}), monkeypatch).converge(check=True)


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
    fake = Fake(refuse_statement="SELECT pg_advisory_lock")
    with pytest.raises(DatabaseError, match=r"^db:5432: no$"):
        site(fake, monkeypatch).converge(check=False)
    assert fake.closed == 1


@pytest.mark.parametrize(
    ("said", "holds", "warnings"),
    [
        ("", True, 0),
        ("FATAL:  password authentication failed for user mlflow", False, 0),
        ("FATAL:  too many connections for role mlflow secret", True, 1),
        ("FATAL:  no pg_hba.conf entry for host", True, 1),
        ("FATAL:  the database system is starting up", True, 0),
    ],
)
def test_whether_a_password_holds_is_found_out_by_logging_in(
    monkeypatch: pytest.MonkeyPatch, said: str, holds: bool, warnings: int
) -> None:
    wanted = site(Fake({"mlflow": said} if said else {}), monkeypatch)
    assert wanted.password_holds(MLFLOW) is holds
    assert len(wanted.warnings) == warnings
    assert "secret" not in " ".join(wanted.warnings)


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
