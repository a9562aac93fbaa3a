# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys that may sign releases: several at a time, known by their ids, and revocable."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Callable

from .errors import RegistryError, RevokedError, UntrustedError
from .oci import read_json, shown
from .openssl import verifier

ID_DIGITS = 16
MAX_KEYS = 16
MAX_RING_BYTES = 64 * 1024
REMEDY = "the variable model_serving_release_keys lists them"

_PEM = re.compile(
    r"\s*-----BEGIN PUBLIC KEY-----\s+([A-Za-z0-9+/=\s]+?)\s+-----END PUBLIC KEY-----\s*"
)
_ID = re.compile(rf"[0-9a-f]{{{ID_DIGITS}}}")

Verify = Callable[[bytes, bytes], bool]


def key_id(public_key: str) -> str:
    """Return the id of a public key in PEM form: the start of the SHA-256 over its DER form."""
    found = _PEM.fullmatch(public_key)
    if not found:
        raise RegistryError(
            f"Found {shown(public_key.strip())}, wanted a public key in PEM form "
            "(-----BEGIN PUBLIC KEY-----)."
        )
    try:
        der = base64.b64decode("".join(found[1].split()), validate=True)
    except binascii.Error:
        raise RegistryError("A public key of releases is not in PEM form: not base64.") from None
    return hashlib.sha256(der).hexdigest()[:ID_DIGITS]


@dataclass(frozen=True)
class TrustedKey:
    """A key by which releases are judged. A revoked one is known, so that it can be named."""

    id: str
    public_key: str
    revoked: bool = False


class KeyRing:
    """The keys that are known here."""

    def __init__(
        self, keys: Iterable[TrustedKey], make: Callable[[str], Verify] = verifier
    ) -> None:
        self.keys = tuple(keys)
        if not self.keys:
            raise RegistryError(f"No key for releases is known here; {REMEDY}.")
        if len(self.keys) > MAX_KEYS:
            raise RegistryError(
                f"Found {len(self.keys)} keys for releases, at most {MAX_KEYS} are read; {REMEDY}."
            )
        ids = [key.id for key in self.keys]
        twice = sorted({each for each in ids if ids.count(each) > 1})
        if twice:
            raise RegistryError(f"The key {twice[0]} is listed twice; {REMEDY}.")
        self._verifiers = {key.id: make(key.public_key) for key in self.keys}

    @classmethod
    def of(cls, *public_keys: str) -> KeyRing:
        """Return a ring of keys in PEM form, none of them revoked."""
        return cls(TrustedKey(key_id(key), key) for key in public_keys)

    @classmethod
    def parse(cls, data: bytes, where: str) -> KeyRing:
        """Read a ring: JSON, or the one key in PEM form that an older installation wrote."""
        if len(data) > MAX_RING_BYTES:
            raise RegistryError(f"{where}: this is larger than {MAX_RING_BYTES} bytes.")
        if data.lstrip().startswith(b"-----BEGIN"):
            return cls.of(data.decode("ascii", "replace"))
        value = read_json(data, where)
        rows = value.get("keys") if isinstance(value, dict) else None
        if not isinstance(rows, list):
            raise RegistryError(f'{where}: wanted {{"keys": [...]}}; {REMEDY}.')
        return cls(_key(row, f"{where}, key {number}") for number, row in enumerate(rows, start=1))

    def to_bytes(self) -> bytes:
        """Write the ring as it is read back."""
        rows = [
            {"id": key.id, "public_key": key.public_key, "revoked": key.revoked}
            for key in self.keys
        ]
        return json.dumps({"keys": rows}, indent=2, sort_keys=True).encode() + b"\n"

    def verify(self, payload: bytes, signature: bytes, wanted: str = "") -> TrustedKey:
        """Return the key that made a signature.

        A statement names its key (``wanted``), and only that one is tried. One that names none
        was made before keys had ids, or by somebody else's tool: all keys are tried.
        """
        known = [key for key in self.keys if wanted in ("", key.id)]
        if not known:
            raise UntrustedError(
                f"The key {shown(wanted)} is not known here; known are {self._names()}; {REMEDY}."
            )
        for key in known:
            if self._verifiers[key.id](payload, signature):
                if key.revoked:
                    raise RevokedError(f"The key {key.id} was revoked; sign with another key.")
                return key
        raise UntrustedError(
            f"The signature was not made with a key that is trusted here ({self._names()})."
        )

    def _names(self) -> str:
        return ", ".join(f"{key.id} (revoked)" if key.revoked else key.id for key in self.keys)


def _key(row: Any, where: str) -> TrustedKey:
    if not isinstance(row, Mapping) or not isinstance(row.get("public_key"), str):
        raise RegistryError(f"{where}: the option public_key is missing; {REMEDY}.")
    revoked = row.get("revoked", False)
    if not isinstance(revoked, bool):
        raise RegistryError(f"{where}, revoked: found {shown(revoked)}, wanted true or false.")
    try:
        computed = key_id(row["public_key"])
    except RegistryError as error:
        raise RegistryError(f"{where}: {error}") from None
    named = row.get("id", computed)
    if named != computed:
        wish = "" if isinstance(named, str) and _ID.fullmatch(named) else " (16 hexadecimal digits)"
        raise RegistryError(
            f"{where}, id: found {shown(named)}, the key itself has the id {computed}{wish}."
        )
    return TrustedKey(computed, row["public_key"].strip() + "\n", revoked)
