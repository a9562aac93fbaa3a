# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""For hosts of tests only: what Python compiles is compiled once a machine, not anew on every host.

Ansible sends each module as a zip of sources, of which Python compiles some fifty anew each time:
half of what a task costs a host, and most of what a run of the tests computes. An application of
several thousand files is compiled on every host that gets it. This keeps what was compiled, by the
sum of its source and by the version of Python, where all hosts of tests on a machine find it.
Nothing else runs differently. It lies beside the system's own packages, together with a line that
imports it at the start of Python; whoever is not root neither reads nor writes what was kept.
"""
# Every Python of a host begins with this, so it imports as little as possible.

from __future__ import annotations

import _frozen_importlib_external as _external
import _imp
import marshal
import os
import sys
import zipimport
from typing import Any

KEPT = "/run/lab-bytecode"  # from the machine; where it is not, memory that a reboot empties
PAYLOAD = "_payload.zip"  # the name of every zip that Ansible makes of a module ends so
APPLICATIONS = "/opt/mlops/"
LOCKS = 64


def sum_of(source: bytes, name: str = "") -> str:
    """By which a source is known, to this Python; with a name where the code bears it."""
    named = _imp.source_hash(0x6C6162, name.encode()).hex() if name else ""
    return f"{sys.hexversion:x}-{_imp.source_hash(0x6C6162, source).hex()}-{len(source):x}{named}"


def kept(path: str) -> Any:
    """What was kept, or nothing if that cannot be read."""
    try:
        with open(path, "rb") as stream:
            return marshal.loads(stream.read())  # noqa: S302
    except (OSError, ValueError, EOFError, TypeError):
        return None


def keep(path: str, code: Any) -> None:
    """Keep what was compiled; the name appears with the whole content."""
    fresh = f"{path}.{os.getpid()}.{os.uname().nodename}"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(marshal.dumps(code))
    os.replace(fresh, path)


def once(folder: str, name: str, compiler: Any) -> Any:
    """What was kept by this name; where nothing is, one compiles, and others wait for it."""
    path = os.path.join(folder, name)
    code = kept(path)
    if code is not None:
        return code
    import fcntl  # noqa: PLC0415 - not at the start of every Python

    lock = -1
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        which = f".{sum(name.encode()) % LOCKS}"
        lock = os.open(os.path.join(folder, which), os.O_WRONLY | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        code = kept(path)
        if code is None:
            code = compiler()
            keep(path, code)
    except OSError:  # the disk is full, or whatever a test makes of it
        pass
    finally:
        if lock >= 0:
            os.close(lock)
    return compiler() if code is None else code


def install(folder: str = KEPT, applications: str = APPLICATIONS) -> None:
    """Put this between those who read sources and the compiler."""
    plain = zipimport._compile_source  # type: ignore[attr-defined]
    loader = _external.SourceLoader
    plain_file = loader.source_to_code

    def compile_source(pathname: str, source: bytes) -> Any:
        if PAYLOAD not in pathname:
            return plain(pathname, source)
        return once(folder, sum_of(source), lambda: plain(pathname, source))

    def source_to_code(self: Any, data: Any, path: Any, *more: Any, _optimize: int = -1) -> Any:
        def compiler() -> Any:
            return plain_file(self, data, path, *more, _optimize=_optimize)

        ours = isinstance(data, bytes) and isinstance(path, str) and path.startswith(applications)
        if not ours or more or _optimize != -1:
            return compiler()
        return once(folder, sum_of(data, path), compiler)

    zipimport._compile_source = compile_source  # type: ignore[attr-defined]
    loader.source_to_code = source_to_code


if hasattr(zipimport, "_compile_source") and os.geteuid() == 0:
    install()
