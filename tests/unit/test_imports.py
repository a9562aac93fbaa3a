# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The floors of ``plugins/module_utils``: imports go downwards, never in a circle."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UTILS = ROOT / "plugins" / "module_utils"
COLLECTION = "ansible_collections.mlops.onprem.plugins."

# What each package may import beside itself. A package stands on those below it only.
FLOORS: dict[str, tuple[str, ...]] = {
    "_assess": ("_capacity", "_contracts", "_supply", "_demand", "_planner", "_findings"),
    "_capacity": ("_contracts", "_supply", "_demand", "_planner", "_findings"),
    "_contracts": ("_findings",),
    "_supply": ("_findings",),
    "_demand": ("_planner", "_findings"),
    "_planner": (),
    "_findings": (),
    # beside them
    "_advice": ("_demand", "_planner", "_findings"),
    "_audit": (),
    "_ceph": ("_findings",),
    "_gpu_driver": ("_findings",),
    "_host": ("_findings",),
    "_monitoring": ("_findings",),
    "_people": ("_site", "_findings"),
    "_release": ("_rollout", "_findings"),
    "_rollout": ("_findings",),
    "_serving_checks": ("_findings",),
    "_site": ("_workloads", "_monitoring", "_demand", "_findings"),
    "_slurm": ("_workloads", "_site", "_supply", "_findings"),
    "_trust": ("_findings",),
    "_workloads": ("_supply", "_demand", "_findings"),
}
# The same within the planner; "" is its own floor, which joins the others.
PLANNER = {
    "": ("bounds", "search", "mig"),
    "search": ("", "bounds", "mig"),
    "bounds": ("", "mig"),
    "mig": (),
}
# What travels to hosts imports nothing that is not in Python itself.
TRAVELS = ("_audit", "_supply", "_findings", "_host", "_rollout", "_gpu_driver", "_monitoring")
# What may be imported from elsewhere; modules of Python itself always may.
ELSEWHERE = {
    "_planner": {"numpy", "scipy"},
}
# Thinking has no task at hand: what a module of Ansible knows is handed in.
PURE = (
    "_advice",
    "_assess",
    "_audit",
    "_capacity",
    "_demand",
    "_findings",
    "_gpu_driver",
    "_monitoring",
    "_planner",
    "_rollout",
    "_slurm",
    "_supply",
    "_workloads",
)


# A file that can be read in one sitting. Longer ones outside the tests, and why.
MOST_LINES = 500
LONGER = {
    # One program of one file, which lies on test hosts as nvidia-smi and is started there by name.
    "extensions/lab/gpu_stand_in/stand_in.py",
}


def name_of(path: Path) -> str:
    """The module's name below module_utils: ``_planner.search.state``."""
    parts = path.relative_to(UTILS).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(UTILS.rglob("*.py"))}


@cache
def imported(module: str) -> tuple[str, ...]:
    """All that a module imports, anywhere in it: ours below module_utils, others by full name."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            if node.level:
                base = [*package[: len(package) - node.level + 1], *base]
            within = ".".join(base).removeprefix(f"{COLLECTION}module_utils.")
            inner = [f"{within}.{alias.name}".lstrip(".") for alias in node.names]
            found += [name if name in MODULES else within for name in inner]
    return tuple(found)


def ours(module: str) -> Iterator[str]:
    return (name for name in imported(module) if name in MODULES)


def part_of(module: str) -> str:
    """The room of the planner that a module of it is in."""
    rooms = module.split(".")[1:]
    return rooms[0] if rooms and rooms[0] in PLANNER else ""


def test_no_file_outside_the_tests_is_longer_than_can_be_read() -> None:
    folders = ("plugins", "pipeline", "roles", "extensions", "docs")
    long = {
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if not path.name.startswith("test_") and path.read_text().count("\n") > MOST_LINES
    }
    assert long == LONGER


def test_every_package_has_its_floor() -> None:
    assert {name.partition(".")[0] for name in MODULES if name} <= set(FLOORS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module: str) -> None:
    package = module.partition(".")[0]
    allowed = {package, *FLOORS.get(package, ())}
    assert {name for name in ours(module) if name.partition(".")[0] not in allowed} == set()


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("_planner.")])
def test_the_rooms_of_the_planner_are_in_order(module: str) -> None:
    room = part_of(module)
    reached = {part_of(name) for name in ours(module)}
    assert reached <= {room, *PLANNER[room]}


def test_no_module_imports_itself_by_way_of_others() -> None:
    done: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " → ".join((*way[way.index(module) :], module))
        if module not in done:
            for name in ours(module):
                walk(name, (*way, module))
            done.add(module)

    for module in MODULES:
        walk(module, ())


@pytest.mark.parametrize("module", MODULES)
def test_packages_import_no_plugin_and_pure_ones_nothing_of_ansible(module: str) -> None:
    package = module.partition(".")[0]
    others = {name for name in imported(module) if name not in MODULES}
    assert {name for name in others if name.startswith(COLLECTION)} == set()
    if package in PURE:
        assert {name for name in others if name.partition(".")[0] == "ansible"} == set()


@pytest.mark.parametrize(
    "module", [name for name in MODULES if name.partition(".")[0] in {*TRAVELS, *PURE}]
)
def test_what_travels_and_what_thinks_needs_python_alone(module: str) -> None:
    package = module.partition(".")[0]
    allowed = {*sys.stdlib_module_names, *ELSEWHERE.get(package, ())}
    if package == "_host":  # it acts, by AnsibleModule
        allowed |= {"ansible"}
    found = {name.partition(".")[0] for name in imported(module) if name not in MODULES}
    assert found <= allowed


def with_packages(module: str) -> Iterator[str]:
    """A module and the packages around it, which are imported before it."""
    parts = module.split(".")
    return (
        ".".join(parts[:count])
        for count in range(1, len(parts) + 1)
        if ".".join(parts[:count]) in MODULES
    )


@pytest.mark.parametrize("package", ["_demand", "_site", "_slurm", "_workloads"])
def test_who_only_reads_what_is_wanted_does_not_load_numpy(package: str) -> None:
    """Filters and lookups stand on them, and Ansible loads these for each task of each host."""
    reached: set[str] = set()
    waiting = [name for name in MODULES if name.partition(".")[0] == package]
    while waiting:
        for name in with_packages(waiting.pop()):
            if name not in reached:
                reached.add(name)
                waiting += ours(name)
    heavy = {name for name in reached if {"numpy", "scipy"} & set(imported(name))}
    assert heavy == set()
