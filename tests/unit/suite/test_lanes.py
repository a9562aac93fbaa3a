"""Lanes of test hosts: equal to the first, and apart from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from labhosts import topology

from tests import lanes
from tests.lanes import COPIED, MODEL, Lane
from tests.run import LONG, longest_first, scenarios_of_roles

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lane:
    monkeypatch.setattr(lanes, "ROOT", tmp_path)
    lane = Lane(2)
    lane.write()
    return lane


def test_the_second_lane_has_the_same_hosts_in_another_network(second: Lane) -> None:
    one, two = topology.load(MODEL / "topology.toml"), topology.load(second.topology)
    assert two.project == "molecule-2"
    assert not one.network.overlaps(two.network)
    assert [(h.name, h.kind) for h in two.hosts] == [(h.name, h.kind) for h in one.hosts]
    assert two.inventory == second.site.resolve()


def test_no_address_of_the_first_lane_is_left_in_the_second(second: Lane) -> None:
    for name in COPIED:
        text = (second.directory / name).read_text()
        assert "10.204." not in text
        assert "10.205." in text


def test_nothing_else_of_the_inventory_needs_copying() -> None:
    kept = {"secrets.yml", "company.yml", "s3.yml"}
    found = {
        str(path.relative_to(MODEL))
        for path in (MODEL / "inventory").rglob("*.yml")
        if path.name not in kept and ".state" not in path.parts
    }
    assert found == {name for name in COPIED if name.startswith("inventory/")}


def test_lanes_share_no_directory() -> None:
    places = [Lane(number).environment for number in (1, 2, 3)]
    for name in places[0]:
        assert len({place[name] for place in places}) == 3


def test_scenarios_and_tests_name_no_address_of_a_lane() -> None:
    first = re.compile(r"\b10\.204\.")
    own = {MODEL / name for name in COPIED} | {MODEL / "README.md"}
    named = [
        str(path.relative_to(ROOT))
        for top in (MODEL, ROOT / "tests" / "infra")
        for path in top.rglob("*")
        if path.suffix in {".py", ".yml", ".md"}
        and path not in own
        and ".state" not in path.parts
        and path.name not in {"company.yml", "s3.yml", "secrets.yml"}
        and first.search(path.read_text())
    ]
    assert not named


def test_the_longest_scenario_starts_first() -> None:
    queue = longest_first(["trust", "gateway", "assess_refuses", "new"])
    assert list(queue) == ["assess_refuses", "gateway", "new", "trust"]


def test_hints_are_for_scenarios_that_exist() -> None:
    assert set(LONG) <= set(scenarios_of_roles())
