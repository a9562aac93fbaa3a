# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load once what Ansible would load again for each task of each host.

Ansible forks a worker for each task of each host. It compiles plugins of collections anew in each
process that needs them, and looks for a filter by loading the files of all filters before it. What
the first process has loaded, its workers have too.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins import loader

PLUGINS = Path(__file__).resolve().parents[1]
ROOT = PLUGINS.parent
COLLECTION = "mlops.onprem"
# Of Ansible itself: what the tasks of the roles are carried by.
BUILTIN = {
    "action_loader": ("normal", "template", "copy", "command", "set_fact"),
    "become_loader": ("sudo",),
    "connection_loader": ("ssh", "local"),
    "lookup_loader": ("env", "file", "template"),
    "shell_loader": ("sh",),
}
ACTIONS = frozenset(f"{COLLECTION}.{path.stem}" for path in (PLUGINS / "action").glob("*.py"))
JINJA = {"filter_loader": "filter", "test_loader": "test"}


def plugins() -> Iterator[tuple[Any, str, bool]]:
    """Loaders and the names that they are asked for, and whether they give classes."""
    for name, builtin in BUILTIN.items():
        for one in builtin:
            yield getattr(loader, name), f"ansible.builtin.{one}", True
    for path in sorted((PLUGINS / "lookup").glob("*.py")):
        yield loader.lookup_loader, f"{COLLECTION}.{path.stem}", True
    for name, kind in JINJA.items():
        for path in sorted((PLUGINS / kind).glob("*.py")):
            yield getattr(loader, name), f"{COLLECTION}.{path.stem}", False


@cache
def preload() -> None:
    """Load them. What cannot be loaded is told by the task that needs it, with its own words."""
    for one, name, as_class in plugins():
        try:
            if as_class:
                one.get(name, class_only=True)
            else:
                one.get(name)
        except Exception:  # noqa: S112
            continue
    # What the collection says of itself, which a worker would read anew from some forty files.
    with suppress(Exception):
        site = loader.lookup_loader.get(f"{COLLECTION}.site", class_only=True)
        sys.modules[site.__module__].description()
    # Workers share this memory as long as their collector does not walk through it.
    gc.collect()
    gc.freeze()
    # Nor does the collector of a worker walk through what came after.
    os.register_at_fork(after_in_child=gc.freeze)


@cache
def preload_action(name: str) -> None:
    """Load an action of this collection, and what it imports."""
    if name not in ACTIONS:
        return
    try:
        loader.action_loader.get(name, class_only=True)
    except Exception:  # told by the task, as above
        return
    gc.freeze()


def keep_variables(files: Any, search: Sequence[str], names: Iterable[Any]) -> None:
    """Let the loader of files keep our own files of variables, which Ansible parses for each task.

    A file of somebody else's could be written anew while the run lasts, by one of its tasks.
    """
    for name in names:
        if not isinstance(name, str) or "{{" in name:
            continue
        try:
            path = files.path_dwim_relative_stack(list(search), "vars", name)
            if ROOT in Path(path).resolve().parents:
                files.load_from_file(path, cache="all", unsafe=True, trusted_as_template=True)
        except AnsibleError:
            continue
