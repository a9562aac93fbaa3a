# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How often a login was refused, by account, as Prometheus reads it.

Names that nobody has count as one: whoever makes them up adds no series.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping

from .event import PERSON, Actor, Event
from .names import Names

NOBODY = "unknown"
NAME = "mlops_logins_denied_total"


def accounts(names: Names) -> list[str]:
    """Every account that there is, as it is written down."""
    people = [
        names.hide(Event("", Actor(PERSON, name), "login.denied")).actor.name
        for name in names.people
    ]
    return sorted([*people, *names.services])


def add(counts: MutableMapping[str, int], events: Iterable[Event], names: Names) -> None:
    """Count the refusals among new events."""
    for event in events:
        if event.action == "login.denied":
            name = names.hide(event).actor.name or NOBODY
            counts[name] = counts.get(name, 0) + int(event.details.get("count", 1))


def page(counts: Mapping[str, int], names: Names) -> str:
    """The text format; who was never refused has a series too, as only then the first is seen."""
    rows = [
        f'{NAME}{{account="{name}"}} {counts.get(name, 0)}\n' for name in [*accounts(names), NOBODY]
    ]
    head = f"# HELP {NAME} Logins at the gateway that were refused, by account.\n"
    return f"{head}# TYPE {NAME} counter\n" + "".join(rows)
