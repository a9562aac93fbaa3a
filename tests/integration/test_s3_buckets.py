# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Buckets are made, noted and taken away again with all versions, against moto behind TLS."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.mlops.onprem.plugins.modules import s3_buckets

RunModule = Callable[..., dict[str, Any]]


def arguments(company: dict[str, Any], record: Path, **changes: Any) -> dict[str, Any]:
    account = {name: company[name] for name in ("access_key", "secret_key")}
    return {
        "endpoint": company["endpoint"],
        "region": company["region"],
        "ca_file": company["ca_file"],
        "accounts": [{"name": "pipeline", **account, "buckets": ["models", "new-one"]}],
        "record": str(record),
        **changes,
    }


def test_what_is_made_is_noted_and_only_that_is_taken_away(
    run_module: RunModule, company: dict[str, Any], storage: Any, tmp_path: Path
) -> None:
    record = tmp_path / "state" / "buckets.json"
    create = ["create bucket new-one with account pipeline"]
    assert run_module(s3_buckets, check_mode=True, **arguments(company, record))["steps"] == create
    assert not record.exists()
    assert run_module(s3_buckets, **arguments(company, record))["steps"] == create
    assert json.loads(record.read_text()) == {company["endpoint"]: ["new-one"]}
    assert run_module(s3_buckets, **arguments(company, record))["changed"] is False

    storage.put_bucket_versioning(Bucket="new-one", VersioningConfiguration={"Status": "Enabled"})
    for body in (b"1", b"2"):
        storage.put_object(Bucket="new-one", Key="k", Body=body)
    storage.delete_object(Bucket="new-one", Key="k")
    storage.create_multipart_upload(Bucket="new-one", Key="part")
    gone = run_module(s3_buckets, **arguments(company, record, state="absent"))
    assert gone["steps"] == ["delete bucket new-one and everything in it"]
    assert not record.exists()
    names = [bucket["Name"] for bucket in storage.list_buckets()["Buckets"]]
    assert sorted(names) == ["artifacts", "models"]


def test_a_refusal_says_who_asked_and_hides_the_keys(
    run_module: RunModule, company: dict[str, Any], storage: Any, tmp_path: Path
) -> None:
    wanted = arguments(company, tmp_path / "buckets.json")
    wanted["accounts"][0]["secret_key"] = "this-is-not-the-secret-key"
    result = run_module(s3_buckets, **wanted)
    assert result["failed"] is True
    assert result["msg"].startswith(
        f"{company['endpoint']}: could not look at bucket models as account pipeline: "
    )
    assert "; correct object_store_access_key and object_store_secret_key" in result["msg"]
    assert "this-is-not-the-secret-key" not in str(result)
