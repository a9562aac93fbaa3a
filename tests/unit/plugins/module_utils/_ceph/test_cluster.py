"""The monitor is told exactly what it does not know."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.cluster import (
    Known,
    Pool,
    Wanted,
    parse_known,
    plan,
)
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.errors import CephError
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.identity import (
    Disk,
    caps_of,
    complete,
)

IDENTITY = complete(None, [Disk(0, 1)], lambda: "uuid", lambda: "secret")
WANTED = Wanted(2, (Pool("data", 8, "rgw"),), {("mgr", "a/b"): "c"}, ("prometheus",))
COMPLETE = Known(
    "uuid",
    {name: (key, caps_of(name)) for name, key in IDENTITY.keys.items() if name != "mon."},
    {0: "uuid"},
    {("mgr", "a/b"): "c"},
    frozenset({"prometheus"}),
    {"data": 2, ".mgr": 2},
    {"data": frozenset({"rgw"})},
)


def texts(known: Known, wanted: Wanted = WANTED) -> list[str]:
    return [order.text for order in plan(IDENTITY, known, wanted)]


def test_a_new_monitor_is_told_everything() -> None:
    assert texts(Known("uuid")) == [
        "tell the monitor the key of client.admin",
        "tell the monitor the key of mgr.a",
        "tell the monitor the key of client.rgw",
        "tell the monitor the key of osd.0",
        "register osd.0",
        "set a/b to c",
        "enable the manager's module prometheus",
        "create pool data",
        "say that pool data is for rgw",
    ]


def test_a_monitor_that_knows_everything_is_told_nothing() -> None:
    assert texts(COMPLETE) == []


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        (replace(COMPLETE, disks={}), ["register osd.0"]),
        (replace(COMPLETE, uses={}), ["say that pool data is for rgw"]),
        (replace(COMPLETE, pools={"data": 3}), ["keep 2 copies of pool data"]),
        (
            replace(COMPLETE, accounts={**COMPLETE.accounts, "mgr.a": ("other", {})}),
            ["tell the monitor the key of mgr.a"],
        ),
        (replace(COMPLETE, settings={("mgr", "a/b"): "x"}), ["set a/b to c"]),
    ],
)
def test_only_the_difference_is_told(known: Known, wanted: list[str]) -> None:
    assert texts(known) == wanted


def test_one_copy_is_said_twice_to_ceph() -> None:
    orders = plan(IDENTITY, COMPLETE, replace(WANTED, replicas=1))
    assert all(order.command["yes_i_really_mean_it"] for order in orders)


def test_keys_are_data_and_never_part_of_a_command_or_text() -> None:
    for order in plan(IDENTITY, Known("uuid"), WANTED):
        assert "secret" not in str(order.command) + order.text


def test_another_cluster_is_refused() -> None:
    with pytest.raises(CephError, match="belongs to the cluster other, wanted uuid"):
        texts(Known("other"))


def test_a_number_that_belongs_to_another_disk_is_refused() -> None:
    with pytest.raises(CephError, match=r"knows osd.0 as other, its disk on this host is uuid"):
        texts(replace(COMPLETE, disks={0: "other"}))


def test_the_answers_of_the_monitor_are_understood() -> None:
    known = parse_known(
        {"auth_dump": [{"entity": "osd.0", "key": "k", "caps": {"mon": "allow *"}}]},
        {
            "fsid": "f",
            "osds": [{"osd": 0, "uuid": "u"}],
            "pools": [{"pool_name": "p", "size": 2, "application_metadata": {"rgw": {}}}],
        },
        [{"section": "mgr", "name": "n", "value": "v"}],
        {"enabled_modules": ["prometheus"]},
    )
    assert known == Known(
        "f",
        {"osd.0": ("k", {"mon": "allow *"})},
        {0: "u"},
        {("mgr", "n"): "v"},
        frozenset({"prometheus"}),
        {"p": 2},
        {"p": frozenset({"rgw"})},
    )
