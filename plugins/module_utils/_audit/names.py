# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pseudonyms: the same person has the same one, and only who has the key can tell whose it is."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass, replace

from .event import CONTROLLER, PERSON, SERVICE, UNKNOWN, Actor, Event

PREFIX = "p-"


def pseudonym(name: str, key: bytes) -> str:
    """Of a name, by a keyed hash."""
    return PREFIX + hmac.new(key, name.encode(), hashlib.sha256).hexdigest()[:16]


@dataclass(frozen=True)
class Names:
    """Which accounts are whose."""

    people: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    key: bytes = b""  # with it people get pseudonyms
    secret: bytes = b""  # names that nobody has are only ever kept as its hash

    def account(self, name: str) -> Actor:
        """An account that has shown its password."""
        if name in self.people:
            return Actor(PERSON, name)
        if name in self.services:
            return Actor(SERVICE, name)
        return Actor(UNKNOWN, name)

    def claimed(self, name: str) -> tuple[Actor, dict[str, str]]:
        """Whoever said this name without the password. A name that nobody has may be a password
        that was typed into the wrong field: its hash says whether it was the same one again."""
        actor = self.account(name)
        if actor.kind != UNKNOWN:
            return actor, {}
        return Actor(), {"claimed": pseudonym(name, self.secret)[len(PREFIX) :]}

    def controller(self, said: str) -> Actor:
        """Who ran a playbook: an account of the controller, as user@machine."""
        user = said.partition("@")[0]
        return Actor(PERSON, user) if user in self.people else Actor(CONTROLLER, said)

    def hide(self, event: Event) -> Event:
        """The event as it is written down."""
        if not self.key:
            return event
        details = dict(event.details)
        for name in ("by", "user", "person"):
            if isinstance(details.get(name), str) and details[name]:
                details[name] = pseudonym(details[name], self.key)
        if "address" in details and event.actor.kind in (PERSON, UNKNOWN, CONTROLLER):
            del details["address"]  # of a person: as telling as the name
        actor = event.actor
        if actor.kind in (PERSON, CONTROLLER) and actor.name:
            actor = replace(actor, name=pseudonym(actor.name, self.key))
        thing = event.thing
        if thing.kind == "account" and thing.name:
            thing = replace(thing, name=pseudonym(thing.name, self.key))
        return replace(event, actor=actor, thing=thing, details=details)


def names(
    people: Collection[str],
    services: Collection[str],
    hosts: Collection[str],
    key: str,
    secret: str,
) -> Names:
    """From lists, as a configuration has them."""
    return Names(
        frozenset(people), frozenset(services), frozenset(hosts), key.encode(), secret.encode()
    )
