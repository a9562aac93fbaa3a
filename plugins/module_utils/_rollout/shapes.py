# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of a rollout, as types: what is ordered, answered, seen, judged and how it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Verdicts of a gate. Only PASS advances a ring. INCONCLUSIVE bakes longer, up to the limit of the
# ring, then pauses. MISSING is no data: it pauses. LEFT_OUT was declared (waived, or there is no
# control ring yet): it is shown and judges nothing.
VERDICTS = ("PASS", "FAIL", "INCONCLUSIVE", "MISSING", "LEFT_OUT")
PASS, FAIL, INCONCLUSIVE, MISSING, LEFT_OUT = VERDICTS

# Gates in order of cost. The first four are judged on the device itself, the others over a ring.
ON_DEVICE = ("signature", "load", "golden", "speed")
OVER_RING = ("answers", "latency", "errors", "shift", "queries")

# What a device can be told to do, one module call each.
STAGE = "stage"  # fetch and verify beside what is served
ACTIVATE = "activate"  # arm the commit deadline, switch, judge by the local gates
COMMIT = "commit"  # the ring passed: disarm the deadline
REVERT = "revert"  # back to the recorded previous release
LOOK = "look"  # say what is; changes nothing
STEPS = (STAGE, ACTIVATE, COMMIT, REVERT, LOOK)

# Where a device is with a rollout, as its own state file says.
PHASES = ("none", "staged", "activated", "committed", "reverted")

# How a rollout ends, and the exit code of the playbook (Ansible itself uses 1 to 8, 99, 250).
COMPLETED = "COMPLETED"
ROLLED_BACK = "ROLLED_BACK"
ROLLED_BACK_PARTIAL = "ROLLED_BACK_PARTIAL"
PAUSED = "PAUSED"
PARTIAL = "PARTIAL"  # completed where devices could be reached; deferred ones are to be caught up
ABORTED = "ABORTED"  # stopped by a person; devices committed so far stay as they are
EXIT_CODES: Mapping[str, int] = {
    COMPLETED: 0,
    ROLLED_BACK: 10,
    ROLLED_BACK_PARTIAL: 10,
    PAUSED: 11,
    ABORTED: 11,
    PARTIAL: 12,
}


@dataclass(frozen=True)
class Order:
    """What one device is told to do.

    ``generation`` is the fencing token of the controller: a device refuses a lower one than it has
    seen. ``deadline`` is the number of seconds after which an activated release that was not
    committed is reverted by the device itself. ``limits`` are those of the local gates:
    ``memory_mib``, ``p95_ms``, ``p99_ms``, ``golden_requests``; ``rate`` caps a download in bytes
    a second.
    """

    step: str
    rollout: str
    generation: int
    model: str
    digest: str
    deadline: float = 0.0
    limits: Mapping[str, float] = field(default_factory=dict)
    rate: int = 0
    rollback: bool = False


@dataclass(frozen=True)
class Gate:
    """The verdict of one gate: numbers found and wanted, and one sentence for people.

    ``found`` and ``wanted`` are plain numbers by name (seconds, bytes, counts or shares from 0 to
    1; the unit is in the name), so that a page can show them.
    """

    name: str
    verdict: str
    said: str
    found: Mapping[str, float] = field(default_factory=dict)
    wanted: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What came of an order on one device.

    ``reached`` is false where the device could not be asked at all. ``refused`` is the sentence of
    an operator or of the device's own safety logic (lock file): reported, never forced. ``failure``
    is the sentence of what went wrong.
    """

    host: str
    step: str
    reached: bool
    phase: str = "none"
    served: str = ""
    gates: tuple[Gate, ...] = ()
    refused: str = ""
    failure: str = ""
    moved: int = 0  # bytes transferred


@dataclass(frozen=True)
class Seen:
    """What was seen of one device's serving since it activated (or, in the control ring, since the
    ring under judgement did): counters, never rates.

    ``answered`` says whether the device answered a request from ``digest``; None where it was not
    asked. ``latency`` and ``predictions`` are histograms: upper bound in seconds, or bucket of the
    prediction, to the number of requests (not cumulative). ``invalid`` are requests that the server
    refused as not fitting the model; they are not among ``requests``.
    """

    host: str
    digest: str
    answered: bool | None
    requests: int = 0
    errors: int = 0
    latency: Mapping[str, int] = field(default_factory=dict)
    predictions: Mapping[str, int] = field(default_factory=dict)
    at: float = 0.0
    invalid: int = 0


@dataclass(frozen=True)
class Ring:
    """An ordered share of the fleet. ``hosts`` is frozen when the rollout starts."""

    name: str
    hosts: tuple[str, ...]


@dataclass(frozen=True)
class Look:
    """Everything a gate over a ring judges by, at one look.

    ``ring`` are the devices of the ring under judgement, ``control`` those still on the release
    before; ``looks`` counts how often this ring was looked at before; ``seconds`` is how long the
    ring has been baking. ``queries`` are the answers of the site's own PromQL gates by name, None
    where there was no answer.
    """

    ring: tuple[Seen, ...]
    control: tuple[Seen, ...]
    looks: int
    seconds: float
    queries: Mapping[str, float | None] = field(default_factory=dict)
