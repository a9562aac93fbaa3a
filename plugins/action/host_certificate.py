# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of host_certificate: judges what the host has and signs what it asks for."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.basic import missing_required_lib
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.onprem.plugins.module_utils._host import args as arguments
from ansible_collections.mlops.onprem.plugins.module_utils._trust import certificates as trust
from ansible_collections.mlops.onprem.plugins.plugin_utils.whose import OPTION, site_of

MODULE = "mlops.onprem.host_certificate"


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry point."""

    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        if trust.CRYPTOGRAPHY_ERROR is not None:
            raise AnsibleActionFail(missing_required_lib("cryptography"))
        _checked, args = self.validate_argument_spec(
            argument_spec=dict(arguments.CERTIFICATE),
            required_one_of=[["authority", "certificate"]],
            required_together=[["certificate", "key"]],
        )
        try:
            result.update(self._converge(args, task_vars or {}))
        except trust.TrustError as error:
            host = (task_vars or {}).get("inventory_hostname", "the host")
            raise AnsibleActionFail(f"No certificate for {host}: {error}.") from error
        return result

    def _converge(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        place = {name: args[name] for name in ("owner", "common_name", "group")}
        place[OPTION] = site_of(task_vars, self._templar)
        given = {name: args[name] for name in ("certificate", "key") if args[name]}
        kept = {"keep_later": args["keep_later"]} if given else {}
        first = self._execute_module(
            module_name=MODULE, module_args={**place, **given, **kept}, task_vars=task_vars
        )
        if first.get("failed"):
            return dict(first)
        before = first["certificate"]
        if given:
            check = self._task.check_mode
            after = given["certificate"] if check else before
            return self._answer(first, before if check else "", after, [])

        names = trust.names_of(args["common_name"], args["names"])
        now = datetime.now(timezone.utc)
        authority = trust.load_authority(
            args["authority"], args["authority_key"] or None, "the certificate of the authority"
        )
        reasons = (
            trust.why_renew(before, first["request"], authority, names, now, args["renew_days"])
            if first["request"]
            else ("the host has no key yet",)
        )
        if not reasons:
            return self._answer(first, before, before, [])
        if self._task.check_mode:
            after = f"a new certificate for {names.text}, because {', '.join(reasons)}\n"
            return self._answer({**first, "changed": True}, before, after, reasons)
        issued = trust.issue(first["request"], authority, names, now, args["days"])
        second = self._execute_module(
            module_name=MODULE, module_args={**place, "certificate": issued}, task_vars=task_vars
        )
        return self._answer(second, before, issued, reasons)

    def _answer(
        self, result: dict[str, Any], before: str, after: str, reasons: Any
    ) -> dict[str, Any]:
        answer = {**result, "reasons": list(reasons)}
        answer.pop("invocation", None)
        if answer.get("changed") and not answer.get("failed"):
            new = trust.summary(after) if trust.BLOCK.search(after) else after
            answer["diff"] = {
                "before_header": "host.crt",
                "after_header": "host.crt",
                "before": trust.summary(before),
                "after": new,
            }
        return answer
