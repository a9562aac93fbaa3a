# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users, groups, directories and files: from what is there and what is wanted to the steps between.

Nothing here looks at a host. ``plan`` refuses before the first step, and every step carries the
ledger that has to be written before it is taken.
"""

from __future__ import annotations

import base64
import os.path
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Union

from .errors import HostError
from .files import Directory, File, User, Wanted
from .ledger import STATE_DIR, Key, Ledger, missing_parents
from .steps import Run, Step, difference


@dataclass(frozen=True)
class Account:
    """A user of the host. No number: this plan will create it."""

    uid: int | None
    home: str
    shell: str
    comment: str


@dataclass(frozen=True)
class Group:
    """A group of the host. No number: this plan will create it."""

    gid: int | None
    members: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Seen:
    """What is at a path; links are not followed."""

    kind: str  # directory, file, link or other
    uid: int = 0
    gid: int = 0
    mode: int = 0o755
    content: bytes = b""  # of a file, or where a link points
    leads: bool = False  # whether it is a directory, or a link to one
    shut: str = ""  # why even root cannot change it and what to do, if that is so
    noexec: str = ""  # why nothing in it can be run and what to do, if that is so


@dataclass(frozen=True)
class Before:
    """The host as far as it matters here; a path that is not among ``paths`` does not exist."""

    users: Mapping[str, Account] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    paths: Mapping[str, Seen] = field(default_factory=dict)
    accounts_shut: str = ""  # why no user or group can be created and what to do, if that is so


@dataclass(frozen=True)
class MakeDirectory:
    path: str
    owner: str = "root"
    group: str = "root"
    mode: int = 0o755


@dataclass(frozen=True)
class SetAttributes:
    path: str
    owner: str
    group: str
    mode: int | None  # a link has none


@dataclass(frozen=True)
class Place:
    """Put a file or link there in one step, after its check accepted it."""

    file: File


@dataclass(frozen=True)
class Unlink:
    path: str


Act = Union[Run, MakeDirectory, SetAttributes, Place, Unlink]


def plan(
    before: Before, wanted: Wanted, ledger: Ledger, role: str, trial: bool = False
) -> list[Step]:
    """The steps that make the host as ``wanted`` by the role, or a refusal.

    In a ``trial`` (check mode) an account may be missing that an earlier task would have created.
    """
    return plan_and_owners(before, wanted, ledger, role, trial)[0]


def plan_and_owners(
    before: Before, wanted: Wanted, ledger: Ledger, role: str, trial: bool = False
) -> tuple[list[Step], list[str] | None]:
    """The same, and the roles that want all of it once that is done."""
    draft = _Draft(before, ledger, role, trial)
    for part in draft.parts(wanted):
        part()
    if draft.ledger != (draft.steps[-1].ledger if draft.steps else ledger):
        draft.steps.append(Step(draft.ledger))
    return draft.steps, draft.ledger.owners_of_all(draft.claimed)


def standing_for(before: Before, content: Callable[[bytes], bytes]) -> Before:
    """The same host, with what ``content`` makes of each file's content in its place."""

    def one(seen: Seen) -> Seen:
        return replace(seen, content=content(seen.content)) if seen.kind == "file" else seen

    return replace(before, paths={path: one(seen) for path, seen in before.paths.items()})


def refusals(
    before: Before, asked: Iterable[tuple[str, Wanted]], ledger: Ledger
) -> list[tuple[str, str]]:
    """All that ``plan`` would refuse of tasks that come one after the other: role and sentence."""
    draft = _Draft(before, ledger, "", trial=True)
    found = []
    for role, wanted in asked:
        draft.role = role
        for part in draft.parts(wanted):
            try:
                part()
            except HostError as error:
                found.append((role, str(error)))
    return found


class _Draft:
    """The plan as it grows: the host and the ledger as they will be after the steps so far."""

    def __init__(self, before: Before, ledger: Ledger, role: str, trial: bool) -> None:
        self.users = dict(before.users)
        self.groups = dict(before.groups)
        self.paths = dict(before.paths)
        self.accounts_shut = before.accounts_shut
        self.ledger = ledger
        self.role = role
        self.trial = trial
        self.steps: list[Step] = []
        self.claimed: set[Key] = set()

    def parts(self, wanted: Wanted) -> Iterator[Callable[[], None]]:
        """What is to be planned, one thing after the other; each may refuse."""
        for name in wanted.groups:
            yield partial(self.group, name)
        for user in wanted.users:
            yield partial(self.user, user)
        for directory in wanted.directories:
            yield partial(self.directory, directory)
        for file in wanted.files:
            yield partial(self.file, file)
        for path in wanted.absent:
            yield partial(self.absent, path)

    def claim(self, kind: str, name: str, **data: Any) -> None:
        self.ledger = self.ledger.claim(self.role, kind, name, **data)
        self.claimed.add((kind, name))

    def share(self, kind: str, name: str) -> None:
        """What is ours already is wanted by this role, too."""
        if self.ledger.has(kind, name):
            self.claim(kind, name)

    def add(self, act: Act, said: str = "", diff: Mapping[str, str] | None = None) -> None:
        self.steps.append(Step(self.ledger, act, said, diff))

    # Users and groups

    def group(self, name: str) -> None:
        if name in self.groups:
            self.share("group", name)
            return
        self.refuse_accounts(f"The group {name}")
        self.claim("group", name)
        self.groups[name] = Group(None)
        act = Run(("groupadd", "--system", name), f"create the group {name}")
        self.add(act, f"group {name}: created")

    def user(self, user: User) -> None:
        account = self.users.get(user.name)
        if account is not None and not self.ledger.has("user", user.name):
            raise HostError(
                f"The user {user.name} exists on this host and was not created by the platform; "
                "rename or remove it."
            )
        if account is None:
            self.refuse_accounts(f"The user {user.name}")
        for name in (user.name, *user.groups):
            self.group(name)
        self.claim("user", user.name)
        if account is None:
            self.users[user.name] = Account(None, user.home, user.shell, user.comment)
            act = Run((*_useradd(user), user.name), f"create the user {user.name}")
            self.add(act, f"user {user.name}: created")
        else:
            options = self.differing(user, account)
            if options:
                act = Run(("usermod", *options, user.name), f"change the user {user.name}")
                self.add(act, f"user {user.name}: changed")
        self.join(user)
        for name in user.left_groups:
            self.leave(user.name, name)

    def refuse_accounts(self, who: str) -> None:
        if self.accounts_shut:
            raise HostError(f"{who} cannot be created: {self.accounts_shut}.")

    def differing(self, user: User, account: Account) -> list[str]:
        """The options of usermod that make the account as wanted."""
        options: list[str] = []
        thing = self.ledger.get("user", user.name)
        if thing is None or not thing.data.get("by"):  # a package knows best where its user lives
            for option, there, wanted in (
                ("--home", account.home, user.home),
                ("--shell", account.shell, user.shell),
                ("--comment", account.comment, user.comment),
            ):
                if there != wanted:
                    options += [option, wanted]
        lacking = [name for name in user.groups if user.name not in self.groups[name].members]
        if lacking:
            options += ["--append", "--groups", ",".join(lacking)]
        return options

    def join(self, user: User) -> None:
        for name in user.groups:
            group = self.groups[name]
            self.groups[name] = replace(group, members=group.members | {user.name})

    def leave(self, user: str, name: str) -> None:
        """A group that an earlier version of a role wanted the user to be in."""
        group = self.groups.get(name)
        if group is None or user not in group.members:
            return
        self.groups[name] = replace(group, members=group.members - {user})
        act = Run(("gpasswd", "--delete", user, name), f"take {user} out of the group {name}")
        self.add(act, f"user {user}: no longer in group {name}")

    def ids(self, owner: str, group: str, path: str) -> tuple[int | None, int | None]:
        """Numbers of the names; none for one that is not there yet."""
        for kind, name, known in (("user", owner, self.users), ("group", group, self.groups)):
            if name not in known and not self.trial:
                raise HostError(
                    f"{path} shall belong to the {kind} {name}, which does not exist on this "
                    f"host; list it under {kind}s, or apply the role that creates it first."
                )
        return (
            self.users[owner].uid if owner in self.users else None,
            self.groups[group].gid if group in self.groups else None,
        )

    # Directories

    def refuse_shut(self, path: str) -> None:
        """Refuse to make, change or remove what even root cannot."""
        nearest = next((one for one in above(path) if one in self.paths), None)
        for one in (path, nearest):
            seen = self.paths.get(one) if one else None
            if seen is not None and seen.shut:
                raise HostError(f"{path} cannot be placed: {seen.shut}.")

    def refuse_noexec(self, path: str) -> None:
        """Refuse to place a program where none can be run."""
        nearest = next((one for one in above(path) if one in self.paths), None)
        if nearest and self.paths[nearest].noexec:
            raise HostError(f"{path} could not be run: {self.paths[nearest].noexec}.")

    def parents(self, path: str) -> None:
        present = [parent for parent in above(path) if parent in self.paths]
        if present and not self.paths[present[0]].leads:
            raise HostError(
                f"{present[0]} shall be a directory, but is something else; move it away."
            )
        for parent in missing_parents(path, present):
            self.refuse_shut(parent)
            self.claim("directory", parent)
            self.paths[parent] = Seen("directory", leads=True)
            self.add(MakeDirectory(parent))
        for parent in present:
            self.share("directory", parent)

    def directory(self, want: Directory) -> None:
        path = want.path
        ids = self.ids(want.owner, want.group, path)
        self.parents(path)
        seen = self.paths.get(path)
        said = {"whole": True} | ({"guests": True} if want.guests else {})
        if seen is None:
            self.refuse_shut(path)
            self.claim("directory", path, **said)
            self.paths[path] = _seen("directory", ids, want.mode, leads=True)
            act = MakeDirectory(path, want.owner, want.group, want.mode)
            self.add(act, f"{path}: directory created")
            return
        if seen.kind != "directory":
            raise HostError(f"{path} shall be a directory, but is something else; move it away.")
        ours = path == STATE_DIR or self.ledger.covers(path)
        if path != STATE_DIR and self.ledger.has("directory", path):
            self.claim("directory", path, **said)
        self.attributes(SetAttributes(path, want.owner, want.group, want.mode), ids, ours)

    def attributes(
        self, want: SetAttributes, ids: tuple[int | None, int | None], ours: bool
    ) -> None:
        path, seen = want.path, self.paths[want.path]
        wrong = []
        if ids != (seen.uid, seen.gid):
            wrong.append("owner")
        if want.mode is not None and seen.mode != want.mode:
            wrong.append(f"mode {seen.mode:04o} to {want.mode:04o}")
        if not wrong:
            return
        if not ours:
            commands = [f"chown {want.owner}:{want.group} {path}"] if "owner" in wrong else []
            if len(wrong) > len(commands):
                commands.append(f"chmod {want.mode:04o} {path}")
            raise HostError(
                f"{path} was there before the platform and differs from what is wanted "
                f"({', '.join(wrong)}); move it away, or change it, with: {' && '.join(commands)}."
            )
        if seen.shut:
            raise HostError(f"{path} cannot be placed: {seen.shut}.")
        self.add(want, f"{path}: {', '.join(wrong)}")

    # Files

    def file(self, want: File) -> None:
        path = want.path
        ids = self.ids(want.owner, want.group, path)
        self.parents(path)
        seen = self.paths.get(path)
        ours = self.ledger.covers(path)
        if want.mode & 0o111 and not want.link:
            self.refuse_noexec(path)
        if seen is not None:
            self.refuse_foreign(want, seen, ours)
            self.keep_original(want, seen)
        if seen is None or ours:
            self.claim("file", path)
        if seen is not None and _same(want, seen):
            mode = None if want.link else want.mode
            attributes = SetAttributes(path, want.owner, want.group, mode)
            self.attributes(attributes, ids, ours or want.adopt)
            return
        self.refuse_shut(path)
        after = want.link.encode() if want.link else want.content
        self.paths[path] = _seen("link" if want.link else "file", ids, want.mode, after)
        diff = difference(path, seen.content if seen else b"", after, want.sensitive)
        self.add(Place(want), f"{path}: " + ("created" if seen is None else "content"), diff)

    def refuse_foreign(self, want: File, seen: Seen, ours: bool) -> None:
        if seen.kind not in ("file", "link"):
            kind = "link" if want.link else "file"
            raise HostError(f"{want.path} shall be a {kind}, but is something else; move it away.")
        if not (ours or want.adopt or _same(want, seen)):
            raise HostError(
                f"{want.path} is there already with other content and was not written by the "
                "platform; move it away, or remove it if it is not needed."
            )

    def keep_original(self, want: File, seen: Seen) -> None:
        """Note what an adopted file was, to be put back on removal."""
        foreign = want.adopt and not self.ledger.has("file", want.path)
        if foreign and seen.kind == "file" and not _same(want, seen):
            original = {
                "content": base64.b64encode(seen.content).decode(),
                "mode": f"{seen.mode:04o}",
                "uid": seen.uid,
                "gid": seen.gid,
            }
            self.claim("file", want.path, original=original)

    def absent(self, path: str) -> None:
        seen = self.paths.get(path)
        if seen is None:
            self.ledger = self.ledger.drop(("file", path))
            return
        if not self.ledger.covers(path):
            return
        if seen.kind == "directory":
            raise HostError(f"{path} under absent is a directory; only files can be given there.")
        self.refuse_shut(path)
        self.add(Unlink(path), f"{path}: removed")
        del self.paths[path]
        self.ledger = self.ledger.drop(("file", path))


def above(path: str) -> list[str]:
    """The directories above a path, the nearest first."""
    parents = []
    while path != "/":
        path = os.path.dirname(path)
        parents.append(path)
    return parents


def _useradd(user: User) -> list[str]:
    argv = ["useradd", "--system", "--no-create-home", "--home-dir", user.home]
    argv += ["--shell", user.shell, "--gid", user.name, "--comment", user.comment]
    if user.groups:
        argv += ["--groups", ",".join(user.groups)]
    return argv


def _seen(
    kind: str,
    ids: tuple[int | None, int | None],
    mode: int,
    content: bytes = b"",
    leads: bool = False,
) -> Seen:
    """A thing as it will be; who owns it by then matters to no later step."""
    return Seen(kind, ids[0] or 0, ids[1] or 0, mode, content, leads)


def _same(want: File, seen: Seen) -> bool:
    if seen.kind == "link":
        return want.link != "" and os.fsencode(want.link) == seen.content
    return seen.kind == "file" and not want.link and seen.content == want.content
