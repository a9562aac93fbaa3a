# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An allocation in which nobody works is found; one in which somebody does is not."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.idle import (
    Look,
    look,
    looks,
    over,
    seconds_of,
    used,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:00:00", 0),
        ("00:01:30", 90),
        ("1-02:00:00", 93600),
        ("05:10.250", 310.25),
        ("", 0),
        ("INVALID", 0),
    ],
)
def test_spans_are_read_as_slurm_writes_them(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


def test_the_seconds_of_all_steps_of_all_tasks_are_those_of_the_job() -> None:
    told = "7.batch|00:00:02|1\n7.extern|00:00:00|1\n7.0|00:01:00|2\n8.batch|00:00:01|1\nx\n"
    assert used(told) == {7: 122, 8: 1}


def test_an_allocation_is_idle_from_when_it_stopped_using_processors() -> None:
    seen = look({}, [7, 8], {7: 100.0, 8: 5.0}, 1000.0)
    seen = look(seen, [7, 8], {7: 100.5, 8: 65.0}, 1060.0)  # 8 works
    assert (seen[7].since, seen[8].since) == (1000.0, 1060.0)
    seen = look(seen, [7, 8], {7: 100.5, 8: 65.0}, 1120.0)
    assert over(seen, {7: 120, 8: 120}, 1120.0) == [(7, 120)]
    seen = look(seen, [7, 8], {7: 100.5, 8: 65.0}, 1180.0)
    assert over(seen, {7: 120, 8: 120}, 1180.0) == [(7, 180), (8, 120)]
    assert over(seen, {}, 1180.0) == []  # without a limit nobody is sent away


def test_a_step_that_ended_shows_that_somebody_was_there() -> None:
    seen = look({7: Look(200.0, 1000.0, 900.0)}, [7], {7: 3.0}, 1060.0)
    assert seen[7].since == 1060.0


def test_what_is_gone_is_forgotten_and_a_spoilt_file_begins_anew() -> None:
    assert look({7: Look(1.0, 1.0, 1.0)}, [], {}, 9.0) == {}
    assert looks({"7": {"used": 1, "at": 2, "since": 3}, "x": {}, "8": None}) == {
        7: Look(1.0, 2.0, 3.0)
    }
    assert Look(1.0, 2.0, 3.0).as_dict() == {"used": 1.0, "at": 2.0, "since": 3.0}
