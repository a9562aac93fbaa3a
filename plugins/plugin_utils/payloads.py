# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep from run to run what Ansible sends to hosts for a module.

For each module that a run uses, Ansible reads the module and all that it imports, some seventy
files, and packs them: a fifth of a second of a processor, while all hosts wait. It keeps the pack
as long as the run lasts. Here it is kept for the next run, which finds it where Ansible looks.

A pack holds code alone; what a task says to its module is added for each task. It is kept below a
name that tells of every file it can be made of, so that a changed file finds none. Only packs of
Ansible itself and of this collection are kept: what others are made of is not known here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from ansible import constants as C
from ansible.module_utils import basic
from ansible.release import __version__

OURS = Path(__file__).resolve().parents[1]
ANSIBLE = Path(basic.__file__).resolve().parents[1]
SOURCES = tuple(base / part for base in (ANSIBLE, OURS) for part in ("modules", "module_utils"))
NAMED = ("ansible.modules.", "ansible_collections.mlops.onprem.")
COMPLETE = b"."  # with which every pickle ends
KEPT_STATES = 5  # of the files: versions of Ansible, checkouts


def cache() -> Path:
    """Where packs are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "mlops.onprem" / "modules"


def state(sources: Iterable[Path]) -> str:
    """One word for all files that a pack can be made of: any that changes gives another."""
    told = hashlib.sha256(f"{__version__} {sys.version}".encode())
    for source in sources:
        for folder, folders, names in os.walk(source):
            folders.sort()
            for name in sorted(name for name in names if name.endswith(".py")):
                path = os.path.join(folder, name)
                found = os.stat(path)
                told.update(f"{path}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return told.hexdigest()[:32]


def place(folder: Path, sources: Iterable[Path] = SOURCES) -> Path | None:
    """The folder of the packs of now, made if needed; none where others could write into it."""
    if any(os.path.isdir(path) for path in C.DEFAULT_MODULE_UTILS_PATH):
        return None  # which may stand in for files of Ansible
    kept = folder / state(sources)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept.mkdir(mode=0o700, exist_ok=True)
    for one in (folder, kept):
        found = one.lstat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            return None
    return kept


def packs(folder: Path) -> Iterator[Path]:
    """The complete packs in a folder that can be kept."""
    for path in sorted(folder.glob("*")):
        if path.name.startswith(NAMED) and not path.name.endswith((".lock", "-part")):
            with path.open("rb") as stream:
                stream.seek(max(0, path.stat().st_size - 1))
                if stream.read() == COMPLETE:
                    yield path


def hand_over(source: Path, target: Path) -> None:
    """Let the other folder have the packs too: a link, or a copy on another file system."""
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in packs(source):
        wanted = target / path.name
        if wanted.exists():
            continue
        try:
            os.link(path, wanted)
        except OSError:
            part = target / f"{path.name}.{os.getpid()}-part"
            shutil.copyfile(path, part)
            part.rename(wanted)


def of_the_run() -> Path:
    """Where Ansible keeps the packs of this run."""
    return Path(C.DEFAULT_LOCAL_TMP) / "ansiballz_cache"


def bring() -> Path | None:
    """At the beginning of a run: where it may keep its packs. What is missing is packed anew."""
    try:
        kept = place(cache())
        if kept:
            hand_over(kept, of_the_run())
        return kept
    except OSError:
        return None


def keep(kept: Path | None) -> None:
    """At the end of a run, if no file has changed meanwhile; states not used for longest go."""
    try:
        if kept and place(kept.parent) == kept:
            hand_over(of_the_run(), kept)
            os.utime(kept)
            states = sorted(kept.parent.glob("*"), key=lambda path: -path.stat().st_mtime)
            for old in states[KEPT_STATES:]:
                shutil.rmtree(old, ignore_errors=True)
    except OSError:
        return
