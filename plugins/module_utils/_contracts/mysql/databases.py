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
from .login import LOCK_WAIT, Login, Refused, judge_login, password_was_refused
from .owned import accounts_of, holds_as_stored
from .password import native
from .plan import Step, left_alone, plan_absent, plan_present
from .read import read_server, whose_account
from .server import RIGHTS, Account, AccountSeen, Consumer, DatabaseError, Grant, Server

# One run at a time on one server; the lock of a killed run ends with its connection.
LOCK = "SELECT GET_LOCK('mlops.onprem', 0)"
UNLOCK = "SELECT RELEASE_LOCK('mlops.onprem')"
HOLDER = "SELECT IS_USED_LOCK('mlops.onprem')"
CONNECTED = """
SELECT ID, USER, HOST FROM information_schema.PROCESSLIST WHERE DB = %s ORDER BY ID LIMIT 5
"""
TRIES, PAUSE_SECONDS = 10, 2.0
NOT_THERE_YET = Server(
    "11.8.0-MariaDB",
    True,
    Account("nobody@%", (Grant("*", frozenset({"CREATE USER", *RIGHTS}), True),), True),
)


class Session(Protocol):
    """A login in which every statement stands by itself. All of it may raise ``Refused``."""

    proxied: bool

    def query(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The rows of a question."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Run one statement."""

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
    clock: Callable[[], float]
    reach: Callable[[], Finding | None] = lambda: None
    """Looks at the way to the server, where the server itself said nothing."""
    present: bool = True
    to_be_installed: bool = False
    """Whether, in check mode, a server that cannot be reached will still be installed."""
    pause: Callable[[float], None] = time.sleep
    warnings: list[str] = field(default_factory=list)

    def converge(self, check: bool) -> tuple[Step, ...]:
        """Make what is missing, or only say what that is; a refusal is a ``DatabaseError``."""
        try:
            session = self.connect(self.login)
        except Refused as error:
            if check and self.to_be_installed and not error.refusal.answered:
                return self.plan(NOT_THERE_YET)
            raise DatabaseError(self.turned_away(error).sentence) from None
        try:
            with contextlib.nullcontext() if check else self.alone(session):
                steps = self.plan(self.read(session))
                if not check:
                    self.apply(session, steps)
        except Refused as error:
            raise DatabaseError(f"{self.contract.host}: {self.words(error)}") from None
        finally:
            session.close()
        return steps

    def read(self, session: Session) -> Server:
        return read_server(
            session.query, self.consumers, self.site, self.clock, session.proxied, not self.present
        )

    def words(self, error: Refused) -> str:
        """What the server said, without any password, hashed or not."""
        passwords = [one.password for one in self.consumers]
        return one_line(error.said, [self.login.password, *passwords, *map(native, passwords)])

    def turned_away(self, error: Refused) -> Finding:
        """Why there is no login: the way to the server, or what the server said."""
        way = None if error.refusal.answered else self.reach()
        return way or judge_login(self.contract, self.login, error, whose_account(self.contract))

    @contextlib.contextmanager
    def alone(self, session: Session) -> Iterator[None]:
        """Hold the lock of this server."""
        self.take(session)
        try:
            yield
        finally:
            with contextlib.suppress(Refused):
                session.query(UNLOCK, ())

    def take(self, session: Session) -> None:
        """Wait for the lock, and say in the end who holds it."""
        for left in reversed(range(TRIES)):
            if session.query(LOCK, ())[0][0] == 1:
                return
            if left:
                self.pause(PAUSE_SECONDS)
        holder = session.query(HOLDER, ())[0][0]
        who = f"connection {holder}" if holder else "a connection that has just ended"
        remedy = f"; if there is none, ask for: KILL {holder}" if holder else ""
        raise DatabaseError(
            f"{self.contract.host}: {who} holds the lock with which runs of mlops.onprem wait for "
            f"each other. Wait for that run to end{remedy}."
        )

    def plan(self, server: Server) -> tuple[Step, ...]:
        """Steps from what is there to what is wanted."""
        if self.present:
            return plan_present(self.contract, server, self.consumers, self.site, self.holds)
        if not server.account.sees_accounts:
            raise DatabaseError(
                f"{self.contract.host}: {server.account.name} does not see which accounts there "
                "are, so nothing is dropped; ask for: GRANT SELECT ON mysql.* TO this account."
            )
        steps = plan_absent(server, self.consumers, self.site, self.holds)
        ours = accounts_of(server, self.consumers, self.site, self.holds)
        self.warnings += [
            f"{self.contract.host}: {text}."
            for text in left_alone(server, self.consumers, self.site, ours)
        ]
        return steps

    def holds(self, consumer: Consumer, account: AccountSeen) -> bool:
        """Whether an account has this password: as it is stored, else by a login."""
        stored = holds_as_stored(consumer, account)
        if stored is not None:
            return stored
        try:
            self.connect(Login(consumer.owner, consumer.password)).close()
        except Refused as error:
            if not password_was_refused(error.refusal):
                self.warnings.append(
                    f"{self.contract.host}: cannot tell whether the password of {account.name} "
                    f"holds: {self.words(error)}"
                )
            return False
        return True

    def apply(self, session: Session, steps: tuple[Step, ...]) -> None:
        """Make the steps up to the first that the server refuses."""
        for step in steps:
            try:
                for statement in step.statements:
                    session.execute(statement.sql, statement.values)
            except Refused as error:
                raise DatabaseError(
                    f"{self.contract.host}: cannot {step.text}: {self.words(error)}"
                    f"{self.in_the_way(session, step, error)}"
                ) from None

    def in_the_way(self, session: Session, step: Step, error: Refused) -> str:
        """Who is connected to a database that could not be dropped."""
        if not step.drops or error.refusal.code != LOCK_WAIT:
            return ""
        try:
            found = session.query(CONNECTED, (step.drops,))
        except Refused:
            found = []
        who = listing(f"connection {one[0]} of {one[1]} from {one[2]}" for one in found)
        return (
            f". Connected to it: {who or 'somebody'}. End what opens these connections, and run "
            "again"
        )
