#!/usr/bin/python
# Copyright: (c) 2026, The mlops.onprem developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
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
  - The new environment is made beside the old one and takes its place in one step. A killed run
    never leaves one that looks finished.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
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
    type: str
    required: true
  python:
    description: Python of the host to use.
    type: path
    default: /usr/bin/python3
  digest:
    description: Hash of the requirements, as the action plugin sends it. Not for playbooks.
    type: str
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
seconds:
  description: How long the parts of the installation took.
  returned: when the environment was installed
  type: dict
"""

import glob
import json
import os
import re
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._host import app
from ansible_collections.mlops.onprem.plugins.module_utils._host.args import ROLE, role_of
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import (
    Book,
    must,
    remove_tree,
    run,
    sync_directory,
    write_whole,
)

ASK = (
    "import json, os, platform, sys;"
    "print(json.dumps(['%d.%d' % sys.version_info[:2], platform.machine(),"
    " os.confstr('CS_GNU_LIBC_VERSION')]))"
)


def target_of(python: str) -> app.Target:
    ran = run([python, "-c", ASK], timeout=60)
    if ran.rc != 0:
        raise HostError(
            f"{python} does not run on this host ({ran.said}); install python3, or set another."
        )
    return app.Target(*json.loads(ran.out))


def marker_text(digest: str, target: app.Target, python: str) -> str:
    document = {"python": python, "requirements": digest, "version": target.version}
    return json.dumps(document, sort_keys=True) + "\n"


def installed(path: str, text: str) -> bool:
    try:
        with open(os.path.join(path, app.MARKER), encoding="utf-8") as stream:
            return stream.read() == text
    except OSError:
        return False


def point_scripts(folder: str, python: str) -> None:
    """Make the scripts run with the environment's Python."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.islink(path) or not os.path.isfile(path):
            continue
        with open(path, "rb") as stream:
            first = stream.readline(1024)
            rest = stream.read()
        line = app.shebang(first, python)
        if line is not None:
            with open(path, "wb") as stream:
                stream.write(line + rest)
            os.chmod(path, 0o755)  # noqa: S103


def make(build: str, final: str, archive: str, python: str, target: app.Target) -> dict[str, float]:
    began = time.monotonic()
    if os.path.lexists(build):
        remove_tree(build, frozenset())
    os.makedirs(build, mode=0o755)
    must(
        ["tar", "--extract", "--no-same-owner", "--file", archive, "--directory", build],
        "unpack the environment",
    )
    programs = os.path.join(build, "bin")
    os.makedirs(programs, mode=0o755, exist_ok=True)
    point_scripts(programs, os.path.join(final, "bin", "python"))
    for name, link in (("python", python), ("python3", "python")):
        path = os.path.join(programs, name)
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink(link, path)
    with open(os.path.join(build, "pyvenv.cfg"), "w", encoding="utf-8") as stream:
        stream.write(
            f"home = {os.path.dirname(python)}\ninclude-system-site-packages = false\n"
            f"version = {target.version}\n"
        )
    unpacked = time.monotonic()
    libraries = os.path.join(build, "lib")
    # Tests are never imported, and some are wrong on purpose; a service cannot write bytecode.
    words = [python, "-m", "compileall", "-q", "-j", "0", "-x", r"/tests?/|/lib2to3/"]
    run([*words, "-s", build, "-p", final, libraries])
    return {
        "unpack": round(unpacked - began, 1),
        "compile": round(time.monotonic() - unpacked, 1),
    }


def work(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    name, python, digest = params["name"], params["python"], params["digest"]
    role = role_of(params)
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise HostError(f"{name!r} is not a name for a Python application.")
    if not digest:
        raise HostError("host_python_app works only together with its action plugin.")
    target = target_of(python)
    final = os.path.join(app.ROOT, name)
    builds = os.path.join(app.BUILDS, name)
    build = os.path.join(builds, f"{digest[:16]}-{target.version}")
    text = marker_text(digest, target, python)
    answer: dict[str, Any] = {
        "directory": final,
        "marker": os.path.join(final, app.MARKER),
        "python_version": target.version,
        "machine": target.machine,
        "libc": target.libc,
        "changed": False,
    }
    there = installed(final, text)
    if not there:
        answer["changed"] = True
        answer["diff"] = {
            "before_header": final,
            "after_header": final,
            "before": "",
            "after": f"requirements {digest[:16]} for Python {target.version}\n",
        }
    # Until the archive is here, this is only the question whether it is needed.
    if not there and (module.check_mode or not params["archive"]):
        return answer
    with Book(module.check_mode) as book:
        if os.path.lexists(final) and not book.ledger.has("app", final):
            raise HostError(
                f"{final} is there already and was not made by the platform; move it away."
            )
        ledger = book.ledger
        for folder in (app.ROOT, app.BUILDS):
            if ledger.has("directory", folder) or not os.path.lexists(folder):
                ledger = ledger.claim(role, "directory", folder)
        book.write(ledger.claim(role, "app", final, paths=[final, builds]))
        if there or module.check_mode:
            return answer
        os.makedirs(builds, mode=0o755, exist_ok=True)
        answer["seconds"] = make(build, final, params["archive"], python, target)
        write_whole(os.path.join(build, app.MARKER), text.encode(), 0o644)
        fresh = os.path.join(app.ROOT, f".mlops-new-{name}")
        if os.path.lexists(fresh):
            os.unlink(fresh)
        os.symlink(os.path.relpath(build, app.ROOT), fresh)
        os.replace(fresh, final)
        sync_directory(app.ROOT)
        for old in glob.glob(builds + "/*"):
            if old != build:
                remove_tree(old, frozenset())
    return answer


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec={
                "role": ROLE,
                "name": {"type": "str", "required": True},
                "requirements": {"type": "str", "required": True},
                "python": {"type": "path", "default": "/usr/bin/python3"},
                "digest": {"type": "str"},
                "archive": {"type": "path"},
            },
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()
