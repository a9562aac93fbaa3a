"""Missing buckets are made once; only what was made is taken away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.buckets import (
    Act,
    Buckets,
    Found,
    Step,
    plan_absent,
    plan_present,
    said,
    work_off,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.judge import (
    Account,
    Refusal,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.notes import (
    BucketError,
    Made,
    Notes,
    parse_record,
)

A = Account("a", "AK", "SK", ("one", "two"))
B = Account("b", "BK", "TK", ("two", "three"))


def test_a_missing_bucket_is_made_once_by_the_first_account_that_names_it() -> None:
    steps = plan_present([A, B], {"one": Found.OURS})
    assert [(step.bucket, step.account.name) for step in steps] == [("two", "a"), ("three", "b")]
    assert steps[0].text == "create bucket two with account a"


def test_nothing_is_made_where_all_is_there() -> None:
    found = dict.fromkeys(["one", "two", "three"], Found.OURS)
    assert plan_present([A, B], found) == ()


def test_only_what_was_made_is_deleted() -> None:
    steps = plan_absent("https://s3", [A, B], ["three"])
    assert [(step.act, step.bucket, step.account.name) for step in steps] == [
        (Act.DELETE, "three", "b")
    ]


def test_a_made_bucket_that_no_account_names_stops_the_removal() -> None:
    with pytest.raises(BucketError, match=r"https://s3 holds bucket four, .*object_store_accounts"):
        plan_absent("https://s3", [A], ["four"])


def test_a_damaged_record_is_named() -> None:
    with pytest.raises(BucketError, match=r"r.json is damaged"):
        parse_record("[]", "r.json")


def test_a_refusal_is_said_without_keys() -> None:
    text = said("https://s3", A, "create bucket one", Refusal("X", words="AK may\nnot, SK"))
    assert text.startswith("https://s3: could not create bucket one as account a: ******** may not")
    assert "AK" not in text
    assert "SK" not in text


DENIED = Refusal("AccessDenied", "no", "An error occurred (AccessDenied): no")


class Endpoint:
    """An endpoint in memory, with a refusal for each operation that shall fail."""

    EMPTY: ClassVar = {"get_bucket_tagging": "NoSuchTagSet", "get_object": "NoSuchKey"}

    def __init__(self, *buckets: str, **refusals: Refusal) -> None:
        self.buckets = {name: ["v1", "v2"] for name in buckets}
        self.uploads = {name: ["u1"] for name in buckets}
        self.refusals = refusals
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, operation: str, **arguments: Any) -> tuple[Any, Refusal | None]:
        self.asked.append((operation, arguments))
        bucket = arguments.get("Bucket", "")
        refusal = self._refusal(operation, bucket, "CreateBucketConfiguration" in arguments)
        if refusal:
            return None, refusal
        if operation == "delete_object":
            self.buckets[bucket].remove(arguments["VersionId"])
        if operation == "create_bucket":
            self.buckets[bucket], self.uploads[bucket] = [], []
        if operation == "delete_objects":
            for row in arguments["Delete"]["Objects"]:
                self.buckets[bucket].remove(row["VersionId"])
        if operation == "abort_multipart_upload":
            self.uploads[bucket].remove(arguments["UploadId"])
        if operation == "delete_bucket":
            assert not self.buckets[bucket]
            assert not self.uploads[bucket]
            del self.buckets[bucket]
        return {}, None

    def _refusal(self, operation: str, bucket: str, with_region: bool) -> Refusal | None:
        wanted = self.refusals.get(operation)
        if operation == "create_bucket" and with_region:
            wanted = self.refusals.get("create_with_region")
        if operation in self.EMPTY:  # there is never any
            there = self.EMPTY[operation] if bucket in self.buckets else "NoSuchBucket"
            return wanted or Refusal(there)
        if operation == "list_objects_v2" and bucket not in self.buckets:
            return wanted or Refusal("NoSuchBucket")
        return wanted

    def pages(self, operation: str, **arguments: Any) -> Iterator[tuple[Any, Refusal | None]]:
        refusal = self.refusals.get(operation)
        if not refusal and arguments["Bucket"] not in self.buckets:
            refusal = Refusal("NoSuchBucket")
        if refusal:
            yield None, refusal
        elif operation == "list_multipart_uploads":
            for upload in list(self.uploads[arguments["Bucket"]]):
                yield {"Uploads": [{"Key": "k", "UploadId": upload}]}, None
        else:
            for version in list(self.buckets[arguments["Bucket"]]):
                yield {"DeleteMarkers": [{"Key": "k", "VersionId": version}]}, None


def at(endpoint: Endpoint) -> Buckets:
    return Buckets("https://s3", "eu-1", lambda _account: endpoint)


NOTE = Made("one", plain=True)
CREATE = Step(Act.CREATE, "one", A)
DELETE = Step(Act.DELETE, "one", A)


def test_what_is_there_is_told_from_what_is_missing() -> None:
    assert at(Endpoint("one")).look([A]) == {"one": Found.OURS, "two": Found.MISSING}


def test_a_bucket_that_may_not_be_looked_at_is_no_missing_bucket() -> None:
    with pytest.raises(BucketError) as refusal:
        at(Endpoint(list_objects_v2=DENIED)).look([A])
    assert str(refusal.value) == (
        "https://s3: could not look at bucket one as account a: An error occurred (AccessDenied): "
        "no; grant it the right, or set other keys: object_store_access_key and "
        "object_store_secret_key, or the keys of a in object_store_accounts."
    )


@pytest.mark.parametrize(
    ("code", "second"),
    [
        ("BucketAlreadyOwnedByYou", None),
        ("IllegalLocationConstraintException", {"LocationConstraint": "eu-1"}),
        ("InvalidLocationConstraint", {"LocationConstraint": "eu-1"}),
    ],
)
def test_the_region_is_said_where_the_endpoint_wants_it(code: str, second: Any) -> None:
    endpoint = Endpoint(create_bucket=Refusal(code))
    at(endpoint).create(CREATE)
    places = [asked.get("CreateBucketConfiguration") for _operation, asked in endpoint.asked]
    assert places == ([None, second] if second else [None])


def test_a_bucket_is_emptied_of_all_versions_and_parts_before_it_goes() -> None:
    endpoint = Endpoint("one", "two")
    at(endpoint).delete(DELETE, NOTE)
    assert sorted(endpoint.buckets) == ["two"]


def test_a_bucket_that_is_gone_already_is_deleted() -> None:
    at(Endpoint()).delete(DELETE, NOTE)


@pytest.mark.parametrize(
    "operation",
    [
        "list_multipart_uploads",
        "abort_multipart_upload",
        "list_object_versions",
        "delete_object",
        "delete_bucket",
    ],
)
def test_a_refused_removal_is_said(operation: str) -> None:
    with pytest.raises(BucketError, match="could not delete bucket one and everything in it"):
        at(Endpoint("one", delete_objects=DENIED, **{operation: DENIED})).delete(DELETE, NOTE)


def test_the_note_is_ahead_of_the_bucket_and_goes_with_it(tmp_path: Path) -> None:
    notes = Notes(str(tmp_path / "state" / "buckets.json"))
    notes.write("https://other", {"theirs": Made("theirs", plain=True)})
    seen: list[Any] = []

    class Watched(Endpoint):
        def call(self, operation: str, **arguments: Any) -> tuple[Any, Refusal | None]:
            seen.append(list(notes.of("https://s3")))
            return super().call(operation, **arguments)

    endpoint = Watched()
    work_off([CREATE, Step(Act.CREATE, "two", A)], at(endpoint), notes)
    assert seen == [["one"], ["one", "two"]]
    work_off([DELETE], at(endpoint), notes)
    assert json.loads(Path(notes.path).read_text()) == {
        "https://other": ["theirs"],
        "https://s3": ["two"],
    }


def test_a_bucket_that_could_not_be_made_is_not_noted(tmp_path: Path) -> None:
    notes = Notes(str(tmp_path / "buckets.json"))
    with pytest.raises(BucketError):
        work_off([CREATE], at(Endpoint(create_bucket=DENIED)), notes)
    assert not Path(notes.path).exists()


def test_a_bucket_that_could_not_be_deleted_stays_noted(tmp_path: Path) -> None:
    notes = Notes(str(tmp_path / "buckets.json"))
    notes.write("https://s3", {"one": NOTE})
    with pytest.raises(BucketError):
        work_off([DELETE], at(Endpoint("one", delete_bucket=DENIED)), notes)
    assert list(notes.of("https://s3")) == ["one"]
