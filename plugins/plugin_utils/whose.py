# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which site a task is for, also where a role is used alone and nothing has been assessed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._site.identity import read_remembered

OPTION = "site_id"


def site_of(variables: Mapping[str, Any], templar: Any) -> str:
    """The identity of the site, empty if this run has no way to know it.

    What this run has found out goes before C(mlops_site_id), and that before what the directory of
    state remembers of the host. What the host itself says is compared by the module.
    """
    return (
        _found_out(variables)
        or str(templar.template(variables.get("mlops_site_id") or ""))
        or _remembered(variables, templar)
        or _of_another_host(variables)
    )


def _found_out(variables: Mapping[str, Any]) -> str:
    """What the playbook found out; facts of another run may be cached."""
    facts = variables.get("ansible_facts") or {}
    found = facts.get("mlops_site") or {}
    if found.get("run") in (os.getpid(), os.getppid()):
        return str(found.get("id") or "")
    return ""


def _remembered(variables: Mapping[str, Any], templar: Any) -> str:
    """What an earlier run of this inventory took down, if it reached the host at this address."""
    beside = variables.get("inventory_dir")
    place = templar.template(variables.get("mlops_state_dir") or "") or beside
    if not place:
        return ""
    folder = Path(str(place)) if variables.get("mlops_state_dir") else Path(str(place), ".state")
    try:
        page = json.loads((folder / "site.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    known = read_remembered(page)
    host = str(variables.get("inventory_hostname") or "")
    reached = str(templar.template(variables.get("ansible_host") or host))
    return known.identity if known.addresses.get(host) == reached else ""


def _of_another_host(variables: Mapping[str, Any]) -> str:
    """What this run found out in a play without this host."""
    hostvars = variables.get("hostvars") or {}
    for host in (variables.get("groups") or {}).get("all", ()):
        found = _found_out(hostvars[host])
        if found:
            return found
    return ""
