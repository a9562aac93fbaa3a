# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hands for packages: look at dpkg, install what is missing, quiet what came with it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from . import apt, packages, snapshot
from .errors import HostError
from .system import Book, must, write_whole


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
    book: Book, role: str, words: Sequence[str], missing: Sequence[str], units: Sequence[str]
) -> packages.Simulated:
    """Install in one transaction that is recorded before it begins; what it brought.

    ``units``: those of the new packages that shall rest afterwards.
    """
    plan, refreshed = apt.simulate(words)
    packages.refuse_removals(plan, missing)
    apt.begin(book, role, plan.new, units)
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
    mark(book, role, [name for name in missing if name in plan.new])
    apt.settle(book)
    return plan


def mark(book: Book, role: str, fresh: Sequence[str] = ()) -> bool:
    """Have apt keep the role's packages, without a mark that is an administrator's; whether
    anything had to be done. ``fresh``: packages that came just now and were asked for."""
    path, text = packages.wanted_file(role), packages.wanted_words(book.ledger, role)
    mine = [thing for thing in book.ledger.of(role) if thing.kind == "package"]
    if not mine or book.check:
        return False
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            same = stream.read() == text
    except FileNotFoundError:
        same = False
    if not same:
        book.write(book.ledger.claim(role, "file", path))
        write_whole(path, text.encode(), 0o644)
    if fresh:
        must(["apt-mark", "auto", "--", *fresh], "mark packages")
    if any("auto" not in thing.data for thing in mine):
        names = [thing.name for thing in mine]
        shown = must(["apt-mark", "showauto", "--", *names], "read the marks of packages")
        book.write(packages.read_marks(book.ledger, role, shown.out.split()))
    return not same


def disable(book: Book, role: str, units: Sequence[str], brought: Collection[str]) -> list[str]:
    """Stop and disable those units of ours that have never rested, and note it; which they were.

    ``brought``: packages that came just now.
    """
    states = apt.unit_states(units)
    holders = snapshot.holders(book.ledger.names("package"))
    book.write(packages.to_rest(book.ledger, role, states, holders, brought))
    disabled = packages.to_disable(book.ledger, states)
    if disabled and not book.check:
        must(["systemctl", "disable", "--now", "--", *disabled], "disable packaged units")
    ledger = book.ledger
    for unit in packages.unrested(ledger, units):
        ledger = ledger.claim(role, "rested", unit, done=True)
    book.write(ledger)
    return disabled
