# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which systems pass, which are expected to work, and which are refused with what helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.module_utils._assess import systems
from ansible_collections.mlops.onprem.plugins.module_utils._assess.host_checks import (
    HostRules,
    check_system,
)
from ansible_collections.mlops.onprem.plugins.module_utils._host import app
from ansible_collections.mlops.onprem.plugins.module_utils._supply.machine import (
    machine_of,
)

ROOT = Path(__file__).resolve().parents[5]


def said(system: str, machine: str, device: bool = True, **more: Any) -> list[str]:
    identity, _space, version = system.partition(" ")
    facts = {
        "os": {"id": identity, "version": version, "name": system},
        "kernel": {"architecture": machine},
        "python": {"version": "3.11.2", **more},
        "init": {"systemd_running": True},
    }
    rows = check_system("edge1", machine_of(facts), HostRules(other_system="warn"), device)
    return [f"{row.severity} {row.id} {row.sentence}" for row in rows]


@pytest.mark.parametrize(
    ("system", "machine", "device", "begins"),
    [
        ("debian 13", "x86_64", True, "pass assess.system edge1: runs debian 13,"),
        ("debian 13", "x86_64", False, "pass assess.system edge1: runs debian 13,"),
        ("debian 13", "aarch64", True, "pass assess.system edge1: runs debian 13 on aarch64; test"),
        ("debian 13", "aarch64", False, "warn assess.system edge1: runs debian 13 on aarch64: exp"),
        ("debian 12", "x86_64", True, "pass assess.system edge1: runs debian 12 on x86_64; tested"),
        ("debian 12", "aarch64", True, "warn assess.system edge1: runs debian 12 on aarch64: exp"),
        (
            "debian 12",
            "x86_64",
            False,
            "warn assess.system edge1: runs debian 12, which is for dev",
        ),
        ("ubuntu 22.04", "aarch64", True, "warn assess.system edge1: runs ubuntu 22.04 on aarch64"),
        ("ubuntu 24.04", "x86_64", True, "warn assess.system edge1: runs ubuntu 24.04 on x86_64:"),
        ("ubuntu 24.04", "x86_64", False, "fail assess.system edge1: runs ubuntu 24.04, which is "),
        (
            "rhel 9.4",
            "x86_64",
            True,
            "fail assess.system edge1: runs rhel 9.4, wanted Debian 13 or",
        ),
    ],
)
def test_a_system_is_judged_by_what_the_host_is_for(
    system: str, machine: str, device: bool, begins: str
) -> None:
    (sentence,) = said(system, machine, device)
    assert sentence.startswith(begins)


def test_an_expected_system_says_that_it_is_not_tested_and_what_to_do() -> None:
    (sentence,) = said("ubuntu 22.04", "aarch64")
    assert "expected to work, not tested" in sentence
    assert sentence.endswith("let one such host be the first and look at its self-check")


@pytest.mark.parametrize(
    ("system", "helps"),
    [
        ("raspbian 12", "install Raspberry Pi OS in the 64-bit edition"),
        ("ubuntu 20.04", "on a Jetson, JetPack 6 or newer"),
        ("debian 11", "upgrade it to Debian 12 or 13"),
    ],
)
def test_a_refused_system_says_what_helps(system: str, helps: str) -> None:
    assert helps in said(system, "aarch64")[0]


def test_a_system_of_32_bits_on_a_64_bit_kernel_is_refused() -> None:
    first, second = said("debian 12", "aarch64", bits=32)
    assert first.startswith("warn assess.system")
    assert second.startswith(
        "fail assess.architecture edge1: is a aarch64 machine with a system of"
    )
    assert said("debian 12", "aarch64", bits=64) == [first]


def test_a_label_is_not_taken_for_one_that_it_only_begins_with() -> None:
    assert systems.refusal_of("debian 11") is not None
    assert systems.refusal_of("debian 110") is None
    assert systems.refusal_of("raspbianlike 1") is None


def test_a_system_that_the_site_vouches_for_passes() -> None:
    facts = {"os": {"id": "linuxmint", "version": "22", "name": "Mint"}, "kernel": {}}
    (row, *_rest) = check_system(
        "edge1", machine_of(facts), HostRules(systems=("linuxmint 22",)), True
    )
    assert (row.severity, row.wanted[-12:]) == ("pass", "Linuxmint 22")


def test_each_row_is_for_a_machine_that_environments_are_built_for() -> None:
    for row in systems.MATRIX:
        assert app.Target(row.python, row.machine, row.libc).platform.startswith(row.machine)
        assert {row.device, row.server} <= {
            systems.TESTED,
            systems.PARTLY,
            systems.EXPECTED,
            systems.REFUSED,
        }
    assert len({(row.label, row.machine) for row in systems.MATRIX}) == len(systems.MATRIX)


def test_the_groups_of_servers_are_those_whose_roles_no_device_has() -> None:
    table = yaml.safe_load((ROOT / "playbooks/vars/site.yml").read_text())["site_roles"]
    groups = {row["group"] for row in table if row["role"] not in systems.DEVICE_ROLES}
    assert groups == set(systems.SERVER_GROUPS)
    everywhere = {row["role"] for row in table if row["group"] in ("all", "edge")}
    assert everywhere <= set(systems.DEVICE_ROLES)


def test_a_host_in_a_group_of_servers_is_no_device() -> None:
    groups = {"all": ["a", "b"], "edge": ["a", "b"], "control": ["b"]}
    assert [systems.is_device(groups, host) for host in ("a", "b")] == [True, False]
