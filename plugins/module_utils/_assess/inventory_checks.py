# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with an inventory, before any host is looked at."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Union

from .._findings.finding import FAIL, PASS, SITE, WARN, Finding
from .._findings.shape import ShapeError, items, kind_of, mapping

RINGS = ("ring_canary", "ring_early", "ring_fleet")
BUILT_IN_GROUPS = ("all", "ungrouped")
PROFILES = ("lab", "pilot", "production")
SITE_PREFIX = "mlops_"
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]  # evaluated by Python 3.9


@dataclass(frozen=True)
class HostEntry:
    """A host of the inventory: its address and the names of its variables."""

    name: str
    address: str
    groups: tuple[str, ...] = ()
    variables: frozenset[str] = frozenset()
    local: bool = False
    port: int = 22


@dataclass(frozen=True)
class Interface:
    """The variables that the collection reads: its own roles and the page that wires them."""

    roles: tuple[str, ...]
    known: frozenset[str]


@dataclass(frozen=True)
class Inventory:
    """An inventory as Ansible understood it, and the values of the variables checked here."""

    hosts: tuple[HostEntry, ...]
    groups: Mapping[str, Sequence[str]]
    # The groups that the platform knows, from its table of roles.
    platform: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    # Names of files under group_vars and host_vars.
    group_files: tuple[str, ...] = ()
    host_files: tuple[str, ...] = ()


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.7) -> str:
    """The closest known name, as the end of a sentence."""
    close = difflib.get_close_matches(name, sorted(known), 1, cutoff)
    return f"did you mean {close[0]}?" if close else ""


def _fail(check: str, host: str, found: str, wanted: str, remedy: str) -> Finding:
    return Finding(f"inventory.{check}", host, FAIL, found, wanted, remedy)


def _warn(check: str, host: str, found: str, wanted: str, remedy: str) -> Finding:
    return Finding(f"inventory.{check}", host, WARN, found, wanted, remedy)


def check_groups(inventory: Inventory) -> list[Finding]:
    """Groups that nothing reads: their hosts would silently get nothing."""
    findings = []
    extra: Sequence[Any] = ()
    given = inventory.values.get("mlops_extra_groups")
    if given is not None:
        try:
            extra = items(given)
        except ShapeError as error:
            findings.append(
                _fail(
                    "extra_groups",
                    SITE,
                    f"mlops_extra_groups {error}",
                    "a list of group names",
                    "mend mlops_extra_groups",
                )
            )
    allowed = {*inventory.platform, *BUILT_IN_GROUPS, *map(str, extra)}
    for name in sorted(set(inventory.groups) - allowed):
        hint = did_you_mean(name, inventory.platform, 0.6)
        findings.append(
            _fail(
                "unknown_group",
                SITE,
                f"the group {name!r} is not one of the platform" + (f" ({hint})" if hint else ""),
                f"one of {', '.join(inventory.platform)}",
                f"rename it, or add {name!r} to mlops_extra_groups if it is for your own use",
            )
        )
    for name in sorted(set(inventory.group_files) - allowed - set(inventory.groups)):
        hint = did_you_mean(name, {*allowed, *inventory.groups}, 0.6)
        findings.append(
            _fail(
                "unknown_group",
                SITE,
                f"group_vars has variables for the group {name!r}, which does not exist"
                + (f" ({hint})" if hint else ""),
                "variables of groups that exist",
                "rename the file",
            )
        )
    known_hosts = {host.name for host in inventory.hosts}
    for name in sorted(set(inventory.host_files) - known_hosts - {"localhost"}):
        hint = did_you_mean(name, known_hosts, 0.6)
        findings.append(
            _fail(
                "unknown_host",
                SITE,
                f"host_vars has variables for the host {name!r}, which does not exist"
                + (f" ({hint})" if hint else ""),
                "variables of hosts that exist",
                "rename the file",
            )
        )
    return findings


def check_exclusive(inventory: Inventory) -> list[Finding]:
    """A device is in one ring."""
    findings = []
    for host in inventory.hosts:
        rings = [ring for ring in RINGS if host.name in inventory.groups.get(ring, ())]
        if len(rings) > 1:
            findings.append(
                _fail(
                    "exclusive_groups",
                    host.name,
                    f"is in the groups {' and '.join(rings)}",
                    "one ring a device",
                    f"take it out of all but one of {', '.join(rings)}",
                )
            )
        if rings and host.name not in inventory.groups.get("edge", ()):
            findings.append(
                _fail(
                    "ring_outside_edge",
                    host.name,
                    f"is in {rings[0]} but not in edge",
                    "rings as children of the group edge",
                    f"make {rings[0]} a child of edge",
                )
            )
    return findings


def check_required(inventory: Inventory) -> list[Finding]:
    """Groups that have to have hosts, given how contracts are met."""
    if not inventory.hosts:
        return [
            _fail(
                "no_hosts",
                SITE,
                "the inventory has no hosts",
                "at least one host in control",
                "name the inventory with: -i inventories/NAME",
            )
        ]
    return [
        *_check_control(inventory.groups.get("control", ())),
        *_check_mode(inventory, "metadata_db", "metadata_db_host"),
        *_check_mode(inventory, "object_store", "object_store_endpoint"),
        *_check_edge(inventory.groups.get("edge", ())),
        *_check_profile(inventory.values.get("mlops_profile")),
    ]


def _check_control(hosts: Sequence[str]) -> Iterator[Finding]:
    if not hosts:
        yield _fail(
            "required_group",
            SITE,
            "the group control has no host",
            "one host in control",
            "put the host of the control plane into the group control",
        )
    if len(hosts) > 1:
        yield _fail(
            "control_hosts",
            SITE,
            f"the group control has {len(hosts)} hosts: {', '.join(hosts)}",
            "one host, as the control plane is not replicated",
            "leave one host in control; the others can serve metadata_db, object_store or gpu",
        )


def _check_mode(inventory: Inventory, role: str, endpoint: str) -> Iterator[Finding]:
    """Whether what the mode of a service needs is there: hosts of its own, or an address."""
    mode = inventory.values.get(f"{role}_mode") or "managed"
    hosts = inventory.groups.get(role, ())
    if mode not in ("managed", "existing"):
        yield _fail(
            "mode", SITE, f"{role}_mode is {mode!r}", "managed or existing", f"mend {role}_mode"
        )
    elif mode == "managed" and not hosts:
        yield _fail(
            "required_group",
            SITE,
            f"the group {role} has no host while {role}_mode is managed",
            f"one host in {role}",
            f"put a host into {role}, or set {role}_mode: existing and {endpoint}",
        )
    elif mode == "existing" and not inventory.values.get(endpoint):
        yield _fail(
            "endpoint",
            SITE,
            f"{endpoint} is not set while {role}_mode is existing",
            "the address of the existing service",
            f"set {endpoint}",
        )
    elif mode == "existing" and hosts:
        yield _warn(
            "unused_group",
            SITE,
            f"the group {role} has hosts while {role}_mode is existing",
            "no host in it: nothing is installed there",
            f"empty the group, or set {role}_mode: managed",
        )


def _check_edge(hosts: Sequence[str]) -> Iterator[Finding]:
    if not hosts:
        yield _warn(
            "no_edge",
            SITE,
            "the group edge has no host",
            "at least one device that serves models",
            "put devices into ring_canary, ring_early or ring_fleet",
        )


def _check_profile(profile: object) -> Iterator[Finding]:
    if profile is not None and profile not in PROFILES:
        hint = did_you_mean(str(profile), PROFILES, 0.5)
        yield _fail(
            "profile",
            SITE,
            f"mlops_profile is {profile!r}" + (f" ({hint})" if hint else ""),
            f"one of {', '.join(PROFILES)}",
            "mend mlops_profile",
        )


def parse_networks(value: object) -> tuple[dict[str, Network], list[Finding]]:
    """The declared networks, and one finding for each that cannot be one."""
    found: dict[str, Network] = {}
    findings = []
    try:
        given = mapping(value)
    except ShapeError as error:
        return {}, [
            _fail(
                "network",
                SITE,
                f"mlops_networks {error}",
                "a mapping of names to networks",
                "write mlops_networks as {site: 10.0.0.0/24}",
            )
        ]
    for name, text in given.items():
        place = f"mlops_networks.{name}"
        try:
            if isinstance(text, bool) or not isinstance(text, str) or "/" not in text:
                raise ValueError(f"{kind_of(text)} is no network in CIDR notation")
            found[name] = ipaddress.ip_network(text.strip())
        except ValueError as error:
            wanted = "a network such as 10.0.0.0/24"
            remedy = f"mend {place}"
            try:
                loose = ipaddress.ip_network(str(text).strip(), strict=False)
            except ValueError:
                pass
            else:
                if "/" in str(text):
                    wanted, remedy = f"the network {loose}", f"set {place}: {loose}"
            findings.append(_fail("network", SITE, f"{place} is {text!r}: {error}", wanted, remedy))
    return found, findings


def check_networks(inventory: Inventory) -> list[Finding]:
    """Networks are well formed, apart from each other, and hold every host."""
    given = inventory.values.get("mlops_networks")
    if given is None:
        return []
    networks, findings = parse_networks(given)
    for (one, first), (two, second) in combinations(networks.items(), 2):
        if first.version == second.version and first.overlaps(second):
            findings.append(
                _fail(
                    "network_overlap",
                    SITE,
                    f"mlops_networks.{one} ({first}) overlaps mlops_networks.{two} ({second})",
                    "networks that are apart",
                    f"mend mlops_networks.{one} or mlops_networks.{two}",
                )
            )
    if not networks or findings:
        return findings
    for host in inventory.hosts:
        address = parse_address(host.address)
        if host.local or address is None:
            continue
        if not any(address in network for network in networks.values()):
            declared = ", ".join(f"{name} {network}" for name, network in networks.items())
            findings.append(
                _fail(
                    "address_outside",
                    host.name,
                    f"its address {address} is in none of the declared networks",
                    f"an address in {declared}",
                    "mend ansible_host or mlops_address, or declare its network in mlops_networks",
                )
            )
    return findings


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, None if it is a name."""
    try:
        return ipaddress.ip_address(text.strip())
    except ValueError:
        return None


def check_addresses(inventory: Inventory) -> list[Finding]:
    """Two names for one machine would be counted, and changed, twice."""
    findings = []
    seen: dict[tuple[str, int], str] = {}
    folded: dict[str, str] = {}
    for host in inventory.hosts:
        if not host.local:
            key = (str(parse_address(host.address) or host.address.lower()), host.port)
            other = seen.setdefault(key, host.name)
            if other != host.name:
                findings.append(
                    _fail(
                        "duplicate_address",
                        host.name,
                        f"has the address {host.address}, as {other} has",
                        "one name a machine",
                        f"mend ansible_host of {host.name} or {other}",
                    )
                )
        twin = folded.setdefault(host.name.lower(), host.name)
        if twin != host.name:
            findings.append(
                _fail(
                    "duplicate_name",
                    host.name,
                    f"differs from {twin} by capital letters only",
                    "names that stay apart in DNS",
                    "rename one of them",
                )
            )
        if host.name in inventory.groups:
            findings.append(
                _fail(
                    "duplicate_name",
                    host.name,
                    "is the name of a host and of a group",
                    "different names",
                    "rename the host",
                )
            )
    return findings


def owner_of(name: str, roles: Iterable[str]) -> str | None:
    """The role whose prefix a variable has; the longest one wins."""
    owners = [role for role in roles if name.startswith(role + "_")]
    return max(owners, key=len) if owners else None


def check_variables(inventory: Inventory, interface: Interface) -> list[Finding]:
    """A misspelt variable would silently do nothing."""
    users: dict[str, list[str]] = {}
    for host in inventory.hosts:
        for name in host.variables - interface.known:
            users.setdefault(name, []).append(host.name)
    findings = []
    for name in sorted(users):
        owner = "mlops" if name.startswith(SITE_PREFIX) else owner_of(name, interface.roles)
        hint = did_you_mean(name, interface.known, 0.8 if owner else 0.9)
        if not owner and not hint:
            continue
        place = SITE if len(users[name]) == len(inventory.hosts) > 1 else sorted(users[name])[0]
        where = (
            "" if place == SITE or len(users[name]) == 1 else f" (and {len(users[name]) - 1} more)"
        )
        if hint or owner == "mlops":
            findings.append(
                _fail(
                    "unknown_variable",
                    place,
                    f"sets the variable {name}{where}, which nothing reads"
                    + (f"; {hint}" if hint else ""),
                    "variables of the collection",
                    "correct its name, or take it out of the inventory",
                )
            )
        else:
            findings.append(
                _warn(
                    "unknown_variable",
                    place,
                    f"sets the variable {name}{where}, which role {owner} does not read",
                    "variables of the collection",
                    "correct its name, or give your own variables another prefix",
                )
            )
    return findings


def check_inventory(
    inventory: Inventory, interface: Interface, whole: bool = True
) -> tuple[Finding, ...]:
    """Every finding about the inventory.

    Of one that was not read ``whole`` nobody can say what it lacks.
    """
    findings = [
        *(check_required(inventory) + check_groups(inventory) if whole else ()),
        *check_exclusive(inventory),
        *check_networks(inventory),
        *check_addresses(inventory),
        *check_variables(inventory, interface),
    ]
    if whole and not any(finding.severity == FAIL for finding in findings):
        used = sum(1 for name in inventory.platform if inventory.groups.get(name))
        findings.append(
            Finding(
                "inventory.consistent",
                SITE,
                PASS,
                f"{len(inventory.hosts)} hosts in {used} groups of the platform, consistent",
            )
        )
    return tuple(findings)


SECRET_NAME = re.compile(r"""mlops\.onprem\.secret['"]\s*,\s*['"](\w+)['"]""")


def words_with_prefix(text: str, roles: Sequence[str]) -> set[str]:
    """Every name in a text that has a prefix of ours: what the wiring reads and sets."""
    prefixes = tuple(f"{role}_" for role in (*roles, "mlops", "pipeline"))
    return {
        word for word in re.findall(r"[A-Za-z_][A-Za-z0-9_]*", text) if word.startswith(prefixes)
    }


def option_names(spec: object) -> set[str]:
    """The names of the options of all entry points of one argument_specs.yml."""
    names: set[str] = set()
    if not isinstance(spec, Mapping):
        return names
    for entry in (spec.get("argument_specs") or {}).values():
        if isinstance(entry, Mapping):
            names.update(str(name) for name in entry.get("options") or {})
    return names


# Which options of a role change which need, by the words in their names.
HINTS: Mapping[str, re.Pattern[str]] = {
    "port": re.compile(r"_port$"),
    "memory": re.compile(r"memory|workers|processes|_osds$|cache_mib"),
    "cpu": re.compile(r"cpu|cores|workers|processes"),
    "disk": re.compile(r"retention|_gib$|size|_keep_|days|disk"),
    "gpu": re.compile(r"gpu"),
}


def hints_of(names: Iterable[str]) -> dict[str, list[str]]:
    """Variables by the need that they change, for remedies."""
    ordered = sorted(names)
    found = {
        kind: [name for name in ordered if pattern.search(name)] for kind, pattern in HINTS.items()
    }
    return {kind: chosen[:4] for kind, chosen in found.items() if chosen}
