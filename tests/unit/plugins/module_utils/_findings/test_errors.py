# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An error that is a sentence ends a module as its message; any other is a mistake of ours."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._findings import errors
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError

PACKAGES = Path(__file__).resolve().parents[5] / "plugins" / "module_utils"


class Ended(Exception):
    pass


class Module:
    """As much of an AnsibleModule as its end needs."""

    def fail_json(self, msg: str) -> None:
        raise Ended(f"failed: {msg}")

    def exit_json(self, **result: Any) -> None:
        raise Ended(f"ok: {result}")


def end(answer: Any) -> str:
    def work(_module: Any) -> dict[str, Any]:
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    with pytest.raises(Ended) as ended:
        errors.finish(Module(), work)
    return str(ended.value)


def test_a_result_is_handed_on() -> None:
    assert end({"changed": True}) == "ok: {'changed': True}"


@pytest.mark.parametrize("kind", [errors.PlatformError, HostError])
def test_a_sentence_becomes_the_message(kind: type[Exception]) -> None:
    assert end(kind("The disk is full; free 3 GiB.")) == "failed: The disk is full; free 3 GiB."


def test_a_lack_of_rights_names_the_remedy() -> None:
    assert end(PermissionError(13, "Permission denied", "/etc/x")) == (
        "failed: [Errno 13] Permission denied: '/etc/x'. "
        "This needs root: set become: true for the play."
    )


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    def work(_module: Any) -> dict[str, Any]:
        raise KeyError("x")

    with pytest.raises(KeyError):
        errors.finish(Module(), work)


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    told = set(re.findall(r"^\s*(?:[│├└─ ]*)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE))
    found = {"PlatformError"}
    classes = [
        (node.name, {getattr(base, "id", "") for base in node.bases})
        for path in PACKAGES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    while more := {name for name, bases in classes if bases & found} - found:
        found |= more
    assert told == found
