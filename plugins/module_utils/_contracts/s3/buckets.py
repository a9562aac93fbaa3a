# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which buckets to make at an endpoint that is not ours, and which ones to take away again.

What was made is written down before it is made, so a run that is killed can be run again.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Callable, Protocol

from ..._findings.errors import PlatformError
from ..._findings.sentence import one_line
from .judge import MISSING, Account, Refusal

# URL of an endpoint: the buckets that were made there.
Record = dict[str, list[str]]


class BucketError(PlatformError):
    """A sentence for the person who runs the site."""


class Found(enum.Enum):
    """How a bucket stands for the account that will use it."""

    OURS = "ours"
    MISSING = "missing"


@dataclass(frozen=True)
class Step:
    create: bool
    bucket: str
    account: Account

    @property
    def text(self) -> str:
        if self.create:
            return f"create bucket {self.bucket} with account {self.account.name}"
        return f"delete bucket {self.bucket} and everything in it"


def parse_record(text: str, path: str) -> Record:
    try:
        data = json.loads(text)
        return {str(url): [str(name) for name in names] for url, names in data.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise BucketError(
            f"{path} is damaged ({error}), so it is not known which buckets the platform made; "
            "restore the file, or delete it if none is to be deleted."
        ) from error


def plan_present(accounts: Iterable[Account], found: Mapping[str, Found]) -> tuple[Step, ...]:
    """Each missing bucket once, with the first account that names it."""
    steps: dict[str, Step] = {}
    for account in accounts:
        for bucket in account.buckets:
            if found.get(bucket, Found.MISSING) is Found.MISSING:
                steps.setdefault(bucket, Step(True, bucket, account))
    return tuple(steps.values())


def plan_absent(url: str, accounts: Iterable[Account], made: Iterable[str]) -> tuple[Step, ...]:
    """The buckets that we made, each with an account that uses it."""
    users: dict[str, Account] = {}
    for account in accounts:
        for bucket in account.buckets:
            users.setdefault(bucket, account)
    steps = []
    for bucket in made:
        if bucket not in users:
            raise BucketError(
                f"{url} holds bucket {bucket}, which the platform made but no account in "
                "object_store_accounts names any more; name it again to have it deleted."
            )
        steps.append(Step(False, bucket, users[bucket]))
    return tuple(steps)


def said(url: str, account: Account, doing: str, answer: str) -> str:
    clean = one_line(answer, [account.secret_key, account.access_key])
    return (
        f"{url}: could not {doing} as account {account.name}: {clean}; "
        "give it other keys in object_store_accounts, or another bucket."
    )


# -- at the endpoint --------------------------------------------------------------------------


class Client(Protocol):
    """One account's requests."""

    def call(self, operation: str, **arguments: Any) -> tuple[Any, Refusal | None]:
        """The answer of one request, or why there is none."""

    def pages(self, operation: str, **arguments: Any) -> Iterator[tuple[Any, Refusal | None]]:
        """The answers of a request that lists; the first refusal is the last answer."""


@dataclass(frozen=True)
class Buckets:
    """The buckets at an endpoint; a refusal becomes a sentence."""

    url: str
    region: str
    client_of: Callable[[Account], Client]

    def look(self, accounts: Iterable[Account]) -> dict[str, Found]:
        """How each bucket stands for the account that will use it."""
        found = {}
        for account in accounts:
            client = self.client_of(account)
            for bucket in account.buckets:
                refusal = client.call("head_bucket", Bucket=bucket)[1]
                if refusal and not refusal.is_one_of(MISSING):
                    doing = f"look at bucket {bucket}"
                    raise BucketError(said(self.url, account, doing, refusal.words))
                found[bucket] = Found.MISSING if refusal else Found.OURS
        return found

    def apply(self, step: Step) -> None:
        """Make one step."""
        client = self.client_of(step.account)
        refusal = (self._create if step.create else self._delete)(client, step.bucket)
        if refusal:
            raise BucketError(said(self.url, step.account, step.text, refusal.words))

    def _create(self, client: Client, bucket: str) -> Refusal | None:
        refusal = client.call("create_bucket", Bucket=bucket)[1]
        if refusal and refusal.code == "BucketAlreadyOwnedByYou":
            return None
        # AWS wants the region said for every region but its first; others refuse it.
        if refusal and refusal.is_one_of(
            ("IllegalLocationConstraintException", "InvalidLocationConstraint")
        ):
            place = {"LocationConstraint": self.region}
            return client.call("create_bucket", Bucket=bucket, CreateBucketConfiguration=place)[1]
        return refusal

    def _delete(self, client: Client, bucket: str) -> Refusal | None:
        refusal = _empty(client, bucket) or client.call("delete_bucket", Bucket=bucket)[1]
        return None if refusal and refusal.code == "NoSuchBucket" else refusal


def _empty(client: Client, bucket: str) -> Refusal | None:
    """Delete all objects with their versions, and what was uploaded in part."""
    return _after_each(client, "list_multipart_uploads", bucket, _aborts) or _after_each(
        client, "list_object_versions", bucket, _deletes
    )


Request = tuple[str, dict[str, Any]]


def _aborts(page: Any) -> list[Request]:
    return [
        ("abort_multipart_upload", {"Key": upload["Key"], "UploadId": upload["UploadId"]})
        for upload in page.get("Uploads", ())
    ]


def _deletes(page: Any) -> list[Request]:
    rows = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
    names = [{"Key": row["Key"], "VersionId": row["VersionId"]} for row in rows]
    return [("delete_objects", {"Delete": {"Objects": names, "Quiet": True}})] if names else []


def _after_each(
    client: Client, listing: str, bucket: str, requests: Callable[[Any], list[Request]]
) -> Refusal | None:
    """Send the requests that follow from each page of a list, up to the first refusal."""
    for page, refusal in client.pages(listing, Bucket=bucket):
        if refusal:
            return refusal
        for operation, arguments in requests(page):
            refused = client.call(operation, Bucket=bucket, **arguments)[1]
            if refused:
                return refused
    return None


# -- the note of what was made ----------------------------------------------------------------


@dataclass
class Notes:
    """The file that says which buckets were made."""

    path: str

    def read(self) -> Record:
        """What was made, by endpoint."""
        try:
            with open(self.path, encoding="utf-8") as stream:
                return parse_record(stream.read(), self.path)
        except FileNotFoundError:
            return {}

    def write(self, url: str, made: list[str]) -> None:
        """Note what was made at one endpoint; a note of nothing is no file."""
        record = {other: names for other, names in self.read().items() if other != url}
        if made:
            record[url] = made
        if not record:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            return
        folder = os.path.dirname(self.path)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        descriptor, fresh = tempfile.mkstemp(dir=folder)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(json.dumps(record, indent=1, sort_keys=True) + "\n")
            stream.flush()
            os.fsync(descriptor)
        os.replace(fresh, self.path)


def work_off(steps: Iterable[Step], buckets: Buckets, notes: Notes) -> None:
    """Make the steps, with the note always ahead of a bucket that is made."""
    for step in steps:
        made = notes.read().get(buckets.url, [])
        without = [name for name in made if name != step.bucket]
        if step.create:
            # First the note: if it is not made after all, there is nothing to delete.
            notes.write(buckets.url, made if step.bucket in made else [*made, step.bucket])
            try:
                buckets.apply(step)
            except BucketError:
                notes.write(buckets.url, without)
                raise
        else:
            buckets.apply(step)
            notes.write(buckets.url, without)
