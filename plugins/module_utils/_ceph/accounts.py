# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""S3 accounts of a RADOS gateway, as the documents that ``radosgw-admin metadata`` reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import CephError

_RIGHTS = "read, write, delete"


@dataclass(frozen=True)
class Account:
    name: str
    access_key: str
    secret_key: str
    buckets: tuple[str, ...] = ()
    quota_gib: int = 0


def parse_accounts(rows: Iterable[Mapping[str, Any]]) -> tuple[Account, ...]:
    """The accounts as the role has them; one key or bucket belongs to one account only."""
    accounts = tuple(
        Account(
            row["name"],
            row["access_key"],
            row["secret_key"],
            tuple(row.get("buckets") or ()),
            int(row.get("quota_gib") or 0),
        )
        for row in rows
    )
    _once("account", [account.name for account in accounts])
    _once("access key of two accounts", [account.access_key for account in accounts], show=False)
    _once("bucket", [bucket for account in accounts for bucket in account.buckets])
    return accounts


def _once(what: str, names: Sequence[str], show: bool = True) -> None:
    for name in names:
        if names.count(name) > 1:
            said = f"the {what} {name} twice" if show else f"the same {what}"
            raise CephError(f"object_store_accounts names {said}; each needs its own.")


def document(account: Account, old: Mapping[str, Any] | None) -> dict[str, Any]:
    """The account's document: what others set stays, what we decide is decided."""
    data: dict[str, Any] = {"max_buckets": 1000, "type": "rgw", **(old or {})}
    quota = dict(data.get("user_quota") or {})
    quota.update(_quota(account.quota_gib))
    data.update(
        user_id=account.name,
        display_name=account.name,
        suspended=0,
        op_mask=_RIGHTS,
        keys=[
            {
                "user": account.name,
                "access_key": account.access_key,
                "secret_key": account.secret_key,
            }
        ],
        user_quota=quota,
    )
    return data


def _quota(gib: int) -> dict[str, Any]:
    size = gib * 1024**3 if gib else -1
    return {
        "enabled": bool(gib),
        "check_on_raw": False,
        "max_size": size,
        "max_size_kb": size // 1024 if gib else 0,
        "max_objects": -1,
    }


def differences(account: Account, old: Mapping[str, Any] | None) -> tuple[str, ...]:
    """What would change for the account, in words and without secrets."""
    if old is None:
        return (f"create account {account.name}",)
    wanted = document(account, old)
    texts = []
    # The gateway may answer with more fields in a key than we write.
    held = [
        (key.get("access_key"), key.get("secret_key"), key.get("user"))
        for key in old.get("keys", ())
    ]
    if held != [(account.access_key, account.secret_key, account.name)]:
        texts.append(f"set the key of account {account.name}")
    if any(old.get(name) != wanted[name] for name in ("suspended", "op_mask", "display_name")):
        texts.append(f"restore the rights of account {account.name}")
    if any((old.get("user_quota") or {}).get(k) != v for k, v in _quota(account.quota_gib).items()):
        size = f"{account.quota_gib} GiB" if account.quota_gib else "no limit"
        texts.append(f"set the quota of account {account.name} to {size}")
    return tuple(texts)
