# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads on the controller what lies where an inventory is, to hold it against what was parsed."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.inventory.data import InventoryData
from ansible.inventory.manager import InventoryManager
from ansible.module_utils.common.yaml import SafeLoader
from ansible.plugins.loader import inventory_loader
from ansible_collections.mlops.onprem.plugins.module_utils._assess.inventory_files import (
    VARS_FOLDERS,
    Source,
    VarsFolder,
    check_folder_names,
    check_host_names,
    check_misplaced,
    check_sources,
    check_vars_folder,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import Finding
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import kind_of

YAML_ENDINGS = (".yml", ".yaml", ".json")
# Folders within an inventory that are looked through for misplaced variables.
DEPTH = 3


def listed(variables: Mapping[str, Any]) -> list[str]:
    """The sources of the inventory, as given by ``-i`` or the configuration."""
    sources = variables.get("ansible_inventory_sources") or []
    return [str(source) for source in ([sources] if isinstance(sources, str) else sources)]


def unread(variables: Mapping[str, Any], loader: Any) -> list[Finding]:
    """What of the hosts and groups was not read, or not whole."""
    parsed = _parsed(variables)
    found = check_sources(
        _source(path, ignored, parsed, loader)
        for source in listed(variables)
        for path, ignored in _files(source)
    )
    said = " ".join(finding.found for finding in found)
    names = (str(name) for name in _groups(variables).get("all", ()))
    return found + check_host_names(name for name in names if repr(name) not in said)


def unread_variables(variables: Mapping[str, Any], loader: Any) -> list[Finding]:
    """What of the variables beside the inventory was not read, or not whole."""
    findings = []
    for folder in vars_folders(variables, loader):
        findings += check_vars_folder(folder)
    places = _places(variables)
    for place in places:
        findings += check_folder_names(str(place), [each.name for each in _subfolders(place)])
    return findings + check_misplaced(_misplaced(variables, places), [str(each) for each in places])


def broken_variables(variables: Mapping[str, Any], loader: Any) -> list[str]:
    """Sentences about files of variables at which Ansible would stop without naming them."""
    sources = [path for source in listed(variables) for path, _ignored in _files(source)]
    found = [
        f"{path} cannot be read: {reason}"
        for path in sources
        if path.endswith(YAML_ENDINGS) and (reason := _not_utf8(path))
    ]
    if found:
        return found  # nothing of it can be shown
    for folder in vars_folders(variables, loader):
        for name in sorted(folder.read):
            path = f"{folder.path}/{name}"
            reason = _not_utf8(path) or why_unreadable(path, loader)
            if reason:
                found.append(f"{path} cannot be read: {reason}")
    return found


def _not_utf8(path: str) -> str:
    """That a file is written in another encoding, of which Ansible shows nothing; "" if not."""
    try:
        content = Path(path).read_bytes()
    except OSError:
        return ""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return f"it is not in UTF-8 (line {line}); save it in that encoding"
    return ""


def why_unreadable(path: str, loader: Any) -> str:
    """What is wrong with a file of variables, and what mends it; "" if nothing is."""
    try:
        page = loader.load_from_file(os.path.abspath(path), cache="none")
    except Exception as error:  # of Ansible's parser, its vault, or the file system
        said = " ".join(str(error).split()).rstrip(".")
        if "vault" in said.lower() or "decrypt" in said.lower():
            return f"{said}; give its password with --ask-vault-pass or --vault-password-file"
        mark = getattr(getattr(error, "obj", None), "line_num", None) or _line(error)
        return f"{said}{f' (line {mark})' if mark else ''}; mend the file"
    if page is None or isinstance(page, Mapping):
        return ""
    return f"it holds {kind_of(page)}, wanted variables, each as NAME: VALUE; mend the file"


def _line(error: BaseException | None) -> int | None:
    """The line that a parser of YAML stopped at."""
    while error is not None:
        mark = getattr(error, "problem_mark", None)
        if mark is not None:
            return int(mark.line) + 1
        error = error.__cause__ or error.__context__
    return None


def vars_folders(variables: Mapping[str, Any], loader: Any) -> list[VarsFolder]:
    """The folders of variables that Ansible looks into for this inventory."""
    groups = _groups(variables)
    found = []
    for place in _places(variables):
        for name in VARS_FOLDERS:
            known = set(groups) if name == "group_vars" else {*groups.get("all", ()), "localhost"}
            folder = place / name
            if folder.exists():
                found.append(_vars_folder(folder, known, loader))
    return found


def files_that_set(name: str, variables: Mapping[str, Any], loader: Any) -> list[str]:
    """The files beside the inventory that set a variable."""
    found = []
    for folder in vars_folders(variables, loader):
        for file in sorted(folder.read):
            page = _page(f"{folder.path}/{file}", loader)
            if isinstance(page, Mapping) and name in page:
                found.append(f"{folder.path}/{file}")
    for source in listed(variables):
        for path, _ignored in _files(source):
            if path.endswith(YAML_ENDINGS) and _sets(_page(path, loader), name):
                found.append(path)
    return found


def _sets(page: Any, name: str) -> bool:
    if not isinstance(page, Mapping):
        return False
    return name in page or any(_sets(part, name) for part in page.values())


def _groups(variables: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
    return variables.get("groups") or {}


def _places(variables: Mapping[str, Any]) -> list[Path]:
    """The directories beside which Ansible looks for variables."""
    found: dict[Path, None] = {}
    for source in listed(variables):
        path = Path(source)
        if "," not in source or path.exists():
            found[path if path.is_dir() else path.parent] = None
    return [place for place in found if place.is_dir()]


def _files(source: str) -> Iterator[tuple[str, bool]]:
    """Every file of a source, and whether Ansible passes it over, in the way Ansible does it."""
    path = Path(source)
    if "," in source and not path.exists():
        return
    if not path.is_dir():
        yield source, False
        return
    for name in sorted(os.listdir(path)):
        if name.startswith(".") or name in (*VARS_FOLDERS, "vars_plugins"):
            continue
        inner = path / name
        ignored = name.endswith(tuple(C.INVENTORY_IGNORE_EXTS)) or any(
            re.search(pattern, name) for pattern in C.INVENTORY_IGNORE_PATTERNS
        )
        if ignored:
            yield str(inner), True
        else:
            yield from _files(str(inner))


def _parsed(variables: Mapping[str, Any]) -> Collection[str] | None:
    """The sources that Ansible took; None where this version does not tell."""
    manager = getattr(variables.get("hostvars"), "_inventory", None)
    data = getattr(manager, "_inventory", None)
    taken = getattr(data, "processed_sources", None)
    return None if taken is None else {str(path) for path in taken if path is not None}


def _source(path: str, ignored: bool, parsed: Collection[str] | None, loader: Any) -> Source:
    if ignored:
        return Source(path, False, ignored=True)
    absolute = os.path.abspath(os.path.expanduser(path))
    read = _parses(absolute, loader) if parsed is None else absolute in parsed
    reason = "" if read else _why_not(path, loader)
    text = _text(path, loader) if path.endswith(YAML_ENDINGS) else ""
    page = _page(path, loader) if text else None
    return Source(path, read, page, reason, repeated=repeated_keys(text))


def _parses(path: str, loader: Any) -> bool:
    """Whether Ansible takes a source: asked where it does not tell any more what it did."""
    manager = InventoryManager(loader=loader, sources=None, parse=False)
    try:
        return bool(manager.parse_source(path))
    except AnsibleError:  # any_unparsed_is_failed
        return False


def _why_not(path: str, loader: Any) -> str:
    """What the ways to read an inventory say about a file; "" if one can read it."""
    said: dict[str, str] = {}
    if not os.path.exists(path):
        return "there is no such file"
    for name in C.INVENTORY_ENABLED:
        plugin = inventory_loader.get(name)
        try:
            if plugin is None or not plugin.verify_file(path):
                continue
            plugin.parse(InventoryData(), loader, path, cache=False)
            return ""
        except Exception as error:  # whatever a plugin raises, Ansible goes on with the next
            said[name] = str(error)
    order = ("yaml", "auto", "ini") if path.endswith(YAML_ENDINGS) else ("ini", "yaml")
    if said.get("yaml", "").startswith("Plugin configuration"):
        order = ("auto", *order)
    first = next((said[name] for name in order if name in said), "")
    return first or next(iter(said.values()), "no plugin for inventories takes such a file")


def _text(path: str, loader: Any) -> str:
    """What is in a file, decrypted; "" if it cannot be read, of which others tell."""
    try:
        return str(loader.get_text_file_contents(os.path.abspath(path)))
    except (AnsibleError, OSError, UnicodeError):
        return ""


def _page(path: str, loader: Any) -> Any:
    try:
        return loader.load_from_file(os.path.abspath(path), cache="none")
    except Exception:  # of a file that cannot be read, its source tells
        return None


def repeated_keys(text: str) -> list[tuple[str, int]]:
    """Keys that stand twice in one mapping of a YAML text, with the line of the later one."""
    try:
        nodes = list(yaml.compose_all(text, Loader=SafeLoader))
    except (yaml.YAMLError, UnicodeError):
        return []
    return [pair for node in nodes for pair in _repeated(node, "")]


def _repeated(node: yaml.Node | None, place: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.SequenceNode):
        for inner in node.value:
            yield from _repeated(inner, place)
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, value in node.value:
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
        path = f"{place}.{name}".lstrip(".")
        if name and name in seen and name != "<<":
            yield path, key.start_mark.line + 1
        seen.add(name)
        yield from _repeated(value, path)


def _vars_folder(folder: Path, known: Collection[str], loader: Any) -> VarsFolder:
    if not folder.is_dir():
        said = f"{folder} is not read: it is no directory"
        return VarsFolder(str(folder.parent), (folder.name,), problems={folder.name: said})
    read: set[str] = set()
    for name in known:
        read.update(_relative(loader.find_vars_files(str(folder.absolute()), name), folder))
    files, problems = [], {}
    for name in _walk(folder):
        path = folder / name
        files.append(name)
        if path.is_symlink() and not path.exists():
            problems[name] = (
                f"{path} is not read: it is a link to {os.readlink(path)}, which is not there"
            )
    repeated = {
        name: found for name in read if (found := repeated_keys(_text(str(folder / name), loader)))
    }
    return VarsFolder(str(folder), files, read, known, repeated, problems)


def _relative(paths: Iterable[Any], folder: Path) -> Iterator[str]:
    for path in paths:
        yield os.path.relpath(str(path), folder.absolute())


def _walk(folder: Path) -> list[str]:
    """All files in a folder, relative to it, without hidden ones and what editors leave."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and not name.endswith(("~", ".swp")):
                found.append(os.path.relpath(os.path.join(place, name), folder))
    return found


def _subfolders(place: Path) -> list[Path]:
    return sorted(
        each for each in place.iterdir() if each.is_dir() and not each.name.startswith(".")
    )


def _misplaced(variables: Mapping[str, Any], places: Sequence[Path]) -> list[tuple[str, bool]]:
    """Folders of variables that are not beside a source, within the inventory and around it."""
    looked = {place.resolve() for place in places}
    playbooks = Path(str(variables.get("playbook_dir") or ".")).resolve()
    found: dict[str, bool] = {}
    for source in listed(variables):
        if Path(source).is_dir():
            for inner in _nested(Path(source), DEPTH):
                if inner.parent.resolve() not in looked:
                    found[str(inner)] = True
    around = [Path.cwd(), *(place.resolve().parent for place in places)]
    for place in around:
        if place.resolve() in looked or place.resolve() == playbooks:
            continue
        for name in VARS_FOLDERS:
            if (place / name).is_dir():
                found.setdefault(str(place / name), False)
    return list(found.items())


def _nested(place: Path, depth: int) -> Iterator[Path]:
    for each in _subfolders(place):
        if each.name in VARS_FOLDERS:
            yield each
        elif depth:
            yield from _nested(each, depth - 1)
