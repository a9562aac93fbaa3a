"""The table of roles and the playbooks that are written out by hand say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.module_utils._site.description import describe
from ansible_collections.mlops.onprem.plugins.module_utils._site.table import Row

ROOT = Path(__file__).resolve().parents[2]
SITE = describe(ROOT, lambda path: yaml.safe_load(path.read_text(encoding="utf-8")))
APPLIED = [row for row in SITE.table if row.applied]


OFF = "{{ ':!mlops_deferred' if 'mlops_deferred' in groups else '' }}"


def pattern(row: Row) -> str:
    """The hosts of a play for a row, as it is written, but for devices that are switched off."""
    if row.made:
        return f"{{{{ '{row.group}' if '{row.group}' in groups else 'all:!all' }}}}"
    if row.also:
        every = ":".join((row.group, *row.also))
        there = f"groups['{row.group}'] | default([], true)"
        return f"{{{{ '{every}' if {there} else '{row.group}' }}}}"
    if not row.otherwise:
        return row.group
    return f"{{{{ groups['{row.group}'] | default([], true) or '{row.otherwise}[0]' }}}}"


def plays(name: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """Role, hosts and tags, in the order of a playbook."""
    found = []
    for play in yaml.safe_load((ROOT / "playbooks" / f"{name}.yml").read_text(encoding="utf-8")):
        for entry in play.get("roles", []):
            found.append((entry["role"], play["hosts"].replace(OFF, ""), tuple(entry["tags"])))
        for task in play.get("tasks", []):
            called: dict[str, Any] = task.get("ansible.builtin.import_role") or {}
            if called.get("tasks_from") == name:
                found.append((called["name"], play["hosts"].replace(OFF, ""), tuple(task["tags"])))
    return found


@pytest.mark.parametrize("page", sorted((ROOT / "playbooks").glob("*.yml")), ids=lambda p: p.stem)
def test_no_play_waits_for_facts_that_nothing_reads(page: Path) -> None:
    written = yaml.safe_load(page.read_text(encoding="utf-8"))
    plays_in = [play for play in written if "hosts" in play]
    assert plays_in
    assert [play["name"] for play in plays_in if play.get("gather_facts") is not False] == []


def first_play(name: str) -> dict[str, Any]:
    """The first play of a playbook, or of the one that it imports first."""
    written = yaml.safe_load((ROOT / "playbooks" / f"{name}.yml").read_text(encoding="utf-8"))
    imported = written[0].get("ansible.builtin.import_playbook", "")
    found: dict[str, Any] = first_play(imported.removesuffix(".yml")) if imported else written[0]
    return found


@pytest.mark.parametrize("name", ["assess", "pipeline_check", "remove", "selfcheck", "site"])
def test_a_playbook_looks_at_the_controller_first(name: str) -> None:
    assert "lookup('mlops.onprem.controller'" in first_play(name)["vars_files"][0]
    assert "always" in first_play(name)["tags"]


def wanted(rows: list[Row]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(f"mlops.onprem.{row.role}", pattern(row), (row.role,)) for row in rows]


@pytest.mark.parametrize("name", ["site", "selfcheck"])
def test_a_playbook_names_every_role_in_the_order_of_the_table(name: str) -> None:
    assert plays(name) == wanted(APPLIED)


@pytest.mark.parametrize(
    "name", ["site", "selfcheck", "pipeline_check", "assess", "remove", "begin"]
)
def test_no_play_waits_for_a_host_that_is_switched_off_or_lost(name: str) -> None:
    written = yaml.safe_load((ROOT / "playbooks" / f"{name}.yml").read_text(encoding="utf-8"))
    hosts = [play["hosts"] for play in written if "hosts" in play]
    # A host of the control plane cannot be lost, nor the last one of a group that others need.
    # Of a group that the run makes, only hosts that answer are part.
    needed = ("control", "{{ groups[", "{{ 'mlops_workloads'", "{{ 'mlops_left_scheduler'")
    answered = ("all:&mlops_reachable",)
    assert [
        one
        for one in hosts
        if not one.startswith(needed) and one not in answered and not one.endswith(OFF)
    ] == []


@pytest.mark.parametrize("name", ["assess", "selfcheck", "pipeline_check", "remove", "rollout"])
def test_a_playbook_sets_lost_hosts_apart_before_it_connects_to_any(name: str) -> None:
    assert first_play(name)["tasks"][0]["ansible.builtin.import_tasks"] == "tasks/lost.yml"


def test_removal_goes_the_other_way() -> None:
    assert plays("remove") == wanted(APPLIED[::-1])


def test_every_role_stands_in_the_table() -> None:
    roles = {path.name for path in (ROOT / "roles").iterdir() if path.is_dir()}
    assert {row.role for row in SITE.table} == roles - {"assess"}  # which asks the others


def test_what_is_provided_exists() -> None:
    roles = {row.role for row in SITE.table}
    for role, provides in SITE.provides.items():
        folder = ROOT / "roles" / role
        if provides.alerts:
            assert (folder / "files" / provides.alerts).exists()
        for probe in provides.probes:
            assert probe.through in roles
        if provides.port:
            specs = yaml.safe_load((folder / "meta" / "argument_specs.yml").read_text())
            assert provides.port.variable in specs["argument_specs"]["main"]["options"]
        for job in provides.metrics:
            shown = (folder / "templates").glob("*.j2")
            assert any(f"/metrics/{job.job}" in page.read_text() for page in shown), job.job


def test_what_is_backed_up_is_a_directory_that_the_role_demands() -> None:
    for role, provides in SITE.provides.items():
        pages = [*(ROOT / "roles" / role).glob("vars/*.yml")]
        text = "\n".join(page.read_text() for page in pages if page.name != "provides.yml")
        for backup in provides.backup:
            assert backup.path in text, f"{role}: {backup.path}"


def test_playbooks_and_tasks_build_no_lists_in_templates() -> None:
    found = []
    for path in [*ROOT.glob("playbooks/**/*.yml"), *ROOT.glob("roles/*/*/*.yml")]:
        text = path.read_text(encoding="utf-8")
        if path.parent.name != "files" and re.search(r"\.(append|update|extend)\(", text):
            found.append(str(path.relative_to(ROOT)))
    assert found == []


def test_the_wiring_is_names_and_no_templates_that_think() -> None:
    """What the site computes, `_site` computes, where it is tested without Ansible."""
    written = yaml.safe_load((ROOT / "playbooks/vars/wiring.yml").read_text(encoding="utf-8"))
    asked = re.compile(r"\{\{ lookup\('mlops\.onprem\.site', '\w+'\) \}\}")
    default = r"default\((\w+|\[\]|inventory_dir ~ '/\.state')\)"
    passed_on = re.compile(rf"\{{\{{ \w+( \| {default})? \}}\}}[\w/.-]*")
    assert [
        name
        for name, value in written.items()
        if not (asked.fullmatch(value) or passed_on.fullmatch(value))
    ] == []
