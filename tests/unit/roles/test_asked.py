# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a role has done by a host module, the host is asked about it before the run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.module_utils._assess.declared import (
    MODULES,
    Call,
    calls,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError

ROOT = Path(__file__).resolve().parents[3]
TABLE = yaml.safe_load((ROOT / "playbooks/vars/site.yml").read_text())["site_roles"]
ROLES = [row["role"] for row in TABLE]
# Modules for hosts that take nothing that somebody else may have, and the tasks that are no part
# of the run: what they do is a matter of their own preflight.
TAKE_NOTHING = {"host_ask", "host_check", "host_identity", "host_kit", "host_remove"}
APART = {"preflight.yml", "selfcheck.yml", "remove.yml", "nginx_remove.yml"}
# What is placed on another host than the one that is asked.
APART |= {"existing.yml", "witness.yml", "witness_remove.yml"}


def page(role: str, name: str) -> Any:
    path = ROOT / "roles" / role / name
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None


def entry(role: str) -> str:
    if (ROOT / "roles" / role / "tasks/main.yml").exists():
        return "main.yml"
    return str(page(role, "vars/ask.yml")[f"__{role}_ask_tasks"])


def found(role: str) -> list[Call]:
    def load(name: str) -> Any:
        return page(role, f"tasks/{name}")

    return calls(load, entry(role))


def written(tasks: Any) -> Iterator[str]:
    """The modules of a page of tasks, by a way that shares nothing with the reader."""
    yield from re.findall(r"^\s*(?:- )?mlops\.onprem\.(host_\w+):", tasks, re.MULTILINE)


def test_every_module_for_hosts_is_asked_or_takes_nothing() -> None:
    modules = {path.stem for path in (ROOT / "plugins/modules").glob("host_*.py")}
    assert modules == set(MODULES) | TAKE_NOTHING


@pytest.mark.parametrize("role", ROLES)
def test_every_call_of_a_role_is_found(role: str) -> None:
    pages = (ROOT / "roles" / role / "tasks").glob("*.yml")
    text = {path.name: path.read_text(encoding="utf-8") for path in pages}
    expected = sorted(
        word for name, tasks in text.items() if name not in APART for word in written(tasks)
    )
    there = [call.module for call in found(role)]
    assert sorted(there) == [word for word in expected if word not in TAKE_NOTHING]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_that_is_included_is_asked_by_itself(role: str) -> None:
    for path in (ROOT / "roles" / role / "tasks").glob("*.yml"):
        for name, tasks in re.findall(
            r"_role:\s+name: mlops\.onprem\.(\w+)\s+tasks_from: (\w+)", path.read_text()
        ):
            assert name in ROLES
            assert tasks in (entry(name).removesuffix(".yml"), "nginx_remove"), path


def test_conditions_loops_and_variables_are_inherited() -> None:
    pages: dict[str, Any] = {
        "main.yml": [
            {"import_tasks": "more.yml", "when": "outer", "vars": {"a": 1}},
            {"block": [{"mlops.onprem.host_packages": {"role": "r"}}], "when": ["x", "y"]},
        ],
        "more.yml": [
            {
                "name": "Run",
                "mlops.onprem.host_service": {"role": "r"},
                "when": "inner",
                "vars": {"b": 2},
                "loop": "{{ many }}",
                "loop_control": {"loop_var": "one", "index_var": "at"},
            }
        ],
    }
    service, packages = calls(pages.__getitem__, "main.yml")
    assert (service.module, service.name) == ("host_service", "Run")
    assert service.when == ("outer", "inner")
    assert service.variables == ({"a": 1}, {"b": 2})
    assert (service.loop, service.loop_var, service.index_var) == ("{{ many }}", "one", "at")
    assert (packages.module, packages.when) == ("host_packages", ("x", "y"))


def test_roles_that_are_brought_along_are_found_with_their_variables() -> None:
    pages: dict[str, Any] = {
        "main.yml": [
            {
                "ansible.builtin.include_role": {"name": "mlops.onprem.common"},
                "vars": {"common_nginx_owner": "r"},
                "when": "wanted",
            },
            {"mlops.onprem.host_remove": {"role": "r"}},
        ]
    }
    (brought,) = calls(pages.__getitem__, "main.yml", ("include_role",))
    assert brought.args == {"name": "mlops.onprem.common"}
    assert (brought.variables, brought.when) == (({"common_nginx_owner": "r"},), ("wanted",))
    (removal,) = calls(pages.__getitem__, "main.yml", ("host_remove",))
    assert removal.module == "host_remove"
    assert calls(pages.__getitem__, "main.yml") == []


@pytest.mark.parametrize("word", ["delegate_to", "with_items", "until", "register_later"])
def test_a_task_that_could_not_be_asked_rightly_is_refused(word: str) -> None:
    task = {"name": "T", "mlops.onprem.host_files": {"role": "r"}, word: "x"}
    with pytest.raises(ShapeError, match=word):
        calls({"main.yml": [task]}.__getitem__, "main.yml")


PLAYBOOK = """\
- hosts: all
  gather_facts: false
  vars_files: [{root}/playbooks/vars/wiring.yml]
  tasks:
    - mlops.onprem.host_ask:
        roles: "{{{{ lookup('mlops.onprem.site', 'roles_to_ask') }}}}"
    - ansible.builtin.copy:
        content: "{{{{ ansible_facts.mlops_findings | to_json }}}}"
        dest: "{folder}/{{{{ inventory_hostname }}}}.json"
        mode: "0600"
      delegate_to: localhost
      vars: {{ansible_python_interpreter: {python}}}
"""
HOSTS = """\
all:
  vars: {{ansible_connection: local, ansible_python_interpreter: {python}, mlops_site_name: trial}}
  children:
    control: {{hosts: {{ctl: {{}}}}}}
    metadata_db: {{hosts: {{ctl: {{}}}}}}
    object_store: {{hosts: {{ctl: {{}}}}}}
    edge: {{hosts: {{dev: {{}}}}}}
"""
# It stands for the host: it takes whatever it is sent, and says that it would refuse nothing.
AGREEABLE = """\
#!/bin/sh
cat > /dev/null
echo '{"changed": false, "refusals": [], "build": [], "places": [], "certificate_days": null}'
"""


def test_the_tasks_of_all_roles_can_be_asked_before_any_of_them_ran(tmp_path: Path) -> None:
    """No task needs what only an earlier one would know, unless vars/ask.yml stands in for it."""
    host = tmp_path / "python3"
    host.write_text(AGREEABLE)
    host.chmod(0o755)
    (tmp_path / "hosts.yml").write_text(HOSTS.format(python=host))
    play = tmp_path / "play.yml"
    play.write_text(PLAYBOOK.format(root=ROOT, folder=tmp_path, python=sys.executable))
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={tmp_path / 'hosts.yml'}",
            str(play),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name, least in (("ctl", 25), ("dev", 8)):
        (finding,) = json.loads((tmp_path / f"{name}.json").read_text())
        assert finding["severity"] == "pass", finding
        assert int(finding["found"].split()[0]) >= least
    assert not (tmp_path / "group_vars").exists(), "asking has kept a secret"
