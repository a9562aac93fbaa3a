# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab beside the lab: its own network, its own name, and nothing of the first one's secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomllib
import yaml

from tests.soak import beside


def test_it_is_the_lab_in_another_network_without_its_secrets(tmp_path: Path) -> None:
    kept = tmp_path / "site/group_vars/all/secrets.yml"
    kept.parent.mkdir(parents=True)
    kept.write_text("its: own\n")
    site, topology = beside.write(tmp_path, "10.213", "other")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if "10.203." in path.read_text()]
    lab = {path.name for path in (beside.LAB / "group_vars/all").iterdir()}
    handed_over = {"secrets.yml", "company.yml", "company_mariadb.yml"}
    assert {path.name for path in kept.parent.iterdir()} == (lab - handed_over) | {"secrets.yml"}
    assert kept.read_text() == "its: own\n"
    hosts = yaml.safe_load((site / "hosts.yml").read_text())
    assert hosts["control"]["hosts"]["ctl1"]["ansible_host"] == "10.213.0.13"
    made = tomllib.loads(topology.read_text())
    assert (made["project"], made["network"]) == ("other", "10.213.0.0/24")
    assert (topology.parent / made["inventory"]).resolve() == site.resolve()


def test_what_does_not_stand_there_is_not_replaced_in_silence() -> None:
    with pytest.raises(ValueError, match=r"'10\.9\.' does not stand in"):
        beside.put("network = 10.203.0.0/24", {"10.9.": "10.8."})
