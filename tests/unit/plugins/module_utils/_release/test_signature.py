# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures in cosign's layout, verified with the openssl command."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release import signature
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import (
    MistakenError,
    RegistryError,
    UntrustedError,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.keys import KeyRing
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
    # The command itself passes over what follows a signature of the greatest length.
    for _attempt in range(64):
        mark = sign(key, payload)
        if len(mark) == 72:
            break
    assert not verify(payload, mark + b"\0")
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


CLAIMS = signature.Claims(
    "plant-7", "demo", "3", "onnx", 1_800_000_000, "0123456789abcdef", statement=OTHER
)
EXPECTED = signature.Expected("plant-7", "registry:5443/models/demo", "demo")
REFERENCE = "registry:5443/models/demo"


def test_claims_read_back() -> None:
    payload = signature.build_payload(REFERENCE, DIGEST, CLAIMS)
    assert signature.read_claims(payload) == CLAIMS
    assert signature.check_payload(payload, DIGEST, EXPECTED, fresh=True) == CLAIMS
    profile = replace(CLAIMS, statement="", reference_profile=DIGEST)
    assert signature.read_claims(signature.build_payload(REFERENCE, DIGEST, profile)) == profile


def test_a_statement_from_before_claims_counts_only_on_the_own_disk() -> None:
    old = signature.build_payload(REFERENCE, DIGEST)
    assert signature.read_claims(old) is None
    assert signature.check_payload(old, DIGEST, EXPECTED, fresh=False) is None
    with pytest.raises(MistakenError, match="does not say for which site and model it was made"):
        signature.check_payload(old, DIGEST, EXPECTED, fresh=True)


@pytest.mark.parametrize(
    ("reference", "changed", "sentence"),
    [
        (REFERENCE, {"site": "plant-8"}, "signed for the site plant-8, wanted plant-7"),
        (REFERENCE, {"model_name": "other"}, "signed for the model other, wanted demo"),
        (REFERENCE, {"kind": "gguf"}, "of the kind gguf; served here: onnx"),
        (
            "registry:5443/models/other",
            {},
            "signed for the repository models/other, wanted models/demo",
        ),
        ("registry:5443/x/models/demo", {}, "for the repository x/models/demo"),
        ("registry:5443/demo", {}, "for the repository demo"),
    ],
)
def test_what_was_signed_for_something_else_is_refused(
    reference: str, changed: dict[str, Any], sentence: str
) -> None:
    payload = signature.build_payload(reference, DIGEST, replace(CLAIMS, **changed))
    for fresh in (True, False):
        with pytest.raises(MistakenError, match=sentence):
            signature.check_payload(payload, DIGEST, EXPECTED, fresh)


def test_a_registry_may_move_and_a_tag_says_nothing() -> None:
    for reference in (
        "elsewhere.example/models/demo",
        f"r:1/models/demo@{DIGEST}",
        "r/models/demo:v3",
    ):
        payload = signature.build_payload(reference, DIGEST, CLAIMS)
        assert signature.check_payload(payload, DIGEST, EXPECTED, fresh=True) == CLAIMS


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (signature.SITE, None, "org.mlops.site as None"),
        (signature.SITE, "a\nb", "org.mlops.site as 'a\\\\nb'"),
        (signature.MODEL_NAME, "../etc", "org.mlops.model.name as ../etc"),
        (signature.MODEL_NAME, "x" * 5000, r"x\.\.\., wanted letters"),
        (signature.MODEL_VERSION, 3, "org.mlops.model.version as 3"),
        (signature.MODEL_KIND, "ONNX", "a kind of model such as onnx"),
        (signature.COUNTER, True, "wanted a whole number"),
        (signature.COUNTER, 0, "wanted a whole number"),
        (signature.COUNTER, 2**53, "wanted a whole number"),
        (signature.COUNTER, 1.5, "wanted a whole number"),
        (signature.COUNTER, "007", "wanted a whole number"),
        (signature.COUNTER, None, "wanted a whole number"),
        (signature.KEY_ID, "ABC", "16 hexadecimal digits"),
        (signature.STATEMENT, "md5:1", "org.mlops.statement: Found md5:1, wanted a digest"),
        (signature.REFERENCE_PROFILE, 7, "org.mlops.reference_profile: Found 7"),
    ],
)
def test_claims_are_read_strictly(name: str, value: Any, sentence: str) -> None:
    document = json.loads(signature.build_payload(REFERENCE, DIGEST, CLAIMS))
    document["optional"][name] = value
    if value is None:
        del document["optional"][name]
    with pytest.raises(MistakenError, match=sentence):
        signature.check_payload(json.dumps(document).encode(), DIGEST, EXPECTED, fresh=True)


def test_the_counter_may_be_a_text_as_cosign_writes_it() -> None:
    document = json.loads(signature.build_payload(REFERENCE, DIGEST, CLAIMS))
    document["optional"][signature.COUNTER] = "1800000000"
    payload = json.dumps(document).encode()
    assert signature.check_payload(payload, DIGEST, EXPECTED, fresh=True) == CLAIMS


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 200_000,
        b'{"critical":' * 100_000,
        b'{"critical": 1, "critical": 2}',
        b"\xff\xfe",
        b"7",
        b'{"critical": {"identity": 7, "image": {}, "type": ""}}',
    ],
    ids=["deep list", "deep mapping", "name twice", "no text", "a number", "no reference"],
)
def test_what_cannot_be_read_is_refused_with_a_sentence(payload: bytes) -> None:
    with pytest.raises(RegistryError, match="carries no readable statement"):
        signature.check_payload(payload, DIGEST)
    assert signature.named_key(payload) == ""


def test_optional_that_is_no_mapping_is_refused() -> None:
    document = json.loads(signature.build_payload(REFERENCE, DIGEST, CLAIMS))
    document["optional"] = [1]
    with pytest.raises(MistakenError, match="no readable claims"):
        signature.check_payload(json.dumps(document).encode(), DIGEST)


def test_a_manifest_named_otherwise_than_its_signature_is_refused() -> None:
    signature.check_names(CLAIMS, "demo", "3")
    with pytest.raises(MistakenError, match="signed as demo 3, its manifest says demo 4"):
        signature.check_names(CLAIMS, "demo", "4")


def test_an_older_counter_needs_to_be_asked_for() -> None:
    highest = CLAIMS.counter
    newer = replace(CLAIMS, counter=highest + 1)
    older = replace(CLAIMS, counter=highest - 1)
    assert signature.check_counter(newer, highest) == highest + 1
    assert signature.check_counter(CLAIMS, highest) == highest
    with pytest.raises(MistakenError, match=r"going back has to be asked for \(rollback\)"):
        signature.check_counter(older, highest)
    assert signature.check_counter(older, highest, rollback=True) == highest


def test_a_counter_never_goes_back_with_the_clock() -> None:
    assert signature.next_counter(1000.9, 5) == 1000
    assert signature.next_counter(3.0, 5) == 6
    assert signature.next_counter(5.0, 5) == 6
    with pytest.raises(RegistryError, match="There is no counter after"):
        signature.next_counter(1.0, 2**53 - 1)


def layers(count: int, **changed: Any) -> bytes:
    row = {
        "mediaType": signature.PAYLOAD_TYPE,
        "digest": DIGEST,
        "size": 300,
        "annotations": {signature.SIGNATURE: base64.b64encode(b"mark").decode()},
    }
    config = {"mediaType": "a/b", "digest": DIGEST, "size": 2}
    document = {"schemaVersion": 2, "config": config, "layers": [{**row, **changed}] * count}
    return json.dumps(document).encode()


def test_of_a_hundred_signatures_four_are_looked_at() -> None:
    assert len(list(signature.signatures(layers(100)))) == signature.MAX_SIGNATURES == 4


@pytest.mark.parametrize(
    "changed",
    [
        {"size": 16 * 1024 + 1},
        {"mediaType": "text/plain"},
        {"annotations": {}},
        {"annotations": {signature.SIGNATURE: "!!!"}},
        {"annotations": {signature.SIGNATURE: "\u00e9"}},
        {"annotations": {signature.SIGNATURE: "QQ" * 4000}},
    ],
    ids=["large payload", "other type", "no mark", "no base64", "no ascii", "large mark"],
)
def test_entries_that_cannot_count_are_not_fetched(changed: dict[str, Any]) -> None:
    assert list(signature.signatures(layers(3, **changed))) == []


def test_a_manifest_with_thousands_of_entries_is_refused() -> None:
    with pytest.raises(RegistryError, match="lists 18600 layers, at most 512 are read"):
        list(signature.signatures(layers(18600)))


def test_a_fresh_signature_stands_beside_the_newest_of_the_others() -> None:
    stored: list[Any] = []
    for number in range(7):
        payload = b"payload %d" % number
        manifest = signature.build_signature_manifest(payload, b"mark %d" % number, stored)
        stored = list(manifest.layers)
    marks = [mark for _layer, mark in signature.signatures(manifest.to_bytes())]
    assert marks == [b"mark 6", b"mark 5", b"mark 4", b"mark 3"]


def ring_and_claims(key: Path, public: str) -> tuple[KeyRing, signature.Claims]:
    ring = KeyRing.of(public)
    return ring, replace(CLAIMS, key_id=ring.keys[0].id)


def test_a_bad_signature_does_not_hide_a_good_one(keys: tuple[Path, str]) -> None:
    ring, claims = ring_and_claims(*keys)
    good = signature.build_payload(REFERENCE, DIGEST, claims)
    other = signature.build_payload(REFERENCE, OTHER, claims)
    newer = signature.build_payload(REFERENCE, DIGEST, replace(claims, counter=claims.counter + 9))
    entries = [
        (b"[" * 100_000, b"mark"),
        (good, b"mark"),
        (other, sign(keys[0], other)),
        (good, sign(keys[0], good)),
    ]
    verdict = signature.judge(entries, DIGEST, ring, EXPECTED, fresh=True)
    assert verdict == signature.Verdict(claims, claims.key_id)
    entries.append((newer, sign(keys[0], newer)))
    found = signature.judge(entries, DIGEST, ring, EXPECTED, fresh=True).claims
    assert found is not None
    assert found.counter == claims.counter + 9


def test_why_no_signature_counts_is_said(keys: tuple[Path, str]) -> None:
    ring, claims = ring_and_claims(*keys)
    with pytest.raises(UntrustedError, match="is not signed"):
        signature.judge([], DIGEST, ring, EXPECTED)
    other = signature.build_payload(REFERENCE, OTHER, claims)
    entries = [(b"junk", b"mark"), (other, sign(keys[0], other))]
    with pytest.raises(MistakenError, match=f"speaks of {OTHER}"):
        signature.judge(entries, DIGEST, ring, EXPECTED)
    with pytest.raises(UntrustedError, match="was not made with a key that is trusted here"):
        signature.judge(entries[:1], DIGEST, ring, EXPECTED)
