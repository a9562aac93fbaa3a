# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of registry_people: nobody has an account before an invitation can tell him."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.onprem.plugins.module_utils._people.invitation import (
    Around,
    file_of,
    invitation,
)
from ansible_collections.mlops.onprem.plugins.module_utils._site.people import parse_people

MODULE = "mlops.onprem.registry_people"
PARTS = ("name", "mail", "rights", "renewed")


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry point."""

    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = dict(self._task.args)
        if args.get("look") or self._task.check_mode or not args.get("invitations"):
            result.update(self._module(args, task_vars))
            if self._task.check_mode and not result.get("failed"):
                result["invited"] = [str(path) for path in _files(args, result)]
            return result
        seen = self._module({**args, "look": True}, task_vars)
        if seen.get("failed") or (not seen["steps"] and not seen["strangers"]):
            result.update(seen)
            return result
        # An account of somebody else is refused by the host, which nobody is to be invited to.
        invited = [] if seen["strangers"] else write_invitations(args, seen)
        result.update(self._module(args, task_vars))
        if not result.get("failed"):
            result["invited"] = invited
            forget(args, result["removed"])
        return result

    def _module(self, args: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        done: dict[str, Any] = self._execute_module(
            module_name=MODULE, module_args=args, task_vars=task_vars
        )
        done.pop("invocation", None)
        return done


def _files(args: Mapping[str, Any], seen: Mapping[str, Any]) -> list[Path]:
    """Where the invitations of people lie who are new or have a new password."""
    place = Path(str(args.get("invitations") or ""))
    names = [*seen["made"], *seen["renewed"]] if args.get("invitations") else []
    return [place / file_of(name) for name in names]


def write_invitations(args: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    """Write them, each for its reader alone. The answer is where they are."""
    rows = {row["name"]: row for row in args.get("people") or ()}
    around = Around(
        str(args.get("site") or "MLOps platform"),
        str(args.get("url") or ""),
        str(args.get("language") or "en"),
    )
    written = []
    for name, path in zip([*seen["made"], *seen["renewed"]], _files(args, seen), strict=True):
        people, problems = parse_people(
            [{key: rows[name][key] for key in PARTS if rows[name][key]}]
        )
        if problems:
            raise AnsibleActionFail(problems[0])
        teams = tuple(rows[name].get("teams") or ())
        _replace(path, invitation(people[0], str(args["passwords"][name]), around, teams))
        written.append(str(path))
    return written


def forget(args: Mapping[str, Any], removed: list[str]) -> None:
    """Take invitations away whose people are none any more."""
    for name in removed:
        Path(str(args["invitations"]), file_of(name)).unlink(missing_ok=True)


def _replace(path: Path, text: str) -> None:
    """Write a file in one step, which nobody else reads."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(prefix=".invitation-", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(temporary, path)
    except OSError as error:
        raise AnsibleActionFail(
            f"The invitation {path} cannot be written on the controller: {error}. Nobody was given "
            "an account yet; set mlops_state_dir to a directory that can be written."
        ) from error
