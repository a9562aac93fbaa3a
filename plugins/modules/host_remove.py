#!/usr/bin/python
# Copyright: (c) 2026, The mlops.onprem developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_remove
short_description: Take away from a host what was created for a role
version_added: 0.1.0
description:
  - Takes away what the host's ledger says was created for O(role), in this order. Services, Python
    applications, files (an adopted original is put back), packages with all that they leave,
    directories, users, groups.
  - What another role still wants stays until that role is removed. What was there before the
    platform is not in the ledger and is not touched.
  - After the last role nothing of the platform is left, the ledger included.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  role:
    description: Role whose things go.
    type: str
    required: true
  keep:
    description:
      - Paths to keep, with what is in them. They stay recorded, so that a later removal without
        this takes them away. Users and groups that own a kept path stay, too.
    type: list
    elements: path
    default: []
  unless:
    description: Globs. While one of them matches anything, nothing is removed.
    type: list
    elements: str
    default: []
extends_documentation_fragment: [mlops.onprem.previewed]
seealso:
  - module: mlops.onprem.host_files
  - module: mlops.onprem.host_packages
  - module: mlops.onprem.host_service
"""

EXAMPLES = r"""
- name: Remove monitoring but keep its measurements
  mlops.onprem.host_remove:
    role: monitoring
    keep: [/var/lib/mlops/monitoring/prometheus]
"""

RETURN = r"""
removed:
  description: What was taken away, by kind.
  returned: success
  type: list
  elements: str
  sample: ["unit mlops-prometheus.service", "package prometheus"]
kept:
  description: What stays although it was created for the role, and why.
  returned: success
  type: list
  elements: str
"""

import base64
import contextlib
import glob
import grp
import os
import pwd
from collections.abc import Iterable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._host import apt, packages, snapshot
from ansible_collections.mlops.onprem.plugins.module_utils._host.args import ROLE, role_of
from ansible_collections.mlops.onprem.plugins.module_utils._host.files import absolute
from ansible_collections.mlops.onprem.plugins.module_utils._host.ledger import (
    KINDS,
    Thing,
    inside,
)
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import (
    Book,
    fresh_name,
    must,
    remove_tree,
    run,
    write_whole,
)


class Work:
    def __init__(self, module: AnsibleModule, book: Book) -> None:
        self.owner = role_of(module.params)
        self.keep: list[str] = [absolute(path, "keep") for path in module.params["keep"]]
        self.check: bool = module.check_mode
        self.book = book
        self.removed: list[str] = []
        self.kept: list[str] = []

    def all(self) -> None:
        apt_pending = self.book.ledger.transaction
        if apt_pending is not None and apt_pending["owner"] == self.owner and not self.check:
            apt.restore_policy()
            apt.repair()
            apt.settle(self.book)
        going, shared = self.book.ledger.split(self.owner)
        self.book.write(self.book.ledger.release(self.owner, shared))
        by_kind = {kind: [one for one in going if one.kind == kind] for kind in KINDS}
        self.units(by_kind["unit"])
        self.apps(by_kind["app"])
        self.files(by_kind["file"])
        self.packages(by_kind["package"])
        self.paths([*by_kind["trace"], *by_kind["directory"]])
        self.accounts(by_kind["user"], by_kind["group"])

    def gone(self, things: Iterable[Thing], said: bool = True) -> None:
        things = list(things)
        if said:
            self.removed += [f"{thing.kind} {thing.name}" for thing in things]
        self.book.write(self.book.ledger.drop(*(thing.key for thing in things)))

    def stays(self, path: str) -> bool:
        return any(inside(path, kept) for kept in self.keep)

    def units(self, things: list[Thing]) -> None:
        if not things:
            return
        services = [thing.data["unit"] for thing in things if thing.data.get("unit")]
        if not self.check:
            if services:
                run(["systemctl", "disable", "--now", "--quiet", "--", *services], timeout=300)
                run(["systemctl", "kill", "--signal=KILL", "--", *services], timeout=30)
            for thing in things:
                path = thing.data["path"]
                for each in (path, fresh_name(path)):
                    if os.path.lexists(each):
                        os.unlink(each)
                if path.endswith(".d/mlops.conf"):
                    _rmdir(os.path.dirname(path))
                elif thing.name.endswith(".slice"):
                    run(["systemctl", "stop", "--", thing.name], timeout=60)
            must(["systemctl", "daemon-reload"], "make systemd read its units again")
            if services:
                run(["systemctl", "reset-failed", "--", *services], timeout=30)
        self.gone(things)

    def apps(self, things: list[Thing]) -> None:
        for thing in things:
            if self.stays(thing.name):
                self.kept.append(f"app {thing.name}: asked for")
                continue
            if not self.check:
                for path in thing.data.get("paths", [thing.name]):
                    for each in glob.glob(path) if glob.has_magic(path) else [path]:
                        if os.path.lexists(each):
                            remove_tree(each, frozenset())
            self.gone([thing])

    def files(self, things: list[Thing]) -> None:
        done = []
        for thing in things:
            path = thing.name
            if self.stays(path):
                self.kept.append(f"file {path}: asked for")
                continue
            done.append(thing)
            if self.check:
                continue
            original = thing.data.get("original")
            if original and os.path.isdir(os.path.dirname(path)):
                write_whole(
                    path,
                    base64.b64decode(original["content"]),
                    int(original["mode"], 8),
                    original["uid"],
                    original["gid"],
                )
            elif not original and os.path.lexists(path):
                os.unlink(path)
            if os.path.lexists(fresh_name(path)):
                os.unlink(fresh_name(path))
        self.gone(done)

    def packages(self, things: list[Thing]) -> None:
        if not things:
            return
        with open("/var/lib/dpkg/status", encoding="utf-8", errors="replace") as stream:
            installed = packages.status(stream.read())
        known = apt.states([thing.name for thing in things])
        needed = packages.still_needed(installed, [thing.name for thing in things])
        going = [one for one in things if one.name in known and one.name not in needed]
        for name, by in sorted(needed.items()):
            self.kept.append(f"package {name}: {by} needs it")
        if going and not self.check:
            apt.repair_if_interrupted()
            apt.quiet_daemons()
            try:
                apt.purge([thing.name for thing in going])
            finally:
                apt.restore_policy()
        ledger = self.book.ledger
        for name, by in needed.items():
            owner = ledger.get("package", by)
            # Now it belongs to whoever keeps it; a package that is not ours keeps it for good.
            for heir in owner.owners if owner else ():
                if heir != self.owner:
                    ledger = ledger.claim(heir, "package", name)
        self.book.write(ledger)
        left = [one for one in things if one.name in needed]
        self.gone([one for one in things if one.name not in needed])
        self.book.write(self.book.ledger.release(self.owner, _now(self.book, left)))
        if left and not self.check:
            orphans = [one.name for one in left if not self.book.ledger.has("package", one.name)]
            if orphans:
                run(["apt-mark", "auto", "--", *orphans])

    def paths(self, things: list[Thing]) -> None:
        """Directories and what packages left; the outermost last, so that nothing is cut off."""
        ledger = self.book.ledger
        others = {
            thing.data.get("path", thing.name)
            for thing in ledger
            if thing.kind in ("file", "app", "directory", "trace", "unit")
            and (self.owner not in thing.owners or self.stays(thing.name))
        }
        protected = frozenset({*others, *self.keep})
        packaged = snapshot.all_paths() if any(one.kind == "trace" for one in things) else set()
        for thing in sorted(things, key=lambda one: one.name, reverse=True):
            path = thing.name
            if self.stays(path):
                self.kept.append(f"{thing.kind} {path}: asked for")
                continue
            if self.check:
                self.gone([thing])
                continue
            left = False
            if thing.kind == "trace" or thing.data.get("whole"):
                if path not in packaged and os.path.lexists(path):
                    left = remove_tree(path, protected)
            else:
                _rmdir(path)
            if left and any(inside(one, path) for one in self.keep):
                self.kept.append(f"{thing.kind} {path}: something in it is kept")
                continue
            self.gone([thing], said=not os.path.lexists(path))

    def accounts(self, users: list[Thing], groups: list[Thing]) -> None:
        held_users, held_groups = set(), set()
        for path in self.keep:
            for folder, _folders, files in os.walk(path):
                for each in (folder, *(os.path.join(folder, name) for name in files)):
                    status = os.lstat(each)
                    held_users.add(status.st_uid)
                    held_groups.add(status.st_gid)
        for thing in users:
            try:
                entry = pwd.getpwnam(thing.name)
            except KeyError:
                self.gone([thing], said=False)
                continue
            if entry.pw_uid in held_users:
                held_groups.add(entry.pw_gid)
                self.kept.append(f"user {thing.name}: owns what is kept")
                continue
            if not self.check:
                must(["userdel", "--force", thing.name], f"remove the user {thing.name}")
            self.gone([thing])
        for thing in groups:
            try:
                number = grp.getgrnam(thing.name).gr_gid
            except KeyError:
                self.gone([thing], said=not self.check and thing.name in {u.name for u in users})
                continue
            if number in held_groups:
                self.kept.append(f"group {thing.name}: owns what is kept")
                continue
            if not self.check:
                must(["groupdel", "--force", thing.name], f"remove the group {thing.name}")
            self.gone([thing])


def _now(book: Book, things: Iterable[Thing]) -> list[Thing]:
    found = (book.ledger.get(thing.kind, thing.name) for thing in things)
    return [thing for thing in found if thing is not None]


def _rmdir(path: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(path)


def work(module: AnsibleModule) -> dict[str, Any]:
    for pattern in module.params["unless"]:
        found = glob.glob(pattern)
        if found:
            return {"changed": False, "removed": [], "kept": [f"all: {found[0]} is still there"]}
    with Book(module.check_mode) as book:
        call = Work(module, book)
        before = {thing.key for thing in book.ledger.of(call.owner)}
        call.all()
    lines = "".join(line + "\n" for line in call.removed)
    return {
        "changed": bool(call.removed),
        "removed": call.removed,
        "kept": call.kept,
        "diff": {
            "before_header": f"things of {call.owner} ({len(before)})",
            "after_header": f"things of {call.owner}",
            "before": lines,
            "after": "",
        },
    }


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec={
                "role": ROLE,
                "keep": {"type": "list", "elements": "path", "default": []},
                "unless": {"type": "list", "elements": "str", "default": []},
            },
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()
