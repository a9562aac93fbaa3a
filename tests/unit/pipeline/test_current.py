# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the model registry says is a hint: only what the site has signed for this counts."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release import oci, release, signature
from mlops_pipeline import current, signing
from mlops_pipeline.config import Config, Section
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.timing import Timings

from .test_signing import Registry

GOLDEN = b'{"cases": []}'


def fresh(place: Path) -> signing.PemSigner:
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(place)]
    subprocess.run(command, check=True, capture_output=True)
    return signing.PemSigner(place.read_text())


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> signing.PemSigner:
    return fresh(tmp_path_factory.mktemp("keys") / "site.key")


class Site:
    """A registry with one release, and a model registry that names it."""

    def __init__(self, signer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.registry: Any = Registry()
        self.signer = signer
        files = {
            name: oci.Descriptor.of(release.MEDIA_TYPES[name], data)
            for name, data in {
                "model.onnx": b"model",
                "config.json": b"{}",
                "golden.json": GOLDEN,
            }.items()
        }
        self.registry.blobs[files["golden.json"].digest] = GOLDEN
        built = release.build_manifest(files, "demo", "4", "run1", "2026-01-02T03:04:05Z")
        self.manifest = built.to_bytes()
        self.digest = oci.digest_of(self.manifest)
        self.registry.manifests[self.digest] = self.manifest
        self.tags = [{"key": "mlops.release_digest", "value": self.digest}]
        self.keys = [{"public_key": signer.public_key}]
        monkeypatch.setattr(
            current, "aliased_version", lambda *_: {"version": "99", "tags": self.tags}
        )
        monkeypatch.setattr(current, "open_registry", lambda *_: self.registry)
        small = Registry.small_blob
        monkeypatch.setattr(
            Registry, "small_blob", lambda one, blob, limit=1 << 20: small(one, blob, limit)
        )

    def sign(self, signer: Any = None, **claims: Any) -> None:
        said = {"site": "plant-7", "model_name": "demo", "model_version": "4", "kind": "onnx"}
        full = signature.Claims(**{**said, **claims}, counter=0, key_id="")
        signing.sign_release(self.registry, self.digest, signer or self.signer, full, now=1000.0)

    def ask(self, golden: Path | None = None, **more: Any) -> dict[str, Any]:
        options = {"model_name": "demo", "site": "plant-7", "release_keys": self.keys, **more}
        config = Config(Section(options, "c"), {})
        answer: dict[str, Any] = current.run(config, Timings(), str(golden) if golden else None)
        return answer


@pytest.fixture
def site(signer: signing.PemSigner, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(signer, monkeypatch)


def test_a_release_signed_for_this_is_found(site: Site, tmp_path: Path) -> None:
    site.sign()
    answer = site.ask(tmp_path / "golden.json")
    assert answer["digest"] == site.digest
    # Of the signature and the release; the model registry said 99.
    assert (answer["model_version"], answer["run_id"]) == ("4", "run1")
    assert (tmp_path / "golden.json").read_bytes() == GOLDEN


def test_the_release_that_devices_were_brought_to_goes_before_the_last_one(site: Site) -> None:
    site.sign()
    last, site.tags = site.digest, []
    assert site.ask()["digest"] is None
    answer = site.ask(release=last)
    assert (answer["digest"], answer["model_version"]) == (last, "4")


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        ({"site": "plant-8"}, "was signed for the site"),
        ({"model_name": "other"}, "was signed for the model"),
        ({"model_version": "5"}, "its manifest says"),
        ({"kind": "gguf"}, "is a model of the kind"),
    ],
)
def test_a_release_signed_for_something_else_is_refused(
    site: Site, tmp_path: Path, claims: dict[str, str], sentence: str
) -> None:
    site.sign(**claims)
    with pytest.raises(PipelineError, match=sentence):
        site.ask(tmp_path / "golden.json")
    assert not (tmp_path / "golden.json").exists()


def test_a_release_of_a_stranger_is_refused(site: Site, tmp_path: Path) -> None:
    site.sign(fresh(tmp_path / "stranger.key"))
    with pytest.raises(PipelineError, match="is not known here"):
        site.ask()


def test_a_release_without_a_signature_is_refused(site: Site) -> None:
    with pytest.raises(PipelineError, match=f"The release {site.digest} is not signed"):
        site.ask()


def test_a_release_of_the_time_before_claims_is_none_and_says_why(site: Site) -> None:
    payload = signature.build_payload(site.registry.reference, site.digest)
    mark = site.signer.sign(payload)
    layer = oci.Descriptor.of(signature.PAYLOAD_TYPE, payload)
    site.registry.blobs[layer.digest] = payload
    site.registry.manifests[signature.signature_tag(site.digest)] = (
        signature.build_signature_manifest(payload, mark).to_bytes()
    )
    answer = site.ask()
    assert answer["digest"] is None
    assert "does not say for which site and model it was made" in answer["unverified"]


def test_a_revoked_key_counts_no_more(site: Site) -> None:
    site.sign()
    site.keys = [{"public_key": site.signer.public_key, "revoked": True}]
    with pytest.raises(PipelineError, match="was revoked"):
        site.ask()


def test_nothing_is_trusted_without_keys(site: Site) -> None:
    site.sign()
    site.keys = []
    answer = site.ask()
    assert answer["digest"] is None
    assert "No key of the site is known here" in answer["unverified"]


def test_a_digest_of_nothing_is_nothing(site: Site) -> None:
    site.tags = []
    assert site.ask() == {"changed": False, "digest": None}
    site.tags = [{"key": "mlops.release_digest", "value": "sha256:" + "0" * 64}]
    assert site.ask() == {"changed": False, "digest": None}
