"""A topology file becomes typed hosts, or is refused with a sentence that names the place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from labhosts import topology
from labhosts.errors import LabError

FILE = Path("/somewhere/site.toml")


def given(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "project": "site",
        "network": "10.9.0.0/24",
        "hosts": {"a": {"ip": "10.9.0.11"}, "db": {"ip": "10.9.0.12", "kind": "postgresql"}},
    }
    data.update(changes)
    return {key: value for key, value in data.items() if value is not None}


def test_a_good_file_is_typed() -> None:
    parsed = topology.parse(given(inventory="../inv"), FILE)
    assert parsed.hosts == (
        topology.Host("a", "10.9.0.11"),
        topology.Host("db", "10.9.0.12", topology.POSTGRESQL),
    )
    assert parsed.inventory == Path("/inv")
    assert parsed.container(parsed.host("db")) == "mlops-site-db"
    assert parsed.gateway == "10.9.0.1"


def test_a_company_has_one_server_of_each_kind() -> None:
    sql = {"ip": "10.9.0.13", "kind": "mariadb"}
    hosts = {**given()["hosts"], "sql": sql}
    parsed = topology.parse(given(hosts=hosts), FILE)
    assert parsed.host("sql").kind == topology.MARIADB
    with pytest.raises(LabError, match="more than one host of kind 'mariadb'"):
        topology.parse(given(hosts={**hosts, "more": {**sql, "ip": "10.9.0.14"}}), FILE)
    with pytest.raises(LabError, match="a host of kind 'mariadb' is made of trixie only"):
        topology.parse(given(hosts={"sql": {**sql, "system": "bookworm"}}), FILE)


def test_the_inventory_stands_beside_the_file_by_default() -> None:
    assert topology.parse(given(), FILE).inventory == Path("/somewhere/site")


def test_a_host_plays_the_cards_that_were_recorded() -> None:
    table = {"ip": "10.9.0.11", "kind": "gpu", "gpus": ["../t4.xml"], "prepared": "node"}
    prepared = {"node": {"files": ["create.yml"]}}
    (host,) = topology.parse(given(hosts={"a": table}, prepared=prepared), FILE).hosts
    assert host.gpus == (Path("/t4.xml"),)


@pytest.mark.parametrize(
    "table", [{"kind": "gpu"}, {"kind": "gpu", "gpus": []}, {"gpus": ["t4.xml"]}]
)
def test_cards_and_their_kind_of_host_go_together(table: dict[str, Any]) -> None:
    with pytest.raises(LabError, match=r"hosts\.a: gpus names the cards of a host of kind 'gpu'"):
        topology.parse(given(hosts={"a": {"ip": "10.9.0.11", **table}}), FILE)


def test_every_host_knows_every_other_by_name() -> None:
    parsed = topology.parse(given(), FILE)
    assert "10.9.0.11 a\n10.9.0.12 db\n" in parsed.etc_hosts(parsed.hosts[0])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"project": None}, "site.toml: project is missing or not text."),
        ({"project": "My Lab"}, "site.toml: project 'My Lab' is not a lower-case name."),
        ({"network": "10.9.0.0/33"}, "site.toml: network '10.9.0.0/33' is not an IPv4 network"),
        ({"network": "10.9.0.1/24"}, "has host bits set"),
        ({"hosts": {}}, "site.toml: wants at least one table [hosts.NAME]."),
        ({"colour": 1}, "site.toml: unknown key colour; known are hosts, inventory, network,"),
        ({"hosts": {"a": {}}}, "site.toml: hosts.a: ip is missing or not text."),
        ({"hosts": {"a": {"ip": "x"}}}, "hosts.a: ip 'x' is not an IPv4 address."),
        (
            {"hosts": {"a": {"ip": "10.8.0.2"}}},
            "hosts.a: ip 10.8.0.2 is not a host address of 10.9.0.0/24 (from 10.9.0.2).",
        ),
        ({"hosts": {"a": {"ip": "10.9.0.1"}}}, "ip 10.9.0.1 is not a host address"),
        (
            {"hosts": {"a": {"ip": "10.9.0.2"}, "b": {"ip": "10.9.0.2"}}},
            "a and b both have ip 10.9.0.2.",
        ),
        (
            {"hosts": {"a": {"ip": "10.9.0.2", "kind": "mysql"}}},
            "hosts.a: kind 'mysql' is not one of base, postgresql",
        ),
        (
            {"hosts": {"a": {"ip": "10.9.0.2", "system": "sid"}}},
            "hosts.a: system 'sid' is not one of trixie, bookworm.",
        ),
        (
            {"hosts": {"a": {"ip": "10.9.0.2", "kind": "postgresql", "system": "bookworm"}}},
            "hosts.a: a host of kind 'postgresql' is made of trixie only.",
        ),
        (
            {"hosts": {"a": {"ip": "10.9.0.2", "prepared": "device"}}},
            "site.toml: there is no table [prepared.device].",
        ),
        (
            {"hosts": {"a": {"ip": "10.9.0.2", "prepared": "x", "kind": "postgresql"}}},
            "hosts.a: prepared is not an image's name, for hosts of kind 'base' or 'gpu' only.",
        ),
        (
            {"prepared": {"device": {"files": "x.txt"}}},
            "prepared.device: files is missing or not a list of paths.",
        ),
        (
            {"prepared": {"postgresql": {"files": []}}},
            "prepared.postgresql: the name is not a lower-case name that is free.",
        ),
        (
            {"hosts": {"A_b": {"ip": "10.9.0.2"}}},
            "hosts.A_b: the name is not a lower-case host name.",
        ),
        (
            {
                "hosts": {
                    n: {"ip": f"10.9.0.{i}", "kind": "postgresql"} for n, i in (("a", 2), ("b", 3))
                }
            },
            "more than one host of kind 'postgresql'",
        ),
    ],
)
def test_a_bad_file_is_refused_in_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LabError) as refusal:
        topology.parse(given(**changes), FILE)
    assert sentence in str(refusal.value)


def test_hosts_are_made_after_one_that_was_prepared() -> None:
    hosts = {"a": {"ip": "10.9.0.2", "prepared": "device"}, "b": {"ip": "10.9.0.3"}}
    parsed = topology.parse(
        given(hosts=hosts, prepared={"device": {"files": ["x.txt", "../y.txt"]}}), FILE
    )
    assert [host.prepared for host in parsed.hosts] == ["device", ""]
    beside = FILE.resolve().parent
    assert parsed.prepared == {"device": (beside / "x.txt", beside.parent / "y.txt")}


def test_an_unknown_host_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LabError, match=r"site.toml has no host 'c'; it has a, db\."):
        topology.parse(given(), FILE).host("c")


def test_a_missing_file_and_a_broken_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="Cannot read the topology"):
        topology.load(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("project = ")
    with pytest.raises(LabError, match="is not TOML"):
        topology.load(broken)


@pytest.mark.parametrize("path", ["extensions/lab/lab.toml", "extensions/molecule/topology.toml"])
def test_the_topologies_that_are_shipped_parse(path: str) -> None:
    root = Path(__file__).resolve().parents[3]
    parsed = topology.load(root / path)
    assert parsed.inventory.is_relative_to(root)
    assert [host.kind for host in parsed.hosts].count(topology.POSTGRESQL) == 1
