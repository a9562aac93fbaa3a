# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who signs releases, and what stands beside them in the registry."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release import (
    oci,
    signature,
    statement,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import (
    MistakenError,
    RegistryError,
    UntrustedError,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.keys import KeyRing, key_id
from mlops_pipeline import signers, signing
from mlops_pipeline.config import Config, Section
from mlops_pipeline.errors import PipelineError

DIGEST = "sha256:" + "a" * 64
FILES = {"model.onnx": "sha256:" + "1" * 64}
CLAIMS = signature.Claims("plant-7", "demo", "4", "onnx", 0, "")
EXPECTED = signature.Expected("plant-7", "registry/models/demo", "demo")


@dataclass
class Registry:
    """The part of a registry that signing needs, in memory."""

    reference: str = "registry/models/demo"
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)

    def manifest(self, reference: str, limit: int = oci.MAX_MANIFEST_BYTES) -> bytes | None:
        assert limit
        return self.manifests.get(reference)

    def small_blob(self, blob: oci.Descriptor, limit: int) -> bytes:
        assert blob.size <= limit
        if blob.digest not in self.blobs:
            raise RegistryError("it is not there")
        return self.blobs[blob.digest]

    def push_blob(self, blob: oci.Descriptor, stream: Any) -> int:
        self.blobs[blob.digest] = stream.read()
        return blob.size

    def push_manifest(self, data: bytes, reference: str) -> str:
        self.manifests[reference] = data
        return oci.digest_of(data)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("keys") / "sign.key"
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path.read_text()


def config(environment: dict[str, str], **options: Any) -> Config:
    return Config(Section(options, "config.json"), environment)


def test_a_key_signs_and_its_public_half_verifies(pem: str) -> None:
    signer = signing.open_signer(config({"PIPELINE_SIGNING_KEY": pem}))
    mark = signer.sign(b"payload")
    assert signers.verified_by(signer.public_key, b"payload", mark)
    assert not signers.verified_by(signer.public_key, b"other", mark)
    assert not signers.verified_by(signer.public_key, b"payload", b"junk")
    assert signer.key_id == key_id(signer.public_key)
    # The devices' own verifier says the same.
    assert KeyRing.of(signer.public_key).verify(b"payload", mark, signer.key_id)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["openssl", "genrsa", "2048"], "not an elliptic curve key on P-256"),
        (
            ["openssl", "ecparam", "-name", "secp384r1", "-genkey", "-noout"],
            "not an elliptic curve key on P-256",
        ),
        (["echo", "junk"], "not an unencrypted private key in PEM form"),
    ],
)
def test_another_kind_of_key_is_refused(command: list[str], sentence: str) -> None:
    made = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    with pytest.raises(PipelineError, match=sentence):
        signing.open_signer(config({"PIPELINE_SIGNING_KEY": made}))


def test_a_release_is_signed_with_its_claims(pem: str) -> None:
    registry: Any = Registry()
    signer = signing.PemSigner(pem)
    ring = signing.ring_of(signer)
    assert signing.signed(registry, DIGEST, ring, EXPECTED) is None
    made = signing.sign_release(registry, DIGEST, signer, CLAIMS, now=1000.0)
    assert (made.counter, made.key_id) == (1000, signer.key_id)
    verdict = signing.signed(registry, DIGEST, ring, EXPECTED)
    assert verdict == signature.Verdict(made, signer.key_id)
    other = signature.Expected("plant-8", "registry/models/demo", "demo")
    assert signing.signed(registry, DIGEST, ring, other) is None


def test_the_signature_of_another_key_stays_beside_ours(pem: str, tmp_path: Path) -> None:
    registry: Any = Registry()
    ours = signing.PemSigner(pem)
    path = tmp_path / "k"
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    theirs = signing.PemSigner(path.read_text())
    for signer in (ours, theirs):
        signing.sign_release(registry, DIGEST, signer, CLAIMS, now=1000.0)
    for signer in (ours, theirs):
        verdict = signing.signed(registry, DIGEST, signing.ring_of(signer), EXPECTED)
        assert verdict is not None
        assert verdict.key_id == signer.key_id
    # A payload that is gone hides neither the other nor that there is one to make.
    del registry.blobs[next(iter(registry.blobs))]
    assert signing.signed(registry, DIGEST, signing.ring_of(ours), EXPECTED) is None
    assert signing.signed(registry, DIGEST, signing.ring_of(theirs), EXPECTED) is not None


def test_the_counter_goes_up_also_where_the_clock_went_back(pem: str) -> None:
    registry: Any = Registry()
    signer = signing.PemSigner(pem)
    ring = signing.ring_of(signer)
    registry.manifests["v3"] = b"the manifest of version 3"
    earlier = oci.digest_of(registry.manifests["v3"])
    assert signing.last_counter(registry, ring, EXPECTED, "4") == 0
    signing.sign_release(registry, earlier, signer, CLAIMS, now=5000.0)
    last = signing.last_counter(registry, ring, EXPECTED, "4")
    assert last == 5000
    assert signing.sign_release(registry, DIGEST, signer, CLAIMS, last, now=3000.0).counter == 5001


def test_a_signature_manifest_that_cannot_be_read_is_replaced(pem: str) -> None:
    registry: Any = Registry()
    signer = signing.PemSigner(pem)
    registry.manifests[signature.signature_tag(DIGEST)] = b"[" * 100_000
    assert signing.signed(registry, DIGEST, signing.ring_of(signer), EXPECTED) is None
    signing.sign_release(registry, DIGEST, signer, CLAIMS)
    assert signing.signed(registry, DIGEST, signing.ring_of(signer), EXPECTED) is not None


def evaluation() -> statement.Evaluation:
    return statement.Evaluation(
        candidate=DIGEST,
        project_commit="0f1e2d",
        lock="",
        data_manifest=DIGEST,
        cases="",
        thresholds={"accuracy": 0.9},
        metrics={"accuracy": 0.95},
        tolerance=1e-4,
        time="2026-01-31T12:00:00Z",
        key_id="",
    )


def test_an_evaluation_is_signed_and_named_by_the_signature(pem: str) -> None:
    registry: Any = Registry()
    signer = signing.PemSigner(pem)
    ring = signing.ring_of(signer)
    with pytest.raises(UntrustedError, match="No evaluation is stored"):
        signing.attested(registry, DIGEST, FILES, ring)
    named = signing.attest(registry, DIGEST, FILES, signer, evaluation())
    claims = replace(CLAIMS, statement=named)
    assert signing.sign_release(registry, DIGEST, signer, claims).statement == named
    found = signing.attested(registry, DIGEST, FILES, ring, named)
    assert found.evaluation == replace(evaluation(), key_id=signer.key_id)
    # Another evaluation, as well signed, is not the one that was released on.
    other = replace(evaluation(), metrics={"accuracy": 0.5})
    registry.manifests.pop(statement.attestation_tag(DIGEST))
    signing.attest(registry, DIGEST, FILES, signer, other)
    with pytest.raises(MistakenError, match="is not the one that its signature names"):
        signing.attested(registry, DIGEST, FILES, ring, named)
