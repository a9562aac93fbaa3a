# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at the machine that runs the playbooks, and at how they were called."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible import constants as C
from ansible import context
from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.mlops.onprem.plugins.module_utils._assess.controller_checks import (
    COLLECTIONS,
    PACKAGES,
    Controller,
    check_controller,
    told_proxies,
)
from ansible_collections.mlops.onprem.plugins.module_utils._assess.inventory_checks import (
    did_you_mean,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import (
    FAIL,
    Finding,
)
from ansible_collections.mlops.onprem.plugins.plugin_utils.inventory_sources import (
    broken_variables,
    listed,
    unread,
)
from ansible_collections.mlops.onprem.plugins.plugin_utils.values import stopping

COLLECTION = Path(__file__).resolve().parents[2]
SSH = ("ssh", "smart", "ansible.builtin.ssh", "paramiko", "paramiko_ssh")
# Packages that load a library of the system, so that only an import tells whether they work.
LOADED = ("psycopg",)


def problems(variables: Mapping[str, Any], loader: Any, inventory: bool) -> list[str]:
    """Sentences about what stands against beginning at all."""
    found = []
    machine = check_controller(look())
    if machine is not None:
        found.append(f"{machine.found[0].upper()}{machine.found[1:]}; {machine.remedy}")
    found += broken_variables(variables, loader)
    if not found:
        found += stopping(COLLECTION, variables, loader)
    hosts = (variables.get("groups") or {}).get("all") or []
    if inventory or not hosts:
        found += [row.sentence for row in unread(variables, loader)]
    if not hosts and not found:
        found.append(no_hosts(listed(variables)))
    tags = unknown_tags(
        tuple(context.CLIARGS.get("tags") or ()), tuple(context.CLIARGS.get("args") or ())
    )
    if tags:
        found.append(tags)
    return found


def connecting(variables: Mapping[str, Any]) -> list[Finding]:
    """What the connections of this inventory need on this machine, and do not find."""
    machine = check_controller(look(_programs(variables)))
    proxies = told_proxies(os.environ)
    return [one for one in (machine, proxies) if one] + own_python(variables)


def own_python(variables: Mapping[str, Any]) -> list[Finding]:
    """The finding about a localhost of the inventory whose Python lacks what this one has.

    What is asked from this machine runs there with the Python of that host.
    """
    hostvars = variables.get("hostvars")
    if hostvars is None or "localhost" not in ((variables.get("groups") or {}).get("all") or ()):
        return []
    given = (hostvars.raw_get("localhost") or {}).get("ansible_python_interpreter")
    python = str(given or C.config.get_config_value("INTERPRETER_PYTHON") or "")
    if "{{" in python or (python.startswith("/") and _has(python, "psycopg", "boto3")):
        return []
    name = python if python.startswith("/") else "the system's"
    return [
        Finding(
            "assess.controller",
            "localhost",
            FAIL,
            f"is this machine itself, and its Python ({name}) lacks psycopg or boto3",
            "the Python that runs Ansible",
            'set for it ansible_python_interpreter: "{{ ansible_playbook_python }}"',
        )
    ]


def _has(python: str, *packages: str) -> bool:
    command = [python, "-c", f"import {', '.join(packages)}"]
    try:
        return not subprocess.run(command, capture_output=True, check=False, timeout=60).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False


def no_hosts(sources: Sequence[str]) -> str:
    """The sentence about an inventory without hosts."""
    where = ", ".join(sources) or "no file at all"
    return (
        f"The inventory ({where}) has no hosts, wanted at least one host in the group control; "
        "name the inventory with: -i inventories/NAME"
    )


def look(programs: Sequence[str] = ()) -> Controller:
    """What is there of what the platform needs on this machine, with these programs."""
    lacking = [name for name in PACKAGES if not can_import(name)]
    if not _program("uv"):
        lacking.append("uv")
    return Controller(
        python=sys.executable,
        prefix=sys.prefix,
        lacking=sorted(lacking),
        collections={name: version for name in COLLECTIONS if (version := installed(name))},
        programs=[name for name in programs if not _program(name)],
        managed=sys.prefix == sys.base_prefix
        and (Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED").exists(),
        pip=importlib.util.find_spec("pip") is not None,
    )


@cache
def can_import(name: str) -> bool:
    """Whether a Python package is there; where it loads a library, whether it works."""
    if name not in LOADED:
        return importlib.util.find_spec(name) is not None
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def installed(collection: str) -> str:
    """The version of a collection; "" if it is not there, 0 if it does not say."""
    try:
        spec = importlib.util.find_spec(f"ansible_collections.{collection}")
    except (ImportError, ValueError):
        return ""
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        for name in ("MANIFEST.json", "galaxy.yml"):
            path = Path(place) / name
            if path.is_file():
                return _version(path)
    return "0" if places else ""


def _version(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        page = json.loads(text)["collection_info"] if path.suffix == ".json" else yaml_load(text)
        return str(page["version"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return "0"


def _program(name: str) -> bool:
    """Whether a program is found, beside the interpreter as the modules look for it, or on PATH."""
    beside = str(Path(sys.executable).parent)
    return shutil.which(name, path=beside + os.pathsep + os.environ.get("PATH", "")) is not None


def _programs(variables: Mapping[str, Any]) -> list[str]:
    """The programs that the connections of this inventory need."""
    needed = set()
    for entry in _hosts(variables):
        if str(entry.get("ansible_connection", "ssh")) not in SSH:
            continue
        if "ansible_ssh_executable" not in entry:
            needed.add("ssh")
        if any(key in entry for key in ("ansible_password", "ansible_ssh_pass")):
            needed.add("sshpass")
    if needed and context.CLIARGS.get("ask_pass"):
        needed.add("sshpass")
    return sorted(needed)


def _hosts(variables: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The variables of every host as they are written."""
    hostvars = variables.get("hostvars")
    if hostvars is None:
        return
    for host in (variables.get("groups") or {}).get("all") or ():
        entry = hostvars.raw_get(host)
        if isinstance(entry, Mapping):
            yield entry


def unknown_tags(tags: Sequence[str], playbooks: Sequence[str]) -> str:
    """The sentence about a tag that no task has; "" where others' playbooks may have it."""
    if not playbooks or not all(_is_ours(name) for name in playbooks):
        return ""
    table = yaml_load((COLLECTION / "playbooks" / "vars" / "site.yml").read_text("utf-8"))
    known = {row["role"] for row in table["site_roles"] if row.get("applied", True)} | {"assess"}
    special = {"all", "always", "never", "tagged", "untagged"}
    for tag in tags:
        if tag not in known | special:
            hint = did_you_mean(tag, known, 0.6)
            return (
                f"No task has the tag {tag}" + (f" ({hint})" if hint else "") + ", wanted one of "
                f"{', '.join(sorted(known))}; correct --tags"
            )
    return ""


def _is_ours(playbook: str) -> bool:
    """Whether a playbook is one of this collection."""
    return playbook.startswith("mlops.onprem.") or COLLECTION in Path(playbook).resolve().parents
