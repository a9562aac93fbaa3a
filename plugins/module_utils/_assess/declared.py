# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role says in its own tasks that it places, installs and runs on a host.

The tasks themselves are the declaration, so that the assessment cannot drift from the run. Of the
files that they import every call of a module is found; roles that they include are asked by
themselves. Nothing is templated here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .._findings.shape import ShapeError

COLLECTION = "mlops.onprem."
MODULES = (
    "host_files",
    "host_packages",
    "host_python_app",
    "host_service",
    "host_quadlet",
    "host_certificate",
)
IMPORTS = ("import_tasks", "include_tasks")
# The variable by which a task says that it is done on another host than the one that is asked.
ELSEWHERE = "__asked_elsewhere"
BLOCKS = ("block", "rescue", "always")
# What a task may say of itself beside its module.
KNOWN = ("name", "when", "vars", "loop", "loop_control", "tags", "register", "notify", "no_log")


@dataclass(frozen=True)
class Call:
    """A task that calls a module, with everything that decides how often and with what."""

    module: str
    name: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    when: tuple[Any, ...] = ()
    variables: tuple[Mapping[str, Any], ...] = ()
    loop: Any = None
    loop_var: str = "item"
    index_var: str = ""


def calls(
    load: Callable[[str], Sequence[Mapping[str, Any]]],
    entry: str,
    words: Collection[str] = MODULES,
) -> list[Call]:
    """All calls of the modules, in the order of the run.

    ``load`` gives the tasks of a file by its name (``install.yml``); ``entry`` is the first;
    ``words`` are the modules, or what else tasks are found by.
    """
    return list(_tasks(load, load(entry) or [], Call(""), words))


def _tasks(
    load: Callable[[str], Sequence[Mapping[str, Any]]],
    tasks: Sequence[Mapping[str, Any]],
    above: Call,
    words: Collection[str],
) -> Iterator[Call]:
    for task in tasks:
        if (task.get("vars") or {}).get(ELSEWHERE):
            continue
        here = _inherited(above, task)
        for part in BLOCKS:
            yield from _tasks(load, task.get(part) or [], here, words)
        for key, value in task.items():
            name = str(key).removeprefix("ansible.builtin.")
            if name in IMPORTS:
                file = value.get("file") if isinstance(value, Mapping) else value
                yield from _tasks(load, load(str(file)) or [], here, words)
            elif name.removeprefix(COLLECTION) in words:
                yield _call(here, task, str(key), value)


def _inherited(above: Call, task: Mapping[str, Any]) -> Call:
    when = task.get("when", [])
    conditions = tuple(when) if isinstance(when, (list, tuple)) else (when,)
    variables = (task["vars"],) if task.get("vars") else ()
    return replace(above, when=(*above.when, *conditions), variables=(*above.variables, *variables))


def _call(here: Call, task: Mapping[str, Any], key: str, args: Any) -> Call:
    name = str(task.get("name") or key)
    strange = [word for word in task if word != key and word not in KNOWN]
    if strange:
        raise ShapeError(
            f"task {name!r} says {', '.join(strange)}, which cannot be asked beforehand"
        )
    control = task.get("loop_control") or {}
    return replace(
        here,
        module=key.removeprefix("ansible.builtin.").removeprefix(COLLECTION),
        name=name,
        args=args or {},
        loop=task.get("loop"),
        loop_var=control.get("loop_var", "item"),
        index_var=control.get("index_var", ""),
    )
