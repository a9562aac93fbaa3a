"""What is told secrets on this machine is told them in memory, not in files of Ansible."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for place in ("playbooks", "roles", "extensions/lab")
    for path in (ROOT / place).rglob("*.yml")
    if {"tasks", "playbooks"} & set(path.relative_to(ROOT).parts)
)
SECRET = ("password", "secret", "_key", "token", "accounts", "databases")


def tasks(rows: Any, local: bool, piped: bool) -> Iterator[tuple[dict[str, Any], bool]]:
    """Every task that runs on this machine, and whether its arguments go through a pipe."""
    for row in rows if isinstance(rows, list) else []:
        here = local or row.get("delegate_to") == "localhost" or row.get("connection") == "local"
        through = piped or bool((row.get("vars") or {}).get("ansible_pipelining"))
        if here:
            yield row, through
        for part in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks"):
            yield from tasks(row.get(part), here, through)


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_local_tasks_with_secrets_use_a_pipe_or_an_action(path: Path) -> None:
    actions = {f"mlops.onprem.{one.stem}" for one in (ROOT / "plugins/action").glob("*.py")}
    for task, piped in tasks(yaml.safe_load(path.read_text()), local=False, piped=False):
        for module, arguments in task.items():
            if "." not in module or module in actions or not isinstance(arguments, dict):
                continue
            told = [name for name in arguments if any(word in name for word in SECRET)]
            assert piped or not told, f"{path}: {task.get('name')} is told {told}"


def test_the_check_of_metrics_is_such_a_task() -> None:
    page = yaml.safe_load((ROOT / "playbooks/pipeline_check.yml").read_text())
    found = [
        task for task, _piped in tasks(page, False, False) if "mlops.onprem.metrics_check" in task
    ]
    assert len(found) == 1
    assert "password" in found[0]["mlops.onprem.metrics_check"]
