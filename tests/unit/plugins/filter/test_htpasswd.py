# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Password files verify the passwords they were made of, and change only with them."""

from __future__ import annotations

import subprocess

import pytest
from ansible.errors import AnsibleError
from ansible_collections.mlops.onprem.plugins.filter.htpasswd import htpasswd

SALT = "abcdefgh12345678"


def test_the_hash_is_what_openssl_makes() -> None:
    account, _colon, hashed = htpasswd({"admin": "s3cret"}, SALT).strip().partition(":")
    _empty, kind, salt, _rest = hashed.split("$")
    made = subprocess.run(
        ["openssl", "passwd", f"-{kind}", "-salt", salt, "-stdin"],
        input="s3cret\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert (account, kind, hashed) == ("admin", "6", made.stdout.strip())


def test_the_same_password_gives_the_same_text() -> None:
    assert htpasswd({"a": "x"}, SALT) == htpasswd({"a": "x"}, SALT)


def test_two_accounts_with_one_password_differ() -> None:
    first, second = htpasswd({"a": "x", "b": "x"}, SALT).splitlines()
    assert first.partition(":")[2] != second.partition(":")[2]


@pytest.mark.parametrize(
    ("accounts", "salt", "refusal"),
    [
        (["a"], SALT, "wants passwords by account"),
        ({"a": "x"}, "short", "16 or more letters and digits"),
        ({"a:b": "x"}, SALT, "cannot be an account"),
        ({"a": ""}, SALT, "the account a has no password"),
    ],
)
def test_what_makes_no_password_file_is_refused(accounts: object, salt: str, refusal: str) -> None:
    with pytest.raises(AnsibleError, match=refusal):
        htpasswd(accounts, salt)  # type: ignore[arg-type]
