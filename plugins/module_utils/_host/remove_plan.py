# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking away what was made for a role: what goes in which order, what stays, and why.

Nothing here looks at a host. The ledger is written after each step, so that a killed removal goes
on where it was; a thing that is gone already is forgotten without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Union

from . import packages, used
from .ledger import KINDS, Key, Ledger, Thing, inside


@dataclass(frozen=True)
class Before:
    """The host as far as removal has to know it."""

    installed: Mapping[str, packages.Installed] = field(default_factory=dict)
    known: frozenset[str] = frozenset()  # packages that dpkg knows, if only by their leftovers
    users: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # number, primary group
    groups: Mapping[str, int] = field(default_factory=dict)
    held_users: frozenset[int] = frozenset()  # owners of what is kept
    held_groups: frozenset[int] = frozenset()
    use: used.Use = field(default_factory=used.Use)


@dataclass(frozen=True)
class Units:
    """Stop the services and take away the files of the units."""

    services: tuple[str, ...]
    paths: tuple[str, ...]
    slices: tuple[str, ...]


@dataclass(frozen=True)
class Trees:
    """Everything that the paths or globs name."""

    paths: tuple[str, ...]


@dataclass(frozen=True)
class RemoveFile:
    """A file; one that was adopted becomes what it was."""

    path: str
    original: Mapping[str, str | int] | None = None


@dataclass(frozen=True)
class Unhold:
    """Let go packages that were kept from being upgraded."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Packages:
    """Purge what goes, and leave to apt what nobody of ours wants any more.

    ``wanted``: what others use, and apt must not take away by itself.
    """

    going: tuple[str, ...]
    orphans: tuple[str, ...]
    wanted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Restore:
    """Make a packaged unit what it was before we let it rest, if nobody has changed it since."""

    unit: str
    enable: bool
    start: bool


@dataclass(frozen=True)
class Directory:
    """A directory with all in it that is not protected, or only if it is empty."""

    path: str
    whole: bool
    packaged_stays: bool = False
    protected: frozenset[str] = frozenset()
    holds_kept: bool = False
    why: str = ""  # what is told if it stays because of what it holds


@dataclass(frozen=True)
class Account:
    kind: str
    name: str


Act = Union[Units, Trees, RemoveFile, Unhold, Packages, Restore, Directory, Account]


@dataclass(frozen=True)
class Removal:
    """One step: what is done, what is told, and what the ledger then says."""

    act: Act | None = None
    said: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    forget: tuple[Key, ...] = ()
    hand_over: tuple[tuple[str, Key], ...] = ()  # new owner and thing
    release: tuple[Key, ...] = ()  # no longer wanted by the role, but by others or by the system
    unmarked: tuple[Key, ...] = ()  # packages whose mark in apt says nothing from now on

    def after(self, ledger: Ledger, role: str) -> Ledger:
        """The ledger once the step is taken."""
        for heir, (kind, name) in self.hand_over:
            ledger = ledger.claim(heir, kind, name)
        for kind, name in self.unmarked:
            ledger = ledger.claim(role, kind, name, auto=False)
        ledger = ledger.drop(*self.forget)
        return ledger.release(role, [thing for thing in ledger if thing.key in self.release])


def part_of(things: Iterable[Thing], only: Iterable[str], before: Before) -> list[Thing]:
    """What of a role is meant by names of services, users and packages, and what they brought.

    With a package goes what only it needs; what its scripts left, once no package that was
    installed with it stays.
    """
    things, names = list(things), set(only)
    packaged = {thing.name for thing in things if thing.kind == "package"}
    leaving = packages.with_needs(before.installed, names & packaged, packaged)
    leaving -= set(packages.still_needed(before.installed, leaving)) - names
    return [thing for thing in things if _meant(thing, names, leaving, packaged - leaving)]


def _meant(thing: Thing, names: set[str], leaving: set[str], staying: set[str]) -> bool:
    if thing.kind == "package":
        return thing.name in leaving
    if thing.kind == "rested":
        return thing.data["package"] in leaving
    if "packages" in thing.data:
        with_it = set(thing.data["packages"])
        return bool(with_it & leaving) and not with_it & staying
    return str(thing.data.get("unit") or thing.name).removesuffix(".service") in names


def plan(
    before: Before, ledger: Ledger, role: str, keep: Iterable[str] = (), only: Iterable[str] = ()
) -> list[Removal]:
    """The steps that take away what is the role's alone, except what is in ``keep``.

    ``only``: names of services, users and packages, if not all of the role is to go.
    """
    kept = tuple(keep)
    named = tuple(only)
    going, shared = ledger.split(role)
    if named:
        meant = part_of((*going, *shared), named, before)
        going = tuple(one for one in going if one in meant)
        shared = tuple(one for one in shared if one in meant)
    by_kind = {kind: [one for one in going if one.kind == kind] for kind in KINDS}
    rest = ledger.release(role, shared)
    steps = [Removal(release=tuple(thing.key for thing in shared))] if shared else []
    steps += _units(by_kind["unit"])
    steps += _apps(by_kind["app"], kept)
    steps += _files(by_kind["file"], kept)
    held = by_kind["hold"]
    steps += [_gone(held, Unhold(tuple(thing.name for thing in held)))] if held else []
    stay = _staying(by_kind["package"], before)
    steps += _packages(by_kind["package"], before, stay, rest, role)
    steps += _rested(by_kind["rested"], before, stay)
    used_traces = [one for one in by_kind["trace"] if _used(one, before.use, stay)]
    unused = [one for one in by_kind["trace"] if one not in used_traces]
    protected = [*kept, *(one.name for one in used_traces)]
    steps += _directories([*unused, *by_kind["directory"]], rest, role, protected, before.use)
    steps += _accounts(by_kind["user"], by_kind["group"], before, stay)
    return steps


@dataclass(frozen=True)
class Staying:
    """Packages of the role that stay, each with the reason."""

    needed: Mapping[str, str]  # something that is not ours, or of another role, depends on them
    used: Mapping[str, str]  # others use them
    below: tuple[str, ...] = ()  # one that others use depends on them

    def in_use(self, name: str) -> bool:
        return name in self.used or name in self.below


def _staying(things: list[Thing], before: Before) -> Staying:
    names = [thing.name for thing in things]
    needed = packages.still_needed(before.installed, names)
    signs = {
        name: why
        for name, why in before.use.packages.items()
        if name in names and name not in needed
    }
    by_use = packages.still_needed(before.installed, [name for name in names if name not in signs])
    return Staying(needed, signs, tuple(sorted(set(by_use) - set(needed))))


def _used(trace: Thing, use: used.Use, stay: Staying) -> bool:
    """Whether a trace is of a package that others use."""
    among = use.traces.get(trace.name, trace.data.get("packages", ()))
    return any(stay.in_use(name) for name in among)


def _gone(things: Iterable[Thing], act: Act | None, told: bool = True) -> Removal:
    things = list(things)
    said = tuple(f"{thing.kind} {thing.name}" for thing in things) if told else ()
    return Removal(act, said, forget=tuple(thing.key for thing in things))


def _stays(path: str, keep: Iterable[str]) -> bool:
    return any(inside(path, one) for one in keep)


def _asked_for(thing: Thing) -> Removal:
    return Removal(kept=(f"{thing.kind} {thing.name}: asked for",))


def _units(things: list[Thing]) -> Iterator[Removal]:
    if not things:
        return
    act = Units(
        tuple(thing.data["unit"] for thing in things if thing.data.get("unit")),
        tuple(thing.data["path"] for thing in things),
        tuple(thing.name for thing in things if thing.name.endswith(".slice")),
    )
    yield _gone(things, act)


def _apps(things: list[Thing], keep: tuple[str, ...]) -> Iterator[Removal]:
    for thing in things:
        if _stays(thing.name, keep):
            yield _asked_for(thing)
        else:
            yield _gone([thing], Trees(tuple(thing.data.get("paths", [thing.name]))))


def _files(things: list[Thing], keep: tuple[str, ...]) -> Iterator[Removal]:
    for thing in things:
        if _stays(thing.name, keep):
            yield _asked_for(thing)
        else:
            yield _gone([thing], RemoveFile(thing.name, thing.data.get("original")))


def _packages(
    things: list[Thing], before: Before, stay: Staying, rest: Ledger, role: str
) -> Iterator[Removal]:
    if not things:
        return
    needed = stay.needed
    names = [thing.name for thing in things if not stay.in_use(thing.name)]
    going = [name for name in names if name in before.known and name not in needed]
    wanted = tuple(sorted(set(stay.used) - before.use.manual))
    # Now it belongs to whoever keeps it; a package that is not ours keeps it for good.
    heirs = []
    after = rest
    for name, by in needed.items():
        keeper = after.get("package", by)
        for heir in keeper.owners if keeper else ():
            if heir != role:
                heirs.append((heir, ("package", name)))
                after = after.claim(heir, "package", name)
    inherited = {name for _heir, (_kind, name) in heirs}
    left = [name for name in names if name in needed]
    yield Removal(
        Packages(tuple(going), tuple(name for name in left if name not in inherited), wanted),
        tuple(f"package {name}" for name in names if name not in needed),
        (
            *(f"package {name}: {by} needs it" for name, by in sorted(needed.items())),
            *(f"package {name}: {why}" for name, why in sorted(stay.used.items())),
            *([f"packages {' '.join(stay.below)}: those need them"] if stay.below else []),
        ),
        tuple(("package", name) for name in names if name not in needed),
        tuple(heirs),
        tuple(("package", name) for name in left),
        tuple(("package", name) for name in wanted),
    )


def _rested(things: list[Thing], before: Before, stay: Staying) -> Iterator[Removal]:
    """Units that rested for us work again if their package stays."""
    for thing in things:
        was = thing.data["before"]
        package = thing.data["package"]
        stays = package in before.installed and (package in stay.needed or stay.in_use(package))
        if stays and (was.get("enabled") or was.get("active")):
            act = Restore(thing.name, bool(was.get("enabled")), bool(was.get("active")))
            yield Removal(act, (f"rest of {thing.name}",), forget=(thing.key,))
        else:
            yield Removal(forget=(thing.key,))


def _directories(
    things: list[Thing], rest: Ledger, role: str, keep: list[str], use: used.Use
) -> Iterator[Removal]:
    """Directories and what packages left; the outermost last, so that nothing is cut off."""
    others = {
        thing.data.get("path", thing.name)
        for thing in rest
        if thing.kind in ("file", "app", "directory", "trace", "unit")
        and (role not in thing.owners or _stays(thing.name, keep))
    }
    strangers = {path for paths in use.strangers.values() for path in paths}
    protected = frozenset({*others, *keep, *strangers})
    for thing in sorted(things, key=lambda one: one.name, reverse=True):
        path = thing.name
        if _stays(path, keep):
            yield _asked_for(thing)
            continue
        trace = thing.kind == "trace"
        whole = trace or bool(thing.data.get("whole"))
        holds_kept = any(inside(one, path) for one in (*keep, *strangers))
        why = "something in it is kept"
        if path in use.strangers:
            why = ", ".join(use.strangers[path]) + " did not come with the platform"
        yield _gone([thing], Directory(path, whole, trace, protected, holds_kept, why))


def _accounts(
    users: list[Thing], groups: list[Thing], before: Before, stay: Staying
) -> Iterator[Removal]:
    held = set(before.held_groups)
    for thing in users:
        account = before.users.get(thing.name)
        if account is not None and _of_used(thing, stay):
            held.add(account[1])
            yield Removal(kept=(f"user {thing.name}: its package stays",))
        elif account is not None and account[0] in before.held_users:
            held.add(account[1])
            yield Removal(kept=(f"user {thing.name}: owns what is kept",))
        else:
            yield _account(thing, account is not None)
    for thing in groups:
        number = before.groups.get(thing.name)
        if number is not None and _of_used(thing, stay):
            yield Removal(kept=(f"group {thing.name}: its package stays",))
        elif number is not None and number in held:
            yield Removal(kept=(f"group {thing.name}: owns what is kept",))
        else:
            yield _account(thing, number is not None)


def _of_used(account: Thing, stay: Staying) -> bool:
    """Whether a package that others use may have made the account; release 0.2.0 noted no names."""
    if account.data.get("by") != "package":
        return False
    return any(stay.in_use(name) for name in account.data.get("packages", stay.used))


def _account(thing: Thing, there: bool) -> Removal:
    return _gone([thing], Account(thing.kind, thing.name) if there else None, told=there)
