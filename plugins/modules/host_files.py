#!/usr/bin/python
# Copyright: (c) 2026, The mlops.onprem developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_files
short_description: Place users, directories and files of a role in one step
version_added: 0.1.0
description:
  - Creates system users and groups, directories, files and symbolic links in one round trip.
  - Templates and source files are found as M(ansible.builtin.template) finds them, and
    rendered on the controller.
  - Everything that did not exist before is recorded in the host's ledger before it is made, so
    that M(mlops.onprem.host_remove) takes away exactly that.
  - A file, directory or user that is already there and not ours is left alone if it is as asked,
    and refused otherwise.
  - A file is replaced in one step, after its O(files[].validate) command accepted it.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  role:
    description: Role to which the things belong.
    type: str
    required: true
  groups:
    description: System groups.
    type: list
    elements: str
    default: []
  users:
    description: System users without login, each with a primary group of the same name.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the user.
        type: str
        required: true
      home:
        description:
          - Home directory as entered in the user database. It is not created. Default is
            C(/var/lib/mlops/<name>).
        type: path
      groups:
        description:
          - Further groups. One that does not exist is created and belongs to every role that asked
            for it.
        type: list
        elements: str
        default: []
      shell:
        description: Login shell.
        type: str
        default: /usr/sbin/nologin
      comment:
        description: Description of the user.
        type: str
        default: ""
  directories:
    description:
      - Directories. One that we made is removed with everything in it when its last role goes.
        Missing directories above are made, too.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      owner:
        description: User it belongs to.
        type: str
        default: root
      group:
        description: Group it belongs to.
        type: str
        default: root
      mode:
        description: Octal mode in quotes.
        type: str
        default: "0755"
  files:
    description:
      - Files and symbolic links, each by exactly one of template, source, content and link.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      template:
        description: Template in the role's C(templates) directory, rendered on the controller.
        type: str
      source:
        description: File in the role's C(files) directory.
        type: str
      content:
        description: The text itself.
        type: str
      link:
        description: Where the symbolic link points.
        type: str
      owner:
        description: User it belongs to.
        type: str
        default: root
      group:
        description: Group it belongs to.
        type: str
        default: root
      mode:
        description: Octal mode in quotes.
        type: str
        default: "0644"
      validate:
        description:
          - Command that must accept the new file before it replaces the old one. C(%s) stands for
            its path, in the same directory and with the same ending. No shell.
        type: str
      sensitive:
        description: The content is secret. Neither shown in the diff nor logged.
        type: bool
        default: false
      adopt:
        description:
          - Replace a file that is not ours, such as a package's configuration. The original is kept
            in the ledger and put back on removal.
        type: bool
        default: false
      payload:
        description: The content as the action plugin sends it, base64. Not for playbooks.
        type: str
      secret_payload:
        description: Like O(files[].payload), for sensitive files. Not for playbooks.
        type: str
  absent:
    description: Files that shall not exist any more. Only what is ours is removed.
    type: list
    elements: path
    default: []
extends_documentation_fragment: [mlops.onprem.previewed]
seealso:
  - module: mlops.onprem.host_remove
  - module: mlops.onprem.host_service
"""

EXAMPLES = r"""
- name: Place the configuration of the monitoring role
  mlops.onprem.host_files:
    role: monitoring
    users:
      - {name: mlops-prometheus, home: /var/lib/mlops/monitoring/prometheus, groups: [mlops-tls]}
    directories:
      - {path: /etc/mlops/monitoring}
      - path: /var/lib/mlops/monitoring/prometheus
        owner: mlops-prometheus
        group: mlops-prometheus
        mode: "0750"
    files:
      - path: /etc/mlops/monitoring/prometheus.yml
        template: prometheus.yml.j2
        group: mlops-prometheus
        mode: "0640"
        validate: promtool check config %s
      - path: /etc/mlops/monitoring/password
        content: "{{ monitoring_database_password }}"
        mode: "0600"
        sensitive: true
    absent: [/etc/mlops/monitoring/old.yml]
"""

RETURN = r"""
changes:
  description: What was done, one short sentence each.
  returned: success
  type: list
  elements: str
  sample: ["user mlops-prometheus: created", "/etc/mlops/monitoring/prometheus.yml: content"]
"""

import base64
import binascii
import contextlib
import grp
import os
import pwd
import shlex
import stat
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._host import files as wanted
from ansible_collections.mlops.onprem.plugins.module_utils._host.args import ROLE, role_of
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError
from ansible_collections.mlops.onprem.plugins.module_utils._host.ledger import missing_parents
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import (
    STATE_DIR,
    Book,
    fresh_name,
    must,
    put,
    run,
    sync_directory,
)

SHOWN_BYTES = 100_000


class Work:
    """One call: what is wanted, the open ledger, and what was done so far."""

    def __init__(self, module: AnsibleModule, book: Book) -> None:
        self.owner = role_of(module.params)
        self.check: bool = module.check_mode
        self.book = book
        self.changes: list[str] = []
        self.diffs: list[dict[str, str]] = []

    def did(self, what: str) -> None:
        self.changes.append(what)

    def claim(self, kind: str, name: str, **data: Any) -> None:
        self.book.write(self.book.ledger.claim(self.owner, kind, name, **data))

    # Users and groups

    def group(self, name: str) -> None:
        if _exists(grp.getgrnam, name):
            if self.book.ledger.has("group", name):
                self.claim("group", name)
            return
        self.claim("group", name)
        self.did(f"group {name}: created")
        if not self.check:
            must(["groupadd", "--system", name], f"create the group {name}")

    def user(self, user: wanted.User) -> None:
        ours = self.book.ledger.has("user", user.name)
        present = _exists(pwd.getpwnam, user.name)
        if present and not ours:
            raise HostError(
                f"The user {user.name} exists on this host and was not created by the platform; "
                "rename or remove it."
            )
        if not _exists(grp.getgrnam, user.name) or self.book.ledger.has("group", user.name):
            self.group(user.name)
        for name in user.groups:
            self.group(name)
        self.claim("user", user.name)
        if not present:
            self.did(f"user {user.name}: created")
            if not self.check:
                argv = ["useradd", "--system", "--no-create-home", "--home-dir", user.home]
                argv += ["--shell", user.shell, "--gid", user.name, "--comment", user.comment]
                if user.groups:
                    argv += ["--groups", ",".join(user.groups)]
                must([*argv, user.name], f"create the user {user.name}")
            return
        entry = pwd.getpwnam(user.name)
        argv = []
        thing = self.book.ledger.get("user", user.name)
        if thing is None or not thing.data.get("by"):
            if entry.pw_dir != user.home:
                argv += ["--home", user.home]
            if entry.pw_shell != user.shell:
                argv += ["--shell", user.shell]
            if entry.pw_gecos != user.comment:
                argv += ["--comment", user.comment]
        lacking = [name for name in user.groups if not _member(user.name, name)]
        if lacking:
            argv += ["--append", "--groups", ",".join(lacking)]
        if argv:
            self.did(f"user {user.name}: changed")
            if not self.check:
                must(["usermod", *argv, user.name], f"change the user {user.name}")

    def ids(self, owner: str, group: str, path: str) -> tuple[int | None, int | None]:
        """Numbers of the names; nothing for one that this check run would have created."""
        found: list[int | None] = []
        for database, name, kind in ((_uid, owner, "user"), (_gid, group, "group")):
            try:
                found.append(database(name))
            except KeyError:
                if not self.check:
                    raise HostError(
                        f"{path} shall belong to the {kind} {name}, which does not exist on this "
                        f"host; list it under {kind}s, or apply the role that creates it first."
                    ) from None
                found.append(None)
        return found[0], found[1]

    # Directories

    def parents(self, path: str) -> None:
        exists = [parent for parent in _above(path) if os.path.lexists(parent)]
        for parent in missing_parents(path, exists):
            self.claim("directory", parent)
            if not self.check and not os.path.isdir(parent):
                os.mkdir(parent, 0o755)
                os.chmod(parent, 0o755)  # noqa: S103
        for parent in exists:
            if self.book.ledger.has("directory", parent):
                self.claim("directory", parent)

    def directory(self, want: wanted.Directory) -> None:
        path = want.path
        uid, gid = self.ids(want.owner, want.group, path)
        self.parents(path)
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            self.claim("directory", path, whole=True)
            self.did(f"{path}: directory created")
            if not self.check:
                os.mkdir(path, 0o700)
                os.chown(path, uid or 0, gid or 0)
                os.chmod(path, want.mode)
            return
        if not stat.S_ISDIR(status.st_mode):
            raise HostError(f"{path} shall be a directory, but is something else; move it away.")
        ours = path == STATE_DIR or self.book.ledger.covers(path)
        if path != STATE_DIR and self.book.ledger.has("directory", path):
            self.claim("directory", path, whole=True)
        self.attributes(path, status, uid, gid, want.mode, ours)

    def attributes(
        self,
        path: str,
        status: os.stat_result,
        uid: int | None,
        gid: int | None,
        mode: int | None,
        ours: bool,
    ) -> None:
        wrong = []
        if (uid, gid) != (status.st_uid, status.st_gid):
            wrong.append("owner")
        if mode is not None and stat.S_IMODE(status.st_mode) != mode:
            wrong.append(f"mode {stat.S_IMODE(status.st_mode):04o} to {mode:04o}")
        if not wrong:
            return
        if not ours:
            raise HostError(
                f"{path} was there before the platform and differs from what is wanted "
                f"({', '.join(wrong)}); change it by hand, or move it away."
            )
        self.did(f"{path}: {', '.join(wrong)}")
        if not self.check:
            os.chown(path, uid or 0, gid or 0, follow_symlinks=False)
            if mode is not None:
                os.chmod(path, mode)

    # Files

    def file(self, want: wanted.File) -> None:
        path = want.path
        uid, gid = self.ids(want.owner, want.group, path)
        self.parents(path)
        ledger = self.book.ledger
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            status = None
        kind = "link" if want.link else "file"
        before = b""
        same = False
        if status is not None:
            if stat.S_ISLNK(status.st_mode):
                same = want.link != "" and os.readlink(path) == want.link
                before = os.fsencode(os.readlink(path))
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as stream:
                    before = stream.read()
                same = not want.link and before == want.content
            else:
                raise HostError(f"{path} shall be a {kind}, but is something else; move it away.")
        ours = ledger.covers(path)
        if status is not None and not ours and not same and not want.adopt:
            raise HostError(
                f"{path} is there already with other content and was not written by the platform; "
                "move it away, or remove it if it is not needed."
            )
        foreign = status is not None and want.adopt and not ledger.has("file", path)
        if foreign and not same and status is not None and stat.S_ISREG(status.st_mode):
            original = {
                "content": base64.b64encode(before).decode(),
                "mode": f"{stat.S_IMODE(status.st_mode):04o}",
                "uid": status.st_uid,
                "gid": status.st_gid,
            }
            self.claim("file", path, original=original)
        if status is None or ours:
            self.claim("file", path)
        if same and status is not None:
            self.attributes(
                path, status, uid, gid, None if want.link else want.mode, ours or want.adopt
            )
            return
        self.did(f"{path}: " + ("created" if status is None else "content"))
        after = want.link.encode() if want.link else want.content
        self.diffs.append(_diff(path, before, after, want.sensitive))
        if self.check:
            return
        fresh = fresh_name(path)
        if want.link:
            _unlink(fresh)
            os.symlink(want.link, fresh)
            os.lchown(fresh, uid or 0, gid or 0)
        else:
            put(fresh, want.content, want.mode, uid or 0, gid or 0)
            self.validate(want, fresh)
        os.replace(fresh, path)
        sync_directory(os.path.dirname(path))

    def validate(self, want: wanted.File, fresh: str) -> None:
        if not want.validate:
            return
        argv = [word.replace("%s", fresh) for word in want.validate]
        ran = run(argv, timeout=60)
        if ran.rc == 0:
            return
        _unlink(fresh)
        said = "its words are not shown, as the file is secret" if want.sensitive else ran.said
        raise HostError(
            f"{want.path} was not replaced, because {want.validate[0]} does not accept the new "
            f"content: {said.replace(fresh, want.path)}"
        )

    def absent(self, path: str) -> None:
        if not os.path.lexists(path):
            if self.book.ledger.has("file", path):
                self.book.write(self.book.ledger.drop(("file", path)))
            return
        if not self.book.ledger.covers(path):
            return
        if stat.S_ISDIR(os.lstat(path).st_mode):
            raise HostError(f"{path} under absent is a directory; only files can be given there.")
        self.did(f"{path}: removed")
        if not self.check:
            os.unlink(path)
        self.book.write(self.book.ledger.drop(("file", path)))


def _above(path: str) -> list[str]:
    parents = []
    while path != "/":
        path = os.path.dirname(path)
        parents.append(path)
    return parents


def _exists(database: Any, name: str) -> bool:
    try:
        database(name)
    except KeyError:
        return False
    return True


def _member(user: str, group: str) -> bool:
    try:
        return user in grp.getgrnam(group).gr_mem
    except KeyError:
        return False


def _uid(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _gid(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _diff(path: str, before: bytes, after: bytes, sensitive: bool) -> dict[str, str]:
    header = {"before_header": path, "after_header": path}
    if sensitive:
        return {**header, "before": "", "after": "content changed\n"}
    if max(len(before), len(after)) > SHOWN_BYTES or b"\0" in before + after:
        return {**header, "before": f"{len(before)} bytes\n", "after": f"{len(after)} bytes\n"}
    return {
        **header,
        "before": before.decode("utf-8", "replace"),
        "after": after.decode("utf-8", "replace"),
    }


def content_of(row: dict[str, Any]) -> bytes | None:
    for name in ("payload", "secret_payload"):
        if row.get(name) is not None:
            try:
                return base64.b64decode(row[name], validate=True)
            except binascii.Error as error:
                raise HostError(f"files {row['path']}: {name} is not base64.") from error
    if row.get("content") is not None:
        return str(row["content"]).encode()
    return None


def work(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    users = [wanted.user_of(row) for row in params["users"]]
    groups = [wanted.account(name, "groups") for name in params["groups"]]
    directories = tuple(wanted.directory_of(row) for row in params["directories"])
    files = tuple(
        wanted.file_of(row, content_of(row), tuple(shlex.split(row["validate"] or "")))
        for row in params["files"]
    )
    absent = [wanted.absolute(path, "absent") for path in params["absent"]]
    wanted.refuse_twice(directories, files)
    with Book(module.check_mode) as book:
        call = Work(module, book)
        for name in groups:
            call.group(name)
        for user in users:
            call.user(user)
        for directory in directories:
            call.directory(directory)
        for file in files:
            call.file(file)
        for path in absent:
            call.absent(path)
    return {"changed": bool(call.changes), "changes": call.changes, "diff": call.diffs}


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec={
                "role": ROLE,
                "groups": {"type": "list", "elements": "str", "default": []},
                "users": {
                    "type": "list",
                    "elements": "dict",
                    "default": [],
                    "options": {
                        "name": {"type": "str", "required": True},
                        "home": {"type": "path"},
                        "groups": {"type": "list", "elements": "str", "default": []},
                        "shell": {"type": "str", "default": "/usr/sbin/nologin"},
                        "comment": {"type": "str", "default": ""},
                    },
                },
                "directories": {
                    "type": "list",
                    "elements": "dict",
                    "default": [],
                    "options": {
                        "path": {"type": "path", "required": True},
                        "owner": {"type": "str", "default": "root"},
                        "group": {"type": "str", "default": "root"},
                        "mode": {"type": "str", "default": "0755"},
                    },
                },
                "files": {
                    "type": "list",
                    "elements": "dict",
                    "default": [],
                    "options": {
                        "path": {"type": "path", "required": True},
                        "template": {"type": "str"},
                        "source": {"type": "str"},
                        "content": {"type": "str", "no_log": False},
                        "link": {"type": "str"},
                        "owner": {"type": "str", "default": "root"},
                        "group": {"type": "str", "default": "root"},
                        "mode": {"type": "str", "default": "0644"},
                        "validate": {"type": "str"},
                        "sensitive": {"type": "bool", "default": False},
                        "adopt": {"type": "bool", "default": False},
                        "payload": {"type": "str"},
                        "secret_payload": {"type": "str", "no_log": True},
                    },
                },
                "absent": {"type": "list", "elements": "path", "default": []},
            },
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()
