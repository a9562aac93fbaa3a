# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bucket is deleted only if it is still the one that this site made; smaller S3 is enough."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.modules import s3_buckets, s3_probe

from tests.integration.s3_front import Answer, Request, error, front, hand_on, page

RunModule = Callable[..., dict[str, Any]]
Site = Callable[..., dict[str, Any]]
OURS, OTHERS = "aaaa1111", "bbbb2222"


@pytest.fixture
def site(
    run_module: RunModule, company: dict[str, Any], storage: Any, tmp_path: Path
) -> Iterator[Site]:
    """Run the module for a site of one bucket, ``mine``."""

    def run(state: str = "present", **changes: Any) -> dict[str, Any]:
        account = {name: company[name] for name in ("access_key", "secret_key")}
        wanted = {
            "endpoint": company["endpoint"],
            "ca_file": company["ca_file"],
            "accounts": [{"name": "a", **account, "buckets": ["mine"]}],
            "record": str(tmp_path / "buckets.json"),
            "site_id": OURS,
            "state": state,
        }
        return run_module(s3_buckets, **{**wanted, **changes})

    yield run
    storage.create_bucket(Bucket="mine")
    for row in storage.list_objects_v2(Bucket="mine").get("Contents", []):
        storage.delete_object(Bucket="mine", Key=row["Key"])
    drop(storage)


def drop(storage: Any) -> None:
    # moto lets the tags of a bucket live on in the next one of its name.
    storage.delete_bucket_tagging(Bucket="mine")
    storage.delete_bucket(Bucket="mine")


def there(storage: Any) -> bool:
    return "mine" in [bucket["Name"] for bucket in storage.list_buckets()["Buckets"]]


def deny(*parts: str, code: str = "NotImplemented", status: int = 501) -> Any:
    """A rule that refuses requests whose path, or method and path, has one of these parts."""

    def rule(request: Request) -> Answer | None:
        asked = f"{request.method} {request.path}"
        return error(code, status) if any(part in asked for part in parts) else None

    return rule


def test_what_the_site_made_is_marked_and_goes(site: Site, storage: Any, tmp_path: Path) -> None:
    assert site()["steps"] == ["create bucket mine with account a"]
    tags = storage.get_bucket_tagging(Bucket="mine")["TagSet"]
    assert tags == [{"Key": "mlops-onprem-site", "Value": OURS}]
    assert site()["changed"] is False
    storage.put_object(Bucket="mine", Key="k", Body=b"x")
    assert site("absent")["steps"] == ["delete bucket mine and everything in it"]
    assert not there(storage)
    assert not (tmp_path / "buckets.json").exists()
    assert site("absent")["changed"] is False


def made_anew(storage: Any, tags: list[dict[str, str]]) -> None:
    drop(storage)
    storage.create_bucket(Bucket="mine")
    if tags:
        storage.put_bucket_tagging(Bucket="mine", Tagging={"TagSet": tags})
    storage.put_object(Bucket="mine", Key="of-somebody", Body=b"x")


@pytest.mark.parametrize(
    ("tags", "word"),
    [
        ([], "bears no mark of this site any more"),
        ([{"Key": "team", "Value": "x"}], "bears no mark of this site any more"),
        ([{"Key": "mlops-onprem-site", "Value": OTHERS}], f"bears the mark of site {OTHERS}"),
    ],
)
def test_what_was_made_anew_is_left_and_told(
    site: Site, storage: Any, tags: list[dict[str, str]], word: str
) -> None:
    site()
    made_anew(storage, tags)
    gone = site("absent")
    assert (gone["changed"], there(storage)) == (False, True)
    assert word in str(gone["kept"])
    assert storage.get_object(Bucket="mine", Key="of-somebody")["Body"].read() == b"x"


def test_another_site_does_not_use_what_is_marked(site: Site, storage: Any, tmp_path: Path) -> None:
    site()
    other = {"site_id": OTHERS, "record": str(tmp_path / "other.json")}
    refused = site(**other)
    assert refused["failed"] is True
    assert "object_store_bucket_prefix" in refused["msg"]
    assert site("absent", **other)["changed"] is False
    assert there(storage)


def test_a_copied_record_deletes_nothing_of_another_site(
    site: Site, storage: Any, tmp_path: Path
) -> None:
    site()
    gone = site("absent", site_id=OTHERS)
    assert (gone["changed"], there(storage)) == (False, True)
    assert f"bears the mark of site {OURS}" in str(gone["kept"])


def test_a_fresh_checkout_knows_its_buckets_again(site: Site, storage: Any, tmp_path: Path) -> None:
    site()
    (tmp_path / "buckets.json").unlink()
    assert site()["steps"] == ["mark bucket mine as made by this site"]
    assert site()["changed"] is False
    (tmp_path / "buckets.json").unlink()
    assert site("absent")["steps"] == ["delete bucket mine and everything in it"]
    assert not there(storage)


def test_what_was_there_before_is_neither_marked_nor_deleted(site: Site, storage: Any) -> None:
    storage.create_bucket(Bucket="mine")
    assert site()["changed"] is False
    assert site("absent")["changed"] is False
    assert there(storage)


def test_a_record_of_an_earlier_release_goes_on_working(
    site: Site, storage: Any, company: dict[str, Any], tmp_path: Path
) -> None:
    record = tmp_path / "buckets.json"
    site(site_id="")
    assert json.loads(record.read_text()) == {company["endpoint"]: ["mine"]}
    assert site()["steps"] == ["mark bucket mine as made by this site"]
    assert site()["changed"] is False
    record.write_text(json.dumps({company["endpoint"]: ["mine"]}))
    assert site("absent", site_id="")["changed"] is True
    assert not there(storage)


def test_a_bucket_younger_than_an_earlier_record_is_not_the_one_in_it(
    site: Site, storage: Any, company: dict[str, Any], tmp_path: Path
) -> None:
    record = tmp_path / "buckets.json"
    storage.create_bucket(Bucket="mine")
    record.write_text(json.dumps({company["endpoint"]: ["mine"]}))
    os.utime(record, (1_700_000_000, 1_700_000_000))
    assert site()["changed"] is False
    gone = site("absent")
    assert "was made anew" in str(gone["kept"])
    assert there(storage)


@pytest.mark.parametrize(
    "lost",
    [page(502), page(504), error("InternalError", 500)],
    ids=["502", "504", "InternalError"],
)
def test_a_bucket_whose_answer_was_lost_is_still_ours(
    site: Site, storage: Any, company: dict[str, Any], tmp_path: Path, lost: Answer
) -> None:
    def rule(request: Request) -> Answer | None:
        if request.method == "PUT" and request.path.rstrip("/") == "/mine":
            hand_on(request, company)
            return lost
        return None

    # One endpoint to the record: the front.
    with front(tmp_path, rule, company) as server:
        way = {"endpoint": server.endpoint, "ca_file": server.ca_file}
        first = site(**way)
        assert first.get("failed") or first["changed"]
        assert site(**way).get("failed") is not True
        assert site(**way)["changed"] is False
        assert site("absent", **way)["steps"] == ["delete bucket mine and everything in it"]
    assert not there(storage)


@pytest.mark.parametrize("answer", [error("AccessDenied"), error("TooManyBuckets", 400), page(403)])
def test_a_refused_creation_is_not_noted(
    site: Site, company: dict[str, Any], tmp_path: Path, answer: Answer
) -> None:
    def rule(request: Request) -> Answer | None:
        return answer if request.method == "PUT" else None

    with front(tmp_path, rule, company) as server:
        refused = site(endpoint=server.endpoint, ca_file=server.ca_file)
    assert refused["failed"] is True
    assert not (tmp_path / "buckets.json").exists()


@pytest.mark.parametrize(
    "rule",
    [
        deny("POST /mine?delete", code="MissingContentMD5", status=400),
        deny("POST /mine?delete", "?uploads", "?versions"),
        deny("tagging"),
        deny("tagging", "POST /mine?delete", "?uploads", "?versions"),
        deny("tagging", code="AccessDenied", status=403),
    ],
    ids=["md5", "no lists", "no tags", "least", "tags denied"],
)
def test_a_smaller_s3_is_enough(
    site: Site, storage: Any, company: dict[str, Any], tmp_path: Path, rule: Any
) -> None:
    with front(tmp_path, rule, company) as server:
        way = {"endpoint": server.endpoint, "ca_file": server.ca_file}
        assert site(**way)["changed"] is True
        assert site(**way)["changed"] is False
        for key in ("one", "two"):
            storage.put_object(Bucket="mine", Key=key, Body=b"x")
        gone = site("absent", **way)
        assert gone.get("steps") == ["delete bucket mine and everything in it"], gone
    assert not there(storage)


@pytest.mark.parametrize("answer", [page(200), page(404), page(502), page(301)])
def test_a_page_is_no_bucket(site: Site, tmp_path: Path, answer: Answer) -> None:
    with front(tmp_path, lambda _request: answer) as server:
        way = {"endpoint": server.endpoint, "ca_file": server.ca_file}
        for state in ("present", "absent"):
            (tmp_path / "buckets.json").write_text(json.dumps({server.endpoint: ["mine"]}))
            refused = site(state, **way)
            assert refused["failed"] is True
            assert "set object_store_endpoint" in refused["msg"]
            assert json.loads((tmp_path / "buckets.json").read_text())


@pytest.mark.parametrize("name", ["Bad_Bucket", "ab", "10.0.0.1", "a..b", "-x-y"])
def test_no_bucket_of_a_name_that_is_none(
    site: Site, company: dict[str, Any], name: str, tmp_path: Path
) -> None:
    keys = {key: company[key] for key in ("access_key", "secret_key")}
    refused = site(accounts=[{"name": "a", **keys, "buckets": [name]}])
    assert refused["failed"] is True
    assert "object_store_bucket_prefix" in refused["msg"]
    assert not (tmp_path / "buckets.json").exists()


def test_the_probe_tells_the_mark_of_another_site_and_writes_nothing(
    run_module: RunModule, site: Site, storage: Any, company: dict[str, Any]
) -> None:
    site()
    keys = {key: company[key] for key in ("access_key", "secret_key")}
    wanted = {
        "endpoint": company["endpoint"],
        "ca_file": company["ca_file"],
        "accounts": [{"name": "a", **keys, "buckets": ["mine"]}],
    }
    found = run_module(s3_probe, site_id=OTHERS, **wanted)["findings"]
    (failure,) = [row for row in found if row["severity"] == "fail"]
    assert f"its mark is {OURS}" in failure["found"]
    assert "object_store_bucket_prefix" in failure["remedy"]
    for asks in (OURS, ""):
        found = run_module(s3_probe, site_id=asks, **wanted)["findings"]
        assert {row["severity"] for row in found} == {"pass"}
