# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""New disks of the object store are made at the same time, and none is forgotten."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.errors import CephError
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.identity import Disk
from ansible_collections.mlops.onprem.plugins.modules.ceph_storage import Stores

from tests.patience import PATIENCE

PARAMS = {"config": "/ceph.conf", "data_dir": "/nowhere", "user": "ceph"}


def stores(monkeypatch: pytest.MonkeyPatch, disks: int, make: Any) -> Stores:
    osds = [{"id": number, "size_gib": 10, "device": ""} for number in range(disks)]
    monkeypatch.setattr(Stores, "make_disk", make)
    return Stores({**PARAMS, "osds": osds})


def test_disks_are_made_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    all_began = threading.Barrier(3, timeout=PATIENCE)
    made = []

    def make(_self: Stores, _identity: Any, disk: Disk) -> None:
        all_began.wait()
        made.append(disk.id)

    some: Any = None
    one = stores(monkeypatch, 3, make)
    one.make_disks(some, list(one.disks))
    assert sorted(made) == [0, 1, 2]


def test_the_others_have_ended_when_a_disk_that_failed_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed = threading.Event()
    made = []

    def make(_self: Stores, _identity: Any, disk: Disk) -> None:
        if disk.id == 1:
            failed.set()
            raise CephError("Could not make osd.1: no space.")
        assert failed.wait(PATIENCE)
        made.append(disk.id)

    some: Any = None
    one = stores(monkeypatch, 5, make)
    with pytest.raises(CephError, match=r"osd\.1"):
        one.make_disks(some, list(one.disks))
    assert sorted(made) == [0, 2, 3, 4]


def test_without_a_new_disk_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(_self: Stores, _identity: Any, _disk: Disk) -> None:
        raise AssertionError

    some: Any = None
    stores(monkeypatch, 1, make).make_disks(some, [])
