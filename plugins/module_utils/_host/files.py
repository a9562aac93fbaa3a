# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users, groups, directories, files and links as a role asks for them, checked and in order."""

from __future__ import annotations

import base64
import binascii
import os.path
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import HostError

_ACCOUNT = re.compile(r"^[a-z_][a-z0-9_-]{0,30}$")
_MODE = re.compile(r"^0?[0-7]{3,4}$")


@dataclass(frozen=True)
class User:
    name: str
    home: str
    groups: tuple[str, ...] = ()
    shell: str = "/usr/sbin/nologin"
    comment: str = ""
    left_groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Directory:
    path: str
    owner: str = "root"
    group: str = "root"
    mode: int = 0o755
    guests: bool = False  # a program of ours writes there as users that are not ours


@dataclass(frozen=True)
class File:
    path: str
    content: bytes = b""
    link: str = ""
    owner: str = "root"
    group: str = "root"
    mode: int = 0o644
    validate: tuple[str, ...] = ()
    sensitive: bool = False
    adopt: bool = False


@dataclass(frozen=True)
class Wanted:
    """Everything that one task asks for, in the order in which it is made."""

    groups: tuple[str, ...] = ()
    users: tuple[User, ...] = ()
    directories: tuple[Directory, ...] = ()
    files: tuple[File, ...] = ()
    absent: tuple[str, ...] = ()


def wanted_of(params: Mapping[str, Any]) -> Wanted:
    """The parameters of a task, checked."""
    users = tuple(user_of(row) for row in params["users"])
    groups = tuple(account(name, "groups") for name in params["groups"])
    directories = tuple(directory_of(row) for row in params["directories"])
    files = tuple(
        file_of(row, content_of(row), tuple(shlex.split(row["validate"] or "")))
        for row in params["files"]
    )
    absent = tuple(absolute(path, "absent") for path in params["absent"])
    refuse_twice(directories, files)
    return Wanted(groups, users, directories, files, absent)


def content_of(row: Mapping[str, Any]) -> bytes | None:
    """A file's content, as the action plugin sends it or as it stands in the task."""
    for name in ("payload", "secret_payload"):
        if row.get(name) is not None:
            try:
                return base64.b64decode(row[name], validate=True)
            except binascii.Error as error:
                raise HostError(f"files {row['path']}: {name} is not base64.") from error
    if row.get("content") is not None:
        return str(row["content"]).encode()
    return None


def masked(said: str, content: bytes) -> str:
    """What a checker says of a secret file, without the file's values; its keys stay."""
    text = content.decode("utf-8", "replace")
    keys = set(re.findall(r"([\w.-]+)\s*[:=]", text))
    values = {word.strip("\"',") for word in re.split(r"[\s{}\[\]=]+|:\s", text)}
    values |= {part for value in values for part in re.split(r"[^\w-]+", value) if len(part) > 3}
    for value in sorted(values - keys, key=len, reverse=True):
        if len(value) > 2:
            said = said.replace(value, "********")
    return said


def account(name: str, where: str) -> str:
    if not _ACCOUNT.match(name):
        raise HostError(f"{where}: {name!r} is not a name for a user or group.")
    return name


def absolute(path: str, where: str) -> str:
    if not path.startswith("/") or os.path.normpath(path) != path:
        raise HostError(f"{where}: {path!r} has to be an absolute path in its shortest form.")
    if path in ("/", "/etc", "/usr", "/var", "/opt", "/home", "/root", "/srv", "/var/lib", "/run"):
        raise HostError(f"{where}: {path} belongs to the system.")
    return path


def mode_of(value: Any, where: str) -> int:
    text = str(value)
    if not _MODE.match(text):
        raise HostError(f'{where}: mode {text!r} has to be octal in quotes, such as "0640".')
    return int(text, 8)


def user_of(row: Mapping[str, Any]) -> User:
    name = account(row["name"], "users")
    where = f"users {name}"
    return User(
        name,
        absolute(row.get("home") or f"/var/lib/mlops/{name}", where),
        tuple(account(group, where) for group in row.get("groups") or ()),
        row.get("shell") or "/usr/sbin/nologin",
        row.get("comment") or "",
        tuple(account(group, where) for group in row.get("left_groups") or ()),
    )


def directory_of(row: Mapping[str, Any]) -> Directory:
    path = absolute(row["path"], "directories")
    return Directory(
        path,
        row.get("owner") or "root",
        row.get("group") or "root",
        mode_of(row.get("mode") or "0755", path),
        bool(row.get("guests")),
    )


def file_of(row: Mapping[str, Any], content: bytes | None, validate: tuple[str, ...]) -> File:
    path = absolute(row["path"], "files")
    link = row.get("link") or ""
    if bool(link) == (content is not None):
        raise HostError(f"files {path}: give exactly one of template, source, content and link.")
    if validate and not any("%s" in word for word in validate):
        raise HostError(f"files {path}: validate needs a %s where the file's path goes.")
    return File(
        path,
        content or b"",
        link,
        row.get("owner") or "root",
        row.get("group") or "root",
        mode_of(row.get("mode") or "0644", path),
        validate,
        bool(row.get("sensitive")),
        bool(row.get("adopt")),
    )


def refuse_twice(directories: tuple[Directory, ...], files: tuple[File, ...]) -> None:
    seen: set[str] = set()
    for path in (*(one.path for one in directories), *(one.path for one in files)):
        if path in seen:
            raise HostError(f"{path} is asked for twice in one task.")
        seen.add(path)
