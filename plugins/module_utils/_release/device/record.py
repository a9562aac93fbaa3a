# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device remembers of a rollout of a model, in ``rollout.json`` beside its links."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import RegistryError
from .orders import ACTIVATED, NONE, PHASES

BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Clock(Protocol):
    """The times of a device."""

    def now(self) -> float:
        """Seconds since the epoch, which somebody may set."""

    def uptime(self) -> float:
        """Seconds since the start of the device, asleep or not, which nobody can set."""

    def boot(self) -> str:
        """What tells this start of the device from every other."""


class SystemClock:
    """The times of the device that this runs on."""

    def now(self) -> float:
        return time.time()

    def uptime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot(self) -> str:
        try:
            return Path(BOOT_ID).read_text(encoding="ascii").strip()
        except OSError:
            return ""


@dataclass(frozen=True)
class Record:
    """Where a model of this device is with a rollout.

    ``origin`` (``from`` in the file) is what was served before, ``before`` what the link
    ``previous`` led to then. ``deadline`` is in seconds since the epoch; ``until`` is the same in
    seconds since the start named by ``boot``, and ``seconds`` how long it was in all. ``reason``
    says why a release was reverted, or is about to be. ``growth`` is by how many bytes the model
    server grew when it loaded the release, -1 where nobody has seen it.
    """

    rollout: str = ""
    generation: int = 0
    phase: str = NONE
    digest: str = ""
    origin: str = ""
    before: str = ""
    deadline: float = 0.0
    boot: str = ""
    until: float = 0.0
    seconds: float = 0.0
    reason: str = ""
    growth: int = -1

    def to_json(self) -> dict[str, Any]:
        """Return it as it stands in the file."""
        value = dict(vars(self))
        value["from"] = value.pop("origin")
        return value

    def to_bytes(self) -> bytes:
        """Write it as ``read_record`` reads it."""
        return json.dumps(self.to_json(), sort_keys=True).encode() + b"\n"

    def expired(self, clock: Clock) -> bool:
        """Say whether an activated release should have been committed by now.

        Since the same start of the device the clock that nobody can set decides, so setting the
        time moves no deadline. After a restart that clock tells nothing of what came before it:
        the deadline has passed where the time of day says so, and at the latest when the device
        has been up for as long as the whole deadline was; a device that forgets the time when it
        is switched off still reverts.
        """
        if self.phase != ACTIVATED:
            return False
        if self.deadline <= 0:
            return True
        if self.boot == clock.boot():
            return clock.uptime() >= self.until
        return clock.now() >= self.deadline or clock.uptime() >= self.seconds


def read_record(path: Path) -> Record:
    """Read it. A file that is not there is a model that had no rollout here."""
    try:
        value: Any = json.loads(path.read_bytes())
        value["origin"] = value.pop("from")
        fields = {}
        for name, kind in Record.__annotations__.items():
            wanted: Any = {"int": int, "float": (int, float)}.get(kind, str)
            if not isinstance(value[name], wanted) or isinstance(value[name], bool):
                raise TypeError(f"{name} has another form")
            fields[name] = value[name]
        if fields["phase"] not in PHASES:
            raise ValueError("the phase is none that is known")
        return Record(**fields)
    except FileNotFoundError:
        return Record()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(
            f"{path} cannot be read: {type(error).__name__}: {error}. So it is not known where "
            "this device is with a rollout; look at what it serves, remove the file and order "
            "the step stage again."
        ) from None
