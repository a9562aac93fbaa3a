# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How one model is served: as its release says, and else as the server was started.

What a release says stands in the part ``serving`` of its ``config.json``, so that it is signed,
comes and goes with the model. The whole server (its memory, its clients, how much it computes at a
time) is no matter of one model. Needs nothing but Python: the pipeline reads it as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

SECTION = "serving"
# Of each key whether it is a whole number, the least and the most.
BOUNDS: Mapping[str, tuple[bool, float, float]] = {
    "threads": (True, 1, 64),
    "request_max_mib": (True, 1, 1024),
    "drift_window_seconds": (False, 1, 30 * 86400),
    "drift_window_requests": (True, 1, 10_000_000),
    "drift_false_alarms_per_month": (False, 0, 1000),
    "drift_features": (True, 0, 1000),
    "truth_requests": (True, 0, 10_000_000),
}
TRUTH_BYTES = 315
"""Memory of a prediction that waits for its truth (ten thousand take 3 MiB)."""


def number(name: str, value: Any) -> float:
    """One value within its bounds; a ValueError names the key, what it is and what it may be."""
    whole, least, most = BOUNDS[name]
    fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not fits or not math.isfinite(value) or not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        raise ValueError(
            f"{SECTION}.{name} is {str(value)[:60]!r}, wanted {kind} from {least:g} to {most:g}"
        )
    return int(value) if whole else float(value)


def read(config: Mapping[str, Any]) -> dict[str, float]:
    """What a release's ``config.json`` says of serving; a ValueError says what is wrong with it."""
    said = config.get(SECTION)
    if said is None:
        return {}
    if not isinstance(said, Mapping):
        raise ValueError(f"{SECTION} is {str(said)[:60]!r}, wanted a mapping")
    for name in said:
        if name not in BOUNDS:
            raise ValueError(
                f"{SECTION}.{str(name)[:60]} is not known; known are {', '.join(BOUNDS)}"
            )
    return {name: number(name, value) for name, value in said.items()}


@dataclass(frozen=True)
class Settings:
    """How a model is served."""

    threads: int = 1
    request_max_mib: int = 8
    drift_window_seconds: float = 3600.0
    drift_window_requests: int = 500
    drift_false_alarms_per_month: float = 0.1
    drift_features: int = 5
    truth_requests: int = 0

    def of(self, config: Mapping[str, Any]) -> Settings:
        """The same with what a release says. Requests that the server refuses no model can take."""
        found: dict[str, Any] = dict(read(config))
        most = found.get("request_max_mib", self.request_max_mib)
        return replace(self, **{**found, "request_max_mib": min(most, self.request_max_mib)})

    def as_dict(self) -> dict[str, float]:
        """For those who ask."""
        return asdict(self)
