"""The identity of a cluster is decided once and survives every interruption."""

from __future__ import annotations

import base64
import itertools

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.errors import CephError
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.identity import (
    LABEL,
    Disk,
    Identity,
    complete,
    dump,
    judge_device,
    keyring,
    load,
    new_key,
)

DISKS = [Disk(0, 4), Disk(1, 4)]


def decide(identity: Identity | None, disks: list[Disk], start: int = 0) -> Identity:
    numbers = itertools.count(start)
    return complete(
        identity, disks, lambda: f"uuid-{next(numbers)}", lambda: f"key-{next(numbers)}"
    )


def test_everything_gets_an_id_and_a_key() -> None:
    identity = decide(None, DISKS)
    assert identity.fsid == "uuid-0"
    assert set(identity.disks) == {0, 1}
    assert set(identity.keys) == {
        "mon.", "client.admin", "mgr.a", "client.rgw", "osd.0", "osd.1",
    }  # fmt: skip
    assert len(set(identity.keys.values())) == 6


def test_what_is_decided_stays_when_a_disk_is_added() -> None:
    before = decide(None, DISKS)
    after = decide(before, [*DISKS, Disk(7, 4)], start=100)
    assert after.fsid == before.fsid
    assert {n: after.disks[n] for n in before.disks} == before.disks
    assert {e: after.keys[e] for e in before.keys} == before.keys
    assert set(after.disks) == {0, 1, 7}
    assert "osd.7" in after.keys


def test_a_disk_that_is_no_longer_named_is_not_forgotten() -> None:
    before = decide(None, DISKS)
    assert decide(before, [Disk(0, 4)], start=100) == before


def test_deciding_twice_is_deciding_once() -> None:
    identity = decide(None, DISKS)
    assert decide(identity, DISKS, start=100) == identity


def test_the_identity_survives_being_written() -> None:
    identity = decide(None, DISKS).making("mon").making("osd-0")
    assert load(dump(identity), "x") == identity


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fsid": "a", "disks": 1}'])
def test_a_damaged_identity_is_named(text: str) -> None:
    with pytest.raises(CephError, match=r"cluster.json is damaged .* restore the file"):
        load(text, "cluster.json")


def test_a_key_has_ceph_s_form() -> None:
    raw = base64.b64decode(new_key(bytes(16), 1700000000))
    assert raw == bytes.fromhex("0100 00f15365 00000000 1000") + bytes(16)


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        new_key(b"short", 0)


def test_a_keyring_holds_key_and_caps() -> None:
    identity = Identity("f", keys={"osd.3": "secret"})
    assert keyring(identity, "osd.3") == (
        "[osd.3]\n\tkey = secret\n"
        '\tcaps mgr = "allow profile osd"\n\tcaps mon = "allow profile osd"\n'
        '\tcaps osd = "allow *"\n'
    )


@pytest.mark.parametrize("start", [b"", bytes(4096), LABEL + b"mine\n" + bytes(100)])
def test_an_empty_device_or_our_own_is_accepted(start: bytes) -> None:
    judge_device(Disk(1, 0, "/dev/sdb"), "mine", start)


@pytest.mark.parametrize(
    ("start", "held"),
    [
        (LABEL + b"another\n" + bytes(100), "the OSD another"),
        (bytes(1080) + b"\x53\xef" + bytes(100), "data"),
        (b"LABELONE", "data"),
    ],
)
def test_a_device_that_holds_something_is_refused(start: bytes, held: str) -> None:
    with pytest.raises(CephError, match=f"/dev/sdb for osd.1 holds {held}, wanted an empty disk"):
        judge_device(Disk(1, 0, "/dev/sdb"), "mine", start)
