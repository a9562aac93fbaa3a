# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories of datasets on the planned mounts, and data that is never taken away by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._demand.running import DatasetRun
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import DiskNeed
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.datasets import (
    Dataset,
    DatasetRefused,
    Known,
    There,
    datasets,
    gone,
    known_of,
    mount_of,
    mounts,
    project_of,
    steps,
)
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.placed import Placed

MOUNTS = mounts(
    "/dev/sda1 / ext4 rw,relatime 0 0\n"
    "/dev/sdb1 /data xfs rw,relatime,prjquota 0 0\n"
    "/dev/sdc1 /fast\\040disk ext4 rw,prjquota 0 0\n"
    "overlay /over overlay rw 0 0\n"
    "/dev/sdd1 /plain ext4 rw 0 0\n"
)
IMAGES = Dataset("images", "/data/images", 1024.0, owner="anna", group="vision")
NEW, MADE = There(exists=False), There(True, True, "anna", "vision", "0750", ours=True)


def said(one: Dataset, there: There = NEW) -> list[str]:
    todo, _unlimited = steps(one, there, mount_of(one.path, MOUNTS))
    return [step.said for step in todo if step.said]


def test_the_file_system_of_a_path_is_the_nearest_above_it() -> None:
    found = [mount_of(path, MOUNTS).path for path in ("/data/a", "/database", "/fast disk/x", "/")]
    assert found == ["/data", "/", "/fast disk", "/"]


def test_a_new_dataset_is_made_as_wanted_and_limited_where_that_can_be() -> None:
    assert said(IMAGES) == [
        "/data/images: created",
        "/data/images: of anna:vision",
        "/data/images: mode 0750",
        "/data/images: at most 1,024 MiB",
    ]
    assert said(IMAGES, replace(MADE, quota_mib=1024)) == []
    assert said(IMAGES, replace(MADE, quota_mib=512)) == ["/data/images: at most 1,024 MiB"]
    assert said(IMAGES, replace(MADE, quota_mib=1024, mode="0700")) == ["/data/images: mode 0750"]
    assert said(replace(IMAGES, quota=False), MADE) == []


def test_the_quota_is_set_by_the_tools_of_the_file_system() -> None:
    number = str(project_of("/data/images"))
    todo, _said = steps(IMAGES, MADE, mount_of("/data/images", MOUNTS))
    assert [step.argv for step in todo if step.argv] == [
        ("xfs_quota", "-x", "-c", f"project -s -p /data/images {number}", "/data"),
        ("xfs_quota", "-x", "-c", f"limit -p bhard=1024m {number}", "/data"),
    ]
    one = replace(IMAGES, path="/fast disk/i")
    todo, _said = steps(one, MADE, mount_of(one.path, MOUNTS))
    number, find = str(project_of(one.path)), ("find", "/fast disk/i", "-xdev")
    assert [step.argv for step in todo if step.argv] == [
        (*find, "-type", "d", "-exec", "chattr", "+P", "-p", number, "{}", "+"),
        (*find, "-type", "f", "-exec", "chattr", "-p", number, "{}", "+"),
        ("setquota", "-P", number, "0", "1048576", "0", "0", "/fast disk"),
    ]
    # What is counted already gets another limit only.
    todo, _said = steps(one, replace(MADE, quota_mib=1), mount_of(one.path, MOUNTS))
    assert [step.argv[0] for step in todo if step.argv] == ["setquota"]


@pytest.mark.parametrize(
    ("path", "argv"),
    [
        ("/data/images", ("xfs_quota", "-x", "-c", "limit -p bhard=0 {}", "/data")),
        ("/fast disk/i", ("setquota", "-P", "{}", "0", "0", "0", "0", "/fast disk")),
    ],
)
def test_a_limit_that_is_no_longer_wanted_is_lifted(path: str, argv: tuple[str, ...]) -> None:
    limited = replace(MADE, quota_mib=1024)
    for one in (replace(IMAGES, path=path, quota=False), replace(IMAGES, path=path, mib=0)):
        todo, unlimited = steps(one, limited, mount_of(path, MOUNTS))
        number = str(project_of(path))
        assert [step.argv for step in todo] == [tuple(w.format(number) for w in argv), ()]
        assert [step.said for step in todo] == [f"{path}: no longer limited", ""]
        assert (todo[-1].act, unlimited) == ("lifted", "")
        assert steps(one, MADE, mount_of(path, MOUNTS)) == ((), "")
        assert steps(one, limited, mount_of("/over/i", MOUNTS)) == ((), "")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/over/i", "nothing limits what /over/i of images takes: /over is overlay"),
        (
            "/plain/i",
            "nothing limits what /plain/i of images takes: /plain is ext4 without prjquota",
        ),
    ],
)
def test_where_nothing_limits_it_that_is_said(path: str, why: str) -> None:
    _todo, unlimited = steps(replace(IMAGES, path=path), MADE, mount_of(path, MOUNTS))
    assert unlimited == why


@pytest.mark.parametrize(
    ("one", "there", "why"),
    [
        (
            replace(IMAGES, path="/x", mount="true"),
            NEW,
            "on a mount of its own, and the path is on",
        ),
        (
            replace(IMAGES, path="/x", mount="/data"),
            NEW,
            "on the mount /data, and the path is on /",
        ),
        (replace(IMAGES, path="/"), NEW, "no directory of a dataset"),
        (IMAGES, There(True, False), "is there and no directory"),
        (
            IMAGES,
            There(True, True, "carl", "vision", "0750"),
            "is there already, of carl:vision with mode 0750",
        ),
    ],
)
def test_what_is_not_where_the_plan_wants_it_is_refused(
    one: Dataset, there: There, why: str
) -> None:
    with pytest.raises(DatasetRefused, match=why):
        steps(one, there, mount_of(one.path, MOUNTS))


def test_a_directory_of_the_company_that_is_as_wanted_is_used_and_never_ours() -> None:
    todo, unlimited = steps(IMAGES, replace(MADE, ours=False), mount_of(IMAGES.path, MOUNTS))
    assert todo == ()
    assert "was not made by the platform; nothing limits what it takes" in unlimited


def test_datasets_of_a_host_are_those_that_are_placed_there() -> None:
    one = Placed(
        "images",
        "dataset",
        0,
        "gpu1",
        disks=(DiskNeed("/data/images/", 10.0, mount="/data"),),
        run=DatasetRun(owner="anna"),
    )
    assert datasets([one, replace(one, host="gpu2")], "gpu1") == (
        Dataset("images", "/data/images", 10.0, "/data", "anna"),
    )
    inner = replace(one, workload="more", disks=(DiskNeed("/data/images/more", 1.0),))
    with pytest.raises(DatasetRefused, match="images and more would lie in one another"):
        datasets([one, inner], "gpu1")
    assert datasets([replace(one, run=None)], "gpu1") == ()


def test_what_is_no_longer_planned_is_known_by_its_path() -> None:
    before = known_of({"/data/images": {"workload": "images", "made": True, "quota_mib": 5}})
    assert gone(before, [IMAGES]) == {}
    assert gone(before, []) == {"/data/images": Known("images", True, 5)}
    assert known_of({"/x": before["/data/images"].as_dict()})["/x"] == before["/data/images"]
