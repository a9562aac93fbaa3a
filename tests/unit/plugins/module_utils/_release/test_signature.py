# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures in cosign's layout, verified with the openssl command."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release import signature
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.openssl import verifier

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def sign(key: Path, payload: bytes) -> bytes:
    return subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", key], input=payload, capture_output=True, check=True
    ).stdout


def test_the_layout_is_cosigns() -> None:
    payload = signature.build_payload("registry/models/demo", DIGEST)
    assert json.loads(payload)["critical"] == {
        "identity": {"docker-reference": "registry/models/demo"},
        "image": {"docker-manifest-digest": DIGEST},
        "type": "cosign container image signature",
    }
    assert signature.signature_tag(DIGEST) == f"sha256-{'a' * 64}.sig"
    layer = json.loads(signature.build_signature_manifest(payload, b"mark").to_bytes())["layers"][0]
    assert layer["mediaType"] == "application/vnd.dev.cosign.simplesigning.v1+json"
    assert base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"]) == b"mark"


def test_a_signature_reads_back() -> None:
    manifest = signature.build_signature_manifest(b"payload", b"mark").to_bytes()
    ((blob, mark),) = signature.signatures(manifest)
    assert (blob.size, mark) == (len(b"payload"), b"mark")


def test_openssl_accepts_the_right_key_only(keys: tuple[Path, str], tmp_path: Path) -> None:
    key, public = keys
    payload = signature.build_payload("r/m", DIGEST)
    mark = sign(key, payload)
    verify = verifier(public)
    assert verify(payload, mark)
    assert not verify(payload + b" ", mark)
    assert not verify(payload, mark[:-1] + bytes([mark[-1] ^ 1]))
    assert not verify(payload, b"")
    subprocess.run(
        ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", tmp_path / "k"],
        check=True,
        capture_output=True,
    )
    assert not verify(payload, sign(tmp_path / "k", payload))


def test_a_key_that_is_none_is_refused() -> None:
    with pytest.raises(RegistryError, match="The public key of releases is not in PEM form"):
        verifier("ssh-ed25519 AAAA")
    broken = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
    with pytest.raises(RegistryError, match="cannot be read by openssl"):
        verifier(broken)(b"payload", b"mark")


def test_a_host_without_openssl_says_so(keys: tuple[Path, str]) -> None:
    with pytest.raises(RegistryError, match="The command /nowhere/openssl cannot be run"):
        verifier(keys[1], "/nowhere/openssl")(b"payload", b"mark")


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (b"{", "carries no readable statement"),
        (b'{"critical": 7}', "carries no readable statement"),
        (signature.build_payload("r/m", OTHER), f"speaks of {OTHER}"),
    ],
)
def test_a_statement_about_something_else_is_refused(payload: bytes, sentence: str) -> None:
    with pytest.raises(RegistryError, match=sentence):
        signature.check_payload(payload, DIGEST)
