# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device remembers of a model between two runs, in ``state.json`` beside its links."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_FAILED = 16


@dataclass(frozen=True)
class Memory:
    """What is remembered of one model.

    ``highest`` is the largest release counter that was ever served or about to be; ``failed`` are
    releases that could not be served; ``reason`` says why the link ``refused`` is there, and
    ``unreadable`` why nothing is remembered although something should be.
    """

    highest: int = 0
    failed: tuple[str, ...] = ()
    reason: str = ""
    unreadable: str = ""

    def to_bytes(self) -> bytes:
        """Write it as ``read_memory`` reads it."""
        value = {"highest": self.highest, "failed": list(self.failed), "reason": self.reason}
        return json.dumps(value, sort_keys=True).encode() + b"\n"


def with_failed(failed: Sequence[str], digest: str) -> tuple[str, ...]:
    """Return the releases that failed, with one more; the newest stay."""
    return (*(one for one in failed if one != digest), digest)[-MOST_FAILED:]


def without(failed: Sequence[str], digest: str) -> tuple[str, ...]:
    """Return the releases that failed, without one."""
    return tuple(one for one in failed if one != digest)


def read_memory(path: Path) -> Memory:
    """Read it. A file that is not there is a model that is new here."""
    try:
        value: Any = json.loads(path.read_bytes())
        highest, failed, reason = value["highest"], value["failed"], value["reason"]
        if isinstance(highest, bool) or not isinstance(highest, int) or highest < 0:
            raise ValueError("highest is no counter")
        if not isinstance(failed, list) or not isinstance(reason, str):
            raise TypeError("failed or reason has another form")
        return Memory(highest, tuple(str(one) for one in failed), reason)
    except FileNotFoundError:
        return Memory()
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Memory(unreadable=f"{path} cannot be read: {type(error).__name__}: {error}")
