# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""For hosts of tests only: Ansible's modules are compiled once a host, not at every task.

Ansible sends each module as a zip of sources, of which Python compiles some fifty anew each time:
half of what a task costs a host, and most of what a run of the tests computes. This keeps what was
compiled, by the sum of its source and by the version of Python, in memory that a reboot empties.
Nothing else runs differently. It lies beside the system's own packages, together with a line that
imports it at the start of Python; whoever is not root neither reads nor writes what was kept.
"""
# Every Python of a host begins with this, so it imports as little as possible.

from __future__ import annotations

import _imp
import marshal
import os
import sys
import zipimport
from typing import Any

KEPT = "/run/lab-bytecode"
PAYLOAD = "_payload.zip"  # the name of every zip that Ansible makes of a module ends so


def sum_of(source: bytes) -> str:
    """By which a source is known, to this Python."""
    return f"{sys.hexversion:x}-{_imp.source_hash(0x6C6162, source).hex()}-{len(source):x}"


def keep(path: str, code: Any) -> None:
    """Keep what was compiled; the name appears with the whole content."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    fresh = f"{path}.{os.getpid()}"
    with open(fresh, "wb") as stream:
        stream.write(marshal.dumps(code))
    os.replace(fresh, path)


def install(folder: str = KEPT) -> None:
    """Put this between the import of zips and the compiler."""
    plain = zipimport._compile_source  # type: ignore[attr-defined]

    def compile_source(pathname: str, source: bytes) -> Any:
        if PAYLOAD not in pathname:
            return plain(pathname, source)
        path = os.path.join(folder, sum_of(source))
        try:
            with open(path, "rb") as stream:
                return marshal.loads(stream.read())  # noqa: S302
        except (OSError, ValueError, EOFError, TypeError):
            pass
        code = plain(pathname, source)
        try:
            keep(path, code)
        except OSError:  # the disk is full, or whatever a test makes of it
            pass
        return code

    zipimport._compile_source = compile_source  # type: ignore[attr-defined]


if hasattr(zipimport, "_compile_source") and os.geteuid() == 0:
    install()
