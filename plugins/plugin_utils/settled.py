# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Spare a host the questions that it has answered in this run.

The assessment asks each host once about all tasks of its roles (``host_ask``), and the host says
for which of them it would change nothing. Such an answer stands for the task itself when its turn
comes, if the task asks for exactly the same, and if until then nothing has been changed and no
task has failed, on any host. Otherwise the host is asked again.

Only digests of questions are kept, made with a key that ends with the run, in the memory of the
process that leads it; the callback ``runs`` keeps them. Without it every task goes to its host.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action.normal import ActionModule as Normal
from ansible_collections.mlops.onprem.plugins.module_utils._host import args
from ansible_collections.mlops.onprem.plugins.module_utils._host.ask import digest
from ansible_collections.mlops.onprem.plugins.plugin_utils.run_so_far import THIS
from ansible_collections.mlops.onprem.plugins.plugin_utils.whose import OPTION, site_of


def digested(sent: Mapping[str, Any], content: bytes | None) -> dict[str, Any]:
    """A row of C(host_files), with a digest in place of what the file contains."""
    row = dict(sent)
    if content is not None:
        row["payload"] = base64.b64encode(digest(content, THIS.key)).decode("ascii")
    return row


def name_of(module: str, params: Mapping[str, Any]) -> str:
    """By what a question is known again; nobody reads from it what was asked."""
    text = json.dumps([module, params], sort_keys=True, default=str)
    return hmac.new(THIS.key.encode(), text.encode(), hashlib.sha256).hexdigest()


def told(
    task: Any, module: str, given: Mapping[str, Any], variables: Mapping[str, Any]
) -> dict[str, Any] | None:
    """What the host has answered to this very call; none if it has to be asked."""
    if THIS.touched or not THIS.counted or task.delegate_to or task.async_val:
        return None
    known = THIS.settled.get(str(variables.get("inventory_hostname")))
    if not known:
        return None
    checked = ArgumentSpecValidator(dict(args.MODULES[module])).validate(dict(given))
    if checked.error_messages:
        return None  # the module says so itself
    return copy.deepcopy(known.get(name_of(module, checked.validated_parameters)))


class SettledAction(Normal):  # type: ignore[misc]
    """The action of a module that takes its parameters as they are, and is told the site."""

    MODULE = ""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        answer = told(self._task, self.MODULE, self._task.args, task_vars or {})
        if answer is not None:
            return answer
        self._task.args = {**self._task.args, OPTION: site_of(task_vars or {}, self._templar)}
        return dict(super().run(tmp, task_vars))
