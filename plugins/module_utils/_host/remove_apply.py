# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hands of removal: look at the host, take the steps."""

from __future__ import annotations

import base64
import contextlib
import glob
import grp
import os
import pwd
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from . import apt, left, packages, snapshot, used_apply
from .ledger import Ledger
from .remove_plan import (
    Account,
    Before,
    Directory,
    Packages,
    Removal,
    RemoveFile,
    Restore,
    Trees,
    Unhold,
    Units,
    plan,
)
from .system import Book, fresh_name, must, properties, remove_tree, run, write_whole

STATUS = "/var/lib/dpkg/status"


def converge(
    role: str,
    keep: Sequence[str],
    check: bool,
    site: str | None = None,
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """Take away what only this role wants, or part of it; in check mode only what would go."""
    with Book(check, site=site) as book:
        count = len(book.ledger.of(role))
        if not check:
            finish_pending(book, role)
        steps = plan(read(book.ledger, role, keep), book.ledger, role, keep, only)
        if not check:
            steps = apply(steps, book, role)
    removed = [said for step in steps for said in step.said]
    return {
        "changed": bool(removed),
        "removed": removed,
        "kept": [said for step in steps for said in step.kept],
        "diff": {
            "before_header": f"things of {role} ({count})",
            "after_header": f"things of {role}",
            "before": "".join(line + "\n" for line in removed),
            "after": "",
        },
    }


def finish_pending(book: Book, role: str) -> None:
    """Finish the package transaction of this role that a killed run left."""
    pending = book.ledger.transaction
    if pending is not None and pending["owner"] == role:
        apt.restore_policy()
        apt.repair()
        apt.settle(book)


def read(ledger: Ledger, role: str, keep: Iterable[str]) -> Before:
    going, _shared = ledger.split(role)
    names = {
        kind: [one.name for one in going if one.kind == kind]
        for kind in ("package", "user", "group")
    }
    users, groups = _accounts(names["user"], names["group"])
    status = ""
    if names["package"]:
        with open(STATUS, encoding="utf-8", errors="replace") as stream:
            status = stream.read()
    installed = packages.status(status)
    use = used_apply.read(ledger, role, status, installed)
    around = {os.path.dirname(path) for paths in use.strangers.values() for path in paths}
    held_users, held_groups = _owners(keep, around)
    return Before(
        installed=installed,
        known=frozenset(apt.states(names["package"]) if names["package"] else ()),
        users=users,
        groups=groups,
        held_users=held_users,
        held_groups=held_groups,
        use=use,
    )


def _accounts(
    users: Iterable[str], groups: Iterable[str]
) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
    found_users, found_groups = {}, {}
    for name in users:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            found_users[name] = (entry.pw_uid, entry.pw_gid)
    for name in groups:
        with contextlib.suppress(KeyError):
            found_groups[name] = grp.getgrnam(name).gr_gid
    return found_users, found_groups


def _owners(keep: Iterable[str], folders: Iterable[str]) -> tuple[frozenset[int], frozenset[int]]:
    """Who owns what is kept with all in it, and the folders."""
    users, groups = set(), set()
    for status in map(os.lstat, folders):
        users.add(status.st_uid)
        groups.add(status.st_gid)
    for path in keep:
        for folder, _folders, files in os.walk(path):
            for each in (folder, *(os.path.join(folder, name) for name in files)):
                status = os.lstat(each)
                users.add(status.st_uid)
                groups.add(status.st_gid)
    return frozenset(users), frozenset(groups)


def apply(steps: Iterable[Removal], book: Book, role: str) -> list[Removal]:
    """Take the steps; as they turned out, which for directories only the host knows."""
    done = []
    packaged: set[str] | None = None
    for step in steps:
        taken = step
        if isinstance(step.act, Directory):
            if packaged is None and step.act.packaged_stays:
                packaged = snapshot.all_paths()  # what is left after the purge
            taken = _directory(step, step.act, packaged or set())
        elif isinstance(step.act, Restore):
            taken = replace(step, said=step.said if _restore(step.act) else ())
        elif isinstance(step.act, Account):
            _account(step.act, book.ledger)
        elif step.act is not None:
            _ACTS[type(step.act)](step.act)
        book.write(taken.after(book.ledger, role))
        done.append(taken)
    return done


def _units(act: Units) -> None:
    if act.services:
        ran = run(["systemctl", "disable", "--now", "--quiet", "--", *act.services], timeout=300)
        if ran.rc != 0:  # a unit that a generator makes cannot be disabled, and is not stopped then
            run(["systemctl", "stop", "--", *act.services], timeout=300)
        run(["systemctl", "kill", "--signal=KILL", "--", *act.services], timeout=30)
    for path in act.paths:
        _unlink(path)
        _unlink(fresh_name(path))
        if path.endswith(".d/mlops.conf"):
            _rmdir(os.path.dirname(path))
    for name in act.slices:
        run(["systemctl", "stop", "--", name], timeout=60)
    must(["systemctl", "daemon-reload"], "make systemd read its units again")
    if act.services:
        run(["systemctl", "reset-failed", "--", *act.services], timeout=30)


def _trees(act: Trees) -> None:
    for path in act.paths:
        for each in glob.glob(path) if glob.has_magic(path) else [path]:
            remove_tree(each, frozenset())


def _file(act: RemoveFile) -> None:
    original: Any = act.original
    if original and os.path.isdir(os.path.dirname(act.path)):
        content = base64.b64decode(original["content"])
        mode = int(original["mode"], 8)
        write_whole(act.path, content, mode, original["uid"], original["gid"])
    elif not original:
        _unlink(act.path)
    _unlink(fresh_name(act.path))


def _unhold(act: Unhold) -> None:
    there = apt.states(act.names)
    names = [name for name in act.names if name in there]
    if names:
        must(["apt-mark", "unhold", "--", *names], "let go packages that were held")


def _packages(act: Packages) -> None:
    if act.going:
        apt.repair_if_interrupted()
        apt.quiet_daemons()
        try:
            apt.purge(act.going)
        finally:
            apt.restore_policy()
    if act.orphans:
        run(["apt-mark", "auto", "--", *act.orphans])
    if act.wanted:
        run(["apt-mark", "manual", "--", *act.wanted])


def _restore(act: Restore) -> bool:
    """Whether there was anything to restore."""
    shown = properties(act.unit, "LoadState", "UnitFileState", "ActiveState")
    if shown.get("LoadState") != "loaded" or packages.in_use(shown):
        return False
    if act.enable:
        must(["systemctl", "enable", "--quiet", "--", act.unit], f"enable {act.unit} again")
    if act.start:
        must(["systemctl", "start", "--", act.unit], f"start {act.unit} again")
    return True


def _directory(step: Removal, act: Directory, packaged: set[str]) -> Removal:
    left = False
    if not act.whole:
        _rmdir(act.path)
    elif not (act.packaged_stays and act.path in packaged):
        left = remove_tree(act.path, act.protected)
    if left and act.holds_kept:
        ((kind, name),) = step.forget
        return Removal(kept=(f"{kind} {name}: {act.why}",))
    # What is left belongs to somebody else, or to another role of ours.
    return replace(step, said=() if os.path.lexists(act.path) else step.said)


def _account(act: Account, ledger: Ledger) -> None:
    # userdel takes along the group of the user's name.
    for kind in ("user", "group") if act.kind == "user" else ("group",):
        number = left.number_of(kind, act.name)
        if number is not None:
            left.hand_on(left.kept(ledger, kind, number), kind, number)
    if act.kind == "user":
        with contextlib.suppress(KeyError):  # the scripts of its package may take it along: munge
            pwd.getpwnam(act.name)
            must(["userdel", "--force", act.name], f"remove the user {act.name}")
        return
    with contextlib.suppress(KeyError):  # a group may have gone with its user
        grp.getgrnam(act.name)
        must(["groupdel", "--force", act.name], f"remove the group {act.name}")


_ACTS: dict[type, Callable[[Any], None]] = {
    Units: _units,
    Trees: _trees,
    RemoveFile: _file,
    Unhold: _unhold,
    Packages: _packages,
}


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path)


def _rmdir(path: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(path)
