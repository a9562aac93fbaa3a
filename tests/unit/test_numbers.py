# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A number may be given as text (INI inventories, -e name=value), and every port is a variable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from jinja2 import nodes

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
# What does arithmetic, or compares, by the type of what it is given.
RECKONING = (nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow)
RECKONING_FILTERS = {"max", "min", "sum", "round", "abs", "range"}


@cache
def options() -> dict[str, dict[str, Any]]:
    """Every documented variable of the roles."""
    found: dict[str, dict[str, Any]] = {}
    for role in ROLES:
        page = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())
        for entry in page["argument_specs"].values():
            found.update(entry.get("options") or {})
    return found


def numeric() -> set[str]:
    return {name for name, option in options().items() if option["type"] in ("int", "float")}


def raw_numbers(text: str, names: set[str]) -> list[str]:
    """The variables that a template reckons with as they were given."""
    tree = jinja2.Environment().parse(re.sub(r"{#.*?#}", "", text, flags=re.S))
    found: list[str] = []

    def name_of(node: nodes.Node) -> None:
        if isinstance(node, nodes.Name) and node.name in names:
            found.append(node.name)

    for node in tree.find_all(RECKONING):
        name_of(node.left)
        name_of(node.right)
    for compare in tree.find_all(nodes.Compare):
        for side in (compare.expr, *(operand.expr for operand in compare.ops)):
            name_of(side)
    calls: list[Any] = [*tree.find_all(nodes.Filter), *tree.find_all(nodes.Call)]
    for call in calls:
        which = str(getattr(call if isinstance(call, nodes.Filter) else call.node, "name", ""))
        if which in RECKONING_FILTERS:
            inside = call.node if isinstance(call, nodes.Filter) else call
            for part in [] if inside is None else [inside, *inside.find_all(nodes.List)]:
                name_of(part)
                for child in part.iter_child_nodes():
                    name_of(child)
    return sorted(set(found))


def templates() -> Iterator[tuple[Path, str]]:
    """Every template, and every condition as one."""
    for folder in [*(ROOT / "roles").iterdir(), ROOT / "playbooks"]:
        for path in sorted(folder.rglob("*")):
            if path.suffix not in (".yml", ".j2") or path.parent.name == "meta":
                continue
            text = path.read_text(encoding="utf-8")
            yield path, text if path.suffix == ".j2" else "\n".join(expressions(text))


def expressions(text: str) -> Iterator[str]:
    """The templates of a page of YAML, one by one: text between them may look like one."""
    yield from re.findall(r"{{.*?}}|{%.*?%}", text, re.S)
    for condition in re.findall(r"^\s*(?:- )?(?:when|failed_when|changed_when): (.+)$", text, re.M):
        if "{{" not in condition and condition[0] not in "[>|":
            yield "{{ " + condition + " }}"


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{{ days * 86400 }}", ["days"]),
        ("{{ (days | int) * 86400 }}", []),
        ("{{ 1 + days }}", ["days"]),
        ("{{ [days, 10] | min }}", ["days"]),
        ("{{ [days | int, 10] | min }}", []),
        ("{{ 'a' if days > 1 else 'b' }}", ["days"]),
        ("{{ 'a' if days | int == 1 else 'b' }}", []),
        ("{{ days }} / 2", []),
        ("{{ max(days, 3) }}", ["days"]),
    ],
)
def test_reckoning_with_what_may_be_text_is_found(template: str, found: list[str]) -> None:
    assert raw_numbers(template, {"days"}) == found


def test_no_role_reckons_with_a_number_as_it_was_given() -> None:
    wrong = []
    for path, text in templates():
        if path.suffix == ".j2":
            pieces = [text]
        else:
            pieces = text.split("\n{")
            pieces = [pieces[0], *("{" + piece for piece in pieces[1:])]
        for piece in pieces:
            try:
                wrong += [f"{path.relative_to(ROOT)}: {n}" for n in raw_numbers(piece, numeric())]
            except jinja2.TemplateSyntaxError:
                continue
    assert wrong == []


def page(path: Path, loader: DataLoader) -> dict[str, Any]:
    if not path.exists():
        return {}
    return dict(without_filters(loader.load_from_file(str(path), trusted_as_template=True)) or {})


def without_filters(value: Any) -> Any:
    """The same with an address where one is computed: no collection is there to compute it."""
    if isinstance(value, dict):
        return {key: without_filters(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_filters(entry) for entry in value]
    return "10.0.0.1" if "mlops.onprem.host_address" in str(value) else value


def demand(role: str, as_text: bool) -> Any:
    """What a role asks of a host, with its numbers as they are or as texts."""
    loader = DataLoader()
    known: dict[str, Any] = {
        "inventory_hostname": "ctl1",
        "inventory_dir": "/nowhere",
        "hostvars": {"ctl1": {"ansible_host": "10.0.0.1"}},
        "groups": {"all": ["ctl1"], "control": ["ctl1"]},
        "monitoring_server": True,
        "monitoring_targets": [{"job": "node", "host": "a", "address": "b", "series": 600}] * 9,
        "monitoring_database": {"host": "a"},
        "role_path": str(ROOT / "roles" / role),
    }
    folder = ROOT / "roles" / role
    defaults = page(folder / "defaults" / "main.yml", loader)
    for name, value in defaults.items():
        if as_text and isinstance(value, (int, float)) and not isinstance(value, bool):
            defaults[name] = str(value)
    variables = {**defaults, **page(folder / "vars" / "main.yml", loader), **known}
    capacity = page(folder / "vars" / "capacity.yml", loader)
    templar = Templar(loader=loader, variables={**variables, **capacity})
    return templar.template(capacity[f"{role}_demand"])


def as_numbers(value: Any) -> Any:
    """Texts of numbers as numbers: a demand may say either."""
    if isinstance(value, dict):
        return {key: as_numbers(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [as_numbers(entry) for entry in value]
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


WITH_DEMAND = [role for role in ROLES if (ROOT / "roles" / role / "vars/capacity.yml").exists()]


@pytest.mark.parametrize("role", WITH_DEMAND)
def test_a_host_is_asked_for_the_same_whether_numbers_are_text_or_not(role: str) -> None:
    plain = as_numbers(demand(role, as_text=False))
    assert plain == as_numbers(demand(role, as_text=True))


@pytest.mark.parametrize("role", WITH_DEMAND)
def test_every_port_is_a_variable_that_is_documented(role: str) -> None:
    text = (ROOT / "roles" / role / "vars" / "capacity.yml").read_text(encoding="utf-8")
    fixed = re.findall(r"\bport: (\d+)", text)
    # The monitor's address is written into the cluster when it is made.
    assert fixed == (["3300"] if role == "object_store" else [])
    named = set(re.findall(r"\bport: \"{{ (\w+)", text))
    assert named <= set(options())
    assert bool(named) == ("port:" in text)


PORT = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\]):(\d{2,5})\b")


def test_no_address_in_a_role_has_a_port_of_its_own() -> None:
    wrong = []
    for role in ROLES:
        for path in (ROOT / "roles" / role).rglob("*"):
            if path.parent.name not in ("tasks", "templates", "vars"):
                continue
            for line in path.read_text(encoding="utf-8").splitlines():
                ports = [] if line.lstrip().startswith("#") else PORT.findall(line)
                wrong += [f"{path.relative_to(ROOT)}: {port}" for port in ports if port != "3300"]
    assert wrong == []
