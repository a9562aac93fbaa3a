# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where each host of a site will connect to."""

from __future__ import annotations

import pytest

from tests.unit.plugins.module_utils._site.test_site import GROUPS, Said, asked

OWN = {"job": "press", "host": "press", "address": "10.9.9.9"}


def told(host: str, said: Said | None = None) -> dict[str, str]:
    """What for, by place."""
    rows = asked("ways", said, host)
    return {f"{row['address']}:{row['port']}": row["what"] for row in rows}


def test_a_device_asks_the_gateway_alone() -> None:
    assert told("edge1") == {"ctl1.example:443": "gateway"}


def test_the_control_host_reaches_metrics_stores_and_devices() -> None:
    found = told("ctl1")
    for host in ("store1", "ctl2", "edge1", "edge2"):
        assert found[f"{host}.example:9443"] == "metrics"
    assert found["store1.example:443"] == "object store"
    assert not any(place.startswith("ctl1.example") for place in found)


def test_a_host_of_storage_asks_nobody() -> None:
    assert told("store1") == {}


@pytest.mark.parametrize(
    ("variable", "value", "place"),
    [
        ("common_nginx_metrics_port", 19443, "edge1.example:19443"),
        (
            "monitoring_extra_targets",
            [{"job": "x", "host": "x", "address": "10.9.9.9"}],
            "10.9.9.9:9443",
        ),
        ("monitoring_alert_receiver", {"webhook_configs": [{"url": "http://w.lan/"}]}, "w.lan:80"),
    ],
)
def test_what_the_inventory_says_counts(variable: str, value: object, place: str) -> None:
    said = {host: {variable: value} for host in GROUPS["all"]}
    assert place in told("ctl1", said)


def test_what_the_company_has_already_is_listening() -> None:
    said = {
        "ctl1": {"metadata_db_mode": "existing", "metadata_db_host": "db.lan"},
        "store1": {"object_store_mode": "existing", "object_store_endpoint": "https://s3.lan:9000"},
    }
    rows = {row["what"]: row for row in asked("ways", said, "ctl1")}
    assert (rows["database"]["address"], rows["database"]["port"]) == ("db.lan", 5432)
    assert (rows["object store"]["address"], rows["object store"]["port"]) == ("s3.lan", 9000)
    assert rows["database"]["there"]
    assert rows["object store"]["variable"] == "object_store_endpoint"
    assert not rows["metrics"]["there"]


def test_the_company_s_prometheus_is_asked_by_nobody_of_ours() -> None:
    said = {"ctl1": {"monitoring_mode": "existing"}}
    assert "metrics" not in told("ctl1", said).values()
