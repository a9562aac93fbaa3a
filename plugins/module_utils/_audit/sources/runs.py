# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of Ansible: who changed the site, from which commit, and on which hosts something changed.

A run says that it begins and that it ends. One that begins and does not end was cut off, or failed
before its last play: what it came to is handed in by the next run from the same controller.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..event import FAILURE, SUCCESS, Event, Thing, seconds_of, stamp
from ..names import Names

SOURCE = "ansible"
PHASES = ("begun", "ended")


def events(content: bytes, names: Names) -> list[Event]:
    """What a record tells."""
    try:
        told = json.loads(content)
        return [_one(told, names)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def _one(told: Mapping[str, Any], names: Names) -> Event:
    phase = str(told["phase"])
    if phase not in PHASES:
        raise ValueError(phase)
    failed = [str(one) for one in told.get("failed") or []]
    changed = {str(k): int(v) for k, v in (told.get("changed") or {}).items()}
    details: dict[str, Any] = {
        "run": str(told["id"]),
        "phase": phase,
        "commit": str(told.get("commit", "")),
        "playbook": str(told.get("playbook", "")),
    }
    for name in ("limit", "tags", "check", "dirty"):
        if told.get(name):
            details[name] = told[name]
    if phase == "ended":
        details.update(failed=failed, complete=bool(told.get("complete", True)))
        if "changed" in told:
            details["changed"] = changed
    bad = phase == "ended" and (failed or not told.get("complete", True))
    return Event(
        time=stamp(seconds_of(str(told["time"]))),
        actor=names.controller(str(told["by"])),
        action="site.change",
        thing=Thing("site", str(told.get("site", ""))),
        host=str(told["by"]).partition("@")[2],
        source=SOURCE,
        outcome=FAILURE if bad else SUCCESS,
        details=details,
    )
