# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small sample of the attacks on what devices believe, and whether the attacks bite."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel import (
    rules,
    state,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.documents import (
    MAX_SIGNATURES_BYTES,
    parse_root,
)

from tests.benchmarks import channel_traces as traces
from tests.benchmarks.channel_disk import FakeDisk, PowerLoss
from tests.benchmarks.channel_site import Site


def test_a_thousand_traces_find_no_wrong_acceptance_and_no_lock_out() -> None:
    found = traces.campaign(1000, seed=7)
    assert found["broken"] == []
    counts = found["counts"]
    assert counts["traces"] == 1000
    # Every kind of attack was there, and so was every answer.
    for kind in ("honest", "stolen", "partial", "mixed", "endless", "other ring", "two readings"):
        assert counts[f"served {kind}"] > 20, kind
    for kind in rules.KINDS:
        assert counts[f"refused {kind}"] > 20, kind
    for what in (
        "power losses",
        "fair",
        "recovered",
        "recovered after theft",
        "root not by itself",
    ):
        assert counts[what] > 20, what


def test_python_tuf_says_the_same() -> None:
    from tests.benchmarks.channel_tuf import Oracle

    found = traces.campaign(100, 11, Oracle)
    assert found["broken"] == []
    assert min(found["counts"][f"agreed on {said}"] for said in ("new", "refused", "same")) > 0


def test_openssl_says_what_the_verifier_of_the_traces_says() -> None:
    found = traces.compare_with_openssl(64, seed=5)
    assert found["differ"] == 0
    assert min(found["believed"], found["refused"]) > 10


def nothing(*_arguments: Any) -> None:
    """A check that was taken out."""


def _first_key_only(
    signed: Any, root: Any, role: Any, where: str, verify: rules.Verify
) -> tuple[str, ...]:
    return _check_signed(signed, root, replace(role, threshold=1), where, verify)


def _unfollowed(before: rules.State, signed: Any, *_more: Any) -> rules.State:
    return replace(before, root=parse_root(signed.data), root_data=signed.data)


def _without_floor(channel: Any, before: Any, clock: rules.Clock) -> None:
    if clock.synchronised and clock.now >= channel.expires:
        raise rules._Refused(rules.STALE, "expired")


def _unremembered(self: state.Trust, roots: Any, channel: Any, clock: rules.Clock) -> Any:
    return rules.judge(self.state(), roots, channel, clock, self._own, self._verify)


def _by_itself_only(
    signed: Any, root: Any, role: Any, where: str, verify: rules.Verify
) -> tuple[str, ...]:
    """Each root vouches for itself."""
    if where.startswith("root"):
        root = parse_root(signed.data)
        role = root.root
    return _check_signed(signed, root, role, where, verify)


_check_signed = rules._check_signed

MUTANTS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "replays are taken": (rules, "_check_sequence", nothing),
    "the place is not compared": (rules, "_check_place", nothing),
    "nothing expires": (rules, "_check_fresh", nothing),
    "no root expires": (rules, "_check_root_fresh", nothing),
    "time has no floor": (rules, "_check_fresh", _without_floor),
    "counters are not compared": (rules, "_advanced", lambda _before, _target: rules.Ratchet()),
    "what a stolen key said stays": (rules, "_released", lambda before: before),
    "the threshold is one": (rules, "_check_signed", _first_key_only),
    "a root needs not the one before": (rules, "_check_signed", _by_itself_only),
    "roots are taken as they come": (rules, "_follow", _unfollowed),
    "nothing is remembered": (state.Trust, "take", _unremembered),
    "content is not synced": (FakeDisk, "sync", nothing),
    "names are not synced": (FakeDisk, "sync_names", nothing),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_traces_find_every_rule_that_is_taken_out(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, attribute, instead = MUTANTS[name]
    monkeypatch.setattr(place, attribute, instead)
    for seed in range(1, 5):
        if traces.campaign(500, seed, enough=1)["broken"]:
            return
    pytest.fail("2,000 traces found nothing")


def replaced(disk: FakeDisk, data: bytes) -> None:
    """Put content in the place of a file, as the device does."""
    disk.write("new", data)
    disk.sync("new")
    disk.rename("new", "file")
    disk.sync_names()


@pytest.mark.parametrize("operation", range(7))
def test_a_disk_without_power_keeps_what_was_synced_and_nothing_else(operation: int) -> None:
    found = set()
    for seed in range(100):
        disk = FakeDisk(random.Random(seed))
        replaced(disk, b"one")
        disk.fail_at, disk.done = operation, 0
        if operation < 6:
            with pytest.raises(PowerLoss):
                replaced(disk, b"two")
        else:
            replaced(disk, b"two")
        found.add(disk.read("file"))
    # Up to the change of names it is the old one, then either, and the new one in the end.
    assert found == (
        {b"one"} if operation < 4 else {b"one", b"two"} if operation == 4 else {b"two"}
    )


def test_the_largest_signatures_fit() -> None:
    """Two thresholds of keys, old and new, beside a root document."""
    site = Site(3, threshold=2)
    assert max(len(one.signatures) for one in site.signed_roots) < MAX_SIGNATURES_BYTES
