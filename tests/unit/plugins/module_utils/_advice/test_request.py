# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three answers about a request, each for its reason."""

from __future__ import annotations

import numpy as np
import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._advice.request import (
    ADVISE,
    CPU,
    KEEP,
    MEMORY,
    TOO_LITTLE,
    Settings,
    advise,
    rounded,
)
from ansible_collections.mlops.onprem.plugins.module_utils._advice.usage import (
    DAY,
    Usage,
    largest,
)

STEP = 600.0
EACH = round(DAY / STEP)


def usage(days: int, level: float, spread: float = 0.02, seed: int = 1) -> Usage:
    draw = np.random.default_rng(seed)
    return Usage(0.0, STEP, level * (1 + spread * draw.normal(size=days * EACH)))


def test_a_request_of_which_a_quarter_is_used_is_advised_down() -> None:
    answer = advise(MEMORY, usage(28, 1000.0), 4096.0, Settings())
    assert answer.verdict == ADVISE
    assert 1088 <= answer.value <= 1408
    assert answer.evidence.days == 28
    assert answer.evidence.used < answer.evidence.expected < answer.value


def test_a_request_that_is_exceeded_is_advised_up() -> None:
    answer = advise(CPU, usage(28, 4.0), 3.0, Settings())
    assert (answer.verdict, answer.value > 4.0) == (ADVISE, True)


@pytest.mark.parametrize(
    ("measured", "request_", "verdict", "why"),
    [
        (usage(13, 1000.0), 4096.0, TOO_LITTLE, "13 days were measured, 14 are needed"),
        (usage(28, 1000.0), 1200.0, KEEP, "it is right within what is worth a change"),
        (
            Usage(0.0, STEP, np.concatenate([usage(25, 500.0).values, usage(3, 1000.0).values])),
            4096.0,
            TOO_LITTLE,
            "it uses more since 3 days; 14 days of that are needed",
        ),
    ],
)
def test_no_advice_has_its_reason(measured: Usage, request_: float, verdict: str, why: str) -> None:
    answer = advise(MEMORY, measured, request_, Settings())
    assert (answer.verdict, answer.value, answer.why) == (verdict, request_, why)


def test_what_a_limit_held_is_not_taken_for_what_is_needed() -> None:
    held = Usage(0.0, STEP, np.minimum(usage(28, 2.0, 0.3).values, 2.2))
    answer = advise(CPU, held, 2.0, Settings(), limit=2.2)
    assert answer.verdict == TOO_LITTLE
    assert answer.why == "its limit held it on 28 of 28 days; raise it to see what it needs"


def test_days_that_were_hardly_measured_count_for_none() -> None:
    values = usage(28, 1000.0).values.copy()
    values[: 15 * EACH : 2] = np.nan
    assert advise(MEMORY, Usage(0.0, STEP, values), 4096.0, Settings()).why.startswith("13 days")


def test_replicas_are_judged_by_the_largest() -> None:
    one = Usage(0.0, 60.0, np.array([1.0, np.nan, np.nan]))
    two = Usage(0.0, 60.0, np.array([2.0, 3.0, np.nan]))
    assert largest([one, two]).values.tolist()[:2] == [2.0, 3.0]
    assert np.isnan(largest([one, two]).values[2])
    with pytest.raises(ValueError, match="other steps"):
        largest([one, Usage(0.0, 30.0, one.values)])


@pytest.mark.parametrize(
    ("measure", "value", "told"),
    [(CPU, 0.01, 0.1), (CPU, 3.41, 3.5), (MEMORY, 1.0, 64), (MEMORY, 20_000, 20_224)],
)
def test_values_are_rounded_up_as_people_write_them(
    measure: str, value: float, told: float
) -> None:
    assert rounded(measure, value) == pytest.approx(told)
