# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what a device that nobody reaches installs itself from; no connection is made to it."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.onprem.plugins.action.host_python_app import built, folder_of
from ansible_collections.mlops.onprem.plugins.module_utils._assess import systems
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import PlatformError
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError
from ansible_collections.mlops.onprem.plugins.module_utils._host import app
from ansible_collections.mlops.onprem.plugins.module_utils._host.kit import FORMAT
from ansible_collections.mlops.onprem.plugins.plugin_utils.role_tasks import RoleTasks

CODE = Path(__file__).resolve().parents[1] / "module_utils"
# What travels: the package of the hands whole, and the error that it ends with.
PACKAGES = {"_host": "*.py", "_findings": "errors.py"}
MANIFEST = "manifest.json"


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry point."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _checked, given = self.validate_argument_spec(
            argument_spec={
                "directory": {"type": "path", "required": True},
                "system": {"type": "str", "required": True},
                "machine": {"type": "str", "required": True},
                "site": {"type": "dict", "required": True},
                "roles": {
                    "type": "list",
                    "elements": "dict",
                    "required": True,
                    "options": {
                        "role": {"type": "str", "required": True},
                        "tasks": {"type": "str", "default": "main.yml"},
                        "vars": {"type": "dict", "default": {}},
                    },
                },
            }
        )
        try:
            row = row_of(given["system"], given["machine"])
            tasks, locks = self._tasks(given["roles"], task_vars or {})
            if not self._task.check_mode:
                self._write(given, row, tasks, locks, task_vars or {})
        except (PlatformError, ShapeError) as error:
            raise AnsibleActionFail(str(error)) from error
        except AnsibleError as error:
            raise AnsibleActionFail(f"The kit cannot be made: {error}") from error
        result.update(changed=True, tasks=len(tasks))
        return result

    def _tasks(
        self, roles: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]
    ) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """The tasks of the roles as plain data, and the locked files that they name."""
        found: list[dict[str, Any]] = []
        locks: dict[str, str] = {}
        for one in roles:
            role = str(one["role"])
            tasks = RoleTasks(self._loader, self._templar, role, variables, one["vars"])
            for call in tasks.calls(one["tasks"]):
                for templar, scope in tasks.rounds(call):
                    params = tasks.params(call, templar, scope, _with_content)
                    owner = str(params.get("role") or role)
                    name = call.name
                    found.append(
                        {"role": owner, "module": call.module, "name": name, "params": params}
                    )
            locks |= tasks.locks
        return found, locks

    def _write(
        self,
        given: Mapping[str, Any],
        row: systems.System,
        tasks: Sequence[Mapping[str, Any]],
        locks: Mapping[str, str],
        variables: Mapping[str, Any],
    ) -> None:
        folder = Path(given["directory"])
        target = app.Target(row.python, row.machine, row.libc)
        cache, archives = folder_of(self._templar, variables), {}
        for digest in _digests(tasks, target):
            archives[digest] = f"environment-{digest[:16]}.tar.gz"
            shutil.copyfile(built(locks[digest], target, cache), folder / archives[digest])
        kit = {
            "format": FORMAT,
            "device": str(variables["inventory_hostname"]),
            "site": given["site"],
            "system": row.label,
            "target": {"version": row.python, "machine": row.machine, "libc": row.libc},
            "archives": archives,
            "tasks": tasks,
        }
        # Not sorted: the lines of a unit stand in the order of its settings.
        text = json.dumps(kit, default=str, indent=1) + "\n"
        _put(folder / "kit.json", text.encode())
        for package, pattern in PACKAGES.items():
            place = folder / "mlops_kit" / package
            place.mkdir(parents=True, exist_ok=True)
            _put(place / "__init__.py", b"")
            for path in sorted((CODE / package).glob(pattern)):
                _put(place / path.name, path.read_bytes())
        _put(folder / "mlops_kit" / "__init__.py", b"")
        _put(folder / MANIFEST, manifest(folder))


def row_of(system: str, machine: str) -> systems.System:
    """The system of a device, by what its owner says that it is.

    Raises:
        PlatformError: Nothing is known of it.
    """
    label = " ".join(system.lower().replace("-", " ").split())
    found = systems.state_of(label, machine, True)[1]
    if found is None:
        known = [f"{row.label} on {row.machine}" for row in systems.MATRIX]
        raise PlatformError(
            f"Found enrol_system {system!r} and enrol_machine {machine!r}, wanted one of: "
            f"{', '.join(known)}."
        )
    return found


def manifest(folder: Path) -> bytes:
    """The digest of every file of the bundle."""
    files = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }
    return (json.dumps({"files": files}, indent=1, sort_keys=True) + "\n").encode()


def _with_content(sent: dict[str, Any], content: bytes | None, row: Any) -> dict[str, Any]:
    if content is not None:
        name = "secret_payload" if row.get("sensitive", False) is True else "payload"
        sent[name] = base64.b64encode(content).decode("ascii")
    return sent


def _digests(tasks: Sequence[Mapping[str, Any]], target: app.Target) -> Iterator[str]:
    """The locked files that hold for the Python of the device."""
    for task in tasks:
        if task["module"] == "host_python_app":
            yield app.digest_for(task["params"]["digests"], target.version)


def _put(path: Path, content: bytes) -> None:
    """For root alone: there are passwords among the tasks."""
    path.touch(mode=0o600)
    path.write_bytes(content)
