# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host is one that the platform can be put on: system, clock, package manager."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .._findings.finding import ERROR, FAIL, PASS, WARN, Finding
from .._supply.machine import Machine
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


def check_clock(name: str, machine: Machine, rules: HostRules) -> Finding:
    """The host's time against the controller's: certificates, signatures, metrics rely on it."""
    offset = machine.clock_offset
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


def check_release(name: str, machine: Machine, rules: HostRules, device: bool) -> Finding:
    """The distribution: tested, expected to work, or refused with what helps."""
    label = f"{machine.system} {machine.system_version}"
    shown = machine.system_name or "an unknown system"
    architecture = machine.architecture
    wanted = " or ".join([systems.wanted(device), *(part.title() for part in rules.systems)])
    state, row = systems.state_of(label, architecture, device)
    if (
        state == systems.TESTED
        or label in rules.systems
        or systems.only_machine(label, architecture)
    ):
        return Finding("assess.system", name, PASS, f"runs {shown}", wanted)
    where = f"runs {shown} on {architecture}"
    if row and state == systems.PARTLY:
        return Finding("assess.system", name, PASS, f"{where}; tested: {row.how}", wanted)
    if row and state == systems.EXPECTED:
        return Finding(
            "assess.system",
            name,
            WARN,
            f"{where}: expected to work, not tested ({row.how})",
            "a system that the platform is tested on",
            "nothing has to be done; let one such host be the first and look at its self-check",
        )
    refused = systems.refusal_of(label)
    severity = rules.other_system if machine.system == "debian" else FAIL
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
    name: str, machine: Machine, rules: HostRules, device: bool = False
) -> list[Finding]:
    """Distribution, architecture, Python and service manager."""
    findings = [check_release(name, machine, rules, device)]
    narrow = systems.narrow(machine.architecture, machine.python_bits)
    if machine.architecture not in rules.architectures or narrow:
        findings.append(
            Finding(
                "assess.architecture",
                name,
                FAIL,
                f"is a {machine.architecture or 'unknown'} machine"
                + (" with a system of 32 bits" if narrow else ""),
                " or ".join(rules.architectures) + (" with a system of 64 bits" if narrow else ""),
                "install the 64-bit edition of its system, if its processor runs that"
                if narrow
                else "use another machine",
            )
        )
    if version(machine.python) < version(rules.python):
        findings.append(
            Finding(
                "assess.python",
                name,
                FAIL,
                f"has Python {machine.python or 'unknown'}",
                f"Python {rules.python} or newer",
                "name a newer one with ansible_python_interpreter",
            )
        )
    if not machine.systemd:
        findings.append(
            Finding(
                "assess.systemd",
                name,
                FAIL,
                f"is not run by systemd (process 1 is {machine.init or 'unknown'})",
                "systemd as process 1",
                "boot the host with systemd",
            )
        )
    if not machine.root:
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


def check_packages(name: str, machine: Machine) -> list[Finding]:
    """Whether packages can be installed."""
    packages = machine.packages
    findings = []
    if not packages.manager:
        return []  # check_system has refused it already
    broken = packages.broken
    # While somebody installs, packages are half-installed; what the platform left so, it mends.
    if (broken or packages.interrupted) and not packages.locked:
        some = ", ".join(broken[:3]) or "an interrupted run of dpkg"
        mend = f"mend it with: ansible {name} -b -m command -a 'dpkg --configure -a'"
        findings.append(
            Finding(
                "assess.packages",
                name,
                WARN if packages.ours else FAIL,
                f"has half-installed packages: {some}" + (" and more" if len(broken) > 3 else ""),
                "a package manager at rest",
                "nothing; the run finishes what an interrupted one left" if packages.ours else mend,
            )
        )
    if packages.locked:
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


def check_uids(name: str, machine: Machine, rules: HostRules) -> list[Finding]:
    """Whether services can get users of their own."""
    free = machine.free_uids
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
    name: str, machine: Machine, rules: HostRules, device: bool = False
) -> list[Finding]:
    """Every finding about one host that was reached; a device carries less than a server."""
    return [
        check_clock(name, machine, rules),
        *check_system(name, machine, rules, device),
        *check_packages(name, machine),
        *check_uids(name, machine, rules),
    ]


def check_twins(machines: Mapping[str, Machine], rules: HostRules) -> list[Finding]:
    """Two names that lead to one machine: its room would be counted twice."""
    by_id: dict[str, list[str]] = {}
    for name in sorted(machines):
        if machines[name].host_id:
            by_id.setdefault(machines[name].host_id, []).append(name)
    findings = []
    for names in by_id.values():
        if len(names) < 2:
            continue
        same = [machines[name].hostname for name in names]
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
