# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tasks would leave as it is, found by the plans of their modules and without a change.

A task is settled if its module would change nothing on the host, note nothing new in the ledger,
and not have to wait. Its answer is then what the module would return. Of anything else, also of
what would be refused, nothing is said here: the task itself tells it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import (
    app_apply,
    apt,
    files,
    files_apply,
    files_plan,
    packages,
    packages_apply,
    probe,
    service_apply,
    service_plan,
    unit,
)
from .args import role_of
from .errors import HostError
from .ledger import Ledger
from .steps import report

Answer = dict[str, Any]
HEALTH_SECONDS = 5.0  # a healthy service answers at once; the task itself has its whole time


def answer(
    module: str,
    params: Mapping[str, Any],
    ledger: Ledger,
    content: Callable[[bytes], bytes],
) -> Answer | None:
    """What a module would return, if it would leave everything as it is.

    ``content`` turns what a file contains into what stands for it in the parameters.
    """
    try:
        if module == "host_files":
            return _files(params, ledger, content)
        return _BY_MODULE[module](params, ledger) if module in _BY_MODULE else None
    except (HostError, OSError, KeyError, ValueError):
        return None


def _files(
    params: Mapping[str, Any], ledger: Ledger, content: Callable[[bytes], bytes]
) -> Answer | None:
    wanted = files.wanted_of(params)
    before = files_plan.standing_for(files_apply.read(wanted), content)
    steps, owners = files_plan.plan_and_owners(before, wanted, ledger, role_of(params))
    if any(step.act or step.said or step.ledger != ledger for step in steps):
        return None
    return {**report(steps), "owners": owners}


def _packages(params: Mapping[str, Any], ledger: Ledger) -> Answer | None:
    role, names = role_of(params), list(dict.fromkeys(params["name"]))
    if params["undo"] or params["hold"] is not None:
        return None
    if ledger.transaction is not None or apt.interrupted():
        return None
    if packages.lacking(names, apt.states(names)):
        return None
    if packages.shared(ledger, role, names) != ledger:
        return None
    if not packages_apply.marked(ledger, role):
        return None
    if packages_apply.would_disable(ledger, role, params["disable_units"]):
        return None
    keys = [("package", name) for name in names]
    keys += [("rested", name) for name in params["disable_units"]]
    nothing: list[str] = []
    return {
        "changed": False,
        "installed": nothing,
        "upgraded": nothing,
        "disabled": nothing,
        "held": nothing,
        "repaired": False,
        "owners": ledger.owners_of_all(keys),
        "diff": [],
    }


def _application(params: Mapping[str, Any], ledger: Ledger) -> Answer | None:
    wanted = app_apply.environment_of(params)
    if not app_apply.installed(wanted) or app_apply.damaged(wanted):
        return None
    if app_apply.claimed(ledger, role_of(params), wanted) != ledger:
        return None
    if app_apply.misfits(wanted, ledger):
        return None
    return app_apply.told(wanted, lacking=False)


def _service(params: Mapping[str, Any], ledger: Ledger) -> Answer | None:
    role, service = role_of(params), unit.service_of(params)
    answer = {"changed": False, "action": "nothing", "changes": [], "waited": 0.0}
    if params["only_if_present"]:
        there = ledger.get("unit", service.unit)
        if there is None:
            return {**answer, "owners": None}
        role = there.owners[0]
    follows = service_apply.follows_of(params)
    before = service_apply.read(service, follows)
    planned = service_plan.plan(before, service, ledger, role)
    if planned.action != "nothing" or any(
        step.act or step.said or step.ledger != ledger for step in planned.steps
    ):
        return None
    invocation = before.running.invocation
    if service_apply.as_noted(ledger, service, follows, role, before.inputs, invocation) != ledger:
        return None
    if service_plan.unsteady(service.unit, before.running, before.running, before.shown):
        return None
    if params["health"] and probe.ask(params["health"], _patience(params["health"])):
        return None
    return {**answer, "diff": [], "owners": ledger.owners_of_all(service_apply.keys(service))}


def _removal(params: Mapping[str, Any], ledger: Ledger) -> Answer | None:
    there = ledger.of(role_of(params))
    if params["only"]:
        parts = set(params["only"])
        there = tuple(one for one in there if one.name.removesuffix(".service") in parts)
    if params["unless"] or there or ledger.transaction is not None:
        return None
    return {"changed": False, "removed": [], "kept": []}


def _patience(health: Mapping[str, Any]) -> float:
    return float(min(HEALTH_SECONDS, health["timeout"]))


_BY_MODULE: Mapping[str, Callable[[Mapping[str, Any], Ledger], Answer | None]] = {
    "host_packages": _packages,
    "host_python_app": _application,
    "host_service": _service,
    "host_remove": _removal,
}
