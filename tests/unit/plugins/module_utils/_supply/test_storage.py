# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What file systems say about themselves, and servers that say nothing any more."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._supply import (
    installed,
    procfs,
    storage,
    tree,
)

from tests.patience import PATIENCE


def put(root: Path, path: str, text: str = "") -> None:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def mounted(root: Path, *lines: str) -> tree.Host:
    for line in lines:
        (root / line.split()[4].lstrip("/")).mkdir(parents=True, exist_ok=True)
    put(root, "/proc/self/mountinfo", "".join(line + "\n" for line in lines))
    return tree.Host(str(root))


NAS = "9 1 0:45 / /mnt/nas rw - nfs4 nas:/export rw,vers=4.2,hard,addr=10.0.0.5"
SLASH = "1 0 8:1 / / rw - ext4 /dev/sda1 rw"


def test_a_server_that_does_not_answer_is_unknown_and_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, parent = storage.room_of, os.getpid()

    def room_of(path: str) -> storage.Room:
        if path.endswith(("/mnt/nas", "/mnt/other")):
            assert os.getpid() != parent, "asked in the process that measures"
            time.sleep(600)
        return real(path)

    monkeypatch.setattr(storage, "room_of", room_of)
    monkeypatch.setattr(storage, "ASKING_SECONDS", 0.3)
    host = mounted(tmp_path, SLASH, NAS, NAS.replace("/mnt/nas", "/mnt/other"))
    started = time.monotonic()
    found, uncounted = storage.filesystems(host)
    assert time.monotonic() - started < PATIENCE
    assert [row["mount"] for row in found] == ["/"]
    assert [(row["mount"], row["type"], row["dead"]) for row in uncounted] == [
        ("/mnt/nas", "nfs4", True),
        ("/mnt/other", "nfs4", True),
    ]
    assert host.unknown[0]["what"] == "filesystems /mnt/nas"
    assert "did not answer" in host.unknown[0]["reason"]


def test_one_that_answers_and_one_that_cannot_are_told_apart(tmp_path: Path) -> None:
    host = mounted(tmp_path, SLASH, NAS)
    [_root, nas], uncounted = storage.filesystems(host)
    assert (nas["mount"], nas["server"], uncounted) == ("/mnt/nas", "10.0.0.5", [])
    assert nas["size_mib"] > 0
    (tmp_path / "mnt/nas").rmdir()
    found, [aside] = storage.filesystems(host)
    assert [row["mount"] for row in found] == ["/"]
    assert aside["reason"] == "No such file or directory"


def test_nothing_of_ours_is_looked_for_on_a_mount_that_does_not_answer(tmp_path: Path) -> None:
    put(tmp_path, "/var/lib/mlops/ledger.json", '{"things": [{"kind": "package", "name": "a"}]}')
    put(tmp_path, "/opt/mlops/x/big", "x" * 100)
    put(tmp_path, "/opt/mlops/x/dead/big", "x" * 100)
    host = tree.Host(str(tmp_path))
    dead = ["/var/lib/mlops", "/opt/mlops/x/dead"]
    found = installed.ours(host, 1.0, lambda: 0.0, {}, dead)
    assert not found["installed"]
    assert [(row["path"], row["entries"]) for row in found["directories"]] == [("/opt/mlops/x", 1)]


OVER = "2 1 0:30 / / rw - overlay overlay rw,lowerdir=/ro,upperdir={upper},workdir=/w"


@pytest.mark.parametrize(
    ("lines", "mount", "reason"),
    [
        (
            ["3 1 0:31 / /var/lib/mlops rw - tmpfs tmpfs rw"],
            "/var/lib/mlops",
            "tmpfs is no storage",
        ),
        (
            ["3 1 0:31 / /mnt/nas rw - autofs systemd-1 rw"],
            "/mnt/nas",
            "it is mounted on demand, and was not mounted",
        ),
        (
            ["3 1 0:31 / /media/rw rw - tmpfs tmpfs rw", OVER.format(upper="/media/rw/upper")],
            "/",
            "what is written goes to /media/rw, into memory",
        ),
    ],
)
def test_what_is_no_storage_is_told_with_its_reason(
    tmp_path: Path, lines: list[str], mount: str, reason: str
) -> None:
    _found, uncounted = storage.filesystems(mounted(tmp_path, SLASH, *lines))
    assert {row["mount"]: row["reason"] for row in uncounted}[mount] == reason


def test_the_overlay_of_a_container_is_counted(tmp_path: Path) -> None:
    lines = [OVER.format(upper="/var/lib/containers/x/diff")]
    found, uncounted = storage.filesystems(mounted(tmp_path, *lines))
    assert ([row["type"] for row in found], uncounted) == (["overlay"], [])


def test_storage_is_known_by_its_names_in_the_world(tmp_path: Path) -> None:
    block = "/sys/class/block"
    for name, files in {
        "sdb": {"dev": "8:16", "device/wwid": "naa.600a098038303053745d4b2f51357a4c"},
        "sdc": {"dev": "8:32", "device/wwid": "t10.ATA     QEMU HARDDISK   QM00001"},
        "dm-0": {"dev": "253:0", "dm/uuid": "mpath-3600a0980", "slaves/sdb/x": ""},
        "dm-1": {"dev": "253:1", "dm/uuid": "LVM-x", "slaves/dm-0/x": ""},
        "dm-2": {
            "dev": "253:2",
            "dm/uuid": "LVM-y-tpool",
            "dm/name": "vg-pool-tpool",
            "size": "2097152",
        },
        "dm-3": {"dev": "253:3", "dm/uuid": "LVM-z", "slaves/dm-2/x": ""},
    }.items():
        for path, text in files.items():
            put(tmp_path, f"{block}/{name}/{path}", text)
    put(tmp_path, "/sys/fs/btrfs/b-u/devices/sdd/x")
    (tmp_path / "dev/disk/by-uuid").mkdir(parents=True)
    (tmp_path / "dev/disk/by-uuid/u-1").symlink_to("../../dm-1")
    put(
        tmp_path,
        "/proc/fs/nfsfs/volumes",
        "NV SERVER   PORT DEV  FSID          FSC\nv4 0a000005  801 0:45 8d2e8c1b:0 no\n",
    )
    lines = {
        "mpath": "1 0 253:1 / /a rw - xfs /dev/mapper/vg-a rw",
        "plain": "1 0 8:16 / /b rw - xfs /dev/sdb rw",
        "copied": "1 0 8:32 / /c rw - xfs /dev/sdc rw",
        "thin": "1 0 253:3 / /d rw - ext4 /dev/mapper/vg-d rw",
        "zfs": "1 0 0:50 / /e rw - zfs tank/x/y rw",
        "btrfs": "1 0 0:51 /sub /f rw - btrfs /dev/sdd rw,subvol=/sub",
        "nfs": NAS,
    }
    host = mounted(tmp_path, *lines.values())
    rows = dict(zip(lines, storage.filesystems(host)[0]))
    assert (rows["mpath"]["wwn"], rows["mpath"]["uuid"]) == ("3600a0980", "u-1")
    assert rows["plain"]["wwn"] == "naa.600a098038303053745d4b2f51357a4c"
    assert rows["copied"]["wwn"] is None
    assert rows["thin"]["pool"] == "thin pool vg-pool-tpool"
    assert rows["zfs"]["pool"] == "ZFS pool tank"
    assert (rows["btrfs"]["pool"], rows["btrfs"]["root"]) == ("btrfs b-u", "/sub")
    assert rows["nfs"]["fsid"] == "8d2e8c1b:0"
    assert storage.pools(host, list(rows.values()), ask=False) == [
        {"name": "thin pool vg-pool-tpool", "size_mib": 1024.0, "available_mib": None}
    ]
    assert host.unknown[-1]["what"] == "pools vg-pool-tpool"


def test_the_use_of_thin_pools_is_read() -> None:
    text = (
        "vg-pool-tpool: 0 41943040 thin-pool 1 406/1024 5120/20480 - rw discard_passdown\n"
        "other: 0 8 linear 8:1 0\nbroken: 0 8 thin-pool Fail\n"
    )
    assert procfs.parse_thin_pools(text) == {"vg-pool-tpool": 0.25}
