# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One storage is counted once, however many hosts and mounts lead to it."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._capacity import site_sums
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.margins import Margins
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.planning import (
    Planned,
    plan_workloads,
)
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.request import Written
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.site_plan import SitePlan
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.stores import Store, stores_of
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import (
    SITE,
    Demand,
    DiskNeed,
)
from ansible_collections.mlops.onprem.plugins.module_utils._supply.facts import facts_of

from tests import example_site

NONE = Margins(0, 0, 1, 0, 0, 0, 3600, 0)
TIB = 1024.0 * 1024.0
ROOT = 100.0 * 1024.0


def disk(mount: str, device: str, size: float, left: float, **more: Any) -> dict[str, Any]:
    return {**example_site.disk(mount, device, size, left), **more}


def nas(mount: str = "/mnt/nas", size: float = 12 * TIB, **more: Any) -> dict[str, Any]:
    """An empty NFS export."""
    device, left = more.pop("device", "0:45"), more.pop("available_mib", size)
    told = {"type": "nfs4", "source": "nas:/export", "server": "10.0.0.5", **more}
    return disk(mount, device, size, left, **told)


def host(name: str, *mounts: dict[str, Any], root: float = ROOT, **more: Any) -> dict[str, Any]:
    facts = example_site.facts(name, 16, 65536.0, [disk("/", "8:1", root, root), *mounts], 0)
    facts["memory"]["available_mib"] = 65536.0
    facts["services"]["foreign"] = []
    return {**facts, **more}


def read(supply: dict[str, dict[str, Any]]) -> tuple[Store, ...]:
    return stores_of({name: facts_of(facts) for name, facts in supply.items()})


def site(*hosts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {str(facts["host"]): facts for facts in hosts}


def dataset(name: str, path: str, size: float, **disk_: Any) -> dict[str, Any]:
    row = {"path": path, "size_mib": size, **disk_}
    return {"name": name, "kind": "dataset", "requests": {"disks": [row]}}


def plan(
    supply: dict[str, dict[str, Any]],
    *workloads: dict[str, Any],
    demand: dict[str, list[Demand]] | None = None,
    **written: Any,
) -> Planned:
    return plan_workloads(
        Written(list(workloads), **written),
        sorted(supply),
        supply,
        demand or {},
        NONE,
        {"seconds": 5, "horizon_years": 2},
        example_site.steady_clock(),
        example_site.NOW,
    )


def verdict(supply: dict[str, dict[str, Any]], *workloads: dict[str, Any], **more: Any) -> str:
    return planned(supply, *workloads, **more).verdict


def planned(supply: dict[str, dict[str, Any]], *works: dict[str, Any], **more: Any) -> SitePlan:
    found = plan(supply, *works, **more)
    assert found.plan is not None, found.findings
    return found.plan


THREE = [dataset(f"data{n}", f"/mnt/nas/d{n}", 10 * TIB) for n in range(3)]


def test_one_export_on_three_hosts_is_there_once() -> None:
    supply = site(*(host(name, nas()) for name in ("h1", "h2", "h3")))
    found = planned(supply, *THREE)
    assert found.verdict == "INFEASIBLE"
    assert found.result.at_least == 2
    [short] = [row for row in found.shortages if "nas:/export" in row.resource]
    assert short.short == 18 * TIB
    assert "it is one storage, however many hosts reach it" in " ".join(short.steps)
    assert verdict(supply, THREE[0]) == "FEASIBLE"


# Two mounts each, of one storage.
ONE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "an export by two names of the server": (
        {"source": "nas:/export"},
        {"source": "nas.example.com:/export"},
    ),
    "an export by its name and its address": (
        {"source": "nas:/export", "server": None},
        {"source": "10.0.0.5:/export", "server": None},
    ),
    "two exports of one file system by its number": (
        {"source": "nas:/export/a", "fsid": "8d2e8c1b7f:0"},
        {"source": "nas:/export/b", "fsid": "8d2e8c1b7f:0"},
    ),
    "two exports with the same size and room": (
        {"source": "nas:/export/a"},
        {"source": "nas:/export/b"},
    ),
    "two versions of the protocol": ({"type": "nfs"}, {"type": "nfs4"}),
    "CIFS in any letters": (
        {"type": "cifs", "source": "//NAS/Data"},
        {"type": "cifs", "source": "//nas/data"},
    ),
    "two shares of one server file system": (
        {"type": "smb3", "source": "//nas/data"},
        {"type": "cifs", "source": "//nas/home"},
    ),
    "CephFS by kernel and by fuse": (
        {"type": "ceph", "source": "10.1.1.1,10.1.1.2:/", "server": None, "fsid": "5c1e9a77b1d2"},
        {"type": "fuse.ceph-fuse", "source": "ceph-fuse", "server": None, "fsid": "5c1e9a77b1d2"},
    ),
    "CephFS without a number": (
        {"type": "ceph", "source": "admin@.fs=/", "server": None},
        {"type": "ceph", "source": "admin@.fs=/", "server": None},
    ),
    "GlusterFS by two of its servers": (
        {"type": "fuse.glusterfs", "source": "g1:/vol", "server": None},
        {"type": "fuse.glusterfs", "source": "g2:/vol", "server": None},
    ),
    "GFS2 on a cluster's disk": (
        {"type": "gfs2", "source": "/dev/mapper/vg-gfs", "server": None, "uuid": "u-1"},
        {"type": "gfs2", "source": "/dev/dm-3", "server": None, "uuid": "u-1"},
    ),
    "OCFS2 without a number": (
        {"type": "ocfs2", "source": "/dev/sdb1", "server": None},
        {"type": "ocfs2", "source": "/dev/sdb1", "server": None},
    ),
    "a LUN by its name in the world": (
        {
            "type": "xfs",
            "source": "/dev/dm-1",
            "server": None,
            "wwn": "360a9",
            "uuid": "u",
        },
        {
            "type": "xfs",
            "source": "/dev/dm-2",
            "server": None,
            "wwn": "360a9",
            "uuid": "u",
        },
    ),
    "a LUN by the name of its device": (
        {"type": "xfs", "source": "/dev/mapper/3600a098038303053745d4b2f5", "server": None},
        {"type": "xfs", "source": "/dev/mapper/3600a098038303053745d4b2f5", "server": None},
    ),
    "a disk by the number of its file system": (
        {"type": "xfs", "source": "/dev/sdb", "server": None, "uuid": "u-2"},
        {"type": "xfs", "source": "/dev/sdc", "server": None, "uuid": "u-2"},
    ),
    "a directory of the machine under virtual machines": (
        {"type": "virtiofs", "source": "share", "server": None},
        {"type": "virtiofs", "source": "share", "server": None},
    ),
    "BeeGFS, whose source says nothing": (
        {"type": "beegfs", "source": "beegfs_nodev", "server": None},
        {"type": "beegfs", "source": "beegfs_nodev", "server": None},
    ),
    "Lustre": (
        {"type": "lustre", "source": "10.2.0.1@tcp:/scratch", "server": None},
        {"type": "lustre", "source": "10.2.0.1@tcp:/scratch", "server": None},
    ),
}


@pytest.mark.parametrize("case", ONE)
def test_what_two_hosts_have_of_one_storage_is_one(case: str) -> None:
    supply = site(*(host(f"h{n}", nas(**told)) for n, told in enumerate(ONE[case])))
    [store] = read(supply)
    assert store.hosts == ("h0", "h1")
    assert (store.size_mib, store.available_mib) == (12 * TIB, 12 * TIB)
    assert verdict(supply, *THREE[:2]) == "INFEASIBLE"
    assert verdict(supply, THREE[0]) == "FEASIBLE"


# Two mounts each, of two storages.
TWO: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "two servers": (
        {"source": "nas1:/a", "server": "10.0.0.5"},
        {"source": "nas2:/b", "server": "10.0.0.6"},
    ),
    "one export path of two servers of different size": (
        {"source": "nas1:/data", "server": "10.0.0.5"},
        {"source": "nas2:/data", "server": "10.0.0.6", "size": 13 * TIB},
    ),
    "two volumes of one server": (
        {"source": "nas:/a"},
        {"source": "nas:/b", "size": 13 * TIB},
    ),
    "machines made from one copy": (
        {"type": "ext4", "source": "/dev/sda2", "server": None, "uuid": "u", "device": "8:2"},
        {
            "type": "ext4",
            "source": "/dev/sda2",
            "server": None,
            "uuid": "u",
            "device": "8:2",
            "available_mib": 11 * TIB,
        },
    ),
    "two volumes of one disk that two hosts reach": (
        {
            "type": "xfs",
            "source": "/dev/mapper/vg-a",
            "server": None,
            "wwn": "360a9",
            "uuid": "u-1",
        },
        {
            "type": "xfs",
            "source": "/dev/mapper/vg-b",
            "server": None,
            "wwn": "360a9",
            "uuid": "u-2",
        },
    ),
    "two volumes of one disk without numbers": (
        {"type": "xfs", "source": "/dev/mapper/vg-a", "server": None, "wwn": "360a9"},
        {"type": "xfs", "source": "/dev/mapper/vg-b", "server": None, "wwn": "360a9"},
    ),
    "disks of two hosts that are called alike": (
        {"type": "ext4", "source": "/dev/sdb1", "server": None, "device": "8:17"},
        {"type": "ext4", "source": "/dev/sdb1", "server": None, "device": "8:17"},
    ),
    "ZFS pools of two hosts that are called alike": (
        {"type": "zfs", "source": "tank/data", "server": None, "pool": "ZFS pool tank"},
        {"type": "zfs", "source": "tank/data", "server": None, "pool": "ZFS pool tank"},
    ),
}


@pytest.mark.parametrize("case", TWO)
def test_what_is_not_one_is_counted_as_two(case: str) -> None:
    supply = site(*(host(f"h{n}", nas(**told)) for n, told in enumerate(TWO[case])))
    assert not [store for store in read(supply) if len(store.members) > 1]
    assert verdict(supply, *THREE[:2]) == "FEASIBLE"


# Two mounts of one host that take their room from one pool.
POOLS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ZFS data sets by their names alone": (
        {"type": "zfs", "source": "tank/a", "device": "0:50"},
        {"type": "zfs", "source": "tank/b", "device": "0:51"},
    ),
    "ZFS data sets": (
        {"type": "zfs", "source": "tank/a", "pool": "ZFS pool tank", "device": "0:50"},
        {"type": "zfs", "source": "tank/b", "pool": "ZFS pool tank", "device": "0:51"},
    ),
    "btrfs subvolumes": (
        {"type": "btrfs", "source": "/dev/sda2", "pool": "btrfs u-1", "device": "0:50"},
        {"type": "btrfs", "source": "/dev/sdb2", "pool": "btrfs u-1", "device": "0:51"},
    ),
    "a bind mount": (
        {"type": "xfs", "source": "/dev/sdb", "device": "8:16"},
        {"type": "xfs", "source": "/dev/sdb", "device": "8:16", "root": "/inner"},
    ),
    "two exports of one server file system": (
        {"type": "nfs4", "source": "nas:/a", "device": "0:50", "server": "10.0.0.5"},
        {"type": "nfs4", "source": "nas:/b", "device": "0:51", "server": "10.0.0.5"},
    ),
}


@pytest.mark.parametrize("case", POOLS)
def test_file_systems_of_one_pool_have_its_room_once(case: str) -> None:
    one, other = POOLS[case]
    supply = site(
        host(
            "h1",
            nas("/srv/a", **{"server": None, **one}),
            nas("/srv/b", **{"server": None, **other}),
        )
    )
    works = [dataset("a", "/srv/a/x", 7 * TIB), dataset("b", "/srv/b/x", 7 * TIB)]
    assert verdict(supply, *works) == "INFEASIBLE"
    assert verdict(supply, works[0]) == "FEASIBLE"
    demand = {"h1": [Demand("A", disks=(DiskNeed("/srv/a", 7 * TIB), DiskNeed("/srv/b", 7 * TIB)))]}
    assert site_sums.plan(supply, demand, NONE, example_site.NOW).verdict == "INFEASIBLE"


def test_a_quota_of_a_data_set_binds_besides_its_pool() -> None:
    told: dict[str, Any] = {"type": "zfs", "server": None, "pool": "ZFS pool tank"}
    supply = site(
        host(
            "h1",
            nas("/srv/a", source="tank/a", device="0:50", size=1 * TIB, **told),
            nas("/srv/b", source="tank/b", device="0:51", **told),
        )
    )
    assert verdict(supply, dataset("a", "/srv/a/x", 2 * TIB)) == "INFEASIBLE"
    assert verdict(supply, dataset("b", "/srv/b/x", 11.5 * TIB)) == "FEASIBLE"
    works = dataset("a", "/srv/a/x", 0.9 * TIB), dataset("b", "/srv/b/x", 11.5 * TIB)
    assert verdict(supply, *works) == "INFEASIBLE"


@pytest.mark.parametrize(("left", "fits"), [(4 * TIB, False), (11.9 * TIB, True), (None, True)])
def test_a_thin_pool_gives_no_more_than_it_has(left: float | None, fits: bool) -> None:
    mounts = [
        nas(f"/srv/{n}", source=f"/dev/mapper/vg-{n}", type="xfs", server=None,
            device=f"253:{n}", pool="thin pool vg-pool-tpool")
        for n in range(2)
    ]  # fmt: skip
    pools = [{"name": "thin pool vg-pool-tpool", "size_mib": 12 * TIB, "available_mib": left}]
    supply = site(host("h1", *mounts, pools=pools))
    works = [dataset(f"d{n}", f"/srv/{n}/x", 5 * TIB) for n in range(2)]
    assert (verdict(supply, *works) == "FEASIBLE") is fits
    assert verdict(supply, *works, dataset("e", "/srv/1/y", 3 * TIB)) == "INFEASIBLE"


def test_services_of_all_hosts_add_up_on_one_storage() -> None:
    supply = site(*(host(name, nas("/var/lib/mlops", 100.0)) for name in ("h1", "h2", "h3")))
    need = Demand("store", "object_store", disks=(DiskNeed("/var/lib/mlops/x", 40.0),))
    two = site_sums.plan(supply, {"h1": [need], "h2": [need]}, NONE, example_site.NOW)
    assert two.verdict == "FEASIBLE"
    demand = {name: [need] for name in supply}
    found = site_sums.plan(supply, demand, NONE, example_site.NOW)
    assert found.verdict == "INFEASIBLE"
    assert set(found.hosts.values()) == {"INFEASIBLE"}
    [row] = [row for row in found.rows if row.resource == "storage nas:/export"]
    assert (row.host, row.total, row.demanded, row.short) == ("h1, h2, h3", 100.0, 120.0, 20.0)
    [fail] = [one for one in found.findings if one.severity == "fail"]
    assert fail.host == SITE
    assert "store on h1 40 (/var/lib/mlops/x)" in fail.wanted


def test_what_is_ours_on_one_storage_is_ours_once_and_foreign_use_counts_once() -> None:
    kept = {"directories": [{"path": "/var/lib/mlops/x", "mib": 30.0}], "packages_mib": 0}
    mount = nas("/var/lib/mlops", 100.0, available_mib=50.0)
    supply = site(*(host(name, mount, ours=kept) for name in ("h1", "h2")))
    need = Demand("store", "object_store", disks=(DiskNeed("/var/lib/mlops/x", 40.0),))
    found = site_sums.plan(supply, {"h1": [need], "h2": [need]}, NONE, example_site.NOW)
    [row] = [row for row in found.rows if row.resource == "storage nas:/export"]
    assert (row.ours_now, row.foreign, row.short) == (30.0, 20.0, 0.0)


def test_workloads_get_what_the_services_of_all_hosts_leave() -> None:
    supply = site(*(host(name, nas("/mnt/nas", 100.0)) for name in ("h1", "h2")))
    need = Demand("store", "object_store", disks=(DiskNeed("/mnt/nas/x", 40.0),))
    work = dataset("d", "/mnt/nas/d", 25.0)
    assert verdict(supply, work, demand={"h1": [need]}) == "FEASIBLE"
    assert verdict(supply, work, demand={"h1": [need], "h2": [need]}) == "INFEASIBLE"


def serving(name: str, path: str, size: float, **more: Any) -> dict[str, Any]:
    disks = [{"path": path, "size_mib": size, **more.pop("disk", {})}]
    return {
        "name": name,
        "kind": "serving",
        "requests": {"cpu_cores": 4, "disks": disks},
        **more,
    }


def test_a_lost_host_takes_nothing_of_the_storage_with_it() -> None:
    supply = site(*(host(name, nas()) for name in ("h1", "h2")))
    found = planned(supply, serving("w", "/mnt/nas/w", 11 * TIB))
    assert found.verdict == "FEASIBLE"
    assert found.survivals is not None
    assert [dict(row.stranded) for row in found.survivals] == [{}, {}]


def test_data_on_a_storage_does_not_move_to_a_host_that_does_not_reach_it() -> None:
    supply = site(host("h1", nas()), host("h2", root=20 * TIB))
    found = planned(supply, serving("w", "/mnt/nas/w", 11 * TIB, hosts={"names": ["h1", "h2"]}))
    assert found.survivals is not None
    on = {one.host for one in found.result.placement}
    stranded = {row.host: dict(row.stranded) for row in found.survivals}
    assert stranded["h1"] == ({"w": 1} if on == {"h1"} else {})


def test_the_horizon_counts_one_storage_once() -> None:
    supply = site(*(host(name, nas()) for name in ("h1", "h2", "h3")))
    growing = {**dataset("d", "/mnt/nas/d", 8 * TIB), "growth": {"percent_per_year": 100}}
    found = planned(supply, growing)
    assert found.horizon is not None
    [row] = [row for row in found.horizon.runouts if row.resource == "storage nas:/export"]
    assert row.supply == 12 * TIB
    assert row.runs_out is not None
    assert found.horizon.ends == row.runs_out
    assert found.horizon.proven


OFFER = [{"name": "node", "cpu_cores": 64, "memory_gib": 256, "disks": [
    {"path": "/", "size_gib": 1000}]}]  # fmt: skip


def test_new_hosts_reach_the_storage_and_bring_none_of_it() -> None:
    supply = site(*(host(name, nas()) for name in ("h1", "h2")))
    found = planned(supply, *THREE, offers=OFFER)
    assert found.verdict == "INFEASIBLE"
    assert found.purchase is not None
    assert found.purchase.counts is None
    many = serving("w", "/mnt/nas/w", 0.1 * TIB, replicas=20)
    bought = planned(supply, many, offers=OFFER)
    assert bought.purchase is not None
    assert bought.purchase.counts == {"node": 1}


def test_a_changed_site_with_more_hosts_has_the_same_storage() -> None:
    supply = site(host("h1", nas()))
    found = planned(
        supply, THREE[0], offers=OFFER,
        what_if={"add_hosts": [{"offer": "node", "count": 2}], "add_workloads": [THREE[1]]},
    )  # fmt: skip
    assert found.verdict == "FEASIBLE"
    assert found.changed is not None
    assert found.changed.verdict == "INFEASIBLE"


def test_where_some_hosts_have_a_disk_of_their_own_the_sum_counts_the_storage_once() -> None:
    supply = site(host("h1", nas()), host("h2", nas()), host("h3", root=11 * TIB))
    assert verdict(supply, *THREE) == "INFEASIBLE"
    assert verdict(supply, *THREE[:2]) == "FEASIBLE"


# -- paths that are not where they seem ---------------------------------------------------------


def test_a_mistyped_path_below_mnt_is_told() -> None:
    supply = site(host("h1", nas(), root=TIB))
    found = plan(supply, dataset("d", "/mnt/nass/x", 600 * 1024.0))
    [told] = [row for row in found.findings if row.id == "capacity.unmounted_path"]
    assert "/mnt/nass/x of d lies on the root's file system on h1" in told.found
    assert "did you mean /mnt/nas?" in told.found


@pytest.mark.parametrize("path", ["/srv/sandbox/x", "/data/thousand", "/srv/models"])
def test_a_path_of_the_host_itself_is_not(path: str) -> None:
    found = plan(site(host("h1")), dataset("d", path, 10.0))
    assert not [row for row in found.findings if row.id == "capacity.unmounted_path"]


@pytest.mark.parametrize("path", ["/media/usb/x", "/srv/nas1/x", "/mnt/data", "/srv/old-nas/x"])
def test_a_path_where_mounts_are_made_is_told(path: str) -> None:
    found = plan(site(host("h1")), dataset("d", path, 10.0))
    assert [row.severity for row in found.findings if row.id == "capacity.unmounted_path"] == [
        "warn"
    ]


def test_a_mistyped_path_of_a_service_is_told() -> None:
    need = Demand("store", "r", disks=(DiskNeed("/mnt/nass/x", 1.0),))
    found = site_sums.plan(site(host("h1", nas())), {"h1": [need]}, NONE, example_site.NOW)
    assert found.verdict == "FEASIBLE"
    [told] = [row for row in found.findings if row.id == "capacity.unmounted_path"]
    assert told.found == "/mnt/nass/x of store lies on the root's file system"


@pytest.mark.parametrize(("mount", "verdict_"), [("true", "INFEASIBLE"), ("", "FEASIBLE")])
def test_a_service_can_ask_for_a_mount_of_its_own(mount: str, verdict_: str) -> None:
    need = Demand("store", "r", disks=(DiskNeed("/srv/x", 1.0, mount=mount),))
    found = site_sums.plan(site(host("h1", nas())), {"h1": [need]}, NONE, example_site.NOW)
    assert found.verdict == verdict_
    there = site_sums.plan(site(host("h1", nas("/srv"))), {"h1": [need]}, NONE, example_site.NOW)
    assert there.verdict == "FEASIBLE"


def test_new_hosts_have_the_storage_where_no_old_host_is_left() -> None:
    supply = site(host("h1", nas()))
    found = planned(
        supply, THREE[0], offers=OFFER,
        what_if={"add_hosts": [{"offer": "node", "count": 2}], "remove_hosts": ["h1"],
                 "add_workloads": [THREE[1]]},
    )  # fmt: skip
    assert found.changed is not None
    assert found.changed.verdict == "INFEASIBLE"


def test_a_large_fleet_with_one_storage_and_pools_of_their_own_is_looked_at_in_time() -> None:
    zfs = {"type": "zfs", "server": None}
    supply = site(
        *(
            host(
                f"h{n}",
                nas(),
                nas("/srv/a", 100.0, source="tank/a", device="0:50", **zfs),
                nas("/srv/b", 100.0, source="tank/b", device="0:51", **zfs),
            )
            for n in range(600)
        )
    )
    work = {**serving("w", "/srv/a/x", 1.0), "replicas": 600}
    found = planned(supply, THREE[0], work)
    assert found.verdict == "FEASIBLE"
    assert len(found.problem.instance.resources) < 10


def test_a_path_that_is_mounted_on_some_hosts_only_is_told() -> None:
    supply = site(host("h1", nas("/data")), host("h2"))
    found = plan(supply, dataset("d", "/data/x", 10.0))
    [told] = [row for row in found.findings if row.id == "capacity.unmounted_path"]
    assert "on the root's file system on h2, and on a mount of its own on h1" in told.found
    assert not [
        row
        for row in plan(site(host("h1")), dataset("d", "/srv/data", 10.0)).findings
        if row.id == "capacity.unmounted_path"
    ]


@pytest.mark.parametrize("mount", [True, "/mnt/nas"])
def test_what_must_be_its_own_mount_is_not_planned_on_the_root(mount: Any) -> None:
    supply = site(host("h1", root=2 * TIB), host("h2", nas(), root=2 * TIB))
    work = dataset("d", "/mnt/nas/x", 1 * TIB, mount=mount)
    found = planned(supply, work)
    assert {one.host for one in found.result.placement} == {"h2"}
    assert verdict(site(host("h1", root=2 * TIB)), work) == "INFEASIBLE"
    assert verdict(site(host("h1", root=2 * TIB)), dataset("d", "/mnt/nas/x", TIB)) == "FEASIBLE"


def test_two_that_say_it_differently_share_the_file_system() -> None:
    supply = site(host("h1", nas()))
    one = dataset("a", "/mnt/nas/x", 7 * TIB, mount=True)
    other = dataset("b", "/mnt/nas/x", 7 * TIB)
    assert verdict(supply, one, other) == "INFEASIBLE"


@pytest.mark.parametrize(
    ("mount", "said"),
    [
        ("/mnt/other", "must be a mount that /mnt/nas/x lies below, but is /mnt/other"),
        ("nas", "must be true, or the path of the mount such as /mnt/nas, but is 'nas'"),
        (3, "must be true, or the path of the mount such as /mnt/nas, but is 3"),
    ],
)
def test_a_mount_that_makes_no_sense_is_refused(mount: Any, said: str) -> None:
    found = plan(site(host("h1")), dataset("d", "/mnt/nas/x", 1.0, mount=mount))
    assert found.plan is None
    assert found.findings[0].found.endswith(said)


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs", "overlay", "autofs", "nfs4"])
def test_a_path_that_is_not_counted_is_a_finding_and_not_booked_on_the_root(kind: str) -> None:
    aside = [{"mount": "/var/lib/mlops", "type": kind, "source": kind, "reason": "it is memory"}]
    supply = site(host("h1", uncounted=aside))
    need = Demand("store", "r", disks=(DiskNeed("/var/lib/mlops/x", 40.0),))
    found = site_sums.plan(supply, {"h1": [need]}, NONE, example_site.NOW)
    assert found.verdict == "INFEASIBLE"
    [told] = [one for one in found.findings if one.severity == "fail"]
    assert told.found == (
        f"/var/lib/mlops/x lies on /var/lib/mlops ({kind}), whose room is not counted: it is memory"
    )
    assert not [row for row in found.rows if row.resource == "disk /"]
    work = dataset("d", "/var/lib/mlops/y", 40.0)
    assert verdict(supply, work) == "INFEASIBLE"
    assert "capacity.unmounted_path" in {row.id for row in plan(supply, work).findings}


# -- every placement tried one by one -----------------------------------------------------------

Where = tuple[object, float]  # a file system or storage, and its size
Work = list[tuple[str, int, bool]]  # path, size, whether it must be its own mount
MOUNTS, PATHS = ("/mnt/a", "/mnt/b"), ("/mnt/a/x", "/mnt/b/x", "/srv/x")


def random_hosts(
    rng: random.Random,
) -> tuple[list[dict[str, Any]], list[dict[str, Where]]]:
    sizes = {"nas:/s1": float(rng.randint(1, 8)), "nas2:/s2": float(rng.randint(9, 14))}
    hosts, truth = [], []
    for number in range(rng.randint(1, 3)):
        mounts: list[dict[str, Any]] = []
        lying: dict[str, Where] = {}
        for at, path in enumerate(MOUNTS):
            source = rng.choice([None, "local", *sizes])
            if source == "local":
                size = float(rng.randint(1, 6))
                mounts.append(disk(path, f"8:{20 + at}", size, size, type="xfs", source="/dev/sdb"))
                lying[path] = ((number, path), size)
            elif source is not None:
                more = {"source": source, "server": None, "device": f"0:{40 + at}"}
                mounts.append(nas(path, sizes[source], **more))
                lying[path] = (source, sizes[source])
        root = float(rng.randint(1, 6))
        lying["/"] = ((number, "/"), root)
        hosts.append(host(f"h{number}", *mounts, root=root))
        truth.append(lying)
    return hosts, truth


def holds(truth: list[dict[str, Where]], works: list[Work], hosts: tuple[int, ...]) -> bool:
    used: dict[Where, int] = {}
    for work, number in zip(works, hosts):
        for path, size, mounted in work:
            root = truth[number]["/"]
            where = truth[number].get(path[:6], root)
            if mounted and where == root:
                return False
            used[where] = used.get(where, 0) + size
    return all(size <= where[1] for where, size in used.items())


@pytest.mark.parametrize("seed", range(4))
def test_no_verdict_on_random_sites_with_shared_storage_is_wrong(seed: int) -> None:
    rng = random.Random(seed)
    for _site in range(50):
        hosts, truth = random_hosts(rng)
        works = [
            [
                (path, rng.randint(1, 4), rng.random() < 0.25 and path != "/srv/x")
                for path in rng.sample(PATHS, rng.randint(1, 2))
            ]
            for _work in range(rng.randint(1, 4))
        ]
        written = [
            {
                "name": f"w{number}",
                "kind": "dataset",
                "requests": {
                    "disks": [
                        {"path": path, "size_mib": size, "mount": mounted}
                        for path, size, mounted in work
                    ]
                },
            }
            for number, work in enumerate(works)
        ]
        found = planned(site(*hosts), *written)
        every = itertools.product(range(len(hosts)), repeat=len(works))
        fits = any(holds(truth, works, where) for where in every)
        assert found.verdict == ("FEASIBLE" if fits else "INFEASIBLE")
        if fits:
            placed = tuple(int(one.host[1:]) for one in sorted(found.result.placement))
            assert holds(truth, works, placed)
