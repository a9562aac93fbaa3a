# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read, plan and apply the databases of a site, over logins that are handed in."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Protocol

from ..._findings.finding import Finding
from ..._findings.sentence import listing, one_line
from ..contract import Contract
from ..marks import Site
from .judge import Account, Connections, Consumer, DatabaseError, Server
from .login import (
    CLOSED,
    NO_DATABASE,
    NOT_NOW,
    NOT_PERMITTED,
    Login,
    Refused,
    judge_login,
    password_was_refused,
)
from .plan import Step, left_alone, plan_absent, plan_present
from .read import OF_CONSUMER, read_server, whose_account

# One run at a time on one server; the lock of a killed run ends with its backend.
_KEY = "hashtext('mlops.onprem')"
LOCK = f"SELECT pg_try_advisory_lock({_KEY})"
UNLOCK = f"SELECT pg_advisory_unlock({_KEY})"
LOCK_OF_TRANSACTION = f"SELECT pg_try_advisory_xact_lock({_KEY})"
HOLDER = """
SELECT a.pid, a.usename, coalesce(a.application_name, ''), coalesce(a.state, '')
  FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND ((l.classid::bigint << 32) | l.objid::bigint) = hashtext('mlops.onprem')
"""
CONNECTED = """
SELECT a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, '')
  FROM pg_stat_activity a WHERE a.datname = %s ORDER BY a.pid LIMIT 5
"""
TRIES, PAUSE_SECONDS = 10, 2.0
NOT_THERE_YET = Server(170000, "17", Account("nobody", superuser=True), Connections(0, 0, 0))


class Session(Protocol):
    """A login in which every statement stands by itself. All of it may raise ``Refused``.

    ``pooled`` if a connection pooler stands between: nothing of a session lasts there.
    """

    pooled: bool

    def query(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The rows of a question."""

    def execute(self, statements: Sequence[str], atomic: bool = False) -> None:
        """Run statements, in one transaction if they are to count only together."""

    def close(self) -> None:
        """Log out."""


@dataclass
class Databases:
    """What a site wants of one server, and how to log in there."""

    contract: Contract
    login: Login
    site: Site
    consumers: tuple[Consumer, ...]
    connect: Callable[[Login], Session]
    make_verifier: Callable[[str], str]
    clock: Callable[[], float]
    reach: Callable[[], Finding | None] = lambda: None
    """Looks at the way to the server, where the server itself said nothing."""
    present: bool = True
    to_be_installed: bool = False
    """Whether, in check mode, a server that cannot be reached will still be installed."""
    certified: bool = False
    """Whether logins show certificates, which can be refused although all is made."""
    pause: Callable[[float], None] = time.sleep
    pooled: bool = False
    """Whether a connection pooler answers, which refuses roles that it was not told of."""
    warnings: list[str] = field(default_factory=list)

    def converge(self, check: bool) -> tuple[Step, ...]:
        """Make what is missing, or only say what that is; a refusal is a ``DatabaseError``."""
        try:
            session = self.connect(self.login)
        except Refused as error:
            if check and self.to_be_installed and not error.refusal.answered:
                return self.plan(NOT_THERE_YET)
            raise DatabaseError(self.turned_away(error).sentence) from None
        self.pooled = session.pooled
        try:
            with contextlib.nullcontext() if check else self.alone(session):
                server = read_server(session.query, self.consumers, self.clock, session.pooled)
                steps = self.plan(server)
                if not check:
                    self.apply(session, steps)
                    self.let_in()
        except Refused as error:
            raise DatabaseError(f"{self.contract.host}: {error.said}") from None
        finally:
            session.close()
        return steps

    def turned_away(self, error: Refused) -> Finding:
        """Why there is no login: the way to the server, or what the server said."""
        way = None if error.refusal.answered else self.reach()
        return way or judge_login(self.contract, self.login, error, whose_account(self.contract))

    @contextlib.contextmanager
    def alone(self, session: Session) -> Iterator[None]:
        """Hold the lock of this server: in the session, or behind a pooler in a transaction."""
        if not session.pooled:
            self.take(session, LOCK)
            try:
                yield
            finally:
                with contextlib.suppress(Refused):
                    session.query(UNLOCK, ())
            return
        guard = self.connect(self.login)
        try:
            guard.execute(("BEGIN", "SET LOCAL idle_in_transaction_session_timeout = 0"))
            self.take(guard, LOCK_OF_TRANSACTION)
            yield
        finally:
            with contextlib.suppress(Refused):
                guard.execute(("ROLLBACK",))
            guard.close()

    def take(self, session: Session, lock: str) -> None:
        """Wait for the lock, and say in the end who holds it."""
        for left in reversed(range(TRIES)):
            if session.query(lock, ())[0][0]:
                return
            if left:
                self.pause(PAUSE_SECONDS)
        holders = session.query(HOLDER, ())
        who = listing(_session(*holder) for holder in holders) or "a session that has just ended"
        pids = listing(f"SELECT pg_terminate_backend({holder[0]})" for holder in holders)
        raise DatabaseError(
            f"{self.contract.host}: {who} holds the lock with which runs of mlops.onprem wait for "
            f"each other. Wait for that run to end; if there is none, ask for: {pids or 'nothing'}."
        )

    def plan(self, server: Server) -> tuple[Step, ...]:
        """Steps from what is there to what is wanted."""
        if not self.present:
            steps = plan_absent(
                self.contract, server, self.consumers, self.site, self.password_holds
            )
            self.warnings += [
                f"{self.contract.host}: {text}."
                for text in left_alone(server, self.consumers, self.site)
            ]
            return steps
        return plan_present(
            self.contract,
            server,
            self.consumers,
            self.site,
            self.password_holds,
            self.make_verifier,
        )

    def password_holds(self, consumer: Consumer) -> bool:
        """Whether the owner can log in; where that cannot be told, it is taken to hold."""
        login = Login(consumer.owner, consumer.password, consumer.databases[0])
        try:
            self.connect(login).close()
        except Refused as error:
            if password_was_refused(error.refusal) and not self.pooled:
                return False
            if error.refusal.sqlstate not in _AFTER_THE_PASSWORD:
                self.warnings.append(
                    f"{self.contract.host}: cannot tell whether the password of "
                    f"{consumer.owner} holds: {one_line(error.said, [consumer.password])}"
                )
        return True

    def let_in(self) -> None:
        """Say here, and not in the log of a service, that the server takes no certificate of it."""
        for consumer in self.consumers if self.certified and self.present else ():
            login = Login(consumer.owner, consumer.password, consumer.databases[0])
            try:
                self.connect(login).close()
            except Refused as error:
                refused = judge_login(self.contract, login, error, OF_CONSUMER)
                raise DatabaseError(refused.sentence) from None

    def apply(self, session: Session, steps: tuple[Step, ...]) -> None:
        """Make the steps up to the first that the server refuses, and take back what was lent."""
        done: list[Step] = []
        for step in steps:
            try:
                session.execute(step.statements, step.atomic)
            except Refused as error:
                for statement in (undo for one in done for undo in one.undo):
                    with contextlib.suppress(Refused):
                        session.execute((statement,))
                raise DatabaseError(
                    f"{self.contract.host}: cannot {step.text}: {error.said}"
                    f"{self.in_the_way(session, step)}"
                ) from None
            done.append(step)

    def in_the_way(self, session: Session, step: Step) -> str:
        """Who is connected to a database that could not be dropped."""
        try:
            found = session.query(CONNECTED, (step.drops,)) if step.drops else []
        except Refused:
            return ""
        if not found:
            return ""
        who = listing(_session(*one) for one in found)
        return f". Connected to it: {who}. End what opens these connections, and run again"


# Told after the password was looked at, or about a server that is not at its work yet.
_AFTER_THE_PASSWORD = (NO_DATABASE, NOT_PERMITTED, CLOSED, NOT_NOW)


def _session(pid: object, user: object, application: object, state: object = "") -> str:
    """A session of a server, for a person."""
    name = f" ({application})" if application else ""
    return f"process {pid} of {user or 'the server'}{name}{f', {state}' if state else ''}"
