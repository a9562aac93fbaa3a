# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the control host publishes is what devices believe, also over rotations of every key."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel import publish, renewal
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.documents import (
    Signed,
    Target,
    build_signatures,
    parse_channel,
    parse_root,
    parse_signatures,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.publish import (
    Publisher,
    Wanted,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.rooting import (
    Wish,
    lacking,
    next_root,
    signers,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.rules import (
    Clock,
    Own,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.state import (
    Folder,
    Keeper,
    Trust,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.modules import rollout_channel

from tests.benchmarks import channel_world as world
from tests.benchmarks.channel_world import NOW, WEEK, YEAR
from tests.patience import PATIENCE

ROOT, OTHER_ROOT, THIRD_ROOT = (world.Key.make() for _number in range(3))
OWN = Own(world.SITE, world.RING, world.CLASS)


class Control:
    """A control host with its controller."""

    def __init__(self, place: Path) -> None:
        self.fleet, self.own, self.now = place / "fleet", place / "signer", float(NOW)
        for path in (self.fleet / "root", self.fleet / "channel", self.own):
            path.mkdir(parents=True)
        self.root_keys, self.threshold = [ROOT], 1

    def publisher(self) -> Publisher:
        return Publisher(world.SITE, self.fleet, self.own, self.now, world.verify)

    def root(self, fresh: bool = False, by: Any = None) -> bool:
        """What ``playbooks/fleet_keys.yml`` does."""
        publisher = self.publisher()
        online = publisher.keys.public(publisher.key(fresh))
        state = publisher.trusted()
        current = state.root if state is not None else None
        wish = Wish(
            world.SITE,
            tuple(key.public for key in self.root_keys),
            (online,),
            threshold=self.threshold,
        )
        document = next_root(wish, current, int(self.now))
        if document is None:
            return False
        data = document.to_bytes()
        keys = [*self.root_keys, *(by or [])]
        have = [key for key in keys if key.id in signers(document, current)]
        assert lacking(document, current, [key.id for key in have]) == ""
        return publisher.install(world.signed(data, have))

    def tell(self, ring: str = world.RING, **changed: Any) -> publish.Published:
        """Publish for a ring."""
        return self.publisher().publish(
            Wanted(ring, (world.CLASS,), (world.target(**changed),), valid_seconds=WEEK)
        )

    def served(self, ring: str = world.RING) -> Signed:
        path = self.fleet / "channel" / f"{ring}.json"
        return Signed(path.read_bytes(), Path(f"{path}.sig").read_bytes())


@pytest.fixture
def control(tmp_path: Path) -> Control:
    return Control(tmp_path)


class Phone:
    """A device that polls."""

    def __init__(self, place: Path, control: Control) -> None:
        place.mkdir()
        self.trust = Trust(Keeper(Folder(place)), OWN, world.verify)
        self.control = control
        self.trust.enrol(control.publisher().roots()[0])

    def poll(self, served: Signed | None = None) -> Any:
        known = self.trust.state().root.version
        roots = self.control.publisher().roots()[known:]
        clock = Clock(self.control.now + 60, synchronised=True)
        return self.trust.take(roots, served or self.control.served(), clock)


def test_devices_believe_what_is_published(control: Control, tmp_path: Path) -> None:
    assert control.root()
    assert control.tell().changed
    verdict = Phone(tmp_path / "device", control).poll()
    assert verdict.refusal is None
    assert verdict.targets == (world.target(),)


def test_nothing_is_published_again_where_nothing_changed(control: Control) -> None:
    control.root()
    first = control.tell()
    before = control.served()
    assert not control.root()
    again = control.tell()
    assert not again.changed
    assert again.channel == first.channel
    assert control.served() == before
    assert control.tell(step="commit").channel.sequence > first.channel.sequence


def test_half_of_its_time_makes_a_channel_new(control: Control) -> None:
    control.root()
    old = control.tell().channel
    control.now += WEEK / 2 - 1
    assert control.publisher().renew() == []
    control.now += 2
    assert control.publisher().renew(write=False) == [world.RING]
    assert parse_channel(control.served().data) == old
    assert control.publisher().renew() == [world.RING]
    fresh = parse_channel(control.served().data)
    assert (fresh.sequence, fresh.expires) == (old.sequence + 1, int(control.now) + WEEK)
    assert fresh.models == old.models


def test_every_document_of_the_site_has_a_number_of_its_own(control: Control) -> None:
    """A device that moves to another ring is behind no number that it has seen."""
    control.root()
    numbers = [control.tell(ring).channel.sequence for ring in ("ring_a", "ring_b", "ring_c")]
    assert numbers == [1, 2, 3]
    (control.own / publish.SERIAL).unlink()  # what is published itself is known, too
    assert control.tell("ring_a", step="commit").channel.sequence == 4


def test_the_number_is_used_up_before_anything_is_signed(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.root()
    control.tell()

    def killed(*_arguments: Any) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(publish.Keys, "sign", killed)
    with pytest.raises(KeyboardInterrupt):
        control.tell(step="commit")
    monkeypatch.undo()
    assert control.tell(step="commit").channel.sequence == 3


def test_one_who_fetches_across_a_change_finds_a_good_signature(
    control: Control, tmp_path: Path
) -> None:
    control.root()
    control.tell()
    old = control.served()
    device = Phone(tmp_path / "device", control)
    control.tell(step="commit")
    assert device.poll(Signed(old.data, control.served().signatures)).refusal is None
    # There is one for each document, not one for each that ever was.
    for number in range(4):
        control.tell(generation=2 + number)
    assert len(parse_signatures(control.served().signatures)) == 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"generation": 0}, "another controller has taken over since"),
        ({"counter": 6}, "going back has to be asked for"),
        ({"counter": 2, "rollback": True}, "the least that may be installed is 3"),
    ],
)
def test_what_devices_would_refuse_is_not_published(
    control: Control, changed: dict[str, Any], said: str
) -> None:
    control.root()
    control.tell()
    before = control.served()
    with pytest.raises(RegistryError, match="Devices would refuse this: .*" + said):
        control.tell(**changed)
    assert control.served() == before


def test_before_there_is_a_root_nothing_is_published(control: Control) -> None:
    with pytest.raises(RegistryError, match=r"no root document yet; make it with playbooks/fleet"):
        control.tell()


def test_a_rotated_online_key_reaches_devices_that_slept(control: Control, tmp_path: Path) -> None:
    control.root()
    control.tell()
    awake, asleep = (Phone(tmp_path / name, control) for name in ("awake", "asleep"))
    for device in (awake, asleep):
        assert device.poll().new
    old_keys = set(control.publisher().keys.all())
    for _rotation in range(2):
        control.now += 86400
        assert control.root(fresh=True)
        assert awake.poll().new
    assert asleep.poll().new
    assert asleep.trust.state().root.version == 3
    assert not set(control.publisher().keys.all()) & old_keys
    assert len(control.publisher().keys.all()) == 1


def test_recovery_from_a_stolen_online_key(control: Control, tmp_path: Path) -> None:
    """The thief drives every number to its end; the documented command undoes it."""
    control.root()
    control.tell()
    device = Phone(tmp_path / "device", control)
    device.poll()
    keys = control.publisher().keys
    name = next(iter(keys.all()))
    wild = world.channel(
        2**53 - 1, world.target(generation=2**53 - 1, counter=2**53 - 1), issued=NOW + 9 * YEAR,
        expires=NOW + 10 * YEAR,
    ).to_bytes()  # fmt: skip
    assert device.poll(Signed(wild, build_signatures([(name, keys.sign(name, wild))]))).new
    assert device.poll().refusal.kind == "old"
    assert control.root(fresh=True)
    verdict = device.poll()
    assert verdict.refusal is None
    assert verdict.targets == (world.target(),)
    assert verdict.state.resets == 1


def test_rotated_root_keys_reach_devices_that_slept(control: Control, tmp_path: Path) -> None:
    control.root()
    control.tell()
    asleep = Phone(tmp_path / "device", control)
    control.root_keys, control.threshold = [OTHER_ROOT, THIRD_ROOT], 2
    assert control.root(by=[ROOT])
    control.root_keys, control.threshold = [THIRD_ROOT], 1
    assert control.root(by=[OTHER_ROOT])
    assert asleep.poll().refusal is None
    assert asleep.trust.state().root.root.keys == (THIRD_ROOT.id,)


def test_a_root_that_lacks_signatures_is_not_published(control: Control) -> None:
    control.root()
    current = parse_root(control.publisher().roots()[0].data)
    publisher = control.publisher()
    wish = Wish(world.SITE, (OTHER_ROOT.public,), (publisher.keys.public(publisher.key(True)),))
    document = next_root(wish, current, NOW)
    assert document is not None
    assert lacking(document, current, [OTHER_ROOT.id]) == f"1 of {ROOT.id}"
    assert lacking(document, current, []) == f"1 of {OTHER_ROOT.id} and 1 of {ROOT.id}"
    with pytest.raises(RegistryError, match="signed by 0 of the keys"):
        publisher.install(world.signed(document.to_bytes(), [OTHER_ROOT]))
    with pytest.raises(RegistryError, match="Found the root document 3, wanted 2"):
        publisher.install(world.signed(replace(document, version=3).to_bytes(), [ROOT]))
    assert len(publisher.roots()) == 1
    # The key that was made for it waits, and is taken the next time.
    assert publisher.key(True) == document.channel.keys[0]


def test_a_root_whose_online_key_is_elsewhere_is_not_published(control: Control) -> None:
    wish = Wish(world.SITE, (ROOT.public,), (OTHER_ROOT.public,))
    document = next_root(wish, None, NOW)
    assert document is not None
    with pytest.raises(RegistryError, match="none of them is on this host"):
        control.publisher().install(world.signed(document.to_bytes(), [ROOT]))


def test_a_root_is_made_anew_before_it_expires(control: Control) -> None:
    control.root()
    control.now += 3650 * 86400 - 731 * 86400
    assert not control.root()
    control.now += 2 * 86400
    assert control.root()


def test_an_online_key_is_no_root_key() -> None:
    with pytest.raises(RegistryError, match="The online key is a root key too"):
        next_root(Wish(world.SITE, (ROOT.public,), (ROOT.public,)), None, NOW)


def test_a_clock_that_went_back_is_said(control: Control) -> None:
    control.root()
    control.tell()
    control.now -= 3600
    assert control.tell(step="commit").channel.issued == NOW  # a little is made up for
    control.now -= 2 * 86400
    with pytest.raises(RegistryError, match="The clock of this host says"):
        control.tell(step="revert")


def test_a_serial_that_cannot_be_read_is_said(control: Control) -> None:
    control.root()
    (control.own / publish.SERIAL).write_text("x")
    with pytest.raises(RegistryError, match="put the sequence of the newest document"):
        control.tell()


def test_keys_are_read_by_their_owner_alone(control: Control) -> None:
    control.root()
    control.tell()
    modes = {path.name: path.stat().st_mode & 0o777 for path in control.own.iterdir()}
    assert {mode for name, mode in modes.items() if name.endswith(".key")} == {0o600}
    assert modes[world.RING] == 0o700
    served = (control.fleet / "channel").iterdir()
    assert {path.stat().st_mode & 0o777 for path in served} == {0o640}


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="directory"):
        publish.put(tmp_path / "x", b"data", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_where_the_gateway_is_not_prepared_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="set gateway_fleet to true"):
        Publisher(world.SITE, tmp_path, tmp_path, NOW)


def test_what_a_playbook_leaves_out_is_the_least() -> None:
    row = {
        "model": "defects",
        "digest": "sha256:" + "a" * 64,
        "size": 1,
        "counter": 7,
        "step": "stage",
        "rollout": "r",
        "generation": 1,
        "deadline": None,
    }
    found = publish.read_target(row, 5, "model 1")
    assert found == Target("defects", "sha256:" + "a" * 64, 1, 7, 5, "stage", "r", 1)
    assert json.loads(json.dumps(found.to_json()))["minimum_counter"] == 5


def test_what_is_said_of_one_model_leaves_what_is_said_of_others(tmp_path: Path) -> None:
    control = Control(tmp_path)
    control.root()
    publisher = control.publisher()
    options: dict[str, Any] = {
        "step": "publish",
        "ring": world.RING,
        "device_classes": [world.CLASS],
    }
    options.update(next_poll=300, valid_days=30)

    def tell(model: str, models: list[dict[str, Any]]) -> bool:
        found = rollout_channel.answer(
            publisher, {**options, "only": model, "models": models}, True
        )
        return bool(found["changed"])

    def target(model: str) -> dict[str, Any]:
        return world.target(model=model).to_json()

    def told() -> list[str]:
        return [one.model for one in publisher.channels()[world.RING].models]

    assert tell("cracks", [target("cracks")])
    assert tell("bolts", [target("bolts")])
    assert told() == ["bolts", "cracks"]
    assert not tell("cracks", [target("cracks")])
    assert tell("cracks", [])
    assert told() == ["bolts"]
    with pytest.raises(RegistryError, match="Found the model bolts in models, wanted only cracks"):
        tell("cracks", [target("bolts")])


def test_two_publishers_wait_for_each_other(tmp_path: Path) -> None:
    done: list[str] = []

    def second() -> None:
        with renewal.alone(str(tmp_path)):
            done.append("second")

    thread = threading.Thread(target=second)
    with renewal.alone(str(tmp_path)):
        thread.start()
        thread.join(0.2)
        done.append("first")
    thread.join(PATIENCE)
    assert done == ["first", "second"]
    assert list(tmp_path.iterdir()) == []
