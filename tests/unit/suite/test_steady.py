# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No test waits for less than a slow machine needs."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.patience import eventually


def test_no_example_has_to_be_quick() -> None:
    assert settings.default is not None
    assert settings.default.deadline is None
    assert HealthCheck.too_slow in settings.default.suppress_health_check


def test_the_same_examples_are_tried_each_time() -> None:
    def tried() -> list[int]:
        seen: list[int] = []

        @settings(max_examples=20)
        @given(st.integers())
        def look(number: int) -> None:
            seen.append(number)

        look()
        return seen

    assert tried() == tried()


def test_what_comes_is_waited_for_and_what_does_not_is_told() -> None:
    answers = iter([False, False, True])
    eventually(lambda: next(answers), "the third answer", pause=0)
    with pytest.raises(AssertionError, match="not within 0 s: nobody"):
        eventually(lambda: False, lambda: "nobody", seconds=0, pause=0)


def test_what_came_while_nobody_looked_counts() -> None:
    """As where the machine was busy with something else until the time was up."""
    seen: list[float] = []

    def look() -> bool:
        seen.append(time.monotonic())
        return len(seen) > 1

    eventually(look, "the second look", seconds=0, pause=0)
    assert len(seen) > 1
