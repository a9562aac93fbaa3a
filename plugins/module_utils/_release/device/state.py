# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model of the device as it is, what has to happen until it is as wanted, and what was done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .serving import Served


@dataclass(frozen=True)
class State:
    """One model of the device as it is.

    ``refused`` is what was served and may not be served any longer, and ``reason`` why.
    """

    model: str
    current: str | None
    previous: str | None
    served: Served
    releases: tuple[str, ...]
    refused: str | None = None
    reason: str = ""
    highest: int = 0


@dataclass(frozen=True)
class Plan:
    """What has to happen until the wanted release is served."""

    pull: bool
    switch: bool
    reload: bool
    drop: tuple[str, ...] = field(default=())
    mend: str = ""

    @property
    def needed(self) -> bool:
        """Say whether anything changes."""
        return self.pull or self.switch or self.reload or bool(self.drop) or bool(self.mend)


@dataclass(frozen=True)
class Done:
    """What a run came to: the model before and after, what was done, bytes transferred."""

    before: State
    after: State
    done: Plan
    moved: int


def plan(
    state: State,
    wanted: str,
    activate: bool = True,
    surplus: tuple[str, ...] = (),
    damage: str = "",
) -> Plan:
    """Compare a model with what is wanted; ``damage`` says what is wrong with its files."""
    return Plan(
        pull=wanted not in state.releases,
        switch=activate and state.current != wanted,
        reload=activate and state.served.digest != wanted,
        drop=surplus,
        mend=damage,
    )


def describe(state: State) -> Mapping[str, Any]:
    """Return the state of a model as plain data."""
    return {
        "current": state.current,
        "previous": state.previous,
        "served": state.served.digest,
        "model_name": state.served.model_name or state.model or None,
        "model_version": state.served.model_version or None,
        "releases": list(state.releases),
        "refused": state.refused,
        "reason": state.reason,
        "counter": state.highest,
    }
