# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of an inventory that were not read, or not whole: what Ansible passes over with a warning.

Nothing here opens a file. What lies on the disk, and what Ansible made of it, is handed in.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._findings.finding import FAIL, SITE, WARN, Finding
from .._findings.sentence import brief
from .._findings.shape import kind_of, shown
from .inventory_checks import did_you_mean

UNREAD = "inventory.unread"
SECTIONS = ("hosts", "children", "vars")
VARS_FOLDERS = ("group_vars", "host_vars")
VARS_ENDINGS = (".yml", ".yaml", ".json")
# Files that people put beside variables, or set aside, on purpose.
SET_ASIDE = (".bak", ".disabled", ".dist", ".example", ".md", ".off", ".old", ".orig", ".rst")
SET_ASIDE_WORDS = ("copying", "license", "readme")
RANGE = re.compile(r"\[\w*:\w*(:\d+)?\]")
# What people keep beside an inventory and Ansible tries to read.
NO_INVENTORY = (".crt", ".pem", ".key", ".pub", ".cer", ".csr", ".p12", ".png", ".pdf")
# What cannot be part of a name of a host: mostly ranges and patterns that were not understood.
ODD = re.compile(r"[\s\[\]{}()<>,;=!&*?~@'\"/\\]")


@dataclass(frozen=True)
class Source:
    """A file of hosts and groups: whether Ansible took it, and what is in it.

    ``page`` is its content if it is YAML, ``reason`` why it could not be read. ``ignored`` is a
    file of an inventory's directory that Ansible passes over for its ending. ``repeated`` are keys
    that it has twice in one place, with their lines.
    """

    path: str
    read: bool
    page: Any = None
    reason: str = ""
    ignored: bool = False
    repeated: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class VarsFolder:
    """A folder ``group_vars`` or ``host_vars``.

    ``files`` are all paths in it, relative to it; ``read`` those that Ansible reads; ``known`` the
    groups or hosts of the inventory; ``problems`` sentences about files, such as a dead link.
    """

    path: str
    files: Sequence[str] = ()
    read: Collection[str] = ()
    known: Collection[str] = ()
    repeated: Mapping[str, Sequence[tuple[str, int]]] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)


def _fail(check: str, found: str, wanted: str, remedy: str) -> Finding:
    return Finding(check, SITE, FAIL, found, wanted, remedy)


def check_sources(sources: Iterable[Source]) -> list[Finding]:
    """Whether every source was read, and everything in it."""
    findings = []
    for source in sources:
        if source.ignored:
            findings += _ignored(source.path)
            continue
        slips = _page_slips(source.page) if source.page is not None else []
        findings += [
            _fail(UNREAD, f"{source.path}: {found}", wanted, f"{remedy} in {source.path}")
            for found, wanted, remedy in slips
        ]
        if not source.read and not slips:
            strange = source.path.lower().endswith(NO_INVENTORY)
            findings.append(
                Finding(
                    "inventory.strange_file",
                    SITE,
                    WARN,
                    f"{source.path} lies among the files of hosts and is none",
                    "only hosts and groups in the directory of the inventory",
                    "move it into a folder whose name begins with a dot",
                )
                if strange
                else _fail(
                    UNREAD,
                    f"{source.path} was not read as an inventory: "
                    f"{brief(source.reason) or 'Ansible knows no way to read it'}",
                    "an inventory that Ansible reads whole",
                    f"mend {source.path}, or take it away; see it with: "
                    f"ansible-inventory -i {source.path} --graph",
                )
            )
        findings += repeated(source.path, source.repeated)
    return findings


def _ignored(path: str) -> list[Finding]:
    """A file that Ansible passes over, if its name says that it has hosts in it."""
    stem, ending = os.path.splitext(os.path.basename(path))
    if _set_aside(path) or not re.match(r"(hosts|inventory)\b", stem, re.IGNORECASE):
        return []
    return [
        _fail(
            UNREAD,
            f"{path} is not read: in a directory Ansible passes over files that end in {ending}",
            "files of hosts that end in .yml, .yaml, .json, .ini, or in nothing",
            f"rename {path}, or take it away",
        )
    ]


def repeated(path: str, keys: Iterable[tuple[str, int]]) -> list[Finding]:
    """Keys that stand twice in one place of a file: the last one wins without a word."""
    return [
        _fail(
            "inventory.repeated_key",
            f"{path} has {key} twice in one place, the second time on line {line}; "
            "only the last one counts",
            "every key once",
            f"join the two in {path}",
        )
        for key, line in keys
    ]


Slip = tuple[str, str, str]


def _page_slips(page: Any) -> list[Slip]:
    if not isinstance(page, Mapping):
        return [
            (
                f"its top is {kind_of(page)}",
                "groups, each with hosts or children",
                "write 'GROUP: {hosts: {NAME: {}}}'",
            )
        ]
    if page.get("plugin"):
        return []
    return [slip for name, body in page.items() for slip in group_slips(str(name), body)]


def group_slips(group: str, body: Any) -> list[Slip]:
    """What of a group in a YAML inventory Ansible would pass over, or stop at."""
    if body is None:
        return []
    if not isinstance(body, Mapping):
        return [
            (
                f"the group {group} is {kind_of(body)}",
                "a group with hosts, children or vars",
                f"write '{group}: {{hosts: {{NAME: {{}}}}}}'",
            )
        ]
    found: list[Slip] = []
    for key, section in body.items():
        if key in SECTIONS:
            found += _section_slips(group, key, section)
            continue
        hint = did_you_mean(str(key), SECTIONS, 0.6)
        found.append(
            (
                f"the group {group} has the key {key}, which Ansible passes over"
                + (f"; {hint}" if hint else ""),
                f"only {', '.join(SECTIONS)} in a group",
                f"put {key} one level deeper, below hosts, children or vars of {group}",
            )
        )
    return found


def _section_slips(group: str, key: str, section: Any) -> list[Slip]:
    if section is None or (isinstance(section, str) and not ODD.search(section)):
        return []
    if not isinstance(section, Mapping):
        names = [str(name) for name in section] if isinstance(section, (list, tuple)) else []
        example = ", ".join(f"{name}: {{}}" for name in names[:3]) or "NAME: {}"
        return [
            (
                f"{key} of the group {group} is {kind_of(section)}",
                "a mapping of names",
                f"write '{key}: {{{example}}}' for {group}",
            )
        ]
    if key == "children":
        return [slip for name, body in section.items() for slip in group_slips(str(name), body)]
    if key == "hosts":
        return [slip for name, body in section.items() for slip in _host_slips(group, name, body)]
    return []


def _host_slips(group: str, name: Any, body: Any) -> list[Slip]:
    if not isinstance(name, str):
        return [
            (
                f"the group {group} has the host {shown(name)}, which is {kind_of(name)}",
                "names of hosts as text",
                f"write '{name}' in quotation marks",
            )
        ]
    if ODD.search(RANGE.sub("", name)):
        return [
            (
                f"the group {group} has a host of the name {name!r}",
                "names of hosts; a range is written cam[1:9]",
                f"mend {name!r}",
            )
        ]
    if body is None or isinstance(body, Mapping):
        return []
    return [
        (
            f"the host {name} in the group {group} is {kind_of(body)}",
            "variables of the host",
            f"write '{name}: {{ansible_host: {shown(body)}}}'",
        )
    ]


def check_host_names(names: Iterable[str]) -> list[Finding]:
    """Names that can be no host: a range or a pattern that stayed as it was written."""
    return [
        _fail(
            "inventory.host_name",
            f"the inventory has a host of the name {name!r}",
            "names of hosts; a range is written cam[1:9]",
            "mend the name in the inventory",
        )
        for name in names
        if ODD.search(name) or name.startswith("-")
    ]


def check_vars_folder(folder: VarsFolder) -> list[Finding]:
    """Files of variables that Ansible does not read, although they stand where such files stand."""
    findings = [_fail(UNREAD, *_problem(said)) for said in folder.problems.values()]
    for name in folder.files:
        path = f"{folder.path}/{name}"
        if name in folder.problems:
            continue
        if name in folder.read:
            findings += repeated(path, folder.repeated.get(name, ()))
            continue
        finding = _unread_variables(folder, name, path)
        if finding is not None:
            findings.append(finding)
    return findings


def _problem(said: str) -> tuple[str, str, str]:
    return said, "files of variables that can be read", "mend it, or take it away"


def _unread_variables(folder: VarsFolder, name: str, path: str) -> Finding | None:
    """Why a file is not read. Of groups that do not exist another check tells."""
    owner = _owner(folder, name)
    ending = os.path.splitext(name)[1]
    if _set_aside(name):
        return None
    if ending not in ("", *VARS_ENDINGS):
        right = f"{name[: -len(ending)]}.yml"
        return _fail(
            "inventory.unread_variables",
            f"{path} is not read: its name ends in {ending}",
            f"a name that ends in {', '.join(VARS_ENDINGS)}, or in nothing",
            f"rename it to {folder.path}/{right}, or take it away",
        )
    if owner is None:
        return None
    others = sorted(
        f"{folder.path}/{other}" for other in folder.read if other.split("/")[0] != name
    )
    kept = [other for other in others if _belongs(other[len(folder.path) + 1 :], owner)]
    if not kept:
        return _fail(
            "inventory.unread_variables",
            f"{path} is not read: Ansible looks into no folder whose name has an ending",
            "folders without a dot in their names",
            f"rename the folder that {path} is in",
        )
    return _fail(
        "inventory.unread_variables",
        f"{path} is not read: Ansible takes one file or folder for {owner}, which is {kept[0]}",
        "all variables in one place",
        f"move what is in {path} into the folder {folder.path}/{owner}",
    )


def _belongs(name: str, owner: str) -> bool:
    first = name.split("/", maxsplit=1)[0]
    return first == owner or os.path.splitext(first)[0] == owner


def _owner(folder: VarsFolder, name: str) -> str | None:
    """The group or host that a file is for."""
    first = name.split("/", maxsplit=1)[0]
    for known in (first, os.path.splitext(first)[0]):
        if known in folder.known:
            return known
    return None


def _set_aside(name: str) -> bool:
    last = name.rpartition("/")[2].lower()
    return last.endswith(SET_ASIDE) or os.path.splitext(last)[0] in SET_ASIDE_WORDS


def owner_names(folder: VarsFolder) -> tuple[str, ...]:
    """The names of groups or hosts that a folder has files for."""
    found = set()
    for name in folder.files:
        first, _slash, rest = name.partition("/")
        stem, ending = os.path.splitext(first)
        if _set_aside(name):
            continue
        if rest or not ending:
            found.add(first)
        elif ending in VARS_ENDINGS:
            found.add(stem)
    return tuple(sorted(found))


def check_folder_names(place: str, names: Iterable[str]) -> list[Finding]:
    """Folders that were meant to hold variables, by names that are nearly right."""
    findings = []
    for name in sorted(names):
        plain = re.sub(r"[^a-z]", "", name.lower())
        meant = next(
            (
                folder
                for folder, stems in (
                    ("group_vars", ("groupvar", "groupsvar", "groupvariable", "groupsvariable")),
                    ("host_vars", ("hostvar", "hostsvar", "hostvariable", "hostsvariable")),
                )
                if name != folder and plain.rstrip("s") in stems
            ),
            None,
        )
        if meant:
            findings.append(
                _fail(
                    "inventory.unread_variables",
                    f"{place}/{name} is not read: Ansible knows only {' and '.join(VARS_FOLDERS)}",
                    f"the folder {meant}",
                    f"rename it to {place}/{meant}",
                )
            )
    return findings


def check_misplaced(folders: Iterable[tuple[str, bool]], places: Sequence[str]) -> list[Finding]:
    """Folders of variables that lie where Ansible does not look for this inventory.

    ``folders`` are paths, each with whether it lies within the inventory; elsewhere it may belong
    to somebody else's inventory. ``places`` are where Ansible looks.
    """
    return [
        Finding(
            "inventory.unread_variables",
            SITE,
            FAIL if within else WARN,
            f"{path} is not read for this inventory",
            f"folders of variables beside the inventory, in {' or '.join(places)}",
            f"move it to {places[0]}/{os.path.basename(path)}"
            + ("" if within else ", or leave it, if it belongs to another inventory"),
        )
        for path, within in folders
    ]
