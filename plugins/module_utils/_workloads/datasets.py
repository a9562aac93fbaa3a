# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories of datasets on the planned mounts: what is there, what is wanted, the way between.

Data is never taken away without being told to: a dataset that is no longer wanted stays, and is
named. Runs on hosts; needs Python alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._demand.running import DatasetRun
from .placed import Placed

EXT4, XFS = "ext4", "xfs"
OPTIONS = {EXT4: ("prjquota",), XFS: ("prjquota", "pquota")}
FIRST_PROJECT, PROJECTS = 1_000_000, 1_000_000
"""Project numbers of ours; people number theirs from 1."""


class DatasetRefused(Exception):
    """A directory cannot be made as it is planned. Reads as a sentence."""


@dataclass(frozen=True)
class Dataset:
    """A directory as the plan wants it. ``mount`` is as in the need: ``true``, a path, or empty."""

    workload: str
    path: str
    mib: float
    mount: str = ""
    owner: str = ""
    group: str = ""
    mode: str = "0750"
    quota: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a task."""
        return {
            "workload": self.workload,
            "path": self.path,
            "mib": self.mib,
            "mount": self.mount,
            "owner": self.owner,
            "group": self.group,
            "mode": self.mode,
            "quota": self.quota,
        }


@dataclass(frozen=True)
class Mount:
    """A file system that is mounted: where, of which kind, with which options."""

    path: str
    kind: str
    options: tuple[str, ...]

    @property
    def limits_projects(self) -> bool:
        """Whether it can limit what one directory takes."""
        return any(option in self.options for option in OPTIONS.get(self.kind, ()))


@dataclass(frozen=True)
class There:
    """What is at the path now. ``ours`` says whether the platform made it, as it remembers."""

    exists: bool = False
    directory: bool = True
    owner: str = ""
    group: str = ""
    mode: str = ""
    ours: bool = False
    quota_mib: int = 0


@dataclass(frozen=True)
class Step:
    """One thing to do, with a short sentence. ``argv`` is a command, else ``act`` says what."""

    act: str
    said: str
    argv: tuple[str, ...] = ()


def datasets(placed: Sequence[Placed], host: str) -> tuple[Dataset, ...]:
    """The datasets that are planned on a host.

    Raises:
        DatasetRefused: Two would lie in one another.
    """
    found = []
    for one in placed:
        if one.host != host or not isinstance(one.run, DatasetRun):
            continue
        for need in one.disks:
            found.append(
                Dataset(
                    one.workload,
                    need.path.rstrip("/") or "/",
                    need.mib,
                    need.mount,
                    one.run.owner,
                    one.run.group,
                    one.run.mode,
                    one.run.quota,
                )
            )
    for one_, other in ((a, b) for a in found for b in found if a is not b):
        if one_.path == other.path or other.path.startswith(f"{one_.path}/"):
            raise DatasetRefused(
                f"{host}: {one_.workload} and {other.workload} would lie in one another"
                f" ({one_.path} and {other.path}); give them paths apart in requests.disks of"
                " mlops_workloads"
            )
    return tuple(found)


def mounts(text: str) -> tuple[Mount, ...]:
    """The lines of ``/proc/self/mounts``; the last one of a path is what is seen there."""
    found: dict[str, Mount] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 4:
            path = words[1].replace("\\040", " ").replace("\\011", "\t")
            found[path] = Mount(path, words[2], tuple(words[3].split(",")))
    return tuple(found.values())


def mount_of(path: str, known: Sequence[Mount]) -> Mount:
    """The file system that a path is on."""
    on = [
        one
        for one in known
        if one.path == "/" or path == one.path or path.startswith(f"{one.path}/")
    ]
    if not on:
        raise DatasetRefused(f"{path} is on no file system that is mounted")
    return max(on, key=lambda one: len(one.path))


def project_of(path: str) -> int:
    """The project number of a directory."""
    return FIRST_PROJECT + int(hashlib.sha256(path.encode()).hexdigest(), 16) % PROJECTS


def check(wanted: Dataset, there: There, mount: Mount) -> None:
    """Refuse what is not where the plan wants it, or is somebody else's."""
    if wanted.mount == "true" and mount.path == "/":
        raise DatasetRefused(
            f"{wanted.workload} is planned at {wanted.path} on a mount of its own, and the path is"
            " on the root file system; mount the planned disk, or mend requests.disks in"
            " mlops_workloads"
        )
    if wanted.mount not in ("", "true") and mount.path != wanted.mount.rstrip("/"):
        raise DatasetRefused(
            f"{wanted.workload} is planned at {wanted.path} on the mount {wanted.mount}, and the"
            f" path is on {mount.path}; mount the planned disk, or mend requests.disks in"
            " mlops_workloads"
        )
    if wanted.path == mount.path and wanted.path == "/":
        raise DatasetRefused(
            f"{wanted.workload} is planned at /, which is no directory of a dataset; give it a path"
            " in requests.disks of mlops_workloads"
        )
    if there.exists and not there.directory:
        raise DatasetRefused(
            f"{wanted.path} of {wanted.workload} is there and no directory; move it away, or mend"
            " requests.disks in mlops_workloads"
        )
    if there.exists and not there.ours and not _as_wanted(wanted, there):
        raise DatasetRefused(
            f"{wanted.path} of {wanted.workload} is there already, of {there.owner}:{there.group}"
            f" with mode {there.mode}, and was not made by the platform; say so in run (owner,"
            " group, mode), or choose another path"
        )


def _as_wanted(wanted: Dataset, there: There) -> bool:
    return (
        wanted.owner in ("", there.owner)
        and wanted.group in ("", there.group)
        and wanted.mode == there.mode
    )


def steps(wanted: Dataset, there: There, mount: Mount) -> tuple[tuple[Step, ...], str]:
    """What has to be done, and the sentence where nothing limits the directory.

    A directory of somebody else that is as wanted is used and never counts as ours.
    """
    check(wanted, there, mount)
    found: list[Step] = []
    if not there.exists:
        found.append(Step("make", f"{wanted.path}: created"))
    if not there.exists or there.ours:
        owner, group = wanted.owner or "root", wanted.group or "root"
        if (there.owner, there.group) != (owner, group):
            found.append(Step("own", f"{wanted.path}: of {owner}:{group}"))
        if there.mode != wanted.mode:
            found.append(Step("mode", f"{wanted.path}: mode {wanted.mode}"))
    if not wanted.quota or not wanted.mib:
        if there.ours and there.quota_mib:
            found += lifting(wanted.path, mount)
        return tuple(found), ""
    if there.exists and not there.ours:
        return tuple(found), (
            f"{wanted.path} of {wanted.workload} was not made by the platform; nothing limits what"
            " it takes"
        )
    if not mount.limits_projects:
        return tuple(found), (
            f"nothing limits what {wanted.path} of {wanted.workload} takes: {mount.path} is"
            f" {mount.kind} {'without prjquota' if mount.kind in OPTIONS else ''}".rstrip()
        )
    if there.quota_mib != round(wanted.mib):
        found += _limit(wanted, there, mount)
    return tuple(found), ""


def _limit(wanted: Dataset, there: There, mount: Mount) -> list[Step]:
    number, mib = project_of(wanted.path), round(wanted.mib)
    said = f"{wanted.path}: at most {mib:,} MiB"
    if mount.kind == XFS:
        return [
            Step(
                "run",
                "",
                ("xfs_quota", "-x", "-c", f"project -s -p {wanted.path} {number}", mount.path),
            ),
            Step(
                "run",
                said,
                ("xfs_quota", "-x", "-c", f"limit -p bhard={mib}m {number}", mount.path),
            ),
            Step("limited", ""),
        ]
    return [
        *([] if there.quota_mib else _numbered(wanted.path, str(number))),
        Step(
            "run", said, ("setquota", "-P", str(number), "0", str(mib * 1024), "0", "0", mount.path)
        ),
        Step("limited", ""),
    ]


def _numbered(path: str, number: str) -> list[Step]:
    """What has ext4 count a directory with all that is in it, which may have come before.

    Only directories can hand their number on (``+P``); chattr ends with an error where a file is
    told to.
    """
    find = ("find", path, "-xdev")
    return [
        Step("run", "", (*find, "-type", "d", "-exec", "chattr", "+P", "-p", number, "{}", "+")),
        Step("run", "", (*find, "-type", "f", "-exec", "chattr", "-p", number, "{}", "+")),
    ]


def lifting(path: str, mount: Mount) -> list[Step]:
    """What takes the limit of a directory out of its file system; nothing where it has none."""
    number, said = str(project_of(path)), f"{path}: no longer limited"
    if not mount.limits_projects:
        return []
    argv: tuple[str, ...]
    if mount.kind == XFS:
        argv = ("xfs_quota", "-x", "-c", f"limit -p bhard=0 {number}", mount.path)
    else:
        argv = ("setquota", "-P", number, "0", "0", "0", "0", mount.path)
    return [Step("run", said, argv), Step("lifted", "")]


@dataclass(frozen=True)
class Known:
    """A dataset as the host remembers it: whose, whether we made its directory, its quota."""

    workload: str
    made: bool = False
    quota_mib: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data for the file."""
        return {"workload": self.workload, "made": self.made, "quota_mib": self.quota_mib}


def known_of(data: Mapping[str, Any]) -> dict[str, Known]:
    """What the file says, by path."""
    return {
        str(path): Known(
            str(row["workload"]), bool(row.get("made")), int(row.get("quota_mib") or 0)
        )
        for path, row in data.items()
    }


def gone(before: Mapping[str, Known], wanted: Sequence[Dataset]) -> dict[str, Known]:
    """Datasets that were wanted before and are not any more, by path."""
    now = {one.path for one in wanted}
    return {path: one for path, one in sorted(before.items()) if path not in now}
