# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hands for users, groups, directories and files: look at the host, take the steps."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .args import role_of
from .errors import HostError
from .files import Directory, File, Wanted, masked, wanted_of
from .files_plan import (
    Account,
    Before,
    Group,
    MakeDirectory,
    Place,
    Seen,
    SetAttributes,
    Unlink,
    above,
    plan_and_owners,
)
from .steps import Run, Step, report
from .system import Book, fresh_name, must, noexec, put, run, shut, sync_directory

ACCOUNT_FILES = ("/etc", "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow")


def converge(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """What a task with these parameters asks for; in check mode only what would be done."""
    role, wanted = role_of(params), wanted_of(params)
    with Book(check, site=params.get("site_id")) as book:
        steps, owners = plan_and_owners(read(wanted), wanted, book.ledger, role, trial=check)
        if not check:
            apply(steps, book)
    return {**report(steps), "owners": owners}


def read(wanted: Wanted) -> Before:
    """The host as far as ``wanted`` touches it."""
    contents = {one.path for one in wanted.files}
    paths = {one.path for one in wanted.directories} | contents | set(wanted.absent)
    paths |= {parent for path in paths for parent in above(path)}
    things: list[Directory | File] = [*wanted.directories, *wanted.files]
    users = {one.name for one in wanted.users} | {one.owner for one in things}
    groups = {*wanted.groups, *(one.group for one in things)}
    groups |= {name for one in wanted.users for name in (one.name, *one.groups, *one.left_groups)}
    return Before(
        _found(users, _account),
        _found(groups, _group),
        _found(paths, lambda path: _seen(path, path in contents)),
        next(filter(None, (shut(path) for path in ACCOUNT_FILES)), ""),
    )


def _found(names: Iterable[str], look: Callable[[str], Any]) -> dict[str, Any]:
    found = {}
    for name in sorted(names):
        with contextlib.suppress(KeyError, FileNotFoundError, NotADirectoryError):
            found[name] = look(name)
    return found


def _account(name: str) -> Account:
    entry = pwd.getpwnam(name)
    return Account(entry.pw_uid, entry.pw_dir, entry.pw_shell, entry.pw_gecos)


def _group(name: str) -> Group:
    entry = grp.getgrnam(name)
    return Group(entry.gr_gid, frozenset(entry.gr_mem))


def _seen(path: str, with_content: bool) -> Seen:
    status = os.lstat(path)
    content = b""
    kind = "other"
    if stat.S_ISDIR(status.st_mode):
        kind = "directory"
    elif stat.S_ISLNK(status.st_mode):
        kind, content = "link", os.fsencode(os.readlink(path))
    elif stat.S_ISREG(status.st_mode):
        kind = "file"
        if with_content:
            with open(path, "rb") as stream:
                content = stream.read()
    mode = stat.S_IMODE(status.st_mode)
    leads = kind == "directory" or (kind == "link" and os.path.isdir(path))
    return Seen(
        kind,
        status.st_uid,
        status.st_gid,
        mode,
        content,
        leads,
        shut=shut(path) if kind in ("directory", "file") or leads else "",
        noexec=noexec(path) if leads else "",
    )


def apply(steps: Iterable[Step], book: Book) -> None:
    """Take the steps, each after its ledger is on the disk."""
    for step in steps:
        book.write(step.ledger)
        if step.act is not None:
            _ACTS[type(step.act)](step.act)


def _run(act: Run) -> None:
    must(act.argv, act.doing)


def _make_directory(act: MakeDirectory) -> None:
    if not os.path.isdir(act.path):  # the ledger's own is there already
        os.mkdir(act.path, 0o700)
    os.chown(act.path, _uid(act.owner), _gid(act.group))
    os.chmod(act.path, act.mode)


def _set_attributes(act: SetAttributes) -> None:
    os.chown(act.path, _uid(act.owner), _gid(act.group), follow_symlinks=False)
    if act.mode is not None:
        os.chmod(act.path, act.mode)


def _place(act: Place) -> None:
    file = act.file
    fresh = fresh_name(file.path)
    if file.link:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        os.symlink(file.link, fresh)
        os.lchown(fresh, _uid(file.owner), _gid(file.group))
    else:
        put(fresh, file.content, file.mode, _uid(file.owner), _gid(file.group))
        _validate(file, fresh)
    os.replace(fresh, file.path)
    sync_directory(os.path.dirname(file.path))


def _validate(file: File, fresh: str) -> None:
    if not file.validate:
        return
    ran = run([word.replace("%s", fresh) for word in file.validate], timeout=60)
    if ran.rc == 0:
        return
    os.unlink(fresh)
    said = ran.said.replace(fresh, file.path)
    if file.sensitive:
        parts = said.split(file.path)  # the path is no secret
        said = file.path.join(masked(part, file.content) for part in parts)
    raise HostError(
        f"{file.path} was not replaced, because {file.validate[0]} does not accept the new "
        f"content: {said}"
    )


def _unlink(act: Unlink) -> None:
    os.unlink(act.path)


_ACTS: dict[type, Callable[[Any], None]] = {
    Run: _run,
    MakeDirectory: _make_directory,
    SetAttributes: _set_attributes,
    Place: _place,
    Unlink: _unlink,
}


def _uid(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _gid(name: str) -> int:
    return grp.getgrnam(name).gr_gid
