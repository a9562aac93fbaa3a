# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What plans are made of: what is noted, done and told, in this order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .ledger import Ledger

SHOWN_BYTES = 100_000


@dataclass(frozen=True)
class Run:
    """Run a command; ``doing`` completes "Could not …"."""

    argv: tuple[str, ...]
    doing: str


@dataclass(frozen=True)
class Step:
    """What is noted first, what is done then, and how that is told."""

    ledger: Ledger
    act: object = None
    said: str = ""
    diff: Mapping[str, str] | None = None


def report(steps: Iterable[Step]) -> dict[str, Any]:
    """What a module answers about steps, taken or not."""
    changes = [step.said for step in steps if step.said]
    diff = [dict(step.diff) for step in steps if step.diff is not None]
    return {"changed": bool(changes), "changes": changes, "diff": diff}


def difference(path: str, before: bytes, after: bytes, sensitive: bool) -> dict[str, str]:
    """The change of a file's content as Ansible shows it."""
    header = {"before_header": path, "after_header": path}
    if sensitive:
        return {**header, "before": "", "after": "content changed\n"}
    if max(len(before), len(after)) > SHOWN_BYTES or b"\0" in before + after:
        return {**header, "before": f"{len(before)} bytes\n", "after": f"{len(after)} bytes\n"}
    return {
        **header,
        "before": before.decode("utf-8", "replace"),
        "after": after.decode("utf-8", "replace"),
    }
