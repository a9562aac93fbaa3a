# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verifiers are those that PostgreSQL makes, the same from run to run."""

from __future__ import annotations

import base64

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.onprem.plugins.filter.scram_verifier import scram_verifier
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.scram import (
    prepared,
    verifier,
)

# The example of RFC 7677.
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")


def test_the_verifier_of_rfc_7677() -> None:
    made = verifier("pencil", SALT)
    assert made == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ=="
        "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
        ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


@pytest.mark.parametrize(
    ("given", "counted"),
    [
        ("plain", "plain"),
        ("soft\u00adhyphen", "softhyphen"),
        ("\u2168", "IX"),
        ("no\u00a0break", "no break"),
        ("zero\u200bwidth", "zero width"),
        ("\u00aa", "a"),
        ("bell\u0007", "bell\u0007"),
        ("\u06271", "\u06271"),
        ("\u00ad", "\u00ad"),
        ("stra\u00dfe", "stra\u00dfe"),
    ],
)
def test_passwords_are_counted_as_postgresql_counts_them(given: str, counted: str) -> None:
    assert prepared(given) == counted.encode()


def test_another_password_or_salt_gives_another_verifier() -> None:
    made = verifier("a secret", SALT)
    assert made == verifier("a secret", SALT)
    assert made != verifier("another secret", SALT)
    assert made != verifier("a secret", b"0123456789abcdef")


def test_the_filter_gives_the_same_verifier_each_time() -> None:
    first = scram_verifier("a secret", "site/admin")
    assert first == scram_verifier("a secret", "site/admin")
    assert first != scram_verifier("a secret", "site/other")
    assert "a secret" not in first
    salt = base64.b64decode(first.split("$")[1].split(":")[1])
    assert first == verifier("a secret", salt)


def test_an_empty_password_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="wants the password for site/admin"):
        scram_verifier("", "site/admin")
