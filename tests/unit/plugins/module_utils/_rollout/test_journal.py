# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: a torn last line never was, and any other damage is refused by its line."""

from __future__ import annotations

import json

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._rollout import words
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.errors import RolloutError
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.journal import (
    NEEDS,
    Entry,
    read,
)

from .fleet import Fleet


def three() -> list[Entry]:
    return [
        Entry(number, 1, 10.0 + number, "demo-1", "approved", {"ring": "r", "by": "anna"})
        for number in (1, 2, 3)
    ]


def written(entries: list[Entry]) -> bytes:
    return b"".join(entry.line() for entry in entries)


def test_what_was_written_is_read() -> None:
    content = written(three())
    assert read(content) == (three(), len(content))
    assert read(b"") == ([], 0)


def test_an_entry_is_one_line_with_its_head_and_what_it_says() -> None:
    line = three()[0].line()
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "seq": 1, "generation": 1, "time": 11.0, "rollout": "demo-1", "event": "approved",
        "ring": "r", "by": "anna",
    }  # fmt: skip


def test_a_last_line_torn_anywhere_never_was() -> None:
    whole = written(three())
    good = len(written(three()[:2]))
    for cut in range(good, len(whole)):
        assert read(whole[:cut]) == (three()[:2], good)


def test_blocks_that_never_reached_the_disk_are_a_torn_line_too() -> None:
    good = written(three()[:2])
    last = three()[2].line()
    torn = last[:20] + b"\0" * (len(last) - 21) + b"\n"
    assert read(good + torn) == (three()[:2], len(good))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{}\n", "it lacks seq, generation, time, rollout, event"),
        (b"[]\n", "it is no mapping"),
        (b"what\n", "it is no JSON"),
        (b'{"seq":2,"generation":1,"time":1,"rollout":"x","event":"odd"}\n', "unknown event"),
        (b'{"seq":2,"generation":1,"time":1,"rollout":"x","event":"paused"}\n', "lacks kind, said"),
    ],
)
def test_any_other_damage_is_refused_and_names_the_line(line: bytes, reason: str) -> None:
    first = three()[0].line()
    for rest in (b"", three()[2].line()):
        with pytest.raises(RolloutError) as error:
            read(first + line + rest, "/j")
        assert "The journal /j is damaged in line 2: " in str(error.value)
        assert reason in str(error.value)


def test_damage_in_the_middle_is_no_torn_line() -> None:
    first, second, third = (entry.line() for entry in three())
    with pytest.raises(RolloutError, match="line 2"):
        read(first + second[:20] + b"\0" * 20 + b"\n" + third)
    with pytest.raises(RolloutError, match="line 2"):
        read(first + second[:20] + third)


def test_lines_are_counted_without_a_gap_and_generations_never_fall() -> None:
    one, two, three_ = three()
    with pytest.raises(RolloutError, match="it has the number 3, wanted is 2"):
        read(written([one, three_]))
    with pytest.raises(RolloutError, match="line 1: it has the number 2, wanted is 1"):
        read(written([two]))
    lower = Entry(2, 0, 12.0, "demo-1", "approved", {"ring": "r", "by": "anna"})
    with pytest.raises(RolloutError, match="its generation 0 is below 1"):
        read(written([one, lower]))


def test_every_event_is_written_by_some_rollout_and_read_back() -> None:
    fleet = Fleet(approval={"ring_early": ["anna"]})
    fleet.devices["c1"].online = False
    fleet.run()
    fleet.resume("anna")
    fleet.devices["b1"].ill = True
    fleet.drive()
    stopped = Fleet()
    stopped.begin()

    stopped.write(words.abort(stopped.state(), 2, "carl", "", stopped.now))
    stopped.drive()
    late = Fleet()
    late.devices["c1"].online = False
    late.run()
    journals = [fleet.journal, stopped.journal, late.journal]
    assert {entry.event for entries in journals for entry in entries} == set(NEEDS)
    for entries in journals:
        found, _good = read(written(entries))
        assert [entry.line() for entry in found] == [entry.line() for entry in entries]
