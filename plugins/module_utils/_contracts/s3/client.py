# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to speak S3: the settings of boto3, and refusals as values."""

from __future__ import annotations

import contextlib
import email.utils
import os
import re
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from ..._findings.sentence import one_line
from ..deadline import Deadline, Expired
from ..endpoint import authorities_of_the_system
from .judge import EXPIRED, FOREIGN, SILENT, Account, Refusal

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
    attempts: int = ATTEMPTS,
) -> Any:
    """A client of boto3. ``timeout`` is for the connection and each answer, if it is given.

    The arguments say everything: neither ``AWS_*`` variables nor ``~/.aws`` are read. A probe
    looks from here to the endpoint itself; ``proxied`` clients go the way that the environment
    names, as other programs of this machine do.
    """
    with _without_settings():
        s3 = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint,
            region_name=region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            verify=ca_file or authorities_of_the_system() or True,
            config=botocore.config.Config(
                signature_version="s3v4",
                connect_timeout=timeout or CONNECT_SECONDS,
                read_timeout=timeout or READ_SECONDS,
                retries={"mode": "standard", "total_max_attempts": attempts},
                s3={"addressing_style": addressing},
                # Checksums in trailers are not understood by every vendor.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                proxies=None if proxied else {},
            ),
        )
    s3.meta.events.register_last("before-parameter-build.s3", _stay)
    return s3


@contextlib.contextmanager
def _without_settings() -> Iterator[None]:
    """Hide what this user set for programs of AWS while a client is made."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    for name in kept:
        del os.environ[name]
    hidden = {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    os.environ.update(hidden)
    try:
        yield
    finally:
        for name in hidden:
            os.environ.pop(name, None)
        os.environ.update(kept)


def _stay(context: Any, **_more: Any) -> None:
    """Follow no redirection, since the question where a bucket is would be redirected, too."""
    context.setdefault("s3_redirect", {})["redirected"] = True


@dataclass
class Heard:
    """The last answer as it came over the wire, before anybody took it for S3's."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    root: str = ""

    @property
    def is_s3(self) -> bool:
        """Whether S3 wrote it: an error or a list of its own, or its headers without a body."""
        if self.root == NO_BODY:
            return any(name.startswith("x-amz-") for name in self.headers)
        return self.root == "Error" or self.root.endswith("Result")

    @property
    def described(self) -> str:
        """The answer in a few words."""
        words = [f"HTTP {self.status}"]
        for name, label in (("content-type", ""), ("server", "from "), ("location", "to ")):
            if self.headers.get(name):
                words.append(f"{label}{self.headers[name]}")
        return ", ".join(words)


NO_BODY = "no body"
_ROOT = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*)?<(?:\w+:)?(\w+)")


def heard(response: Any) -> Heard:
    """What came, from botocore's record of an answer."""
    headers = {str(name).lower(): str(text) for name, text in response["headers"].items()}
    body = response.get("body")
    if not isinstance(body, bytes):
        return Heard(response["status_code"], headers, NO_BODY)
    match = _ROOT.match(body.removeprefix(b"\xef\xbb\xbf"))
    root = match.group(1).decode() if match else ""
    return Heard(response["status_code"], headers, root if body.strip() else NO_BODY)


class Client:
    """One account's requests; every refusal becomes a value.

    Once nobody answered, nobody is asked again, but to take away what was written.
    """

    def __init__(self, account: Account, s3: Any, deadline: Deadline | None = None) -> None:
        self.account = account
        self.headers: dict[str, str] = {}
        self.skew: float | None = None
        self.s3 = s3
        self.silent: Refusal | None = None
        self._deadline = deadline
        self._cleaning = False
        self._heard = Heard()
        events = getattr(getattr(s3, "meta", None), "events", None)
        if events is not None:
            events.register("before-parse.s3", self._listen)

    def call(self, operation: str, **arguments: Any) -> tuple[Any, Refusal | None]:
        """The answer of one request, or why there is none."""
        if self.silent:
            return None, self.silent
        self._heard = Heard()
        try:
            with self._limit():
                answer = getattr(self.s3, operation)(**arguments)
                if "Body" in answer:
                    answer["Body"] = answer["Body"].read()
        except (Exception, Expired) as error:  # Whatever a library raises is a refusal.
            return None, self._refusal(error)
        self._note(answer)
        if operation.startswith("list_"):
            foreign = self._foreign()
            if foreign:
                return None, foreign
        return answer, None

    def pages(self, operation: str, **arguments: Any) -> Iterator[tuple[Any, Refusal | None]]:
        """The answers of a request that lists; the first refusal is the last answer."""
        try:
            for page in self.s3.get_paginator(operation).paginate(**arguments):
                foreign = self._foreign()
                if foreign:
                    yield None, foreign
                    return
                yield page, None
        except Exception as error:
            yield None, self._refusal(error)

    @contextlib.contextmanager
    def cleaning(self) -> Iterator[None]:
        """Ask once more although nobody answered, in the time that was kept for it."""
        before, self.silent, self._cleaning = self.silent, None, True
        try:
            yield
        finally:
            self.silent, self._cleaning = before or self.silent, False

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

    def _limit(self) -> Any:
        if self._deadline is None:
            return contextlib.nullcontext()
        return self._deadline.limit(self._cleaning)

    def _listen(self, response_dict: Any, **_more: Any) -> None:
        self._heard = heard(response_dict)

    def _foreign(self) -> Refusal | None:
        """The refusal that an answer of something else than S3 is."""
        if not self._heard.status or self._heard.is_s3:
            return None
        text = self._clean(self._heard.described)
        return Refusal(str(self._heard.status), text, text, FOREIGN)

    def _refusal(self, error: BaseException) -> Refusal:
        if isinstance(error, Expired):
            seconds = self._deadline.seconds if self._deadline else 0
            text = f"the {seconds:g} s of the probe are over"
            self.silent = Refusal(EXPIRED, text, text, SILENT)
            return self.silent
        foreign = self._foreign()
        if foreign:
            return foreign
        words = self._clean(error)
        if isinstance(error, botocore.exceptions.ClientError):
            told = error.response.get("Error", {})
            self._note(error.response)
            return Refusal(
                str(told.get("Code", "unknown")), self._clean(told.get("Message", "")), words
            )
        refusal = Refusal(type(error).__name__, words, words, SILENT)
        if not isinstance(error, botocore.exceptions.ParamValidationError):
            self.silent = refusal
        return refusal

    def _clean(self, text: object) -> str:
        return one_line(text, [self.account.secret_key, self.account.access_key])

    def _note(self, answer: Any) -> None:
        self.headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}) or self.headers
        with contextlib.suppress(TypeError, ValueError, KeyError):
            date = email.utils.parsedate_to_datetime(self.headers["date"])
            self.skew = date.timestamp() - time.time()
