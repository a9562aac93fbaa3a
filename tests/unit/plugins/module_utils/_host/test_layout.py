# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The package keeps thinking and hands apart, as its docstring says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils import _host

FOLDER = Path(__file__).resolve().parents[5] / "plugins" / "module_utils" / "_host"
THINKING, HANDS = (
    set(re.findall(r"\b[a-z]\w*", re.sub(r"(?m)^ {4}(.*?)(  +.*)?$", r"\1", part)))
    for part in (_host.__doc__ or "")
    .partition("Thinking: values in, values out, no look at a host.")[2]
    .split("Hands: they look at a host and change it.")
)
MODULES = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}


def imported(name: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = node.level == 1 and node.module is None
            found |= {one.name for one in node.names} if inner else {node.module or ""}
    return found


def test_every_module_stands_in_the_docstring_once() -> None:
    assert THINKING | HANDS == MODULES
    assert not THINKING & HANDS


@pytest.mark.parametrize("name", sorted(THINKING))
def test_what_thinks_has_no_hands(name: str) -> None:
    outside = {"os", "subprocess", "shutil", "glob", "pwd", "grp", "socket", "time", "tempfile"}
    assert not imported(name) & (outside | HANDS)
