# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One turn of a rollout: hand in what devices answered, watch while nothing is to be ordered.

What decides is the module ``rollout`` on the control host, what looks is ``rollout_look`` there,
and what touches a device is a task of its own. This carries between them.

Devices that fetch their orders are never connected to: what they are to be told is published by
``rollout_channel``, and what came of it and what they counted is read by ``fleet_states``.
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
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.channels import PROBE, alike
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.page import as_html
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.plan import PUSH
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.report import report, row
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.status import where
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.turn import (
    ASKS,
    answer_of,
    complaints,
    configuration_of,
    devices_of,
    fresh_answers,
    gate_word,
    lockouts,
    look_line,
    seen_of_control,
    seen_of_ring,
    start_asks,
    strangers,
    told_devices,
)

FACT = "mlops_rollouts"
LEAST_WAIT = 0.2
# Contacts that a device may miss before it counts as silent: of those of a ring under way, and of
# those that come every so many seconds where nothing is awaited.
MISSED_POLLS = 4
MISSED_IDLE = 3
IDLE_SECONDS = 300.0
CLASSES = {"x86_64", "aarch64"}
# What a channel says of one model.
SAID = (
    "model", "digest", "size", "counter", "step", "rollout", "generation", "deadline", "limits",
    "rate", "rollback", "probes", "probe_until",
)  # fmt: skip
ARGUMENTS: dict[str, Any] = {
    "asked": {"type": "dict", "required": True},
    "limits": {"type": "dict", "default": {}},
    "release": {"type": "dict", "default": {}},
    "addresses": {"type": "list", "elements": "dict", "default": []},
    "hosts": {"type": "list", "elements": "str", "required": True},
    "looked": {"type": "str", "default": "__rollout_looked"},
    "answer": {"type": "str", "default": "__rollout_answer"},
    "last": {"type": "dict", "default": {}},
    "fleet": {"type": "dict", "default": {}},
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
        going = last.get("model") == self._model and last.get("generation")
        self._channels: dict[str, dict[str, Any]] = self._args["fleet"].get("devices") or {}
        # What was published and what was handed in by this run.
        self._published: dict[str, Any] = dict(last["published"]) if going else {}
        self._heard: dict[str, Any] = dict(last["heard"]) if going else {}
        self._complained: dict[str, str] = dict(last["complained"]) if going else {}
        if going:
            answers = [*self._answers(last), *self._fetched(last)]
            found = self._ask("next", generation=last["generation"], answers=answers)
        else:
            found = self._open()
        found = self._watch(found)
        pushed, pulled = by_transport(found)
        result.update(
            changed=True,
            model=self._model,
            generation=found["generation"],
            rollout=found["rollout"],
            orders=pushed,
            pulled=pulled,
            channels=found["channels"],
            published=self._published,
            heard=self._heard,
            complained=self._complained,
            outcome=found["outcome"],
        )
        if found["outcome"] or not pushed:
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
        pull = [host for host in hosts if host in self._channels]
        looked = {
            host: hostvars[host].get(self._args["looked"]) for host in hosts if host not in pull
        }
        rings = self._args["limits"].get("rings") or ()
        groups = {
            name: [host for host in members if host in hosts]
            for name, members in self._vars["groups"].items()
            if name.startswith("ring_") or name in rings
        }
        devices = {**devices_of(looked), **self._that_fetch(pull)}
        return {
            **self._args["limits"],
            "version": str(release.get("model_version") or ""),
            "digest": str(release.get("digest") or ""),
            "counter": int(release.get("counter") or 0),
            "size": int(release.get("size") or 0),
            "devices": devices,
            **configuration_of(release, devices),
            "groups": groups,
            "local": self._args["local"],
        }

    def _open(self) -> dict[str, Any]:
        """What a person asked for, at the beginning of a run."""
        asked = self._args["asked"]
        action = str(asked["action"])
        if action == "status":
            return {**self._ask("status"), "channels": []}
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
            return {**status, "orders": [], "channels": []}
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
        """Look and ask again for as long as no device is to be told anything over SSH."""
        self._publish(found)
        while not by_transport(found)[0] and not found["outcome"]:
            if found["mode"] in ("idle", "finished") or self._task.check_mode:
                break
            time.sleep(max(LEAST_WAIT, float(found["wait_seconds"])))
            look = self._look(found) if found.get("watch") else None
            more: dict[str, Any] = {"look": look} if look else {}
            pulled = by_transport(found)[1]
            if pulled:
                more["answers"] = self._fetched({**found, "pulled": pulled})
            found = self._ask("next", generation=found["generation"], **more)
            self._publish(found)
            if look:
                said = found["said"]
                self._tell([look_line(look["ring"], len(look["control"]), said)])
                self._tell([line for line in said if not gate_word(line)])
        return found

    def _look(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """Look at the ring and beside it: over the network, or at what devices have left."""
        watch = told["watch"]
        found = self._look_over(watch)
        ring = [host for host in watch["ring"] if host in self._channels]
        if ring:
            digest = watch["ring"][ring[0]]
            polls = [one["next_poll"] for one in told["channels"] if set(one["hosts"]) & set(ring)]
            within = MISSED_POLLS * float(max(polls, default=self._idle_silent() / MISSED_POLLS))
            found["ring"] = found["ring"] + seen_of_ring(self._states(ring, digest, within=within))
        beside: dict[str, list[str]] = {}
        for host, digest in watch["control"].items():
            if host in self._channels:
                beside.setdefault(digest, []).append(host)
        for digest, hosts in beside.items():
            said = self._states(hosts, digest, within=self._idle_silent())
            found["control"] = found["control"] + seen_of_control(said)
        return found

    def _look_over(self, watch: Mapping[str, Any]) -> dict[str, Any]:
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
                if host in where and host not in self._channels
            ]
            for side in ("ring", "control")
        }
        queries = (self._args["limits"].get("gates") or {}).get("queries") or []
        if not rows["ring"] and not rows["control"] and not queries:
            return {"ring": [], "control": [], "queries": {}}
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

    # -- devices that fetch their orders -------------------------------------------------------

    def _idle_silent(self) -> float:
        """Seconds after which a device of which nothing is awaited counts as silent."""
        return MISSED_IDLE * float(self._args["limits"].get("idle_seconds") or IDLE_SECONDS)

    def _states(self, hosts: list[str], digest: str, **more: Any) -> dict[str, Any]:
        about = {"rollout": "look", "step": "look", **more}
        return self._module("fleet_states", hosts=hosts, model=self._model, digest=digest, **about)

    def _that_fetch(self, hosts: list[str]) -> dict[str, dict[str, Any]]:
        """These devices, as they told how they are."""
        if not hosts:
            return {}
        others = strangers(self._channels, self._args["hosts"])
        if others:
            raise AnsibleActionFail(
                f"The model {self._model} is not for {', '.join(others)}, which follow the channel "
                "of a ring that it is for, and would take it. Name them in hosts of the model in "
                "models, or put them into another group ring_*."
            )
        renewed = self._module("rollout_channel", step="renew", site=self._args["fleet"]["site"])
        if not renewed.get("root"):
            raise AnsibleActionFail(
                f"There is no root document, and {', '.join(hosts[:3])} would believe nothing; "
                "make it with playbooks/fleet_keys.yml."
            )
        digest = str(self._args["release"].get("digest") or "")
        said = self._states(hosts, digest, within=self._idle_silent())
        return told_devices(said, self._channels, hosts)

    def _publish(self, found: Mapping[str, Any]) -> None:
        """Tell by channel what is to be told, where that has not been done yet."""
        if self._task.check_mode:
            return
        classes = {str(one.get("device_class") or "") for one in self._channels.values()} - {""}
        for wanted in found["channels"]:
            before = self._published.get(wanted["channel"])
            if before and alike(before, wanted):
                continue
            about = {"ring": wanted["channel"], "only": self._model}
            if wanted["step"] == PROBE:
                about.update({name: wanted[name] for name in ("probes", "probe_until")})
                self._module(
                    "rollout_channel", step=PROBE, site=self._args["fleet"]["site"], **about
                )
                self._published[wanted["channel"]] = wanted
                continue
            self._module(
                "rollout_channel",
                step="publish",
                site=self._args["fleet"]["site"],
                **about,
                device_classes=sorted(CLASSES | classes),
                models=[{key: wanted[key] for key in SAID}] if wanted["step"] else [],
                next_poll=wanted["next_poll"],
            )
            self._published[wanted["channel"]] = wanted

    def _fetched(self, told: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What those devices have left of their orders since it was handed in last."""
        orders: Mapping[str, Any] = told["pulled"]
        found: list[dict[str, Any]] = []
        for wanted in told["channels"]:
            hosts = [host for host in wanted["hosts"] if host in orders]
            if hosts and wanted["step"]:
                about = {name: wanted[name] for name in ("rollout", "generation", "step")}
                said = self._states(hosts, wanted["digest"], **about)
                self._tell(complaints(said, self._complained))
                found += fresh_answers(said, orders, self._heard)
        return found

    # -- the end -------------------------------------------------------------------------------

    def _end(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Write the pages, and say how it ended to the lookup that ends the run."""
        lines = [row(line) for line in found.get("journal") or ()]
        if not lines and found["rollout"]:
            lines = [row(line) for line in self._ask("status").get("journal") or ()]
        made = report(lines)
        if self._args["asked"]["action"] == "status":
            self._tell(where([line for line in lines if line.rollout == made.get("id")], made))
        if made and self._channels and not self._task.check_mode:
            said = self._states(sorted(self._channels), made["digest"])
            made["lockouts"] = lockouts(said, self._channels)
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


def by_transport(
    found: Mapping[str, Any],
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """The orders that a task carries out, and those that devices fetch."""
    pushed: dict[str, dict[str, Any]] = {}
    pulled: dict[str, dict[str, Any]] = {}
    for order in found["orders"]:
        (pushed if order["transport"] == PUSH else pulled)[order["host"]] = order
    return pushed, pulled


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
