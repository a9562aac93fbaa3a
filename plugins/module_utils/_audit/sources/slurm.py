# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slurm's accounting: who submitted which job, and how it ended.

Read by ``sacct --parsable2 --noheader --allocations`` with ``FIELDS``. A job is told when it was
submitted and when it has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

from ..event import FAILURE, SUCCESS, Event, Thing, seconds_of, stamp
from ..names import Names

SOURCE = "slurm"
FIELDS = ("JobIDRaw", "User", "Account", "JobName", "State", "Submit", "End", "AllocTRES")
_RUNNING = ("PENDING", "RUNNING", "SUSPENDED", "REQUEUED", "RESIZING", "COMPLETING")
REMEMBERED = 50_000


def events(
    lines: Iterable[str], names: Names, host: str, memory: MutableMapping[str, Any]
) -> list[Event]:
    """Jobs that are new, or have ended, since the last look."""
    known: dict[str, str] = memory.setdefault("jobs", {})
    found = []
    for line in lines:
        fields = line.rstrip("\n").split("|")
        if len(fields) != len(FIELDS) or not fields[0].isdigit():
            continue
        job, user, account, name, state, submit, end, resources = fields
        word = state.split(" ")[0]
        thing = Thing("job", job)
        details = {"team": account, "name": name, "resources": resources}
        if job not in known:
            known[job] = "submitted"
            when = stamp(seconds_of(submit))
            found.append(
                Event(when, names.account(user), "job.submit", thing, host, SOURCE, details=details)
            )
        if known[job] != "ended" and word not in _RUNNING and end not in ("Unknown", "None", ""):
            known[job] = "ended"
            outcome = SUCCESS if word == "COMPLETED" else FAILURE
            told = {**details, "state": word}
            when = stamp(seconds_of(end))
            found.append(
                Event(when, names.account(user), "job.end", thing, host, SOURCE, outcome, told)
            )
    while len(known) > REMEMBERED:
        del known[next(iter(known))]
    return sorted(found, key=lambda one: one.time)
