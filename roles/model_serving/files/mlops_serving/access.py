# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who asks: API tokens and client certificates of declared clients.

One format serves devices, people and teams. A token is ``<name>.<secret>``; it is sent as
``Authorization: Bearer <name>.<secret>``, or name and secret as user and password of the Basic
scheme. Only a salted hash of the secret is kept, ``sha256:<salt>:<hash>`` in hexadecimal, where
hash is SHA-256 over the salt's bytes followed by the secret. Secrets are made here with 256 random
bits, so that a slow hash would add nothing.

    python3 access.py NAME      makes a token and prints it with what goes into the inventory
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
HASH = re.compile(r"sha256:([0-9a-f]{16,64}):([0-9a-f]{64})")
NOBODY = "anonymous"


class AccessError(Exception):
    """The file of clients cannot be used; the message is a sentence for people."""


def hash_secret(secret: str, salt: bytes) -> str:
    """Write down a secret so that it can be recognised and not read."""
    return f"sha256:{salt.hex()}:{hashlib.sha256(salt + secret.encode()).hexdigest()}"


def make_token(name: str) -> tuple[str, str]:
    """Make a token for a client and the hash that is kept of it."""
    secret = secrets.token_urlsafe(32)
    return f"{name}.{secret}", hash_secret(secret, secrets.token_bytes(16))


@dataclass(frozen=True)
class Client:
    """Somebody who may ask."""

    name: str
    token_hash: str = ""
    subject: str = ""


class Clients:
    """Everybody who may ask; nobody declared means that everybody may.

    ``front`` is the SHA-256, in hexadecimal, of what nginx puts before the subject of a
    certificate: whoever else is on the host could send a subject, too.
    """

    def __init__(self, clients: list[Client], front: str = "") -> None:
        self._front = front
        self._by_name = {client.name: client for client in clients if client.token_hash}
        self._by_subject = {client.subject: client for client in clients if client.subject}
        self.names = sorted({client.name for client in clients})

    @property
    def required(self) -> bool:
        """Whether a request has to say who asks."""
        return bool(self.names)

    def identify(self, authorization: str | None, subject: str | None) -> str | None:
        """Name the client, or None if it is none of the declared ones."""
        if not self.required:
            return NOBODY
        proven = self._proven(subject or "")
        if proven in self._by_subject:
            return self._by_subject[proven].name
        name, secret = _credentials(authorization or "")
        client = self._by_name.get(name)
        # A name that is not there takes as long as one that is.
        kept = client.token_hash if client else hash_secret("", b"\0" * 16)
        salt = bytes.fromhex(kept.split(":")[1])
        same = hmac.compare_digest(kept, hash_secret(secret, salt))
        return name if client and same else None

    def _proven(self, header: str) -> str:
        """The subject that nginx tells; empty where it is anybody else who does."""
        shown, _space, subject = header.partition(" ")
        found = hashlib.sha256(shown.encode()).hexdigest()
        return subject if self._front and hmac.compare_digest(found, self._front) else ""


def _credentials(authorization: str) -> tuple[str, str]:
    scheme, _space, value = authorization.strip().partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        name, _dot, secret = value.partition(".")
        return name, secret
    if scheme.lower() == "basic":
        try:
            text = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return "", ""
        name, _colon, secret = text.partition(":")
        return name, secret
    return "", ""


def _client(entry: Any, number: int) -> Client:
    if not isinstance(entry, dict):
        raise AccessError(f"Client {number} is not an object.")
    client = Client(
        str(entry.get("name", "")),
        str(entry.get("token_hash") or ""),
        str(entry.get("subject") or ""),
    )
    if not NAME.fullmatch(client.name):
        raise AccessError(
            f"Client {number} has the name {client.name!r}, "
            "wanted letters, digits, - and _, 64 at most."
        )
    if client.token_hash and not HASH.fullmatch(client.token_hash):
        raise AccessError(
            f"The token_hash of client {client.name} is not sha256:<salt>:<hash> in hexadecimal."
        )
    if not client.token_hash and not client.subject:
        raise AccessError(f"Client {client.name} has neither token_hash nor subject.")
    return client


def read_clients(path: Path | None) -> Clients:
    """Read the file of clients that the role places."""
    if path is None:
        return Clients([])
    try:
        page = json.loads(path.read_text(encoding="utf-8"))
        clients = [_client(entry, number) for number, entry in enumerate(page["clients"], start=1)]
        front = str(page.get("front") or "")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AccessError(f"The clients in {path} cannot be read: {error}.") from error
    return Clients(clients, front)


def main(arguments: list[str]) -> int:
    """Make a token."""
    if len(arguments) != 1 or not NAME.fullmatch(arguments[0]):
        print("usage: access.py NAME (letters, digits, - and _)", file=sys.stderr)
        return 2
    token, kept = make_token(arguments[0])
    print(f"token, for the client alone: {token}")
    print(f"for model_serving_clients:   {{name: {arguments[0]}, token_hash: '{kept}'}}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
