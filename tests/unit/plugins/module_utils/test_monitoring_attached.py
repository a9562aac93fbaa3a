# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Prometheus of the company lacks is told by name, with its reason and what mends it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._monitoring import attached

PLACES = [("node", "a"), ("node", "b")]
RULES = ["HostUnreachable", "mlops:host_seen:bool"]
LOADED = {"groups": [{"rules": [{"name": name} for name in RULES]}]}


def up(job: str, host: str, value: str) -> dict[str, Any]:
    return {"metric": {"job": job, "host": host}, "value": [1, value]}


def target(job: str, host: str, error: str) -> dict[str, Any]:
    return {"labels": {"job": job, "host": host}, "lastError": error}


ALL = [up("node", "a", "1"), up("node", "b", "1"), up("node", "", "0")]  # the last is the company's


def test_nothing_lacks_where_all_is_there() -> None:
    answer = attached.read({"result": ALL}, {"activeTargets": []}, LOADED)
    assert attached.lacking(answer, PLACES, RULES) == []


@pytest.mark.parametrize(
    ("why", "mends"),
    [
        ("server returned HTTP status 403 Forbidden", "common_extra_nginx_metrics_clients"),
        ("x509: certificate signed by unknown authority", "monitoring_existing_tls"),
        ("open /etc/prometheus/mlops/client.crt: no such file", "monitoring_existing_tls"),
        ("dial tcp 10.0.0.1:9443: i/o timeout", "every firewall"),
    ],
)
def test_the_error_of_a_scrape_says_what_to_do(why: str, mends: str) -> None:
    answer = attached.read(
        {"result": [up("node", "a", "1"), up("node", "b", "0")]},
        {"activeTargets": [target("node", "a", ""), target("node", "b", why)]},
        LOADED,
    )
    (lack,) = attached.lacking(answer, PLACES, RULES)
    assert (lack.what, why in lack.found) == ("metrics of node on b", True)
    assert mends in lack.remedy


def test_a_target_that_is_not_known_is_told_and_all_of_them_once() -> None:
    (one,) = attached.lacking(attached.read({"result": ALL[:1]}, {}, LOADED), PLACES, RULES)
    assert (one.what, one.found) == ("metrics of node on b", "it is not among its targets")
    none = attached.read({"result": ALL[2:]}, {}, {})
    assert [lack.found for lack in attached.lacking(none, PLACES, RULES)] == [
        "none of the 2 targets of the site",
        "none of the 2 rules of the site",
    ]


def test_one_of_two_that_is_down_is_down() -> None:
    rows = [up("probe", "a", "0"), up("probe", "a", "1")]
    (lack,) = attached.lacking(attached.read({"result": rows}, {}, {}), [("probe", "a")], [])
    assert "it was not read yet" in lack.found


def test_rules_that_are_old_or_fail_are_told() -> None:
    failing = {"groups": [{"rules": [{"name": RULES[0], "lastError": "many-to-many"}]}]}
    found = attached.lacking(attached.read({"result": ALL}, {}, failing), PLACES, RULES)
    assert [lack.found for lack in found] == [
        "it has not loaded mlops:host_seen:bool",
        "it fails: many-to-many",
    ]
