# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server keeps instead of a password."""

from __future__ import annotations

import hashlib

NATIVE = "mysql_native_password"


def native(password: str) -> str:
    """The form in which ``mysql_native_password`` is stored: SHA-1 of SHA-1, as the server says it.

    No salt is in it, which is as good as the password is long; ours are random.
    """
    inner = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    return "*" + hashlib.sha1(inner, usedforsecurity=False).hexdigest().upper()


def fingerprint(stored: str) -> str:
    """What can be kept beside the account, to see later that its password is the same."""
    return hashlib.sha256(stored.encode()).hexdigest()
