# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every activated device answers requests from the new release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..shapes import FAIL, INCONCLUSIVE, MISSING, PASS, Gate, Look
from . import evalues
from .settings import GateSettings

LOOKED = "looked"
SILENT = "silent:"


def some(names: Sequence[str], most: int = 3) -> str:
    """A few names for a sentence."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def heard_of(look: Look, memory: Mapping[str, float]) -> dict[str, float]:
    """Of devices that do not answer now: at which second of the ring they last did.

    A device that was never heard is silent since the ring began; one that answered at the look
    before, since that look. The journal carries these, so that a controller that resumes knows.
    """
    before = memory.get(LOOKED, 0.0) if look.looks else 0.0
    return {
        one.host: memory.get(SILENT + one.host, before) for one in look.ring if not one.answered
    }


def remembered(look: Look, memory: Mapping[str, float]) -> dict[str, float]:
    """What the next look has to know of who answered when."""
    kept = {SILENT + host: since for host, since in heard_of(look, memory).items()}
    return {LOOKED: look.seconds, **kept}


def lost(look: Look, settings: GateSettings, memory: Mapping[str, float]) -> list[str]:
    """Devices that were asked and have been silent for longer than allowed."""
    since = heard_of(look, memory)
    return [
        one.host
        for one in look.ring
        if one.answered is False and look.seconds - since[one.host] >= settings.silent_seconds
    ]


def judge(look: Look, settings: GateSettings, memory: Mapping[str, float]) -> tuple[Gate, float]:
    """Judge who answers, and the evidence against the tolerable share of failed devices.

    Where a share of failed devices is tolerable, it is judged over all devices of the ring: those
    not decided yet count as good, so that the evidence only grows to what it is in the end.
    """
    devices, gone = len(look.ring), lost(look, settings, memory)
    known = set(gone)
    waiting = [one.host for one in look.ring if not one.answered and one.host not in known]
    tolerated = settings.device_failure_rate_max
    found = {
        "devices": float(devices),
        "answering": float(devices - len(gone) - len(waiting)),
        "silent": float(len(gone)),
    }
    wanted = {"silent_share": tolerated, "silent_seconds": settings.silent_seconds}
    evidence = evalues.above(len(gone), devices, tolerated) if tolerated and devices else 0.0

    def gate(verdict: str, said: str) -> tuple[Gate, float]:
        return Gate("answers", verdict, said, found, wanted), evidence

    if not devices:
        return gate(MISSING, "No device of this ring was looked at.")
    everyone = (*look.ring, *look.control)
    if look.control and gone and not any(one.answered for one in everyone):
        return gate(
            MISSING,
            "No device answers, those on the release before neither: the way to them is broken.",
        )
    if gone and not tolerated:
        return gate(
            FAIL,
            f"{len(gone)} of {devices} devices have not answered from the new release for "
            f"{settings.silent_seconds:g} s: {some(gone)}.",
        )
    if max(evidence, memory.get("answers", 0.0)) >= settings.fail_bar:
        return gate(
            FAIL,
            f"{len(gone)} of {devices} devices do not answer from the new release, more than the "
            f"tolerable {tolerated:.2%} can explain: {some(gone)}.",
        )
    return gate(*_open(look, gone, waiting, tolerated))


def _open(
    look: Look, gone: Sequence[str], waiting: Sequence[str], tolerated: float
) -> tuple[str, str]:
    devices = len(look.ring)
    unasked = [one.host for one in look.ring if one.answered is None]
    if len(unasked) == devices:
        return MISSING, f"None of the {devices} devices has been asked anything yet."
    if waiting:
        return (
            INCONCLUSIVE,
            f"{devices - len(gone) - len(waiting)} of {devices} devices answer from the new "
            f"release; not heard of yet: {some(waiting)}.",
        )
    if len(gone) > tolerated * devices:
        return (
            INCONCLUSIVE,
            f"{len(gone)} of {devices} devices do not answer, more than {tolerated:.2%} of them, "
            f"but too few to tell it from chance: {some(gone)}.",
        )
    if gone:
        return (
            PASS,
            f"{devices - len(gone)} of {devices} devices answer from the new release; "
            f"{tolerated:.2%} may fail: {some(gone)}.",
        )
    return PASS, f"All {devices} devices answer from the new release."
