# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs leave in the object store, those that people have deleted among them.

MLflow hides a deleted run and keeps its files until they are removed for good. How much runs write
is declared, not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._findings.sentence import amount, counted
from .site import Site

ROLE = "model_registry"
PER_DAY, KEPT, DELETED = "artifacts_mib_per_day", "runs_kept_days", "deleted_days"
YEAR = 365
GIB = 1024  # MiB

Row = dict[str, str]


def of_runs(site: Site) -> dict[str, float]:
    """MiB that runs write a day, days until they are deleted and from then until their files go.

    0 MiB is unknown, 0 days is never.
    """
    found = {
        PER_DAY: site.of("model_registry", "artifacts_mib_per_day"),
        KEPT: site.of("model_registry", "runs_kept_days"),
        DELETED: site.of("model_registry", "deleted_days"),
    }
    return {name: float(value or 0) for name, value in found.items()}


def finding(told: Mapping[str, Any], room_gib: float, quotas: Mapping[str, Any]) -> Row:
    """Whether that fits into the quota of the account, or else into the store.

    ``told`` is what :func:`of_runs` returns; ``room_gib`` is what the managed store holds, 0 is
    unknown.
    """
    quota = float(quotas.get(ROLE) or 0)
    limit = quota or room_gib
    severity, found = _judged(told, limit)
    wanted = (
        f"at most {amount(limit, 1)} GiB, which is "
        + (f"the quota of {ROLE}" if quota else "what the disks of the object store hold")
        if limit
        else "room for it in the object store, of which nothing is known here"
    )
    return {
        "id": "object_store.artifacts",
        "severity": severity,
        "found": found,
        "wanted": wanted,
        "remedy": "raise object_store_quotas or add disks to object_store_osds, set or lower "
        f"{ROLE}_{DELETED}, delete runs earlier ({ROLE}_{KEPT}), or correct {ROLE}_{PER_DAY}",
    }


def _judged(told: Mapping[str, Any], limit: float) -> tuple[str, str]:
    daily, kept, deleted = (float(told.get(name) or 0) for name in (PER_DAY, KEPT, DELETED))
    stay = f"for {counted(int(deleted), 'more day')}" if deleted else "for ever"
    if not daily:
        return "pass", (
            f"what runs write a day is unknown, as {ROLE}_{PER_DAY} is not set; files of deleted "
            f"runs stay {stay}"
        )
    found = f"{amount(daily, 1)} MiB a day of runs"
    if kept and deleted:
        gib = daily * (kept + deleted) / GIB
        found += (
            f" that are deleted after {counted(int(kept), 'day')} and whose files stay {stay}: "
            f"{amount(gib, 1)} GiB, {amount(daily * deleted / GIB, 1)} of them of deleted runs"
        )
        return "fail" if limit and gib > limit else "pass", found
    gib = daily * YEAR / GIB
    found += (
        f" that are deleted after {counted(int(kept), 'day')} and whose files stay {stay}"
        if kept
        else " that nobody is said to delete"
    )
    found += f": {amount(gib, 1)} GiB more each year"
    if kept and kept < YEAR:
        found += f", {amount(daily * (YEAR - kept) / GIB, 1)} of the first of deleted runs"
    if not limit or gib <= limit:
        return "pass", found
    return "warn", f"{found}, so that it is full after {counted(int(limit * GIB / daily), 'day')}"
