# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that a person is told for this very site."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

# What the Makefile takes where no inventory is named.
MADE_FOR = "inventories/lab"
PLAYBOOKS = {
    "pipeline": "mlops.onprem.pipeline_check",
    "check": "mlops.onprem.site --check --diff",
    "assess": "mlops.onprem.assess",
    "remove": "mlops.onprem.remove",
}


def commands(sources: Sequence[str], root: str, makefile: bool) -> dict[str, str]:
    """What to type for each verb, always with the inventory of this run.

    ``sources`` are the inventories of the run, ``root`` the directory of the collection and
    ``makefile`` whether that is a checkout with a Makefile; an installed collection has none.
    """
    named = [source_name(source, root) for source in sources]
    if makefile and len(named) == 1:
        inventory = "" if named[0] == MADE_FOR else f" INVENTORY={shlex.quote(named[0])}"
        return {verb: f"make {verb}{inventory}" for verb in PLAYBOOKS}
    inventories = " ".join(f"-i {shlex.quote(name)}" for name in named)
    return {
        verb: f"ansible-playbook {inventories} {playbook}" for verb, playbook in PLAYBOOKS.items()
    }


def source_name(source: str, root: str) -> str:
    """An inventory as a person would type it: relative within the checkout, else in full."""
    path = os.path.normpath(source)
    inside = os.path.relpath(path, os.path.realpath(root)) if os.path.isabs(path) else path
    if not inside.startswith(os.pardir):
        return inside
    outside = os.path.relpath(os.path.realpath(path), os.path.realpath(root))
    return path if outside.startswith(os.pardir) else outside
