# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of every host."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._assess.host_checks import (
    HostRules,
    check_clock,
    check_host,
    check_twins,
)
from ansible_collections.mlops.onprem.plugins.module_utils._assess.host_keys import host_key_state
from ansible_collections.mlops.onprem.plugins.module_utils._assess.reaching import (
    Way,
    check_reached,
)
from ansible_collections.mlops.onprem.plugins.module_utils._supply.machine import (
    answer_of,
    machine_of,
)

RULES = HostRules()


UNKNOWN_KEY = """Failed to connect to the host via ssh: No ED25519 host key is known for 10.0.0.7
and you have requested strict checking.
Host key verification failed."""
CHANGED_KEY = """Failed to connect to the host via ssh: @@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Host key for [10.0.0.7]:2222 has changed and you have requested strict checking.
Host key verification failed."""
REVOKED_KEY = """@       WARNING: REVOKED HOST KEY DETECTED!               @
The ED25519 host key for 10.0.0.7 is marked as revoked.
Host key verification failed."""


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (UNKNOWN_KEY, "unknown"),
        ("Host key verification failed.", "unknown"),
        ("The authenticity of host '10.0.0.7' can't be established.", "unknown"),
        (CHANGED_KEY, "changed"),
        (REVOKED_KEY, "revoked"),
        ("Permission denied (publickey).", ""),
        ("connect to host 10.0.0.7 port 22: Connection timed out", ""),
        ("kex_exchange_identification: Connection closed by remote host", ""),
    ],
)
def test_ssh_says_what_is_the_matter_with_a_key(said: str, state: str) -> None:
    assert host_key_state(said) == state


def test_an_unknown_key_is_compared_before_it_is_added() -> None:
    found = check_reached(
        "edge1", answer_of({"unreachable": "x", "host_key": "unknown"}), Way(address="10.0.0.7")
    )
    assert found is not None
    assert (found.id, found.severity) == ("assess.host_key", "fail")
    assert found.found == "the SSH key of 10.0.0.7 is not known here, so it may be any machine"
    assert found.remedy.startswith('compare what "ssh-keyscan 10.0.0.7 | ssh-keygen -lf -" prints')
    assert found.remedy.index("console") < found.remedy.index(">> ~/.ssh/known_hosts")


def test_a_changed_key_names_the_line_to_forget_and_the_port() -> None:
    facts = {"unreachable": "x", "host_key": "changed"}
    found = check_reached("edge1", answer_of(facts), Way(address="10.0.0.7", port=2222))
    assert found is not None
    assert "another one than the known one" in found.found
    assert "ssh-keygen -R '[10.0.0.7]:2222'" in found.remedy
    assert "ssh-keyscan -p 2222 10.0.0.7 >> ~/.ssh/known_hosts" in found.remedy


def test_a_revoked_key_is_not_to_be_added() -> None:
    found = check_reached("edge1", answer_of({"unreachable": "x", "host_key": "revoked"}), Way())
    assert found is not None
    assert "known_hosts" not in found.remedy


def facts(**changes: Any) -> dict[str, Any]:
    return {
        "clock": {"offset_seconds": 0.0},
        "os": {"id": "debian", "version": "13", "name": "Debian GNU/Linux 13 (trixie)"},
        "kernel": {"architecture": "x86_64"},
        "python": {"version": "3.13.5"},
        "init": {"name": "systemd", "systemd_running": True},
        "packages": {"manager": "apt", "broken": [], "locked": False},
        "user_is_root": True,
        "system_uids_free": 800,
        "host_id": "abc",
        "hostname": "edge1",
        **changes,
    }


def said(**changes: Any) -> list[str]:
    return [
        f"{row.severity} {row.sentence}"
        for row in check_host("edge1", machine_of(facts(**changes)), RULES)
        if row.severity != "pass"
    ]


def test_a_good_host_passes() -> None:
    assert said() == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"clock": {"offset_seconds": 600.4}},
            "fail edge1: its clock is 10 minutes ahead, wanted at most 5.0 seconds from the "
            "controller; set it with: ansible edge1 -b -m command -a 'timedatectl set-ntp true'",
        ),
        (
            {"clock": {"offset_seconds": -2.0}},
            "warn edge1: its clock is 2.0 seconds behind, wanted at most 5.0 seconds from the "
            "controller; set it with: ansible edge1 -b -m command -a 'timedatectl set-ntp true'",
        ),
        (
            {"os": {"id": "debian", "version": "12", "name": "Debian GNU/Linux 12 (bookworm)"}},
            "fail edge1: runs Debian GNU/Linux 12 (bookworm), which is for devices only, wanted "
            "Debian 13; install one of these, or place its services on another host",
        ),
        (
            {"kernel": {"architecture": "riscv64"}},
            "fail edge1: is a riscv64 machine, wanted x86_64 or aarch64; use another machine",
        ),
        (
            {"kernel": {"architecture": "armv7l"}},
            "fail edge1: is a armv7l machine with a system of 32 bits, wanted x86_64 or aarch64 "
            "with a system of 64 bits; install the 64-bit edition of its system, if its processor "
            "runs that",
        ),
        (
            {"python": {"version": "3.7.3"}},
            "fail edge1: has Python 3.7.3, wanted Python 3.9 or newer; name a newer one with "
            "ansible_python_interpreter",
        ),
        (
            {"init": {"name": "runit", "systemd_running": False}},
            "fail edge1: is not run by systemd (process 1 is runit), wanted systemd as process 1; "
            "boot the host with systemd",
        ),
        (
            {"user_is_root": False},
            "fail edge1: is managed without root's rights, wanted root, or a user with sudo; "
            "set ansible_become: true, or another ansible_user",
        ),
        (
            {"packages": {"manager": "apt", "broken": ["nginx (half-configured)"]}},
            "fail edge1: has half-installed packages: nginx (half-configured), wanted a package "
            "manager at rest; mend it with: ansible edge1 -b -m command -a 'dpkg --configure -a'",
        ),
        (
            {"packages": {"manager": "apt", "broken": ["nginx (half-configured)"], "ours": True}},
            "warn edge1: has half-installed packages: nginx (half-configured), wanted a package "
            "manager at rest; nothing; the run finishes what an interrupted one left",
        ),
        (
            {"packages": {"manager": "apt", "broken": ["nginx (unpacked)"], "locked": True}},
            "warn edge1: another process holds the lock of dpkg, wanted a package manager at rest; "
            "wait until it ends; the run will wait for it too",
        ),
        (
            {"packages": {"manager": "apt", "broken": [], "locked": True}},
            "warn edge1: another process holds the lock of dpkg, wanted a package manager at rest; "
            "wait until it ends; the run will wait for it too",
        ),
        (
            {"system_uids_free": 3},
            "fail edge1: has 3 free numbers for system users, wanted at least 50; "
            "remove system users that are no longer used",
        ),
    ],
)
def test_a_host_that_cannot_be_used_is_refused(changes: Any, sentence: str) -> None:
    assert said(**changes) == [sentence]


def test_two_names_of_one_machine_are_found() -> None:
    copied = facts(hostname="edge2")
    [found] = check_twins({"edge1": machine_of(facts()), "edge2": machine_of(copied)}, RULES)
    assert (found.severity, found.host) == ("warn", "edge2")
    [found] = check_twins({"edge1": machine_of(facts()), "other": machine_of(facts())}, RULES)
    assert (found.severity, found.host) == ("fail", "other")
    assert (
        check_twins(
            {"edge1": machine_of(facts()), "edge2": machine_of(facts(host_id="def"))}, RULES
        )
        == []
    )


def test_a_clock_that_was_not_compared_is_no_pass() -> None:
    assert check_clock("edge1", machine_of(facts(clock={})), RULES).severity == "error"
