# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who keeps requests, who fetches them from whom, and that nobody does who was not asked."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._site.handed import handed

from tests.unit.plugins.module_utils._site.test_site import GROUPS, asked, site

ROOT = Path(__file__).resolve().parents[5]
sys.path.insert(0, str(ROOT / "roles/model_serving/files"))
access = importlib.import_module("mlops_serving.access")
RULE = {"rate": 0.1, "days": 30, "redact": {"age": "drop"}, "mib_per_day": 100}
WELDS = {"name": "welds", "project": "projects/welds", "targets": ["edge1"], "sample": RULE}


def said(row: dict[str, Any], **more: Any) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {host: {"mlops_models": [row]} for host in GROUPS["all"]}
    for host, values in more.items():
        found[host].update(values)
    return found


def test_without_a_sample_there_is_no_secret_no_account_and_no_bucket() -> None:
    def no_secret(name: str, **_kind: Any) -> str:
        assert "samples" not in name
        return name

    plain = {key: value for key, value in WELDS.items() if key != "sample"}
    for models in ([plain], []):
        variables = {host: {"mlops_models": models} for host in GROUPS["all"]}
        one = site(variables)
        quiet = type(one)(**{**vars(one), "secret": no_secret})
        names = [account["name"] for account in handed(quiet, "object_store_accounts", "store1")]
        assert names == ["artifact_registry", "model_registry", "pipeline"]
        for name in ("samples", "samples_token_hash", "samples_key"):
            assert not handed(quiet, f"model_serving_{name}", "edge1")
        for name in ("samples", "sample_devices", "sample_store"):
            assert not handed(quiet, f"model_registry_{name}", "ctl1")


def test_only_devices_of_the_model_keep_requests() -> None:
    wanted = {"name": "welds", "rate": 0.1, "redact": {"age": "drop"}}
    assert asked("model_serving_samples", said(WELDS), "edge1") == [wanted]
    assert asked("model_serving_samples", said(WELDS), "edge2") == []
    devices = asked("model_registry_sample_devices", said(WELDS), "ctl1")
    assert [one["name"] for one in devices] == ["edge1"]
    assert asked("model_registry_samples", said(WELDS), "ctl1") == [
        {"name": "welds", "days": 30, "mib_per_day": 100, "most_mib": 3100}
    ]


def test_a_device_that_nobody_reaches_keeps_none() -> None:
    pulls = said(WELDS, edge1={"rollout_transport": "pull"})
    assert asked("model_serving_samples", pulls, "edge1") == []
    assert asked("model_registry_sample_devices", pulls, "ctl1") == []


def test_each_device_knows_the_token_that_it_is_asked_with_and_no_other() -> None:
    both = said({**WELDS, "targets": ["edge"]})
    devices = asked("model_registry_sample_devices", both, "ctl1")
    assert [one["name"] for one in devices] == ["edge1", "edge2"]
    for host in ("edge1", "edge2"):
        kept = asked("model_serving_samples_token_hash", both, host)
        clients = access.Clients([access.Client("samples", kept)])
        known = [clients.identify(f"Bearer {one['token']}", None) == "samples" for one in devices]
        assert known == [one["name"] == host for one in devices]
        handed_out = {name: asked(name, both, host) for name in ("model_serving_samples_key",)}
        assert not any(one["token"] in str(handed_out) for one in devices)
    keys = {asked("model_serving_samples_key", both, host) for host in ("edge1", "edge2")}
    assert len(keys) == 1


def test_the_account_may_store_what_is_ever_kept_and_no_more() -> None:
    accounts = asked("object_store_accounts", said(WELDS), "store1")
    (ours,) = [one for one in accounts if one["name"] == "model_samples"]
    assert (ours["buckets"], ours["quota_gib"]) == (["mlops-samples"], 4)
    told = asked("model_registry_sample_store", said(WELDS), "ctl1")
    assert (told["bucket"], told["access_key"]) == ("mlops-samples", ours["access_key"])
    other = [one["access_key"] for one in accounts if one["name"] != "model_samples"]
    assert ours["access_key"] not in other


@pytest.mark.parametrize("gib", [1, 50])
def test_the_inventory_goes_before_it(gib: int) -> None:
    quotas = said(WELDS, store1={"object_store_quotas": {"model_samples": gib}})
    accounts = asked("object_store_accounts", quotas, "store1")
    assert [one.get("quota_gib") for one in accounts if one["name"] == "model_samples"] == [gib]
