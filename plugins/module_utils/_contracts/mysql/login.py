# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a login failed, told from codes and never from words, which a server says in any language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from ..._findings.finding import Finding
from ..._findings.sentence import one_line
from ..contract import Contract

DENIED, DENIED_BY_PLUGIN = 1045, 1698
NO_DATABASE, DATABASE_DENIED = 1049, 1044
TOO_MANY, TOO_MANY_OF_USER, TOO_MANY_NOW = 1040, 1203, 1226
HOST_BLOCKED, HOST_REFUSED = 1129, 1130
EXPIRED, EXPIRED_SESSION = 1862, 1820
LOCKED, LOCKED_MARIADB = 3118, 4151
PLUGIN_UNKNOWN, PLUGIN_OLD, PLUGIN_LIBRARY = 2059, 1251, 2061
SHUTTING_DOWN, NOT_READY = 1053, 1047
LOCK_WAIT = 1205
LOST, GONE = 2013, 2006


@dataclass(frozen=True)
class Login:
    user: str
    password: str
    database: str = ""

    def __repr__(self) -> str:
        return f"Login({self.user!r}, {self.database!r})"


@dataclass(frozen=True)
class Refusal:
    """The answer of a server: its number, and the kind of login that it wanted if that was why."""

    code: int = 0
    said: str = ""
    method: str = ""

    @property
    def answered(self) -> bool:
        """Whether the server itself said no; codes from 2000 to 2999 are the client's own."""
        return bool(self.method) or 0 < self.code < 2000 or self.code >= 3000


class Refused(Exception):
    """The server did not do it. ``said`` is its words without the statement."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.said)
        self.refusal = refusal
        self.said = one_line(refusal.said) or f"error {refusal.code}"


@dataclass(frozen=True)
class Whose:
    """How the settings of a login are called: its password and its user."""

    password: str
    user: str


def password_was_refused(refusal: Refusal) -> bool:
    return refusal.code in (DENIED, DENIED_BY_PLUGIN)


def judge_login(contract: Contract, login: Login, error: Refused, whose: Whose) -> Finding:
    """Turn a failed login into a finding."""
    refusal = error.refusal
    explain = _method if refusal.method else _EXPLAINED.get(refusal.code, _other)
    said = one_line(error.said, [login.password])
    found, remedy = explain(login, refusal, said, whose)
    where = f" to database {login.database}" if login.database else ""
    return contract.failed("login", found, f"a login as {login.user}{where}", remedy)


Explained = tuple[str, str]
"""What is found, and what to do."""


def _denied(login: Login, _refusal: Refusal, _said: str, whose: Whose) -> Explained:
    if not login.password:
        return f"no password is given for {login.user}", f"set {whose.password}"
    return (
        f"the server refuses {login.user} with this password",
        f"set {whose.password} to the password of {whose.user} {login.user}; if it is that, there "
        "is no such account for connections from here, or an account with a narrower host stands "
        "before it in mysql.user, which the server does not tell",
    )


def _method(login: Login, refusal: Refusal, _said: str, _whose: Whose) -> Explained:
    return (
        f"the server wants {login.user} to log in by {refusal.method}",
        f"ask its owner for an account with a password, such as: ALTER USER {login.user} "
        "IDENTIFIED VIA mysql_native_password (MariaDB) or WITH caching_sha2_password (MySQL)",
    )


def _no_database(login: Login, _refusal: Refusal, _said: str, _whose: Whose) -> Explained:
    return (
        f"there is no database {login.database}, or {login.user} has no right there",
        "run the playbook mlops.onprem.site again, which makes what is missing",
    )


def _too_many(_login: Login, _refusal: Refusal, said: str, _whose: Whose) -> Explained:
    return (
        f"no free connection ({said})",
        "raise max_connections on the server, or close connections",
    )


def _too_many_of_user(login: Login, _refusal: Refusal, said: str, _whose: Whose) -> Explained:
    return (
        f"{login.user} may open no further connection ({said})",
        f"ask for: ALTER USER {login.user} WITH MAX_USER_CONNECTIONS 0, or close its connections",
    )


def _host(_login: Login, refusal: Refusal, said: str, _whose: Whose) -> Explained:
    if refusal.code == HOST_BLOCKED:
        return f"the server has blocked this controller ({said})", "ask its owner for: FLUSH HOSTS"
    return (
        f"the server has no account for connections from this controller ({said})",
        "ask its owner for an account that may log in from here, such as 'NAME'@'%'",
    )


def _expired(login: Login, _refusal: Refusal, said: str, _whose: Whose) -> Explained:
    return (
        f"the password of {login.user} has expired ({said})",
        f"ask for: ALTER USER {login.user} PASSWORD EXPIRE NEVER, after its password was set anew",
    )


def _locked(login: Login, _refusal: Refusal, said: str, _whose: Whose) -> Explained:
    return f"{login.user} is locked ({said})", f"ask for: ALTER USER {login.user} ACCOUNT UNLOCK"


def _not_now(_login: Login, _refusal: Refusal, said: str, _whose: Whose) -> Explained:
    return f"a server in transition ({said})", "wait and try again"


def _lost(login: Login, _refusal: Refusal, said: str, _whose: Whose) -> Explained:
    return (
        f"the server ends the connection of {login.user} without an answer in time ({said})",
        "see the server's log and load, its init_connect, and proxies between",
    )


def _other(login: Login, refusal: Refusal, said: str, whose: Whose) -> Explained:
    code = f" (error {refusal.code})" if refusal.code else ""
    return (
        f"the server turns {login.user} away{code}: {said}",
        f"see the server's log, and correct {whose.user} or {whose.password} if they are wrong",
    )


Explain = Callable[[Login, Refusal, str, Whose], Explained]
_EXPLAINED: dict[int, Explain] = {
    DENIED: _denied,
    DENIED_BY_PLUGIN: _denied,
    NO_DATABASE: _no_database,
    DATABASE_DENIED: _no_database,
    TOO_MANY: _too_many,
    TOO_MANY_OF_USER: _too_many_of_user,
    TOO_MANY_NOW: _too_many_of_user,
    HOST_BLOCKED: _host,
    HOST_REFUSED: _host,
    EXPIRED: _expired,
    EXPIRED_SESSION: _expired,
    LOCKED: _locked,
    LOCKED_MARIADB: _locked,
    SHUTTING_DOWN: _not_now,
    NOT_READY: _not_now,
    LOST: _lost,
    GONE: _lost,
}
