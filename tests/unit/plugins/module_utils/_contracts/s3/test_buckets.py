"""Missing buckets are made once; only what was made is taken away."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.buckets import (
    BucketError,
    Found,
    parse_record,
    plan_absent,
    plan_present,
    said,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.judge import Account

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
    assert [(step.create, step.bucket, step.account.name) for step in steps] == [
        (False, "three", "b")
    ]


def test_a_made_bucket_that_no_account_names_stops_the_removal() -> None:
    with pytest.raises(BucketError, match=r"https://s3 holds bucket four, .*object_store_accounts"):
        plan_absent("https://s3", [A], ["four"])


def test_a_damaged_record_is_named() -> None:
    with pytest.raises(BucketError, match=r"r.json is damaged"):
        parse_record("[]", "r.json")


def test_a_refusal_is_said_without_keys() -> None:
    text = said("https://s3", A, "create bucket one", "AK may\nnot, SK")
    assert text.startswith("https://s3: could not create bucket one as account a: ******** may not")
    assert "AK" not in text
    assert "SK" not in text
