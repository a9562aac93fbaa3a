# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ring of keys: ids, overlap, revocation, and every way in which it can be wrong."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import (
    RegistryError,
    RevokedError,
    UntrustedError,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.keys import (
    KeyRing,
    TrustedKey,
    key_id,
)

from .test_signature import sign


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A second key."""
    path = tmp_path_factory.mktemp("keys") / "second.key"
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    done = subprocess.run(
        ["openssl", "ec", "-in", path, "-pubout"], check=True, capture_output=True, text=True
    )
    return path, done.stdout


def test_the_id_is_the_start_of_the_digest_of_the_key(keys: tuple[Path, str]) -> None:
    der = subprocess.run(
        ["openssl", "ec", "-in", keys[0], "-pubout", "-outform", "DER"],
        check=True,
        capture_output=True,
    ).stdout
    assert key_id(keys[1]) == hashlib.sha256(der).hexdigest()[:16]
    assert key_id(keys[1].replace("\n", "\r\n")) == key_id(keys[1])


def test_two_keys_are_trusted_at_a_time(keys: tuple[Path, str], other: tuple[Path, str]) -> None:
    ring = KeyRing.of(keys[1], other[1])
    for key, public in (keys, other):
        mark = sign(key, b"payload")
        assert ring.verify(b"payload", mark).id == key_id(public)
        assert ring.verify(b"payload", mark, key_id(public)).id == key_id(public)


def test_only_the_key_that_is_named_is_tried(
    keys: tuple[Path, str], other: tuple[Path, str]
) -> None:
    ring = KeyRing.of(keys[1], other[1])
    mark = sign(keys[0], b"payload")
    with pytest.raises(UntrustedError, match="was not made with a key that is trusted here"):
        ring.verify(b"payload", mark, key_id(other[1]))
    with pytest.raises(UntrustedError, match="The key 0000000000000000 is not known here"):
        ring.verify(b"payload", mark, "0" * 16)


def test_a_revoked_key_is_named(keys: tuple[Path, str], other: tuple[Path, str]) -> None:
    gone = TrustedKey(key_id(keys[1]), keys[1], revoked=True)
    ring = KeyRing([gone, TrustedKey(key_id(other[1]), other[1])])
    mark = sign(keys[0], b"payload")
    for wanted in ("", gone.id):
        with pytest.raises(RevokedError, match=f"The key {gone.id} was revoked"):
            ring.verify(b"payload", mark, wanted)
    # Whoever only claims that key is a stranger, not somebody whose key was revoked.
    with pytest.raises(UntrustedError, match=rf"{gone.id} \(revoked\)"):
        ring.verify(b"payload", b"junk", gone.id)
    assert ring.verify(b"payload", sign(other[0], b"payload")).id == key_id(other[1])


def test_a_ring_reads_back(keys: tuple[Path, str], other: tuple[Path, str]) -> None:
    ring = KeyRing(
        [TrustedKey(key_id(keys[1]), keys[1]), TrustedKey(key_id(other[1]), other[1], True)]
    )
    assert KeyRing.parse(ring.to_bytes(), "keys.json").keys == ring.keys


def test_the_key_of_an_older_installation_is_a_ring_of_one(keys: tuple[Path, str]) -> None:
    ring = KeyRing.parse(keys[1].encode(), "release.pub")
    assert [key.id for key in ring.keys] == [key_id(keys[1])]


def test_the_id_may_be_left_out(keys: tuple[Path, str]) -> None:
    data = json.dumps({"keys": [{"public_key": keys[1]}]}).encode()
    assert KeyRing.parse(data, "k").keys[0].id == key_id(keys[1])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda _pem: "{", "k: this is not JSON"),
        (lambda _pem: "[" * 50_000, "k: this is JSON that is nested too deep"),
        (lambda _pem: " " * 70_000, "k: this is larger than 65536 bytes"),
        (lambda _pem: "[]", r"k: wanted .*; the variable model_serving_release_keys lists them"),
        (lambda _pem: '{"keys": []}', "No key for releases is known here"),
        (lambda _pem: '{"keys": [7]}', "k, key 1: the option public_key is missing"),
        (lambda _pem: '{"keys": [{"public_key": "ssh-rsa A"}]}', "k, key 1: Found 'ssh-rsa A'"),
        (
            lambda pem: json.dumps({"keys": [{"public_key": pem, "revoked": "no"}]}),
            "k, key 1, revoked: found no, wanted true or false",
        ),
        (
            lambda pem: json.dumps({"keys": [{"public_key": pem, "id": "f" * 16}]}),
            "k, key 1, id: found ffffffffffffffff, the key itself has the id",
        ),
        (
            lambda pem: json.dumps({"keys": [{"public_key": pem}] * 2}),
            "is listed twice",
        ),
        (
            lambda _pem: "-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----\n",
            "wanted a public key in PEM form",
        ),
    ],
)
def test_a_ring_that_is_wrong_is_refused(
    keys: tuple[Path, str], make: Callable[[str], str], sentence: str
) -> None:
    with pytest.raises(RegistryError, match=sentence):
        KeyRing.parse(make(keys[1]).encode(), "k")


def test_many_keys_are_refused() -> None:
    with pytest.raises(RegistryError, match="Found 17 keys for releases, at most 16"):
        KeyRing(TrustedKey(f"{number:016x}", "") for number in range(17))
