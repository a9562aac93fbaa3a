# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the platform created on a host, and for whom.

The ledger is a value: every operation returns a new one. An entry is written before the thing is
made, so a killed run leaves at most an entry whose thing does not exist yet; the next run makes it.
What is not in the ledger existed before us and is never changed or removed.
"""

from __future__ import annotations

import json
import os.path
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import HostError

VERSION = 1
STATE_DIR = "/var/lib/mlops"  # where the ledger is

# Every kind of thing, in the order in which things are taken away.
KINDS = (
    "unit",  # a systemd unit file or drop-in that we wrote
    "enabled",  # a packaged unit that we enabled
    "rested",  # a unit of a package that came with us, which we stopped and disabled once
    "app",  # a Python application
    "file",  # a file or symbolic link
    "hold",  # a package that we keep from being upgraded, whoever installed it
    "package",  # a Debian package that our transaction installed
    "trace",  # a path that a package's scripts or daemon leave behind after purge
    "directory",
    "user",
    "group",
)

Key = tuple[str, str]


@dataclass(frozen=True)
class Thing:
    """One thing on the host that would not exist without us."""

    kind: str
    name: str
    owners: tuple[str, ...]
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return (self.kind, self.name)


@dataclass(frozen=True)
class Ledger:
    """Things by key, and the package transaction that was under way when we were last seen."""

    things: Mapping[Key, Thing] = field(default_factory=dict)
    transaction: Mapping[str, Any] | None = None
    # The site that the host belongs to, and what it was made with; gone with the last thing.
    site: Mapping[str, Any] | None = None

    def __iter__(self) -> Iterator[Thing]:
        return iter(self.things.values())

    def get(self, kind: str, name: str) -> Thing | None:
        return self.things.get((kind, name))

    def refusal_of(self, site: str | None) -> str:
        """Why a site has nothing to do here; empty if the host is its own, or nobody's.

        An empty ``site`` is a run that does not know which one it is for.
        """
        own = dict(self.site or {})
        if site is None or own.get("id") in (None, site):
            return ""
        whose = f"the site {own.get('name') or 'of no name'} ({own['id']})"
        if site:
            return (
                f"This host belongs to {whose}, not to that of this run ({site}); nothing was "
                "changed. Take it out of this inventory, or remove the other site from it first, "
                "with its own inventory."
            )
        return (
            f"This host belongs to {whose}, and this run does not know which site it is for; "
            "nothing was changed. If it is that one, run with its inventory and the .state beside "
            f"it, or set mlops_site_id: {own['id']}."
        )

    def has(self, kind: str, name: str) -> bool:
        return (kind, name) in self.things

    def of(self, owner: str) -> tuple[Thing, ...]:
        return tuple(thing for thing in self if owner in thing.owners)

    def names(self, kind: str) -> frozenset[str]:
        return frozenset(thing.name for thing in self if thing.kind == kind)

    def claim(self, owner: str, kind: str, name: str, **data: Any) -> Ledger:
        """Note that ``owner`` wants the thing; other owners stay, ``data`` is merged."""
        if kind not in KINDS:
            raise ValueError(f"{kind} is not a kind of thing")
        old = self.get(kind, name)
        if old is None:
            return self._with(Thing(kind, name, (owner,), dict(data)))
        owners = old.owners if owner in old.owners else tuple(sorted((*old.owners, owner)))
        return self._with(replace(old, owners=owners, data={**old.data, **data}))

    def _with(self, thing: Thing) -> Ledger:
        return replace(self, things={**self.things, thing.key: thing})

    def release(self, owner: str, things: Iterable[Thing]) -> Ledger:
        """``owner`` no longer wants these things, which somebody else still does."""
        kept = dict(self.things)
        for thing in things:
            owners = tuple(name for name in thing.owners if name != owner)
            if owners:
                kept[thing.key] = replace(thing, owners=owners)
            else:
                kept.pop(thing.key, None)
        return replace(self, things=kept)

    def drop(self, *keys: Key) -> Ledger:
        """Forget things, because they are gone."""
        return replace(
            self, things={key: thing for key, thing in self.things.items() if key not in keys}
        )

    def owners_of_all(self, keys: Iterable[Key]) -> list[str] | None:
        """Who wants every one of these that is ours; none where none of them is."""
        wanted_by = [set(self.things[key].owners) for key in keys if key in self.things]
        return sorted(set.intersection(*wanted_by)) if wanted_by else None

    def split(self, owner: str) -> tuple[tuple[Thing, ...], tuple[Thing, ...]]:
        """The owner's things: those that go with it, and those that another owner still wants."""
        mine = self.of(owner)
        return (
            tuple(thing for thing in mine if thing.owners == (owner,)),
            tuple(thing for thing in mine if thing.owners != (owner,)),
        )

    def covers(self, path: str) -> bool:
        """Whether the path is ours: recorded, or inside something of ours that goes as a whole."""
        for thing in self:
            if thing.kind in ("file", "unit") and thing.data.get("path", thing.name) == path:
                return True
            whole = thing.kind == "trace" or (
                thing.kind == "directory" and thing.data.get("whole", False)
            )
            if whole and inside(path, thing.name):
                return True
            if thing.kind == "directory" and thing.name == path:
                return True
        return False

    @property
    def empty(self) -> bool:
        return self.bare and self.site is None

    @property
    def bare(self) -> bool:
        """Whether nothing on the host is ours, although it may belong to a site."""
        return not self.things and self.transaction is None

    def after(self, before: Ledger) -> Ledger:
        """This ledger as it follows on ``before``: the site goes with the last thing."""
        return replace(self, site=None) if self.bare and not before.bare else self


def inside(path: str, ancestor: str) -> bool:
    """Whether ``path`` is ``ancestor`` or below it."""
    return path == ancestor or path.startswith(ancestor.rstrip("/") + "/")


def missing_parents(path: str, exists: Iterable[str]) -> tuple[str, ...]:
    """The directories above ``path`` that are not among ``exists``, outermost first."""
    known = frozenset(exists)
    found = []
    parent = os.path.dirname(path)
    while parent not in known and parent not in ("", "/"):
        found.append(parent)
        parent = os.path.dirname(parent)
    return tuple(reversed(found))


def dump(ledger: Ledger) -> str:
    """The text of the ledger file: stable, so that the same ledger gives the same bytes."""
    things = [
        {
            "kind": t.kind,
            "name": t.name,
            "owners": list(t.owners),
            **({"data": t.data} if t.data else {}),
        }
        for t in sorted(ledger, key=lambda t: (KINDS.index(t.kind), t.name))
    ]
    document: dict[str, Any] = {"version": VERSION, "things": things}
    if ledger.transaction is not None:
        document["transaction"] = ledger.transaction
    if ledger.site is not None:
        document["site"] = ledger.site
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def load(text: str, path: str) -> Ledger:
    """The ledger in ``text``; ``path`` is only for the sentence when it cannot be read."""
    try:
        document = json.loads(text)
        if document["version"] != VERSION:
            raise HostError(
                f"{path} has version {document['version']}, this collection reads version "
                f"{VERSION}; use the collection that wrote it."
            )
        things = [
            Thing(row["kind"], row["name"], tuple(row["owners"]), row.get("data", {}))
            for row in document["things"]
        ]
        transaction, site = document.get("transaction"), document.get("site")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HostError(
            f"{path} is damaged ({error!r}), so it is not known what the platform created on this "
            "host; restore the file from a backup."
        ) from error
    return Ledger({thing.key: thing for thing in things}, transaction, site)
