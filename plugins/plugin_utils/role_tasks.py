# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks of a role as a host would run them, read on the controller."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mlops.onprem.plugins.action.host_files import Contents
from ansible_collections.mlops.onprem.plugins.action.host_python_app import locks_beside
from ansible_collections.mlops.onprem.plugins.module_utils._assess.declared import (
    MODULES,
    Call,
    calls,
)
from ansible_collections.mlops.onprem.plugins.module_utils._host import app, args

ROLES = Path(__file__).resolve().parents[2] / "roles"


class RoleTasks:
    """What the tasks of one role ask of a host, with the variables that its tasks would see.

    ``asked`` reads the role's C(vars/ask.yml) as well: what stands for what only an earlier task
    of a run finds out.
    """

    def __init__(
        self,
        loader: Any,
        templar: Any,
        role: str,
        variables: Mapping[str, Any],
        more: Mapping[str, Any] | None = None,
        asked: bool = False,
    ) -> None:
        self._loader, self._templar, self._role = loader, templar, role
        self._folder = str(ROLES / role)
        self.variables: dict[str, Any] = {
            **(self._page("defaults/main.yml") or {}),
            **variables,
            **(self._page("vars/main.yml") or {}),
            **((self._page("vars/ask.yml") or {}) if asked else {}),
            **(more or {}),
            "role_name": role,
            "ansible_role_name": f"mlops.onprem.{role}",
            "role_path": self._folder,
            "ansible_search_path": [self._folder, *variables.get("ansible_search_path", [])],
        }
        # Of the locked files that were found, by their digest.
        self.locks: dict[str, str] = {}

    def _page(self, name: str) -> Any:
        path = ROLES / self._role / name
        if not path.exists():
            return None
        return self._loader.load_from_file(str(path), trusted_as_template=True)

    def calls(self, entry: str, words: Collection[str] = MODULES) -> list[Call]:
        """The tasks of our modules, in the order of the run; or those with other ``words``."""
        return calls(lambda name: self._page(f"tasks/{name}"), entry, words)

    def rounds(self, call: Call) -> Iterator[tuple[Any, dict[str, Any]]]:
        """The templar and the variables of each time that the task would run."""
        here = dict(self.variables)
        for more in call.variables:
            here.update(more)
        rounds: Sequence[dict[str, Any]] = [{}]
        if call.loop is not None:
            rows = self._templar.copy_with_new_env(available_variables=here).template(call.loop)
            rounds = [{call.loop_var: row, call.index_var: at} for at, row in enumerate(rows)]
        for more in rounds:
            scope = {**here, **more}
            templar = self._templar.copy_with_new_env(available_variables=scope)
            if all(templar.evaluate_conditional(condition) for condition in call.when):
                yield templar, scope

    def params(self, call: Call, templar: Any, scope: dict[str, Any], sent: Any) -> dict[str, Any]:
        """The parameters of one round with their defaults; ``sent`` puts a content into its row."""
        if call.module == "host_certificate":
            return {}  # what is signed is nobody else's to read
        given = dict(templar.template(call.args))
        if call.module == "host_files":
            contents = Contents(self._loader, templar, scope, self._find)
            given["files"] = [sent(*contents.of(row), row) for row in given.get("files") or []]
        if call.module == "host_python_app":
            locks = locks_beside(Path(self._find("files", str(given["requirements"]))))
            given["digests"] = {python: app.digest(text) for python, text in locks.items()}
            self.locks |= {app.digest(text): text for text in locks.values()}
        checked = ArgumentSpecValidator(dict(args.MODULES[call.module])).validate(given)
        if checked.error_messages:
            raise AnsibleActionFail(f"{call.name}: {', '.join(checked.error_messages)}")
        return {**checked.validated_parameters}

    def _find(self, where: str, name: str) -> Any:
        return self._loader.path_dwim_relative_stack([self._folder], where, name)
