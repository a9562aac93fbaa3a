# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a campaign in a root of Debian begins and ends."""

from __future__ import annotations

import json
import time
from typing import NoReturn

import pytest

from tests.soak import roots


@pytest.mark.parametrize(("good", "status"), [(True, 0), (False, 1)])
def test_a_campaign_ends_with_what_it_counted_and_is_cleared(
    good: bool, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[object] = []

    def campaign(fresh: bool) -> int:
        count = roots.Count()
        done.append(fresh)
        count.judge("a step", good)
        return count.end(time.monotonic(), kernel="6.12")

    assert roots.run("A campaign.", campaign, lambda: done.append("cleared"), ["--fresh"]) == status
    assert done == [True, "cleared"]
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["passed"], last["failed"], last["kernel"]) == (int(good), status, "6.12")


def test_one_that_cannot_be_made_says_so_and_is_cleared(capsys: pytest.CaptureFixture[str]) -> None:
    done: list[str] = []

    def campaign(fresh: bool) -> int:
        assert not fresh
        raise roots.CannotRun("There is no emulator.")

    assert roots.run(None, campaign, lambda: done.append("cleared"), []) == 2
    assert done == ["cleared"]
    assert capsys.readouterr().err == "There is no emulator.\n"


def test_a_word_that_is_not_known_begins_and_clears_nothing() -> None:
    def never(*_words: object) -> NoReturn:
        raise AssertionError

    with pytest.raises(SystemExit):
        roots.run("A campaign.", never, never, ["--nothing"])
