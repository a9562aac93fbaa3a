"""What is made on disk follows from what is there; what cannot be mended is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.errors import CephError
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.identity import (
    GIB,
    Disk,
    Identity,
    complete,
)
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.storage import (
    Present,
    keyrings_of,
    plan,
    refuse,
)

DISKS = (Disk(0, 4 * GIB), Disk(1, 4 * GIB))
IDENTITY = complete(None, list(DISKS), lambda: "uuid", lambda: "key")
WHOLE = Present(frozenset({"cluster.json", "mon", "osd-0", "osd-1"}), keyrings_of(IDENTITY))


def texts(present: Present, disks: Sequence[Disk] = DISKS) -> list[str]:
    return [step.text for step in plan(IDENTITY, present, list(disks))]


def test_an_empty_host_gets_everything_in_order() -> None:
    assert texts(Present()) == [
        "write admin.keyring",
        "write mgr/keyring",
        "write rgw/keyring",
        "make the monitor's store",
        "make osd.0 on a file of 4 GiB",
        "make osd.1 on a file of 4 GiB",
    ]


def test_a_complete_host_gets_nothing() -> None:
    assert texts(WHOLE) == []


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        ({"mon-keys.new"}, ["remove what an interrupted run left in mon-keys.new"]),
        ({"osd-1.new"}, ["remove what an interrupted run left in osd-1.new"]),
    ],
)
def test_what_an_interrupted_run_left_goes_first(entries: set[str], wanted: list[str]) -> None:
    assert texts(Present(WHOLE.entries | entries, WHOLE.keyrings)) == wanted


def test_a_store_that_was_not_renamed_is_made_again() -> None:
    present = Present(WHOLE.entries - {"osd-1"} | {"osd-1.new"}, WHOLE.keyrings)
    assert texts(present) == [
        "remove what an interrupted run left in osd-1.new",
        "make osd.1 on a file of 4 GiB",
    ]


def test_an_added_device_is_named() -> None:
    assert texts(WHOLE, [*DISKS, Disk(5, 0, "/dev/sdc")]) == ["make osd.5 on /dev/sdc"]


def test_a_keyring_that_differs_is_written() -> None:
    present = Present(WHOLE.entries, {**WHOLE.keyrings, "rgw/keyring": "other"})
    assert texts(present) == ["write rgw/keyring"]


@pytest.mark.parametrize("present", [Present(), WHOLE, Present(frozenset({"cluster.json"}))])
def test_what_can_be_mended_is_not_refused(present: Present) -> None:
    refuse(IDENTITY if present.entries else None, present, DISKS, "/d")


@pytest.mark.parametrize(
    ("identity", "present", "disks", "sentence"),
    [
        (None, Present(), [Disk(1, 1), Disk(1, 1)], "object_store_osds names the id 1 twice"),
        (
            None,
            Present(),
            [Disk(1, 1, "/dev/sdb"), Disk(2, 1, "/dev/sdb")],
            "object_store_osds names /dev/sdb twice",
        ),
        (
            None,
            Present(frozenset({"mon", "osd-0", "osd-1.new"})),
            DISKS,
            "/d holds mon, osd-0 but no cluster.json",
        ),
        (
            IDENTITY.making("osd-1"),
            Present(frozenset({"mon", "osd-0"})),
            DISKS,
            "/d/osd-1 is gone although the cluster was made with it",
        ),
        (IDENTITY, WHOLE, DISKS[:1], "/d holds osd.1, which object_store_osds no longer names"),
        (
            IDENTITY,
            Present(WHOLE.entries, WHOLE.keyrings, {0: 4 * GIB}),
            [Disk(0, 5 * GIB), DISKS[1]],
            "osd.0 has 4 GiB, object_store_osd_size_gib says 5; the size of an OSD cannot be "
            "changed: set it back to 4 and add another OSD to object_store_osds.",
        ),
    ],
)
def test_refused(
    identity: Identity | None, present: Present, disks: list[Disk], sentence: str
) -> None:
    with pytest.raises(CephError) as caught:
        refuse(identity, present, disks, "/d")
    assert sentence in str(caught.value)
