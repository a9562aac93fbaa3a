# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys, signatures and documents of a site that does not exist, for tests of what devices believe.

Everything is signed and verified in this process, which is a thousand times as fast as the openssl
command; ``tests/benchmarks/channel_traces.py`` proves on 2,000 cases that both say the same.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.documents import (
    Channel,
    Role,
    Root,
    Signed,
    Target,
    build_signatures,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.keys import key_id
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SITE, RING, CLASS = "site-of-the-test", "ring_canary", "arm64-4gib"
NOW = 1_800_000_000
WEEK, YEAR = 7 * 86400, 365 * 86400
ALGORITHM = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True)
class Key:
    """A key pair."""

    private: ec.EllipticCurvePrivateKey
    public: str
    id: str

    @classmethod
    def make(cls) -> Key:
        """Return a fresh one."""
        return cls.of(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def of(cls, private: ec.EllipticCurvePrivateKey) -> Key:
        """Return the pair of a private key."""
        public = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return cls(private, public.decode(), key_id(public.decode()))

    def sign(self, data: bytes) -> bytes:
        """Sign literal bytes."""
        return self.private.sign(data, ALGORITHM)


@functools.lru_cache(maxsize=512)
def _loaded(public_key: str) -> ec.EllipticCurvePublicKey | None:
    try:
        loaded = serialization.load_pem_public_key(public_key.encode())
    except (ValueError, UnsupportedAlgorithm):
        return None
    return loaded if isinstance(loaded, ec.EllipticCurvePublicKey) else None


def verify(public_key: str, payload: bytes, signature: bytes) -> bool:
    """Say in this process what the openssl command says."""
    key = _loaded(public_key)
    if key is None:
        return False
    try:
        key.verify(signature, payload, ALGORITHM)
    except InvalidSignature:
        return False
    return True


def signed(data: bytes, keys: Sequence[Key]) -> Signed:
    """Return a document with the signatures of some keys."""
    return Signed(data, build_signatures([(key.id, key.sign(data)) for key in keys]))


def role(keys: Sequence[Key], threshold: int = 1) -> Role:
    """Return the role that some keys have."""
    return Role(tuple(key.id for key in keys), threshold)


def root(
    version: int,
    root_keys: Sequence[Key],
    channel_keys: Sequence[Key],
    *,
    threshold: int = 1,
    channel_threshold: int = 1,
    **changed: Any,
) -> Root:
    """Return a root document."""
    fields: dict[str, Any] = {
        "site": SITE,
        "version": version,
        "issued": NOW,
        "expires": NOW + YEAR,
        "keys": {key.id: key.public for key in (*root_keys, *channel_keys)},
        "root": role(root_keys, threshold),
        "channel": role(channel_keys, channel_threshold),
    }
    return Root(**{**fields, **changed})


def target(**changed: Any) -> Target:
    """Return what is wanted of one model."""
    fields: dict[str, Any] = {
        "model": "defects",
        "digest": "sha256:" + "a" * 64,
        "size": 1000,
        "counter": 7,
        "minimum_counter": 3,
        "step": "activate",
        "rollout": "defects-7",
        "generation": 1,
    }
    return Target(**{**fields, **changed})


def channel(sequence: int, *targets: Target, **changed: Any) -> Channel:
    """Return a channel document."""
    fields: dict[str, Any] = {
        "site": SITE,
        "ring": RING,
        "device_classes": (CLASS,),
        "sequence": sequence,
        "issued": NOW,
        "expires": NOW + WEEK,
        "root_version": 1,
        "next_poll": 300,
        "models": targets or (target(),),
    }
    return Channel(**{**fields, **changed})
