# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets a device in: its request is signed on the controller, where the key of the authority is."""

from __future__ import annotations

import getpass
import socket
from datetime import datetime, timezone
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.basic import missing_required_lib
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.onprem.plugins.module_utils._trust import certificates as trust

MODULE = "mlops.onprem.fleet_enrolment"
OWN = ("authority", "authority_key", "names", "certificate_days")


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry point."""

    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = {name: value for name, value in self._task.args.items() if name not in OWN}
        given.setdefault("by", f"{getpass.getuser()}@{socket.gethostname()}")
        if given.get("step") != "approve":
            result.update(self._module(given, task_vars))
            return result
        if trust.CRYPTOGRAPHY_ERROR is not None:
            raise AnsibleActionFail(missing_required_lib("cryptography"))
        try:
            result.update(self._approve(given, task_vars))
        except trust.TrustError as error:
            raise AnsibleActionFail(f"No certificate for {given.get('name')}: {error}.") from error
        return result

    def _module(self, args: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        done: dict[str, Any] = self._execute_module(
            module_name=MODULE, module_args=args, task_vars=task_vars
        )
        done.pop("invocation", None)
        return done

    def _approve(self, given: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        found = self._module({**given, "step": "show"}, task_vars)
        if found.get("failed"):
            return found
        wanted = str(given.get("fingerprint") or "").strip().lower()
        if wanted != found["fingerprint"]:
            raise AnsibleActionFail(
                f"{given['name']} asks with the fingerprint {found['fingerprint']}, approved was "
                f"{wanted or 'none'}. Compare it with what the device shows; if it is the same, "
                f"run this again with -e enrol_fingerprint={found['fingerprint']}."
            )
        args = self._task.args
        names = trust.names_of(given["name"], [str(one) for one in args.get("names") or ()])
        authority = trust.load_authority(
            args["authority"], args.get("authority_key") or None, "the certificate of the authority"
        )
        days = int(args.get("certificate_days") or 397)
        now = datetime.now(timezone.utc)
        certificate = trust.issue(found["request"], authority, names, now, days)
        if self._task.check_mode:
            return {"changed": True, "fingerprint": wanted}
        done = self._module(
            {**given, "step": "issue", "fingerprint": wanted, "certificate": certificate}, task_vars
        )
        return {**done, "fingerprint": wanted}
