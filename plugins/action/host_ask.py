# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what roles place, install and run from their own tasks, and asks the host once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader
from ansible_collections.mlops.onprem.plugins.action.host_python_app import (
    archive_of,
    folder_of,
    resolve,
)
from ansible_collections.mlops.onprem.plugins.module_utils._assess.declared import Call
from ansible_collections.mlops.onprem.plugins.module_utils._assess.ways import judged, lasting
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import PlatformError
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import (
    ERROR,
    FAIL,
    PASS,
    Finding,
    replace_role,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.sentence import brief, count
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError
from ansible_collections.mlops.onprem.plugins.module_utils._host import app
from ansible_collections.mlops.onprem.plugins.plugin_utils import settled
from ansible_collections.mlops.onprem.plugins.plugin_utils.role_tasks import RoleTasks
from ansible_collections.mlops.onprem.plugins.plugin_utils.run_so_far import THIS
from ansible_collections.mlops.onprem.plugins.plugin_utils.whose import site_of

RENEW_DAYS = 60.0
WHO = "host_ask"  # by which the findings are replaced when the host is asked again
# What a finding wanted, by the module that would refuse.
WANTED = {
    "host_files": "a free place for the users, directories and files of the role",
    "host_packages": "packages that apt can fetch and install without removing others",
    "host_python_app": "a Python environment that can be built and placed",
    "host_service": "units that nobody else has",
    "host_quadlet": "a podman that reads quadlets, and names that nobody else has",
    "host_certificate": "a free place for the key and the certificate of the host",
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry point."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False
    _VALID_ARGS = frozenset(("roles",))

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _checked, given = self.validate_argument_spec(
            argument_spec={"roles": {"type": "list", "elements": "str", "required": True}}
        )
        variables = task_vars or {}
        self._host = str(variables["inventory_hostname"])
        self._locks: dict[str, str] = {}
        self._questions: list[dict[str, Any]] = []
        self._findings: list[Finding] = []
        self._settled: dict[str, dict[str, Any]] = {}
        self._brought: set[tuple[str, str]] = set()
        for role in given["roles"]:
            self._prepare(role, variables)
        for role in given["roles"]:
            self._prepare_quietly(role, variables)
        self._ask(given["roles"], variables)
        if not self._findings:
            asked = count(sum(one["refused"] for one in self._questions), "task")
            found = f"{asked} of {count(len(given['roles']), 'role')} would be accepted"
            self._findings.append(Finding("host_ask.refusals", self._host, PASS, found))
        facts = variables.get("ansible_facts") or {}
        rows = [finding.as_dict() for finding in self._findings]
        kept = replace_role(facts.get("mlops_findings"), WHO, rows)
        result.update(changed=False, ansible_facts={"mlops_findings": kept}, settled=self._settled)
        return result

    def _prepare(self, role: str, variables: Mapping[str, Any]) -> None:
        """Turn the tasks of a role into questions."""
        kind = "preflight"
        try:
            tasks = self._tasks(role, variables)
            for call in tasks.calls(tasks.variables.get(f"__{role}_ask_tasks", "main.yml")):
                kind = call.module
                self._take(tasks, role, call, refused=True)
            self._locks |= tasks.locks
        except (AnsibleError, PlatformError, ShapeError) as error:
            said = f"{_said(error)}; correct the variable it speaks of"
            if _refused(role, variables):
                # What is wrong was told by the role; here it is told in the words of templates.
                said = (
                    f"what {role} would place could not be made out, as a value that it needs is "
                    f"wrong; mend what else is said of {role}, then assess again"
                )
            self._found(role, kind, ERROR, said)

    def _prepare_quietly(self, role: str, variables: Mapping[str, Any]) -> None:
        """Add what may be settled and takes nothing: what is removed, and the tasks of a role that
        this one brings along, which is asked about refusals by itself."""
        try:
            tasks = self._tasks(role, variables)
            entry = tasks.variables.get(f"__{role}_ask_tasks", "main.yml")
            for call in tasks.calls(entry, ("host_remove",)):
                self._take(tasks, role, call, refused=False)
            for call in tasks.calls(entry, ("include_role",)):
                for templar, scope in tasks.rounds(call):
                    self._bring(templar.template(call.args), templar, scope, call, variables)
        except (AnsibleError, PlatformError, ShapeError):
            return  # then nothing of it is known before, and its tasks are done as they come

    def _bring(
        self,
        given: Mapping[str, Any],
        templar: Any,
        scope: Mapping[str, Any],
        call: Call,
        variables: Mapping[str, Any],
    ) -> None:
        name = str(given["name"]).rpartition(".")[2]
        which = (name, str(given.get("tasks_from", "main")))
        own = [key for more in call.variables for key in more]
        more = {key: templar.template(scope[key]) for key in own}
        # What stands in vars/ask.yml for what the first of several would have found.
        more["__asked_again"] = which in self._brought
        self._brought.add(which)
        tasks = self._tasks(name, variables, more)
        for brought in tasks.calls(f"{which[1]}.yml"):
            self._take(tasks, name, brought, refused=False)

    def _take(self, tasks: RoleTasks, role: str, call: Call, refused: bool) -> None:
        """Take a task up among the questions, for each time that it would run."""
        for templar, scope in tasks.rounds(call):
            params = tasks.params(call, templar, scope, _digested)
            owner = str(params.get("role") or role)
            self._questions.append(
                {"role": owner, "module": call.module, "params": params, "refused": refused}
            )

    def _tasks(
        self, role: str, variables: Mapping[str, Any], more: Mapping[str, Any] | None = None
    ) -> RoleTasks:
        # A secret that does not exist yet is made up, and not kept.
        more = {"ansible_check_mode": True, **(more or {})}
        return RoleTasks(self._loader, self._templar, role, variables, more, asked=True)

    def _ask(self, roles: Sequence[str], variables: dict[str, Any]) -> None:
        ways = self._ways(variables)
        places = [(way["address"], way["port"]) for way in ways]
        asked = json.dumps(
            {
                "key": THIS.key,
                "questions": self._questions,
                "places": places,
                "site": site_of(variables, self._templar),
            },
            default=str,
        )
        answer: dict[str, Any] = self._execute_module(
            "mlops.onprem.host_ask",
            module_args={"roles": list(roles), "questions": asked},
            task_vars=variables,
        )
        if answer.get("failed"):
            parts = (answer.get(key) for key in ("msg", "module_stdout", "module_stderr"))
            said = " ".join(str(part) for part in parts if part)
            self._found(WHO, "refusals", ERROR, f"the host could not be asked: {said}")
            return
        self._settled = {
            settled.name_of(question["module"], question["params"]): answer["settled"][str(at)]
            for at, question in enumerate(self._questions)
            if str(at) in answer.get("settled", {})
        }
        self._findings += lasting(
            self._host, answer["certificate_days"], self._renew_days(variables)
        )
        self._findings += judged(self._host, ways, answer["places"])
        for row in answer["refusals"]:
            self._found(_role(row["role"], roles), row["module"], FAIL, row["said"])
        cache = folder_of(self._templar, variables)
        for row in answer["build"]:
            target = app.Target(row["version"], row["machine"], row["libc"])
            text = self._locks[row["digest"]]
            try:
                if not archive_of(text, target, cache).exists():
                    resolve(text, target)
            except PlatformError as error:
                said = f"{_said(error)}; {_way_on(str(error))}"
                self._found(row["role"], "host_python_app", FAIL, said)

    def _renew_days(self, variables: Mapping[str, Any]) -> float:
        """When a run renews the certificate; what is wrong with the variable is told elsewhere."""
        view = self._tasks("trust", variables).variables
        templar = self._templar.copy_with_new_env(available_variables=view)
        try:
            return float(templar.template(view["trust_renew_days"]))
        except (AnsibleError, TypeError, ValueError):
            return RENEW_DAYS

    def _ways(self, variables: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The places that the host will talk to, without hosts that are known not to answer."""
        lookup = lookup_loader.get("mlops.onprem.site", loader=self._loader, templar=self._templar)
        try:
            (known,) = lookup.run(["ways"], dict(variables))
        except AnsibleError:
            return []  # what hinders it is told for the role that it belongs to
        hosts = variables.get("hostvars") or {}
        return [way for way in known if not _away(hosts, way["target"])]

    def _found(self, role: str, module: str, severity: str, said: str) -> None:
        """Take down a refusal; in each sentence the remedy stands last."""
        text = said.strip().rstrip(".")
        found, _sign, remedy = text.rpartition("; ")
        kind = module.removeprefix("host_")
        self._findings.append(
            Finding(
                f"{role}.{kind}",
                self._host,
                severity,
                brief(found or text, 600),
                WANTED.get(module, "a host that can be asked"),
                remedy if found else "mend it as it is said, and assess again",
            )
        )


def _refused(role: str, variables: Mapping[str, Any]) -> bool:
    """Whether a role was told to be wrong about something, on this host or on another one."""
    hosts = variables.get("hostvars") or {}
    rows = [
        row
        for facts in (variables, *(hosts[name] for name in hosts))
        for row in (facts.get("ansible_facts") or {}).get("mlops_findings") or ()
    ]
    return any(row.get("role") == role and row.get("severity") in (FAIL, ERROR) for row in rows)


def _away(hosts: Mapping[str, Any], name: str) -> bool:
    """Whether a host of the site was not reached in this run, or was left out of it."""
    if name not in hosts:
        return False  # not managed by the site, or nobody's
    facts = hosts[name].get("ansible_facts") or {}
    return "os" not in (facts.get("mlops_supply") or {})


def _digested(sent: dict[str, Any], content: bytes | None, _row: Any) -> dict[str, Any]:
    return settled.digested(sent, content)


def _role(owner: str, roles: Sequence[str]) -> str:
    """The role of an owner in the ledger, such as a second worker of a role."""
    fitting = [role for role in roles if owner == role or owner.startswith(role + "_")]
    return max(fitting, key=len, default=owner)


def _way_on(said: str) -> str:
    """What helps when an environment cannot be had."""
    if "no usable wheels" in said or "no wheels with a matching" in said:
        return "place the role on a host with a Python and a machine that it is made for"
    return "look at the controller's way to the index of Python packages, with: pip config list"


def _said(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".").removeprefix("Task failed: ")
