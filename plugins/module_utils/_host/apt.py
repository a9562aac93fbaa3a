# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""apt and dpkg transactions that survive being killed at any moment."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from . import apt_words, packages, snapshot, used_apply
from .errors import HostError
from .ledger import Ledger, inside, missing_parents
from .system import Book, Ran, properties, put, run

ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",
}
LOCK_SECONDS = 600
OPTIONS = [
    "-q",
    "-y",
    "-o",
    f"DPkg::Lock::Timeout={LOCK_SECONDS}",
    "-o",
    "Acquire::Retries=3",
    "-o",
    "Dpkg::Use-Pty=0",
    "-o",
    "Dpkg::Options::=--force-confdef",
    "-o",
    "Dpkg::Options::=--force-confold",
]


def states(names: Sequence[str]) -> dict[str, str]:
    """The dpkg state (``installed``, ``half-configured`` …) of each package that dpkg knows."""
    ran = run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", "--", *names])
    if ran.rc not in (0, 1):
        raise HostError(f"dpkg-query does not answer: {ran.said}")
    return dict(line.split(" ", 1) for line in ran.out.splitlines() if " " in line)


def interrupted() -> bool:
    """Whether dpkg was stopped in the middle of its work."""
    return any(name.isdigit() for name in os.listdir("/var/lib/dpkg/updates"))


def repair_if_interrupted() -> None:
    if interrupted():
        repair()


def apt(*words: str, env: Mapping[str, str] | None = None, timeout: float | None = None) -> Ran:
    return run(["apt-get", *OPTIONS, *words], env={**ENVIRONMENT, **(env or {})}, timeout=timeout)


def why_not(words: Sequence[str], said: str, env: Mapping[str, str] | None = None) -> str:
    """Why apt does not do what is asked, by what it said and what is held on the host."""
    asked = words[words.index("--") + 1 :]
    holds: list[str] = []
    forced = None
    if any(held in said for held in apt_words.HELD):
        holds = run(["apt-mark", "showhold"], env=env).out.split()
        ran = apt("-s", "--allow-change-held-packages", *words, env=env)
        forced = packages.simulated(ran.out) if ran.rc == 0 else None
    return apt_words.refused(words[0], asked, said, holds, forced) + "."


def repair() -> None:
    """Finish what a killed run left half-installed; whoever uses dpkg now may end first."""
    give_up = time.monotonic() + LOCK_SECONDS
    while True:
        ran = run(
            ["dpkg", "--configure", "-a", "--force-confdef", "--force-confold"], env=ENVIRONMENT
        )
        if ran.rc == 0:
            return
        if "lock" in ran.said and time.monotonic() < give_up:
            time.sleep(2)
            continue
        raise HostError(f"An interrupted package installation could not be finished: {ran.said}")


def refresh_lists() -> None:
    give_up = time.monotonic() + LOCK_SECONDS
    while True:
        ran = apt("update")
        if ran.rc == 0:
            return
        if packages.lists_busy(ran.said) and time.monotonic() < give_up:
            time.sleep(2)
            continue
        raise HostError(
            f"The package lists could not be refreshed: {ran.said} "
            "Check the host's /etc/apt/sources.list and its way to the mirror."
        )


def have_lists() -> bool:
    return bool(glob.glob("/var/lib/apt/lists/*_Packages*"))


def simulate(words: Sequence[str]) -> tuple[packages.Simulated, bool]:
    """What apt would do, and whether the lists had to be refreshed to know."""
    refreshed = False
    if not have_lists():
        refresh_lists()
        refreshed = True
    while True:
        ran = apt("-s", *words)
        if ran.rc == 0:
            return packages.simulated(ran.out), refreshed
        if packages.needs_lists(ran.said) and not refreshed:
            refresh_lists()
            refreshed = True
            continue
        raise HostError(why_not(words, ran.out + ran.err))


def quiet_daemons() -> None:
    """Let no new daemon start while packages are installed."""
    restore_policy()
    text = packages.policy(snapshot.units())
    if os.path.lexists(packages.POLICY):
        os.rename(packages.POLICY, packages.POLICY_SAVED)
    put(packages.POLICY, text.encode(), 0o755)


def restore_policy() -> bool:
    """Put back the policy-rc.d of before; also what a killed run left. Whether there was any."""
    ours = False
    try:
        with open(packages.POLICY, encoding="utf-8", errors="replace") as stream:
            ours = packages.POLICY_MARK in stream.read(4096)
    except FileNotFoundError:
        pass
    if ours:
        os.unlink(packages.POLICY)
    if os.path.lexists(packages.POLICY_SAVED):
        os.rename(packages.POLICY_SAVED, packages.POLICY)
        return True
    return ours


def begin(book: Book, owner: str, new: Sequence[str], units: Sequence[str] = ()) -> None:
    """Write ahead what the transaction will bring and what was there before it.

    ``units``: those of the new packages that shall rest afterwards.

    A transaction of the same owner that was killed goes on: what was there before it counts.
    """
    pending = book.ledger.transaction
    if pending is not None and pending["owner"] != owner:
        settle(book)
        pending = None
    ledger = book.ledger
    for name in new:
        ledger = ledger.claim(owner, "package", name)
    if pending is not None:
        more = sorted({*pending["packages"], *new})
        rest = {**unit_uses(units), **pending.get("units", {})}
        book.write(replace(ledger, transaction={**pending, "packages": more, "units": rest}))
        return
    users, groups = snapshot.accounts()
    before = {
        "owner": owner,
        "packages": sorted(new),
        "units": unit_uses(units),
        "users": users,
        "groups": groups,
        "paths": sorted(snapshot.present()),
    }
    book.write(replace(ledger, transaction=before))


def unit_uses(units: Sequence[str]) -> dict[str, bool]:
    """Whether each of the units is in use."""
    return {unit: packages.in_use(shown) for unit, shown in unit_states(units).items()}


def unit_states(units: Iterable[str]) -> dict[str, Mapping[str, str]]:
    wanted = ("UnitFileState", "ActiveState", "FragmentPath", "SourcePath")
    return {unit: properties(unit, *wanted) for unit in units}


def settle(book: Book) -> None:
    """Note what the transaction under way left on the host, and close it."""
    transaction = book.ledger.transaction
    if transaction is None:
        return
    book.write(replace(settled(book.ledger, transaction), transaction=None))


def settled(ledger: Ledger, transaction: Mapping[str, Any]) -> Ledger:
    owner, new = transaction["owner"], transaction["packages"]
    users, groups = snapshot.accounts()
    new_users = [name for name in users if name not in transaction["users"]]
    new_groups = [name for name in groups if name not in transaction["groups"]]
    for name in new_users:
        if not ledger.has("user", name):
            ledger = ledger.claim(owner, "user", name, by="package", packages=new)
    for name in new_groups:
        if not ledger.has("group", name):
            ledger = ledger.claim(owner, "group", name, by="package", packages=new)
    found = packages.traces(
        new, new_users, snapshot.paths_of(new), transaction["paths"], snapshot.present()
    )
    before = frozenset((*transaction["paths"], *snapshot.ROOTS))
    for path in found:
        ledger = ledger.claim(owner, "trace", path, packages=new, files=used_apply.made([path]))
        for parent in missing_parents(path, before):
            # A new directory that others may use meanwhile: it goes when it is empty.
            if not any(inside(parent, one) for one in found):
                ledger = ledger.claim(owner, "directory", parent)
    # What somebody removed and we bring again, has to rest again.
    for thing in ledger:
        if thing.kind == "rested" and thing.data["package"] in new:
            ledger = ledger.drop(thing.key)
    units = transaction.get("units", {})
    used = [unit for unit, use in units.items() if use]
    states = unit_states(units)
    return packages.to_rest(ledger, owner, states, snapshot.holders(new), new, used)


def purge(names: Sequence[str]) -> None:
    """Purge exactly these packages, or refuse."""
    # Some of what we brought may be protected, such as e2fsprogs; it was not there before.
    words = ["purge", "--allow-remove-essential", "--", *names]
    plan, _refreshed = simulate(words)
    more = sorted(set(plan.removed) - set(names))
    if more:
        raise HostError(
            f"Removing {' '.join(names)} would also remove {' '.join(more)}, which the platform "
            "did not install; remove those first, or keep the packages."
        )
    units = packages.units_of(snapshot.paths_of(names))
    settings = _locale_settings()
    try:
        ran = apt(*words)
    finally:
        _restore(settings)
    if ran.rc != 0:
        raise HostError(f"Packages could not be removed: {ran.said}")
    # systemd remembers units that run or have failed, even when their files are gone.
    forgotten = [unit for unit in units if not _has_file(unit)]
    if forgotten:
        run(["systemctl", "daemon-reload"], timeout=60)
        run(["systemctl", "stop", "--quiet", "--", *forgotten], timeout=120)
        run(["systemctl", "reset-failed", "--quiet", "--", *forgotten], timeout=30)


def _has_file(unit: str) -> bool:
    """Whether a unit of this name is still there, perhaps somebody else's."""
    name = unit.replace("@*.", "@.")
    places = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")
    return any(os.path.lexists(f"{place}/{name}") for place in places)


# The purge script of `locales` deletes these, though they belong to no package.
LOCALE_SETTINGS = ("/etc/default/locale", "/etc/locale.conf")


def _locale_settings() -> dict[str, tuple[str, str]]:
    """The links and contents to be put back; a file without a setting is made by the package."""
    kept = {}
    for path in LOCALE_SETTINGS:
        if os.path.islink(path):
            kept[path] = ("link", os.readlink(path))
        elif os.path.isfile(path):
            with open(path, encoding="utf-8", errors="surrogateescape") as stream:
                text = stream.read()
            if any(line.strip() and not line.startswith("#") for line in text.splitlines()):
                kept[path] = ("file", text)
    return kept


def _restore(settings: dict[str, tuple[str, str]]) -> None:
    for path, (kind, value) in settings.items():
        if os.path.lexists(path):
            continue
        if kind == "link":
            os.symlink(value, path)
        else:
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as stream:
                stream.write(value)
            os.chmod(path, 0o644)
