# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts of Prometheus and its family: hashes that verify, and change only with a password."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible_collections.mlops.onprem.plugins.filter.web_accounts import web_accounts
from ansible_collections.mlops.onprem.plugins.plugin_utils.crypts import crypt


def users(accounts: dict[str, str]) -> dict[str, str]:
    told: dict[str, dict[str, str]] = yaml.safe_load(web_accounts(accounts))
    assert list(told) == ["basic_auth_users"]
    return told["basic_auth_users"]


def test_a_hash_is_bcrypt_and_verifies_the_password_and_no_other() -> None:
    hashed = users({"mlops": "s3cret"})["mlops"]
    assert re.fullmatch(r"\$2b\$06\$[./A-Za-z0-9]{53}", hashed)
    # A libcrypt takes a whole hash for the setting, which is how passwords are compared.
    assert crypt("s3cret", hashed, "bcrypt") == hashed
    assert crypt("s3creT", hashed, "bcrypt") != hashed


def test_crypt_makes_the_published_hash() -> None:
    # Of the vectors of Openwall's crypt_blowfish (wrapper.c).
    setting = "$2a$05$CCCCCCCCCCCCCCCCCCCCC."
    assert crypt("U*U", setting, "bcrypt") == f"{setting}E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"


def test_the_same_password_gives_the_same_text_and_another_account_another_hash() -> None:
    assert web_accounts({"a": "x"}) == web_accounts({"a": "x"})
    both = users({"a": "x", "b": "x"})
    assert both["a"] != both["b"]


@pytest.mark.parametrize(
    ("accounts", "refusal"),
    [
        (["a"], "wants passwords by account"),
        ({}, "wants passwords by account"),
        ({"a:b": "x"}, "cannot be an account"),
        ({"a": ""}, "the account a has no password"),
        ({"a": "x" * 73}, "at most 72 bytes"),
        ({"a": "ü" * 37}, "at most 72 bytes"),
        ({"a": "x\0y"}, "none of them zero"),
    ],
)
def test_what_makes_no_accounts_is_refused(accounts: Any, refusal: str) -> None:
    with pytest.raises(AnsibleError, match=refusal):
        web_accounts(accounts)


def test_a_libcrypt_without_the_method_is_said() -> None:
    with pytest.raises(AnsibleError, match="cannot make unknown hashes"):
        crypt("x", "$0$none$", "unknown")
