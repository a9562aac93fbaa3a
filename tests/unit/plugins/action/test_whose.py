# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""From where a task knows the site that it is for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.mlops.onprem.plugins.plugin_utils.whose import site_of

FOUND, SAID, KEPT = "found-out-by-this-run", "said-by-the-inventory", "kept-in-the-state"


def asked(variables: dict[str, Any]) -> str:
    return site_of(variables, Templar(loader=DataLoader(), variables=variables))


def facts(run: int | None = None) -> dict[str, Any]:
    return {"mlops_site": {"id": FOUND, "run": run or os.getpid()}}


@pytest.fixture
def beside(tmp_path: Path) -> str:
    """An inventory with the state of an earlier run."""
    (tmp_path / ".state").mkdir()
    page = {"id": KEPT, "adopts": False, "addresses": {"h1": "10.0.0.1"}}
    (tmp_path / ".state" / "site.json").write_text(json.dumps(page))
    return str(tmp_path)


def test_what_was_found_out_goes_first_then_what_is_said_then_what_is_kept(beside: str) -> None:
    host = {"inventory_hostname": "h1", "ansible_host": "10.0.0.1", "inventory_dir": beside}
    said = {**host, "mlops_site_id": SAID}
    assert asked({**said, "ansible_facts": facts()}) == FOUND
    assert asked(said) == SAID
    assert asked(host) == KEPT


def test_facts_of_another_run_do_not_count(beside: str) -> None:
    cached = {"inventory_hostname": "h1", "ansible_facts": facts(run=-1)}
    assert asked(cached) == ""
    assert asked({**cached, "mlops_site_id": SAID}) == SAID


@pytest.mark.parametrize(
    "changed",
    [
        {"ansible_host": "10.0.0.2"},
        {"inventory_hostname": "h2"},
        {"inventory_dir": "/nonexistent"},
        {"mlops_state_dir": "/nonexistent"},
    ],
)
def test_another_machine_of_the_same_name_is_not_remembered(
    beside: str, changed: dict[str, str]
) -> None:
    host = {"inventory_hostname": "h1", "ansible_host": "10.0.0.1", "inventory_dir": beside}
    assert asked({**host, **changed}) == ""


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"id": 7}'])
def test_a_damaged_state_is_no_knowledge(beside: str, text: str) -> None:
    Path(beside, ".state", "site.json").write_text(text)
    host = {"inventory_hostname": "h1", "ansible_host": "10.0.0.1", "inventory_dir": beside}
    assert asked(host) == ""


def test_a_play_without_the_control_host_knows_what_the_run_found_out() -> None:
    hostvars = {"ctl1": {"ansible_facts": facts()}, "h1": {}}
    variables = {
        "inventory_hostname": "h1",
        "hostvars": hostvars,
        "groups": {"all": ["ctl1", "h1"]},
    }
    assert asked(variables) == FOUND
