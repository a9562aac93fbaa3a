# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine that runs the playbooks has to have, and the command that brings what it lacks.

This is read by versions of ansible-core that are too old for the rest of the collection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .._findings.finding import FAIL, PASS, Finding
from .._findings.sentence import listing

CORE = (2, 19)
# What is imported, what pip calls it, and the package of Debian. See requirements/controller.in.
PACKAGES: Mapping[str, tuple[str, str]] = {
    "boto3": ("boto3", "python3-boto3"),
    "cryptography": ("cryptography", "python3-cryptography"),
    "numpy": ("numpy", "python3-numpy"),
    "psycopg": ("'psycopg[binary]'", "python3-psycopg"),
    "pymysql": ("PyMySQL", "python3-pymysql"),
    "scipy": ("scipy", "python3-scipy"),
    "yaml": ("PyYAML", "python3-yaml"),
}
COLLECTIONS: Mapping[str, tuple[int, ...]] = {"community.crypto": (3, 0, 0)}
# Programs, and what brings them: pip, or the package of Debian.
PROGRAMS: Mapping[str, str] = {"ssh": "openssh-client", "sshpass": "sshpass"}


@dataclass(frozen=True)
class Controller:
    """What was seen of the machine that runs the playbooks.

    ``lacking`` are names of PACKAGES that cannot be imported, ``uv`` among them where that program
    is not found; ``collections`` the versions of what is installed of COLLECTIONS; ``programs``
    those of PROGRAMS that are needed and not found. ``python`` is the interpreter of Ansible,
    ``prefix`` its environment, ``managed`` whether that belongs to the system, ``pip`` whether it
    has pip.
    """

    python: str
    prefix: str
    lacking: Sequence[str] = ()
    collections: Mapping[str, str] | None = None
    programs: Sequence[str] = ()
    managed: bool = False
    pip: bool = True


def numbers(text: str) -> tuple[int, ...]:
    """The numbers that a version begins with: 2.19.0b1 is (2, 19, 0)."""
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def too_old(core: str, python: str) -> str:
    """The sentence that refuses an ansible-core; "" for one that is new enough."""
    if numbers(core) >= CORE:
        return ""
    wanted = ".".join(map(str, CORE))
    return (
        f"This is ansible-core {core}, wanted {wanted} or newer, which runs on Python 3.11 or "
        f"newer; install it with: {python} -m pip install 'ansible-core>={wanted}'"
    )


def check_controller(seen: Controller) -> Finding | None:
    """One finding about all that is lacking, with the commands that bring it."""
    old = [f"{name} {version}" if version else name for name, version in _collections(seen).items()]
    lacking = [
        *(
            [f"the Python {_plural('package', seen.lacking)} {listing(seen.lacking)}"]
            * bool(seen.lacking)
        ),
        *([f"the {_plural('collection', old)} {listing(_wanted(seen))}"] * bool(old)),
        *(
            [f"the {_plural('program', seen.programs)} {listing(seen.programs)}"]
            * bool(seen.programs)
        ),
    ]
    if not lacking:
        return None
    return Finding(
        "assess.controller",
        "controller",
        FAIL,
        f"this machine lacks {listing(lacking)}",
        "what the platform needs where the playbooks run",
        f"install with: {' && '.join(commands(seen))}",
    )


PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def told_proxies(environment: Mapping[str, str]) -> Finding | None:
    """Proxies that the environment names, without accounts, and who goes through them."""
    given = {}
    for name in PROXIES:
        value = environment.get(name) or environment.get(name.upper()) or ""
        if value:
            given[name] = value if name == "no_proxy" else without_account(value)
    if not given.keys() - {"no_proxy"}:
        return None
    return Finding(
        "assess.proxy",
        "controller",
        PASS,
        f"the environment names {listing(f'{name}={value}' for name, value in given.items())}",
        "Python packages are fetched through it from this machine; hosts, PostgreSQL, the object "
        "store and the gateway are asked directly, and apt on a host has settings of its own",
    )


def without_account(url: str) -> str:
    """The address of a proxy without user and password."""
    scheme, found, rest = url.rpartition("://")
    return f"{scheme}{found}{rest.rpartition('@')[2]}"


def _plural(noun: str, names: Sequence[str]) -> str:
    return noun if len(names) == 1 else f"{noun}s"


def _collections(seen: Controller) -> dict[str, str]:
    """Collections that are not there, or too old, with the version that is there."""
    there = seen.collections or {}
    return {
        name: there.get(name, "")
        for name, wanted in COLLECTIONS.items()
        if numbers(there.get(name, "")) < wanted
    }


def _wanted(seen: Controller) -> list[str]:
    return [
        f"{name} {'.'.join(map(str, COLLECTIONS[name]))} or newer"
        + (f" (found {version})" if version else "")
        for name, version in _collections(seen).items()
    ]


def commands(seen: Controller) -> list[str]:
    """The commands that bring all that is lacking, for the way in which Ansible was installed."""
    found = _python_commands(seen) if seen.lacking else []
    collections = [
        f"'{name}:>={'.'.join(map(str, COLLECTIONS[name]))}'" for name in _collections(seen)
    ]
    if collections:
        galaxy = f"{seen.python} -m ansible galaxy"
        found.append(f"{galaxy} collection install --upgrade {' '.join(collections)}")
    if seen.programs:
        names = " ".join(sorted({PROGRAMS[name] for name in seen.programs}))
        found.append(f"apt-get install -y {names}")
    return found


def _python_commands(seen: Controller) -> list[str]:
    names = [PACKAGES[name][0] if name in PACKAGES else name for name in seen.lacking]
    wanted = " ".join(names)
    pipx = re.search(r"/pipx/venvs/([^/]+)", seen.prefix)
    tool = re.search(r"/uv/tools/([^/]+)", seen.prefix)
    if pipx:
        return [f"pipx inject {pipx.group(1)} {wanted}"]
    if tool:
        more = " ".join(f"--with {name}" for name in names)
        return [f"uv tool install {tool.group(1)} {more}"]
    if seen.managed:
        packages = [PACKAGES[name][1] for name in seen.lacking if name in PACKAGES]
        rest = [name for name in seen.lacking if name not in PACKAGES]
        return [
            *([f"apt-get install -y {' '.join(packages)}"] if packages else []),
            *(f"pipx install {name}" for name in rest),
        ]
    if not seen.pip:
        return [f"uv pip install --python {seen.python} {wanted}"]
    return [f"{seen.python} -m pip install {wanted}"]
