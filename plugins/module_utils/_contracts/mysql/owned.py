# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which accounts of a server the site made.

An account bears no comment, and its name is no proof: somebody may have dropped ours and made his
own. So the table of marks in our database holds what the server kept as the password when we set
it. The account is ours while that still stands there, or while our own password, which is random,
is accepted.
"""

from __future__ import annotations

from typing import Callable

from ..marks import Site
from .password import NATIVE, fingerprint, native
from .server import AccountSeen, Consumer, Server

Holds = Callable[[Consumer, AccountSeen], bool]
"""Whether an account has the password of this consumer."""


def accounts_of(
    server: Server, consumers: tuple[Consumer, ...], site: Site, holds: Holds
) -> frozenset[str]:
    """Names of the accounts that the site made."""
    made = {
        (account, stored)
        for seen in server.databases
        if seen.proves(site)
        for account, stored in seen.accounts.items()
    }
    ours = {seen.name for seen in server.accounts if (seen.name, fingerprint(seen.stored)) in made}
    for consumer in consumers:
        account = server.seen_account(consumer)
        if account and account.name not in ours and holds(consumer, account):
            ours.add(account.name)
    return frozenset(ours)


def holds_as_stored(consumer: Consumer, account: AccountSeen) -> bool | None:
    """Whether the password is the stored one; None where only a login can tell."""
    if account.plugin in (NATIVE, "") and account.stored:
        return account.stored == native(consumer.password)
    return None
