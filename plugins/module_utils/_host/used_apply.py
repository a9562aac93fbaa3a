# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The eyes for what others use: they look for signs on the host and change nothing."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import pwd
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping

from . import packages, snapshot, used
from .ledger import Ledger, Thing, inside
from .system import properties, run

NAMED = 3  # so many files are named in a sentence
UNITS = "/etc/systemd/system"


def read(
    ledger: Ledger, role: str, status: str, installed: Mapping[str, packages.Installed]
) -> used.Use:
    """The signs that others use what would go with the role."""
    going, _shared = ledger.split(role)
    names = [one.name for one in going if one.kind == "package" and one.name in installed]
    strangers = _strangers([one for one in going if one.data.get("whole")], ledger)
    if not names:
        return used.Use(strangers=strangers)
    listed = {name: snapshot.paths_of([name]) for name in names}
    elsewhere = snapshot.paths_of(set(installed) - set(names))
    holding = used.own_folders(listed, elsewhere)
    for name, paths in _mentioned(names).items():
        for path in paths - elsewhere:
            holding.setdefault(path, set()).add(name)
    traces = {one.name: used.holders(one, names, holding) for one in going if one.kind == "trace"}
    known = elsewhere.union(*listed.values())
    signs: dict[str, str] = {}
    for path, sign in _files({**holding, **traces}, known, ledger):
        for name in {**holding, **traces}[path]:
            signs.setdefault(name, sign)
    signs = {**_units(listed, ledger), **_settings(status, names, ledger), **signs}
    signs = {**_processes(listed, ledger), **used.with_users(installed, names, signs)}
    manual = run(["apt-mark", "showmanual", "--", *names]).out.split()
    signs = {**used.marked(ledger, manual), **signs}
    return used.Use(signs, traces, strangers, frozenset(manual))


def made(traces: Iterable[str]) -> list[str]:
    """The files in what the scripts of packages have made: they are nobody else's."""
    packaged = snapshot.all_paths()
    found = [path for trace in traces for path in walk(trace) if path not in packaged]
    return sorted(path for path in found if not used.no_sign(path))


def walk(path: str) -> Iterator[str]:
    """The files and links at or below a path."""
    if os.path.islink(path) or not os.path.isdir(path):
        if os.path.lexists(path):
            yield path
        return
    for folder, folders, names in os.walk(path):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        yield from (os.path.join(folder, name) for name in (*links, *names))


def _mentioned(names: Iterable[str]) -> dict[str, set[str]]:
    """What the scripts of the packages take away when these go."""
    found: dict[str, set[str]] = {}
    for name in names:
        for path in (*snapshot.about(name, "prerm"), *snapshot.about(name, "postrm")):
            with open(path, encoding="utf-8", errors="replace") as stream:
                found.setdefault(name, set()).update(used.mentioned(stream.read()))
    return found


def _files(
    places: Iterable[str], known: Collection[str], ledger: Ledger
) -> Iterator[tuple[str, str]]:
    """Each place with files of others in it, and what is to be said of them."""
    came = {path for thing in ledger for path in thing.data.get("files", ())}
    came |= {thing.name for thing in ledger if thing.kind == "trace"}
    for place in places:
        found = used.unknown(walk(place), known, ledger, came)
        if found:
            yield place, _named(found) + " did not come with the platform"


def _named(paths: Collection[str]) -> str:
    shown = ", ".join(sorted(paths)[:NAMED])
    more = len(paths) - NAMED
    return shown + (f" and {more} more" if more > 0 else "")


def _settings(status: str, names: Collection[str], ledger: Ledger) -> dict[str, str]:
    """Packages whose settings somebody has changed."""
    signs: dict[str, str] = {}
    for name, rows in used.settings(status, names).items():
        changed = [
            path
            for path, digest in rows.items()
            if not ledger.has("file", path) and _digest(path) not in ("", digest)
        ]
        if changed:
            signs[name] = _named(changed) + " was changed"
    return signs


def _digest(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            return hashlib.md5(stream.read(), usedforsecurity=False).hexdigest()
    except OSError:
        return ""


def _units(listed: Mapping[str, Collection[str]], ledger: Ledger) -> dict[str, str]:
    """Packages whose units others use, or whose programs or names units of others have."""
    signs: dict[str, str] = {}
    owner = {path: name for name, paths in listed.items() for path in paths}
    for unit, package in used.rested(ledger, snapshot.holders(listed)).items():
        if packages.in_use(properties(unit, "UnitFileState", "ActiveState")):
            signs.setdefault(package, f"{unit} is in use")
    for path in glob.glob(UNITS + "/*") + glob.glob(UNITS + "/*.d/*.conf"):
        if os.path.islink(path) or not os.path.isfile(path) or _is_ours(path, ledger):
            continue
        name = os.path.relpath(path, UNITS).split(".d/")[0]
        packaged = owner.get("/usr/lib/systemd/system/" + name)
        if packaged is not None:
            signs.setdefault(packaged, f"{path} is a unit of somebody else")
        with open(path, encoding="utf-8", errors="replace") as stream:
            for program in used.programs(stream.read()):
                if program in owner:
                    signs.setdefault(owner[program], f"{path} runs {program}")
    return signs


def _is_ours(path: str, ledger: Ledger) -> bool:
    return any(one.kind == "unit" and one.data.get("path") == path for one in ledger)


def _processes(listed: Mapping[str, Collection[str]], ledger: Ledger) -> dict[str, str]:
    """Packages whose programs run, and not for us."""
    owner = {path: name for name, paths in listed.items() for path in paths}
    packaged = {os.path.basename(path) for path in snapshot.holders(listed)}
    signs: dict[str, str] = {}
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            program = packages.plain(os.readlink(folder + "/exe"))
            name = owner.get(program)
            if name is None or name in signs:
                continue
            # The same path in a container is another file.
            if not os.path.samestat(os.stat(folder + "/exe"), os.stat(program)):
                continue
            if os.getsid(int(os.path.basename(folder))) == os.getsid(0):
                continue  # this very run
            with open(folder + "/cgroup", encoding="utf-8") as stream:
                cgroup = stream.read()
        except OSError:
            continue  # it has ended meanwhile
        if used.foreign_process(cgroup, packaged, ledger):
            signs[name] = f"{program} runs as process {os.path.basename(folder)}"
    return signs


def _strangers(directories: Iterable[Thing], ledger: Ledger) -> dict[str, tuple[str, ...]]:
    """Files of others in directories of ours, each by the innermost of these."""
    places = sorted((one.name for one in directories), key=len, reverse=True)
    ours = set()
    for one in ledger:
        if one.kind == "user":
            with contextlib.suppress(KeyError):
                ours.add(pwd.getpwnam(one.name).pw_uid)
    apart = {
        one.name
        for one in ledger
        if one.kind in ("app", "trace") or (one.kind == "directory" and one.data.get("guests"))
    }
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for place in places:
        for path in walk(place):
            if path in seen or any(inside(path, one) for one in apart):
                continue
            seen.add(path)
            try:
                around, status = os.stat(os.path.dirname(path)), os.lstat(path)
            except FileNotFoundError:
                continue  # gone since it was listed
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
                continue
            owner = (around.st_uid, around.st_gid)
            if used.stranger(path, status.st_uid, owner, ledger, ours):
                found.setdefault(place, []).append(path)
    return {place: tuple(paths) for place, paths in found.items()}
