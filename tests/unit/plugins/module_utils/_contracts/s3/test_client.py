# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers and refusals of boto3 become values without secrets; its settings are one set."""

from __future__ import annotations

import email.utils
import time
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.client import (
    ATTEMPTS,
    CONNECT_SECONDS,
    READ_SECONDS,
    Client,
    accounts_of,
    open_s3,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.judge import (
    Account,
    Refusal,
)
from botocore.exceptions import ClientError, EndpointConnectionError

ACCOUNT = Account("pipeline", "AKIA0", "top-secret", ("data",))
ANSWER: Any = {
    "Error": {"Code": "AccessDenied", "Message": "top-secret is\n not enough"},
    "ResponseMetadata": {"HTTPHeaders": {"server": "AmazonS3"}},
}
DENIED = ClientError(ANSWER, "GetObject")


class Body:
    def read(self) -> bytes:
        return b"bytes"


class Boto:
    """Answers of boto3, or what it raises."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def get_object(self, **_arguments: Any) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def get_paginator(self, _operation: str) -> Boto:
        return self

    def paginate(self, **_arguments: Any) -> Any:
        while self.answers:
            yield self.get_object()


def test_an_answer_is_read_to_its_end_and_tells_the_clock() -> None:
    date = email.utils.formatdate(time.time() + 600, usegmt=True)
    headers = {"date": date, "server": "x"}
    client = Client(ACCOUNT, Boto({"Body": Body(), "ResponseMetadata": {"HTTPHeaders": headers}}))
    answer, refusal = client.call("get_object")
    assert (answer["Body"], refusal, client.headers) == (b"bytes", None, headers)
    assert client.skew == pytest.approx(600, abs=5)


def test_a_refusal_is_a_value_without_the_secret() -> None:
    client = Client(ACCOUNT, Boto(DENIED))
    refusal = client.call("get_object")[1]
    assert refusal == Refusal("AccessDenied", "******** is not enough")
    assert refusal is not None
    assert refusal.words == (
        "An error occurred (AccessDenied) when calling the GetObject operation: "
        "******** is not enough"
    )
    assert client.headers == {"server": "AmazonS3"}


def test_no_answer_is_a_refusal_by_the_name_of_the_error() -> None:
    refusal = Client(ACCOUNT, Boto(EndpointConnectionError(endpoint_url="https://s3"))).call(
        "get_object"
    )[1]
    assert refusal is not None
    assert refusal.code == "EndpointConnectionError"


def test_a_list_that_breaks_ends_with_the_refusal() -> None:
    pages = list(Client(ACCOUNT, Boto({"a": 1}, DENIED)).pages("list_things"))
    assert [page for page, _refusal in pages] == [{"a": 1}, None]
    assert [bool(refusal) for _page, refusal in pages] == [False, True]


@pytest.mark.parametrize(("timeout", "read"), [(None, READ_SECONDS), (7, 7)])
def test_the_settings_are_one_set(timeout: float | None, read: float) -> None:
    config = open_s3("https://s3:7443", "eu-1", "a", "b", timeout=timeout).meta.config
    assert config.connect_timeout == (timeout or CONNECT_SECONDS)
    assert config.read_timeout == read
    assert config.retries["total_max_attempts"] == ATTEMPTS
    assert config.s3["addressing_style"] == "path"
    assert config.request_checksum_calculation == "when_required"


def test_accounts_are_read_from_the_options_of_a_module() -> None:
    row = {"name": "a", "access_key": "AK", "secret_key": "SK", "buckets": ["one"]}
    assert accounts_of({"accounts": [row]}) == (Account("a", "AK", "SK", ("one",)),)


@pytest.mark.parametrize(("proxied", "proxies"), [(False, {}), (True, None)])
def test_only_who_asks_for_it_goes_by_the_proxy_of_the_environment(
    proxied: bool, proxies: dict[str, str] | None
) -> None:
    config = open_s3("https://s3:7443", "eu-1", "a", "b", proxied=proxied).meta.config
    assert config.proxies == proxies
