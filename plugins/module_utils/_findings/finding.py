# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One answer of a check, and a service's needs on one host, as roles declare them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .sentence import brief
from .shape import (
    ShapeError,
    each,
    field,
    known_keys,
    mapping,
    number,
    optional,
    shown,
    text,
    whole,
)

PASS, WARN, FAIL, ERROR = "pass", "warn", "fail", "error"
# In rising order of weight. An error is a check that could not be made.
SEVERITIES = (PASS, WARN, FAIL, ERROR)
SITE = "site"  # in place of a host where a finding is about all of them
# How Ansible, and how the site says it of a variable.
UNDEFINED = re.compile(r"'(?P<name>[a-z_][a-z0-9_]*)' is undefined")
OUR_SENTENCE = re.compile(r"The lookup plugin 'mlops\.onprem\.\w+' failed: (?P<said>.+)")
NOT_SET = re.compile(r"failed: (?P<said>(?P<name>[a-z][a-z0-9_]*) is not set[^:;]*)")
ANY_ADDRESS = "0.0.0.0"  # noqa: S104, a name for it, nothing is bound
ANY_MOUNT = "true"  # any mount but the one of the root
NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_-]+)+")


@dataclass(frozen=True)
class Finding:
    """What one check found on one host, what was wanted, and what mends it."""

    id: str
    host: str
    severity: str
    found: str
    wanted: str = ""
    remedy: str = ""

    @property
    def sentence(self) -> str:
        """The finding as one sentence."""
        wanted = f", wanted {self.wanted}" if self.wanted else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.host}: {self.found}{wanted}{remedy}"

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


FINDING_KEYS = ("id", "host", "severity", "found", "wanted", "remedy")


def parse_finding(data: object, host: str = "") -> Finding:
    """A finding from what a role wrote. ``host`` is used where it names none."""
    given = mapping(data)
    known_keys(given, FINDING_KEYS)
    name = field(given, "id", text)
    if not NAME.fullmatch(name):
        raise ShapeError(f"must look like role.check, but is {name!r}", "id")
    severity = field(given, "severity", text)
    if severity not in SEVERITIES:
        raise ShapeError(f"must be one of {', '.join(SEVERITIES)}, but is {severity!r}", "severity")
    finding = Finding(
        id=name,
        host=optional(given, "host", text, host),
        severity=severity,
        found=field(given, "found", text),
        wanted=optional(given, "wanted", lambda value: str(value).strip(), ""),
        remedy=optional(given, "remedy", lambda value: str(value).strip(), ""),
    )
    if severity in (FAIL, ERROR) and not finding.remedy:
        raise ShapeError(
            "is missing; a finding that stops the site says which variable or command mends it",
            "remedy",
        )
    return finding


@dataclass(frozen=True)
class DiskNeed:
    """Space under a path, in MiB, and how many files.

    ``mount`` is the mount that must hold the path: ``true`` is any but the root's, empty is any.
    """

    path: str
    mib: float
    why: str = ""
    inodes: int = 0
    mount: str = ""


@dataclass(frozen=True)
class PortNeed:
    """A port to listen on. The address 0.0.0.0 or :: means all.

    ``remedy`` says what to set where somebody else has the port.
    """

    port: int
    address: str = ANY_ADDRESS
    protocol: str = "tcp"
    remedy: str = ""


@dataclass(frozen=True)
class Demand:
    """What one service needs of the host it is placed on."""

    service: str
    role: str = ""
    unit: str = ""
    cpu_cores: float = 0.0
    memory_mib: float = 0.0
    disks: tuple[DiskNeed, ...] = ()
    ports: tuple[PortNeed, ...] = ()
    gpus: int = 0
    source: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, that `parse_demand` reads back."""
        data = asdict(self)
        data["disks"] = [asdict(disk) for disk in self.disks]
        data["ports"] = [asdict(port) for port in self.ports]
        return data


DEMAND_KEYS = (
    "service",
    "role",
    "unit",
    "cpu_cores",
    "memory_mib",
    "disks",
    "ports",
    "gpus",
    "source",
)


def parse_path(value: object) -> str:
    """An absolute path without a slash at its end."""
    path = text(value)
    if not path.startswith("/"):
        raise ShapeError(f"must be an absolute path, but is {shown(path)}")
    return path.rstrip("/") or "/"


def _disk(data: object) -> DiskNeed:
    given = mapping(data)
    known_keys(given, ("path", "mib", "why", "inodes", "mount"))
    return DiskNeed(
        path=field(given, "path", parse_path),
        mib=field(given, "mib", number),
        why=optional(given, "why", lambda value: str(value).strip(), ""),
        inodes=optional(given, "inodes", whole, 0),
        mount=optional(given, "mount", _mount, ""),
    )


def _mount(value: object) -> str:
    if isinstance(value, bool) or value in ("", ANY_MOUNT):
        return ANY_MOUNT if value else ""
    return parse_path(value)


def _port_number(value: object) -> int:
    port = whole(value)
    if not 1 <= port <= 65535:
        raise ShapeError(f"must be between 1 and 65535, but is {port}")
    return port


def _protocol(value: object) -> str:
    protocol = text(value)
    if protocol not in ("tcp", "udp"):
        raise ShapeError(f"must be tcp or udp, but is {protocol!r}")
    return protocol


def _port(data: object) -> PortNeed:
    given = mapping(data)
    known_keys(given, ("port", "address", "protocol", "remedy"))
    return PortNeed(
        port=field(given, "port", _port_number),
        address=optional(given, "address", text, ANY_ADDRESS),
        protocol=optional(given, "protocol", _protocol, "tcp"),
        remedy=optional(given, "remedy", lambda value: str(value).strip(), ""),
    )


def parse_demand(data: object, role: str = "") -> Demand:
    """A service's needs from what a role wrote."""
    given: Mapping[str, Any] = mapping(data)
    known_keys(given, DEMAND_KEYS)
    return Demand(
        service=field(given, "service", text),
        role=optional(given, "role", text, role) if given.get("role") else role,
        unit=optional(given, "unit", lambda value: str(value).strip(), ""),
        cpu_cores=optional(given, "cpu_cores", number, 0.0),
        memory_mib=optional(given, "memory_mib", number, 0.0),
        disks=optional(given, "disks", lambda value: each(value, _disk), ()),
        ports=optional(given, "ports", lambda value: each(value, _port), ()),
        gpus=optional(given, "gpus", whole, 0),
        source=optional(given, "source", lambda value: str(value).strip(), ""),
    )


def replace_role(kept: Any, role: str, new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Earlier entries of other roles, followed by the new ones of ``role``."""
    earlier = (
        [dict(row) for row in kept if isinstance(row, Mapping)]
        if isinstance(kept, (list, tuple))
        else []
    )
    return [row for row in earlier if row.get("role") != role] + [
        {**row, "role": role} for row in new
    ]


def from_failure(role: str, host: str, result: Mapping[str, Any]) -> list[Finding]:
    """What a preflight that failed says: each wrong variable by itself, else that it failed."""
    wrong = result.get("argument_errors")
    if isinstance(wrong, (list, tuple)) and wrong:
        return [
            Finding(
                f"{role}.variables",
                host,
                FAIL,
                brief(said),
                f"variables as roles/{role}/README.md describes them",
                "mend the variable in the inventory",
            )
            for said in wrong
        ]
    said = brief(result.get("msg") or result.get("exception") or "no reason given")
    missing = UNDEFINED.search(said) or NOT_SET.search(said)
    if missing and not missing["name"].startswith("__"):
        return [
            Finding(
                f"{role}.variables",
                host,
                FAIL,
                missing.groupdict().get("said") or f"{missing['name']} is not set",
                f"variables as ansible-doc -t role mlops.onprem.{role} describes them",
                f"set {missing['name']} in the inventory, a secret in a file of ansible-vault",
            )
        ]
    sentence = OUR_SENTENCE.search(" ".join(str(result.get("msg")).split()))
    if sentence:
        return [
            Finding(
                f"{role}.preflight",
                host,
                ERROR,
                _once(sentence["said"]),
                "an answer of every role",
                "do what the sentence says, then assess again",
            )
        ]
    return [
        Finding(
            f"{role}.preflight",
            host,
            ERROR,
            f"the preflight of {role} could not be made: {said}",
            "a preflight that ends",
            f"mend what the sentence names; if that is nothing of this site, it is a mistake of "
            f"mlops.onprem.{role}, to be reported with the sentence",
        )
    ]


def _once(said: str) -> str:
    """A sentence that Ansible repeats as its own cause, once and without a full stop."""
    half = len(said) // 2
    for middle in (half - 1, half, half + 1):
        first, second = said[:middle].strip(" :."), said[middle:].strip(" :.")
        if first and first == second:
            return first
    return said.rstrip(". ")
