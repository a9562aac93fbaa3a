# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection itself says: the table of roles, what they provide, their defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .provides import Provides, parse_provides
from .table import Row, groups_of, parse_table

PIPELINE = "pipeline"


@dataclass(frozen=True)
class Description:
    """The table, what every role provides by its name, and every default as it is written."""

    table: tuple[Row, ...]
    groups: tuple[str, ...]
    provides: Mapping[str, Provides]
    defaults: Mapping[str, Any]

    @property
    def secrets(self) -> frozenset[str]:
        """Names of the secrets that databases and accounts have."""
        return frozenset(name for entry in self.provides.values() for name in entry.secrets)


def describe(root: Path, load: Callable[[Path], Any]) -> Description:
    """Read it from the collection below C(root); C(load) parses a file of YAML."""
    page = load(root / "playbooks" / "vars" / "site.yml")
    table = parse_table(page["site_roles"])
    provides = {
        row.role: parse_provides(
            row.role,
            load(root / "roles" / row.role / "vars" / "provides.yml")[f"{row.role}_provides"],
        )
        for row in table
    }
    provides[PIPELINE] = parse_provides(PIPELINE, page["site_pipeline_provides"])
    defaults: dict[str, Any] = {}
    for row in table:
        file = root / "roles" / row.role / "defaults" / "main.yml"
        if file.exists():
            defaults.update(load(file) or {})
    return Description(table, groups_of(table, page["site_groups"]), provides, defaults)
