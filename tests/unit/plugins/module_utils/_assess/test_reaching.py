# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a host could not be looked at: the words of ssh, sudo and Python, and what mends it."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._assess.reaching import (
    Way,
    check_reached,
    way_to,
    with_inventory,
)
from ansible_collections.mlops.onprem.plugins.module_utils._supply.machine import (
    answer_of,
)

WAY = Way("ssh admin@10.0.0.3 true", "admin", "10.0.0.3")


def test_a_host_that_does_not_answer_is_named_with_the_command_to_look() -> None:
    finding = check_reached("edge3", answer_of({"unreachable": "Connection timed out"}), WAY)
    assert finding is not None
    assert finding.sentence == (
        "edge3: cannot be reached: Connection timed out, wanted a host that answers over SSH; "
        "check with: ssh admin@10.0.0.3 true; or take edge3 out of the inventory"
    )
    assert check_reached("edge1", answer_of({"host": "edge1"}), WAY) is None


@pytest.mark.parametrize(
    ("said", "check", "remedy"),
    [
        # sudo, as it is on hosts
        (
            "sudo: sorry, you must have a tty to run sudo",
            "privileges",
            "'Defaults:admin !requiretty'",
        ),
        ("sudo: no tty present and no askpass program", "privileges", "ANSIBLE_PIPELINING=false"),
        ("Missing sudo password", "privileges", "give it with -K (with make: ARGS=-K)"),
        ("sudo: a password is required", "privileges", "ansible_become_password from a vault"),
        ("sudo: Ein Passwort ist notwendig", "privileges", "give it with -K"),
        ("sudo: il est nécessaire : un mot de passe est requis", "privileges", "give it with -K"),
        ("Incorrect sudo password", "privileges", "correct ansible_become_password"),
        ("Duplicate become password prompt encountered", "privileges", "correct ansible_become"),
        ("admin is not in the sudoers file.", "privileges", "usermod -aG sudo admin"),
        ("Sorry, user admin may not run sudo on edge3.", "privileges", "usermod -aG sudo admin"),
        ("/bin/sh: 1: sudo: not found", "privileges", "apt-get install -y sudo"),
        (
            "Timeout (12s) waiting for privilege escalation prompt:",
            "privileges",
            "time sudo -n true",
        ),
        # Python
        ("The module interpreter '/usr/bin/python3' was not found", "python", "apt-get install -y"),
        ("/bin/sh: 1: /usr/bin/python3: not found", "python", "apt-get install -y python3"),
        (
            "ansible-core requires a minimum of Python version 3.8. Current version: 3.6.8",
            "python",
            "ansible_python_interpreter",
        ),
        ("SyntaxError: future feature annotations is not defined", "python", "a newer one with"),
        # room and account
        ("mkdir: cannot create directory: No space left on device", "room", "make room"),
        ("Failed to create temporary directory.", "room", "ansible_remote_tmp"),
        ("This account is currently not available.", "account", "chsh -s /bin/sh admin"),
    ],
)
def test_what_stopped_the_look_has_its_own_remedy(said: str, check: str, remedy: str) -> None:
    found = check_reached("edge3", answer_of({"failed": said}), WAY)
    assert found is not None
    assert (found.id, found.severity) == (f"assess.{check}", "fail")
    assert remedy in found.remedy
    assert said in found.found


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("admin@10.0.0.3: Permission denied (publickey).", "ssh-copy-id admin@10.0.0.3"),
        (
            "to use the password mechanism, you must install the sshpass program",
            "apt-get install -y sshpass",
        ),
        ("ssh: Could not resolve hostname edge3.invalid", "getent hosts 10.0.0.3"),
    ],
)
def test_a_host_that_cannot_be_reached_for_a_known_reason_says_how(said: str, remedy: str) -> None:
    found = check_reached("edge3", answer_of({"unreachable": said}), WAY)
    assert found is not None
    assert (found.id, found.severity) == ("assess.unreachable", "fail")
    assert remedy in found.remedy


def test_what_nobody_knows_is_a_check_that_could_not_be_made() -> None:
    found = check_reached("edge3", answer_of({"failed": "junk after JSON"}), WAY)
    assert found is not None
    assert (found.id, found.severity) == ("assess.facts", "error")


@pytest.mark.parametrize("limited", [True, False])
def test_limit_is_named_only_where_it_was_given(limited: bool) -> None:
    found = check_reached("edge3", None, Way(limited=limited))
    assert found is not None
    assert ("--limit" in found.remedy) is limited


def test_the_command_to_look_is_the_one_that_was_used() -> None:
    entry = {
        "ansible_host": "10.0.0.3",
        "ansible_user": "admin",
        "ansible_port": 2222,
        "ansible_ssh_private_key_file": "/keys/of the site/id",
        "ansible_ssh_common_args": "-o UserKnownHostsFile=/x",
    }
    assert way_to(entry, "edge3").ssh == (
        "ssh -i '/keys/of the site/id' -o UserKnownHostsFile=/x -p 2222 admin@10.0.0.3 true"
    )
    assert way_to({}, "edge3") == Way("ssh edge3 true", "", "edge3")
    assert way_to({"ansible_port": "many"}, "edge3").port == 22


@pytest.mark.parametrize(
    ("remedy", "sources", "wanted"),
    [
        ("set it with: ansible e1 -b -m x", ["inv"], "set it with: ansible -i inv e1 -b -m x"),
        (
            "look with: ansible e1 -m x",
            ["my inv", "b"],
            "look with: ansible -i 'my inv' -i b e1 -m x",
        ),
        ("see with: ansible -i inv e1", ["other"], "see with: ansible -i inv e1"),
        ("set ansible_host", ["inv"], "set ansible_host"),
        ("set it with: ansible e1 -m x", [], "set it with: ansible e1 -m x"),
    ],
)
def test_a_command_bears_the_inventory_of_the_run(
    remedy: str, sources: list[str], wanted: str
) -> None:
    assert with_inventory(remedy, sources) == wanted
