# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A boolean may be given as text (INI inventories, -e name=false), and every text is true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from jinja2 import nodes

ROOT = Path(__file__).resolve().parents[2]
CONDITIONS = ("when", "failed_when", "changed_when", "until", "that")


class Page(yaml.CSafeLoader):
    """Tags of Ansible's own are passed over."""


Page.add_multi_constructor("!", lambda _loader, _suffix, _node: None)


def booleans() -> set[str]:
    """Every documented boolean of the roles."""
    found: set[str] = set()
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"].values():
            options = entry.get("options") or {}
            found |= {name for name, option in options.items() if option["type"] == "bool"}
    return found


def judged_raw(template: str, names: set[str]) -> list[str]:
    """The variables by whose truth a template decides as they were given."""
    if not any(name in template for name in names):
        return []
    tree = jinja2.Environment().parse(re.sub(r"{#.*?#}", "", template, flags=re.S))
    judged: list[nodes.Node] = [node.node for node in tree.find_all(nodes.Not)]
    for pair in (*tree.find_all(nodes.And), *tree.find_all(nodes.Or)):
        judged += [pair.left, pair.right]
    judged += [node.test for node in tree.find_all(nodes.CondExpr)]
    judged += [node.test for node in tree.find_all(nodes.If)]
    for compare in tree.find_all(nodes.Compare):
        judged += [compare.expr, *(operand.expr for operand in compare.ops)]
    judged += [
        node.node
        for node in tree.find_all(nodes.Filter)
        if node.name == "ternary" and node.node is not None
    ]
    return sorted({node.name for node in judged if isinstance(node, nodes.Name)} & names)


def strings(value: Any, condition: bool = False) -> Iterator[str]:
    """Every text of a page; a condition as the template that it is."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from strings(entry, key in CONDITIONS)
    elif isinstance(value, list):
        for entry in value:
            yield from strings(entry, condition)
    elif isinstance(value, str):
        yield "{% if " + value + " %}{% endif %}" if condition and "{{" not in value else value


def templates() -> Iterator[tuple[str, str]]:
    folders = [*(ROOT / "roles").glob("*/*"), ROOT / "playbooks"]
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix not in (".yml", ".j2") or folder.name in ("meta", "files"):
                continue
            text = path.read_text(encoding="utf-8")
            for piece in (
                [text] if path.suffix == ".j2" else strings(list(yaml.load_all(text, Page)))
            ):
                yield str(path.relative_to(ROOT)), piece


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{{ 1 if keep else 2 }}", ["keep"]),
        ("{{ 1 if keep | bool else 2 }}", []),
        ("{% if not keep %}a{% endif %}", ["keep"]),
        ("{% if keep %}a{% endif %}", ["keep"]),
        ("{{ keep and other }}", ["keep"]),
        ("{{ keep | ternary(1, 2) }}", ["keep"]),
        ("{{ keep == true }}", ["keep"]),
        ("{{ keep }}", []),
        ("{{ keep | default(false) | bool or other }}", []),
    ],
)
def test_deciding_by_what_may_be_text_is_found(template: str, found: list[str]) -> None:
    assert judged_raw(template, {"keep"}) == found


def test_a_condition_of_a_task_is_a_template() -> None:
    page = yaml.safe_load("- name: x\n  when:\n    - a is defined\n    - not keep\n")
    assert [judged_raw(text, {"keep"}) for text in strings(page)] == [[], [], ["keep"]]


def test_no_role_decides_by_a_boolean_as_it_was_given() -> None:
    names, wrong, read = booleans(), [], 0
    for path, template in templates():
        wrong += [f"{path}: {name}" for name in judged_raw(template, names)]
        read += any(name in template for name in names)
    assert wrong == []
    assert read > 20  # it does see them


@pytest.mark.parametrize("role", ["accounting_db", "metadata_db", "object_store"])
@pytest.mark.parametrize(
    ("said", "kept"), [("false", False), (False, False), ("true", True), (True, True)]
)
def test_what_a_removal_keeps_is_what_was_said(role: str, said: Any, kept: bool) -> None:
    """As with ``-e metadata_db_keep=false``, which is a text."""
    tasks = yaml.load((ROOT / "roles" / role / "tasks/remove.yml").read_text(), Page)
    lists = [
        task["mlops.onprem.host_remove"]["keep"]
        for task in tasks
        if "mlops.onprem.host_remove" in task
    ]
    lists = [text for text in lists if "_keep" in text]
    assert lists
    state = {f"__{role}_state": "/data", f"__{role}_data": "/data", f"{role}_keep": said}
    templar = Templar(loader=DataLoader(), variables=state)
    for text in lists:
        assert templar.template(trust_as_template(text)) == (["/data"] if kept else [])
