# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of capacity_facts: names the host, compares clocks, keeps the facts."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.onprem.plugins.module_utils._assess.host_keys import host_key_state
from ansible_collections.mlops.onprem.plugins.module_utils._supply.clock import compare

AGAIN = 2  # times more that a host is asked which closed the connection without a word


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry point."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        args = dict(self._task.args)
        name = str(args.setdefault("host", variables["inventory_hostname"]))
        keep = bool(args.get("assessment", False))
        facts: dict[str, Any]
        before = time.time()
        try:
            answer = self._asked(args, variables)
        except AnsibleConnectionFailure as error:
            if not keep:
                raise
            facts = unreached(name, str(error))
        except AnsibleError as error:  # such as a password for sudo that is missing or wrong
            if not keep:
                raise
            facts = {"host": name, "failed": last_line(str(error))}
        else:
            after = time.time()
            if answer.get("unreachable") and keep:
                facts = unreached(name, str(answer.get("msg")))
            elif answer.get("failed") or "capacity_facts" not in answer:
                if not keep:
                    result.update(answer)
                    return result
                parts = (answer.get(key) for key in ("msg", "module_stdout", "module_stderr"))
                said = "\n".join(str(part) for part in parts if part)
                facts = {"host": name, "failed": last_line(said)}
            else:
                facts = answer["capacity_facts"]
                facts["clock"].update(compare(facts["clock"]["epoch"], before, after))
        result.update(changed=False, capacity_facts=facts)
        if keep:
            result["ansible_facts"] = {
                "mlops_supply": facts,
                "mlops_platform": facts.get("platform"),
                "mlops_demand": [],
                "mlops_findings": [],
            }
        return result

    def _asked(
        self, args: dict[str, Any], variables: dict[str, Any], again: int = AGAIN
    ) -> dict[str, Any]:
        """Run the module. Where ssh ended before it was told anything, what it said is lost."""
        try:
            answer: dict[str, Any] = self._execute_module(
                "mlops.onprem.capacity_facts", module_args=args, task_vars=variables
            )
        except AnsibleConnectionFailure as error:
            if not again or not unsaid(str(error)):
                raise
            return self._asked(args, variables, again - 1)
        if again and answer.get("unreachable") and unsaid(str(answer.get("msg"))):
            return self._asked(args, variables, again - 1)
        return answer


def unsaid(text: str) -> bool:
    """Whether a connection ended without a word of why."""
    return "Broken pipe" in text and not host_key_state(text)


def unreached(name: str, said: str) -> dict[str, Any]:
    """The facts of a host that did not answer."""
    facts = {"host": name, "unreachable": last_line(said)}
    key = host_key_state(said)
    return {**facts, "host_key": key} if key else facts


def last_line(text: str) -> str:
    """The line that says what is wrong; tools print it last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Shared connection to ")]
    return lines[-1].rstrip(".") if lines else "no reason given"
