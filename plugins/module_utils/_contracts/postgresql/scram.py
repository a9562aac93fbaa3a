# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SCRAM-SHA-256 verifiers, so that a password in plain text never reaches a server or its log."""

from __future__ import annotations

import base64
import hashlib
import hmac
import stringprep
import unicodedata
from typing import Callable

ITERATIONS = 4096


def verifier(password: str, salt: bytes, iterations: int = ITERATIONS) -> str:
    """What PostgreSQL keeps instead of the password (RFC 5803)."""
    salted = hashlib.pbkdf2_hmac("sha256", prepared(password), salt, iterations)
    client_key = hmac.new(salted, b"Client Key", "sha256").digest()
    server_key = hmac.new(salted, b"Server Key", "sha256").digest()
    stored_key = hashlib.sha256(client_key).digest()
    return f"SCRAM-SHA-256${iterations}:{_text(salt)}${_text(stored_key)}:{_text(server_key)}"


_PROHIBITED: tuple[Callable[[str], bool], ...] = (
    stringprep.in_table_a1,
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def prepared(password: str) -> bytes:
    """The password as server and clients of PostgreSQL count it (SASLprep, RFC 4013).

    What SASLprep does not allow is taken as it is, as PostgreSQL does.
    """
    mapped = "".join(map(_mapped, password))
    text = unicodedata.normalize("NFKC", mapped)
    if not text or any(test(one) for one in text for test in _PROHIBITED) or _mixed(text):
        return password.encode()
    return text.encode()


def _mapped(one: str) -> str:
    if stringprep.in_table_c12(one):
        return " "
    return "" if stringprep.in_table_b1(one) else one


def _mixed(text: str) -> bool:
    """Whether right-to-left letters stand where RFC 3454 does not allow them."""
    right = [stringprep.in_table_d1(one) for one in text]
    if not any(right):
        return False
    left = any(map(stringprep.in_table_d2, text))
    return left or not (right[0] and right[-1])


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
