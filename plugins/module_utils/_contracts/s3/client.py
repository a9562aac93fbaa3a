# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to speak S3: the settings of boto3, and refusals as values."""

from __future__ import annotations

import email.utils
import time
import traceback
from collections.abc import Iterator
from typing import Any, Literal

from ..._findings.sentence import one_line
from .judge import Account, Refusal

BOTO_ERROR: str | None = None
try:
    import boto3
    import botocore.config
    import botocore.exceptions
except ImportError:
    BOTO_ERROR = traceback.format_exc()

CONNECT_SECONDS = 10
READ_SECONDS = 60
ATTEMPTS = 3

# Documented in the fragment ``s3_endpoint``.
OPTIONS: dict[str, Any] = {
    "endpoint": {"type": "str", "required": True},
    "region": {"type": "str", "default": "us-east-1"},
    "ca_file": {"type": "path", "default": ""},
    "accounts": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "access_key": {"type": "str", "required": True, "no_log": True},
            "secret_key": {"type": "str", "required": True, "no_log": True},
            "buckets": {"type": "list", "elements": "str", "default": []},
        },
    },
}


def accounts_of(params: dict[str, Any]) -> tuple[Account, ...]:
    """The accounts as the options of a module name them."""
    return tuple(
        Account(entry["name"], entry["access_key"], entry["secret_key"], tuple(entry["buckets"]))
        for entry in params["accounts"]
    )


def open_s3(
    endpoint: str,
    region: str,
    access_key: str,
    secret_key: str,
    ca_file: str = "",
    addressing: Literal["path", "virtual"] = "path",
    timeout: float | None = None,
    proxied: bool = False,
) -> Any:
    """A client of boto3. ``timeout`` is for the connection and each answer, if it is given.

    A probe looks from here to the endpoint itself; ``proxied`` clients go the way that the
    environment names, as other programs of this machine do.
    """
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        verify=ca_file or True,
        config=botocore.config.Config(
            signature_version="s3v4",
            connect_timeout=timeout or CONNECT_SECONDS,
            read_timeout=timeout or READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            s3={"addressing_style": addressing},
            # Checksums in trailers are not understood by every vendor.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            proxies=None if proxied else {},
        ),
    )


class Client:
    """One account's requests; every refusal becomes a value."""

    def __init__(self, account: Account, s3: Any) -> None:
        self.account = account
        self.headers: dict[str, str] = {}
        self.skew: float | None = None
        self.s3 = s3

    def call(self, operation: str, **arguments: Any) -> tuple[Any, Refusal | None]:
        """The answer of one request, or why there is none."""
        try:
            answer = getattr(self.s3, operation)(**arguments)
            if "Body" in answer:
                answer["Body"] = answer["Body"].read()
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
            return None, self._refusal(error)
        self._note(answer)
        return answer, None

    def pages(self, operation: str, **arguments: Any) -> Iterator[tuple[Any, Refusal | None]]:
        """The answers of a request that lists; the first refusal is the last answer."""
        try:
            for page in self.s3.get_paginator(operation).paginate(**arguments):
                yield page, None
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
            yield None, self._refusal(error)

    def create_with_malformed_body(self, bucket: str) -> Refusal | None:
        """Ask for a bucket in a way that is refused, also by an endpoint that would grant it."""

        def spoil(params: dict[str, Any], **_more: Any) -> None:
            params["body"] = b"this is no XML"

        event = "before-call.s3.CreateBucket"
        self.s3.meta.events.register(event, spoil)
        try:
            return self.call("create_bucket", Bucket=bucket)[1]
        finally:
            self.s3.meta.events.unregister(event, spoil)

    def _refusal(self, error: Any) -> Refusal:
        words = self._clean(error)
        if not isinstance(error, botocore.exceptions.ClientError):
            return Refusal(type(error).__name__, words, words)
        told = error.response.get("Error", {})
        self._note(error.response)
        return Refusal(
            str(told.get("Code", "unknown")), self._clean(told.get("Message", "")), words
        )

    def _clean(self, text: object) -> str:
        return one_line(text, [self.account.secret_key, self.account.access_key])

    def _note(self, answer: Any) -> None:
        self.headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}) or self.headers
        if "date" in self.headers:
            date = email.utils.parsedate_to_datetime(self.headers["date"])
            self.skew = date.timestamp() - time.time()
