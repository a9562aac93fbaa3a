# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service that the platform brought is not left beside an existing one without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.module_utils._assess.left_behind import (
    BROUGHT,
    check_left_behind,
    modes_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import Finding
from ansible_collections.mlops.onprem.plugins.module_utils._supply.facts import facts_of

ROOT = Path(__file__).resolve().parents[5]
UNITS = {
    "metadata_db": ["mlops-postgresql.service", "mlops.slice"],
    "object_store": ["mlops-ceph-mon.service", "mlops-ceph-rgw.service"],
    "accounting_db": ["mlops-mariadb.service"],
    "monitoring": ["mlops-prometheus.service", "mlops-units.service", "mlops-units.timer"],
    "gateway": ["mlops-nginx.service"],
}


def told(units: dict[str, list[str]], own: dict[str, str], **site: str) -> list[Finding]:
    return check_left_behind("h", facts_of({"platform": {"units": units}}), own, site)


@pytest.mark.parametrize("role", [one.role for one in BROUGHT])
def test_each_service_is_refused_with_the_command_that_takes_it_away(role: str) -> None:
    for own, site in (({f"{role}_mode": "existing"}, {}), ({}, {f"{role}_mode": "existing"})):
        (found,) = told(UNITS, own, **site)
        assert (found.id, found.severity) == (f"{role}.left_behind", "fail")
        assert f"({UNITS[role][0]}" in found.found
        assert "mlops-units" not in found.found
        assert f"{role}_mode is existing" in found.found
        assert f"ansible-playbook playbooks/remove.yml --tags {role}" in found.remedy
    assert told({name: units for name, units in UNITS.items() if name != role}, own, **site) == []


@pytest.mark.parametrize("own", [{}, {one.mode: "managed" for one in BROUGHT}])
def test_what_is_managed_stays(own: dict[str, str]) -> None:
    assert told(UNITS, own) == []
    assert told(UNITS, {one.mode: "managed" for one in BROUGHT}, metadata_db_mode="existing") == []


def test_what_a_removal_keeps_is_no_service() -> None:
    assert told({"metadata_db": []}, {"metadata_db_mode": "existing"}) == []
    assert told({"monitoring": ["mlops-units.service"]}, {"monitoring_mode": "existing"}) == []


def test_the_site_s_mode_is_that_of_the_first_host_that_says_one() -> None:
    entries: list[dict[str, Any]] = [
        {},
        {"metadata_db_mode": "existing"},
        {"metadata_db_mode": "x"},
    ]
    assert modes_of(entries) == {"metadata_db_mode": "existing"}


def test_every_role_with_such_a_mode_is_looked_at() -> None:
    """That of the node exporter is: a run takes ours away (test_node_exporter)."""
    found = set()
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            for name, option in (entry.get("options") or {}).items():
                if {"existing", "managed"} <= set(option.get("choices") or ()):
                    found.add(name)
    assert found == {one.mode for one in BROUGHT} | {"monitoring_node_exporter_mode"}
    for one in BROUGHT:
        known = "".join(path.read_text() for path in (ROOT / "roles" / one.role).rglob("*.yml"))
        assert all(f"name: {unit.removesuffix('.service')}" in known for unit in one.units)
