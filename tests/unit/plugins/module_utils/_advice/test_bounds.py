# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an advice is asked for, before Prometheus is."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._advice.bounds import problem

USUAL: dict[str, Any] = {
    "days": 28,
    "least_days": 14,
    "ahead_days": 14,
    "chance": 0.01,
    "exceeded": 0.01,
}


@pytest.mark.parametrize("more", [{}, {"days": 14}, {"exceeded": 0.0}, {"chance": 0.5}])
def test_what_can_be_meant(more: dict[str, Any]) -> None:
    assert problem({**USUAL, **more}) == ""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"days": 0}, "advise_days is 0; wanted is a number, 1 to 3650"),
        ({"days": -7}, "advise_days is -7"),
        ({"days": 7}, "advise_least_days is 14, and only the last 7 days are looked at"),
        ({"least_days": 0}, "advise_least_days is 0"),
        ({"ahead_days": 0}, "advise_ahead_days is 0"),
        ({"chance": 0.0}, "advise_chance is 0; wanted is a number, above 0 and at most 0.5"),
        ({"chance": 2.0}, "advise_chance is 2"),
        ({"chance": float("nan")}, "advise_chance is nan"),
        ({"exceeded": -0.1}, "advise_exceeded is -0.1"),
    ],
)
def test_what_cannot(more: dict[str, Any], said: str) -> None:
    assert problem({**USUAL, **more}).startswith(said)
