# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hands for packages: look at dpkg, install what is missing, quiet what came with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import apt, packages
from .errors import HostError
from .system import Book, must, properties


def finish_interrupted(book: Book, check: bool) -> bool:
    """Finish what a killed run left; whether there was anything."""
    repaired = book.ledger.transaction is not None or apt.interrupted()
    if check:
        return repaired
    repaired = apt.restore_policy() or repaired
    if repaired:
        apt.quiet_daemons()
        try:
            apt.repair()
        finally:
            apt.restore_policy()
    return repaired


def foresee(words: Sequence[str], missing: Sequence[str]) -> packages.Simulated:
    """What an installation would bring, as far as it can be known without a change."""
    # Refreshing the lists would be a change; without them the answer is what was asked for.
    ran = apt.apt("-s", *words)
    if ran.rc == 0:
        return packages.simulated(ran.out)
    return packages.Simulated(tuple(missing), (), ())


def install(
    book: Book, role: str, words: Sequence[str], missing: Sequence[str]
) -> packages.Simulated:
    """Install in one transaction that is recorded before it begins; what it brought."""
    plan, refreshed = apt.simulate(words)
    packages.refuse_removals(plan, missing)
    apt.begin(book, role, plan.new)
    apt.quiet_daemons()
    try:
        ran = apt.apt(*words)
        if ran.rc != 0 and packages.needs_lists(ran.said) and not refreshed:
            apt.refresh_lists()
            plan, _refreshed = apt.simulate(words)
            book.write(packages.claimed(book.ledger, role, plan.new))
            ran = apt.apt(*words)
        if ran.rc != 0:
            raise HostError(f"Packages could not be installed: {ran.said}")
    finally:
        apt.restore_policy()
    apt.settle(book)
    return plan


def unit_states(units: Sequence[str]) -> dict[str, Mapping[str, str]]:
    return {unit: properties(unit, "UnitFileState", "ActiveState") for unit in units}


def disable(units: Sequence[str]) -> None:
    if units:
        must(["systemctl", "disable", "--now", "--", *units], "disable packaged units")
