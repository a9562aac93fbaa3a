# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hand the event stream what this run is and came to, and what earlier ones left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.onprem.plugins.plugin_utils.run_so_far import (
    BEGUN,
    ENDED,
    THIS,
    kept,
    now,
)

ARGUMENTS: dict[str, Any] = {
    "phase": {"type": "str", "choices": [BEGUN, ENDED, ""], "default": ""},
    "directory": {"type": "path", "required": True},
    "inbox": {"type": "path", "default": "/var/lib/mlops/audit_log/inbox"},
    "site": {"type": "str", "default": ""},
    "records": {"type": "list", "elements": "dict", "default": []},
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry point."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _VALID_ARGS = frozenset(ARGUMENTS)

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _checked, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        if self._task.check_mode:  # nothing is done, so nothing is told
            result.update(changed=False, delivered=0)
            return result
        directory = Path(args["directory"])
        left = kept(directory)
        records = [record for _path, record in left]
        if args["phase"]:
            records.append(
                THIS.record(args["phase"], now(), more={"site": args["site"], **_asked()})
            )
        told = self._execute_module(
            module_name="mlops.onprem.audit_run",
            module_args={"inbox": args["inbox"], "records": records, "directory": str(directory)},
            task_vars=task_vars,
        )
        result.update(told)
        if not told.get("failed") and told.get("there"):
            for path, _record in left:
                path.unlink(missing_ok=True)
        # Without a stream there is nobody to be told how the run ended.
        result.update(phase=args["phase"])
        result["directory"] = str(directory) if args["phase"] and told.get("there") else ""
        result.pop("invocation", None)
        return result


def _asked() -> dict[str, str]:
    """What of the inventory the run is limited to."""
    limit = context.CLIARGS.get("subset") or ""
    tags = [one for one in context.CLIARGS.get("tags") or () if one != "all"]
    return {"limit": str(limit), "tags": ",".join(tags)}
