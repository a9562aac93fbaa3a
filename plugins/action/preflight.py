# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of the preflight module: takes down what a role needs and what it found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import (
    from_failure,
    parse_demand,
    parse_finding,
    replace_role,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError, each

OPTIONS = frozenset(("role", "demand", "findings", "failed", "reset"))


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry point."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _VALID_ARGS = OPTIONS

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _checked, args = self.validate_argument_spec(
            argument_spec={
                "role": {"type": "str", "required": True},
                "demand": {"type": "list", "elements": "raw"},
                "findings": {"type": "list", "elements": "raw", "default": []},
                "failed": {"type": "dict"},
                "reset": {"type": "bool", "default": False},
            }
        )
        variables = task_vars or {}
        host = str(variables["inventory_hostname"])
        role = args["role"].rpartition(".")[2]
        if args["demand"] is None:
            args["demand"] = [] if args["failed"] is not None else self._declared(role, variables)
        try:
            demand = self._parse("demand", args, lambda row: parse_demand(row, role).as_dict())
            findings = self._parse("findings", args, lambda row: parse_finding(row, host).as_dict())
        except ShapeError as error:
            raise AnsibleActionFail(
                f"The preflight of role {role} on {host} is wrong: {error}."
            ) from error
        if args["failed"] is not None:
            findings += [row.as_dict() for row in from_failure(role, host, args["failed"])]
        facts = {} if args["reset"] else variables.get("ansible_facts") or {}
        result.update(
            changed=False,
            ansible_facts={
                "mlops_demand": replace_role(facts.get("mlops_demand"), role, demand),
                "mlops_findings": replace_role(facts.get("mlops_findings"), role, findings),
            },
        )
        return result

    def _declared(self, role: str, variables: dict[str, Any]) -> list[Any]:
        """C(<role>_demand) of the role's C(vars/capacity.yml), templated as if it were loaded."""
        if self._task._role is None:
            return []
        path = Path(self._task._role._role_path) / "vars" / "capacity.yml"
        if not path.exists():
            return []
        page = self._loader.load_from_file(str(path), trusted_as_template=True)
        templar = self._templar.copy_with_new_env(available_variables={**variables, **page})
        return list(templar.template(page[f"{role}_demand"]))

    @staticmethod
    def _parse(name: str, args: dict[str, Any], parse: Any) -> list[dict[str, Any]]:
        try:
            return list(each(args[name], parse))
        except ShapeError as error:
            raise error.within(name) from None
