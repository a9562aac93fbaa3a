# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One turn of a rollout: hand in what devices answered, watch while nothing is to be ordered.

What decides is the module ``rollout`` on the control host, what looks is ``rollout_look`` there,
and what touches a device is a task of its own. This carries between them.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.page import as_html
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.report import report, row
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.turn import (
    ASKS,
    answer_of,
    devices_of,
    gate_word,
    look_line,
    start_asks,
)

FACT = "mlops_rollouts"
LEAST_WAIT = 0.2
ARGUMENTS: dict[str, Any] = {
    "asked": {"type": "dict", "required": True},
    "limits": {"type": "dict", "default": {}},
    "release": {"type": "dict", "default": {}},
    "addresses": {"type": "list", "elements": "dict", "default": []},
    "hosts": {"type": "list", "elements": "str", "required": True},
    "looked": {"type": "str", "default": "__rollout_looked"},
    "answer": {"type": "str", "default": "__rollout_answer"},
    "last": {"type": "dict", "default": {}},
    "local": {"type": "dict", "default": {}},
    "prometheus": {"type": "dict", "default": {}},
    "journals": {"type": "str", "required": True},
    "reports": {"type": "str", "required": True},
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry point."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(ARGUMENTS)

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _checked, self._args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        self._vars = task_vars or {}
        self._parent = os.getppid()
        self._model = str(self._args["asked"]["model"])
        if not self._model:
            raise AnsibleActionFail(
                "Found no name of a model, wanted which one to roll out: set rollout_model."
            )
        last = self._args["last"]
        if last.get("model") == self._model and last.get("generation"):
            found = self._ask("next", generation=last["generation"], answers=self._answers(last))
        else:
            found = self._open()
        found = self._watch(found)
        result.update(
            changed=True,
            model=self._model,
            generation=found["generation"],
            rollout=found["rollout"],
            orders={order["host"]: order for order in found["orders"]},
            outcome=found["outcome"],
        )
        if found["outcome"] or not found["orders"]:
            result.update(self._end(found))
        return result

    # -- the journal ---------------------------------------------------------------------------

    def _module(self, name: str, **args: Any) -> dict[str, Any]:
        done: dict[str, Any] = self._execute_module(
            module_name=f"mlops.onprem.{name}", module_args=args, task_vars=self._vars
        )
        if done.get("failed") or done.get("unreachable"):
            raise AnsibleActionFail(str(done.get("msg") or done))
        return done

    def _ask(self, ask: str, **args: Any) -> dict[str, Any]:
        if os.getppid() != self._parent:
            raise AnsibleActionFail("The run that this belongs to has ended.")
        asked = self._args["asked"]
        found = self._module(
            "rollout",
            ask=ask,
            model=self._model,
            holder=f"{getpass.getuser()}@{socket.gethostname()}",
            approved_by=str(asked.get("approved_by") or ""),
            directory=self._args["journals"],
            **args,
        )
        self._tell(found.get("text") or [])
        if ask != "status" and not args.get("look"):
            self._tell(found["said"])
        return found

    def _tell(self, lines: list[str]) -> None:
        for line in lines:
            self._display.display(f"rollout {self._model}: {line}")

    def _request(self) -> dict[str, Any]:
        release, hostvars = self._args["release"], self._vars["hostvars"]
        hosts = self._args["hosts"]
        looked = {host: hostvars[host].get(self._args["looked"]) for host in hosts}
        transports = {host: str(hostvars[host].get("rollout_transport") or "") for host in hosts}
        rings = self._args["limits"].get("rings") or ()
        groups = {
            name: [host for host in members if host in hosts]
            for name, members in self._vars["groups"].items()
            if name.startswith("ring_") or name in rings
        }
        return {
            **self._args["limits"],
            "version": str(release.get("model_version") or ""),
            "digest": str(release.get("digest") or ""),
            "counter": int(release.get("counter") or 0),
            "size": int(release.get("size") or 0),
            "devices": devices_of(looked, transports),
            "groups": groups,
            "local": self._args["local"],
        }

    def _open(self) -> dict[str, Any]:
        """What a person asked for, at the beginning of a run."""
        asked = self._args["asked"]
        action = str(asked["action"])
        if action != "start":
            more = (
                {"request": {"devices": self._request()["devices"]}} if action == "resume" else {}
            )
            return self._ask(ASKS[action], **more)
        status = self._ask("status")
        request = self._request()
        ask = start_asks(status, request["digest"], bool(asked.get("approved_by")))
        if ask == "begin" and self._task.check_mode:
            return self._ask("plan", request=request)
        if ask == "status" or self._task.check_mode:
            self._tell([f"{status['rollout']} is {status['outcome'] or status['mode']}."])
            return {**status, "orders": []}
        if ask == "resume":
            return self._ask("resume", request={"devices": request["devices"]})
        return self._ask("begin", request=request)

    # -- the devices ---------------------------------------------------------------------------

    def _answers(self, last: Mapping[str, Any]) -> list[dict[str, Any]]:
        hostvars = self._vars["hostvars"]
        return [
            answer_of(order, hostvars[host].get(self._args["answer"]))
            for host, order in (last.get("orders") or {}).items()
        ]

    def _watch(self, found: dict[str, Any]) -> dict[str, Any]:
        """Look and ask again for as long as no device is to be told anything."""
        while not found["orders"] and not found["outcome"]:
            if found["mode"] in ("idle", "finished") or self._task.check_mode:
                break
            time.sleep(max(LEAST_WAIT, float(found["wait_seconds"])))
            look = self._look(found["watch"]) if found.get("watch") else None
            more = {"look": look} if look else {}
            found = self._ask("next", generation=found["generation"], **more)
            if look:
                said = found["said"]
                self._tell([look_line(look["ring"], len(look["control"]), said)])
                self._tell([line for line in said if not gate_word(line)])
        return found

    def _look(self, watch: Mapping[str, Any]) -> dict[str, Any]:
        where = {str(one["name"]): one for one in self._args["addresses"]}
        rows = {
            side: [
                {
                    "name": host,
                    "serving": str(where[host]["serving"]),
                    "metrics": str(where[host]["metrics"]),
                    "digest": digest,
                }
                for host, digest in watch[side].items()
                if host in where
            ]
            for side in ("ring", "control")
        }
        queries = (self._args["limits"].get("gates") or {}).get("queries") or []
        found = self._module(
            "rollout_look",
            model=self._model,
            golden_directory=str(Path(self._args["journals"]) / self._model),
            probes=int(watch.get("probe_requests") or 0),
            queries={str(one["name"]): str(one["query"]) for one in queries},
            prometheus=self._args["prometheus"] if queries else {},
            **rows,
        )
        for host, problem in found["problems"].items():
            self._tell([f"{host}: {problem}."])
        return {side: found[side] for side in ("ring", "control", "queries")}

    # -- the end -------------------------------------------------------------------------------

    def _end(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Write the pages, and say how it ended to the lookup that ends the run."""
        lines = [row(line) for line in found.get("journal") or ()]
        if not lines and found["rollout"]:
            lines = [row(line) for line in self._ask("status").get("journal") or ()]
        made = report(lines)
        place = ""
        if made and not self._task.check_mode:
            place = write(Path(self._args["reports"]), made)
            self._tell([f"{made['outcome']}. {made['said']}", f"Page: {place}"])
        code = 0 if self._task.check_mode or not made else int(made["exit_code"])
        known = (self._vars.get("ansible_facts") or {}).get(FACT) or {}
        fact = {
            "exit_code": code,
            "said": f"{made['outcome']}: {made['said']}" if made else "",
            "page": place,
            "run": self._parent,
        }
        return {
            "report": made,
            "page": place,
            "exit_code": code,
            "changed": bool(found.get("changed")) and not self._task.check_mode,
            "ansible_facts": {FACT: {**known, self._model: fact}},
        }


def write(directory: Path, made: Mapping[str, Any]) -> str:
    """Write the report for people and for machines; return the page for people."""
    directory.mkdir(parents=True, exist_ok=True)
    name = f"rollout-{made['id']}"
    texts = {"json": json.dumps(made, indent=2) + "\n", "html": as_html(made)}
    for kind, text in texts.items():
        handle, part = tempfile.mkstemp(dir=directory, prefix=f".{name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(part).chmod(0o644)
        Path(part).replace(directory / f"{name}.{kind}")
    return str(directory / f"{name}.html")
