# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what matters of a PostgreSQL server through a query function that is handed in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

from ..endpoint import Endpoint
from .judge import (
    Account,
    Connections,
    Consumer,
    DatabaseSeen,
    Login,
    RoleSeen,
    Server,
)

Query = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]

_FIRST_WITH_GRANTED_ADMIN = 160000

_BASICS = """
SELECT current_setting('server_version_num')::int, current_setting('server_version'),
       pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on',
       current_setting('max_connections')::int,
       current_setting('superuser_reserved_connections')::int
         + coalesce(current_setting('reserved_connections', true), '0')::int,
       r.rolname, r.rolsuper, r.rolcreatedb, r.rolcreaterole,
       pg_has_role(current_user, 'pg_monitor', 'MEMBER WITH ADMIN OPTION'),
       (SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'template0'),
       (SELECT datcollate FROM pg_database WHERE datname = 'template0'),
       extract(epoch FROM clock_timestamp())::float8
  FROM pg_roles r WHERE r.rolname = current_user
"""
_ROLES = """
SELECT r.rolname, coalesce(shobj_description(r.oid, 'pg_authid'), ''), r.rolconnlimit,
       r.rolcanlogin, pg_has_role(r.oid, 'pg_monitor', 'MEMBER'),
       pg_has_role(current_user, r.oid, 'MEMBER WITH ADMIN OPTION'),
       EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles me ON me.oid = m.member
                WHERE m.roleid = r.oid AND me.rolname = current_user
                  AND (%s OR m.grantor = me.oid))
  FROM pg_roles r
 WHERE r.rolname = ANY(%s)
    OR shobj_description(r.oid, 'pg_authid') LIKE 'Made by mlops.onprem for site %%'
 ORDER BY r.rolname
"""
_DATABASES = """
SELECT d.datname, pg_get_userbyid(d.datdba), coalesce(shobj_description(d.oid, 'pg_database'), ''),
       has_database_privilege('public', d.oid, 'CONNECT')
         OR has_database_privilege('public', d.oid, 'TEMPORARY')
  FROM pg_database d ORDER BY d.datname
"""
_IN_USE = """
SELECT count(*) FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
 WHERE a.datid IS NOT NULL AND a.usesysid IS NOT NULL AND a.pid <> pg_backend_pid()
   AND NOT coalesce(r.rolname = ANY(%s), false)
"""


def read_server(
    query: Query, consumers: tuple[Consumer, ...], clock: Callable[[], float]
) -> Server:
    """Everything in four queries that any account may ask."""
    owners = [consumer.owner for consumer in consumers]
    before = clock()
    basics = query(_BASICS, ())[0]
    now = (before + clock()) / 2
    number, createrole = int(basics[0]), bool(basics[9])
    old = number < _FIRST_WITH_GRANTED_ADMIN
    account = Account(
        name=str(basics[6]),
        superuser=bool(basics[7]),
        createdb=bool(basics[8]),
        createrole=createrole,
        may_grant_monitoring=bool(basics[10]) or (old and createrole),
    )
    roles = tuple(
        RoleSeen(
            name=str(name),
            comment=str(comment),
            connection_limit=int(limit),
            login=bool(login),
            monitoring=bool(monitoring),
            administered=bool(administered) or (old and createrole),
            lent=bool(lent) and not account.superuser,
        )
        for name, comment, limit, login, monitoring, administered, lent in query(
            _ROLES, (old, owners)
        )
    )
    return Server(
        version_number=number,
        version=str(basics[1]).split(" ", maxsplit=1)[0],
        account=account,
        connections=Connections(
            maximum=int(basics[4]),
            reserved=int(basics[5]),
            used_by_others=int(query(_IN_USE, (owners,))[0][0]),
        ),
        encoding=str(basics[11]),
        locale=str(basics[12]),
        standby=bool(basics[2]),
        read_only=bool(basics[3]),
        clock_skew=float(basics[13]) - now,
        roles=roles,
        databases=tuple(
            DatabaseSeen(str(name), str(owner), str(comment), bool(public))
            for name, owner, comment, public in query(_DATABASES, ())
        ),
    )


def connection_arguments(endpoint: Endpoint, login: Login, timeout: int) -> dict[str, Any]:
    """Arguments of libpq. Everything that the environment could change is written out."""
    return {
        "host": endpoint.host,
        "port": endpoint.port,
        "user": login.user,
        "password": login.password,
        "dbname": login.database,
        "sslmode": "verify-full" if endpoint.verify_name else "verify-ca",
        "sslrootcert": endpoint.ca_file or "system",
        "gssencmode": "disable",
        "connect_timeout": timeout,
        "application_name": "mlops.onprem",
        "options": "-c statement_timeout=60s -c idle_in_transaction_session_timeout=60s",
    }
