# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way in which an inventory can be wrong, and what is said about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._assess.inventory_checks import (
    HostEntry,
    Interface,
    Inventory,
    check_inventory,
    hints_of,
    option_names,
    words_with_prefix,
)

INTERFACE = Interface(
    roles=("gateway", "model_registry", "metadata_db", "monitoring"),
    known=frozenset(
        (
            "mlops_profile",
            "mlops_networks",
            "gateway_port",
            "model_registry_admin_password",
            "metadata_db_mode",
            "monitoring_retention_days",
        )
    ),
)
HOSTS = (
    HostEntry("ctl1", "10.0.0.1"),
    HostEntry("store1", "10.0.0.2"),
    HostEntry("edge1", "10.0.1.1"),
    HostEntry("edge2", "10.0.1.2"),
)
PLATFORM = ("metadata_db", "object_store", "control", "edge", "gpu")
RINGS = ("ring_canary", "ring_early", "ring_fleet")
GOOD = Inventory(
    hosts=HOSTS,
    platform=(*PLATFORM, *RINGS),
    groups={
        "all": ["ctl1", "store1", "edge1", "edge2"],
        "ungrouped": [],
        "control": ["ctl1"],
        "metadata_db": ["ctl1"],
        "object_store": ["store1"],
        "edge": ["edge1", "edge2"],
        "ring_canary": ["edge1"],
        "ring_fleet": ["edge2"],
    },
    values={"mlops_networks": {"servers": "10.0.0.0/24", "floor": "10.0.1.0/24"}},
)


def said(inventory: Inventory) -> list[str]:
    return [
        f"{row.severity} {row.sentence}"
        for row in check_inventory(inventory, INTERFACE)
        if row.severity != "pass"
    ]


def groups(**changes: list[str]) -> Inventory:
    return replace(GOOD, groups={**GOOD.groups, **changes})


def values(**changes: Any) -> Inventory:
    return replace(GOOD, values={**GOOD.values, **changes})


def variables(*names: str, host: str = "ctl1") -> Inventory:
    hosts = tuple(
        replace(row, variables=frozenset(names)) if row.name == host else row for row in HOSTS
    )
    return replace(GOOD, hosts=hosts)


def test_a_good_inventory_passes() -> None:
    assert said(GOOD) == []
    [found] = check_inventory(GOOD, INTERFACE)
    assert found.sentence == "site: 4 hosts in 6 groups of the platform, consistent"


def test_an_unknown_group_is_refused_with_the_likely_one() -> None:
    [sentence] = said(groups(egde=["edge1"]))
    assert sentence == (
        "fail site: the group 'egde' is not one of the platform (did you mean edge?), wanted "
        "one of "
        "metadata_db, object_store, control, edge, gpu, ring_canary, ring_early, ring_fleet; "
        "rename it, or "
        "add 'egde' to mlops_extra_groups if it is for your own use"
    )


def test_groups_for_ones_own_use_are_named() -> None:
    own = groups(rack_7=["ctl1"])
    assert len(said(own)) == 1
    assert said(replace(own, values={**GOOD.values, "mlops_extra_groups": ["rack_7"]})) == []
    [sentence] = said(values(mlops_extra_groups="rack_7"))
    assert sentence.startswith("fail site: mlops_extra_groups must be a list, but is a text")


def test_variables_of_groups_and_hosts_that_do_not_exist_are_refused() -> None:
    lost = replace(GOOD, group_files=("all", "contorl"), host_files=("edge1", "egde2"))
    assert said(lost) == [
        "fail site: group_vars has variables for the group 'contorl', which does not exist "
        "(did you mean control?), wanted variables of groups that exist; rename the file",
        "fail site: host_vars has variables for the host 'egde2', which does not exist "
        "(did you mean edge2?), wanted variables of hosts that exist; rename the file",
    ]


def test_a_device_in_two_rings_is_refused() -> None:
    assert said(groups(ring_fleet=["edge1", "edge2"])) == [
        "fail edge1: is in the groups ring_canary and ring_fleet, wanted one ring a device; "
        "take it out of all but one of ring_canary, ring_fleet"
    ]


def test_rings_belong_to_edge() -> None:
    assert said(groups(edge=["edge1"])) == [
        "fail edge2: is in ring_fleet but not in edge, wanted rings as children of the group edge; "
        "make ring_fleet a child of edge"
    ]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("model_registry_admin_pasword", "model_registry_admin_password"),
        ("monitoring_retention_day", "monitoring_retention_days"),
        ("mlops_network", "mlops_networks"),
        ("metadatadb_mode", "metadata_db_mode"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_likely_one(name: str, hint: str) -> None:
    assert said(variables(name)) == [
        f"fail ctl1: sets the variable {name}, which nothing reads; did you mean {hint}?, wanted "
        "variables of the collection; correct its name, or take it out of the inventory"
    ]


def test_an_unknown_variable_of_the_site_is_refused_without_a_likely_one_too() -> None:
    [sentence] = said(variables("mlops_colour"))
    assert sentence.startswith("fail ctl1: sets the variable mlops_colour, which nothing reads,")


def test_a_variable_that_only_shares_a_prefix_is_pointed_at() -> None:
    [sentence] = said(variables("gateway_building_and_room"))
    assert sentence.startswith("warn ctl1: sets the variable gateway_building_and_room, which role")


def test_variables_of_others_are_none_of_our_business() -> None:
    assert said(variables("ansible_user", "nginx_port", "company_name", "gateway_port")) == []


@pytest.mark.parametrize(
    ("networks", "sentence"),
    [
        (
            {"a": "10.0.0.7/24"},
            "mlops_networks.a is '10.0.0.7/24': 10.0.0.7/24 has host bits set, wanted the network "
            "10.0.0.0/24; set mlops_networks.a: 10.0.0.0/24",
        ),
        (
            {"a": "10.0.0.0/33"},
            "mlops_networks.a is '10.0.0.0/33': '10.0.0.0/33' does not appear to be an IPv4 "
            "or IPv6 "
            "network, wanted a network such as 10.0.0.0/24; mend mlops_networks.a",
        ),
        (
            {"a": 10},
            "mlops_networks.a is 10: a number is no network in CIDR notation, wanted a "
            "network such "
            "as 10.0.0.0/24; mend mlops_networks.a",
        ),
        (
            ["10.0.0.0/24"],
            "mlops_networks must be a mapping, but is a list, wanted a mapping of names "
            "to networks; "
            "write mlops_networks as {site: 10.0.0.0/24}",
        ),
        (
            {"a": "10.0.0.0/8", "b": "10.0.1.0/24"},
            "mlops_networks.a (10.0.0.0/8) overlaps mlops_networks.b (10.0.1.0/24), "
            "wanted networks "
            "that are apart; mend mlops_networks.a or mlops_networks.b",
        ),
    ],
)
def test_wrong_networks_are_refused(networks: Any, sentence: str) -> None:
    assert said(values(mlops_networks=networks)) == [f"fail site: {sentence}"]


def test_a_host_outside_of_every_network_is_refused() -> None:
    assert said(values(mlops_networks={"servers": "10.0.0.0/24"}))[0] == (
        "fail edge1: its address 10.0.1.1 is in none of the declared networks, wanted an "
        "address in "
        "servers 10.0.0.0/24; mend ansible_host or mlops_address, or declare its network in "
        "mlops_networks"
    )


def test_hosts_known_by_name_or_local_are_not_looked_up() -> None:
    hosts = (HostEntry("ctl1", "ctl1.example.com"), HostEntry("store1", "127.0.0.1", local=True))
    assert said(replace(GOOD, hosts=(*hosts, *HOSTS[2:]))) == []


def test_two_names_for_one_address_are_refused() -> None:
    hosts = (*HOSTS[:3], HostEntry("edge2", "10.0.1.1"))
    assert said(replace(GOOD, hosts=hosts)) == [
        "fail edge2: has the address 10.0.1.1, as edge1 has, wanted one name a machine; "
        "mend ansible_host of edge2 or edge1"
    ]
    behind_ports = (*HOSTS[:3], HostEntry("edge2", "10.0.1.1", port=2222))
    assert said(replace(GOOD, hosts=behind_ports)) == []


def test_names_that_differ_by_capitals_only_are_refused() -> None:
    hosts = (*HOSTS[:3], HostEntry("Edge1", "10.0.1.2"))
    assert any(
        "differs from edge1 by capital letters only" in row
        for row in said(replace(GOOD, hosts=hosts))
    )


@pytest.mark.parametrize(
    ("inventory", "sentence"),
    [
        (
            groups(control=[]),
            "the group control has no host, wanted one host in control; put the host of "
            "the control "
            "plane into the group control",
        ),
        (
            groups(object_store=[]),
            "the group object_store has no host while object_store_mode is managed, wanted "
            "one host "
            "in object_store; put a host into object_store, or set object_store_mode: existing and "
            "object_store_endpoint",
        ),
        (
            replace(groups(metadata_db=[]), values={**GOOD.values, "metadata_db_mode": "existing"}),
            "metadata_db_host is not set while metadata_db_mode is existing, wanted the address of "
            "the existing service; set metadata_db_host",
        ),
        (
            values(metadata_db_mode="exisiting"),
            "metadata_db_mode is 'exisiting', wanted managed or existing; mend metadata_db_mode",
        ),
        (
            values(mlops_profile="producton"),
            "mlops_profile is 'producton' (did you mean production?), wanted one of lab, pilot, "
            "production; mend mlops_profile",
        ),
        (
            Inventory(hosts=(), groups={"all": []}, platform=GOOD.platform),
            "the inventory has no hosts, wanted at least one host in control; name the inventory "
            "with: -i inventories/NAME",
        ),
    ],
)
def test_what_a_mode_needs_must_be_there(inventory: Inventory, sentence: str) -> None:
    assert said(inventory) == [f"fail site: {sentence}"]


def test_options_of_all_entry_points_are_known() -> None:
    spec: dict[str, Any] = {
        "argument_specs": {"main": {"options": {"a_b": {}}}, "remove": {"options": {"a_c": {}}}}
    }
    assert option_names(spec) == {"a_b", "a_c"}
    assert option_names(None) == set()


def test_names_in_the_wiring_are_known() -> None:
    text = 'model_registry_database: {password: "{{ object_store_access_key }}"}\nother: 1'
    assert words_with_prefix(text, ["model_registry", "object_store"]) == {
        "model_registry_database",
        "object_store_access_key",
    }


def test_remedies_know_the_variables_that_change_a_need() -> None:
    names = ["monitoring_retention_days", "monitoring_port", "monitoring_memory_mib"]
    assert hints_of(names) == {
        "port": ["monitoring_port"],
        "memory": ["monitoring_memory_mib"],
        "disk": ["monitoring_retention_days"],
    }
