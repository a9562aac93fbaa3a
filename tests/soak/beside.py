# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab once more, beside it: the same inventory and hosts in a network of their own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "inventories" / "lab"
HANDED_OVER = ("secrets.yml", "company*.yml")
"""What the builder and a first run write into an inventory."""


class Misplaced(ValueError):
    """What was to be replaced does not stand there; the message says where it was looked for."""


def put(text: str, values: Mapping[str, str]) -> str:
    """Put one thing in the place of another; each of them has to stand there."""
    for old, new in values.items():
        if old not in text:
            raise Misplaced(f"{old!r} does not stand in\n{text}")
        text = text.replace(old, new)
    return text


def write(place: Path, network: str, project: str) -> tuple[Path, Path]:
    """Write an inventory and a topology below a place, for a network such as ``10.213``.

    What an earlier run left there of secrets and state is kept, as in the lab.
    """
    site, topology = place / "site", place / "topology.toml"
    moved = {"10.203.": f"{network}."}
    shutil.copytree(
        LAB / "group_vars",
        site / "group_vars",
        ignore=shutil.ignore_patterns(*HANDED_OVER),
        dirs_exist_ok=True,
    )
    settings = site / "group_vars/all/site.yml"
    settings.write_text(put(settings.read_text("utf-8"), moved), "utf-8")
    hosts = (LAB / "hosts.yml").read_text("utf-8")
    (site / "hosts.yml").write_text(put(hosts, moved), "utf-8")
    names = {
        'project = "lab"': f'project = "{project}"',
        'inventory = "../../inventories/lab"': 'inventory = "site"',
    }
    lab = (ROOT / "extensions/lab/lab.toml").read_text("utf-8")
    topology.write_text(put(lab, {**moved, **names}), "utf-8")
    return site, topology
