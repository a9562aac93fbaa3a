#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dataset_directory
short_description: Keep the directories of planned datasets on a host
version_added: 0.3.0
description:
  - Creates each directory on the mount that it is planned on, with owner, group, mode, and a
    project quota of the planned size where the file system has those (ext4 and XFS mounted with
    C(prjquota)). Where it has none, a warning says that nothing limits it.
  - A directory that is there and was not made by the platform is used if it is as wanted, and
    refused otherwise. Accounts are the company's; none is created.
  - A dataset that is no longer wanted stays with its data, and is named. Only O(delete) takes away
    what the platform made, its limit in the file system included.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  datasets:
    description: All datasets that are planned on the host.
    type: list
    elements: dict
    required: true
    suboptions:
      workload:
        description: Name of the workload.
        type: str
        required: true
      path:
        description: Directory.
        type: path
        required: true
      mib:
        description: Planned size in MiB; 0 is no limit.
        type: float
        default: 0
      mount:
        description: Mount that has to hold it; V(true) for any but that of the root.
        type: str
        default: ""
      owner:
        description: Account that owns it. Root without one.
        type: str
        default: ""
      group:
        description: Group that owns it. Root's without one.
        type: str
        default: ""
      mode:
        description: Mode.
        type: str
        default: "0750"
      quota:
        description: Whether the planned size limits it where the file system can.
        type: bool
        default: true
  known:
    description: File in which the host's datasets are remembered.
    type: path
    default: /var/lib/mlops/datasets.json
  delete:
    description: Workloads whose data is deleted once they are no longer planned.
    type: list
    elements: str
    default: []
extends_documentation_fragment: [mlops.onprem.previewed]
"""

EXAMPLES = r"""
- name: Keep the images of the vision team
  mlops.onprem.dataset_directory:
    datasets:
      - {workload: images, path: /data/images, mib: 2097152, mount: /data, owner: anna}
"""

RETURN = r"""
changes:
  description: What was done, one short sentence each.
  returned: success
  type: list
  elements: str
unlimited:
  description: Sentences about directories that nothing limits. Each is a warning, too.
  returned: success
  type: list
  elements: str
kept:
  description: Datasets that are no longer planned and stay. Each is a warning, too.
  returned: success
  type: list
  elements: str
"""

import grp
import json
import os
import pwd
import shutil
import stat
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import (
    PlatformError,
    finish,
)
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import run, write_whole
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.datasets import (
    Dataset,
    DatasetRefused,
    Known,
    Mount,
    Step,
    There,
    gone,
    known_of,
    lifting,
    mount_of,
    mounts,
    steps,
)


def name_of_uid(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def name_of_gid(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def look(path: str, known: Known | None) -> There:
    """What is at a path."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return There(exists=False)
    return There(
        exists=True,
        directory=stat.S_ISDIR(status.st_mode),
        owner=name_of_uid(status.st_uid),
        group=name_of_gid(status.st_gid),
        mode=f"{stat.S_IMODE(status.st_mode):04o}",
        ours=known is not None and known.made,
        quota_mib=known.quota_mib if known is not None else 0,
    )


def owner_of(one: Dataset) -> tuple[int, int]:
    """Numbers of owner and group; a sentence where the host does not know them."""
    database, name = "passwd", one.owner
    try:
        uid = pwd.getpwnam(one.owner).pw_uid if one.owner else 0
        database, name = "group", one.group
        return uid, grp.getgrnam(one.group).gr_gid if one.group else 0
    except KeyError:
        raise PlatformError(
            f"{one.workload} shall be of {name}, which this host does not know (getent {database}"
            f" {name}); let it know the company's accounts, or mend run in mlops_workloads."
        ) from None


def apply(one: Dataset, todo: tuple[Step, ...], memory: Memory) -> None:
    for step in todo:
        if step.act == "make":
            os.makedirs(os.path.dirname(one.path), mode=0o755, exist_ok=True)
            memory.keep(one.path, Known(one.workload, made=True))
            os.mkdir(one.path, 0o700)
        elif step.act == "own":
            os.chown(one.path, *owner_of(one), follow_symlinks=False)
        elif step.act == "mode":
            os.chmod(one.path, int(one.mode, 8))
        elif step.act in ("limited", "lifted"):
            mib = round(one.mib) if step.act == "limited" else 0
            memory.keep(one.path, Known(one.workload, made=True, quota_mib=mib))
        else:
            told(
                step,
                f"limit {one.path} to {one.mib:,.0f} MiB",
                ", or set run.quota: false in mlops_workloads",
            )


def told(step: Step, doing: str, otherwise: str = "") -> None:
    """Run the file system's own tool; a sentence where it is not there, or refuses."""
    ran = run(list(step.argv), timeout=600)
    if ran.rc != 0:
        raise PlatformError(
            f"could not {doing} ({' '.join(step.argv)}): {ran.said}; install quota (ext4) or"
            f" xfsprogs (XFS){otherwise}."
        )


def lift(path: str, one: Known, mounted: Sequence[Mount]) -> None:
    """Take the limit of a directory that goes out of its file system."""
    if one.quota_mib:
        for step in lifting(path, mount_of(path, mounted)):
            if step.argv:
                told(step, f"lift the limit of {path}")


class Memory:
    """What the host remembers of its datasets. Written before what it tells of is done."""

    def __init__(self, path: str, check: bool) -> None:
        self._path, self._check = path, check
        try:
            with open(path, encoding="utf-8") as stream:
                self.known = known_of(json.load(stream))
        except FileNotFoundError:
            self.known = {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlatformError(f"{path} cannot be read: {error}; move it away.") from None

    def keep(self, path: str, known: Known) -> None:
        if self.known.get(path) != known:
            self.known[path] = known
            self._write()

    def forget(self, path: str) -> None:
        if self.known.pop(path, None) is not None:
            self._write()

    def _write(self) -> None:
        if self._check:
            return
        if self.known:
            told = {path: one.as_dict() for path, one in sorted(self.known.items())}
            write_whole(self._path, (json.dumps(told, indent=1) + "\n").encode(), 0o644)
        elif os.path.exists(self._path):
            os.unlink(self._path)


def retire(
    memory: Memory,
    wanted: list[Dataset],
    delete: list[str],
    mounted: Sequence[Mount],
    check: bool,
) -> tuple[list[str], list[str]]:
    """What is deleted, and what stays although it is no longer planned."""
    deleted, kept = [], []
    for path, one in gone(memory.known, wanted).items():
        if not os.path.isdir(path):
            if not check:
                lift(path, one, mounted)
            memory.forget(path)
        elif one.workload in delete and one.made:
            deleted.append(f"{path} of {one.workload}: deleted with its data")
            if not check:
                lift(path, one, mounted)
                shutil.rmtree(path)
            memory.forget(path)
        else:
            until = (
                f"until workloads_datasets_delete names {one.workload}, or you take it away"
                if one.made
                else "as the platform did not make the directory"
            )
            kept.append(f"{path} of {one.workload}: no longer planned; the data stays, {until}")
    return deleted, kept


def work(module: AnsibleModule) -> dict[str, Any]:
    params, check = module.params, module.check_mode
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as stream:
        mounted = mounts(stream.read())
    wanted = [Dataset(**row) for row in params["datasets"]]
    memory = Memory(params["known"], check)
    changes: list[str] = []
    unlimited: list[str] = []
    try:
        planned = [
            (
                one,
                steps(one, look(one.path, memory.known.get(one.path)), mount_of(one.path, mounted)),
            )
            for one in wanted
        ]
    except DatasetRefused as refused:
        raise PlatformError(f"{refused}.") from None
    for one in wanted:
        owner_of(one)
    for one, (todo, said) in planned:
        changes += [step.said for step in todo if step.said]
        unlimited += [said] if said else []
        if not check:
            apply(one, todo, memory)
            was = memory.known.get(one.path, Known(one.workload))
            memory.keep(one.path, replace(was, workload=one.workload))
    deleted, kept = retire(memory, wanted, params["delete"], mounted, check)
    for said in (*unlimited, *kept):
        module.warn(said)
    changes += deleted
    return {
        "changed": bool(changes),
        "changes": changes,
        "unlimited": unlimited,
        "kept": kept,
        "diff": {"before": "", "after": "".join(f"{line}\n" for line in changes)},
    }


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec={
                "datasets": {
                    "type": "list",
                    "elements": "dict",
                    "required": True,
                    "options": {
                        "workload": {"type": "str", "required": True},
                        "path": {"type": "path", "required": True},
                        "mib": {"type": "float", "default": 0},
                        "mount": {"type": "str", "default": ""},
                        "owner": {"type": "str", "default": ""},
                        "group": {"type": "str", "default": ""},
                        "mode": {"type": "str", "default": "0750"},
                        "quota": {"type": "bool", "default": True},
                    },
                },
                "known": {"type": "path", "default": "/var/lib/mlops/datasets.json"},
                "delete": {"type": "list", "elements": "str", "default": []},
            },
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()
