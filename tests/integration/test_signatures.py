# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Signatures and evaluations against other people's tools: cosign, and a key in a token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.module_utils._release import signature, statement
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import RegistryClient
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import (
    MistakenError,
    UntrustedError,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.keys import KeyRing, key_id
from ansible_collections.mlops.onprem.plugins.module_utils._release.oci import digest_of
from ansible_collections.mlops.onprem.plugins.module_utils._release.release import parse_release
from mlops_pipeline import signing
from mlops_pipeline.config import Config, Section
from mlops_pipeline.errors import PipelineError

from tests import releases
from tests.patience import PATIENCE

from .conftest import free_port
from .debian_programs import archives, start_through_loader, unpack
from .registry_server import RegistryServer, running

COSIGN = "2.5.0"
PAGE = Path(__file__).parents[2] / "docs/signing.md"
PACKAGES = ("trixie", ["cosign", "softhsm2", "opensc", "opensc-pkcs11"], "trixie-signing")
EVALUATION = releases.EVALUATION


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's cosign, SoftHSM and OpenSC, unpacked."""
    place = tmp_path_factory.mktemp("debian") / "root"
    unpack(archives(*PACKAGES), place)
    for name in ("cosign", "softhsm2-util", "pkcs11-tool"):
        start_through_loader(place / "usr/bin" / name, place)
    return place


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with running(tmp_path_factory.mktemp("registry"), free_port()) as started:
        yield started


@dataclass(frozen=True)
class Bench:
    """A release in a registry, a key, and cosign."""

    client: RegistryClient
    digest: str
    signer: signing.PemSigner
    folder: Path
    program: Path

    @property
    def expected(self) -> signature.Expected:
        return signature.Expected("plant-7", self.client.reference, releases.MODEL)

    @property
    def claims(self) -> signature.Claims:
        return signature.Claims("plant-7", releases.MODEL, "1", signature.ONNX, 0, "")

    @property
    def files(self) -> dict[str, str]:
        manifest = self.client.manifest(self.digest)
        assert manifest is not None
        return {name: blob.digest for name, blob in parse_release(manifest).files.items()}

    def cosign(self, *words: str, fails: bool = False) -> subprocess.CompletedProcess[str]:
        """Run cosign without anything of the public infrastructure."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "COSIGN_PASSWORD": "",
            "COSIGN_YES": "true",
        }
        done = subprocess.run(
            [str(self.program), *words],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done

    @property
    def image(self) -> str:
        return f"{self.client.reference}@{self.digest}"


@pytest.fixture
def bench(server: RegistryServer, root: Path, tmp_path: Path, request: Any) -> Bench:
    """A release that nobody has signed yet, in a repository of its own."""
    name = request.node.name.replace("_", "-").replace("[", "-").rstrip("]").lower()
    client = server.client(f"models/{name}")
    key = releases.fresh_key(tmp_path / "sign.key")
    digest = releases.Publisher(lambda _model: client, releases.Signer(key)).publish(
        "1", signed=False
    )
    signer = signing.PemSigner(key.read_text())
    (tmp_path / "sign.pub").write_text(signer.public_key)
    return Bench(client, digest, signer, tmp_path, root / "usr/bin/cosign")


def test_the_version_of_cosign_is_the_one_that_is_told() -> None:
    # Debian builds the program without its version; the package has it.
    (package,) = (each for each in archives(*PACKAGES) if each.name.startswith("cosign_"))
    command = ["dpkg-deb", "--field", str(package), "Version"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said.startswith(f"{COSIGN}-")


VERIFY = ("--key", "sign.pub", "--insecure-ignore-tlog=true", "--allow-http-registry")


def test_cosign_accepts_our_signature(bench: Bench) -> None:
    bench.cosign("verify", *VERIFY, bench.image, fails=True)
    made = signing.sign_release(bench.client, bench.digest, bench.signer, bench.claims)
    (found,) = json.loads(bench.cosign("verify", *VERIFY, bench.image).stdout)
    assert found["critical"]["image"]["docker-manifest-digest"] == bench.digest
    assert found["optional"] == made.to_json()
    text = {name: str(value) for name, value in made.to_json().items()}
    site = f"{signature.SITE}={text[signature.SITE]}"
    bench.cosign("verify", *VERIFY, "-a", site, bench.image)
    bench.cosign("verify", *VERIFY, "-a", f"{signature.SITE}=plant-8", bench.image, fails=True)


def test_the_commands_of_the_page_work(bench: Bench) -> None:
    named = signing.attest(bench.client, bench.digest, bench.files, bench.signer, EVALUATION)
    claims = replace(bench.claims, statement=named)
    signing.sign_release(bench.client, bench.digest, bench.signer, claims)
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("cosign ")]
    assert [line.split()[1] for line in lines] == ["verify", "verify-attestation"]
    for line in lines:
        words = line.replace("REPOSITORY@DIGEST", bench.image).replace("SITE", "plant-7").split()
        # The registry of the tests has no TLS.
        bench.cosign(*words[1:], "--allow-http-registry")
        wrong = [word.replace("plant-7", "plant-8").replace("/v1", "/v9") for word in words]
        bench.cosign(*wrong[1:], "--allow-http-registry", fails=True)


def test_cosign_refuses_the_signature_of_a_stranger(bench: Bench) -> None:
    stranger = signing.PemSigner(releases.fresh_key(bench.folder / "stranger.key").read_text())
    signing.sign_release(bench.client, bench.digest, stranger, bench.claims)
    bench.cosign("verify", *VERIFY, bench.image, fails=True)


def test_cosign_accepts_our_evaluation(bench: Bench) -> None:
    kind = ("--type", statement.PREDICATE_TYPE)
    bench.cosign("verify-attestation", *VERIFY, *kind, bench.image, fails=True)
    signing.attest(bench.client, bench.digest, bench.files, bench.signer, EVALUATION)
    bench.cosign("verify-attestation", *VERIFY, *kind, bench.image)
    other = ("--type", "https://example.com/other/v1")
    bench.cosign("verify-attestation", *VERIFY, *other, bench.image, fails=True)


def sign_with_cosign(bench: Bench, **changed: str) -> KeyRing:
    """Have cosign sign with a key of its own and the claims that we make.

    Returns the ring in which both keys are trusted. (Importing ours fails in this version.)
    """
    bench.cosign("generate-key-pair")
    public = (bench.folder / "cosign.pub").read_text()
    claims = replace(bench.claims, counter=1_800_000_000, key_id=key_id(public))
    notes = {**claims.to_json(), **changed}
    words = [word for name, value in notes.items() for word in ("-a", f"{name}={value}")]
    bench.cosign(
        "sign", "--key", "cosign.key", "--tlog-upload=false", "--allow-http-registry",
        *words, bench.image,
    )  # fmt: skip
    return KeyRing.of(bench.signer.public_key, public)


def test_we_accept_the_signature_of_cosign(bench: Bench) -> None:
    ring = sign_with_cosign(bench)
    entries = signing.read_entries(bench.client, bench.digest)[1]
    verdict = signature.judge(entries, bench.digest, ring, bench.expected, fresh=True)
    assert verdict.claims is not None
    assert (verdict.claims.counter, verdict.claims.model_name) == (1_800_000_000, releases.MODEL)


def test_cosign_and_we_sign_beside_each_other(bench: Bench) -> None:
    made = signing.sign_release(bench.client, bench.digest, bench.signer, bench.claims)
    ring = sign_with_cosign(bench)
    entries = signing.read_entries(bench.client, bench.digest)[1]
    assert len(entries) == 2
    verdict = signature.judge(entries, bench.digest, ring, bench.expected, fresh=True)
    assert verdict.claims is not None
    assert verdict.claims.counter == max(made.counter, 1_800_000_000)
    signing.sign_release(bench.client, bench.digest, bench.signer, bench.claims)
    ours = json.loads(bench.cosign("verify", *VERIFY, bench.image).stdout)
    theirs = json.loads(
        bench.cosign("verify", "--key", "cosign.pub", *VERIFY[2:], bench.image).stdout
    )
    assert (len(ours), len(theirs)) == (2, 1)


def test_what_cosign_signed_for_another_site_is_refused(bench: Bench) -> None:
    ring = sign_with_cosign(bench, **{signature.SITE: "plant-8"})
    entries = signing.read_entries(bench.client, bench.digest)[1]
    with pytest.raises(MistakenError, match="was signed for the site plant-8, wanted plant-7"):
        signature.judge(entries, bench.digest, ring, bench.expected, fresh=True)


# -- a key in a token -----------------------------------------------------------------------

PIN = "98765432"
KEY = "0a2f"


@pytest.fixture
def token(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A token with a key on P-256; returns the options of its signer."""
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    module = str(next((root / "usr/lib").glob("*/softhsm/libsofthsm2.so")))
    tool = str(root / "usr/bin/pkcs11-tool")

    def run(*words: str) -> bytes:
        done = subprocess.run(words, capture_output=True, check=False, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(
        str(root / "usr/bin/softhsm2-util"), "--module", module, "--init-token", "--free",
        "--label", "releases", "--pin", PIN, "--so-pin", "12345678",
    )  # fmt: skip
    pair = [tool, "--module", module, "--token-label", "releases", "--id", KEY]
    # An older key lies in the same token.
    for name in ("01", KEY):
        pair[-1] = name
        run(*pair, "--login", "--pin", PIN, "--keypairgen", "--key-type", "EC:prime256v1")
    run(*pair, "--read-object", "--type", "pubkey", "--output-file", f"{tmp_path}/pub.der")
    public = run(
        "openssl", "pkey", "-pubin", "-inform", "DER", "-in", f"{tmp_path}/pub.der", "-pubout"
    ).decode()
    return {
        "kind": "pkcs11",
        "module": module,
        "token": "releases",
        "key": KEY,
        "tool": tool,
        "public_key": public,
    }


def opened(options: dict[str, Any], pin: str = PIN) -> signing.Signer:
    environment = {"PIPELINE_SIGNING_PIN": pin}
    return signing.open_signer(Config(Section({"signing": options}, "config.json"), environment))


def test_a_token_signs_a_release_and_its_evaluation(
    token: dict[str, Any], server: RegistryServer, tmp_path: Path
) -> None:
    client = server.client("models/token")
    unused = releases.Signer(releases.fresh_key(tmp_path / "unused.key"))
    digest = releases.Publisher(lambda _model: client, unused).publish("1", signed=False)
    signer = opened(token)
    ring = KeyRing.of(token["public_key"])
    manifest = client.manifest(digest)
    assert manifest is not None
    files = {name: blob.digest for name, blob in parse_release(manifest).files.items()}
    named = signing.attest(client, digest, files, signer, EVALUATION)
    claims = signature.Claims("plant-7", releases.MODEL, "1", signature.ONNX, 0, "", named)
    signing.sign_release(client, digest, signer, claims)
    expected = signature.Expected("plant-7", client.reference, releases.MODEL)
    entries = signing.read_entries(client, digest)[1]
    verdict = signature.judge(entries, digest, ring, expected, fresh=True)
    assert verdict.key_id == key_id(token["public_key"])
    assert signing.attested(client, digest, files, ring, named).evaluation.metrics == {
        "accuracy": 0.95
    }
    assert digest_of(manifest) == digest


@pytest.mark.parametrize(
    ("changed", "pin", "sentence"),
    [
        ({}, "11111111", "pkcs11-tool ended with 1: "),
        ({"token": "other"}, PIN, "pkcs11-tool ended with 1: "),
        ({"key": "77"}, PIN, "pkcs11-tool ended with 1: "),
        ({"module": "/nowhere.so"}, PIN, "pkcs11-tool ended with 1: "),
        ({"tool": "/nowhere/pkcs11-tool"}, PIN, "cannot be run: No such file"),
    ],
    ids=["wrong PIN", "other token", "other key", "no module", "no tool"],
)
def test_a_token_that_does_not_sign_is_a_sentence(
    token: dict[str, Any], changed: dict[str, str], pin: str, sentence: str
) -> None:
    with pytest.raises(PipelineError, match=sentence):
        opened({**token, **changed}, pin).sign(b"payload")


def test_the_public_half_of_another_key_is_noticed(token: dict[str, Any], tmp_path: Path) -> None:
    other = signing.PemSigner(releases.fresh_key(tmp_path / "other.key").read_text())
    with pytest.raises(PipelineError, match="are to be two halves of one pair"):
        opened({**token, "public_key": other.public_key}).sign(b"payload")
    with pytest.raises(UntrustedError, match="was not made with a key that is trusted here"):
        KeyRing.of(other.public_key).verify(b"payload", opened(token).sign(b"payload"))


# -- the same from the inventory ------------------------------------------------------------

ROOT = Path(__file__).parents[2]
PLAY = """
- hosts: control[0]
  gather_facts: false
  vars_files: [{playbooks}/vars/wiring.yml, {playbooks}/vars/pipeline.yml]
  tasks:
    - ansible.builtin.include_tasks: {playbooks}/tasks/pipeline_model.yml
      loop: "{{{{ __pipeline_models }}}}"
      loop_control: {{loop_var: __pipeline_model}}
    - ansible.builtin.copy:
        content: "{{{{ __pipeline_found | to_json }}}}"
        dest: {place}/found.json
      diff: false
"""


@dataclass(frozen=True)
class Company:
    """An inventory in which one model is to be published, and a controller without a key."""

    place: Path
    python: str
    server: RegistryServer

    def publish(self, signing_by: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Run what ``make pipeline`` runs for each model; return what it has found."""
        wrapper = self.place / "python"
        # MLflow's own files take the place of its server.
        wrapper.write_text(f'#!/bin/sh\nMLFLOW_ALLOW_FILE_STORE=true exec {self.python} "$@"\n')
        wrapper.chmod(0o755)
        said = {
            "mlops_models": [
                {
                    "name": "token-model",
                    "artifact": str(ROOT / "tests/fixtures/models/two_inputs.onnx"),
                    "cases": str(self.place / "cases.json"),
                    "targets": ["edge1"],
                }
            ],
            "release_signing": signing_by,
            "pipeline_accept_answers": True,
            "pipeline_ca_file": "/etc/ssl/certs/ca-certificates.crt",
            "pipeline_registry": {
                "url": f"http://127.0.0.1:{self.server.port}",
                "repository": "models",
                "user": "push",
                "password": "p",
            },
            "pipeline_mlflow": {
                "url": (self.place / "mlruns").as_uri(),
                "user": "admin",
                "password": "p",
            },
            "pipeline_object_store": dict.fromkeys(
                ("endpoint", "region", "bucket", "access_key", "secret_key"), "unused"
            ),
            "__pipeline_root": str(ROOT / "pipeline"),
            "__pipeline_environment": {"stdout": json.dumps({"python": str(wrapper)})},
            **more,
        }
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        hosts = {name: {"hosts": {f"{short}1": local}} for name, short in GROUPS.items()}
        (self.place / "hosts.yml").write_text(yaml.safe_dump(hosts))
        (self.place / "said.yml").write_text(yaml.safe_dump(said))
        play = PLAY.format(playbooks=ROOT / "playbooks", place=self.place)
        (self.place / "play.yml").write_text(play)
        done = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("ansible-playbook")), "play.yml"),
                *("--inventory=hosts.yml", "--extra-vars=@said.yml"),
            ],
            cwd=self.place,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
                "ANSIBLE_STDOUT_CALLBACK": "default",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert PIN not in done.stdout + done.stderr
        found: dict[str, Any] = json.loads((self.place / "found.json").read_text())["token-model"]
        return found


GROUPS = {"control": "ctl", "edge": "edge"}


@pytest.fixture
def company(server: RegistryServer, tmp_path: Path) -> Company:
    """The folder of an inventory."""
    done = subprocess.run(
        [
            *(sys.executable, "pipeline/environment.py"),
            *("--requirements", "requirements/pipeline.txt"),
            *("--cache", str(Path.home() / ".cache/mlops.onprem")),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    place = tmp_path / "site"
    place.mkdir()
    request = {
        "inputs": [
            {"name": "counts", "shape": [1, 2], "datatype": "INT64", "data": [1, 2]},
            {"name": "values", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]},
            {"name": "kind", "shape": [1], "datatype": "BYTES", "data": ["red"]},
        ]
    }
    (place / "cases.json").write_text(json.dumps(request))
    return Company(place, json.loads(done.stdout.splitlines()[-1])["python"], server)


def test_a_playbook_publishes_with_a_key_that_the_controller_has_not(
    company: Company, token: dict[str, Any]
) -> None:
    found = company.publish(token, pipeline_signing_pin=PIN)
    assert found["published"].get("digest"), found["steps"]
    client = company.server.client("models/token-model")
    digest = found["published"]["digest"]
    entries = signing.read_entries(client, digest)[1]
    # Whose site it is, the hosts would say, and none is asked here.
    expected = signature.Expected("default", client.reference, "token-model")
    ring = KeyRing.of(token["public_key"])
    verdict = signature.judge(entries, digest, ring, expected, fresh=True)
    assert verdict.key_id == key_id(token["public_key"])
    # No key was made for the controller meanwhile.
    made = company.place / "group_vars/all/secrets.yml"
    assert not made.exists() or "release_signing_key" not in made.read_text()
