#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: workload_releases
short_description: Bring the signed releases of a host's workloads to it
version_added: 0.3.0
description:
  - Runs on the host. Fetches each release from the artifact registry, verifies digest, signature
    and kind, and says where it lies. Engines are started with that directory.
  - A version that is here already is verified again without the registry. What is damaged is
    fetched anew.
  - With O(prune), removes releases that are not in O(releases). That is for the end of a run, when
    no engine has them open any longer.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  releases:
    description: What the workloads of the host are to have.
    type: list
    elements: dict
    required: true
    suboptions:
      workload:
        description: Name of the workload.
        type: str
        required: true
      model:
        description: Name of the model.
        type: str
        required: true
      version:
        description: Version as it was published. Without it O(releases[].digest) says which.
        type: str
      digest:
        description: Digest of the release's manifest.
        type: str
  prune:
    description: Remove every other release of workloads from the host; fetch nothing.
    type: bool
    default: false
  settings:
    description: File that the role wrote.
    type: path
    default: /etc/mlops/workloads/release.json
attributes:
  check_mode:
    description:
      The registry is asked for versions and signatures, and what would not be fetched for them is
      refused; nothing is fetched or removed.
    support: full
  diff_mode:
    description: Shows digests before and after.
    support: full
"""

EXAMPLES = r"""
- name: Bring a language model
  mlops.onprem.workload_releases:
    releases:
      - {workload: chat, model: assistant, version: "3"}
"""

RETURN = r"""
releases:
  description: What is here for each workload, by its name. Empty in check mode where it is not.
  returned: success
  type: dict
  sample: {chat: {digest: "sha256:29de…", directory: /var/lib/mlops/workloads/releases/29de}}
removed:
  description: Digests of releases that were removed.
  returned: success
  type: list
  elements: str
bytes:
  description: Bytes fetched by this run.
  returned: success
  type: int
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import Interrupted
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.library import (
    Library,
    Wanted,
    open_library,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.settings import Settings
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.web import WebTransport

ARGUMENTS = {
    "releases": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "workload": {"type": "str", "required": True},
            "model": {"type": "str", "required": True},
            "version": {"type": "str"},
            "digest": {"type": "str"},
        },
    },
    "prune": {"type": "bool", "default": False},
    "settings": {"type": "path", "default": "/etc/mlops/workloads/release.json"},
}


def wanted_of(row: dict[str, Any]) -> Wanted:
    """One row of the task."""
    return Wanted(row["workload"], row["model"], row["version"] or "", row["digest"] or "")


def lines(digests: list[str]) -> str:
    """Digests as a diff shows them."""
    return "".join(f"{digest}\n" for digest in sorted(digests))


def run(library: Library, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Do what was asked for; raises RegistryError with what did not work."""
    rows = [wanted_of(row) for row in params["releases"]]
    before = library.store.releases()
    found: dict[str, Any] = {}
    removed: list[str] = []
    moved, lacking = 0, False
    with library.store.lock():
        if params["prune"]:
            keep = {library.digest_of(row) for row in rows}
            removed = library.drop_all_but(keep, dry=check_mode)
        for row in rows if not params["prune"] else ():
            if check_mode and library.lacks(row):
                library.judge(row)
                lacking = True
                continue
            brought = library.bring(row)
            moved += brought.moved
            found[row.workload] = brought.as_dict()
    after = [digest for digest in library.store.releases() if digest not in removed]
    return {
        "changed": lacking or bool(moved) or bool(removed) or set(before) != set(after),
        "releases": found,
        "removed": removed,
        "bytes": moved,
        "diff": {"before": lines(before), "after": lines(after)},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    path = Path(params["settings"])
    nothing: dict[str, Any] = {"releases": {}, "removed": [], "bytes": 0}
    if not path.exists() and (module.check_mode or not params["releases"]):
        module.exit_json(changed=bool(params["releases"]), **nothing)
    try:
        settings = Settings.parse(path.read_bytes(), str(path))
        result = run(
            open_library(settings, WebTransport(settings.ca_file)), params, module.check_mode
        )
    except (RegistryError, OSError, Interrupted) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
