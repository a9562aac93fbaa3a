# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the code that the pipeline shares with modules and devices importable by its one name.

The pipeline ships inside the collection as ``pipeline/`` and runs in an environment without
Ansible, whose importer usually finds ``ansible_collections.mlops.onprem``.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def make_importable() -> None:
    """Let the name of the collection stand for the directory that this file lies in."""
    for name, place in (
        ("ansible_collections", []),
        ("ansible_collections.mlops", []),
        ("ansible_collections.mlops.onprem", [str(ROOT)]),
    ):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            package = types.ModuleType(name)
            package.__path__ = place
            sys.modules[name] = package
