# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The signed evaluation of a release: in-toto's statement in a DSSE envelope."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release import statement
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import (
    MistakenError,
    RegistryError,
    RevokedError,
    UntrustedError,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.keys import (
    KeyRing,
    TrustedKey,
    key_id,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.oci import digest_of

from .test_signature import sign

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
FILES = {"model.onnx": "sha256:" + "1" * 64, "golden.json": "sha256:" + "2" * 64}
EVALUATION = statement.Evaluation(
    candidate="sha256:" + "3" * 64,
    project_commit="0f1e2d",
    lock="sha256:" + "4" * 64,
    data_manifest="sha256:" + "5" * 64,
    cases="",
    thresholds={"accuracy": 0.93},
    metrics={"accuracy": 0.97, "rows": 114},
    tolerance=1e-4,
    time="2026-01-31T12:00:00Z",
    key_id="",
)

Signed = Callable[..., bytes]


@pytest.fixture
def signed(keys: tuple[Path, str]) -> Signed:
    """Make an envelope that is signed by the trusted key, changed as asked."""

    def make(
        digest: str = DIGEST, files: dict[str, str] | None = None, junk: int = 0, **changed: Any
    ) -> bytes:
        evaluation = replace(EVALUATION, **{"key_id": key_id(keys[1]), **changed})
        payload = statement.build_statement(
            "registry/models/demo", digest, FILES if files is None else files, evaluation
        )
        mark = sign(keys[0], statement.pae(payload))
        marks = [(key_id(keys[1]), b"junk")] * junk + [(key_id(keys[1]), mark)]
        return statement.build_envelope(payload, marks)

    return make


@pytest.mark.parametrize(
    "champion",
    [
        None,
        statement.Champion("", "", {}, 0.0),
        statement.Champion(OTHER, "4", {"accuracy": 0.96}, 0.01),
    ],
)
def test_the_release_that_was_beaten_is_part_of_it(champion: statement.Champion | None) -> None:
    said = statement.build_statement("r", DIGEST, FILES, replace(EVALUATION, champion=champion))
    assert statement.parse_statement(said).evaluation.champion == champion
    assert (b'"champion"' in said) is (champion is not None)


def test_what_is_signed_is_encoded_as_dsse_says() -> None:
    # The example of the DSSE protocol's own text.
    assert statement.pae(b"hello world", "http://example.com/HelloWorld") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_a_statement_reads_back(signed: Signed, keys: tuple[Path, str]) -> None:
    found = statement.check_statement(signed(), KeyRing.of(keys[1]), DIGEST, FILES)
    assert found.evaluation == replace(EVALUATION, key_id=key_id(keys[1]))
    assert found.subjects == {"registry/models/demo": DIGEST, **FILES}


def test_the_form_is_in_totos(signed: Signed) -> None:
    envelope = json.loads(signed())
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    document = json.loads(base64.b64decode(envelope["payload"]))
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["subject"][0] == {
        "name": "registry/models/demo",
        "digest": {"sha256": "a" * 64},
    }
    assert statement.attestation_tag(DIGEST) == f"sha256-{'a' * 64}.att"
    layer = json.loads(statement.build_attestation_manifest(signed()).to_bytes())["layers"][0]
    assert layer["mediaType"] == "application/vnd.dsse.envelope.v1+json"


def test_one_bad_signature_hides_no_good_one(signed: Signed, keys: tuple[Path, str]) -> None:
    ring = KeyRing.of(keys[1])
    assert statement.check_statement(signed(junk=3), ring, DIGEST, FILES)
    with pytest.raises(UntrustedError, match="was not made with a key that is trusted here"):
        statement.check_statement(signed(junk=4), ring, DIGEST, FILES)


def test_an_envelope_that_is_unreadable_hides_no_good_one(
    signed: Signed, keys: tuple[Path, str]
) -> None:
    ring = KeyRing.of(keys[1])
    assert statement.find_statement([b"[" * 100_000, signed()], ring, DIGEST, FILES)
    with pytest.raises(RegistryError, match="nested too deep"):
        statement.find_statement([b"[" * 100_000], ring, DIGEST, FILES)
    with pytest.raises(UntrustedError, match="No evaluation is stored"):
        statement.find_statement([], ring, DIGEST, FILES)


def test_an_evaluation_of_something_else_is_refused(signed: Signed, keys: tuple[Path, str]) -> None:
    ring = KeyRing.of(keys[1])
    with pytest.raises(MistakenError, match=f"speaks of {OTHER}"):
        statement.check_statement(signed(OTHER), ring, DIGEST, FILES)
    with pytest.raises(MistakenError, match=r"The file model.onnx .* not the one that was eval"):
        statement.check_statement(signed(), ring, DIGEST, {**FILES, "model.onnx": OTHER})
    with pytest.raises(MistakenError, match=r"The file more.bin .* evaluated was none"):
        statement.check_statement(signed(), ring, DIGEST, {**FILES, "more.bin": OTHER})
    with pytest.raises(MistakenError, match="is not the one that its signature names"):
        statement.check_statement(signed(), ring, DIGEST, FILES, named=OTHER)
    right = digest_of(statement.parse_envelope(signed()).payload)
    assert statement.check_statement(signed(), ring, DIGEST, FILES, named=right)


def test_the_signer_is_the_one_that_is_named(signed: Signed, keys: tuple[Path, str]) -> None:
    with pytest.raises(MistakenError, match="names the signer 0000000000000000; it was signed by"):
        statement.check_statement(signed(key_id="0" * 16), KeyRing.of(keys[1]), DIGEST, FILES)


def test_a_revoked_key_does_not_vouch(signed: Signed, keys: tuple[Path, str]) -> None:
    ring = KeyRing([TrustedKey(key_id(keys[1]), keys[1], revoked=True)])
    with pytest.raises(RevokedError, match="was revoked"):
        statement.check_statement(signed(), ring, DIGEST, FILES)


def test_a_payload_that_was_changed_is_refused(signed: Signed, keys: tuple[Path, str]) -> None:
    envelope = json.loads(signed())
    payload = base64.b64decode(envelope["payload"]).replace(b"0.97", b"0.99")
    envelope["payload"] = base64.b64encode(payload).decode()
    with pytest.raises(UntrustedError, match="The evaluation of the release is not to be trusted"):
        statement.check_statement(json.dumps(envelope).encode(), KeyRing.of(keys[1]), DIGEST, FILES)


def document(**changed: Any) -> bytes:
    value = json.loads(statement.build_statement("registry/models/demo", DIGEST, FILES, EVALUATION))
    predicate = changed.pop("predicate", {})
    value.update(changed)
    value["predicate"].update(predicate)
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (b"{" * 10, "statement: this is not JSON"),
        (b'{"a":' * 50_000, "statement: this is JSON that is nested too deep"),
        (b" " * 300_000, "larger than 262144 bytes"),
        (document(_type="x"), "this is not an in-toto statement"),
        (document(predicateType="x\x1b]0;"), r"found the predicate 'x\\x1b\]0;'"),
        (document(subject=[]), "wanted a list of what the statement is about"),
        (document(subject=[{"name": "x"}] * 600), "wanted a list of what the statement is about"),
        (document(subject=[7]), "subject 1: found 7, wanted a mapping"),
        (document(subject=[{"name": "x\n", "digest": {}}]), "subject 1: found 'x"),
        (document(subject=[{"name": "x", "digest": {}}]), "subject 1: Found sha256:None"),
        (
            document(subject=[{"name": "x", "digest": {"sha256": "a" * 64}}] * 2),
            "subject 2: x is there twice",
        ),
        (document(predicate={"candidate": None}), "candidate: Found None, wanted a digest"),
        (document(predicate={"metrics": {"a": "1"}}), "metrics, a: found 1, wanted a finite"),
        (document(predicate={"metrics": {"a": True}}), "metrics, a: found True"),
        (document(predicate={"metrics": {str(n): n for n in range(201)}}), "201 figures"),
        (document(predicate={"tolerance": float("nan")}), "NaN is no number of JSON"),
        (document(predicate={"tolerance": 10**400}), "wanted a finite number"),
        (document(predicate={"time": "yesterday"}), "time: found yesterday, wanted 2026-01-31"),
        (document(predicate={"project": 7}), "project: found 7, wanted a mapping"),
        (document(predicate={"signer": "x" * 300}), "wanted a line of at most 200"),
    ],
)
def test_a_statement_is_read_strictly(payload: bytes, sentence: str) -> None:
    with pytest.raises(RegistryError, match=sentence):
        statement.parse_statement(payload)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b" " * 600_000, "larger than 524288 bytes"),
        (b"[]", "found the type"),
        (b'{"payloadType": "text/plain"}', "found the type text/plain, wanted application/vnd.in"),
        (b'{"payloadType": "application/vnd.in-toto+json", "payload": "!"}', "is not base64 of"),
        (b'{"payloadType": "application/vnd.in-toto+json", "payload": 7}', "is not base64 of"),
    ],
)
def test_an_envelope_is_read_strictly(data: bytes, sentence: str) -> None:
    with pytest.raises(RegistryError, match=sentence):
        statement.parse_envelope(data)


def test_signatures_of_an_envelope_that_cannot_count_are_left_out() -> None:
    envelope = json.loads(statement.build_envelope(b"{}", [("a", b"mark")]))
    envelope["signatures"] = [7, {}, {"sig": "QQ" * 5000}, {"keyid": 7, "sig": "QUJD"}]
    found = statement.parse_envelope(json.dumps(envelope).encode())
    assert found.signatures == (("", b"ABC"),)


def test_a_statement_that_could_not_be_read_is_not_written() -> None:
    with pytest.raises(RegistryError, match="Infinity is no number of JSON"):
        statement.build_statement("r/m", DIGEST, FILES, replace(EVALUATION, tolerance=float("inf")))


def test_of_many_attestations_few_small_ones_are_looked_at() -> None:
    row = {"mediaType": statement.ENVELOPE_TYPE, "digest": DIGEST, "size": 300}
    config = {"mediaType": "a/b", "digest": DIGEST, "size": 2}
    large = {**row, "size": 2**30}
    manifest = {"schemaVersion": 2, "config": config, "layers": [row] * 100 + [large] * 100}
    assert len(statement.attestations(json.dumps(manifest).encode())) == 4
