# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The probe of a bucket takes away what it wrote, whatever fails, and never creates a bucket.

The findings of several accounts are told once each.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import Contract
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.judge import (
    FOREIGN,
    SILENT,
    Account,
    Refusal,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.read import (
    PART,
    look,
    look_at_bucket,
)

CEPH = {"x-amz-request-id": "tx00000a1b2c3d4e5f60718-0065a1b2c3-1037-default"}
DENIED = Refusal("AccessDenied")
OLD = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
NEW = datetime.datetime.now(datetime.timezone.utc)


class Store:
    """A bucket in memory, with a refusal for each operation that shall fail."""

    def __init__(self, headers: dict[str, str] | None = None, **refusals: Refusal) -> None:
        self.account = Account("pipeline", "key", "secret", ("data",))
        self.headers = headers or {}
        self.skew: float | None = None
        self.refusals = refusals
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, list[bytes]] = {}
        self.asked: list[str] = []
        self.silent: Refusal | None = None

    def call(self, operation: str, **arguments: Any) -> tuple[Any, Refusal | None]:
        self.asked.append(operation)
        if operation in self.refusals:
            return None, self.refusals[operation]
        handler: Callable[..., Any] = getattr(self, f"_{operation}", lambda **_arguments: {})
        return handler(**arguments), None

    @contextlib.contextmanager
    def cleaning(self) -> Iterator[None]:
        before, self.silent = self.silent, None
        yield
        self.silent = before or self.silent

    def create_with_malformed_body(self, bucket: str) -> Refusal | None:
        return self.call("malformed_create", Bucket=bucket)[1]

    def _list_objects_v2(self, **_arguments: Any) -> dict[str, Any]:
        return {"Contents": [{"Key": key, "LastModified": OLD} for key in self.objects]}

    def _put_object(self, Key: str, Body: bytes, **_arguments: Any) -> dict[str, Any]:  # noqa: N803
        self.objects[Key] = Body
        return {}

    def _get_object(self, Key: str, Range: str = "", **_arguments: Any) -> Any:  # noqa: N803
        body = self.objects[Key]
        if Range:
            first, last = Range.removeprefix("bytes=").split("-")
            body = body[int(first) : int(last) + 1]
        return {"Body": body}

    def _create_multipart_upload(self, Key: str, **_arguments: Any) -> Any:  # noqa: N803
        self.uploads[Key] = []
        return {"UploadId": "1"}

    def _upload_part(self, Key: str, Body: bytes, **_arguments: Any) -> Any:  # noqa: N803
        self.uploads[Key].append(Body)
        return {"ETag": "e"}

    def _complete_multipart_upload(self, Key: str, **_arguments: Any) -> Any:  # noqa: N803
        self.objects[Key] = b"".join(self.uploads.pop(Key))
        return {}

    def _abort_multipart_upload(self, Key: str, **_arguments: Any) -> Any:  # noqa: N803
        del self.uploads[Key]
        return {}

    def _delete_object(self, Key: str, **_arguments: Any) -> Any:  # noqa: N803
        self.objects.pop(Key, None)
        return {}


def look_at(store: Store) -> Any:
    return look_at_bucket(store, "data", ".mlops-probe/")


def test_all_steps_work_and_nothing_is_left() -> None:
    store = Store()
    seen = look_at(store)
    assert seen.outcomes == dict.fromkeys(["list", "put", "get", "range", "multipart", "delete"])
    assert seen.wrong_content == ()
    assert (store.objects, store.uploads) == ({}, {})


def test_the_parts_are_as_large_as_those_of_real_uploads() -> None:
    assert PART == 5 * 1024 * 1024


@pytest.mark.parametrize(
    ("operation", "step"),
    [
        ("list_objects_v2", "list"),
        ("put_object", "put"),
        ("get_object", "get"),
        ("create_multipart_upload", "multipart"),
        ("upload_part", "multipart"),
        ("complete_multipart_upload", "multipart"),
    ],
)
def test_nothing_is_left_when_a_step_is_refused(operation: str, step: str) -> None:
    store = Store(None, **{operation: DENIED})
    seen = look_at(store)
    assert seen.outcomes[step] == DENIED
    assert (store.objects, store.uploads) == ({}, {})


def test_an_object_whose_put_got_no_answer_is_deleted_as_well() -> None:
    class Lossy(Store):
        def _put_object(self, Key: str, Body: bytes, **_arguments: Any) -> Any:  # noqa: N803
            super()._put_object(Key, Body)
            self.refusals["get_object"] = DENIED
            return {}

        def call(self, operation: str, **arguments: Any) -> tuple[Any, Refusal | None]:
            answer, refusal = super().call(operation, **arguments)
            if operation == "put_object":
                return None, Refusal("ReadTimeoutError", source=SILENT)
            return answer, refusal

    store = Lossy()
    assert look_at(store).outcomes["put"] == Refusal("ReadTimeoutError")
    assert store.objects == {}


def test_what_cannot_be_deleted_is_named() -> None:
    seen = look_at(Store(delete_object=DENIED))
    assert seen.outcomes["delete"] == DENIED
    assert len(seen.left_behind) == 2
    assert all(key.startswith(".mlops-probe/") for key in seen.left_behind)


def test_what_a_killed_probe_left_is_removed() -> None:
    store = Store()
    store.objects[".mlops-probe/of-a-killed-run"] = b""
    look_at(store)
    assert store.objects == {}


def test_other_bytes_are_noticed() -> None:
    class Lying(Store):
        def _get_object(self, Key: str, Range: str = "", **_arguments: Any) -> Any:  # noqa: N803
            return {"Body": super()._get_object(Key, Range)["Body"] + b"!"}

    assert look_at(Lying()).wrong_content == ("get", "range get", "multipart upload")


def test_a_bucket_with_retention_is_not_written_to() -> None:
    class Locked(Store):
        def _get_object_lock_configuration(self, **_arguments: Any) -> Any:
            retention = {"Mode": "COMPLIANCE", "Days": 30}
            return {"ObjectLockConfiguration": {"Rule": {"DefaultRetention": retention}}}

    store = Locked()
    assert look_at(store).retention == "compliance for 30 days"
    assert "put_object" not in store.asked


@pytest.mark.parametrize("answer", ["MalformedXML", "AccessDenied"])
def test_a_missing_bucket_is_asked_for_where_that_creates_nothing(answer: str) -> None:
    store = Store(
        headers=CEPH, list_objects_v2=Refusal("NoSuchBucket"), malformed_create=Refusal(answer)
    )
    seen = look_at(store)
    assert (seen.missing, seen.creation) == (True, Refusal(answer))
    assert store.asked == ["list_objects_v2", "malformed_create"]


def test_a_missing_bucket_is_not_asked_for_at_an_unknown_endpoint() -> None:
    store = Store(headers={"server": "MinIO"}, list_objects_v2=Refusal("NoSuchBucket"))
    assert look_at(store).creation_was_tried is False
    assert store.asked == ["list_objects_v2"]


def test_a_bucket_that_was_created_after_all_is_removed_at_once() -> None:
    store = Store(headers=CEPH, list_objects_v2=Refusal("NoSuchBucket"))
    assert look_at(store).creation is None
    assert store.asked == ["list_objects_v2", "malformed_create", "delete_bucket"]


def test_wrong_keys_end_the_probe() -> None:
    store = Store(list_objects_v2=Refusal("SignatureDoesNotMatch"))
    look_at(store)
    assert store.asked == ["list_objects_v2"]


STORE = Contract("object_store", "s3:443", ("endpoint",))


def look_with(*stores: Store) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    known = {store.account.name: store for store in stores}
    findings, facts = look(
        STORE,
        [store.account for store in stores],
        "us-east-1",
        ".mlops-probe/",
        lambda account: known[account.name],
    )
    return [(finding.id, finding.severity) for finding in findings], facts


def named(name: str, *buckets: str, **refusals: Refusal) -> Store:
    store = Store(CEPH, **refusals)
    store.account = Account(name, "key", "secret", buckets)
    return store


def test_each_account_and_each_of_its_buckets_is_told() -> None:
    findings, facts = look_with(named("a", "one", "two"), named("b", "three"))
    bucket = [("object_store.objects", "pass"), ("object_store.capabilities", "pass")]
    accepted = ("object_store.credentials", "pass")
    assert findings == [accepted, *bucket, *bucket, accepted, *bucket]
    assert facts["vendor"] == "ceph"
    assert [(row["account"], row["name"], row["exists"]) for row in facts["buckets"]] == [
        ("a", "one", True),
        ("a", "two", True),
        ("b", "three", True),
    ]


def test_wrong_keys_of_one_account_do_not_hide_another() -> None:
    findings, facts = look_with(
        named("a", "one", "two", list_objects_v2=Refusal("InvalidAccessKeyId")), named("b", "three")
    )
    assert findings[:2] == [
        ("object_store.credentials", "fail"),
        ("object_store.credentials", "pass"),
    ]
    assert [row["name"] for row in facts["buckets"]] == ["three"]


def test_an_account_without_buckets_is_asked_for_its_list() -> None:
    store = named("a")
    assert look_with(store)[0] == [("object_store.credentials", "pass")]
    assert store.asked == ["list_buckets"]
    refused = named("a", list_buckets=Refusal("SignatureDoesNotMatch"))
    assert look_with(refused)[0] == [("object_store.credentials", "fail")]


@pytest.mark.parametrize(("skew", "severity"), [(3.0, "pass"), (-70.0, "warn"), (900.0, "fail")])
def test_the_clock_is_read_from_the_answers(skew: float, severity: str) -> None:
    store = named("a")
    store.skew = skew
    assert look_with(store)[0][-1] == ("object_store.clock", severity)


def test_a_refusal_for_the_time_is_the_only_word_about_the_clock() -> None:
    store = named("a", list_buckets=Refusal("RequestTimeTooSkewed"))
    store.skew = 1000.0
    assert look_with(store)[0] == [("object_store.clock", "fail")]


def test_a_client_that_fails_in_the_middle_leaves_nothing() -> None:
    class Broken(Store):
        def call(self, operation: str, **arguments: Any) -> tuple[Any, Refusal | None]:
            if operation == "create_multipart_upload":
                raise KeyboardInterrupt
            return super().call(operation, **arguments)

    store = Broken()
    with pytest.raises(KeyboardInterrupt):
        look_at(store)
    assert store.asked[-4:] == [
        "get_object",
        "list_multipart_uploads",
        "delete_object",
        "delete_object",
    ]
    assert store.objects == {}


@pytest.mark.parametrize("step", ["upload_part", "complete_multipart_upload"])
def test_parts_that_may_not_be_taken_back_are_named(step: str) -> None:
    seen = look_at(Store(None, abort_multipart_upload=DENIED, **{step: DENIED}))
    (left,) = seen.left_behind
    assert left.startswith("the parts of .mlops-probe/")


def test_an_upload_whose_beginning_got_no_answer_is_ended() -> None:
    class Lossy(Store):
        def call(self, operation: str, **arguments: Any) -> tuple[Any, Refusal | None]:
            answer, refusal = super().call(operation, **arguments)
            if operation == "create_multipart_upload":
                return None, Refusal("502", source=FOREIGN)
            return answer, refusal

        def _list_multipart_uploads(self, **_arguments: Any) -> Any:
            return {
                "Uploads": [{"Key": key, "UploadId": "1", "Initiated": NEW} for key in self.uploads]
            }

    store = Lossy()
    seen = look_at(store)
    assert (store.objects, store.uploads, seen.left_behind) == ({}, {}, ())


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal("EndpointConnectionError", source=SILENT),
        Refusal("SSLError", source=SILENT),
        Refusal("ParamValidationError", source=SILENT),
        Refusal("405", source=FOREIGN),
        Refusal("413", source=FOREIGN),
        DENIED,
    ],
)
def test_nothing_is_said_to_stay_where_nothing_can_have_been_written(refusal: Refusal) -> None:
    store = Store(put_object=refusal, create_multipart_upload=refusal, delete_object=refusal)
    assert look_at(store).left_behind == ()
    assert "delete_object" not in store.asked


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal("ReadTimeoutError", source=SILENT),
        Refusal("504", source=FOREIGN),
        Refusal("InternalError"),
    ],
)
def test_what_may_have_been_written_is_said_to_stay_if_it_cannot_be_deleted(
    refusal: Refusal,
) -> None:
    store = Store(put_object=refusal, create_multipart_upload=DENIED, delete_object=DENIED)
    assert len(look_at(store).left_behind) == 1


class Versioned(Store):
    def _get_bucket_versioning(self, **_arguments: Any) -> Any:
        return {"Status": "Enabled"}


@pytest.mark.parametrize(
    ("operation", "code", "written"),
    [
        ("list_object_versions", "AccessDenied", False),
        ("list_object_versions", "NotImplemented", False),
        ("get_object_lock_configuration", "AccessDenied", False),
        ("get_object_lock_configuration", "InternalError", False),
        ("get_object_lock_configuration", "ObjectLockConfigurationNotFoundError", True),
        ("get_object_lock_configuration", "NotImplemented", True),
    ],
)
def test_not_allowed_to_look_is_not_nothing_there(operation: str, code: str, written: bool) -> None:
    store = Versioned(None, **{operation: Refusal(code)})
    seen = look_at(store)
    assert ("put_object" in store.asked) is written
    assert bool(seen.not_written) is not written


def test_a_bucket_without_versions_needs_no_right_to_see_them() -> None:
    store = Store(list_object_versions=DENIED, get_object_lock_configuration=DENIED)
    assert look_at(store).not_written == ""
    assert "put_object" in store.asked


def test_deletion_of_many_is_tried_and_told() -> None:
    seen = look_at(Store(delete_objects=Refusal("MissingContentMD5")))
    assert seen.capabilities["deletion of many"] == "one by one (MissingContentMD5)"
    assert seen.outcomes["delete"] is None
    assert look_at(Store()).capabilities["deletion of many"] == "supported"
