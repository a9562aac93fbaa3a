# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages: what a transaction brings, what may go again, and what it leaves behind."""

from __future__ import annotations

import os.path
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from .errors import HostError
from .ledger import Ledger

POLICY = "/usr/sbin/policy-rc.d"
POLICY_SAVED = "/usr/sbin/policy-rc.d.mlops-saved"
POLICY_MARK = "# Written by mlops.onprem for the time of one apt transaction."

_INST = re.compile(r"^Inst (\S+)( \[[^\]]*\])? \((\S+)")
_REMV = re.compile(r"^(?:Remv|Purg) (\S+)")
_ESCAPED = r"\\\1"
_SAFE = re.compile(r"^[A-Za-z0-9@:_.\\+-]+$")


@dataclass(frozen=True)
class Simulated:
    """What ``apt-get -s`` says it would do."""

    new: tuple[str, ...]
    upgraded: tuple[str, ...]
    removed: tuple[str, ...]


def bare(name: str) -> str:
    """A package's name without its architecture."""
    return name.partition(":")[0]


def simulated(output: str) -> Simulated:
    new: list[str] = []
    upgraded: list[str] = []
    removed: list[str] = []
    for line in output.splitlines():
        found = _INST.match(line)
        if found:
            (upgraded if found.group(2) else new).append(bare(found.group(1)))
            continue
        found = _REMV.match(line)
        if found:
            removed.append(bare(found.group(1)))
    return Simulated(tuple(new), tuple(upgraded), tuple(removed))


def lacking(names: Iterable[str], known: Mapping[str, str]) -> tuple[str, ...]:
    """Which packages are not installed, by their states in dpkg; each once, in the order asked."""
    return tuple(name for name in dict.fromkeys(names) if known.get(name) != "installed")


def wanted_words(ledger: Ledger, role: str) -> str:
    """The settings of apt that keep the packages of a role from being taken away as unused.

    Our packages are not marked as asked for by an administrator: that mark is his alone.
    """
    names = sorted(thing.name for thing in ledger.of(role) if thing.kind == "package")
    rows = "".join(f'  "^{re.sub("([.+])", _ESCAPED, name)}$";\n' for name in names)
    return (
        f"// Packages of the platform, for its role {role}.\nAPT::NeverAutoRemove {{\n{rows}}};\n"
    )


def wanted_file(role: str) -> str:
    return f"/etc/apt/apt.conf.d/90mlops-{role}"


def read_marks(ledger: Ledger, role: str, auto: Collection[str]) -> Ledger:
    """Note of the role's packages, once, whether apt's mark says by itself who wanted them.

    ``auto``: those that apt holds for unused if nothing needs them. A later mark is somebody's
    wish. Of what release 0.2.0 installed it cannot be known.
    """
    for thing in ledger.of(role):
        if thing.kind == "package" and "auto" not in thing.data:
            ledger = ledger.claim(role, "package", thing.name, auto=thing.name in auto)
    return ledger


def install_words(
    missing: Iterable[str], recommends: bool, upgrade: bool = False
) -> tuple[str, ...]:
    """The installation as apt-get takes it; ``upgrade``: also of what was held meanwhile."""
    options = () if recommends else ("--no-install-recommends",)
    held = ("--allow-change-held-packages",) if upgrade else ()
    return ("install", *options, *held, "--", *missing)


def back_words(versions: Mapping[str, str]) -> tuple[str, ...]:
    """The way back to the versions that packages had."""
    rows = tuple(f"{name}={version}" for name, version in sorted(versions.items()))
    allowed = ("--allow-downgrades", "--allow-change-held-packages", "--no-install-recommends")
    return ("install", *allowed, "--", *rows)


ATTEMPT = "_attempt"


def attempted(ledger: Ledger, role: str) -> Ledger:
    """What an attempt made for a role, which went well, as the role's own."""
    for thing in ledger.of(role + ATTEMPT):
        ledger = ledger.claim(role, thing.kind, thing.name)
    return ledger.release(role + ATTEMPT, ledger.of(role + ATTEMPT))


def to_hold(
    ledger: Ledger, role: str, wanted: Iterable[str], held: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which packages of those wanted are to be held, and which of ours are to be let go.

    What somebody else holds is held, and not ours.
    """
    names = tuple(dict.fromkeys(wanted))
    ours = [thing for thing in ledger.of(role) if thing.kind == "hold"]
    new = tuple(name for name in names if name not in held)
    gone = tuple(
        thing.name for thing in ours if thing.name not in names and thing.owners == (role,)
    )
    return new, gone


_ERROR = re.compile(r"\berror:|^Error\b|^E: ")
LONGEST = 240  # of a line of a log: compilers are called with longer ones


def end_of(log: str, lines: int = 12) -> str:
    """What a log of a build says at last: its errors, and its last lines."""
    rows = [line.rstrip()[:LONGEST] for line in log.splitlines() if line.strip()]
    errors = [line for line in rows[:-lines] if _ERROR.search(line)][:6]
    return "\n".join([*errors, *rows[-lines:]])


def refuse_removals(plan: Simulated, missing: Iterable[str]) -> None:
    if plan.removed:
        raise HostError(
            f"Installing {' '.join(missing)} would remove {' '.join(plan.removed)} from this host, "
            "which the platform did not install; remove it by hand, or place the role elsewhere."
        )


def claimed(ledger: Ledger, role: str, names: Iterable[str]) -> Ledger:
    for name in names:
        ledger = ledger.claim(role, "package", name)
    return ledger


def shared(ledger: Ledger, role: str, names: Iterable[str]) -> Ledger:
    """What another role of ours installed and this one wants, too, belongs to both."""
    return claimed(ledger, role, [name for name in names if ledger.has("package", name)])


def in_use(shown: Mapping[str, str]) -> bool:
    """Whether a unit runs, or would run at the next start of the host, by what systemd shows."""
    return enabled(shown) or active(shown)


def enabled(shown: Mapping[str, str]) -> bool:
    return shown.get("UnitFileState") in ("enabled", "enabled-runtime")


def active(shown: Mapping[str, str]) -> bool:
    return shown.get("ActiveState") in ("active", "activating", "reloading")


def unit_file(shown: Mapping[str, str]) -> str:
    """The file that a unit is made from, also one that systemd made from a script of System V."""
    return plain(shown.get("SourcePath") or shown.get("FragmentPath", ""))


def plain(path: str) -> str:
    """A path as it is after the merge of / into /usr."""
    if path.startswith(("/bin/", "/sbin/", "/lib/", "/lib64/")):
        return "/usr" + path
    return path


def to_rest(
    ledger: Ledger,
    role: str,
    shown: Mapping[str, Mapping[str, str]],
    holders: Mapping[str, str],
    brought: Collection[str],
    used_before: Collection[str] = (),
) -> Ledger:
    """Note which packaged units shall rest, with how they were found.

    ``shown``: the units asked for and what systemd shows of them. ``holders``: the package of each
    unit file, for packages of the platform only, so that a unit of anybody else is never named.
    ``brought``: packages that came just now. ``used_before``: units that were enabled or ran before
    these came. A unit rests once: who enables it afterwards has begun to use it. Release 0.2.0 kept
    no such record, but has disabled the units of its packages.
    """
    for unit, state in shown.items():
        package = holders.get(unit_file(state))
        if package is None:
            continue
        if ledger.has("rested", unit):
            ledger = ledger.claim(role, "rested", unit)
        elif package in brought and unit not in used_before:
            before = {"enabled": enabled(state), "active": active(state)}
            ledger = ledger.claim(role, "rested", unit, package=package, before=before, done=False)
        else:
            ledger = ledger.claim(role, "rested", unit, package=package, before={}, done=True)
    return ledger


def to_disable(ledger: Ledger, shown: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Which of the units are noted to rest, have not been stopped yet, and are in use."""
    return [unit for unit in unrested(ledger, shown) if in_use(shown[unit])]


def unrested(ledger: Ledger, units: Iterable[str]) -> list[str]:
    """Which of the units are noted to rest, but have not been stopped yet."""
    things = ((unit, ledger.get("rested", unit)) for unit in units)
    return [unit for unit, thing in things if thing is not None and not thing.data["done"]]


def needs_lists(said: str) -> bool:
    """Whether apt's words mean that its package lists are missing or out of date."""
    return any(
        words in said
        for words in (
            "Unable to locate package",
            "has no installation candidate",
            "is not available, but is referred to",
            "404  Not Found",
            "Couldn't find any package",
            "Hash Sum mismatch",
            "Failed to fetch",
        )
    )


def lists_busy(said: str) -> bool:
    return "Could not get lock" in said or "Unable to lock" in said


def policy(known_units: Iterable[str]) -> str:
    """A policy-rc.d that lets packages (re)start only what was there before.

    A daemon that comes with the transaction would start unconfigured, listening where it likes;
    one that an upgrade stops, though, has to come back.
    """
    names = sorted(
        {name for unit in known_units for name in (unit, unit.rpartition(".")[0] or unit)}
    )
    words = " | ".join(f"'{name}'" for name in names if _SAFE.match(name))
    lines = ["#!/bin/sh", POLICY_MARK]
    if words:
        lines += ['case "$1" in', f"  {words}) exit 0 ;;", "esac"]
    return "\n".join([*lines, "exit 101", ""])


@dataclass(frozen=True)
class Installed:
    """One installed package as the dpkg status file tells it."""

    name: str
    depends: tuple[tuple[str, ...], ...]  # all of these, each by any one of its alternatives
    provides: tuple[str, ...] = ()
    essential: bool = False


def status(text: str) -> dict[str, Installed]:
    """The installed packages in the text of /var/lib/dpkg/status."""
    packages = {}
    for paragraph in text.split("\n\n"):
        fields: dict[str, str] = {}
        key = ""
        for line in paragraph.splitlines():
            if line[:1] in (" ", "\t"):
                if key in ("Depends", "Pre-Depends", "Provides"):
                    fields[key] += line
                continue
            key, _colon, value = line.partition(":")
            fields[key] = value.strip()
        if not fields.get("Status", "").endswith(" installed"):
            continue
        relations = ", ".join(filter(None, (fields.get("Pre-Depends"), fields.get("Depends"))))
        packages[fields["Package"]] = Installed(
            fields["Package"],
            tuple(
                tuple(_relation(one) for one in group.split("|"))
                for group in relations.split(",")
                if group.strip()
            ),
            tuple(_relation(one) for one in fields.get("Provides", "").split(",") if one.strip()),
            fields.get("Essential") == "yes" or fields.get("Important") == "yes",
        )
    return packages


def _relation(text: str) -> str:
    return bare(text.split("(", maxsplit=1)[0].split("[", maxsplit=1)[0].strip())


def still_needed(installed: Mapping[str, Installed], leaving: Iterable[str]) -> dict[str, str]:
    """Which of the ``leaving`` packages something that stays depends on, and one such reason."""
    going = {name for name in leaving if name in installed}
    provided: dict[str, set[str]] = {}
    for package in installed.values():
        for name in (package.name, *package.provides):
            provided.setdefault(name, set()).add(package.name)
    needed: dict[str, str] = {}
    todo = [package for name, package in installed.items() if name not in going]
    while todo:
        package = todo.pop()
        for alternatives in package.depends:
            providers = set().union(*(provided.get(name, set()) for name in alternatives))
            if not providers or providers - going:
                continue  # broken already, or satisfied by what stays
            for name in sorted(providers):
                needed[name] = package.name
                going.discard(name)
                todo.append(installed[name])
    return needed


def with_needs(
    installed: Mapping[str, Installed], names: Iterable[str], among: Iterable[str]
) -> set[str]:
    """Packages with those ``among`` others that they depend on, directly or by each other."""
    allowed = set(among)
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            package = installed.get(name)
            wanted = [one for some in (package.depends if package else ()) for one in some]
            todo += [one for one in wanted if one in allowed]
    return found


def traces(
    new_packages: Iterable[str],
    new_users: Iterable[str],
    listed: Iterable[str],
    before: Iterable[str],
    now: Iterable[str],
) -> tuple[str, ...]:
    """The outermost paths that a purge of the new packages may leave behind.

    ``listed``: paths in the packages' file lists. ``before`` and ``now``: directories, and files
    of no package, that existed before and after the transaction. A path counts if it is new and
    is a directory of a new package, or its last part carries the name of a new package or user:
    a running program of somebody else may have made the others meanwhile.
    """
    known = frozenset(before)
    present = frozenset(now)
    own = {path for path in listed if path in present}
    names = {name for name in (*new_packages, *new_users) if len(name) > 2}
    names |= {stem for stem in map(_stem, new_packages) if stem}
    found: list[str] = []
    for path in sorted(present - known):
        if any(path.startswith(parent + "/") for parent in found):
            continue
        named = bool(names & _words(os.path.basename(path)))
        # dpkg itself takes away what it listed in /usr, where others may have put things, too.
        if named or (path in own and not path.startswith("/usr/")):
            found.append(path)
    return tuple(found)


def _stem(package: str) -> str:
    """The first part of a package's name, if it says something."""
    stem = package.partition("-")[0]
    return stem if len(stem) > 3 and not stem.startswith(("lib", "python")) else ""


def named_after(path: str, package: str) -> bool:
    """Whether the last part of a path carries the name of a package."""
    return bool({package, _stem(package) or package} & _words(os.path.basename(path)))


UNIT = re.compile(r"/(?:usr/)?lib/systemd/system/([^/]+)\.(service|socket|timer|path|target|mount)")


def units_of(paths: Iterable[str]) -> tuple[str, ...]:
    """The units among a package's paths, as systemctl takes them.

    Templates give a pattern for their instances, and the slice that systemd made for these.
    """
    found: set[str] = set()
    for path in paths:
        unit = UNIT.fullmatch(path)
        if unit is None:
            continue
        name, kind = unit.groups()
        if name.endswith("@"):
            found.add(f"{name}*.{kind}")
            found.add("system-" + name[:-1].replace("-", r"\x2d") + ".slice")
        else:
            found.add(f"{name}.{kind}")
    return tuple(sorted(found))


def _words(name: str) -> set[str]:
    return {name, os.path.splitext(name)[0], *re.split(r"[-._@]", name)}
