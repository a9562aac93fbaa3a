# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells the module of this name which site the task is for."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action.normal import ActionModule as Normal
from ansible_collections.mlops.onprem.plugins.plugin_utils.whose import OPTION, site_of


class ActionModule(Normal):  # type: ignore[misc]
    """Ansible's entry point."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        self._task.args = {**self._task.args, OPTION: site_of(task_vars or {}, self._templar)}
        return dict(super().run(tmp, task_vars))
