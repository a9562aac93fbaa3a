# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values at which Ansible would stop before the assessment are told first, with their file."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from ansible_collections.mlops.onprem.plugins.plugin_utils.values import stopping, wrong

ROOT = Path(__file__).resolve().parents[4]


def said(folder: Path, variables: str, host: str = "{ansible_host: 10.0.0.1}") -> list[str]:
    hosts = f"{{ctl1: {host}, ctl2: {{}}}}"
    page = f"all:\n  vars: {variables}\n  children:\n    control: {{hosts: {hosts}}}\n"
    (folder / "hosts.yml").write_text(page)
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=[str(folder)])
    manager = VariableManager(loader=loader, inventory=inventory)
    given: dict[str, Any] = {
        "hostvars": HostVars(inventory, manager, loader),
        "groups": {name: [h.name for h in g.get_hosts()] for name, g in inventory.groups.items()},
        "ansible_inventory_sources": [str(folder)],
    }
    return stopping(ROOT, given, loader)


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ("{mlops_language: français}", "must be one of: en, de, got: français"),
        ("{mlops_language: [de]}", "mlops_language is a list, which is no text"),
        ("{mlops_site_name: {de: Werk}}", "mlops_site_name is a mapping, which is no text"),
        ("{mlops_state_dir: [a]}", "mlops_state_dir is a list, which is no text"),
        ("{mlops_state_dir: {a: b}}", "mlops_state_dir is a mapping, which is no text"),
        ("{mlops_facts_max_age: 1h}", "mlops_facts_max_age is not a valid int"),
        ("{mlops_deferred_devices_max: viele}", "mlops_deferred_devices_max is not a valid float"),
        ("{assess_seconds: 1m}", "assess_seconds is not a valid float"),
        ("{mlops_facts_max_age: .inf}", "mlops_facts_max_age is inf, which is no number"),
        ("{mlops_deferred_devices_max: .nan}", "mlops_deferred_devices_max is nan, which is no"),
        ("{assess_seconds: 'NaN'}", "assess_seconds is NaN, which is no number"),
        ("{assess_rules: strict}", "assess_rules is not a valid dict"),
        (
            "{assess_rules: {clock: 5}}",
            "assess_rules has clock, and takes architectures, clock",
        ),
        ("{assess_rules: {python: [3.9]}}", "assess_rules.python is a list, which is no text"),
        ("{assess_rules: {clock_fail_seconds: soon}}", "clock_fail_seconds is not a valid float"),
        ("{assess_rules: {other_system: no}}", "assess_rules.other_system is not a valid str"),
        ("{assess_margins: {cpu_overcommit: .inf}}", "cpu_overcommit is inf, which is no number"),
        ("{assess_margins: {memory: 1}}", "assess_margins has memory, and takes cpu_overcommit"),
        ("{assess_survive_lost_host: vielleicht}", "assess_survive_lost_host is not a valid bool"),
        (
            "{mlops_site_name: '{{ mlops_language }}', mlops_language: '{{ mlops_site_name }}'}",
            "the value of mlops_language cannot be made out: Recursive loop",
        ),
    ],
)
def test_what_the_assessment_itself_would_not_take(
    variables: str, found: str, tmp_path: Path
) -> None:
    told = said(tmp_path, variables)
    [line] = [row for row in told if found in row]
    assert line.endswith(f" in {tmp_path}/hosts.yml")


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("{ansible_host: [2001:db8::1]}", "ctl1: ansible_host is a list, which is no text"),
        ("{ansible_port: ssh}", "ctl1: ansible_port is not a valid int"),
        ("{ansible_port: 70000}", "ctl1: ansible_port is 70000, which is no port"),
        ("{ansible_user: {name: root}}", "ctl1: ansible_user is a mapping, which is no text"),
        ("{ansible_host: '{{ nowhere }}'}", "ansible_host cannot be made out: 'nowhere' is undef"),
        ("{ansible_host: '{{ 10.0 '}", "ansible_host cannot be made out: Syntax error"),
    ],
)
def test_how_a_host_cannot_be_reached(host: str, found: str, tmp_path: Path) -> None:
    [line] = said(tmp_path, "{}", host)
    assert found in line
    assert line.endswith(f" in {tmp_path}/hosts.yml")


@pytest.mark.parametrize(
    "variables",
    [
        "{}",
        "{mlops_language: de, mlops_facts_max_age: '3600', assess_seconds: 5, mlops_site_name: 7}",
        "{assess_margins: {cpu_overcommit: '4'}, assess_rules: {systems: linuxmint 22}}",
        "{assess_survive_lost_host: 'yes', ansible_port: '2222', ansible_user: 1000}",
        "{mlops_site_name: '{{ inventory_hostname }}', mlops_waivers: anything}",
    ],
)
def test_what_can_be_meant_is_let_through(variables: str, tmp_path: Path) -> None:
    assert said(tmp_path, variables) == []


def test_a_secret_is_not_repeated() -> None:
    assert wrong("x_password", {"a": "geheim"}, {"type": "int"}) == "x_password is not a valid int"


def test_without_an_inventory_nothing_is_said() -> None:
    assert stopping(ROOT, {}, DataLoader()) == []


# Encrypted with a password that nobody has here.
LOCKED = """!vault |
      $ANSIBLE_VAULT;1.1;AES256
      6162636465
      6162"""


@pytest.mark.parametrize("name", ["gateway_admin_password", "metadata_db_databases"])
def test_a_value_of_the_vault_without_its_password_is_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "group_vars").mkdir()
    text = f"{name}: {LOCKED}\n"
    if "databases" in name:
        text = f"{name}:\n  - name: x\n    password: {LOCKED}\n"
    (tmp_path / "group_vars" / "all.yml").write_text(text)
    (found,) = said(tmp_path, "{}")
    assert found.startswith(f"{name} in ")
    assert "group_vars/all.yml is encrypted by ansible-vault and cannot be read" in found
    assert "--ask-vault-pass" in found


def test_a_file_in_the_place_of_the_state_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "notes"
    file.write_text("x")
    for place in (file, file / "deeper"):
        (found,) = said(tmp_path, f"{{mlops_state_dir: {place}}}")
        assert found.startswith(
            f"mlops_state_dir is {place}, and {file} is no directory; set mlops"
        )


def test_a_link_to_nothing_and_a_place_for_no_files_are_told(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "gone")
    assert "is a link to nothing" in said(tmp_path, f"{{mlops_state_dir: {link}}}")[0]
    assert "cannot be written" in said(tmp_path, "{mlops_state_dir: /proc/mlops}")[0]


def test_the_default_place_beside_the_inventory_is_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / ".state").write_text("x")
    (found,) = said(tmp_path, "{}")
    assert ".state is no directory" in found


def test_a_place_that_can_be_made_is_none_of_these(tmp_path: Path) -> None:
    assert said(tmp_path, f"{{mlops_state_dir: {tmp_path}/new/deeper}}") == []


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("b", "x_secret_key has fewer than 4 letters"),
        ("abc", "x_secret_key has fewer than 4 letters"),
        ("object_store", "x_secret_key is part of a name of the platform's own"),
        ("data", "x_secret_key is part of a name of the platform's own"),
        ("", ""),
        ("four", ""),
        ("Zu#lang-fuer-ein-Wort", ""),
    ],
)
def test_a_secret_whose_letters_would_be_blotted_out_of_every_sentence(
    value: str, found: str
) -> None:
    told = wrong("x_secret_key", value, {"type": "str", "no_log": True})
    assert told.startswith(found)
    assert bool(told) == bool(found)
    assert wrong("x_name", value, {"type": "str"}) == ""


@pytest.mark.parametrize(
    ("name", "kind", "value", "found"),
    [
        ("monitoring_retention_days", "int", -3, "monitoring_retention_days is -3, which is below"),
        ("assess_seconds", "float", "-0.5", "assess_seconds is -0.5, which is below 0"),
        ("metadata_db_port", "int", -1, "metadata_db_port is -1, which is no port (1 to 65535)"),
        ("monitoring_retention_days", "int", 0, "monitoring_retention_days is 0, which is below 1"),
        ("audit_log_most_mib", "int", 0, ""),
        ("monitoring_retention_days", "int", "30", ""),
    ],
)
def test_no_variable_of_the_platform_goes_below_nothing(
    name: str, kind: str, value: Any, found: str
) -> None:
    told = wrong(name, value, {"type": kind})
    assert told.startswith(found)
    assert bool(told) == bool(found)


@pytest.mark.parametrize(
    ("value", "shape", "found"),
    [
        (
            "20%",
            {"type": "float"},
            "x is not a valid float: must be a number, but is '20%'; write 0.2",
        ),
        # "write 0.1" and "write 0.005" would be wrong of a percentage and of a span.
        ("10%", {"type": "int"}, "x is not a valid int: must be a number, but is '10%'"),
        ("5m", {"type": "float"}, "x is not a valid float: must be a number, but is '5m'"),
        (2.5, {"type": "int"}, "x is not a valid int: must be a whole number, but is 2.5"),
        (
            datetime.date(2026, 12, 1),
            {"type": "int"},
            "x is not a valid int: must be a number, but is a date",
        ),
        ("maybe", {"type": "bool"}, "x is not a valid bool: must be true or false, but is 'maybe'"),
        ([1], {"type": "dict"}, "x is not a valid dict: must be a mapping, but is a list"),
        ({"a": 1}, {"type": "list"}, "x is not a valid list: must be a list, but is a mapping"),
        # Ansible's check would take these and give the text to what goes through it.
        (
            "a,b",
            {"type": "list", "elements": "str"},
            "x is not a valid list: must be a list, but is a text; write [one, other]",
        ),
        (
            "a=b",
            {"type": "dict"},
            "x is not a valid dict: must be a mapping, but is a text; write {name: value}",
        ),
        (
            True,
            {"type": "str", "choices": ["on", "off"]},
            "x is not a valid str: must be a text, but is true; quote it",
        ),
        (
            ["1%"],
            {"type": "list", "elements": "float"},
            "x[0] is not a valid float: must be a number, but is '1%'; write 0.01",
        ),
        ([{"b": 1}], {"type": "list", "elements": "dict", "options": {"a": {}}}, "x[0] has b, and"),
        (
            [{"a": [1]}],
            {"type": "list", "elements": "dict", "options": {"a": {"type": "str"}}},
            "x[0].a is a list, which is no text",
        ),
    ],
)
def test_a_sentence_says_what_was_found_and_nothing_of_the_insides(
    value: Any, shape: dict[str, Any], found: str
) -> None:
    said = wrong("x", value, shape)
    assert said.startswith(found)
    assert "class" not in said


def test_a_name_alone_may_stand_for_a_list_that_only_modules_read() -> None:
    assert wrong("workloads_jobs_again", "train", {"type": "list", "elements": "str"}) == ""
