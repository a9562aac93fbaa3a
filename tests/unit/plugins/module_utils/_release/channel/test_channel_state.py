# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device remembers: on the disk before it is used, and whole after whatever happened."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.documents import Signed
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.rules import (
    Clock,
    Own,
    first,
    judge,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.state import (
    SLOTS,
    Folder,
    Keeper,
    Trust,
    by_openssl,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError

from tests.benchmarks import channel_world as world

KEY, ONLINE = world.Key.make(), world.Key.make()
OWN = Own(world.SITE, world.RING, world.CLASS)
CLOCK = Clock(world.NOW, synchronised=True)
FIRST = world.signed(world.root(1, [KEY], [ONLINE]).to_bytes(), [KEY])


def trust(place: Path) -> Trust:
    return Trust(Keeper(Folder(place)), OWN, world.verify)


def offer(sequence: int) -> Signed:
    return world.signed(world.channel(sequence).to_bytes(), [ONLINE])


def test_a_state_reads_back(tmp_path: Path) -> None:
    state = judge(
        first(FIRST, world.SITE, world.verify), (), offer(5), CLOCK, OWN, world.verify
    ).state
    keeper = Keeper(Folder(tmp_path))
    assert keeper.load() is None
    keeper.save(state)
    assert Keeper(Folder(tmp_path)).load() == state


def test_what_was_believed_is_remembered_by_the_next_process(tmp_path: Path) -> None:
    assert trust(tmp_path).enrol(FIRST)
    assert trust(tmp_path).take((), offer(5), CLOCK).new
    found = trust(tmp_path).take((), offer(4), CLOCK)
    assert found.refusal is not None
    assert trust(tmp_path).state().sequence == 5


def test_nothing_is_written_where_nothing_is_new(tmp_path: Path) -> None:
    trust(tmp_path).enrol(FIRST)
    trust(tmp_path).take((), offer(5), CLOCK)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert not trust(tmp_path).take((), offer(5), CLOCK).new
    trust(tmp_path).take((), offer(3), CLOCK)
    assert not trust(tmp_path).enrol(FIRST)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_torn_file_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    trust(tmp_path).enrol(FIRST)  # a
    trust(tmp_path).take((), offer(5), CLOCK)  # b
    trust(tmp_path).take((), offer(6), CLOCK)  # a again
    newest = tmp_path / SLOTS[0]
    newest.write_bytes(newest.read_bytes()[:-9])
    assert trust(tmp_path).state().sequence == 5
    # The next step is written over the torn one, not over the one that is whole.
    assert trust(tmp_path).take((), offer(7), CLOCK).new
    assert trust(tmp_path).state().sequence == 7
    (tmp_path / SLOTS[0]).unlink()
    assert trust(tmp_path).state().sequence == 5


def test_two_torn_files_take_nothing_until_a_person_enrols_again(tmp_path: Path) -> None:
    trust(tmp_path).enrol(FIRST)
    trust(tmp_path).take((), offer(5), CLOCK)
    for name in SLOTS:
        (tmp_path / name).write_bytes(b"{}")
    for attempt in (
        lambda: trust(tmp_path).take((), offer(6), CLOCK),
        lambda: trust(tmp_path).enrol(FIRST),
    ):
        with pytest.raises(RegistryError, match="enrol it again"):
            attempt()
    assert trust(tmp_path).enrol(FIRST, again=True)
    assert trust(tmp_path).take((), offer(6), CLOCK).new


def test_who_was_never_enrolled_believes_nobody(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="never enrolled"):
        trust(tmp_path).take((), offer(5), CLOCK)


def test_a_device_of_another_site_says_so(tmp_path: Path) -> None:
    trust(tmp_path).enrol(FIRST)
    moved = Trust(Keeper(Folder(tmp_path)), Own("other", world.RING, world.CLASS), world.verify)
    with pytest.raises(RegistryError, match="enrolled at the site site-of-the-test, its settings"):
        moved.enrol(FIRST)


def test_files_belong_to_the_group_of_their_directory(tmp_path: Path) -> None:
    trust(tmp_path).enrol(FIRST)
    status = (tmp_path / SLOTS[0]).stat()
    assert status.st_gid == tmp_path.stat().st_gid
    assert status.st_mode & 0o777 == 0o640


def test_openssl_believes_what_it_is_to(tmp_path: Path) -> None:
    device = Trust(Keeper(Folder(tmp_path)), OWN, by_openssl)
    device.enrol(FIRST)
    assert device.take((), offer(5), CLOCK).new
    forged = Signed(offer(6).data, offer(5).signatures)
    found = device.take((), forged, CLOCK)
    assert found.refusal is not None
    assert found.refusal.kind == "unsigned"
