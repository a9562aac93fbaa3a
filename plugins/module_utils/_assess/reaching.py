# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a host could not be looked at, from what ssh, sudo and Python said, and what mends it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._findings.finding import ERROR, FAIL, Finding
from .._findings.shape import shown
from .._supply.machine import Answer
from .host_keys import check_host_key


@dataclass(frozen=True)
class Way:
    """How a host is reached: the command with which a person can try it, its user and address.

    ``limited`` says that the run looks at a part of the inventory only.
    """

    ssh: str = ""
    user: str = ""
    address: str = ""
    port: int = 22
    limited: bool = False


@dataclass(frozen=True)
class Reason:
    """What a sentence of ssh, sudo or Python means. Remedies are filled in from the way."""

    said: re.Pattern[str]
    check: str
    found: str
    wanted: str
    remedy: str


def _reason(said: str, check: str, found: str, wanted: str, remedy: str) -> Reason:
    return Reason(re.compile(said, re.IGNORECASE), f"assess.{check}", found, wanted, remedy)


RIGHTS = "root, or a user with sudo"
FAILED = (
    _reason(
        r"must have a tty|no tty present|requiretty|kein TTY",
        "privileges",
        "its sudo asks for a terminal (requiretty)",
        "sudo without a terminal",
        "write 'Defaults:{user} !requiretty' with: visudo -f /etc/sudoers.d/{user}; or run with "
        "ANSIBLE_PIPELINING=false in the environment",
    ),
    _reason(
        r"Incorrect \w+ password|Sorry, try again|incorrect password attempt|"
        r"Duplicate become password prompt|falsche Passw|Authentication failure",
        "privileges",
        "the password for sudo is wrong",
        RIGHTS,
        "correct ansible_become_password, or what you type at -K (with make: ARGS=-K)",
    ),
    _reason(
        r"Missing \w+ password|password is required|Passwort (ist|wird)|a terminal is required|"
        r"interactive authentication is required|mot de passe est|se requiere una contrase",
        "privileges",
        "its sudo asks for a password, and none is given",
        RIGHTS,
        "give it with -K (with make: ARGS=-K), or as ansible_become_password from a vault",
    ),
    _reason(
        r"not in the sudoers|may not run sudo|not allowed to (execute|run)|sudoers.*nicht",
        "privileges",
        "its account may not use sudo",
        RIGHTS,
        "allow it as root on the host: usermod -aG sudo {user}; or set another ansible_user",
    ),
    _reason(
        r"sudo: (command )?not found|sudo: No such file|become.*(binary|executable).*not found",
        "privileges",
        "it has no sudo",
        RIGHTS,
        "install it as root on the host: apt-get install -y sudo; or set ansible_user: root",
    ),
    _reason(
        r"waiting for privilege escalation|timed? ?out .*(become|privilege|sudo)",
        "privileges",
        "its sudo does not answer",
        RIGHTS,
        "see why on the host with: time sudo -n true (often a host name that does not resolve)",
    ),
    _reason(
        r"interpreter .* not found|python[\d.]*['\"]?: .*(not found|No such|cannot execute)|"
        r"No python interpreters found",
        "python",
        "has no Python",
        "Python 3.9 or newer",
        "install it with: ansible {host} -b -m raw -a 'apt-get install -y python3'",
    ),
    _reason(
        r"minimum of Python|SyntaxError|invalid syntax|f-string|future feature annotations",
        "python",
        "has a Python that is too old",
        "Python 3.9 or newer",
        "name a newer one with ansible_python_interpreter",
    ),
    _reason(
        r"No space left on device|Disk quota exceeded",
        "room",
        "has no room for the files that Ansible brings",
        "a few MiB where Ansible works",
        "make room, or name another directory with ansible_remote_tmp",
    ),
    _reason(
        r"Read-only file system|Failed to create temporary dir|temporary dir.*Permission",
        "room",
        "has no directory that Ansible may write to",
        "a directory to work in",
        "name one with ansible_remote_tmp, such as /var/tmp/ansible",
    ),
    _reason(
        r"account is currently not available|nologin|no valid shell",
        "account",
        "its account has no shell",
        "an account that may log in",
        "set another ansible_user, or give {user} a shell with: chsh -s /bin/sh {user}",
    ),
)
UNREACHABLE = (
    _reason(
        r"Permission denied \(|no more authentication methods|Too many authentication failures",
        "unreachable",
        "does not let this account in",
        "an account that may log in with a key",
        "bring the key with: ssh-copy-id {target}; or name another by ansible_ssh_private_key_file "
        "or ansible_user; check with: {ssh}",
    ),
    _reason(
        r"install the sshpass program|sshpass",
        "unreachable",
        "is reached with a password, for which this machine has no sshpass",
        "sshpass, or a key",
        "install it with: apt-get install -y sshpass; or use a key",
    ),
    _reason(
        r"Could not resolve hostname|Name or service not known|Temporary failure in name",
        "unreachable",
        "has an address that does not resolve",
        "an address, or a name in DNS",
        "set ansible_host of {host}; check with: getent hosts {address}",
    ),
)


def check_reached(name: str, answer: Answer | None, way: Way) -> Finding | None:
    """Whether there are facts at all; if not, why, and what mends it."""
    if answer is None:
        return Finding(
            "assess.facts",
            name,
            ERROR,
            "was not looked at",
            "facts of every host",
            "run the assessment without --limit"
            if way.limited
            else "mend what is said of the inventory, then assess again",
        )
    if answer.host_key:
        return check_host_key(name, answer.host_key, way.address or name, way.port)
    if answer.unreachable:
        said = answer.unreachable
        return _told(UNREACHABLE, name, said, way) or Finding(
            "assess.unreachable",
            name,
            FAIL,
            f"cannot be reached: {said}",
            "a host that answers over SSH",
            f"check with: {way.ssh}; or take {name} out of the inventory",
        )
    if answer.failed:
        said = answer.failed
        return _told(FAILED, name, said, way) or Finding(
            "assess.facts",
            name,
            ERROR,
            f"could not be measured: {said}",
            "facts of every host",
            f"look with: ansible {name} -b -m mlops.onprem.capacity_facts",
        )
    return None


def _told(reasons: Sequence[Reason], name: str, said: str, way: Way) -> Finding | None:
    for reason in reasons:
        if reason.said.search(said):
            target = f"{way.user}@{way.address}" if way.user else way.address
            remedy = reason.remedy.format(
                host=name,
                user=way.user or "USER",
                address=way.address,
                target=target,
                ssh=way.ssh,
            )
            return Finding(
                reason.check, name, FAIL, f"{reason.found}: {said}", reason.wanted, remedy
            )
    return None


def way_to(entry: Mapping[str, Any], host: str, limited: bool = False) -> Way:
    """How a host is reached, by its variables."""
    address = str(entry.get("ansible_host") or host)
    user = str(entry.get("ansible_user") or "")
    words = ["ssh"]
    key = entry.get("ansible_ssh_private_key_file") or entry.get("ansible_private_key_file")
    if key:
        words.append(f"-i {shlex.quote(str(key))}")
    for name in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        if entry.get(name):
            words.append(str(entry[name]).strip())
    if entry.get("ansible_port"):
        words.append(f"-p {shown(entry['ansible_port'])}")
    words.append(f"{user}@{address}" if user else address)
    try:
        port = int(entry.get("ansible_port") or 22)
    except (TypeError, ValueError):  # Ansible says so when it connects
        port = 22
    return Way(" ".join([*words, "true"]), user, address, port, limited)


def with_inventory(remedy: str, sources: Sequence[str]) -> str:
    """A command that calls Ansible, with the inventory of this run: as it is, it can be copied."""
    given = " ".join(f"-i {shlex.quote(source)}" for source in sources)
    return (
        re.sub(r"\bwith: ansible (?!-i )", lambda _: f"with: ansible {given} ", remedy)
        if given
        else remedy
    )
