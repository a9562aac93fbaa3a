# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which buckets to make at an endpoint that is not ours, and which ones to take away again."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..finding import one_line
from .judge import Account

# URL of an endpoint: the buckets that were made there.
Record = dict[str, list[str]]


class BucketError(Exception):
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
