# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hands for packages: look at dpkg, install what is missing, quiet what came with it."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from . import apt, packages, remove_apply, snapshot
from .errors import HostError
from .ledger import Ledger
from .remove_plan import plan as plan_of_removal
from .system import Book, must, run, write_whole


def finish_interrupted(book: Book, check: bool) -> bool:
    """Finish what a killed run left; whether there was anything."""
    repaired = book.ledger.transaction is not None or apt.interrupted()
    if check:
        return repaired
    repaired = apt.restore_policy() or repaired
    pending = (book.ledger.transaction or {}).get("owner", "")
    if repaired:
        apt.quiet_daemons()
        try:
            apt.repair()
        except HostError:
            if not pending.endswith(packages.ATTEMPT):
                raise
            _take_back(book, pending)  # an attempt that was killed, and fails again
        finally:
            apt.restore_policy()
        if pending.endswith(packages.ATTEMPT) and book.ledger.transaction is not None:
            apt.settle(book)
            book.write(packages.attempted(book.ledger, pending[: -len(packages.ATTEMPT)]))
    return repaired


def _take_back(book: Book, owner: str) -> None:
    """Purge what an attempt brought, with all that came with it."""
    apt.settle(book)
    steps = plan_of_removal(remove_apply.read(book.ledger, owner, ()), book.ledger, owner)
    remove_apply.apply(steps, book, owner)


@dataclass(frozen=True)
class Attempt:
    """A transaction that leaves nothing behind if it fails."""

    role: str
    words: tuple[str, ...]
    units: tuple[str, ...] = ()
    log: str = ""  # pattern of the log that says why


def attempt(book: Book, wanted: Attempt) -> packages.Simulated:
    """Install or upgrade; where that fails, the host is as before, and the end of the log is said.

    It is made under an owner of its own, so that taking it back is a removal like any other.
    """
    owner = wanted.role + packages.ATTEMPT
    plan, _refreshed = apt.simulate(wanted.words)
    packages.refuse_removals(plan, wanted.words[wanted.words.index("--") + 1 :])
    versions = _versions(plan.upgraded)
    apt.begin(book, owner, plan.new, wanted.units)
    apt.quiet_daemons()
    started = time.time()
    try:
        ran = apt.apt(*wanted.words)
        if ran.rc != 0:
            log = _log_since(wanted.log, started)
            _take_back(book, owner)
            left = ""
            if versions:
                back = apt.apt(*packages.back_words(versions))
                left = "" if back.rc == 0 else f" The way back failed, too: {back.said}"
            raise HostError(
                f"Packages could not be installed, and what came was taken away again: "
                f"{packages.end_of(ran.err or ran.out, 4)}{log}{left}"
            )
    finally:
        apt.restore_policy()
    apt.settle(book)
    book.write(packages.attempted(book.ledger, wanted.role))
    mark(book, wanted.role, plan.new)
    return plan


def _versions(names: Sequence[str]) -> dict[str, str]:
    if not names:
        return {}
    ran = must(["dpkg-query", "-W", "-f", "${Package} ${Version}\n", "--", *names], "ask dpkg")
    return dict(line.split(" ", 1) for line in ran.out.splitlines())


def _log_since(pattern: str, started: float) -> str:
    """The end of the newest log that was written since then; empty where there is none."""
    found = [path for path in glob.glob(pattern) if os.path.getmtime(path) >= started - 2]
    if not found:
        return ""
    path = max(found, key=os.path.getmtime)
    with open(path, encoding="utf-8", errors="replace") as stream:
        return f"\n{path} ended with:\n{packages.end_of(stream.read())}"


def hold(book: Book, role: str, wanted: Sequence[str]) -> list[str]:
    """Hold these packages and let go what the role held before; what was changed, as words.

    ``wanted``: names, or patterns as dpkg takes them.
    """
    known = apt.states(wanted) if wanted else {}
    there = sorted(name for name, state in known.items() if state == "installed")
    held = run(["apt-mark", "showhold"]).out.split()
    new, gone = packages.to_hold(book.ledger, role, there, held)
    if not book.check:
        ledger = book.ledger
        for name in new:
            ledger = ledger.claim(role, "hold", name)
        book.write(_shared_holds(ledger, role, there))
        if new:
            must(["apt-mark", "hold", "--", *new], "hold packages")
        if gone:
            run(["apt-mark", "unhold", "--", *gone])
            book.write(book.ledger.drop(*(("hold", name) for name in gone)))
    return [*(f"hold {name}" for name in new), *(f"unhold {name}" for name in gone)]


def _shared_holds(ledger: Ledger, role: str, names: Sequence[str]) -> Ledger:
    """What another role of ours holds and this one wants held, too, is held for both."""
    for name in names:
        if ledger.has("hold", name):
            ledger = ledger.claim(role, "hold", name)
    return ledger


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


def marked(ledger: Ledger, role: str) -> bool:
    """Whether apt keeps the role's packages already, and their marks were read."""
    mine = [thing for thing in ledger.of(role) if thing.kind == "package"]
    if not mine:
        return True
    try:
        with open(packages.wanted_file(role), encoding="utf-8", errors="replace") as stream:
            same = stream.read() == packages.wanted_words(ledger, role)
    except FileNotFoundError:
        return False
    return same and all("auto" in thing.data for thing in mine)


def would_disable(ledger: Ledger, role: str, units: Sequence[str]) -> bool:
    """Whether ``disable`` would stop one of the units, or note something about them."""
    states = apt.unit_states(units)
    holders = snapshot.holders(ledger.names("package")) if units else {}
    noted = packages.to_rest(ledger, role, states, holders, ())
    return noted != ledger or bool(packages.unrested(ledger, units))


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
