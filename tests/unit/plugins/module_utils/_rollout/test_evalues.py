# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bets against claims about shares: fair where the claim holds, and told from below only."""

from __future__ import annotations

import math

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.gates import evalues, shift
from hypothesis import assume, given, settings
from hypothesis import strategies as st

COUNTS = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
SHARES = st.floats(0.001, 0.999)


def mean(test: str, total: int, share: float, claimed: float) -> float:
    """What a bet is worth on average where a share is the true one: exactly, over all counts."""
    bet = getattr(evalues, test)
    return sum(
        math.comb(total, count)
        * share**count
        * (1 - share) ** (total - count)
        * math.exp(bet(count, total, claimed))
        for count in range(total + 1)
    )


@pytest.mark.parametrize("total", [1, 2, 17, 60])
@pytest.mark.parametrize("claimed", [0.001, 0.02, 0.5, 0.95])
def test_a_bet_is_fair_at_the_claim_and_loses_within_it(total: int, claimed: float) -> None:
    assert mean("above", total, claimed, claimed) == pytest.approx(1)
    assert mean("below", total, claimed, claimed) == pytest.approx(1)
    assert mean("above", total, claimed * 0.7, claimed) < 1
    assert mean("below", total, 1 - (1 - claimed) * 0.7, claimed) < 1


def plainly(count: int, total: int, share: float, bets: tuple[tuple[float, float], ...]) -> float:
    """The mixture as its formula is written, with nothing kept or left out."""

    def soft(odds: float) -> float:
        return odds + math.log1p(math.exp(-odds)) if odds > 0 else math.log1p(math.exp(odds))

    def step(odds: float, bet: float) -> float:
        if math.isinf(odds):
            return bet if odds > 0 else 0.0
        return soft(odds + bet) - soft(odds)

    odds = evalues.log_odds(share)
    logs = [weight + bet * count - total * step(odds, bet) for bet, weight in bets]
    return max(logs) + math.log(sum(math.exp(one - max(logs)) for one in logs))


@given(COUNTS, st.one_of(SHARES, st.sampled_from([0.0, 1e-9, 1.0 - 1e-9, 1.0])))
def test_the_bets_are_those_of_the_formula(counts: tuple[int, int], share: float) -> None:
    for bet, bets in ((evalues.above, evalues.EVEN), (evalues.below, evalues.GOOD)):
        assert bet(*counts, share) == pytest.approx(plainly(*counts, share, bets), abs=1e-9)


def test_a_share_next_to_nothing_is_as_good_as_nothing() -> None:
    assert evalues.above(0, 9, 5e-324) == pytest.approx(evalues.above(0, 9, 0.0))
    assert evalues.above(1, 9, 5e-324) == pytest.approx(evalues.above(1, 9, 0.0))


@given(COUNTS, SHARES, SHARES)
def test_a_claim_that_allows_more_is_refuted_later(
    counts: tuple[int, int], one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert evalues.above(*counts, low) >= evalues.above(*counts, high) - 1e-9
    assert evalues.below(*counts, high) >= evalues.below(*counts, low) - 1e-9


@given(COUNTS)
def test_the_upper_bound_of_a_share_is_above_it_and_refuted(counts: tuple[int, int]) -> None:
    threshold = math.log(20)
    high = evalues.upper(*counts, threshold)
    assert counts[0] / counts[1] <= high <= 1
    assert evalues.below(*counts, min(1.0, high + 1e-6)) >= threshold or high == 1


def test_no_failure_among_many_bounds_the_share_as_it_should() -> None:
    # Fixed samples: the rule of three. To look at every number of them costs log(2) more.
    bound = evalues.upper(0, 1000, math.log(20))
    assert 3 / 1000 < bound < 4 / 1000


@settings(max_examples=60, deadline=None)
@given(COUNTS, COUNTS, st.floats(0.005, 0.2), SHARES, st.floats(1, 12))
def test_of_two_groups_no_share_of_the_control_makes_the_evidence_smaller(
    ring: tuple[int, int], control: tuple[int, int], margin: float, share: float, threshold: float
) -> None:
    told = evalues.grew(ring, control, margin, threshold)
    bets = evalues.above(*ring, share + margin), evalues.below(*control, share)
    bet = sum(map(evalues.held, bets))
    assert told <= max(bet, evalues.NONE) + 1e-6
    assume(share + margin < 1)
    less = evalues.grew_less(ring, control, margin, threshold)
    bets = evalues.below(*ring, share + margin), evalues.above(*control, share)
    both = sum(map(evalues.held, bets))
    alone = evalues.below(*ring, margin)
    most = max(alone, both, evalues.NONE)
    assert less <= most + 1e-6


@settings(max_examples=60, deadline=None)
@given(COUNTS, COUNTS, SHARES, st.floats(1, 12))
def test_no_shares_within_the_limit_make_the_evidence_of_a_shift_smaller(
    ring: tuple[int, int], control: tuple[int, int], share: float, threshold: float
) -> None:
    told = shift.moved(ring, control, 0.25, threshold)
    for moved in (shift.reach(share, 0.25, True), share, shift.reach(share, 0.25, False)):
        of_ring = [evalues.above(*ring, moved), evalues.below(*ring, moved)]
        of_control = [evalues.above(*control, share), evalues.below(*control, share)]
        bet = evalues.held(evalues.average(of_ring)) + evalues.held(evalues.average(of_control))
        assert told <= max(bet, evalues.NONE) + 1e-6


@pytest.mark.parametrize(
    ("ring", "control", "grew", "less"),
    [
        ((0, 1000), (0, 1000), False, True),
        ((100, 1000), (0, 1000), True, False),
        ((100, 1000), (100, 1000), False, False),
        ((1000, 10000), (1000, 10000), False, True),
        ((1000, 1000), (1000, 1000), False, True),
        ((30, 1000), (0, 1000), False, False),
    ],
)
def test_two_groups_are_told_apart_by_more_than_the_margin(
    ring: tuple[int, int], control: tuple[int, int], grew: bool, less: bool
) -> None:
    threshold = math.log(20)
    assert (evalues.grew(ring, control, 0.02, threshold) >= threshold) is grew
    assert (evalues.grew_less(ring, control, 0.02, threshold) >= threshold) is less


def test_where_counts_agree_with_a_claim_nothing_is_reckoned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reckoned(*_given: object) -> float:
        raise AssertionError("reckoned")

    monkeypatch.setattr(evalues, "over_all", reckoned)
    assert evalues.grew((50, 1000), (40, 1000), 0.02, 3.0) == evalues.NONE
    assert evalues.grew_less((70, 1000), (40, 1000), 0.02, 3.0) == evalues.NONE
    # Less than the margin, whatever the control's share is.
    assert evalues.grew_less((0, 1000), (40, 1000), 0.02, 3.0) >= 3.0
    assert shift.moved((50, 100), (50, 100), 0.25, 3.0) == evalues.NONE
    assert shift.moved((0, 100), (0, 100), 0.25, 3.0) == evalues.NONE
    assert shift.stayed((90, 100), (50, 100), 0.25, 3.0) is False


@pytest.mark.parametrize(("told", "calls"), [(5.0, 16), (-5.0, 17)])
def test_the_line_is_cut_no_further_than_until_it_is_settled(told: float, calls: int) -> None:
    """At once where all is proved; and where a single share refutes it, no part of it can help."""
    asked: list[tuple[float, float]] = []

    def part(low: float, high: float) -> float:
        asked.append((low, high))
        return told if low <= evalues.share_of(1.0) <= high else 9.0

    assert evalues.over_all(part, 3.0) == told
    assert len(asked) == calls


def test_an_average_of_evidence_is_that_of_what_the_bets_are_worth() -> None:
    assert evalues.average([math.log(1), math.log(3)]) == pytest.approx(math.log(2))
    assert evalues.average([evalues.NONE, 700.0]) == pytest.approx(700 - math.log(2))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_share_moves_until_the_index_is_reached(share: float) -> None:
    for up in (True, False):
        far = shift.reach(share, 0.25, up)
        index = (far - share) * (math.log(far / share) - math.log((1 - far) / (1 - share)))
        assert (far > share) is up
        assert index == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_of_nothing_and_of_all_the_index_has_no_end_so_they_do_not_move(share: float) -> None:
    assert {shift.reach(share, 0.25, up) for up in (True, False)} == {share}


def test_the_index_is_the_usual_one() -> None:
    # Two halves that become 60 to 40: (0.6 - 0.5) ln(0.6 / 0.5) + (0.4 - 0.5) ln(0.4 / 0.5).
    assert shift.psi([60000, 40000], [50000, 50000]) == pytest.approx(0.040547, abs=1e-4)
    assert shift.by_chance([50, 50, 0], [100, 100, 0]) == pytest.approx(0.015)


@pytest.mark.parametrize("times", [1, 10, 100])
def test_a_ring_much_larger_than_its_control_is_still_compared(times: int) -> None:
    """What the bet on the ring loses at one share does not eat what the bet on the control won."""
    control, margin, threshold = (4312, 9800), 0.05, 3.0
    ring = (55807 * times, 146860 * times)
    assert evalues.grew_less(ring, control, margin, threshold) >= threshold
    worse = (90000 * times, 146860 * times)
    assert evalues.grew(worse, control, margin, threshold) >= threshold
    assert evalues.grew_less(worse, control, margin, threshold) < 0


def test_a_control_much_larger_than_its_ring_is_still_compared() -> None:
    control = (440_000, 1_000_000)
    assert evalues.grew_less((380, 1000), control, 0.05, 3.0) >= 3.0
    assert evalues.grew((600, 1000), control, 0.05, 3.0) >= 3.0


def test_what_is_held_back_is_paid_for_by_the_rest() -> None:
    """The whole is one unit of money before anything was seen, as it has to be."""
    assert evalues.held(0.0) == pytest.approx(0.0)
    assert evalues.held(-1000.0) == pytest.approx(math.log(evalues.HELD))
    assert evalues.held(50.0) == pytest.approx(50.0 + math.log(1 - evalues.HELD))
    assert evalues.held(math.inf) == math.inf


@pytest.mark.parametrize("ring", [(55_000, 100_000), (550, 1000)])
@pytest.mark.parametrize("control", [(50_000, 100_000), (500, 1000)])
def test_a_distribution_is_compared_however_unlike_the_numbers_are(
    ring: tuple[int, int], control: tuple[int, int]
) -> None:
    assert shift.stayed(ring, control, 0.25, 3.0)
    moved = (ring[1] * 9 // 10, ring[1])
    assert shift.moved(moved, control, 0.25, 3.0) >= 3.0
    assert not shift.stayed(moved, control, 0.25, 3.0)
