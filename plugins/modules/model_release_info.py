#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_release_info
short_description: Find the release of a version of a model, and verify who signed it
version_added: 0.3.0
description:
  - Runs on a host that reaches the artifact registry, with an account that may only read. Finds the
    release that the tag of a version names, or the one of a digest, and judges its signature by the
    keys of the site, as a device would. Nothing is fetched but its manifest, its signature and its
    golden requests.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  url:
    description: Address of the artifact registry.
    type: str
    required: true
  repository:
    description: Prefix of the repositories; the releases of a model lie in that of its name below.
    type: str
    default: models
  user:
    description: Account that may read.
    type: str
    default: ""
  password:
    description: Its password.
    type: str
    default: ""
  ca_file:
    description: Authorities that the registry is verified with.
    type: path
    default: /etc/mlops/tls/ca.crt
  keys:
    description: Keys that may sign releases, as C(model_serving_release_keys) has them.
    type: list
    elements: dict
    required: true
  site:
    description: Identity of the site that the release has to be signed for. Empty compares nothing.
    type: str
    default: ""
  model:
    description: Name of the model.
    type: str
    required: true
  version:
    description: Version of the model. Either this or O(digest), or both, which then have to agree.
    type: str
    default: ""
  digest:
    description: Digest of the release.
    type: str
    default: ""
  golden_directory:
    description:
      - Directory in which the golden requests of the release are kept for those who ask devices.
        Nothing is written without it, and in check mode.
    type: path
attributes:
  check_mode:
    description: Looks as ever and writes nothing.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Find version 7
  mlops.onprem.model_release_info:
    url: https://ctl1
    user: pull
    password: "{{ artifact_registry_pull_password }}"
    keys: "{{ model_serving_release_keys }}"
    model: defects
    version: "7"
"""

RETURN = r"""
digest:
  description: Digest of the release.
  returned: success
  type: str
  sample: sha256:29dee44eca6eb59f5165a13483c3d57dffbaf6a8e144ef2566cf02c77d075a80
model_name:
  description: Name of the model.
  returned: success
  type: str
  sample: defects
model_version:
  description: Version of the model.
  returned: success
  type: str
  sample: "7"
counter:
  description: Counter of the release, by which devices know an older one. 0 if it has none.
  returned: success
  type: int
  sample: 1764345600
key_id:
  description: Id of the key that signed it.
  returned: success
  type: str
  sample: 0f1e2d3c4b5a6978
size:
  description: Bytes that a device keeps of it.
  returned: success
  type: int
  sample: 14352
files:
  description: Its files with their sizes.
  returned: success
  type: dict
  sample: {model.onnx: 12000, config.json: 40, golden.json: 2312}
golden_file:
  description: Where its golden requests lie; empty without any, or without O(golden_directory).
  returned: success
  type: str
  sample: /var/lib/mlops/rollout/defects/golden-29dee44eca6eb59f.json
golden_requests:
  description: Number of its golden requests.
  returned: success
  type: int
  sample: 16
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import (
    Interrupted,
    RegistryClient,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.keys import KeyRing
from ansible_collections.mlops.onprem.plugins.module_utils._release.oci import hex_of
from ansible_collections.mlops.onprem.plugins.module_utils._release.resolve import (
    Resolved,
    resolve,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.web import WebTransport

ARGUMENTS: dict[str, Any] = {
    "url": {"type": "str", "required": True},
    "repository": {"type": "str", "default": "models"},
    "user": {"type": "str", "default": ""},
    "password": {"type": "str", "default": "", "no_log": True},
    "ca_file": {"type": "path", "default": "/etc/mlops/tls/ca.crt"},
    # Public ones: to hide them would blank the answers of every test and device out.
    "keys": {"type": "list", "elements": "dict", "required": True, "no_log": False},
    "site": {"type": "str", "default": ""},
    "model": {"type": "str", "required": True},
    "version": {"type": "str", "default": ""},
    "digest": {"type": "str", "default": ""},
    "golden_directory": {"type": "path"},
}


def cases_of(golden: bytes) -> int:
    """How many golden requests there are."""
    try:
        value = json.loads(golden)
    except (ValueError, RecursionError):
        return 0
    cases = value.get("cases") if isinstance(value, dict) else None
    return len(cases) if isinstance(cases, list) else 0


def keep(directory: Path, found: Resolved) -> tuple[str, bool]:
    """Keep the golden requests beside the journal; say where, and whether they are new."""
    path = directory / f"golden-{hex_of(found.release.digest)[:16]}.json"
    if path.exists() and path.read_bytes() == found.golden:
        return str(path), False
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_bytes(found.golden)
    part.chmod(0o640)
    part.replace(path)
    return str(path), True


def find(params: dict[str, Any]) -> Resolved:
    """Ask the registry."""
    transport = WebTransport(params["ca_file"])

    def client_of(repository: str) -> RegistryClient:
        return RegistryClient(
            params["url"], repository, transport, params["user"], params["password"], time.sleep
        )

    ring = KeyRing.parse(
        json.dumps({"keys": params["keys"]}).encode(), "model_serving_release_keys"
    )
    return resolve(
        params["repository"],
        client_of,
        ring,
        params["site"],
        params["model"],
        params["version"],
        params["digest"],
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_one_of=[("version", "digest")],
    )
    params = module.params
    if not params["version"] and not params["digest"]:
        module.fail_json(msg="Say which release is meant: set rollout_version or rollout_digest.")
    golden_file, changed = "", False
    try:
        found = find(params)
        if params["golden_directory"] and found.golden and not module.check_mode:
            golden_file, changed = keep(Path(params["golden_directory"]), found)
    except RegistryError as error:
        module.fail_json(msg=str(error))
    except (OSError, Interrupted) as error:
        module.fail_json(msg=f"The release was not found: {error}.")
    module.exit_json(
        changed=changed,
        digest=found.release.digest,
        model_name=found.release.model_name,
        model_version=found.release.model_version,
        counter=found.counter,
        key_id=found.verdict.key_id,
        size=found.release.size,
        files={name: blob.size for name, blob in found.release.files.items()},
        golden_file=golden_file,
        golden_requests=cases_of(found.golden),
    )


if __name__ == "__main__":
    main()
