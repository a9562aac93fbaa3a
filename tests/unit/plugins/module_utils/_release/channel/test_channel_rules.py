# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules by which a device believes: each has a document that is refused for nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel import rules
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.documents import (
    MAX_NUMBER,
    Signed,
    build_signatures,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.rules import (
    Clock,
    Judgement,
    Own,
    Ratchet,
    State,
    first,
    judge,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError

from tests.benchmarks import channel_world as world
from tests.benchmarks.channel_world import NOW, WEEK, YEAR, channel, root, signed, target

OWN = Own(world.SITE, world.RING, world.CLASS)
CLOCK = Clock(NOW + 60, synchronised=True)
ROOTS = [world.Key.make() for _number in range(4)]
ONLINE = [world.Key.make() for _number in range(4)]
STRANGER = world.Key.make()


def start(**changed: Any) -> State:
    """A device that was enrolled: root keys 0 and 1, both needed; the first online key."""
    document = root(1, ROOTS[:2], ONLINE[:1], threshold=2, **changed)
    return first(signed(document.to_bytes(), ROOTS[:2]), world.SITE, world.verify)


def take(
    state: State,
    document: Any = None,
    keys: Any = None,
    chain: tuple[Signed, ...] = (),
    clock: Clock = CLOCK,
    own: Own = OWN,
) -> Judgement:
    """The verdict on a document that some keys signed."""
    found = None
    if document is not None:
        found = signed(document.to_bytes(), ONLINE[:1] if keys is None else keys)
    return judge(state, chain, found, clock, own, world.verify)


def refused(verdict: Judgement, kind: str, *said: str) -> None:
    assert verdict.refusal is not None, "it was believed"
    assert verdict.refusal.kind == kind
    for words in said:
        assert words in verdict.refusal.sentence
    assert verdict.channel is None
    assert verdict.targets == ()


def rotated(
    version: int = 2, online: int = 1, by: Any = None, keys: Any = None, **changed: Any
) -> Signed:
    """The next root document, with another online key."""
    document = root(version, keys or ROOTS[:2], [ONLINE[online]], threshold=2, **changed)
    return signed(document.to_bytes(), by or ROOTS[:2])


def test_a_channel_that_is_rightly_signed_is_believed() -> None:
    verdict = take(start(), channel(5))
    assert verdict.refusal is None
    assert verdict.new
    assert verdict.targets == (target(),)
    assert verdict.state.sequence == 5
    assert verdict.state.models == {"defects": Ratchet(1, 7, 3)}
    assert verdict.state.issued == NOW


def test_the_same_channel_again_repeats_its_orders_and_changes_nothing() -> None:
    state = take(start(), channel(5)).state
    again = take(state, channel(5))
    assert again.refusal is None
    assert not again.new
    assert again.targets == (target(),)
    assert again.state == state


def test_an_older_channel_is_a_replay() -> None:
    state = take(start(), channel(5)).state
    verdict = take(state, channel(4))
    refused(verdict, rules.OLD, "Found the channel document 4, this device has believed 5")
    assert verdict.state == state


def test_one_number_means_one_document() -> None:
    state = take(start(), channel(5)).state
    verdict = take(state, channel(5, target(digest="sha256:" + "b" * 64)))
    refused(verdict, rules.OLD, "under the same number")


def test_who_has_no_key_is_not_believed() -> None:
    for keys in ([], [STRANGER], [ROOTS[0]], [ONLINE[1]]):
        refused(take(start(), channel(5), keys), rules.UNSIGNED, "signed by 0 of the keys")


def test_the_signature_of_other_bytes_does_not_count() -> None:
    one, other = channel(5), channel(5, target(counter=8))
    mixed = Signed(other.to_bytes(), signed(one.to_bytes(), ONLINE[:1]).signatures)
    verdict = judge(start(), (), mixed, CLOCK, OWN, world.verify)
    refused(verdict, rules.UNSIGNED)


def test_a_key_counts_once_and_under_its_own_name() -> None:
    document = root(1, ROOTS[:1], ONLINE[:2], channel_threshold=2)
    state = first(signed(document.to_bytes(), ROOTS[:1]), world.SITE, world.verify)
    data = channel(5).to_bytes()
    mark = ONLINE[0].sign(data)
    for marks in (
        [(ONLINE[0].id, mark), (ONLINE[0].id, mark)],
        [(ONLINE[0].id, mark), (ONLINE[1].id, mark)],
        [(ONLINE[0].id, mark), (STRANGER.id, STRANGER.sign(data))],
    ):
        found = Signed(data, build_signatures(marks))
        verdict = judge(state, (), found, CLOCK, OWN, world.verify)
        refused(verdict, rules.UNSIGNED, "signed by 1 of the keys", "wanted 2")
    assert take(state, channel(5), ONLINE[:2]).refusal is None


def test_a_bad_signature_does_not_hide_a_good_one_of_the_same_key() -> None:
    """While one document takes the place of the other, both signatures stand beside them."""
    data = channel(5).to_bytes()
    marks = [(ONLINE[0].id, ONLINE[0].sign(b"other")), (ONLINE[0].id, ONLINE[0].sign(data))]
    found = Signed(data, build_signatures(marks))
    assert judge(start(), (), found, CLOCK, OWN, world.verify).refusal is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"site": "other"}, "is of the site other, wanted site-of-the-test"),
        ({"ring": "ring_fleet"}, "for the ring ring_fleet, this device is in ring_canary"),
        ({"device_classes": ("x86",)}, "of the class x86; this one is of the class arm64-4gib"),
        ({"root_version": 2}, "under the root document 2, this device has 1"),
    ],
)
def test_what_was_meant_for_others_is_refused(changed: dict[str, Any], said: str) -> None:
    verdict = take(start(), channel(5, **changed))
    refused(verdict, rules.MISPLACED, said)
    assert verdict.state.sequence == 0


def test_garbage_and_too_much_are_refused() -> None:
    marks = build_signatures([])
    for found in (Signed(b"x", marks), Signed(b" " * 300_000, marks)):
        refused(judge(start(), (), found, CLOCK, OWN, world.verify), rules.UNREADABLE)
    found = Signed(channel(5).to_bytes(), b" " * 20_000)
    refused(judge(start(), (), found, CLOCK, OWN, world.verify), rules.UNREADABLE)


def test_expired_means_stale_and_nothing_new() -> None:
    state = take(start(), channel(5)).state
    late = Clock(NOW + WEEK, synchronised=True)
    verdict = take(state, channel(6), clock=late)
    refused(verdict, rules.STALE, "keeps serving and takes nothing new")
    assert verdict.state == state
    refused(take(state, channel(5), clock=late), rules.STALE)
    assert take(state, channel(6, expires=NOW + 2 * WEEK), clock=late).refusal is None


def test_a_clock_that_was_never_compared_expires_nothing() -> None:
    for now in (0.0, NOW + 10 * YEAR):
        assert take(start(), channel(5), clock=Clock(now, synchronised=False)).refusal is None


def test_time_has_a_floor() -> None:
    """What expired before something believed was issued has expired, whatever the clock says."""
    state = take(start(), channel(5, issued=NOW + 2 * WEEK, expires=NOW + 3 * WEEK)).state
    for clock in (Clock(0.0, synchronised=False), Clock(0.0, synchronised=True)):
        refused(take(state, channel(6), clock=clock), rules.STALE)


def test_a_root_that_has_expired_takes_nothing_and_is_healed_by_the_next() -> None:
    late = Clock(NOW + YEAR, synchronised=True)
    fresh = channel(5, issued=NOW + YEAR - 5, expires=NOW + YEAR + WEEK)
    refused(take(start(), fresh, clock=late), rules.STALE, "root document 1 has expired")
    healed = take(
        start(),
        replace(fresh, root_version=2),
        ONLINE[1:2],
        (rotated(issued=NOW + YEAR - 9, expires=NOW + 2 * YEAR),),
        late,
    )
    assert healed.refusal is None
    assert healed.state.root.version == 2


def test_the_online_key_makes_no_root_expire() -> None:
    """A thief of the online key who lies about the time is got rid of by the next root."""
    far = channel(MAX_NUMBER, issued=NOW + 50 * YEAR, expires=NOW + 51 * YEAR)
    state = take(start(), far).state
    assert state.issued == NOW + 50 * YEAR
    verdict = take(state, channel(1, root_version=2), ONLINE[1:2], (rotated(),))
    assert verdict.refusal is None
    assert verdict.state.issued == NOW


def test_a_lower_generation_is_refused() -> None:
    state = take(start(), channel(5, target(generation=4))).state
    refused(take(state, channel(6, target(generation=3))), rules.OLD, "another controller")
    assert take(state, channel(6, target(generation=4))).refusal is None


def test_an_older_release_has_to_be_asked_for() -> None:
    state = take(start(), channel(5)).state
    refused(take(state, channel(6, target(counter=6))), rules.OLD, "rollout_action=rollback")
    back = take(state, channel(6, target(counter=6, rollback=True)))
    assert back.refusal is None
    assert back.state.models["defects"].counter == 7  # going back lowers nothing


def test_below_the_minimum_there_is_no_way_back() -> None:
    state = take(start(), channel(5, target(minimum_counter=6))).state
    for minimum in (6, 2):  # the minimum does not go down either
        document = channel(6, target(counter=5, rollback=True, minimum_counter=minimum))
        refused(take(state, document), rules.OLD, "the least that may be installed is 6")
    refused(take(start(), channel(5, target(counter=2))), rules.OLD, "is 3")


def test_models_have_ratchets_of_their_own() -> None:
    state = take(start(), channel(5, target(generation=9, counter=90))).state
    verdict = take(state, channel(6, target(model="texts")))
    assert verdict.refusal is None
    assert verdict.state.models == {"defects": Ratchet(9, 90, 3), "texts": Ratchet(1, 7, 3)}


def test_nobody_fills_the_disk_with_names() -> None:
    state = start()
    for number in range(1, rules.MAX_REMEMBERED // 32 + 1):
        names = [target(model=f"m{number}-{index}") for index in range(32)]
        state = take(state, channel(number, *names)).state
    refused(take(state, channel(99)), rules.MISPLACED, "more than 256 names")
    assert take(state, channel(99, target(model="m1-1"))).refusal is None


def test_a_root_follows_the_one_before() -> None:
    verdict = take(start(), chain=(rotated(2), rotated(3, online=2)))
    assert verdict.refusal is None
    assert verdict.state.root.version == 3


@pytest.mark.parametrize(
    ("root_document", "kind", "said"),
    [
        (rotated(3), rules.UNSIGNED, "Found the root document 3, wanted 2"),
        (rotated(1), rules.OLD, "Found the root document 1, wanted 2"),
        (rotated(2, by=ROOTS[:1]), rules.UNSIGNED, "signed by 1 of the keys"),
        (rotated(2, by=[STRANGER]), rules.UNSIGNED, "signed by 0 of the keys"),
        # The keys of the root before are not enough, and neither are its own.
        (rotated(2, keys=ROOTS[2:], by=ROOTS[:2]), rules.UNSIGNED, "signed by 0 of the keys"),
        (rotated(2, keys=ROOTS[2:], by=ROOTS[2:]), rules.UNSIGNED, "signed by 0 of the keys"),
        (rotated(2, keys=ROOTS[1:3], by=ROOTS[1:3]), rules.UNSIGNED, "signed by 1 of the keys"),
        (rotated(2, site="other"), rules.MISPLACED, "is of the site other"),
        (Signed(b"{}", b"{}"), rules.UNREADABLE, "type is missing"),
    ],
)
def test_no_other_root_is_believed(root_document: Signed, kind: str, said: str) -> None:
    verdict = take(start(), channel(5), chain=(root_document,))
    refused(verdict, kind, said)
    assert verdict.state == start()


def test_what_was_rightly_signed_of_a_chain_stays() -> None:
    verdict = take(start(), channel(5), chain=(rotated(2), rotated(2)))
    refused(verdict, rules.OLD)
    assert verdict.state.root.version == 2


def test_a_device_asleep_through_rotations_of_all_keys_catches_up() -> None:
    """The roots in between have expired long ago; their signatures are enough."""
    state = take(start(), channel(5)).state
    chain = (
        rotated(2, 1, by=ROOTS, keys=ROOTS[2:], expires=NOW + WEEK),
        rotated(3, 2, by=ROOTS, keys=ROOTS[:2], expires=NOW + 2 * WEEK),
        rotated(4, 3, by=ROOTS, keys=ROOTS[1:3], expires=NOW + 3 * YEAR),
    )
    late = Clock(NOW + 2 * YEAR, synchronised=True)
    document = channel(77, issued=NOW + 2 * YEAR - 1, expires=NOW + 2 * YEAR + WEEK, root_version=4)
    verdict = take(state, document, ONLINE[3:], chain, late)
    assert verdict.refusal is None
    assert (verdict.state.root.version, verdict.state.sequence) == (4, 77)


def test_a_rotated_key_resets_what_it_drove_forward() -> None:
    """Recovery from a fast-forward attack: everything that the stolen key said is forgotten."""
    wild = target(generation=MAX_NUMBER, counter=MAX_NUMBER, minimum_counter=MAX_NUMBER)
    state = take(start(), channel(MAX_NUMBER, wild)).state
    refused(take(state, channel(6)), rules.OLD)
    verdict = take(state, channel(6, root_version=2), ONLINE[1:2], (rotated(),))
    assert verdict.refusal is None
    assert verdict.state.sequence == 6
    assert verdict.state.models == {"defects": Ratchet(1, 7, 3)}
    assert verdict.state.resets == 1


def test_a_new_root_with_the_same_online_key_resets_nothing() -> None:
    state = take(start(), channel(5)).state
    verdict = take(state, channel(4, root_version=2), ONLINE[:1], (rotated(online=0),))
    refused(verdict, rules.OLD)
    assert verdict.state.sequence == 5
    assert verdict.state.resets == 0


def test_the_old_online_key_says_nothing_after_its_rotation() -> None:
    state = take(start(), chain=(rotated(),)).state
    refused(take(state, channel(5), ONLINE[:1]), rules.UNSIGNED)


def test_a_device_is_enrolled_with_a_root_that_is_whole_and_its_own() -> None:
    good = signed(root(3, ROOTS[:1], ONLINE[:1]).to_bytes(), ROOTS[:1])
    assert first(good, world.SITE, world.verify).root.version == 3
    with pytest.raises(RegistryError, match="signed by 0 of the keys"):
        first(signed(good.data, [STRANGER]), world.SITE, world.verify)
    with pytest.raises(RegistryError, match="is of the site"):
        first(good, "other", world.verify)
