# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hands for Python applications: look at the host's Python, put an environment in its place."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from . import app
from .args import role_of
from .errors import HostError
from .ledger import Ledger, inside
from .system import Book, must, nearest, noexec, remove_tree, run, shut, sync_directory, write_whole

ASK = (
    "import json, os, platform, sys;"
    "print(json.dumps(['%d.%d' % sys.version_info[:2],"
    # A 64-bit kernel with a system of 32 bits is common on Raspberry Pis.
    f" platform.machine() + ('' if sys.maxsize > 2**32 else '{app.NARROW}'),"
    " os.confstr('CS_GNU_LIBC_VERSION')]))"
)
EXECUTABLE = 0o755
ANY = "any content"


def converge(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """What a task with these parameters asks for; without an archive only whether one is needed."""
    role, wanted = role_of(params), environment_of(params)
    found = damaged(wanted) if installed(wanted) else "not installed"
    answer = told(wanted, bool(found))
    if found:
        answer["diff"] = wanted.diff("" if found == "not installed" else found)
    with Book(check, site=params.get("site_id")) as book:
        ledger = claimed(book.ledger, role, wanted)
        # Until the archive is here, this is only the question whether it is needed.
        if found and (check or not params["archive"]):
            return answer
        book.write(ledger)
        if found:
            answer["seconds"] = install(wanted, params["archive"])
        wrong = misfits(wanted, book.ledger)
        if wrong:
            some = next(iter(wrong))
            answer["changed"] = True
            answer["diff"] = wanted.diff(f"{len(wrong)} wrong owners or modes, such as {some}")
            if not check:
                mend(wanted, wrong)
    return answer


def environment_of(params: Mapping[str, Any]) -> app.Environment:
    """The environment that a task asks for, on this host."""
    target = target_of(params["python"])
    digest = app.digest_for(params["digests"], target.version)
    rarely = tuple(params["rarely_imported"])
    return app.Environment(params["name"], digest, params["python"], target, rarely)


def told(wanted: app.Environment, lacking: bool) -> dict[str, Any]:
    """What the module answers of an environment."""
    return {
        "directory": wanted.final,
        "marker": wanted.marker,
        "python_version": wanted.target.version,
        "machine": wanted.target.machine,
        "libc": wanted.target.libc,
        "digest": wanted.digest,
        "changed": lacking,
        "archive_wanted": lacking,
    }


@cache
def target_of(python: str) -> app.Target:
    """The Python of this host."""
    ran = run([python, "-c", ASK], timeout=60)
    if ran.rc != 0:
        raise HostError(
            f"{python} does not run on this host ({ran.said}); install python3, or set another."
        )
    return app.Target(*json.loads(ran.out))


def installed(wanted: app.Environment) -> bool:
    """Whether exactly this environment is in its place."""
    try:
        with open(wanted.marker, encoding="utf-8") as stream:
            return stream.read() == wanted.text
    except OSError:
        return False


def damaged(wanted: app.Environment) -> str:
    """What is missing or was changed since the environment was installed, or nothing.

    Every file that a wheel recorded is looked at; its content only if it was touched after the
    marker was written, which is the last step of an installation.
    """
    if not os.path.exists(os.path.join(wanted.build, "bin", "python")):
        return f"{wanted.build}/bin/python is missing"
    since = os.stat(wanted.marker).st_ctime_ns
    # An environment of an earlier release does not tell what came otherwise than recorded.
    told = os.path.exists(os.path.join(wanted.build, app.CAME_OTHERWISE))
    for path, accepted in _accepted(wanted.build).items():
        if not _whole(path, accepted if told else [*accepted, (ANY, None)], since):
            return f"{path} is missing or was changed"
    return ""


def _accepted(build: str) -> dict[str, list[tuple[str, int | None]]]:
    """The sums and sizes that each file of an environment may have.

    Those are what the wheels recorded (two may bring the same file; either's content is right) and
    what it was when it came: a company's index or builder may put its own authorities into it.
    """
    files: dict[str, list[tuple[str, int | None]]] = {}
    for record in glob.glob(build + "/lib/*/site-packages/*.dist-info/RECORD"):
        place = os.path.dirname(os.path.dirname(record))
        with open(record, encoding="utf-8", errors="surrogateescape") as stream:
            for name, known, size in app.recorded(stream.read()):
                path = os.path.normpath(os.path.join(place, name))
                if inside(path, build):
                    files.setdefault(path, []).append((known, size))
    try:
        with open(os.path.join(build, app.CAME_OTHERWISE), encoding="utf-8") as stream:
            for name, (known, size) in json.load(stream).items():
                files.setdefault(os.path.join(build, name), []).append((known, size))
    except FileNotFoundError:
        pass
    return files


def _came_otherwise(build: str) -> dict[str, tuple[str, int]]:
    """Of a fresh environment the files that are not as their wheels recorded: sum and size."""
    found = {}
    for path, accepted in _accepted(build).items():
        if os.path.isfile(path) and not _whole(path, accepted, -1):
            found[os.path.relpath(path, build)] = (_sum(path), os.stat(path).st_size)
    return found


def _whole(path: str, accepted: Sequence[tuple[str, int | None]], since: int) -> bool:
    """Whether a file has one of the accepted sums and sizes, as far as it has to be read."""
    try:
        status = os.stat(path)
        if not any(size in (None, status.st_size) for _known, size in accepted):
            return False
        if status.st_ctime_ns <= since:
            return True
        return _sum(path) in [known for known, _size in accepted]
    except OSError:
        return False


def _sum(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def misfits(wanted: app.Environment, ledger: Ledger) -> dict[str, int]:
    """What services cannot read or others could change, with the modes that it has to have."""
    above = [path for path in (app.ROOT, app.BUILDS) if ledger.has("directory", path)]
    found: dict[str, int] = {}
    for path in (*above, wanted.builds, wanted.build, *_below(wanted.build)):
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            continue
        mode = stat.S_IMODE(status.st_mode)
        fitting = app.fitting_mode(mode, stat.S_ISDIR(status.st_mode))
        if mode != fitting or (status.st_uid, status.st_gid) != (0, 0):
            found[path] = fitting
    return found


def _below(top: str) -> Iterator[str]:
    for folder, folders, files in os.walk(top):
        yield from (os.path.join(folder, name) for name in (*folders, *files))


def mend(wanted: app.Environment, modes: Mapping[str, int]) -> None:
    """Give the parts their modes, and let services see that their environment has changed."""
    for path, mode in modes.items():
        os.chown(path, 0, 0)
        os.chmod(path, mode)
    write_whole(os.path.join(wanted.build, app.MARKER), wanted.text.encode(), 0o644)


def claimed(ledger: Ledger, role: str, wanted: app.Environment) -> Ledger:
    """The ledger with the environment in it, or a refusal."""
    for folder in (app.ROOT, app.BUILDS):
        place = nearest(folder)
        if not os.path.isdir(place):
            raise HostError(f"{place} shall be a directory, but is something else; move it away.")
        if not installed(wanted):
            why = shut(place) or noexec(place)
            if why:
                raise HostError(f"{wanted.final} cannot be made: {why}.")
    present = [path for path in (wanted.final, app.ROOT, app.BUILDS) if os.path.lexists(path)]
    return app.claimed(ledger, role, wanted, present)


def install(wanted: app.Environment, archive: str, bytecode: bool = True) -> dict[str, float]:
    """Make the environment beside the old one and switch; how long the parts took."""
    os.makedirs(wanted.builds, mode=0o755, exist_ok=True)
    seconds = _make(wanted, archive)
    if bytecode:
        seconds["compile"] = _compile(wanted)
    write_whole(os.path.join(wanted.build, app.MARKER), wanted.text.encode(), 0o644)
    fresh = os.path.join(app.ROOT, f".mlops-new-{wanted.name}")
    if os.path.lexists(fresh):
        os.unlink(fresh)
    os.symlink(os.path.relpath(wanted.build, app.ROOT), fresh)
    os.replace(fresh, wanted.final)
    sync_directory(app.ROOT)
    for old in glob.glob(wanted.builds + "/*"):
        if old != wanted.build:
            remove_tree(old, frozenset())
    return seconds


def _make(wanted: app.Environment, archive: str) -> dict[str, float]:
    began = time.monotonic()
    build, python = wanted.build, wanted.python
    if os.path.lexists(build):
        remove_tree(build, frozenset())
    os.makedirs(build, mode=0o755)
    must(
        ["tar", "--extract", "--no-same-owner", "--file", archive, "--directory", build],
        "unpack the environment",
    )
    programs = os.path.join(build, "bin")
    os.makedirs(programs, mode=0o755, exist_ok=True)
    point_scripts(programs, os.path.join(wanted.final, "bin", "python"))
    for name, link in (("python", python), ("python3", "python")):
        path = os.path.join(programs, name)
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink(link, path)
    with open(os.path.join(build, "pyvenv.cfg"), "w", encoding="utf-8") as stream:
        stream.write(wanted.settings)
    otherwise = json.dumps(_came_otherwise(build), sort_keys=True) + "\n"
    write_whole(os.path.join(build, app.CAME_OTHERWISE), otherwise.encode(), 0o644)
    return {"unpack": round(time.monotonic() - began, 1)}


def _compile(wanted: app.Environment) -> float:
    """Make the bytecode of the modules, and say how long that took."""
    began = time.monotonic()
    # A service cannot write bytecode: what has none is compiled at each start that imports it.
    words = [wanted.python, "-m", "compileall", "-q", "-j", "0"]
    words += ["-x", app.without_bytecode(wanted.rarely)]
    build = wanted.build
    run([*words, "-s", build, "-p", wanted.final, os.path.join(build, "lib")])
    return round(time.monotonic() - began, 1)


def point_scripts(folder: str, python: str) -> None:
    """Make the scripts run with the environment's Python."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.islink(path) or not os.path.isfile(path):
            continue
        with open(path, "rb") as stream:
            first = stream.readline(1024)
            rest = stream.read()
        line = app.shebang(first, python)
        if line is not None:
            with open(path, "wb") as stream:
                stream.write(line + rest)
            os.chmod(path, EXECUTABLE)
