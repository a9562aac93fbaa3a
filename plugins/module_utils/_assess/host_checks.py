# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host is one that the platform can be put on: system, clock, package manager."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._findings.finding import ERROR, FAIL, PASS, WARN, Finding
from . import systems


@dataclass(frozen=True)
class HostRules:
    """What is asked of every host."""

    clock_warn_seconds: float = 1.0
    clock_fail_seconds: float = 5.0
    systems: tuple[str, ...] = ()  # beside those of the matrix: the site itself vouches for them
    other_system: str = FAIL
    architectures: tuple[str, ...] = ("x86_64", "aarch64")
    python: str = "3.9"
    shared_machine_id: str = WARN
    free_system_uids: int = 50


def version(text: str) -> tuple[int, ...]:
    """A version as numbers."""
    return tuple(int(part) for part in text.split(".")[:3] if part.isdecimal())


def duration(seconds: float) -> str:
    """Seconds, or minutes where those are easier to read."""
    if abs(seconds) >= 120:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds:.0f} seconds" if abs(seconds) >= 10 else f"{seconds:.1f} seconds"


def check_clock(name: str, facts: Mapping[str, Any], rules: HostRules) -> Finding:
    """The host's time against the controller's: certificates, signatures, metrics rely on it."""
    clock = facts.get("clock") or {}
    offset = clock.get("offset_seconds")
    if offset is None:
        return Finding(
            "assess.clock",
            name,
            ERROR,
            "its clock was not compared",
            "a compared clock",
            "run the assessment again",
        )
    wanted = f"at most {duration(rules.clock_fail_seconds)} from the controller"
    remedy = f"set it with: ansible {name} -b -m command -a 'timedatectl set-ntp true'"
    found = f"its clock is {duration(abs(offset))} {'ahead' if offset > 0 else 'behind'}"
    if abs(offset) > rules.clock_fail_seconds:
        return Finding("assess.clock", name, FAIL, found, wanted, remedy)
    if abs(offset) > rules.clock_warn_seconds:
        return Finding("assess.clock", name, WARN, found, wanted, remedy)
    return Finding("assess.clock", name, PASS, "its clock agrees with the controller's", wanted)


def check_release(name: str, facts: Mapping[str, Any], rules: HostRules, device: bool) -> Finding:
    """The distribution: tested, expected to work, or refused with what helps."""
    system = facts.get("os") or {}
    label = f"{system.get('id')} {system.get('version')}"
    shown = system.get("name") or "an unknown system"
    machine = str((facts.get("kernel") or {}).get("architecture"))
    wanted = " or ".join([systems.wanted(device), *(part.title() for part in rules.systems)])
    state, row = systems.state_of(label, machine, device)
    if state == systems.TESTED or label in rules.systems or systems.only_machine(label, machine):
        return Finding("assess.system", name, PASS, f"runs {shown}", wanted)
    if row and state == systems.PARTLY:
        return Finding(
            "assess.system", name, PASS, f"runs {shown} on {machine}; tested: {row.how}", wanted
        )
    if row and state == systems.EXPECTED:
        return Finding(
            "assess.system",
            name,
            WARN,
            f"runs {shown} on {machine}: expected to work, not tested ({row.how})",
            "a system that the platform is tested on",
            "nothing has to be done; let one such host be the first and look at its self-check",
        )
    refused = systems.refusal_of(label)
    severity = rules.other_system if system.get("id") == "debian" else FAIL
    only = ", which is for devices only" if row and not device else ""
    return Finding(
        "assess.system",
        name,
        severity,
        f"runs {shown}{only}" + (f", which {refused.because}" if refused else ""),
        wanted,
        refused.remedy
        if refused
        else "install one of these, or place its services on another host",
    )


def check_system(
    name: str, facts: Mapping[str, Any], rules: HostRules, device: bool = False
) -> list[Finding]:
    """Distribution, architecture, Python and service manager."""
    findings = [check_release(name, facts, rules, device)]
    machine = str((facts.get("kernel") or {}).get("architecture"))
    narrow = systems.narrow(machine, facts.get("python") or {})
    if machine not in rules.architectures or narrow:
        findings.append(
            Finding(
                "assess.architecture",
                name,
                FAIL,
                f"is a {machine} machine" + (" with a system of 32 bits" if narrow else ""),
                " or ".join(rules.architectures) + (" with a system of 64 bits" if narrow else ""),
                "install the 64-bit edition of its system, if its processor runs that"
                if narrow
                else "use another machine",
            )
        )
    python = str((facts.get("python") or {}).get("version") or "")
    if version(python) < version(rules.python):
        findings.append(
            Finding(
                "assess.python",
                name,
                FAIL,
                f"has Python {python or 'unknown'}",
                f"Python {rules.python} or newer",
                "name a newer one with ansible_python_interpreter",
            )
        )
    init = facts.get("init") or {}
    if not init.get("systemd_running"):
        findings.append(
            Finding(
                "assess.systemd",
                name,
                FAIL,
                f"is not run by systemd (process 1 is {init.get('name') or 'unknown'})",
                "systemd as process 1",
                "boot the host with systemd",
            )
        )
    if not facts.get("user_is_root", True):
        findings.append(
            Finding(
                "assess.privileges",
                name,
                FAIL,
                "is managed without root's rights",
                "root, or a user with sudo",
                "set ansible_become: true, or another ansible_user",
            )
        )
    return findings


def check_packages(name: str, facts: Mapping[str, Any]) -> list[Finding]:
    """Whether packages can be installed."""
    packages = facts.get("packages") or {}
    findings = []
    if packages.get("manager") is None:
        return []  # check_system has refused it already
    broken = packages.get("broken") or []
    # While somebody installs, packages are half-installed; what the platform left so, it mends.
    if (broken or packages.get("interrupted")) and not packages.get("locked"):
        some = ", ".join(broken[:3]) or "an interrupted run of dpkg"
        ours = bool(packages.get("ours"))
        mend = f"mend it with: ansible {name} -b -m command -a 'dpkg --configure -a'"
        findings.append(
            Finding(
                "assess.packages",
                name,
                WARN if ours else FAIL,
                f"has half-installed packages: {some}" + (" and more" if len(broken) > 3 else ""),
                "a package manager at rest",
                "nothing; the run finishes what an interrupted one left" if ours else mend,
            )
        )
    if packages.get("locked"):
        findings.append(
            Finding(
                "assess.packages",
                name,
                WARN,
                "another process holds the lock of dpkg",
                "a package manager at rest",
                "wait until it ends; the run will wait for it too",
            )
        )
    return findings


def check_uids(name: str, facts: Mapping[str, Any], rules: HostRules) -> list[Finding]:
    """Whether services can get users of their own."""
    free = facts.get("system_uids_free")
    if free is None or free >= rules.free_system_uids:
        return []
    return [
        Finding(
            "assess.users",
            name,
            FAIL,
            f"has {free} free numbers for system users",
            f"at least {rules.free_system_uids}",
            "remove system users that are no longer used",
        )
    ]


def check_host(
    name: str, facts: Mapping[str, Any], rules: HostRules, device: bool = False
) -> list[Finding]:
    """Every finding about one host that was reached; a device carries less than a server."""
    return [
        check_clock(name, facts, rules),
        *check_system(name, facts, rules, device),
        *check_packages(name, facts),
        *check_uids(name, facts, rules),
    ]


def check_twins(supply: Mapping[str, Mapping[str, Any]], rules: HostRules) -> list[Finding]:
    """Two names that lead to one machine: its room would be counted twice."""
    by_id: dict[str, list[str]] = {}
    for name, facts in sorted(supply.items()):
        identity = facts.get("host_id")
        if identity:
            by_id.setdefault(str(identity), []).append(name)
    findings = []
    for names in by_id.values():
        if len(names) < 2:
            continue
        same: Sequence[object] = [supply[name].get("hostname") for name in names]
        certain = len(set(same)) < len(same)
        findings.append(
            Finding(
                "assess.machine_id",
                names[1],
                FAIL if certain else rules.shared_machine_id,
                f"has the machine id of {names[0]}"
                + (" and its host name: they are one machine" if certain else ""),
                "one name a machine",
                "take one of them out of the inventory"
                if certain
                else "give the copied host its own: rm /etc/machine-id && systemd-machine-id-setup",
            )
        )
    return findings
