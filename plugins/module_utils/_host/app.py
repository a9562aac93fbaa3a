# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Python applications: for which platform they are built, and where they live."""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import json
import os.path
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from .errors import HostError
from .ledger import Ledger

ROOT = "/opt/mlops"
BUILDS = ROOT + "/.builds"
MARKER = "mlops-app.json"
CAME_OTHERWISE = "mlops-app-files.json"  # of files that are not as their wheels recorded

# The platform names that uv knows, by the minor version of glibc 2 that they need.
GLIBC = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)
MACHINES = ("x86_64", "aarch64")
NARROW = " of 32 bits"  # after the machine, where its Python is one of 32 bits
ANY_PYTHON = "any"  # the locked file without a Python in its name

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_BESIDE = re.compile(r"-py([0-9])([0-9]+)")
_LOCKED = re.compile(r"^\s*[A-Za-z0-9][A-Za-z0-9._-]*(\[[^\]]*\])?==\S+")


def wider(machine: str) -> str:
    """What helps where only the system has 32 bits, as the end of a sentence."""
    narrow = machine.endswith(NARROW) or machine.startswith(("armv", "i386", "i686"))
    return "; install its system anew in the 64-bit edition" if narrow else ""


@dataclass(frozen=True)
class Target:
    """The Python of a host."""

    version: str  # 3.13
    machine: str  # x86_64
    libc: str  # glibc 2.41

    @property
    def platform(self) -> str:
        """uv's name for the newest platform that the host can run."""
        found = re.match(r"^glibc 2\.(\d+)", self.libc)
        if not found:
            raise HostError(
                f"Python applications need glibc; this host has {self.libc or 'another C library'}."
            )
        if self.machine not in MACHINES:
            raise HostError(
                f"Python applications are built for {' and '.join(MACHINES)}; this host is a "
                f"{self.machine}{wider(self.machine)}."
            )
        fitting = [minor for minor in GLIBC if minor <= int(found.group(1))]
        if not fitting:
            raise HostError(
                f"Python applications need glibc 2.{GLIBC[0]}; this host has {self.libc}."
            )
        return f"{self.machine}-manylinux_2_{fitting[-1]}"


@dataclass(frozen=True)
class Environment:
    """An environment as a role asks for it, and where its parts are."""

    name: str
    digest: str
    python: str
    target: Target
    rarely: tuple[str, ...] = ()  # folders below site-packages that get no bytecode

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise HostError(f"{self.name!r} is not a name for a Python application.")

    @property
    def final(self) -> str:
        return f"{ROOT}/{self.name}"

    @property
    def builds(self) -> str:
        return f"{BUILDS}/{self.name}"

    @property
    def build(self) -> str:
        return f"{self.builds}/{self.digest[:16]}-{self.target.version}"

    @property
    def marker(self) -> str:
        """The file that changes when the environment does."""
        return f"{self.final}/{MARKER}"

    @property
    def text(self) -> str:
        """The content of the marker."""
        document = {
            "python": self.python,
            "requirements": self.digest,
            "version": self.target.version,
        }
        return json.dumps(document, sort_keys=True) + "\n"

    @property
    def settings(self) -> str:
        """The content of pyvenv.cfg."""
        return (
            f"home = {os.path.dirname(self.python)}\ninclude-system-site-packages = false\n"
            f"version = {self.target.version}\n"
        )

    def diff(self, before: str = "") -> dict[str, str]:
        """What a run shows; ``before`` is what it found in place of a whole environment."""
        return {
            "before_header": self.final,
            "after_header": self.final,
            "before": before and before + "\n",
            "after": f"requirements {self.digest[:16]} for Python {self.target.version}\n",
        }


def claimed(ledger: Ledger, role: str, wanted: Environment, present: Collection[str]) -> Ledger:
    """The ledger with the environment in it, unless somebody else's thing is in its place."""
    if wanted.final in present and not ledger.has("app", wanted.final):
        raise HostError(
            f"{wanted.final} is there already and was not made by the platform; move it away."
        )
    for folder in (ROOT, BUILDS):
        if ledger.has("directory", folder) or folder not in present:
            ledger = ledger.claim(role, "directory", folder)
    return ledger.claim(role, "app", wanted.final, paths=[wanted.final, wanted.builds])


def fitting_mode(mode: int, directory: bool) -> int:
    """The mode that a part of an environment has to have: services of any user run it, and nobody
    but root changes it."""
    return 0o755 if directory or mode & 0o100 else 0o644


def without_bytecode(rarely: Iterable[str]) -> str:
    """The regular expression of the files that are not compiled ahead.

    Tests are never imported, and some are wrong on purpose. ``rarely``: folders below
    ``site-packages`` whose modules the service does not import; what imports the folder itself,
    its ``__init__.py``, is compiled.
    """
    words = [r"/tests?/", r"/lib2to3/"]
    words += [rf"/site-packages/{re.escape(one)}/(?!__init__\.py$)" for one in rarely]
    return "|".join(words)


def recorded(text: str) -> Iterator[tuple[str, str, int | None]]:
    """The rows of a wheel's RECORD that can be checked: path, SHA-256 in hexadecimal digits and
    size in bytes, if it tells them. Scripts are not among them: their first line is ours."""
    for row in csv.reader(text.splitlines()):
        if len(row) != 3 or not row[1].startswith("sha256=") or "/bin/" in f"/{row[0]}":
            continue
        digits = row[1][len("sha256=") :]
        with contextlib.suppress(ValueError):
            known = base64.urlsafe_b64decode(digits + "=" * (-len(digits) % 4)).hex()
            yield row[0], known, int(row[2]) if row[2].isdigit() else None


def refuse_unlocked(text: str, name: str) -> None:
    """Every requirement has to name one version and its hashes."""
    for block in re.sub(r"\\\n", " ", text).splitlines():
        line = block.strip()
        if not line or line.startswith(("#", "--")):
            continue
        if not _LOCKED.match(line) or "--hash=sha256:" not in line:
            raise HostError(
                f"{name} is not locked: {line.split()[0]} has no exact version with sha256 hashes. "
                "Make the file with: uv pip compile --generate-hashes."
            )


def digest(requirements: str) -> str:
    return hashlib.sha256(requirements.encode()).hexdigest()


def python_of(lock: str, name: str) -> str | None:
    """The Python that a locked file is for: ``requirements-py311.txt`` stands beside
    ``requirements.txt`` and is for 3.11, because no version of some package serves all."""
    stem, ending = os.path.splitext(lock)
    beside, other = os.path.splitext(name)
    if ending != other or not stem.startswith(beside):
        return None
    found = _BESIDE.fullmatch(stem[len(beside) :])
    return f"{found.group(1)}.{found.group(2)}" if found else None


def digest_for(digests: Mapping[str, str], version: str) -> str:
    """The hash of the locked file for a Python: its own, or that of the file for all others."""
    return digests.get(version) or digests[ANY_PYTHON]


def key(requirements: str, target: Target, builder: str) -> str:
    """The name of a built tree in the controller's cache."""
    parts = (requirements, target.version, target.platform, builder, "layout 1")
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def shebang(first: bytes, python: str) -> bytes | None:
    """The first line of a script for the Python at ``python``; None if it is no Python script."""
    if not first.startswith(b"#!") or b"python" not in first:
        return None
    return b"#!" + python.encode() + b"\n"


def index_environment(pip: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    """pip's own index settings (``pip config list``) as uv takes them, unless uv has its own."""
    found: dict[str, str] = {}
    if any(
        name in env for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS")
    ):
        return found
    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "extra-index-url": "UV_INDEX",
        "find-links": "UV_FIND_LINKS",
        "trusted-host": "UV_INSECURE_HOST",
        "cert": "SSL_CERT_FILE",
    }
    separators = {"UV_FIND_LINKS": ","}
    for scope in ("global", "install", "download", ":env:"):
        for option, name in names.items():
            value = pip.get(f"{scope}.{option}")
            if value:
                found[name] = separators.get(name, " ").join(value.split())
    if found and "UV_INDEX_STRATEGY" not in env:
        # Every file is held to its hash, so it does not matter which index serves it.
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return {name: value for name, value in found.items() if name not in env}


def pip_settings(lines: Iterable[str]) -> dict[str, str]:
    """The output of ``pip config list`` as a mapping."""
    found = {}
    for line in lines:
        name, separator, value = line.partition("=")
        if separator:
            text = value.strip()
            if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
                text = text[1:-1]
            found[name.strip()] = text.replace("\\n", "\n").strip()
    return found
