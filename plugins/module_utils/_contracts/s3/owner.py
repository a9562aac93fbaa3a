# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose a bucket is: a mark in the bucket, and when it was made.

The mark is a tag of the bucket, or where the endpoint knows no tags, a small object. It goes with
the bucket: what is dropped and made anew by hand bears none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from .judge import S3, Refusal
from .notes import Made

TAG = "mlops-onprem-site"
MARKER = ".mlops-onprem-site"
_NO_TAGS = ("NoSuchTagSet", "NoSuchTagSetError")
_LONGEST = 100
# Clocks of the controller and of the endpoint differ.
_SLACK = timedelta(minutes=15)


class Client(Protocol):
    """One account's requests."""

    def call(self, operation: str, **arguments: Any) -> tuple[Any, Refusal | None]:
        """The answer of one request, or why there is none."""


@dataclass(frozen=True)
class Owner:
    """The site whose mark a bucket bears; ``refused`` if it could not be seen."""

    site: str = ""
    refused: Refusal | None = None
    gone: bool = False


@dataclass(frozen=True)
class Verdict:
    """Whether a bucket is still the one that was made, and if not, why."""

    ours: bool
    why: str = ""


def read_owner(client: Client, bucket: str) -> Owner:
    """Whose mark a bucket bears."""
    # First a list, since only that shows by its content that S3 answers.
    absent = client.call("list_objects_v2", Bucket=bucket, MaxKeys=1)[1]
    if absent and (absent.is_missing or absent.source != S3):
        return Owner(refused=absent, gone=absent.is_missing)
    tags, refusal = _tags(client, bucket)
    for tag in tags:
        if tag["Key"] == TAG:
            return Owner(str(tag["Value"]))
    answer, hidden = client.call("get_object", Bucket=bucket, Key=MARKER)
    if hidden is None:
        text = answer["Body"][:_LONGEST].decode("utf-8", "replace").strip()
        return Owner(text or "unknown")
    if not hidden.is_missing:
        return Owner(refused=hidden)
    # No such object; but a tag may be there that was not to be seen.
    return Owner(refused=refusal if refusal and refusal.code in ("AccessDenied", "403") else None)


def _tags(client: Client, bucket: str) -> tuple[list[Any], Refusal | None]:
    answer, refusal = client.call("get_bucket_tagging", Bucket=bucket)
    if refusal:
        return [], None if refusal.is_one_of(_NO_TAGS) else refusal
    return list(answer.get("TagSet", ())), None


def write_mark(client: Client, bucket: str, site: str) -> str:
    """Mark a bucket; the answer is how, empty if the endpoint lets neither be done."""
    tags, refusal = _tags(client, bucket)
    if refusal is None:
        kept = [tag for tag in tags if tag["Key"] != TAG]
        wanted = {"TagSet": [*kept, {"Key": TAG, "Value": site}]}
        if client.call("put_bucket_tagging", Bucket=bucket, Tagging=wanted)[1] is None and any(
            tag["Key"] == TAG and tag["Value"] == site for tag in _tags(client, bucket)[0]
        ):
            return "tag"
    body = f"{site}\n".encode()
    refusal = client.call("put_object", Bucket=bucket, Key=MARKER, Body=body)[1]
    return "" if refusal else "object"


def verdict(made: Made, owner: Owner, created: str, site: str) -> Verdict:
    """Whether the bucket in the note is the bucket that is there.

    ``created`` is when the endpoint says it was made, empty if it does not say; ``site`` is who
    asks.
    """
    us = site or made.site
    if owner.site:
        if us and owner.site != us:
            return Verdict(False, f"bucket {made.bucket} bears the mark of site {owner.site}")
        return Verdict(True)
    if made.mark:
        return Verdict(False, f"bucket {made.bucket} bears no mark of this site any more")
    if made.created and created and _differ(made.created, created):
        return Verdict(False, f"bucket {made.bucket} was made anew on {created}")
    if made.unanswered and created and _after(made.asked, created):
        return Verdict(False, f"bucket {made.bucket} was there before, since {created}")
    if made.written and created and _after(created, made.written):
        return Verdict(False, f"bucket {made.bucket} was made anew on {created}")
    return Verdict(True)


def _differ(one: str, other: str) -> bool:
    return abs(_time(one) - _time(other)) > timedelta(seconds=1)


def _after(one: str, other: str) -> bool:
    return _time(one) > _time(other) + _SLACK


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
