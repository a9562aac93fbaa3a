# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to say of a MariaDB or MySQL server that was looked at."""

from __future__ import annotations

from ..._findings.finding import FAIL, Finding
from ..._findings.sentence import count, listing
from ..contract import Contract
from ..endpoint import wrong_host
from .server import MIB, RIGHTS, Consumer, Server, quoted_account

MARIADB, MYSQL = (10, 5), (8, 0)
"""Slurm 24.11 runs on older servers too; these are the oldest that their makers still mend, and
MariaDB keeps comments on databases since 10.5."""


def wrong_address(contract: Contract, host: str) -> Finding | None:
    """What is no name of a server."""
    remedy = (
        f"set {contract.name_variable}, or put a host into the group accounting_db, which then "
        "runs a MariaDB of the platform's own"
    )
    return wrong_host(contract, host, remedy)


def judge(
    contract: Contract, server: Server, consumers: tuple[Consumer, ...], conflicts: list[Finding]
) -> list[Finding]:
    """Findings about a server that could be logged in to. ``conflicts`` are those of names."""
    findings = [_judge_version(contract, server)]
    if findings[0].severity == FAIL:
        return findings
    findings.append(_judge_writable(contract, server))
    if findings[-1].severity == FAIL:
        return findings
    rights = judge_rights(contract, server, consumers)
    findings.append(rights)
    if rights.severity != FAIL:
        findings += conflicts or [_names(contract, server, consumers)]
        findings += _judge_nameless(contract, server, consumers)
    findings.append(_judge_connections(contract, server, consumers))
    findings += [
        _judge_setting(contract, server, *wanted)
        for wanted in SETTINGS
        if wanted[0] in server.settings
    ]
    findings += _judge_switches(contract, server)
    findings += _judge_galera(contract, server)
    findings.append(_judge_room(contract, server))
    if server.proxied:
        findings.append(_judge_proxy(contract))
    return findings


def _judge_version(contract: Contract, server: Server) -> Finding:
    found = f"{server.kind} {server.version}"
    wanted = f"MariaDB {_dotted(MARIADB)} or newer, or MySQL {_dotted(MYSQL)} or newer"
    if server.kind != "TiDB" and server.number >= (MARIADB if server.mariadb else MYSQL):
        return contract.passed("version", found, wanted)
    return contract.failed(
        "version",
        found,
        wanted,
        f"set {contract.name_variable} to another server, or put a host into the group "
        "accounting_db",
    )


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _judge_writable(contract: Contract, server: Server) -> Finding:
    wanted = "a server that takes writes"
    for name in ("read_only", "super_read_only", "innodb_read_only"):
        if server.on(name):
            return contract.failed(
                "writable",
                f"a server that is read-only ({name} = {server.settings[name]}), as a replica is",
                wanted,
                f"set {contract.name_variable} to the primary",
            )
    return contract.passed("writable", "a server that takes writes", wanted)


def judge_rights(contract: Contract, server: Server, consumers: tuple[Consumer, ...]) -> Finding:
    """Whether the account may make accounts, see them, and own and lend these databases."""
    account = server.account
    names = [one.database for one in consumers]
    grantee = quoted_account(account.name)
    ask: list[str] = []
    if account.lacks(frozenset({"CREATE USER"})):
        ask.append(f"GRANT CREATE USER ON *.* TO {grantee}")
    if not account.sees_accounts:
        ask.append(f"GRANT SELECT ON mysql.* TO {grantee}")
    ask += [
        f"GRANT ALL PRIVILEGES ON {escaped(name)}.* TO {grantee} WITH GRANT OPTION"
        for name in names
        if account.lacks(frozenset(RIGHTS), name, grantable=True)
    ]
    wanted = "CREATE USER, sight of accounts, and every right on " + (
        listing(names) or "its databases"
    )
    if not ask:
        return contract.passed("rights", f"{account.name} with these rights", wanted)
    return contract.failed(
        "rights",
        f"{account.name} lacks some of its rights",
        wanted,
        f"ask for: {'; '.join(ask)}; or set {contract.variable('admin_user')} to another account",
    )


def escaped(database: str) -> str:
    """The name as GRANT wants it, which takes _ for any letter."""
    return "`" + database.replace("_", "\\_") + "`"


def _names(contract: Contract, server: Server, consumers: tuple[Consumer, ...]) -> Finding:
    names = [one.database for one in consumers]
    existing = [name for name in names if server.database(name)]
    new = [name for name in names if name not in existing]
    parts = []
    if new:
        parts.append(f"{listing(new)} free to be created")
    if existing:
        parts.append(f"{listing(existing)} already made by this site")
    found = "; ".join(parts) or "no database asked for"
    return contract.passed("names", found, "names that nobody else uses")


def _judge_nameless(
    contract: Contract, server: Server, consumers: tuple[Consumer, ...]
) -> list[Finding]:
    """An account without a name takes every login from its host before ``'slurm'@'%'`` does."""
    found = [
        seen.host
        for seen in server.accounts
        if not seen.user and seen.host not in ("localhost", "127.0.0.1", "::1")
    ]
    if not found or not consumers:
        return []
    return [
        contract.warned(
            "nameless",
            f"an account without a name for connections from {listing(found)}",
            f"no account that takes logins meant for {listing(one.account for one in consumers)}",
            f"ask for: DROP USER ''@'{found[0]}'",
        )
    ]


def _judge_connections(
    contract: Contract, server: Server, consumers: tuple[Consumer, ...]
) -> Finding:
    maximum = server.whole("max_connections") or 0
    used = server.whole("Threads_connected") or 0
    free = max(0, maximum - used)
    pools = sum(one.connection_limit for one in consumers)
    found = f"{count(free, 'free connection')} ({maximum} at most, {used} in use)"
    wanted = (
        f"{pools + 1} for {listing(one.owner for one in consumers) or 'nobody'} and one of ours"
    )
    if free > pools:
        return contract.passed("connections", found, wanted)
    say = contract.failed if free < FEW_CONNECTIONS else contract.warned
    remedy = (
        "raise max_connections on the server, or lower connection_limit in accounting_db_databases"
    )
    return say("connections", found, wanted, remedy)


FEW_CONNECTIONS = 10
"""Below these slurmdbd cannot serve a controller and a few people at once."""

_IN_MEMORY = "the tables of jobs then stay in memory"
_LONG_WRITE = "an upgrade of Slurm is one long write"
_LONG_WAIT = "a rollup or a purge of accounts takes long"
Setting = tuple[str, str, int, int, str]
SETTINGS: tuple[Setting, ...] = (
    (
        "innodb_buffer_pool_size",
        "buffer_pool",
        512 * MIB,
        1024 * MIB,
        _IN_MEMORY,
    ),
    (
        "innodb_log_file_size",
        "redo_log",
        32 * MIB,
        64 * MIB,
        _LONG_WRITE,
    ),
    (
        "innodb_redo_log_capacity",
        "redo_log",
        32 * MIB,
        64 * MIB,
        _LONG_WRITE,
    ),
    (
        "innodb_lock_wait_timeout",
        "lock_wait",
        450,
        900,
        _LONG_WAIT,
    ),
    ("max_allowed_packet", "packet", 16 * MIB, 16 * MIB, "the script of a job is one packet"),
)
"""A setting, the check, what slurmdbd complains below (half of what it recommends, in
_check_database_variables of accounting_storage_mysql.c), what its documentation recommends
(doc/html/accounting.shtml), and why."""


def _judge_setting(
    contract: Contract, server: Server, name: str, check: str, least: int, better: int, why: str
) -> Finding:
    held = server.whole(name) or 0
    wanted = f"at least {_sized(least)}, better {_sized(better)}, as {why}"
    if held >= least:
        return contract.passed(check, f"{name} = {_sized(held)}", wanted)
    remedy = f"ask the server's owner for: SET GLOBAL {name} = {better}, and to keep it"
    if name == "innodb_log_file_size":
        remedy = f"ask the server's owner to set {name} = {_sized(better)}"
    return contract.warned(check, f"{name} = {_sized(held)}", wanted, remedy)


def _sized(number: int) -> str:
    return f"{number // MIB} MiB" if number >= MIB else str(number)


def _judge_switches(contract: Contract, server: Server) -> list[Finding]:
    found: list[Finding] = []
    if "innodb_snapshot_isolation" in server.settings:
        wanted = "OFF, as what writes the accounts does not try again after error 1020"
        if server.on("innodb_snapshot_isolation"):
            found.append(
                contract.warned(
                    "snapshot_isolation",
                    "innodb_snapshot_isolation = ON",
                    wanted,
                    "ask the server's owner for: SET GLOBAL innodb_snapshot_isolation = OFF, and "
                    "to keep it",
                )
            )
        else:
            found.append(
                contract.passed("snapshot_isolation", "innodb_snapshot_isolation = OFF", wanted)
            )
    names = server.settings.get("lower_case_table_names", "0")
    if names == "2":
        found.append(
            contract.warned(
                "table_names",
                "lower_case_table_names = 2, as on a file system that knows no case",
                "0 or 1",
                "put the accounts on a server on Linux",
            )
        )
    else:
        found.append(contract.passed("table_names", f"lower_case_table_names = {names}", "0 or 1"))
    if server.checks_passwords:
        found.append(
            contract.warned(
                "password_check",
                "a plugin that checks new passwords (strict_password_validation = ON)",
                "passwords that the server only ever sees hashed",
                "nothing to do: the password is told to the server in the clear, over TLS, and may "
                "stand in its general log",
            )
        )
    return found


def _judge_galera(contract: Contract, server: Server) -> list[Finding]:
    if not server.on("wsrep_on"):
        return []
    ready = server.settings.get("wsrep_ready", "OFF").upper() == "ON"
    part = server.settings.get("wsrep_cluster_status", "unknown")
    found = f"a node of a Galera cluster ({part}, {'ready' if ready else 'not ready'})"
    wanted = "a node that is ready, in the primary part of its cluster"
    if ready and part.lower() == "primary":
        return [contract.passed("galera", found, wanted)]
    remedy = f"set {contract.name_variable} to another node, or mend the cluster"
    return [contract.failed("galera", found, wanted, remedy)]


LEAST_ROOM_MIB = 2048
"""A job with its steps takes about 2 KiB, so this holds some 500,000 of them and the redo log."""


def _judge_room(contract: Contract, server: Server) -> Finding:
    wanted = f"{LEAST_ROOM_MIB} MiB free for the accounts"
    if server.room_mib is None:
        return contract.passed(
            "room", "a server that does not tell its free room (it has no plugin DISKS)", wanted
        )
    found = f"{server.room_mib} MiB free"
    if server.room_mib >= LEAST_ROOM_MIB:
        return contract.passed("room", found, wanted)
    return contract.warned("room", found, wanted, "make room on the server's disk")


def _judge_proxy(contract: Contract) -> Finding:
    return contract.warned(
        "proxy",
        "a proxy such as MaxScale or ProxySQL, and not the server itself",
        "the server itself",
        f"set {contract.address_variables} to the server; a proxy has to let the new account in "
        "too, and must not send reads elsewhere",
    )
