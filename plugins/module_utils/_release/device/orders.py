# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device is told in a staged rollout, and what it answers.

The same words as ``_rollout.shapes`` has; a test holds the two together. They stand here again
because this package alone travels to devices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import MistakenError, RegistryError
from ..oci import check_digest, shown

PASS, FAIL, MISSING, LEFT_OUT = "PASS", "FAIL", "MISSING", "LEFT_OUT"
STAGE, ACTIVATE, COMMIT, REVERT, LOOK = "stage", "activate", "commit", "revert", "look"
STEPS = (STAGE, ACTIVATE, COMMIT, REVERT, LOOK)
NONE, STAGED, ACTIVATED, COMMITTED, REVERTED = PHASES = (
    "none",
    "staged",
    "activated",
    "committed",
    "reverted",
)
LIMITS = ("memory_mib", "p95_ms", "p99_ms", "golden_requests")
LEAST_RATE = 32 * 1024
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ROLLOUT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")


@dataclass(frozen=True)
class Order:
    """What one device is told to do with one model."""

    step: str
    rollout: str
    generation: int
    model: str
    digest: str
    deadline: float = 0.0
    limits: Mapping[str, float] = field(default_factory=dict)
    rate: int = 0
    rollback: bool = False
    counter: int = 0
    size: int = 0

    def check_release(self, counter: int, size: int) -> None:
        """Refuse a release whose own signature says something else than the order did.

        Where the order came in a signed channel document it says the counter of the release's
        signature and the bytes that its manifest comes to; 0 is not said.
        """
        if self.counter and counter != self.counter:
            raise MistakenError(
                f"The release {self.digest} is signed with the counter {counter}, the order says "
                f"{self.counter}."
            )
        if self.size and size > self.size:
            raise MistakenError(
                f"The release {self.digest} has {size} bytes, the order allows {self.size}."
            )

    def check(self) -> None:
        """Refuse what nobody can have meant."""
        if self.step not in STEPS:
            raise RegistryError(
                f"Found the step {shown(self.step)}, wanted one of {', '.join(STEPS)}."
            )
        if not _ROLLOUT.fullmatch(self.rollout):
            raise RegistryError(
                f"Found {shown(self.rollout)}, wanted the name of a rollout: letters, digits, "
                "dots, colons, dashes and underscores."
            )
        if not _MODEL.fullmatch(self.model):
            raise RegistryError(
                f"Found {shown(self.model)}, wanted the name of a model: letters, digits, dots, "
                "dashes and underscores."
            )
        if self.generation < 0:
            raise RegistryError(
                f"Found the generation {self.generation}, wanted a whole number from 0."
            )
        if self.step != LOOK or self.digest:
            check_digest(self.digest)
        if self.step == ACTIVATE and not 0 < self.deadline <= 30 * 86400:
            raise RegistryError(
                f"Found the deadline {self.deadline:g}, wanted the seconds after which a release "
                "that was not committed is reverted: above 0, at most 30 days."
            )
        if self.rate and self.rate < LEAST_RATE:
            raise RegistryError(
                f"Found the rate {self.rate}, wanted 0 for no cap or at least {LEAST_RATE} bytes "
                "a second; slower transfers are taken for broken ones."
            )
        unknown = sorted(set(self.limits) - set(LIMITS))
        if unknown:
            raise RegistryError(f"The limit {shown(unknown[0])} is not one of {', '.join(LIMITS)}.")


@dataclass(frozen=True)
class Gate:
    """The verdict of one gate: numbers found and wanted, and one sentence for people."""

    name: str
    verdict: str
    said: str
    found: Mapping[str, float] = field(default_factory=dict)
    wanted: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What came of an order on this device."""

    host: str
    step: str
    reached: bool
    phase: str = NONE
    served: str = ""
    gates: tuple[Gate, ...] = ()
    refused: str = ""
    failure: str = ""
    moved: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        value = asdict(self)
        value["gates"] = list(value["gates"])
        return value
