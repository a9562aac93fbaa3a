# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ansible-lint, which checks the syntax of all playbooks and roles in one process.

By itself ansible-lint starts ansible-playbook once for each of them, a hundred times, and each
loads Ansible and the same roles anew. Here one process reads them all. Only if that refuses
something, ansible-lint asks for each by itself, so that its finding names file and line.

    python -m tests.ansible_lint --offline -q     # the options of ansible-lint
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from ansiblelint.__main__ import main
from ansiblelint.file_utils import Lintable
from ansiblelint.runner import Runner

EACH = Runner._map_syntax_check_workers


def of_roles(roles: list[str]) -> list[dict[str, Any]]:
    """A playbook that reads what each role does, as ansible-lint writes one for a single role."""
    return [
        {
            "name": "Read a role",
            "hosts": "localhost",
            "tasks": [{"ansible.builtin.import_role": {"name": role}}],
        }
        for role in roles
    ]


def accepted(files: list[Lintable], environment: dict[str, str]) -> bool:
    """Whether one process of ansible-playbook accepts the syntax of all of them."""
    paths: dict[str, list[str]] = {"playbook": [], "role": []}
    for file in files:
        if file.kind in paths:
            paths[file.kind].append(str(file.path.expanduser().absolute()))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "roles.yml"
        page.write_text(yaml.safe_dump(of_roles(paths["role"])), encoding="utf-8")
        playbooks = [*paths["playbook"], *([str(page)] if paths["role"] else [])]
        if not playbooks:
            return True
        done = subprocess.run(
            ["ansible-playbook", "--syntax-check", *playbooks],
            env={**environment, "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "False"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    return done.returncode == 0


def together(runner: Runner, worker: Callable[[Lintable], Any], files: list[Lintable]) -> list[Any]:
    """In the place of the worker for each file: none has a finding if all are accepted at once."""
    if accepted(files, dict(runner.app.runtime.environ)):
        return []
    found: list[Any] = EACH(runner, worker, files)
    return found


if __name__ == "__main__":
    with mock.patch.object(Runner, "_map_syntax_check_workers", together):
        sys.exit(main(["ansible-lint", *sys.argv[1:]]))
