# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventories as Ansible reads them, the shipped ones among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from ansible_collections.mlops.onprem.plugins.action.inventory_check import (
    COLLECTION,
    check_values,
    read_interface,
    read_inventory,
    read_options,
    read_site,
)
from ansible_collections.mlops.onprem.plugins.module_utils._assess.inventory_checks import (
    check_inventory,
)

ROOT = Path(__file__).resolve().parents[4]
SITE = """\
control: {hosts: {ctl1: {ansible_host: 10.0.0.1}}}
metadata_db: {hosts: {ctl1: {}}}
object_store: {hosts: {ctl1: {}}}
edge: {children: {ring_canary: {hosts: {edge1: {ansible_host: 10.0.0.2}}}}}
"""


def said(source: Path) -> list[str]:
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=[str(source)])
    manager = VariableManager(loader=loader, inventory=inventory)
    variables: dict[str, Any] = {
        "hostvars": HostVars(inventory, manager, loader),
        "groups": {name: [h.name for h in g.get_hosts()] for name, g in inventory.groups.items()},
        "ansible_inventory_sources": [str(source)],
    }
    site = read_site(COLLECTION)
    interface, _hints = read_interface(COLLECTION, site)
    found, problems = read_inventory(variables, set(), site.groups)
    problems += check_values(variables["hostvars"], found, read_options(COLLECTION))
    return [
        row.sentence
        for row in [*dict.fromkeys(problems), *check_inventory(found, interface)]
        if row.severity != "pass"
    ]


@pytest.mark.parametrize("name", ["example_company", "single_server"])
def test_the_shipped_inventories_are_consistent(name: str) -> None:
    assert said(ROOT / "inventories" / name) == []


def test_a_plain_site_is_consistent(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(SITE)
    assert said(tmp_path) == []


def test_variables_of_groups_are_seen_on_their_hosts(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(SITE)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "ring_canary.yml").write_text("model_serving_prot: 443\n")
    (tmp_path / "group_vars" / "canary.yml").write_text("x: 1\n")
    assert [line.partition(",")[0] for line in said(tmp_path)] == [
        "site: group_vars has variables for the group 'canary'",
        "edge1: sets the variable model_serving_prot",
    ]


def test_a_value_that_cannot_be_made_out_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(SITE)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text(
        'mlops_networks: "{{ nowhere }}"\nmlops_profile: lab\n'
    )
    [line] = said(tmp_path)
    assert line.startswith("site: the value of mlops_networks cannot be made out: ")
    assert "'nowhere' is undefined" in line


def test_values_are_held_against_the_specifications_of_the_roles(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(SITE)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text(
        "gateway_port: many\nmodel_serving_port: '8443'\nobject_store_mode: existant\n"
        "gateway_admin_password: [not, a, text]\n"
    )
    lines = {line.split(" is ")[0]: line for line in said(tmp_path)}
    assert lines["ctl1: gateway_port"].endswith(
        "wanted a value of type int; mend gateway_port in the inventory"
    )
    assert "one of existing, managed" in lines["ctl1: object_store_mode"]
    assert not any("model_serving_port" in line for line in lines)


def test_every_role_has_variables_to_name_in_remedies() -> None:
    _interface, hints = read_interface(COLLECTION, read_site(COLLECTION))
    assert "model_serving_port" in hints["model_serving"]["port"]
    assert "object_store_osd_size_gib" in hints["object_store"]["disk"]
