# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A step of the pipeline, started from here, so that its secrets are in no file of Ansible."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.mlops.onprem.plugins.plugin_utils import step

SPEC: dict[str, Any] = {
    "step": {"type": "str", "choices": sorted(step.SECRETS), "required": True},
    "python": {"type": "path", "required": True},
    "folder": {"type": "path", "required": True},
    "config": {"type": "dict", "required": True},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "data_version": {"type": "str"},
    "run_id": {"type": "str"},
    "candidate": {"type": "str"},
    "judgement": {"type": "path"},
    "artifact": {"type": "str"},
    "model_name": {"type": "str"},
    "package": {"type": "path"},
    "cases": {"type": "path"},
    "accept_answers": {"type": "bool", "default": False},
    "golden": {"type": "path"},
    "timeout": {"type": "int", "default": 600},
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry point."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _checked, params = self.validate_argument_spec(
            argument_spec=SPEC,
            required_if=[("step", "package", ("artifact", "model_name", "package"))],
        )
        name = params["step"]
        params["check"] = bool(self._task.check_mode)
        if params["check"] and name != "current" and name not in step.CHECKING:
            why = {"step": name, "skipped": True, "why": "check mode"}
            result.update(changed=True, result=why)
            return result
        said = step.run(params)
        result.update(changed=bool(said.get("changed")), result=said)
        if not said.get("ok"):
            result.update(
                failed=True,
                changed=False,
                msg=f"The step {name} failed: {said.get('error')}",
            )
        return result
