# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people say to a rollout where it cannot be done: refused, with what is the matter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._rollout import words
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.errors import RolloutError
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.journal import Entry
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.shapes import COMPLETED
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.state import State

from .fleet import RINGS, START, Fleet

Word = Callable[[State], list[Entry]]
WORDS: dict[str, Word] = {
    "pause": lambda state: words.pause(state, "carl", "", START),
    "abort": lambda state: words.abort(state, 9, "carl", "", START),
    "roll back": lambda state: words.rollback(state, 9, "carl", "", START),
}


@pytest.mark.parametrize("word", WORDS)
def test_where_there_is_no_rollout_nothing_can_be_ended(word: str) -> None:
    with pytest.raises(RolloutError) as refused:
        WORDS[word](State())
    assert str(refused.value) == (
        f"There is no rollout to {word}; start one with rollout_action=start."
    )


@pytest.mark.parametrize("word", ["pause", "abort"])
@pytest.mark.parametrize("mode", ["reverting", "failed", "aborted"])
def test_what_goes_back_already_is_neither_paused_nor_aborted(word: str, mode: str) -> None:
    fleet = Fleet()
    fleet.begin()
    state = fleet.state()
    state.mode = mode
    with pytest.raises(RolloutError, match=f"is going back already; there is nothing to {word}"):
        WORDS[word](state)


@pytest.mark.parametrize("word", ["pause", "abort"])
def test_what_is_over_is_neither_paused_nor_aborted(word: str) -> None:
    fleet = Fleet()
    assert fleet.run() == COMPLETED
    with pytest.raises(RolloutError, match=rf"over \(COMPLETED\); there is nothing to {word}"):
        WORDS[word](fleet.state())


def test_a_pause_says_when_a_ring_goes_back_only_where_one_is_watched() -> None:
    fleet = Fleet()
    fleet.begin()
    state = fleet.state()
    (entry,) = WORDS["pause"](state)
    assert entry.data["said"] == "carl paused the rollout."
    state.mode, state.activated_at = "baking", START - 60
    (entry,) = WORDS["pause"](state)
    # Baking for 300 s at most, and two polls of 30 s.
    assert entry.data["said"].endswith("The ring goes back by itself in 300 s.")


def test_who_approves_where_nobody_has_to_or_once_more_writes_nothing() -> None:
    fleet = Fleet(approval={"ring_early": ["anna"]})
    fleet.approved_by = "carl"  # the first ring needs nobody
    fleet.run()
    for _time in range(2):
        fleet.resume("anna")
    assert [entry.data for entry in fleet.events("approved")] == [
        {"ring": "ring_early", "by": "anna"}
    ]
    assert list(RINGS)[1] == "ring_early"
