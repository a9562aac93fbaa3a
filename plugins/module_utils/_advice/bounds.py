# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the variables of an advice cannot be meant, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# By variable without ``advise_``: the least, the most, and whether the least is too little itself.
BOUNDS: Mapping[str, tuple[float, float, bool]] = {
    "days": (1, 3650, False),
    "least_days": (2, 3650, False),
    "ahead_days": (1, 365, False),
    "chance": (0, 0.5, True),
    "exceeded": (0, 0.5, False),
}


def problem(asked: Mapping[str, Any]) -> str:
    """What is wrong with the first variable of which something is; "" if nothing is."""
    for name, (least, most, above) in BOUNDS.items():
        value = asked[name]
        inside = math.isfinite(value) and least <= value <= most and not (above and value == least)
        if not inside:
            wanted = f"above {least:g} and at most {most:g}" if above else f"{least:g} to {most:g}"
            return f"advise_{name} is {value:g}; wanted is a number, {wanted}"
    if asked["least_days"] > asked["days"]:
        return (
            f"advise_least_days is {asked['least_days']}, and only the last {asked['days']} days"
            " are looked at (advise_days); raise one or lower the other"
        )
    return ""
