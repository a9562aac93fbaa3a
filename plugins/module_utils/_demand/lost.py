# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that a person declared lost (``mlops_lost_hosts``): a run goes on without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .._findings.shape import ShapeError, each, shown, text
from .words import meant

PLACE = "mlops_lost_hosts"
CONTROL = "control"
# A site without the last host of one of these is none: what others need is on it.
NEEDED = ("metadata_db", "object_store", "scheduler", "accounting_db")


@dataclass(frozen=True)
class Mistake:
    """A host that cannot be declared lost, and why; what was wanted; what mends it."""

    found: str
    wanted: str
    remedy: str


@dataclass(frozen=True)
class Lost:
    """The hosts that a run leaves out, and what is wrong with the others that are named."""

    hosts: tuple[str, ...] = ()
    mistakes: tuple[Mistake, ...] = ()


def lost_hosts(value: object, groups: Mapping[str, Sequence[str]]) -> Lost:
    """What ``mlops_lost_hosts`` says, as a list or as words with commas between them."""
    if value is None:
        return Lost()
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        named = tuple(dict.fromkeys(each(value, text)))
    except ShapeError as error:
        return Lost(
            mistakes=(
                Mistake(f"{PLACE}: {error}", "a list of hosts of the inventory", f"mend {PLACE}"),
            )
        )
    everyone = tuple(groups.get("all") or ())
    refused: dict[str, Mistake] = {}
    for name in named:
        if name not in everyone:
            refused[name] = _unknown(name, everyone)
        elif name in (groups.get(CONTROL) or ()):
            refused[name] = _control(name)
    for group in NEEDED:
        members = tuple(groups.get(group) or ())
        if members and set(members) <= set(named):
            refused.update({name: _last(name, group) for name in members if name not in refused})
    return Lost(tuple(name for name in named if name not in refused), tuple(refused.values()))


def without(groups: Mapping[str, Sequence[str]], lost: Sequence[str]) -> Mapping[str, list[str]]:
    """The groups of the inventory with the hosts that are left."""
    return {
        group: [host for host in members if host not in lost] for group, members in groups.items()
    }


def _unknown(name: str, everyone: Sequence[str]) -> Mistake:
    return Mistake(
        f"{PLACE} names {shown(name)}, which is no host of the inventory"
        f"{meant(name, frozenset(everyone))}",
        "hosts of the inventory",
        f"mend {PLACE}; a host that is gone for good is taken out of the inventory instead",
    )


def _control(name: str) -> Mistake:
    return Mistake(
        f"{PLACE} names {name}, the host of the control plane",
        "hosts that carry work: the control plane is not replicated",
        f"take {name} out of {PLACE}; bring it back, or restore it on another host and put that "
        "into the group control",
    )


def _last(name: str, group: str) -> Mistake:
    return Mistake(
        f"{PLACE} names {name}, after which no host of the group {group} is left",
        f"a host of the group {group}, as others need it",
        f"take {name} out of {PLACE}, or put the host that took its place into {group}",
    )
