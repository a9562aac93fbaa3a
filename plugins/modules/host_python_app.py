#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_python_app
short_description: Install a locked Python environment on a host without an index
version_added: 0.1.0
description:
  - Gives a service its own virtual environment in C(/opt/mlops/<name>). The host needs Python,
    but neither pip, a compiler nor a way to a package index.
  - The environment is built on the controller for the host's Python version, machine and C
    library, only from wheels whose hashes are in the locked requirements. It is kept in a cache on
    the controller, so that further hosts of the same kind and later runs only copy it.
  - Takes C(uv) on the controller and the index settings of pip (C(pip.conf), environment), unless
    uv has its own.
  - An environment that is there is looked at again. If a file is missing or was changed, it is
    installed anew; if owners or modes are wrong, such as after an installation under a strict
    C(umask), they are put right.
  - The new environment is made beside the old one and takes its place in one step. A killed run
    never leaves one that looks finished.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  site_id:
    description:
      - Identity of the site that the task is for, as the action plugin sends it. A host that says
        it belongs to another site is refused. Not for playbooks.
    type: str
  role:
    description: Role to which the environment belongs.
    type: str
    required: true
  name:
    description: Name of the environment, which is in C(/opt/mlops/<name>).
    type: str
    required: true
  requirements:
    description:
      - Locked requirements in the role's C(files) directory, as C(uv pip compile --generate-hashes)
        writes them.
      - A file beside it that has a Python in its name, such as C(requirements-py311.txt), is taken
        instead on hosts with that Python.
    type: str
    required: true
  python:
    description: Python of the host to use.
    type: path
    default: /usr/bin/python3
  rarely_imported:
    description:
      - Folders below C(site-packages), such as C(kubernetes/client/models), whose modules the
        service does not import. They get no bytecode, which spares the host most of the time of an
        installation where a package is large; whoever imports one after all waits for it to be
        compiled. An environment that is there already is not made anew for it.
    type: list
    elements: str
    default: []
    version_added: 0.3.0
  digests:
    description:
      - Hashes of the requirements by Python, as the action plugin sends them. Not for playbooks.
    type: dict
  archive:
    description: The environment on the host, as the action plugin sends it. Not for playbooks.
    type: path
extends_documentation_fragment: [mlops.onprem.previewed]
notes:
  - Give C(/opt/mlops/<name>/mlops-app.json) to O(mlops.onprem.host_service#module:restart_on), so
    that the service follows its environment.
seealso:
  - module: mlops.onprem.host_service
"""

EXAMPLES = r"""
- name: Install the model registry
  mlops.onprem.host_python_app:
    role: model_registry
    name: model_registry
    requirements: requirements.txt
"""

RETURN = r"""
directory:
  description: Where the environment is.
  returned: success
  type: str
  sample: /opt/mlops/model_registry
marker:
  description: File that changes when the environment does.
  returned: success
  type: str
  sample: /opt/mlops/model_registry/mlops-app.json
python_version:
  description: Version of Python that the environment is for.
  returned: success
  type: str
  sample: "3.13"
machine:
  description: Machine of the host.
  returned: success
  type: str
  sample: x86_64
libc:
  description: C library of the host.
  returned: success
  type: str
  sample: glibc 2.41
digest:
  description: Hash of the requirements that hold for the host's Python.
  returned: success
  type: str
archive_wanted:
  description: Whether the environment had to be sent. For the action plugin.
  returned: success
  type: bool
seconds:
  description: How long the parts of the installation took.
  returned: when the environment was installed
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._host import app_apply, args
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError


def work(module: AnsibleModule) -> dict[str, Any]:
    if not module.params["digests"]:
        raise HostError("host_python_app works only together with its action plugin.")
    return app_apply.converge(module.params, module.check_mode)


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec=dict(args.APP),
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()
