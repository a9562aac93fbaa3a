# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles declare is read strictly, and refused with the place where it went wrong."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import (
    Demand,
    DiskNeed,
    Finding,
    PortNeed,
    from_failure,
    parse_demand,
    parse_finding,
    replace_role,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError, each
from hypothesis import given
from hypothesis import strategies as st

GOOD = {"id": "metadata_db.version", "severity": "fail", "found": "12.4", "remedy": "upgrade it"}


def test_a_finding_reads_as_one_sentence() -> None:
    finding = Finding(
        "metadata_db.version", "ctl1", "fail", "PostgreSQL 12.4", "14 or newer", "set x"
    )
    assert finding.sentence == "ctl1: PostgreSQL 12.4, wanted 14 or newer; set x"


def test_a_finding_without_a_host_belongs_to_the_current_one() -> None:
    assert parse_finding(GOOD, "ctl1").host == "ctl1"
    assert parse_finding({**GOOD, "host": "db1"}, "ctl1").host == "db1"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"id": None}, "id: is missing"),
        ({"id": "version"}, "id: must look like role.check, but is 'version'"),
        (
            {"severity": "bad"},
            "severity: must be one of pass, warn, fail, error, but is 'bad'",
        ),
        ({"found": ""}, "found: must not be empty"),
        (
            {"remedy": ""},
            "remedy: is missing; a finding that stops the site says which variable or command "
            "mends it",
        ),
        (
            {"rmedy": "x"},
            "has the unknown key 'rmedy'; known are id, host, severity, found, wanted, remedy",
        ),
    ],
)
def test_a_wrong_finding_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ShapeError) as caught:
        parse_finding({**GOOD, **change})
    assert str(caught.value) == sentence


def test_a_demand_takes_numbers_as_templates_give_them() -> None:
    demand = parse_demand(
        {
            "service": "Prometheus",
            "memory_mib": "150",
            "disks": [{"path": "/var/lib/x/", "mib": 7.5, "why": "samples"}],
            "ports": [{"port": "9090", "address": "127.0.0.1"}],
        },
        "monitoring",
    )
    assert demand == Demand(
        "Prometheus",
        "monitoring",
        memory_mib=150,
        disks=(DiskNeed("/var/lib/x", 7.5, "samples"),),
        ports=(PortNeed(9090, "127.0.0.1"),),
    )
    assert parse_demand(demand.as_dict()) == demand


@pytest.mark.parametrize(
    ("demand", "sentence"),
    [
        ([], "must be a mapping, but is a list"),
        ({}, "service: is missing"),
        ({"service": "A", "memory_mib": -1}, "memory_mib: must be at least 0, but is -1"),
        ({"service": "A", "memory_mib": "much"}, "memory_mib: must be a number, but is 'much'"),
        ({"service": "A", "memory_mib": True}, "memory_mib: must be a number, but is a boolean"),
        (
            {"service": "A", "memory_mib": float("nan")},
            "memory_mib: must be a finite number, but is nan",
        ),
        ({"service": "A", "gpus": 0.5}, "gpus: must be a whole number, but is 0.5"),
        ({"service": "A", "disks": "x"}, "disks: must be a list, but is a text"),
        (
            {"service": "A", "disks": [{"path": "var", "mib": 1}]},
            "disks[0].path: must be an absolute path, but is 'var'",
        ),
        (
            {"service": "A", "ports": [{"port": 443}, {"port": 70000}]},
            "ports[1].port: must be between 1 and 65535, but is 70000",
        ),
    ],
)
def test_a_wrong_demand_is_refused_with_its_place(demand: Any, sentence: str) -> None:
    with pytest.raises(ShapeError) as caught:
        parse_demand(demand)
    assert str(caught.value) == sentence


def test_an_error_in_a_list_names_the_index() -> None:
    with pytest.raises(ShapeError) as caught:
        each([{"service": "A"}, {"service": ""}], parse_demand)
    assert str(caught.value) == "[1].service: must not be empty"


def test_declaring_twice_leaves_one_entry() -> None:
    kept = replace_role([], "trust", [{"service": "A"}])
    kept = replace_role(kept, "gateway", [{"service": "B"}])
    kept = replace_role(kept, "trust", [{"service": "C"}])
    assert kept == [{"service": "B", "role": "gateway"}, {"service": "C", "role": "trust"}]


def test_every_refused_variable_of_a_role_is_a_finding_of_its_own() -> None:
    found = from_failure(
        "gateway",
        "ctl1",
        {"argument_errors": ["argument 'gateway_port' is of type str.", "missing: x"], "msg": "no"},
    )
    assert [(row.id, row.severity, row.found) for row in found] == [
        ("gateway.variables", "fail", "argument 'gateway_port' is of type str"),
        ("gateway.variables", "fail", "missing: x"),
    ]


def test_a_preflight_that_breaks_is_not_a_pass() -> None:
    [found] = from_failure("gateway", "ctl1", {"msg": "Task failed: No filter.\nmore"})
    assert (found.severity, found.found) == (
        "error",
        "the preflight of gateway could not be made: No filter. more",
    )


@pytest.mark.parametrize(
    "name", ["metadata_db_admin_password", "object_store_access_key", "site_x"]
)
def test_a_variable_that_is_not_set_is_named_with_the_way_to_set_it(name: str) -> None:
    [found] = from_failure("metadata_db", "ctl1", {"msg": f"Task failed: '{name}' is undefined"})
    assert (found.id, found.severity) == ("metadata_db.variables", "fail")
    assert found.found == f"{name} is not set"
    assert found.remedy.startswith(f"set {name} in the inventory")


def test_what_the_site_says_of_a_variable_is_told_once() -> None:
    said = "object_store_access_key is not set while object_store_mode is existing; set it"
    message = f"Error: The lookup plugin 'mlops.onprem.site' failed: {said}: {said}"
    [found] = from_failure("object_store", "ctl1", {"msg": message})
    assert found.found == "object_store_access_key is not set while object_store_mode is existing"
    assert (found.id, found.severity) == ("object_store.variables", "fail")


@pytest.mark.parametrize("ending", ["", ": restore the secrets; see y.", "."])
def test_a_sentence_of_a_lookup_stands_without_its_wrapping(ending: str) -> None:
    sentence = "restore the secrets; see y"
    message = (
        f"Finalization failed: The lookup plugin 'mlops.onprem.secret' failed: {sentence}{ending}"
    )
    [found] = from_failure("trust", "ctl1", {"msg": message})
    assert (found.severity, found.found) == ("error", sentence)


@pytest.mark.parametrize("said", ["'__inner' is undefined", "object of type 'dict' has no x", ""])
def test_no_remedy_sends_a_person_to_a_traceback(said: str) -> None:
    [found] = from_failure("gateway", "ctl1", {"msg": said})
    assert found.severity == "error"
    assert "-vvv" not in found.remedy
    assert "playbooks/" not in found.remedy


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
keys = st.sampled_from(["service", "memory_mib", "disks", "ports", "unit", "gpus", "id", "found"])


@given(json_like | st.dictionaries(keys, json_like))
def test_no_data_crashes_the_readers(data: Any) -> None:
    for parse in (parse_demand, parse_finding):
        with contextlib.suppress(ShapeError):
            parse(data)
