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
from ansible.plugins.loader import lookup_loader
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from ansible_collections.mlops.onprem.plugins.action.inventory_check import (
    COLLECTION,
    find,
    is_whole,
    read_interface,
    read_site,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import Finding

ROOT = Path(__file__).resolve().parents[4]
SITE = """\
control: {hosts: {ctl1: {ansible_host: 10.0.0.1}}}
metadata_db: {hosts: {ctl1: {}}}
object_store: {hosts: {ctl1: {}}}
edge: {children: {ring_canary: {hosts: {edge1: {ansible_host: 10.0.0.2}}}}}
"""


def found(*sources: Path) -> list[Finding]:
    """What is said of an inventory, as Ansible read it."""
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=[str(source) for source in sources])
    manager = VariableManager(loader=loader, inventory=inventory)
    variables: dict[str, Any] = {
        "hostvars": HostVars(inventory, manager, loader),
        "groups": {name: [h.name for h in g.get_hosts()] for name, g in inventory.groups.items()},
        "ansible_inventory_sources": [str(source) for source in sources],
        "playbook_dir": str(ROOT / "playbooks"),
    }
    site = read_site(COLLECTION)
    interface, _hints = read_interface(COLLECTION, site)
    return find(variables, set(), site, interface, loader)


def said(source: Path) -> list[str]:
    """What is wrong, without that roles are not asked for it."""
    rows = [row for row in found(source) if row.severity != "pass" and row.id != "assess.roles"]
    return [row.sentence for row in rows]


@pytest.mark.parametrize("name", ["example_company", "single_server"])
def test_the_shipped_inventories_are_consistent(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # No collection is found here by its name; any text will do for a secret.
    get = lookup_loader.get
    plain = {"mlops.onprem.secret": "random_choice"}
    monkeypatch.setattr(
        lookup_loader, "get", lambda one, *given, **more: get(plain.get(one, one), *given, **more)
    )
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
    assert lines["site: gateway_port"].endswith(
        f"wanted a value of type int; mend gateway_port in {tmp_path}/group_vars/all.yml"
    )
    assert "one of existing, managed" in lines["site: object_store_mode"]
    assert not any("model_serving_port" in line for line in lines)


@pytest.mark.parametrize("value", ["[a, b]", "{a: b}"])
def test_a_list_is_no_text(value: str, tmp_path: Path) -> None:
    """Ansible would take it, with its brackets, for the name."""
    (tmp_path / "hosts.yml").write_text(SITE + f"all: {{vars: {{metadata_db_prefix: {value}}}}}\n")
    [line] = said(tmp_path)
    assert line.startswith("site: metadata_db_prefix is a ")
    assert "which is no text, wanted a value of type str; mend metadata_db_prefix in " in line


def test_a_certificate_that_is_no_file_is_one_sentence_and_its_role_is_not_asked(
    tmp_path: Path,
) -> None:
    """Told before anything is connected, as the wrong value that it is."""
    (tmp_path / "hosts.yml").write_text(SITE)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text(
        f"metadata_db_ca_file: {tmp_path}\n"
        "metadata_db_client_certificates:\n"
        '  - {certificate_file: "/nowhere/{{ 1 }}.pem", key_file: ""}\n'
    )
    (tmp_path / "group_vars" / "edge.yml").write_text("audit_log_syslog_ca_file: /nowhere\n")
    wanted = "wanted a file on the controller that the user who runs the playbooks can read"
    assert said(tmp_path) == [
        f"site: metadata_db_ca_file is {tmp_path}, which is a directory, {wanted}; mend "
        f"metadata_db_ca_file in {tmp_path}/group_vars/all.yml",
        "site: metadata_db_client_certificates[0].certificate_file is /nowhere/1.pem, which does "
        f"not exist on the controller, {wanted}; mend metadata_db_client_certificates in "
        f"{tmp_path}/group_vars/all.yml",
        "edge1: audit_log_syslog_ca_file is /nowhere, which does not exist on the controller, "
        f"{wanted}; mend audit_log_syslog_ca_file in {tmp_path}/group_vars/edge.yml",
    ]
    assert [row.found for row in found(tmp_path) if row.id == "assess.roles"] == [
        "what audit_log and metadata_db would need and find was not asked"
    ]


def test_every_role_has_variables_to_name_in_remedies() -> None:
    _interface, hints = read_interface(COLLECTION, read_site(COLLECTION))
    assert "model_serving_port" in hints["model_serving"]["port"]
    assert "object_store_osd_size_gib" in hints["object_store"]["disk"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("model_serving_prot: 1", "sets the variable model_serving_prot"),
        ("mlops_profile: produktion", "mlops_profile is 'produktion'"),
        ("mlops_networks: {a: 10.0.0.0/33}", "mlops_networks.a is '10.0.0.0/33'"),
        ("mlops_networks: {a: 10.0.0.7/24}", "mlops_networks.a is '10.0.0.7/24'"),
    ],
)
def test_a_mistake_names_the_file_that_it_is_in(line: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(SITE)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text(line + "\n")
    [told] = said(tmp_path)
    assert found in told
    assert told.endswith(f"(set in {tmp_path}/group_vars/all.yml)")


@pytest.mark.parametrize("port", ["0", "70000", "-1", "'65536'"])
def test_a_number_that_is_no_port_is_named(port: str, tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(SITE + f"all: {{vars: {{gateway_port: {port}}}}}\n")
    [line] = said(tmp_path)
    assert "which is no port (1 to 65535)" in line
    assert line.startswith("site: gateway_port is ")


@pytest.mark.parametrize(
    ("place", "where", "host"),
    [
        ("group_vars/all/site.yml", "group_vars/all/site.yml", "site"),
        ("host_vars/edge1.yml", "host_vars/edge1.yml", "edge1"),
        ("group_vars/ring_canary", "group_vars/ring_canary", "edge1"),
    ],
)
def test_a_wrong_value_is_one_finding_with_its_file(
    tmp_path: Path, place: str, where: str, host: str
) -> None:
    (tmp_path / "hosts.yml").write_text(SITE)
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text("monitoring_retention_days: many\n")
    [line] = said(tmp_path)
    [consequence] = [row for row in found(tmp_path) if row.id == "assess.roles"]
    assert consequence.found == "what monitoring would need and find was not asked"
    assert line.startswith(f"{host}: monitoring_retention_days is not a valid int")
    assert line.endswith(f"mend monitoring_retention_days in {tmp_path}/{where}")


def test_a_wrong_value_in_the_file_of_hosts_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(SITE + "all: {vars: {monitoring_retention_days: many}}\n")
    [line] = said(tmp_path)
    assert line.endswith(f"mend monitoring_retention_days in {tmp_path}/hosts.yml")


# Slips in a file of hosts that Ansible passes over, or stops at and goes on without the rest.
SLIPS = {
    "a list of hosts": (
        "edge: {children: {ring_canary: {hosts: [cam1, cam2]}}}",
        "hosts of the group ring_canary is a list, wanted a mapping of names; "
        "write 'hosts: {cam1: {}, cam2: {}}' for ring_canary in",
    ),
    "a list of groups": (
        "edge: {children: [ring_canary]}",
        "children of the group edge is a list, wanted a mapping",
    ),
    "a ring beside children": (
        "edge: {children: {}, ring_canary: {hosts: {cam1: {}}}}",
        "the group edge has the key ring_canary, which Ansible passes over, wanted only hosts",
    ),
    "host for hosts": (
        "edge: {host: {cam1: {}}}",
        "the group edge has the key host, which Ansible passes over; did you mean hosts?",
    ),
    "a host right below its group": (
        "edge: {cam1: {ansible_host: 10.0.0.9}}",
        "the group edge has the key cam1, which Ansible passes over",
    ),
    "an address for a group": ("edge: 10.0.0.9", "the group edge is a text, wanted a group"),
    "an address for a host": (
        "edge: {hosts: {cam1: 10.0.0.9}}",
        "the host cam1 in the group edge is a text, wanted variables of the host; "
        "write 'cam1: {ansible_host: '10.0.0.9'}'",
    ),
    "a number for a host": ("edge: {hosts: {17: {}}}", "has the host 17, which is a number"),
    "a tab": (
        "edge:\n\thosts: {cam1: {}}",
        "was not read as an inventory: YAML parsing failed: Tabs",
    ),
    "a bracket left open": (
        "edge: {hosts: {cam1: {}",
        "was not read as an inventory: YAML parsing",
    ),
    "a group twice": (
        "edge: {hosts: {cam1: {}}}\nedge: {hosts: {cam2: {}}}",
        "has edge twice in one place, the second time on line 5; only the last one counts",
    ),
    "a range with a dash": ("edge: {hosts: {'cam[1-9]': {}}}", "a host of the name 'cam[1-9]'"),
    "a range left open": ("edge: {hosts: {'cam[1:9': {}}}", "a host of the name 'cam[1:9'"),
    "two names in one text": ("edge: {hosts: 'cam1 cam2'}", "hosts of the group edge is a text"),
    "a pattern for a host": ("edge: {hosts: {'all,!cam1': {}}}", "a host of the name 'all,!cam1'"),
}


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_in_the_file_of_hosts_is_named(name: str, tmp_path: Path) -> None:
    lines, sentence = SLIPS[name]
    page = "".join(line + "\n" for line in SITE.splitlines() if not line.startswith("edge"))
    (tmp_path / "hosts.yml").write_text(f"{page}{lines}\n")
    told = [row for row in found(tmp_path / "hosts.yml") if row.severity == "fail"]
    matching = [row for row in told if sentence in row.sentence]
    assert len(matching) == 1, [row.sentence for row in told]
    assert str(tmp_path / "hosts.yml") in matching[0].sentence or "name" in matching[0].id


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("more.ini", "[edge\ncam1\n", "was not read as an inventory"),
        ("more.yml", "- cam1\n- cam2\n", "its top is a list, wanted groups"),
        (
            "more.yml",
            "plugin: company.cmdb.hosts\n",
            "specifies unknown plugin 'company.cmdb.hosts'",
        ),
        ("more.yml", "hosts: [cam1\n", "was not read as an inventory: YAML parsing failed"),
        (None, "", "there is no such file"),
    ],
)
def test_a_second_source_that_is_broken_is_named(
    name: str | None, text: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "hosts.yml").write_text(SITE)
    second = tmp_path / (name or "nowhere.yml")
    if name:
        second.write_text(text)
    told = [row for row in found(tmp_path / "hosts.yml", second) if row.severity != "pass"]
    assert [row.id for row in told] == ["inventory.unread", "assess.roles"]
    assert str(second) in told[0].found
    assert reason in told[0].sentence
    assert not is_whole(told)


def test_what_follows_from_a_half_read_inventory_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(
        "metadata_db: {hosts: {ctl1: {ansible_host: 10.0.0.1}}}\ncontrol: {hosts: [ctl1]}\n"
    )
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "edge.yml").write_text("model_serving_port: 443\n")
    assert [row.id for row in found(tmp_path)] == ["inventory.unread", "assess.roles"]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            {"group_vars/all.ymal": "a: 1"},
            "/group_vars/all.ymal is not read: its name ends in .ymal",
        ),
        (
            {"group_vars/edge.txt": "a: 1"},
            "/group_vars/edge.txt is not read: its name ends in .txt",
        ),
        (
            {"group_vars/all/ports.conf": "a: 1"},
            "/group_vars/all/ports.conf is not read: its name ends in .conf",
        ),
        (
            {"host_vars/edge1.YML": "a: 1"},
            "/host_vars/edge1.YML is not read: its name ends in .YML",
        ),
        (
            {"group_vars/all.yml": "a: 1", "group_vars/all/site.yml": "b: 1"},
            "/group_vars/all.yml is not read: Ansible takes one file or folder for all, which is",
        ),
        (
            {"group_vars/edge.yaml": "a: 1", "group_vars/edge.yml": "b: 1"},
            "/group_vars/edge.yaml is not read: Ansible takes one file or folder for edge",
        ),
        (
            {"group_vars/all/more.d/site.yml": "a: 1"},
            "/more.d/site.yml is not read: Ansible looks into no folder whose name has an ending",
        ),
        ({"group_vars": "a: 1"}, "/group_vars is not read: it is no directory"),
        (
            {"groups_vars/all.yml": "a: 1"},
            "/groups_vars is not read: Ansible knows only group_vars",
        ),
        (
            {"hostvars/edge1.yml": "a: 1"},
            "/hostvars is not read: Ansible knows only group_vars and",
        ),
        ({"group-vars/all.yml": "a: 1"}, "/group-vars is not read: Ansible knows only"),
        (
            {"group_vars/all.yml": "gateway_port: 443\ngateway_port: 444\n"},
            "/group_vars/all.yml has gateway_port twice in one place, the second time on line 2",
        ),
        (
            {"group_vars/all.yml": "mlops_networks:\n  a: 10.0.0.0/8\n  a: 10.0.0.0/24\n"},
            "/group_vars/all.yml has mlops_networks.a twice in one place",
        ),
        (
            {"group_vars/canary.yml": "a: 1"},
            "variables for the group 'canary', which does not exist",
        ),
        ({"host_vars/edge7.yml": "a: 1"}, "variables for the host 'edge7', which does not exist"),
    ],
)
def test_variables_that_are_not_read_are_named(
    files: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    place = tmp_path / "site"
    place.mkdir()
    (place / "hosts.yml").write_text(SITE)
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    told = [row for row in found(place / "hosts.yml") if row.severity == "fail"]
    assert len(told) == 1, [row.sentence for row in told]
    assert sentence in told[0].found


def test_a_link_to_variables_that_are_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(SITE)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").symlink_to("/nowhere/all.yml")
    [line] = said(tmp_path)
    assert "group_vars/all.yml is not read: it is a link to /nowhere/all.yml" in line


def test_variables_below_the_directory_of_the_inventory_are_named(tmp_path: Path) -> None:
    (tmp_path / "plant").mkdir()
    (tmp_path / "plant" / "hosts.yml").write_text(SITE)
    (tmp_path / "plant" / "group_vars").mkdir()
    [row] = [row for row in found(tmp_path) if row.severity == "fail"]
    assert f"{tmp_path}/plant/group_vars is not read for this inventory" in row.found


def test_variables_beside_the_directory_are_only_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "hosts.yml").write_text(SITE)
    [row] = [row for row in found(tmp_path / "site") if row.severity != "pass"]
    assert (row.severity, row.id) == ("warn", "inventory.unread_variables")


def test_what_was_set_aside_on_purpose_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(SITE)
    (tmp_path / "group_vars" / "all").mkdir(parents=True)
    for name in (
        "site.yml",
        "README.md",
        "site.yml.bak",
        ".site.yml.swp",
        "old.yml~",
        "vault.json",
    ):
        (tmp_path / "group_vars" / "all" / name).write_text("{}")
    assert said(tmp_path) == []


def test_an_ini_inventory_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "hosts.ini").write_text(
        "[control]\nctl1 ansible_host=10.0.0.1\n[metadata_db]\nctl1\n[object_store]\nctl1\n"
        "[ring_canary]\nedge[1:3]\n[edge:children]\nring_canary\n"
    )
    assert said(tmp_path / "hosts.ini") == []


def test_a_file_of_hosts_whose_ending_is_passed_over_is_named(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(SITE)
    (tmp_path / "hosts-new.txt").write_text("[edge]\nedge9\n")
    [line] = said(tmp_path)
    assert f"{tmp_path}/hosts-new.txt is not read: in a directory Ansible passes over" in line


def test_a_certificate_beside_the_hosts_does_not_stop_the_site(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(SITE)
    (tmp_path / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\nMII=\n")
    assert [(row.severity, row.id) for row in found(tmp_path) if row.severity != "pass"] == [
        ("warn", "inventory.strange_file")
    ]


def test_two_hosts_in_control_are_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(
        SITE.replace(
            "{ctl1: {ansible_host: 10.0.0.1}}", "{ctl1: {ansible_host: 10.0.0.1}, ctl2: {}}"
        )
    )
    [line] = said(tmp_path)
    assert line.startswith("site: the group control has 2 hosts: ctl1, ctl2, wanted one host")


def test_models_that_cannot_be_read_are_told_with_their_file(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(SITE)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text(
        "mlops_models: [{name: welds, project: a, targets: [line]}, {name: sounds}]\n"
    )
    lines = said(tmp_path)
    assert [line.partition(", wanted")[0] for line in lines] == [
        "site: mlops_models[0].targets[0]: the inventory has no group and no host 'line'",
        "site: mlops_models[1]: must have project or artifact, which say where the model comes "
        "from",
    ]
    assert "group_vars/all.yml" in lines[0]
    assert [row.found for row in found(tmp_path) if row.id == "assess.roles"] == [
        "what model_serving would need and find was not asked"
    ]


def test_models_of_the_whole_site_are_fine(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(SITE)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text("mlops_models: [{name: a, project: p}]\n")
    assert said(tmp_path) == []


def test_models_are_one_list_for_the_site(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(SITE)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text("mlops_models: [{name: a, project: p}]\n")
    (tmp_path / "group_vars" / "edge.yml").write_text("mlops_models: [{name: b, project: p}]\n")
    (line,) = said(tmp_path)
    assert line.startswith("edge1: sets mlops_models to something else than the rest of the site")


def test_people_that_cannot_be_read_are_told_with_their_file(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(SITE)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text(
        "mlops_people: [{name: admin}, {name: anna, rights: boss}]\n"
        "mlops_teams: [{name: vision, members: [ben]}]\n"
    )
    lines = said(tmp_path)
    assert [line.partition(", wanted")[0] for line in lines] == [
        "site: mlops_people[0].name: admin is an account that several share; give each person a "
        "name of his own",
        "site: mlops_people[1].rights: must be one of viewer, scientist, operator, administrator, "
        "but is 'boss'",
    ]
    assert "group_vars/all.yml" in lines[0]


def test_a_member_of_a_team_that_is_none_of_the_people_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(SITE)
    (tmp_path / "group_vars").mkdir()
    teams = "mlops_teams: [{name: vision, members: [anna, ben]}]\n"
    (tmp_path / "group_vars" / "all.yml").write_text(teams)
    assert said(tmp_path) == []
    (tmp_path / "group_vars" / "all.yml").write_text(f"{teams}mlops_people: [{{name: anna}}]\n")
    (row,) = [row for row in found(tmp_path) if row.id.startswith("inventory.people")]
    assert (row.id, row.severity) == ("inventory.people_teams", "warn")
    assert row.sentence == (
        "site: ben is a member of vision in mlops_teams, but none of mlops_people, wanted members "
        "that the site knows as people; add ben to mlops_people, or take the account out of "
        "mlops_teams"
    )


def test_teams_that_cannot_be_read_are_told_without_a_scheduler(tmp_path: Path) -> None:
    """Also where a run looks at other hosts than the scheduler's."""
    (tmp_path / "hosts.yml").write_text(SITE)
    (tmp_path / "group_vars").mkdir()
    path = tmp_path / "group_vars" / "all.yml"
    path.write_text("mlops_teams: [{name: root, members: [ben]}, {name: b, members: [root]}]\n")
    lines = said(tmp_path)
    assert [line.partition(":")[2].partition(", wanted")[0] for line in lines] == [
        " mlops_teams[0].name: 'root' is a name that Slurm keeps for itself; choose another",
        " mlops_teams[1].members[0]: root is no person; name the accounts that people log in with",
    ]
    assert lines[0].endswith(
        f"wanted teams as docs/compute.md describes mlops_teams; mend mlops_teams in {path}"
    )
    assert [row.found for row in found(tmp_path) if row.id == "assess.roles"] == [
        "what job_scheduler would need and find was not asked"
    ]


def test_people_are_one_list_for_the_site(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(SITE)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text("mlops_people: [{name: anna}]\n")
    (tmp_path / "group_vars" / "edge.yml").write_text("mlops_people: [{name: ben}]\n")
    (line,) = said(tmp_path)
    assert line.startswith("edge1: sets mlops_people to something else than the rest of the site")
