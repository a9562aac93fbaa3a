# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hashes of passwords by the controller's libcrypt, without a package that may be missing."""

from __future__ import annotations

import ctypes
import ctypes.util

from ansible.errors import AnsibleFilterError


def crypt(password: str, setting: str, kind: str) -> str:
    """The hash of a password; ``setting`` is its beginning, with method and salt (crypt(5)).

    ``kind`` names the method to whoever has a libcrypt without it.
    """
    library = ctypes.CDLL(ctypes.util.find_library("crypt") or "libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    library.crypt.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    hashed = library.crypt(password.encode(), setting.encode())
    if not hashed or not hashed.startswith(setting[:3].encode()):
        raise AnsibleFilterError(f"the controller's libcrypt cannot make {kind} hashes")
    return str(hashed.decode())
