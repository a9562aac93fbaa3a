# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host is restarted for the sake of its driver now, and what is said if it is not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WANTING = ("gpu_driver.skew", "gpu_driver.pending", "gpu_driver.nouveau")
"""Findings that a restart ends."""
GUARD = "gpu_driver.next_boot"
WINDOW = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$")


@dataclass(frozen=True)
class Restart:
    """``act``: restart it now. ``said``: a sentence; empty where no restart is wanted."""

    act: bool = False
    said: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"act": self.act, "said": self.said}


def within(window: str, clock: str) -> bool:
    """Whether a time of day, ``HH:MM``, is in a window such as ``22:00-05:00``.

    The first minute is in it and the last is not. An empty window is all day, one that begins
    where it ends is no time at all, and so is one that cannot be read.
    """
    if not window:
        return True
    if not WINDOW.match(window):
        return False
    begin, _sign, end = window.partition("-")
    if begin <= end:
        return begin <= clock < end
    return clock >= begin or clock < end


def reasons(asked: Mapping[str, Any]) -> list[str]:
    """Why a host has to be restarted, each without an end of its sentence."""
    found = [str(row["found"]) for row in asked["findings"] if _stands(row, WANTING)]
    found += [str(said) for said in asked["missing"] if "gpu_driver_reboot" in str(said)]
    return found + (["the driver was just installed"] if asked["installed"] else [])


def decide(asked: Mapping[str, Any]) -> Restart:
    """What is done with a host.

    ``asked``: ``host``; ``findings`` of the driver; ``missing``, what cards did not take;
    ``installed``, packages of this run; ``container``, ``local`` (the host that Ansible runs on)
    and ``check``; ``reboot``, ``window`` and ``clock``; ``before``, hosts of this run that were to
    be restarted earlier and have failed since.
    """
    why = "; ".join(reasons(asked))
    if not why:
        return Restart()
    hindered = _hindered(asked)
    if hindered:
        return Restart(said=f"{asked['host']} has to be restarted ({why}) and is not: {hindered}.")
    if asked["check"]:
        return Restart(said=f"{asked['host']} would be restarted: {why}.")
    return Restart(True, f"{asked['host']} is restarted: {why}.")


def _hindered(asked: Mapping[str, Any]) -> str:
    if not asked["reboot"]:
        return "gpu_driver_reboot is false; restart it yourself, or set gpu_driver_reboot to true"
    if asked["container"]:
        return "it is a container; restart the machine that it is on"
    if asked["local"]:
        return "Ansible runs on it; restart it yourself when this run has ended"
    guards = [row for row in asked["findings"] if _stands(row, (GUARD,))]
    if guards:
        return f"{guards[0]['found']}; {guards[0]['remedy']}"
    if asked["before"]:
        names = ", ".join(asked["before"])
        return f"{names} failed before its turn; mend that, and run again"
    if not within(asked["window"], asked["clock"]):
        return (
            f"it is {asked['clock']}, and gpu_driver_reboot_window is {asked['window']}; run again"
            " then"
        )
    return ""


def _stands(row: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    return row["id"] in names and row["severity"] != "pass"
