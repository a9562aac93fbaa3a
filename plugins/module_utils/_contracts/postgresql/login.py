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

WRONG_PASSWORD, NOT_AUTHORISED, NO_DATABASE = "28P01", "28000", "3D000"
TOO_MANY, NOT_PERMITTED, NOT_NOW, CLOSED, PROTOCOL = "53300", "42501", "57P03", "55000", "08P01"


@dataclass(frozen=True)
class Login:
    user: str
    password: str
    database: str

    def __repr__(self) -> str:
        return f"Login({self.user!r}, {self.database!r})"


@dataclass(frozen=True)
class Refusal:
    """The answer of a server to a login, as far as it gave one.

    ``routine`` is the function of the server that refused, ``method`` the kind of login that it
    asked for before. ``outcome`` is set where no SQLSTATE came: C(welcome) if it let us in after
    all, C(no password) if it asked for one and there was none, C(silent) if it said nothing in
    time after TLS was set up, C(certificate) if it ended TLS once it saw the client's certificate.
    ``certificate`` is whom the client's certificate is for, ``proven`` whether the server took the
    password before it refused.
    """

    sqlstate: str = ""
    said: str = ""
    routine: str = ""
    method: str = ""
    outcome: str = ""
    certificate: str = ""
    proven: bool = False

    @property
    def answered(self) -> bool:
        """Whether the server itself said no; otherwise the way to it has to be looked at."""
        return bool(self.sqlstate or self.method or self.outcome == "certificate")


@dataclass(frozen=True)
class Whose:
    """How the settings of a login are called: its password, its user and its database."""

    password: str
    user: str
    database: str


class Refused(Exception):
    """The server did not do it. ``said`` is its words without the statement."""

    def __init__(self, text: str, said: str = "", refusal: Refusal | None = None) -> None:
        super().__init__(text)
        self.refusal = refusal or Refusal()
        self.said = said or self.refusal.said or one_line(text)


def password_was_refused(refusal: Refusal) -> bool:
    return refusal.sqlstate == WRONG_PASSWORD and not refusal.proven


def judge_login(contract: Contract, login: Login, error: Refused, whose: Whose) -> Finding:
    """Turn a failed login into a finding."""
    refusal = error.refusal
    explain = _BY_OUTCOME.get(refusal.outcome) or _EXPLAINED.get(refusal.sqlstate)
    if explain is None:
        explain = _kind_of_login if refusal.method and not refusal.sqlstate else _other
    said = one_line(error.said, [login.password])
    found, remedy = explain(login, refusal, said, whose)
    wanted = f"a login as {login.user} to database {login.database}"
    return contract.failed("login", found, wanted, remedy)


Explained = tuple[str, str]
"""What is found, and what to do."""


def _line(login: Login) -> str:
    return f"hostssl {login.database} {login.user} <address of the client> scram-sha-256"


def _wrong_certificate(login: Login, refusal: Refusal, said: str, _whose: Whose) -> Explained:
    return (
        f"the server does not take the client certificate of {refusal.certificate} for "
        f"{login.user} ({said})",
        f"give {login.user} one of its own in metadata_db_client_certificates (login: "
        f"{login.user}) whose common name is {login.user}, or ask the server's owner for map= in "
        f"pg_hba.conf and a line in pg_ident.conf that lets {refusal.certificate} be {login.user}",
    )


def _unknown_certificate(login: Login, refusal: Refusal, _said: str, _whose: Whose) -> Explained:
    # What the library says depends on which comes first, the server's alert or the end.
    return (
        f"the server ends the connection of {login.user} at the client certificate of "
        f"{refusal.certificate}",
        "set metadata_db_client_certificates to a certificate of an authority that the server "
        "trusts for clients (ssl_ca_file), with those between in the same file",
    )


def _wrong_password(login: Login, refusal: Refusal, said: str, whose: Whose) -> Explained:
    if refusal.proven:
        return _wrong_certificate(login, refusal, said, whose)
    return (
        f"the server refuses the password of {login.user}",
        f"set {whose.password} to the password of {whose.user} {login.user}; if it is that, it has "
        "expired (VALID UNTIL), or is stored as md5 while scram-sha-256 is asked for, or there is "
        "no such role, which the server does not tell",
    )


def _no_password(login: Login, _refusal: Refusal, _said: str, whose: Whose) -> Explained:
    return f"no password is given for {login.user}", f"set {whose.password}"


def _not_authorised(login: Login, refusal: Refusal, said: str, whose: Whose) -> Explained:
    if refusal.routine == "InitializeSessionUserId":
        return (
            f"{login.user} may not log in ({said})",
            f"set {whose.user} to a role with LOGIN",
        )
    if refusal.certificate and refusal.routine == "auth_failed" and not refusal.method:
        return _wrong_certificate(login, refusal, said, whose)
    if refusal.method:
        return (
            f"the server has the password of {login.user} checked elsewhere (LDAP, PAM, RADIUS or "
            f"the like), which refuses it ({said})",
            f"set {whose.password} to the password there, or ask the server's owner for a line in "
            f"pg_hba.conf such as: {_line(login)}",
        )
    return (
        f"no line in the server's pg_hba.conf lets {login.user} in with a password ({said})",
        f"ask its owner for a line such as: {_line(login)}, before every line that rejects"
        + _or_certificate(login, refusal),
    )


def _or_certificate(login: Login, refusal: Refusal) -> str:
    if refusal.certificate:
        return ""
    return (
        "; if the line wants a client certificate (cert, clientcert), give one for "
        f"{login.user} in metadata_db_client_certificates"
    )


def _kind_of_login(login: Login, refusal: Refusal, _said: str, _whose: Whose) -> Explained:
    return (
        f"the server wants {login.user} to log in by {refusal.method}",
        f"ask its owner for a line in pg_hba.conf such as: {_line(login)}",
    )


def _no_database(login: Login, _refusal: Refusal, _said: str, whose: Whose) -> Explained:
    return f"there is no database {login.database}", whose.database


def _too_many(login: Login, refusal: Refusal, said: str, _whose: Whose) -> Explained:
    if refusal.routine == "InitializeSessionUserId":
        return (
            f"{login.user} may open no further connection ({said})",
            f"ask for: ALTER ROLE {login.user} CONNECTION LIMIT -1, or close its connections",
        )
    if refusal.routine == "CheckMyDatabase":
        return (
            f"database {login.database} takes no further connection ({said})",
            f"ask for: ALTER DATABASE {login.database} CONNECTION LIMIT -1",
        )
    return (
        f"no free connection ({said})",
        "raise max_connections on the server, or close connections",
    )


def _not_permitted(login: Login, _refusal: Refusal, said: str, whose: Whose) -> Explained:
    return (
        f"{login.user} may not connect to database {login.database} ({said})",
        f"ask for: GRANT CONNECT ON DATABASE {login.database} TO {login.user}, or {whose.database}",
    )


def _closed(login: Login, _refusal: Refusal, said: str, whose: Whose) -> Explained:
    return f"database {login.database} takes no connections ({said})", whose.database


def _not_now(_login: Login, _refusal: Refusal, said: str, _whose: Whose) -> Explained:
    return f"a server in transition ({said})", "wait and try again"


def _protocol(login: Login, _refusal: Refusal, said: str, _whose: Whose) -> Explained:
    return (
        f"what answers does not let {login.user} in to database {login.database}, and answers as a "
        f"connection pooler does ({said})",
        "set metadata_db_host and metadata_db_port to the server itself, not to a pooler such as "
        "pgbouncer",
    )


def _welcome(login: Login, _refusal: Refusal, said: str, _whose: Whose) -> Explained:
    return (
        f"the server would let {login.user} in, but its client library does not trust it ({said})",
        "set metadata_db_ca_file to a PEM file with the whole chain of the authority that signed "
        "the server's certificate, up to its root",
    )


def _silent(login: Login, _refusal: Refusal, said: str, _whose: Whose) -> Explained:
    return (
        f"the server does not answer the login of {login.user} in time ({said})",
        "see the server's log and load, and proxies between",
    )


def _other(login: Login, refusal: Refusal, said: str, whose: Whose) -> Explained:
    code = f" (SQLSTATE {refusal.sqlstate})" if refusal.sqlstate else ""
    return (
        f"the server turns {login.user} away{code}: {said}",
        f"see the server's log, and correct {whose.user} or {whose.password} if they are wrong",
    )


Explain = Callable[[Login, Refusal, str, Whose], Explained]
_EXPLAINED: dict[str, Explain] = {
    WRONG_PASSWORD: _wrong_password,
    NOT_AUTHORISED: _not_authorised,
    NO_DATABASE: _no_database,
    TOO_MANY: _too_many,
    NOT_PERMITTED: _not_permitted,
    NOT_NOW: _not_now,
    CLOSED: _closed,
    PROTOCOL: _protocol,
}
_BY_OUTCOME: dict[str, Explain] = {
    "welcome": _welcome,
    "no password": _no_password,
    "silent": _silent,
    "certificate": _unknown_certificate,
}
