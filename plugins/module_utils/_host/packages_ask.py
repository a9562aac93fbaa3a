# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether packages could be installed, found out without a change to the host."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from . import apt, apt_words, packages
from .apt_words import Download
from .errors import HostError
from .system import nearest, run

ARCHIVES = "/var/cache/apt/archives"
HELPER = "/usr/lib/apt/apt-helper"
# All waiting for servers together: none shall hold up the assessment. Who does not answer at all is
# given up after five seconds; this is for those that answer too slowly.
SECONDS = 60.0
QUICK = [
    "-o",
    "Acquire::Retries=0",
    "-o",
    "Acquire::http::Timeout=5",
    "-o",
    "Acquire::https::Timeout=5",
]
HOOKS = ("Pre-Invoke", "Post-Invoke", "Post-Invoke-Success", "Post-Invoke-Stats")


class Waiting:
    """Seconds left to wait for servers; what apt computes on a busy host is not counted."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    @contextlib.contextmanager
    def spent(self) -> Iterator[None]:
        """Count what is done within."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.left -= time.monotonic() - began


@dataclass(frozen=True)
class Wanted:
    """The packages that a task of a role asks for."""

    role: str
    names: tuple[str, ...]
    recommends: bool = False


def refusals(wanted: Sequence[Wanted]) -> list[tuple[str, str]]:
    """Everything that would keep apt from installing: role and sentence."""
    known = apt.states(sorted({name for one in wanted for name in one.names}))
    lacking = [
        Wanted(one.role, packages.lacking(one.names, known), one.recommends) for one in wanted
    ]
    lacking = [one for one in lacking if one.names]
    if not lacking:
        return []
    waiting = Waiting(SECONDS)
    with tempfile.TemporaryDirectory(prefix="mlops-apt-") as folder:
        try:
            return _refusals(lacking, folder, waiting)
        except HostError as error:
            return [(lacking[0].role, str(error))]


def _refusals(wanted: Sequence[Wanted], folder: str, waiting: Waiting) -> list[tuple[str, str]]:
    together = _together(wanted)
    view: Mapping[str, str] = own_cache(folder)
    if not apt.have_lists():
        view = private_lists(folder, waiting)
    fresh = not apt.have_lists()
    found = _simulated(wanted, together, view)
    if not fresh and any(apt_words.unknown(said) for _role, said in found):
        # The run refreshes the lists then; perhaps only they are too old.
        view = private_lists(folder, waiting)
        found = _simulated(wanted, together, view)
    if found:
        return found
    said = _unfetched(together, view, folder, waiting)
    return [(wanted[0].role, said)] if said else []


def _together(wanted: Sequence[Wanted]) -> Wanted:
    names = tuple(dict.fromkeys(name for one in wanted for name in one.names))
    return Wanted(wanted[0].role, names, any(one.recommends for one in wanted))


def _simulated(
    wanted: Sequence[Wanted], together: Wanted, view: Mapping[str, str]
) -> list[tuple[str, str]]:
    """One simulation for all; only where it fails, one for each task that asks."""
    if _refused(together, view) is None:
        return []
    each = [(one.role, _refused(one, view)) for one in wanted]
    found = [(role, said) for role, said in each if said is not None]
    return found or [(together.role, _refused(together, view) or "")]


def _refused(one: Wanted, view: Mapping[str, str]) -> str | None:
    words = packages.install_words(one.names, one.recommends)
    ran = apt.apt("-s", *words, env=view)
    if ran.rc != 0:
        return apt.why_not(words, ran.out + ran.err, view)
    try:
        packages.refuse_removals(packages.simulated(ran.out), one.names)
    except HostError as error:
        return str(error)
    return None


def own_cache(folder: str) -> dict[str, str]:
    """The environment in which apt keeps what it computes out of the host's own cache.

    It begins with what the host has computed, which takes seconds and is mostly up to date.
    """
    for name in ("pkgcache.bin", "srcpkgcache.bin"):
        with contextlib.suppress(OSError):
            shutil.copy(f"/var/cache/apt/{name}", f"{folder}/{name}")
    settings = os.path.join(folder, "cache.conf")
    with open(settings, "w", encoding="utf-8") as stream:
        stream.write(
            f'Dir::Cache::pkgcache "{folder}/pkgcache.bin";\n'
            f'Dir::Cache::srcpkgcache "{folder}/srcpkgcache.bin";\n'
        )
    return {"APT_CONFIG": settings}


def private_lists(folder: str, waiting: Waiting) -> dict[str, str]:
    """Fresh package lists in a folder of our own; the environment in which apt uses them.

    The host's configuration counts, but for what it runs around a refresh.
    """
    parts = os.path.join(folder, "apt.conf.d")
    if os.path.isdir("/etc/apt/apt.conf.d"):
        shutil.copytree("/etc/apt/apt.conf.d", parts, symlinks=False)
    else:
        os.mkdir(parts)
    with open(os.path.join(parts, "zzzz-mlops.conf"), "w", encoding="utf-8") as stream:
        stream.writelines(f"#clear APT::Update::{hook};\n" for hook in HOOKS)
    settings = os.path.join(folder, "apt.conf")
    for name in ("lists/partial", "cache/archives/partial"):
        os.makedirs(os.path.join(folder, name))
    os.chmod(folder, 0o755)  # noqa: S103 (apt fetches as a user of its own; nothing here is secret)
    with open(settings, "w", encoding="utf-8") as stream:
        stream.write(
            f'Dir::Etc::parts "{parts}";\nDir::State::lists "{folder}/lists";\n'
            f'Dir::Cache "{folder}/cache";\n'
        )
    view = {"APT_CONFIG": settings}
    words = ["update", *QUICK, "-o", "APT::Update::Error-Mode=any"]
    with waiting.spent():
        ran = apt.apt(*words, env=view, timeout=max(1.0, waiting.left))
    if ran.rc != 0:
        raise HostError(
            f"The package lists of this host are missing or too old, and cannot be fetched: "
            f"{apt_words.short(ran.said)}; check /etc/apt/sources.list.d and its way to the mirror."
        )
    return view


def _unfetched(one: Wanted, view: Mapping[str, str], folder: str, waiting: Waiting) -> str:
    """Why the archives could not be fetched; empty if they could."""
    words = packages.install_words(one.names, one.recommends)
    ran = apt.apt("-qq", "--print-uris", *words, env=view)
    files = apt_words.downloads(ran.out) if ran.rc == 0 else []
    needed = sum(file.bytes for file in files)
    place = os.statvfs(nearest(ARCHIVES))
    left = place.f_bavail * place.f_frsize
    if needed > left:
        return apt_words.no_room(ARCHIVES, needed, left)
    if not os.access(HELPER, os.X_OK):
        return ""
    failed = {}
    for file in apt_words.samples(files):
        said = _fetch(file, folder, waiting)
        if said:
            failed[file.server] = said
    return apt_words.unreachable(failed) if failed else ""


def _fetch(file: Download, folder: str, waiting: Waiting) -> str:
    """What apt says when it cannot fetch a file; empty if it can, or if the server answers."""
    if waiting.left <= 0:
        return "no answer in time"
    target = os.path.join(folder, "sample")
    words = [HELPER, *QUICK, "download-file", file.uri, target, *filter(None, [file.hash])]
    with waiting.spent():
        ran = run(words, env=apt.ENVIRONMENT, timeout=min(waiting.left, 20.0))
    if ran.rc == 0 or any(words in ran.said for words in apt_words.ANSWERED):
        return ""
    return ran.said
