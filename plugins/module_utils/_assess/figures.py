# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arithmetic of the hosts as cells, for a terminal and for the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COLUMNS = ("total", "reserved", "foreign", "demanded", "free", "short")


def figure(value: float, unit: str) -> str:
    """A number of the arithmetic; memory and disk in GiB where MiB would be unreadable."""
    if unit == "MiB":
        return f"{value / 1024:,.1f}G" if abs(value) >= 10240 else f"{value:,.0f}M"
    return f"{value:,.1f}" if unit == "cores" else f"{value:,.0f}"


def capacity_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The arithmetic as cells, one line for each resource of each host."""
    return [
        (
            str(row["host"]),
            str(row["resource"]),
            *(figure(float(row[column]), str(row["unit"])) for column in COLUMNS),
        )
        for row in report["table"]
    ]


def promised(report: Mapping[str, Any], word: Mapping[str, str]) -> str:
    """How often each core is counted in the arithmetic; empty where it is once."""
    times = float((report.get("margins") or {}).get("cpu_overcommit") or 1)
    return "" if times == 1 else word["overcommit"].format(times=times)
