# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is seen on a PostgreSQL server leads to findings, and to steps that touch only our own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import Contract
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.marks import (
    Site,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.judge import (
    Account,
    Connections,
    Consumer,
    DatabaseError,
    DatabaseSeen,
    RoleSeen,
    Server,
    consumers_of,
    judge,
    wrong_address,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.plan import (
    Step,
    literal,
    plan_absent,
    plan_present,
    quote,
)

BERLIN = Site("berlin", "0123456789abcdef")
NAMESAKE = Site("lab", "fedcba9876543210")
LAB = Site("lab", "5f1e0a7c93d24b66")


def mark(thing: str, site: Site = LAB) -> str:
    return site.mark(thing)


DB = Contract("metadata_db", "db:5432", ("host", "port"))
DBA = Account("dba", createdb=True, createrole=True)
EMPTY = Server(170006, "17.6", DBA, Connections(100, 3, 12))
MLFLOW = Consumer("mlflow", "secret", ("mlflow", "mlflow_auth"), 20)
MONITORING = Consumer("mlops_monitoring", "secret", ("mlops_monitoring",), 5, monitoring=True)
OURS = RoleSeen("mlflow", mark("mlflow"), 20)
DONE = replace(
    EMPTY,
    roles=(OURS,),
    databases=(
        DatabaseSeen("mlflow", "mlflow", mark("mlflow"), public_connect=False),
        DatabaseSeen("mlflow_auth", "mlflow", mark("mlflow_auth"), public_connect=False),
    ),
)


def fails(server: Server, *consumers: Consumer, oldest: int = 14) -> list[str]:
    findings = judge(DB, server, consumers or (MLFLOW,), LAB, oldest)
    return [finding.sentence for finding in findings if finding.severity == "fail"]


def steps(server: Server, *consumers: Consumer, holds: bool = True) -> tuple[Step, ...]:
    return plan_present(
        DB, server, consumers or (MLFLOW,), LAB, lambda _one: holds, lambda _text: "VERIFIER"
    )


def removal(server: Server, *consumers: Consumer, site: Site = LAB) -> tuple[Step, ...]:
    return plan_absent(DB, server, consumers, site, lambda _one: True)


def texts(planned: tuple[Step, ...]) -> list[str]:
    return [step.text for step in planned if not step.quiet]


def statements(planned: tuple[Step, ...]) -> list[str]:
    return [statement for step in planned for statement in step.statements]


# -- reading metadata_db_databases -------------------------------------------------------------


def entry(**changes: Any) -> dict[str, Any]:
    return {"name": "a", "owner": "o", "password": "p", "connection_limit": 1, **changes}


def test_entries_of_one_owner_become_one_consumer() -> None:
    found = consumers_of([entry(), entry(name="b", connection_limit=2, extra_databases=["c"])])
    assert found == (Consumer("o", "p", ("a", "b", "c"), 3),)
    assert "p'" not in repr(found)


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        (
            [entry(name="No-Name")],
            "metadata_db_databases, entry 1: 'No-Name' is not a name of at most 63 lower case "
            "letters, digits and underscores that does not begin with pg_.",
        ),
        (
            [entry(owner="pg_read_all_data")],
            "metadata_db_databases, entry 1: 'pg_read_all_data' is not a name of at most 63 lower "
            "case letters, digits and underscores that does not begin with pg_.",
        ),
        ([entry(password="")], "metadata_db_databases, entry 1: the password of o is empty."),
        (
            [entry(), entry(owner="q")],
            "metadata_db_databases, entry 2: database a is already in entry 1.",
        ),
        (
            [entry(), entry(name="b", password="q")],
            "metadata_db_databases, entry 2: o has another password in an earlier entry.",
        ),
        (
            [entry(connection_limit=0)],
            "metadata_db_databases, entry 1: connection_limit of o is not a positive number.",
        ),
    ],
)
def test_entries_that_make_no_sense(entries: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(DatabaseError) as refusal:
        consumers_of(entries)
    assert str(refusal.value) == sentence


# -- findings ----------------------------------------------------------------------------------


def test_an_empty_server_will_do() -> None:
    assert fails(EMPTY, MLFLOW, MONITORING) == []


def test_our_own_databases_will_do() -> None:
    assert fails(DONE) == []


@pytest.mark.parametrize(
    ("server", "sentence"),
    [
        (
            replace(EMPTY, version_number=120004, version="12.4"),
            "db:5432: PostgreSQL 12.4, wanted PostgreSQL 14 or newer; "
            "set metadata_db_host to a newer server, or metadata_db_mode: managed",
        ),
        (
            replace(EMPTY, standby=True),
            "db:5432: a standby that replays another server, wanted a server that takes writes; "
            "set metadata_db_host to the primary",
        ),
        (
            replace(EMPTY, read_only=True),
            "db:5432: transactions of dba are read-only by default, "
            "wanted a server that takes writes; ask the server's owner to set "
            "default_transaction_read_only = off for this role",
        ),
        (
            replace(EMPTY, account=Account("dba", createrole=True)),
            "db:5432: dba lacks CREATEDB, wanted CREATEDB and CREATEROLE; ask for: "
            "ALTER ROLE dba CREATEDB, or set metadata_db_admin_user to another account",
        ),
        (
            replace(EMPTY, databases=(DatabaseSeen("mlflow", "erp"),)),
            "db:5432: database mlflow exists and is owned by erp, "
            "wanted a name that is free, or was made by site lab; "
            "choose another name in metadata_db_databases, or set metadata_db_prefix",
        ),
        (
            replace(EMPTY, roles=(RoleSeen("mlflow", "MLflow of the data team"),)),
            "db:5432: role mlflow exists and was not made by this site, "
            "wanted a name that is free, or was made by site lab; "
            "choose another name in metadata_db_databases for the owner, or set metadata_db_prefix",
        ),
        (
            replace(EMPTY, roles=(RoleSeen("mlflow", mark("mlflow", BERLIN)),)),
            "db:5432: role mlflow exists and belongs to site berlin, "
            "wanted a name that is free, or was made by site lab; "
            "choose another name in metadata_db_databases for the owner, or set metadata_db_prefix",
        ),
        (
            replace(EMPTY, roles=(RoleSeen("mlflow", mark("mlflow", NAMESAKE)),)),
            "db:5432: role mlflow exists and belongs to another site of the name lab "
            "(fedcba9876543210), wanted a name that is free, or was made by site lab; "
            "choose another name in metadata_db_databases for the owner, or set "
            "metadata_db_prefix, or, if this very site made it and its identity was lost, "
            "set metadata_db_site_id: fedcba9876543210",
        ),
        (
            replace(EMPTY, connections=Connections(30, 3, 8)),
            "db:5432: 19 free connections (30 at most, 3 reserved, 8 in use by others), "
            "wanted 21 for the pools of mlflow and one of ours; raise max_connections on the "
            "server, or lower connection_limit in metadata_db_databases",
        ),
        (
            replace(DONE, roles=(replace(OURS, administered=False),)),
            "db:5432: dba may not alter mlflow, which another account created for this site, "
            "wanted the account that created mlflow, or admin option on it; "
            "set metadata_db_admin_user to that account, or ask for: "
            "GRANT mlflow TO dba WITH ADMIN OPTION",
        ),
    ],
)
def test_one_cause_gives_one_sentence(server: Server, sentence: str) -> None:
    assert fails(server) == [sentence]


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("", "metadata_db_host is empty"),
        ("  ", "metadata_db_host is empty"),
        ("/var/run/postgresql", "metadata_db_host is '/var/run/postgresql'"),
        ("db1,db2", "metadata_db_host is 'db1,db2'"),
        ("postgresql://db1/x", "metadata_db_host is 'postgresql://db1/x'"),
        ("dba@db1", "metadata_db_host is 'dba@db1'"),
        ("host=db1", "metadata_db_host is 'host=db1'"),
        ("db1:5432", "metadata_db_host is 'db1:5432', which has a port in it"),
        ("10.0.0.5:6432", "metadata_db_host is '10.0.0.5:6432', which has a port in it"),
    ],
)
def test_what_libpq_would_take_for_something_else_is_no_address(host: str, found: str) -> None:
    finding = wrong_address(DB, host)
    assert finding is not None
    assert (finding.id, finding.found) == ("metadata_db.settings", found)


@pytest.mark.parametrize("host", ["db1", "db1.example.com", "10.0.0.5", "fd00::5"])
def test_an_address_is_an_address(host: str) -> None:
    assert wrong_address(DB, host) is None


def test_an_account_that_acts_as_another_is_named_by_both() -> None:
    account = Account("group", createrole=True, login="dba")
    assert fails(replace(EMPTY, account=account)) == [
        "db:5432: dba acts as group (its setting role), which lacks CREATEDB, wanted CREATEDB and "
        "CREATEROLE; ask for: ALTER ROLE dba RESET role, or for: ALTER ROLE group CREATEDB, "
        "or set metadata_db_admin_user to another account"
    ]


def test_a_pooler_is_a_warning() -> None:
    findings = judge(DB, replace(EMPTY, pooled=True), (MLFLOW,), LAB)
    assert [(f.severity, f.remedy.split(";")[0]) for f in findings if f.id.endswith("pooler")] == [
        ("warn", "set metadata_db_host and metadata_db_port to the server")
    ]


def test_a_superuser_needs_no_further_rights() -> None:
    assert fails(replace(EMPTY, account=Account("postgres", superuser=True))) == []


def test_rights_to_create_databases_are_not_needed_when_all_exist() -> None:
    assert fails(replace(DONE, account=Account("dba", createrole=True))) == []


@pytest.mark.parametrize(
    ("server", "check"),
    [
        (replace(EMPTY, encoding="LATIN1", locale="de_DE"), "metadata_db.encoding"),
        (EMPTY, "metadata_db.monitoring"),
    ],
)
def test_what_can_be_lived_with_is_a_warning(server: Server, check: str) -> None:
    findings = judge(DB, server, (MONITORING,), LAB)
    assert {f.id: f.severity for f in findings}[check] == "warn"


# -- steps -------------------------------------------------------------------------------------


def test_a_role_is_created_and_marked_in_one_transaction() -> None:
    first = steps(EMPTY)[0]
    assert first.atomic
    assert first.statements == (
        "SET LOCAL createrole_self_grant = ''",
        "CREATE ROLE \"mlflow\" LOGIN CONNECTION LIMIT 20 PASSWORD 'VERIFIER'",
        'COMMENT ON ROLE "mlflow" IS \'Made by mlops.onprem for site lab (5f1e0a7c93d24b66) as '
        "mlflow; removed with it.'",
    )
    assert "VERIFIER" not in repr(first)


def test_a_dba_acts_as_the_owner_only_while_it_works_on_its_databases() -> None:
    lines = statements(steps(EMPTY))
    grant = lines.index('GRANT "mlflow" TO CURRENT_USER WITH INHERIT TRUE, SET TRUE')
    create = next(number for number, line in enumerate(lines) if line.startswith("CREATE DATABASE"))
    assert grant < create
    assert lines[-1] == 'REVOKE "mlflow" FROM CURRENT_USER'


def test_older_servers_know_no_kinds_of_membership() -> None:
    lines = statements(steps(replace(EMPTY, version_number=140012)))
    assert 'GRANT "mlflow" TO CURRENT_USER' in lines


def test_a_superuser_lends_itself_nothing() -> None:
    server = replace(EMPTY, account=Account("postgres", superuser=True))
    assert not [line for line in statements(steps(server)) if "CURRENT_USER" in line]


def test_nothing_is_done_twice() -> None:
    assert steps(DONE) == ()


@pytest.mark.parametrize(
    ("role", "holds", "expected"),
    [
        (
            replace(OURS, connection_limit=7),
            True,
            ["change connection limit of mlflow from 7 to 20"],
        ),
        (OURS, False, ["set password of mlflow"]),
        (replace(OURS, login=False), True, ["let mlflow log in", "set password of mlflow"]),
        (replace(OURS, lent=True), True, ["end acting as mlflow"]),
    ],
)
def test_what_differs_is_corrected(role: RoleSeen, holds: bool, expected: list[str]) -> None:
    assert texts(steps(replace(DONE, roles=(role,)), holds=holds)) == expected


def test_a_database_from_an_interrupted_run_is_finished() -> None:
    half = replace(
        DONE, databases=(DatabaseSeen("mlflow", "mlflow", "", True, False), DONE.databases[1])
    )
    assert texts(steps(half)) == [
        "mark database mlflow as made by this site and open it to its owner only",
    ]


def test_a_server_with_another_encoding_gets_databases_in_utf8() -> None:
    lines = statements(steps(replace(EMPTY, encoding="LATIN1")))
    assert (
        'CREATE DATABASE "mlflow" OWNER "mlflow" '
        "TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' ALLOW_CONNECTIONS false"
    ) in lines


def test_nothing_is_planned_when_a_name_is_taken() -> None:
    with pytest.raises(DatabaseError, match="database mlflow exists and is owned by erp"):
        steps(replace(EMPTY, databases=(DatabaseSeen("mlflow", "erp"),)))


def test_removal_takes_what_is_marked_and_nothing_else() -> None:
    server = replace(
        DONE,
        roles=(*DONE.roles, RoleSeen("berlin_mlflow", mark("berlin_mlflow", BERLIN))),
        databases=(
            *DONE.databases,
            DatabaseSeen("erp", "erp"),
            DatabaseSeen("berlin", "berlin_mlflow", mark("berlin", BERLIN)),
        ),
    )
    assert texts(removal(server)) == [
        "drop database mlflow",
        "drop database mlflow_auth",
        "drop role mlflow",
    ]


def test_removal_takes_a_wanted_database_that_a_killed_run_left() -> None:
    server = replace(DONE, databases=(DatabaseSeen("mlflow", "mlflow", open=False),))
    assert "drop database mlflow" in texts(removal(server, MLFLOW))


def test_removal_stops_before_a_database_that_we_did_not_make() -> None:
    server = replace(DONE, databases=(DatabaseSeen("reports", "mlflow"),))
    with pytest.raises(DatabaseError) as refusal:
        removal(server, MLFLOW)
    assert str(refusal.value) == (
        "Database reports is owned by mlflow, but was not made by site lab, or has lost its mark: "
        'give it to another role first, with ALTER DATABASE "reports" OWNER TO, or, if it is to go '
        "too, ask for: COMMENT ON DATABASE reports IS 'Made by mlops.onprem for site lab "
        "(5f1e0a7c93d24b66) as reports; removed with it.'."
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("it's", "'it''s'"), ("plain", "'plain'"), ("back\\slash", " E'back\\\\slash'")],
)
def test_text_cannot_end_a_statement(text: str, expected: str) -> None:
    assert literal(text) == expected


def test_names_cannot_end_a_statement() -> None:
    assert quote('a"b') == '"a""b"'
