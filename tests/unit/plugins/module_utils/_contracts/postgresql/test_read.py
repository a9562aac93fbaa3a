# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a login answers becomes facts and findings; a refusal becomes one finding."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import Contract
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.marks import (
    Site,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql import read
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.judge import (
    Consumer,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.login import (
    Login,
    Refused,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.read import (
    ROUND_TRIP,
    Reader,
    look_as_account,
    look_as_consumers,
    read_server,
)

CONTRACT = Contract("metadata_db", "db:5432", ("host", "port"))
DBA = Login("dba", "dba-secret", "postgres")
MLFLOW = Consumer("mlflow", "secret", ("mlflow", "mlflow_auth"), 20)
LAB = Site("lab", "5f1e0a7c93d24b66")
WANTED = {"max_clock_skew": 60, "min_version": 14}


class Fake:
    """Rows for each question, or a refusal at the login or at a question."""

    def __init__(
        self,
        version: int = 170006,
        may_create: bool = True,
        refuse_login: str = "",
        refuse_question: str = "",
    ) -> None:
        self.version = version
        self.may_create = may_create
        self.refuse_login = refuse_login
        self.refuse_question = refuse_question
        self.logins: list[str] = []

    @contextlib.contextmanager
    def connect(self, login: Login) -> Iterator[Reader]:
        self.logins.append(f"{login.user}@{login.database}")
        if self.refuse_login:
            raise Refused(self.refuse_login)
        yield Reader(self.query)

    def query(self, sql: str, _values: Sequence[Any]) -> list[tuple[Any, ...]]:
        if self.refuse_question:
            raise Refused(self.refuse_question)
        basics = (self.version, "17.6 (Debian 17.6-1)", False, False, 100, 3, "dba", False, True)
        rows: dict[str, list[tuple[Any, ...]]] = {
            ROUND_TRIP: [("mlflow", self.may_create, True)],
            read._BASICS: [(*basics, True, False, "UTF8", "C.UTF-8", 1000.0, "dba")],
            read._ROLES: [("mlflow", "", 20, True, False, False, True, False)],
            read._DATABASES: [("company", "boss", "", True, True)],
            read._USES: [("mlflow", "company")],
            read._IN_USE: [(12,)],
        }
        return rows[sql]


def test_a_server_is_read_in_five_questions() -> None:
    server = read_server(Fake().query, (MLFLOW,), lambda: 990.0)
    assert (server.major, server.version, server.locale) == (17, "17.6", "C.UTF-8")
    assert server.connections.free == 85
    assert server.clock_skew == 10.0
    assert [seen.name for seen in server.databases] == ["company"]


@pytest.mark.parametrize(("version", "administered"), [(150004, True), (170006, False)])
def test_createrole_administers_every_role_of_older_servers_only(
    version: int, administered: bool
) -> None:
    server = read_server(Fake(version).query, (MLFLOW,), lambda: 1000.0)
    assert [role.administered for role in server.roles] == [administered]
    assert server.account.may_grant_monitoring is administered


def test_an_account_that_will_do() -> None:
    fake = Fake()
    server, findings = look_as_account(CONTRACT, DBA, (), LAB, WANTED, fake.connect, lambda: 1000.0)
    assert server is not None
    assert [finding.id for finding in findings][:2] == ["metadata_db.login", "metadata_db.version"]
    assert {finding.severity for finding in findings} == {"pass"}
    assert fake.logins == ["dba@postgres"]


@pytest.mark.parametrize(
    "fake",
    [Fake(refuse_login="FATAL:  no"), Fake(refuse_question="FATAL:  no")],
    ids=["login", "question"],
)
def test_an_account_that_is_turned_away_is_one_finding(fake: Fake) -> None:
    server, findings = look_as_account(CONTRACT, DBA, (), LAB, WANTED, fake.connect, lambda: 0.0)
    assert server is None
    assert [(finding.id, finding.severity) for finding in findings] == [
        ("metadata_db.login", "fail")
    ]


def test_each_owner_logs_in_to_each_of_its_databases() -> None:
    fake = Fake()
    findings = look_as_consumers(CONTRACT, [MLFLOW], fake.connect)
    assert fake.logins == ["mlflow@mlflow", "mlflow@mlflow_auth"]
    assert [finding.severity for finding in findings] == ["pass", "pass"]


def test_an_owner_that_may_not_create_tables_is_told() -> None:
    findings = look_as_consumers(CONTRACT, [MLFLOW], Fake(may_create=False).connect)
    assert findings[0].found == "mlflow may not create tables in mlflow"
    assert findings[0].remedy == "make mlflow the owner of mlflow again"


def test_an_owner_that_is_turned_away_does_not_hide_the_next() -> None:
    fake = Fake(refuse_login="FATAL:  password authentication failed, secret")
    findings = look_as_consumers(CONTRACT, [MLFLOW], fake.connect)
    assert [finding.severity for finding in findings] == ["fail", "fail"]
    assert "secret" not in " ".join(finding.found for finding in findings)
