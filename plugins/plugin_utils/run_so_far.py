# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this run of Ansible has come to so far, for the event stream (role audit_log).

The callback ``runs`` counts in the process of the playbook; an action sees the counts because its
process is a copy of that one, made when its task began.
"""

from __future__ import annotations

import getpass
import json
import secrets
import socket
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

BEGUN, ENDED = "begun", "ended"


@dataclass
class Run:
    """One run of ``ansible-playbook``."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    counted: bool = False  # whether the callback is at work: without it nobody knows what changed
    playbook: str = ""
    changed: Counter[str] = field(default_factory=Counter)
    failed: set[str] = field(default_factory=set)
    told: bool = False  # whether the control host has been told that it begins
    # Whether anything was changed, or failed and perhaps has changed something.
    touched: bool = False
    # What hosts have said of the tasks to come (settled.py), and the key of its digests.
    settled: dict[str, Mapping[str, dict[str, Any]]] = field(default_factory=dict)
    key: str = field(default_factory=lambda: secrets.token_hex(16))

    def record(
        self, phase: str, now: float, complete: bool = True, more: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """As the event stream takes it."""
        moment = datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        told: dict[str, Any] = {
            "id": self.id,
            "time": moment,
            "phase": phase,
            "by": f"{getpass.getuser()}@{socket.gethostname()}",
            "playbook": self.playbook,
            **commit_of(Path(__file__).resolve().parents[2]),
            **(more or {}),
        }
        if phase == ENDED:
            told["complete"] = complete
            told["failed"] = sorted(self.failed)
            if self.counted:
                told["changed"] = dict(sorted(self.changed.items()))
        return told


def commit_of(directory: Path) -> dict[str, Any]:
    """The commit of the collection and whether it was changed since; nothing where it is none."""
    try:
        head = _git(directory, "rev-parse", "HEAD")
        dirty = bool(_git(directory, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": head, **({"dirty": True} if dirty else {})}


def _git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(directory), *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    )
    return done.stdout.strip()


def keep(record: dict[str, Any], directory: Path) -> None:
    """Leave a record for the next run, which hands it in."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"{record['id']}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record), encoding="utf-8")
    part.chmod(0o600)
    part.replace(path)


def kept(directory: Path, most: int = 100) -> list[tuple[Path, dict[str, Any]]]:
    """What earlier runs have left, oldest first."""
    found = []
    for path in sorted(directory.glob("*.json"), key=lambda one: one.stat().st_mtime)[:most]:
        try:
            found.append((path, json.loads(path.read_text(encoding="utf-8"))))
        except ValueError:
            continue
    return found


def now() -> float:
    """The time, in one place."""
    return time.time()


THIS = Run()
