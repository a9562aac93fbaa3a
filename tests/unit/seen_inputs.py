"""Print what Ansible gives the plays and roles of playbooks as variables, as JSON.

    ANSIBLE_COLLECTIONS_PATH=.collections python tests/unit/seen_inputs.py INVENTORY HOST NAME...

A process of its own, since Ansible's way of finding collections cannot be taken back in one. The
answer is a list of ``{"play", "role", "seen"}``: for each play once without a role, and once for
each role in it; ``seen`` has the named variables as they are written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.playbook import Playbook
from ansible.playbook.block import Block
from ansible.playbook.task import Task
from ansible.plugins.loader import init_plugin_loader
from ansible.vars.manager import VariableManager

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))


def tasks(entries: list[Any]) -> Iterator[Task]:
    for entry in entries:
        if isinstance(entry, Block):
            yield from tasks([*entry.block, *entry.rescue, *entry.always])
        elif isinstance(entry, Task):
            yield entry


def main(source: str, host: str, names: list[str]) -> list[dict[str, Any]]:
    init_plugin_loader()
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=[source])
    manager = VariableManager(loader=loader, inventory=inventory)
    answer = []
    for name in PLAYBOOKS:
        path = str(ROOT / "playbooks" / f"{name}.yml")
        for play in Playbook.load(path, variable_manager=manager, loader=loader).get_plays():
            if "verdict" in str(play.vars_files):  # it ends a run
                continue
            firsts: dict[str, Task | None] = {"": None}
            for task in tasks(play.compile()):
                if task._role is not None:
                    firsts.setdefault(task._role.get_name().rpartition(".")[2], task)
            for role, task in firsts.items():
                seen = manager.get_vars(play=play, host=inventory.get_host(host), task=task)
                answer.append(
                    {
                        "play": f"{name}: {play.get_name()}",
                        "role": role,
                        "seen": {key: str(seen[key]) for key in names if key in seen},
                    }
                )
    return answer


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], sys.argv[3:])))
