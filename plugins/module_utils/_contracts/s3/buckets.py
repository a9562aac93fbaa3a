# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which buckets to make at an endpoint that is not ours, and which ones to take away again.

What was made is written down before it is made, so a run that is killed can be run again. Whose a
bucket is, it says itself by a mark; what was written down is only the reason to ask.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Protocol

from ..._findings.sentence import one_line
from ..contract import Contract
from .judge import (
    FORBIDDEN,
    MISSING,
    S3,
    SILENT,
    Account,
    Refusal,
    is_bucket_name,
    judge_account,
    judge_answer,
    keys_of,
    other_buckets,
    remedy_of,
)
from .notes import BucketError, Made, Notes, now
from .owner import MARKER, Owner, Verdict, read_owner, verdict, write_mark


class Found(enum.Enum):
    """How a bucket stands for the account that will use it."""

    OURS = "ours"
    MISSING = "missing"


class Act(enum.Enum):
    """What a step does with its bucket."""

    CREATE = "create"
    MARK = "mark"
    DELETE = "delete"


@dataclass(frozen=True)
class Step:
    act: Act
    bucket: str
    account: Account

    @property
    def text(self) -> str:
        if self.act is Act.CREATE:
            return f"create bucket {self.bucket} with account {self.account.name}"
        if self.act is Act.MARK:
            return f"mark bucket {self.bucket} as made by this site"
        return f"delete bucket {self.bucket} and everything in it"


def plan_present(accounts: Iterable[Account], found: Mapping[str, Found]) -> tuple[Step, ...]:
    """Each missing bucket once, with the first account that names it.

    Raises:
        BucketError: No bucket can be created by a name.
    """
    steps: dict[str, Step] = {}
    for account in accounts:
        for bucket in account.buckets:
            if found.get(bucket, Found.MISSING) is Found.MISSING:
                if not is_bucket_name(bucket):
                    raise BucketError(
                        f"no bucket can be created by the name {bucket!r}, which has to be 3 to 63 "
                        "small letters, digits, hyphens and dots; "
                        f"{other_buckets(_CONTRACT, account.name)}."
                    )
                steps.setdefault(bucket, Step(Act.CREATE, bucket, account))
    return tuple(steps.values())


def plan_absent(url: str, accounts: Iterable[Account], made: Iterable[str]) -> tuple[Step, ...]:
    """The buckets that we made, each with an account that uses it.

    Raises:
        BucketError: No account names one of them any more.
    """
    users = users_of(accounts)
    steps = []
    for bucket in made:
        if bucket not in users:
            raise BucketError(
                f"{url} holds bucket {bucket}, which the platform made but no account in "
                "object_store_accounts names any more; name it again to have it deleted."
            )
        steps.append(Step(Act.DELETE, bucket, users[bucket]))
    return tuple(steps)


def users_of(accounts: Iterable[Account]) -> dict[str, Account]:
    """The first account that names each bucket."""
    users: dict[str, Account] = {}
    for account in accounts:
        for bucket in account.buckets:
            users.setdefault(bucket, account)
    return users


_CONTRACT = Contract("object_store", "", ("endpoint",))


def said(url: str, account: Account, doing: str, refusal: Refusal) -> str:
    """Who could not do what, why, and what helps."""
    clean = one_line(refusal.words or refusal, [account.secret_key, account.access_key])
    return (
        f"{url}: could not {doing} as account {account.name}: {clean}; {_help(account, refusal)}."
    )


def _help(account: Account, refusal: Refusal) -> str:
    finding = judge_answer(_CONTRACT, refusal) or judge_account(
        _CONTRACT, account, "that of the buckets", refusal
    )
    if finding:
        return finding.remedy
    if refusal.is_one_of(FORBIDDEN):
        return f"grant it the right, or set other keys: {keys_of(_CONTRACT, account.name)}"
    if refusal.is_one_of(("BucketAlreadyExists", "InvalidBucketName")):
        return other_buckets(_CONTRACT, account.name)
    return remedy_of(_CONTRACT, refusal, f"account {account.name}")


# -- at the endpoint --------------------------------------------------------------------------


class Client(Protocol):
    """One account's requests."""

    def call(self, operation: str, **arguments: Any) -> tuple[Any, Refusal | None]:
        """The answer of one request, or why there is none."""

    def pages(self, operation: str, **arguments: Any) -> Iterator[tuple[Any, Refusal | None]]:
        """The answers of a request that lists; the first refusal is the last answer."""


@dataclass(frozen=True)
class Buckets:
    """The buckets at an endpoint; a refusal becomes a sentence.

    ``site_id`` is the identity of the site, empty if buckets are not marked.
    """

    url: str
    region: str
    client_of: Callable[[Account], Client]
    site_id: str = ""

    def look(self, accounts: Iterable[Account]) -> dict[str, Found]:
        """How each bucket stands for the account that will use it."""
        found = {}
        for account in accounts:
            client = self.client_of(account)
            for bucket in account.buckets:
                # A list, since only that shows by its content that S3 answers.
                refusal = client.call("list_objects_v2", Bucket=bucket, MaxKeys=1)[1]
                if refusal and not refusal.is_missing:
                    raise self._error(account, f"look at bucket {bucket}", refusal)
                found[bucket] = Found.MISSING if refusal else Found.OURS
        return found

    def owners(self, accounts: Iterable[Account], found: Mapping[str, Found]) -> dict[str, Owner]:
        """Whose mark the buckets that are there bear."""
        return {
            bucket: read_owner(self.client_of(account), bucket)
            for bucket, account in users_of(accounts).items()
            if found.get(bucket) is Found.OURS
        }

    def refuse_foreign(self, owners: Mapping[str, Owner]) -> None:
        """Use no bucket that another site made, which deletes it with everything in it.

        Raises:
            BucketError: One bears the mark of another site.
        """
        for bucket, owner in owners.items():
            if self.site_id and owner.site and owner.site != self.site_id:
                raise BucketError(
                    f"{self.url}: bucket {bucket} was made by another site (its mark is "
                    f"{owner.site}, this site is {self.site_id}), which deletes it with everything "
                    "in it when it is removed; set object_store_bucket_prefix, or other buckets in "
                    "object_store_accounts."
                )

    def verdict(self, account: Account, made: Made) -> Verdict:
        """Whether a bucket that we made once is still that one.

        Raises:
            BucketError: It cannot be seen.
        """
        client = self.client_of(account)
        owner = read_owner(client, made.bucket)
        if owner.gone:
            return Verdict(True)
        if owner.refused and (made.mark or not owner.refused.is_one_of(FORBIDDEN)):
            raise self._error(account, f"see whose bucket {made.bucket} is", owner.refused)
        created = created_at(client, made.bucket)
        still = verdict(made, owner, created, self.site_id)
        if still.ours and made.unanswered and not owner.site and not self.is_new(account, made):
            return Verdict(False, f"bucket {made.bucket} was perhaps not made by this site")
        return still

    def is_new(self, account: Account, made: Made) -> bool:
        """Whether a bucket may be the one whose creation was noted but not confirmed: empty."""
        client = self.client_of(account)
        answer, refusal = client.call("list_objects_v2", Bucket=made.bucket, MaxKeys=1)
        return refusal is None and not answer.get("Contents")

    def create(self, step: Step) -> None:
        """Make a bucket, or find it made by this very request.

        Raises:
            BucketError: It was refused; ``lost`` says that it may be there all the same.
        """
        refusal = self._create(self.client_of(step.account), step.bucket)
        if refusal:
            raise self._error(step.account, step.text, refusal)

    def mark(self, step: Step, made: Made) -> Made:
        """Let the bucket say whose it is, and note what proves it."""
        if not self.site_id:
            return made
        client = self.client_of(step.account)
        how = write_mark(client, step.bucket, self.site_id)
        created = created_at(client, step.bucket)
        return replace(made, mark=how, created=created, site=self.site_id, sure=True, plain=False)

    def delete(self, step: Step, made: Made) -> Verdict:
        """Delete a bucket with everything in it, if it is still the one that was made."""
        still = self.verdict(step.account, made)
        if not still.ours:
            return still
        client = self.client_of(step.account)
        refusal = _empty(client, step.bucket) or self._drop(client, step.bucket, made)
        if refusal and refusal.code != "NoSuchBucket":
            raise self._error(step.account, step.text, refusal)
        return still

    def _drop(self, client: Client, bucket: str, made: Made) -> Refusal | None:
        """Delete the bucket; its mark goes last, and comes back if the bucket stays."""
        refusal = _empty(client, bucket, keep="") or client.call("delete_bucket", Bucket=bucket)[1]
        if refusal and made.mark == "object":
            write_mark(client, bucket, made.site)
        return refusal

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

    def _error(self, account: Account, doing: str, refusal: Refusal) -> BucketError:
        return BucketError(
            said(self.url, account, doing, refusal),
            refusal.may_have_worked,
            refusal.source != S3,
        )


def created_at(client: Client, bucket: str) -> str:
    """When the endpoint says that the bucket was made; empty if it does not say."""
    answer, refusal = client.call("list_buckets")
    if refusal:
        return ""
    for row in answer.get("Buckets", ()):
        if row["Name"] == bucket and row.get("CreationDate"):
            return str(row["CreationDate"].isoformat())
    return ""


# -- emptying ---------------------------------------------------------------------------------


def _empty(client: Client, bucket: str, keep: str = MARKER) -> Refusal | None:
    """Delete all objects with their versions, and what was uploaded in part; the mark stays."""
    refusal = _abort_uploads(client, bucket)
    if refusal and not _is_lacking(refusal):
        return refusal
    deleting = _Deleting(client, bucket, keep)
    refusal = deleting.after_each("list_object_versions", ("Versions", "DeleteMarkers"))
    if refusal and _is_lacking(refusal):
        # Nor are there versions where nobody can list them.
        return deleting.after_each("list_objects_v2", ("Contents",))
    return refusal


def _is_lacking(refusal: Refusal) -> bool:
    """Whether the endpoint does not know a request, rather than refusing it to us."""
    known = refusal.is_one_of((*FORBIDDEN, *MISSING, "InvalidAccessKeyId", "SlowDown"))
    return refusal.source != SILENT and not known and not refusal.may_have_worked


def _abort_uploads(client: Client, bucket: str) -> Refusal | None:
    for page, refusal in client.pages("list_multipart_uploads", Bucket=bucket):
        if refusal:
            return refusal
        for row in page.get("Uploads", ()):
            place = {"Key": row["Key"], "UploadId": row["UploadId"]}
            refused = client.call("abort_multipart_upload", Bucket=bucket, **place)[1]
            if refused and refused.code != "NoSuchUpload":
                return refused
    return None


@dataclass
class _Deleting:
    """Deletes what lists name: many at once, or one by one where an endpoint knows only that."""

    client: Client
    bucket: str
    keep: str
    at_once: bool = field(default=True)

    def after_each(self, listing: str, kinds: tuple[str, ...]) -> Refusal | None:
        """Delete what each page of a list names, up to the first refusal."""
        for page, refusal in self.client.pages(listing, Bucket=self.bucket):
            if refusal:
                return refusal
            rows = [row for kind in kinds for row in page.get(kind, ())]
            names = [_name(row) for row in rows if row["Key"] != self.keep]
            refused = self._delete(names) if names else None
            if refused:
                return refused
        return None

    def _delete(self, names: list[dict[str, str]]) -> Refusal | None:
        if self.at_once:
            wanted = {"Objects": names, "Quiet": True}
            answer, refusal = self.client.call("delete_objects", Bucket=self.bucket, Delete=wanted)
            if refusal and refusal.source == SILENT:
                return refusal
            if refusal is None and not answer.get("Errors"):
                return None
            self.at_once = refusal is None
        for name in names:
            refusal = self.client.call("delete_object", Bucket=self.bucket, **name)[1]
            if refusal:
                return refusal
        return None


def _name(row: Any) -> dict[str, str]:
    name = {"Key": row["Key"]}
    if row.get("VersionId"):
        name["VersionId"] = row["VersionId"]
    return name


# -- both together ----------------------------------------------------------------------------


def to_mark(
    buckets: Buckets,
    accounts: Iterable[Account],
    found: Mapping[str, Found],
    owners: Mapping[str, Owner],
    made: Mapping[str, Made],
) -> tuple[Step, ...]:
    """The buckets that are ours but do not say so, or of which we have no note any more."""
    if not buckets.site_id:
        return ()
    steps = []
    for bucket, account in users_of(accounts).items():
        if found.get(bucket) is not Found.OURS:
            continue
        note, owner = made.get(bucket), owners.get(bucket, Owner())
        forgotten = owner.site == buckets.site_id and note is None
        if forgotten or (note and not owner.site and _may_mark(buckets, account, note, owner)):
            steps.append(Step(Act.MARK, bucket, account))
    return tuple(steps)


def _may_mark(buckets: Buckets, account: Account, note: Made, owner: Owner) -> bool:
    """Whether a bucket without a mark is the one in the note: noted before there were marks, or
    created by a request whose answer was lost."""
    if note.mark or note.sure or owner.refused:
        return False
    return buckets.verdict(account, note).ours


def forgotten(
    buckets: Buckets, accounts: Iterable[Account], made: Mapping[str, Made]
) -> dict[str, Made]:
    """The buckets that bear this site's mark without being noted, as after a fresh checkout."""
    if not buckets.site_id:
        return {}
    return {
        bucket: Made(bucket, mark="tag", site=buckets.site_id, sure=True)
        for bucket, account in users_of(accounts).items()
        if bucket not in made
        and read_owner(buckets.client_of(account), bucket).site == buckets.site_id
    }


def still_ours(
    buckets: Buckets, steps: Iterable[Step], made: Mapping[str, Made]
) -> tuple[tuple[Step, ...], list[str]]:
    """The steps whose buckets are still those that were made, and why the others are not."""
    kept, left = [], []
    for step in steps:
        still = buckets.verdict(step.account, made[step.bucket])
        if still.ours:
            kept.append(step)
        else:
            left.append(still.why)
    return tuple(kept), left


def work_off(steps: Iterable[Step], buckets: Buckets, notes: Notes) -> list[str]:
    """Make the steps, with the note always ahead of a bucket that is made.

    Returns why buckets were left after all, one sentence each.
    """
    left = []
    for step in steps:
        made = notes.of(buckets.url)
        if step.act is Act.CREATE:
            _create(step, buckets, notes, made)
        elif step.act is Act.MARK:
            note = made.get(step.bucket) or Made(step.bucket, asked=now())
            notes.write(buckets.url, {**made, step.bucket: buckets.mark(step, note)})
        else:
            note = made.get(step.bucket) or Made(step.bucket, mark="tag", sure=True)
            still = buckets.delete(step, note)
            if still.ours:
                notes.write(buckets.url, without(made, step.bucket))
            else:
                left.append(still.why)
    return left


def without(made: Mapping[str, Made], bucket: str) -> dict[str, Made]:
    """The notes but one."""
    return {name: note for name, note in made.items() if name != bucket}


def _create(step: Step, buckets: Buckets, notes: Notes, made: Mapping[str, Made]) -> None:
    # First the note: if it is not made after all, there is nothing to delete.
    note = Made(step.bucket, asked=now(), site=buckets.site_id, plain=not buckets.site_id)
    notes.write(buckets.url, {**made, step.bucket: note})
    try:
        buckets.create(step)
    except BucketError as error:
        # What the endpoint refused is not there. What nobody answered may be.
        if not error.lost:
            notes.write(buckets.url, made)
        raise
    notes.write(buckets.url, {**made, step.bucket: buckets.mark(step, note)})
