# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read, plan and apply the databases of a site, over logins that are handed in."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Protocol

from ..._findings.sentence import one_line
from ..contract import Contract
from .judge import (
    Account,
    Connections,
    Consumer,
    DatabaseError,
    Login,
    Server,
    judge_login,
    login_could_not_be_tried,
    password_was_refused,
)
from .marks import Site
from .plan import Step, left_alone, plan_absent, plan_present
from .read import Refused, read_server

# One run at a time on one server; the backend of a killed run ends with its statement.
LOCK = "SELECT pg_advisory_lock(hashtext('mlops.onprem'))"
NOT_THERE_YET = Server(170000, "17", Account("nobody", superuser=True), Connections(0, 0, 0))


class Session(Protocol):
    """A login in which every statement stands by itself. All of it may raise ``Refused``."""

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
    present: bool = True
    warnings: list[str] = field(default_factory=list)

    def converge(self, check: bool) -> tuple[Step, ...]:
        """Make what is missing, or only say what that is; a refusal is a ``DatabaseError``."""
        try:
            session = self.connect(self.login)
        except Refused as error:
            if check and not password_was_refused(str(error)):
                return self.plan(NOT_THERE_YET)
            password, user = "metadata_db_admin_password", "metadata_db_admin_user"
            raise DatabaseError(
                judge_login(self.contract, self.login, str(error), password, user).sentence
            ) from None
        try:
            try:
                if not check:
                    session.execute((LOCK,))
                steps = self.plan(read_server(session.query, self.consumers, self.clock))
            except Refused as error:
                raise DatabaseError(f"{self.contract.host}: {error.said}") from None
            if not check:
                self.apply(session, steps)
        finally:
            session.close()
        return steps

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
            text = str(error)
            if "too many" in text or "pg_hba.conf" in text:
                self.warnings.append(
                    f"{self.contract.host}: cannot tell whether the password of "
                    f"{consumer.owner} holds: {one_line(text, [consumer.password])}"
                )
            return login_could_not_be_tried(text)
        return True

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
                ) from None
            done.append(step)
