# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The distribution protocol against a registry in memory."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release import client as client_module
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import (
    Interrupted,
    RegistryClient,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.disk import PartialFile
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import (
    DamagedError,
    RegistryError,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.oci import (
    Descriptor,
    digest_of,
)

from .conftest import FakeAnswer, FakeRegistry

DATA = bytes(range(256)) * 40
BLOB = Descriptor.of("application/octet-stream", DATA)


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry(blobs={BLOB.digest: DATA})


@pytest.fixture
def client(registry: FakeRegistry) -> RegistryClient:
    return RegistryClient("https://registry/", "models/demo", registry, "pull", "secret")


def test_requests_carry_the_credentials_and_the_repository(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    assert client.has_blob(BLOB.digest)
    method, path, headers = registry.log[0]
    assert (method, path) == ("HEAD", f"/v2/models/demo/blobs/{BLOB.digest}")
    assert base64.b64decode(headers["authorization"].split()[1]) == b"pull:secret"


def test_a_blob_is_written_and_checked(client: RegistryClient, tmp_path: Path) -> None:
    assert client.blob(BLOB, PartialFile(tmp_path / "blob")) == len(DATA)
    assert (tmp_path / "blob").read_bytes() == DATA


@pytest.mark.parametrize("have", [0, 1, 5000, len(DATA) - 1, len(DATA)])
def test_a_download_goes_on_where_it_ended(
    client: RegistryClient, registry: FakeRegistry, tmp_path: Path, have: int
) -> None:
    (tmp_path / "blob").write_bytes(DATA[:have])
    assert client.blob(BLOB, PartialFile(tmp_path / "blob")) == len(DATA) - have
    assert (tmp_path / "blob").read_bytes() == DATA
    assert len(registry.log) == (0 if have == len(DATA) else 1)


def test_a_broken_connection_is_taken_up_again(
    client: RegistryClient, registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.faults = [3000, Interrupted("timed out"), 2000]
    assert client.blob(BLOB, PartialFile(tmp_path / "blob")) == len(DATA)
    assert (tmp_path / "blob").read_bytes() == DATA
    assert [headers.get("range") for _method, _path, headers in registry.log] == [
        None,
        "bytes=3000-",
        "bytes=3000-",
        "bytes=5000-",
    ]


def test_a_registry_without_ranges_is_read_from_the_start(
    client: RegistryClient, registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.ignores_ranges = True
    (tmp_path / "blob").write_bytes(DATA[:500])
    assert client.blob(BLOB, PartialFile(tmp_path / "blob")) == len(DATA)
    assert (tmp_path / "blob").read_bytes() == DATA


def test_a_connection_that_always_breaks_is_given_up(
    client: RegistryClient, registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.faults = [0] * 20
    with pytest.raises(RegistryError, match=r"did not let us read model.onnx: connection reset"):
        client.blob(BLOB, PartialFile(tmp_path / "blob"), "model.onnx")
    assert len(registry.log) == client_module.ATTEMPTS


def test_a_tampered_blob_is_refused_and_forgotten(
    client: RegistryClient, registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.blobs[BLOB.digest] = DATA[:-1] + b"X"
    with pytest.raises(RegistryError, match=r"The file model.onnx was tampered with: found the"):
        client.blob(BLOB, PartialFile(tmp_path / "blob"), "model.onnx")
    assert not (tmp_path / "blob").exists()


def test_a_blob_longer_than_said_is_refused(
    client: RegistryClient, registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.blobs[BLOB.digest] = DATA + b"more"
    with pytest.raises(RegistryError, match="was tampered with"):
        client.blob(BLOB, PartialFile(tmp_path / "blob"))


def test_what_was_kept_is_checked_too(
    client: RegistryClient, registry: FakeRegistry, tmp_path: Path
) -> None:
    """A power cut can leave a part that is none: all of it is fetched once more."""
    (tmp_path / "blob").write_bytes(b"X" + DATA[1:100])
    assert client.blob(BLOB, PartialFile(tmp_path / "blob")) == 2 * len(DATA) - 100
    assert (tmp_path / "blob").read_bytes() == DATA
    registry.blobs[BLOB.digest] = DATA[:-1] + b"X"
    (tmp_path / "other").write_bytes(DATA[:100])
    with pytest.raises(DamagedError, match="was tampered with"):
        client.blob(BLOB, PartialFile(tmp_path / "other"))


def test_a_manifest_is_checked_against_its_digest(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    digest = digest_of(b"{}")
    registry.manifests[digest] = b"{} "
    with pytest.raises(RegistryError, match=f"The manifest {digest} was tampered with"):
        client.manifest(digest)


def test_a_manifest_that_is_not_there_is_none(client: RegistryClient) -> None:
    assert client.manifest("v7") is None


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "did not let us read the manifest v1: it does not accept us as pull."),
        (403, "did not let us read the manifest v1: it does not allow it as pull."),
        (418, "did not let us read the manifest v1: it answered HTTP 418."),
    ],
)
def test_a_refusal_is_a_sentence(
    client: RegistryClient, registry: FakeRegistry, status: int, sentence: str
) -> None:
    registry.faults = [FakeAnswer(status)]
    with pytest.raises(RegistryError) as refusal:
        client.manifest("v1")
    assert str(refusal.value) == f"The registry https://registry {sentence}"
    assert len(registry.log) == 1


def test_an_overloaded_registry_is_asked_again(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    registry.manifests["v1"] = b"{}"
    registry.faults = [FakeAnswer(503), FakeAnswer(502)]
    assert client.manifest("v1") == b"{}"


def test_another_host_never_gets_the_credentials(
    client: RegistryClient, registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.faults = [FakeAnswer(307, headers={"location": "https://s3/bucket/blobs/key"})]
    registry.blobs["key"] = DATA
    client.blob(BLOB, PartialFile(tmp_path / "blob"))
    assert "authorization" in registry.log[0][2]
    assert registry.log[1][1] == "/bucket/blobs/key"
    assert "authorization" not in registry.log[1][2]


def test_a_redirect_without_tls_is_refused(
    client: RegistryClient, registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.faults = [FakeAnswer(302, headers={"location": "http://s3/key"})]
    with pytest.raises(RegistryError, match="without TLS"):
        client.blob(BLOB, PartialFile(tmp_path / "blob"))


def test_a_blob_is_pushed_once(client: RegistryClient, registry: FakeRegistry) -> None:
    registry.blobs.clear()
    assert client.push_blob(BLOB, io.BytesIO(DATA)) == len(DATA)
    assert registry.blobs == {BLOB.digest: DATA}
    assert client.push_blob(BLOB, io.BytesIO(DATA)) == 0


def test_a_large_blob_is_pushed_in_chunks(
    client: RegistryClient, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "CHUNK_BYTES", 4000)
    registry.blobs.clear()
    client.push_blob(BLOB, io.BytesIO(DATA))
    assert registry.blobs == {BLOB.digest: DATA}
    assert [method for method, _path, _headers in registry.log] == [
        "HEAD",
        "POST",
        "PATCH",
        "PATCH",
        "PUT",
    ]
    assert registry.log[3][2]["content-range"] == "4000-7999"


def test_a_registry_that_does_not_know_its_address_is_asked_at_ours(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    registry.blobs.clear()
    client.push_blob(BLOB, io.BytesIO(DATA))
    assert all("authorization" in headers for _method, _path, headers in registry.log)


@pytest.mark.parametrize(
    ("url", "repository", "sentence"),
    [
        ("registry", "models", "wanted the URL of a registry"),
        ("ftp://registry", "models", "wanted the URL of a registry"),
        ("https://registry", "Models", "wanted a repository such as models/name in lower case"),
        ("https://registry", "../x", "wanted a repository"),
    ],
)
def test_an_address_that_cannot_be_is_refused(
    registry: FakeRegistry, url: str, repository: str, sentence: str
) -> None:
    with pytest.raises(RegistryError, match=sentence):
        RegistryClient(url, repository, registry)
