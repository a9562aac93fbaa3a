# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put good and bad releases into a registry, for tests of what devices accept.

    python tests/releases.py --url https://10.204.0.22:5443 --ca-file ca.crt --key sign.key \
        --user push --password-file password --repository models

prints the digests by name as JSON: some that are good, one of another model, and one for each thing
that can be wrong. The releases of a model go to the repository of its name.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from ansible_collections.mlops.onprem.plugins.module_utils._release import (
    keys,
    oci,
    release,
    signature,
    statement,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import RegistryClient
from ansible_collections.mlops.onprem.plugins.module_utils._release.web import WebTransport

FIXTURE = Path(__file__).resolve().parent / "fixtures" / "release"
MODEL, OTHER_MODEL, SITE = "iris", "flowers", "site-of-the-tests"
# What an evaluation says, for tests of how it is signed and read.
EVALUATION = statement.Evaluation(
    candidate="sha256:" + "c" * 64,
    project_commit="0f1e2d",
    lock="",
    data_manifest="sha256:" + "d" * 64,
    cases="",
    thresholds={"accuracy": 0.9},
    metrics={"accuracy": 0.95},
    tolerance=1e-4,
    time="2026-01-31T12:00:00Z",
    key_id="",
)


class Signer:
    """Signs with a private key file."""

    def __init__(self, key: Path) -> None:
        self._key = key
        command = ["openssl", "ec", "-in", str(key), "-pubout"]
        self.public_key = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        self.id = keys.key_id(self.public_key)

    def __call__(self, payload: bytes) -> bytes:
        command = ["openssl", "dgst", "-sha256", "-sign", str(self._key)]
        return subprocess.run(command, input=payload, capture_output=True, check=True).stdout


def fresh_key(path: Path) -> Path:
    """Make a private key on P-256."""
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


class Publisher:
    """Publishes releases made of the fixture, changed as asked."""

    def __init__(self, client_of: Callable[[str], RegistryClient], sign: Signer) -> None:
        self._client_of = client_of
        self._sign = sign
        self._counter = 0

    def publish(
        self,
        version: str,
        changed: dict[str, bytes] | None = None,
        sign: Signer | None = None,
        about: str = "",
        signed: bool = True,
        model: str = MODEL,
        said: str = "",
        tag: bool = False,
        files: dict[str, bytes] | None = None,
        kind: str = signature.ONNX,
    ) -> str:
        """Push one release.

        ``about`` has the signature speak of another one, ``said`` of another model. ``tag`` names
        the version in the registry, as the step publish does. ``files`` are in place of the
        fixture's, and of a ``kind``.
        """
        client = self._client_of(model)
        if files is None:
            files = {path.name: path.read_bytes() for path in sorted(FIXTURE.iterdir())}
        files = files | (changed or {})
        blobs = {name: oci.Descriptor.of("", data) for name, data in files.items()}
        for name, data in files.items():
            client.push_blob(blobs[name], io.BytesIO(data))
        client.push_blob(oci.EMPTY_CONFIG, io.BytesIO(oci.EMPTY))
        manifest = release.build_manifest(blobs, model, version, "", "2026-01-01T00:00:00Z")
        digest = client.push_manifest(manifest.to_bytes())
        if tag:
            client.push_manifest(manifest.to_bytes(), f"v{version}")
        if signed:
            signer = sign or self._sign
            self._counter += 1
            claims = signature.Claims(SITE, said or model, version, kind, self._counter, signer.id)
            payload = signature.build_payload(client.reference, about or digest, claims)
            client.push_blob(
                oci.Descriptor.of(signature.PAYLOAD_TYPE, payload), io.BytesIO(payload)
            )
            stored = signature.build_signature_manifest(payload, signer(payload)).to_bytes()
            client.push_manifest(stored, signature.signature_tag(digest))
        return digest


def golden_changed(change: Callable[[dict[str, object]], None]) -> bytes:
    """Return the golden answers with a change."""
    value = json.loads((FIXTURE / "golden.json").read_bytes())
    change(value)
    return json.dumps(value).encode()


def wrong_label(value: dict[str, object]) -> None:
    """Have the trainer claim another answer than the model gives."""
    cases = value["cases"]
    assert isinstance(cases, list)
    cases[1]["expected"]["label"] = [2]


def publish_all(publisher: Publisher, stranger: Signer) -> dict[str, str]:
    """Publish every kind of release; return their digests by name."""
    good = publisher.publish("1")
    return {
        "good": good,
        "better": publisher.publish("2"),
        "third": publisher.publish("3"),
        "unsigned": publisher.publish("4", signed=False),
        "stranger": publisher.publish("5", sign=stranger),
        "borrowed": publisher.publish("6", about=good),
        "misnamed": publisher.publish("6.1", said=OTHER_MODEL),
        "flowers": publisher.publish("1", model=OTHER_MODEL),
        "golden": publisher.publish("7", {"golden.json": golden_changed(wrong_label)}),
        "garbage": publisher.publish("8", {"model.onnx": b"this is no model"}),
        "tampered": publisher.publish("9", {"config.json": b'{"tolerance": 0.5}'}),
    }


def publish_by_command(
    about: str | None, publish: Callable[[Publisher, Signer], dict[str, str]]
) -> dict[str, str]:
    """Read where to publish to and with which key, and publish; the digests by name."""
    parser = argparse.ArgumentParser(description=about)
    for option in ("--url", "--ca-file", "--key", "--user", "--repository"):
        parser.add_argument(option, required=True)
    parser.add_argument("--password-file", type=Path, required=True)
    options = parser.parse_args()
    password = options.password_file.read_text(encoding="utf-8").strip()

    def client_of(model: str) -> RegistryClient:
        transport = WebTransport(options.ca_file)
        repository = f"{options.repository}/{model}"
        return RegistryClient(options.url, repository, transport, options.user, password)

    with tempfile.TemporaryDirectory() as folder:
        stranger = Signer(fresh_key(Path(folder) / "stranger.key"))
        return publish(Publisher(client_of, Signer(Path(options.key))), stranger)


def main() -> None:
    """Publish; print the digests."""
    print(json.dumps(publish_by_command(__doc__, publish_all), sort_keys=True))


if __name__ == "__main__":
    main()
