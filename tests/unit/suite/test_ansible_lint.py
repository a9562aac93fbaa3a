"""ansible-lint checks the syntax of everything at once; what is refused is told as by itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

pytest.importorskip("ansiblelint", reason="only the older ansible-core has its linter here")

from ansiblelint.app import App
from ansiblelint.file_utils import Lintable
from ansiblelint.runner import Runner

from tests import ansible_lint

GOOD = "- hosts: localhost\n  tasks:\n    - ansible.builtin.debug: {msg: one}\n"
BROKEN = "- hosts: localhost\n  tasks:\n    - ansible.builtin.no_such: {}\n"
TASKS = "- ansible.builtin.debug: {msg: one}\n"


@pytest.mark.parametrize(
    ("play", "tasks", "asked"),
    [
        (GOOD, TASKS, []),
        (BROKEN, TASKS, ["a.yml", "b.yml", "role"]),
        (GOOD, "- ansible.builtin.no_such: {}\n", ["a.yml", "b.yml", "role"]),
        (GOOD, "- block: {}\n  rescue\n", ["a.yml", "b.yml", "role"]),
    ],
)
def test_each_is_asked_by_itself_only_if_something_is_refused(
    play: str, tasks: str, asked: list[str], tmp_path: Path
) -> None:
    role = tmp_path / "role"
    (role / "tasks").mkdir(parents=True)
    (role / "tasks" / "main.yml").write_text(tasks)
    (tmp_path / "a.yml").write_text(GOOD)
    (tmp_path / "b.yml").write_text(play)
    files = [
        Lintable(tmp_path / "a.yml", kind="playbook"),
        Lintable(tmp_path / "b.yml", kind="playbook"),
        Lintable(role, kind="role"),
    ]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    runner = Runner.__new__(Runner)
    runtime = SimpleNamespace(environ={**os.environ, "PATH": path})
    runner.app = cast(App, SimpleNamespace(runtime=runtime))

    def worker(file: Lintable) -> list[str]:
        return [file.path.name]

    found = ansible_lint.together(runner, worker, files)
    assert [name for names in found for name in names] == asked


def test_nothing_to_check_is_accepted() -> None:
    assert ansible_lint.accepted([], {})
