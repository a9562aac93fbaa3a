# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""From a candidate to a signed release, against Debian's registry and MLflow's own store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.keys import KeyRing
from ansible_collections.mlops.onprem.plugins.module_utils._release.oci import digest_of
from ansible_collections.mlops.onprem.plugins.module_utils._release.release import parse_release
from ansible_collections.mlops.onprem.plugins.module_utils._release.signature import (
    Claims,
    Expected,
)
from mlops_pipeline import signing

from .conftest import free_port
from .registry_server import RegistryServer, running

ROOT = Path(__file__).resolve().parents[2]
SITE = "plant-7"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry of its own."""
    with running(tmp_path_factory.mktemp("registry"), free_port()) as found:
        yield found


@pytest.fixture(scope="module")
def python() -> str:
    """The Python of the pipeline."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops.onprem"
    done = subprocess.run(
        [
            *(sys.executable, ROOT / "pipeline/environment.py", "--cache", cache),
            *("--requirements", ROOT / "requirements/pipeline.txt"),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    return str(json.loads(done.stdout.splitlines()[-1])["python"])


@pytest.fixture(scope="module")
def models(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models as users bring them."""
    place = tmp_path_factory.mktemp("models")
    subprocess.run([python, ROOT / "tests/fixtures/own_models.py", place, "2"], check=True)
    return place


@pytest.fixture(scope="module")
def steps(python: str) -> Iterator[subprocess.Popen[str]]:
    """What runs steps without loading their libraries for each of them again."""
    with subprocess.Popen(
        [python, ROOT / "tests/integration/step_server.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "pipeline"), "MLFLOW_ALLOW_FILE_STORE": "true"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        yield server


@dataclass
class Operator:
    """Somebody with a key, an account of the registry, and a folder."""

    python: str
    steps: subprocess.Popen[str]
    place: Path
    server: RegistryServer
    public_key: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def run(self, step: str, *arguments: object, **options: Any) -> dict[str, Any]:
        """Run a step; whatever happens it is a line of JSON and, if it fails, a sentence."""
        config = {
            "site": SITE,
            "registry": {
                "url": f"http://127.0.0.1:{self.server.port}",
                "repository": "models",
                "user": "push",
            },
            **self.options,
            **options,
        }
        path = self.place / "config.json"
        path.write_text(json.dumps(config))
        out, err = self.place / "out.txt", self.place / "err.txt"
        asked = {
            "arguments": [step, *map(str, arguments), "--config", str(path)],
            "folder": str(self.place),
            "environment": {
                "PATH": os.environ["PATH"],
                "HOME": os.environ.get("HOME", "/root"),
                "PYTHONPATH": str(ROOT / "pipeline"),
                "XDG_STATE_HOME": str(self.place / "state"),
                "MLFLOW_ALLOW_FILE_STORE": "true",
                "PIPELINE_REGISTRY_PASSWORD": "p",
                "PIPELINE_SIGNING_KEY_FILE": str(self.place / "key.pem"),
            },
            "out": str(out),
            "err": str(err),
        }
        assert self.steps.stdin is not None
        assert self.steps.stdout is not None
        print(json.dumps(asked), file=self.steps.stdin, flush=True)
        code = int(self.steps.stdout.readline())
        assert "Traceback" not in err.read_text(), err.read_text()
        answer: dict[str, Any] = json.loads(out.read_text())
        assert code == (0 if answer["ok"] else 1)
        return answer

    def package(self, model: Path, name: str, **options: Any) -> str:
        """Package a model; return the digest of the candidate."""
        answer = self.run(
            "package",
            *(model / "model.onnx", "--name", name, "--out", self.place / name),
            *("--cases", model / "cases.json", "--accept-answers"),
            **options,
        )
        assert answer["ok"], answer
        return str(answer["candidate"])

    def publish(self, name: str, candidate: str, *more: object, **options: Any) -> dict[str, Any]:
        return self.run(
            "publish", "--package", self.place / name, "--candidate", candidate, *more, **options
        )

    def claims(self, name: str, digest: str) -> Claims:
        """What devices would read of a release; they compare more than they are shown here."""
        client = self.server.client(f"models/{name}")
        ring = KeyRing.of(self.public_key)
        verdict = signing.signed(client, digest, ring, Expected(SITE, client.reference, name))
        assert verdict is not None
        assert verdict.claims is not None
        found: Claims = verdict.claims
        return found


@pytest.fixture
def operator(
    python: str, steps: subprocess.Popen[str], server: RegistryServer, tmp_path: Path
) -> Operator:
    """Somebody who may sign."""
    key = tmp_path / "key.pem"
    subprocess.run(
        f"openssl ecparam -genkey -name prime256v1 -noout | openssl pkcs8 -topk8 -nocrypt > {key}",
        shell=True,
        check=True,
    )
    public = subprocess.run(
        ["openssl", "pkey", "-in", key, "-pubout"], check=True, capture_output=True, text=True
    ).stdout
    return Operator(python, steps, tmp_path, server, public)


@pytest.fixture
def tracked(operator: Operator) -> Operator:
    """The same with a model registry."""
    operator.options["mlflow"] = {"url": (operator.place / "mlruns").as_uri()}
    return operator


def nothing_of(server: RegistryServer, name: str) -> bool:
    return not (server.data / "docker/registry/v2/repositories/models" / name).exists()


def test_every_file_of_a_model_is_published_signed_and_judged(
    operator: Operator, models: Path
) -> None:
    candidate = operator.package(models / "external", "ext")
    answer = operator.publish("ext", candidate, "--version", "1")
    assert answer["ok"], answer
    client = operator.server.client("models/ext")
    manifest = client.manifest("v1")
    assert manifest is not None
    assert digest_of(manifest) == answer["digest"]
    release = parse_release(manifest)
    assert set(release.files) == {"model.onnx", "model.onnx.data", "config.json", "golden.json"}
    weights = (models / "external/model.onnx.data").read_bytes()
    assert release.files["model.onnx.data"].digest == digest_of(weights)
    claims = operator.claims("ext", answer["digest"])
    assert (claims.site, claims.model_name, claims.model_version, claims.kind) == (
        *(SITE, "ext"),
        *("1", "onnx"),
    )
    files = {name: blob.digest for name, blob in release.files.items()}
    statement = signing.attested(
        client, answer["digest"], files, KeyRing.of(operator.public_key), claims.statement
    )
    assert statement.evaluation.candidate == candidate
    assert statement.evaluation.metrics["golden_gap"] <= 1e-4
    again = operator.publish("ext", candidate, "--version", "1")
    assert (again["changed"], again["digest"]) == (False, answer["digest"])


def test_two_models_keep_their_own_versions(operator: Operator, models: Path) -> None:
    found = {}
    for kind in ("string", "two_inputs"):
        name = kind.replace("_", "-")
        candidate = operator.package(models / kind, name)
        found[name] = operator.publish(name, candidate, "--version", "1")["digest"]
    for name, digest in found.items():
        manifest = operator.server.client(f"models/{name}").manifest("v1")
        assert manifest is not None
        assert digest_of(manifest) == digest
        assert parse_release(manifest).model_name == name


def test_a_version_is_never_written_over(operator: Operator, models: Path) -> None:
    first = operator.publish("kept", operator.package(models / "string", "kept"), "--version", "1")
    shutil.rmtree(operator.place / "kept")
    other = operator.package(models / "two_inputs", "kept")
    answer = operator.publish("kept", other, "--version", "1")
    assert "Version 1 of kept is in the registry with other files" in answer["error"]
    second = operator.publish("kept", other, "--version", "2")
    assert second["ok"], second
    counters = [operator.claims("kept", each["digest"]).counter for each in (first, second)]
    assert counters[0] < counters[1]


def test_the_profile_of_the_training_data_is_named_in_the_signature(
    operator: Operator, models: Path
) -> None:
    (operator.place / "profile.json").write_text('{"rows": 7}')
    made = operator.run(
        "package",
        *(models / "string/model.onnx", "--name", "prof", "--out", operator.place / "prof"),
        *("--cases", models / "string/cases.json", "--accept-answers"),
        *("--profile", operator.place / "profile.json"),
    )
    answer = operator.publish("prof", made["candidate"], "--version", "1")
    claims = operator.claims("prof", answer["digest"])
    assert claims.reference_profile == digest_of(b'{"rows": 7}')


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "golden.json", "config.json"])
def test_other_bytes_than_those_named_are_refused(
    operator: Operator, models: Path, name: str
) -> None:
    candidate = operator.package(models / "external", "swapped")
    path = operator.place / "swapped/release" / name
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(bytes(data))
    answer = operator.publish("swapped", candidate, "--version", "1")
    assert not answer["ok"]
    assert answer["error"].endswith("handed on.") or "is not" in answer["error"]
    assert nothing_of(operator.server, "swapped")


def test_what_no_device_can_load_is_neither_registered_nor_pushed(
    tracked: Operator, models: Path
) -> None:
    # Somebody makes a candidate by hand, past the step package, and names its true digest.
    tracked.package(models / "string", "broken")
    shutil.copy(
        ROOT / "tests/fixtures/models/sequence.onnx", tracked.place / "broken/release/model.onnx"
    )
    wrong = tracked.publish("broken", "sha256:" + "0" * 64)
    digest = wrong["error"].partition("have the digest ")[2][:71]
    answer = tracked.publish("broken", digest)
    assert "Devices could not serve this model" in answer["error"]
    assert "a sequence" in answer["error"]
    assert nothing_of(tracked.server, "broken")
    assert not list((tracked.place / "mlruns").glob("models/broken"))


def test_the_model_registry_counts_versions_and_moves_its_alias_last(
    tracked: Operator, models: Path
) -> None:
    candidate = tracked.package(models / "external", "counted")
    first = tracked.publish("counted", candidate)
    assert first["ok"], first
    assert (first["model_version"], first["alias"]) == ("1", "champion")
    again = tracked.publish("counted", candidate)
    assert (again["changed"], again["digest"]) == (False, first["digest"])
    # The way round: what was published is fetched by its alias, with all of its files.
    back = tracked.run(
        "package",
        *("models:/counted@champion", "--name", "back", "--out", tracked.place / "back"),
        *("--cases", models / "external/cases.json", "--accept-answers"),
    )
    assert back["files"]["model.onnx.data"] == 32 * 16 * 4
    refused = tracked.publish("counted", candidate, "--version", "7")
    assert "The model registry counts versions" in refused["error"]


def test_bytes_that_were_exchanged_in_the_model_registry_are_refused(
    tracked: Operator, models: Path
) -> None:
    candidate = tracked.package(models / "string", "exchanged")
    first = tracked.publish("exchanged", candidate)
    stored = list((tracked.place / "mlruns").rglob("artifacts/**/model.onnx"))
    assert len(stored) == 1
    shutil.copy(models / "two_inputs/model.onnx", stored[0])
    for step, more in (("publish", ()), ("evaluate", ("--data-version", "a" * 64))):
        answer = tracked.run(step, "--run-id", first["run_id"], "--candidate", candidate, *more)
        assert "not the ones that the earlier step has handed on" in answer["error"]


def test_a_verdict_of_the_model_registry_counts_for_nothing(
    tracked: Operator, models: Path
) -> None:
    candidate = tracked.package(models / "string", "forged")
    published = tracked.publish("forged", candidate)
    for tags in (tracked.place / "mlruns").rglob(f"{published['run_id']}/tags"):
        (tags / "mlops.evaluation").write_text("passed")
    answer = tracked.run(
        *("publish", "--run-id", published["run_id"], "--candidate", candidate),
        thresholds={"accuracy": 0.9},
    )
    assert "has not passed its evaluation here" in answer["error"]


def test_a_run_of_somebody_elses_making_gives_a_sentence(tracked: Operator, models: Path) -> None:
    program = f"""
import mlflow, onnx
from mlflow.onnx import log_model
mlflow.set_tracking_uri({tracked.options["mlflow"]["url"]!r})
with mlflow.start_run() as run:
    log_model(onnx.load({str(models / "string/model.onnx")!r}), name="model")
with mlflow.start_run() as bare:
    pass
print(run.info.run_id, bare.info.run_id)
"""
    done = subprocess.run(
        [tracked.python, "-c", program],
        env={**os.environ, "MLFLOW_ALLOW_FILE_STORE": "true"},
        capture_output=True,
        text=True,
        cwd=tracked.place,
        check=False,
    )
    logged, bare = done.stdout.split()[-2:]
    digest = "sha256:" + "0" * 64
    for run, sentence in (
        (logged, "was not logged by the step train"),
        (bare, "has logged no model"),
        ("no-such-run", "The model registry did not let us read the model of run no-such-run"),
    ):
        for step, more in (("publish", ()), ("evaluate", ("--data-version", "a" * 64))):
            answer = tracked.run(step, "--run-id", run, "--candidate", digest, *more)
            assert sentence in answer["error"]
    made = tracked.run(
        "package",
        *(f"runs:/{logged}/model", "--name", "own", "--out", tracked.place / "own"),
        *("--cases", models / "string/cases.json", "--accept-answers"),
    )
    assert made["ok"], made


def test_what_is_not_said_is_asked_for(operator: Operator, models: Path) -> None:
    candidate = operator.package(models / "string", "asked")
    answer = operator.publish("asked", candidate)
    assert "name one by --version" in answer["error"]
    answer = operator.publish("asked", "no digest", "--version", "1")
    assert "wanted a candidate such as sha256:" in answer["error"]
    answer = operator.run("publish", "--candidate", candidate)
    assert "Name the candidate's place: --package FOLDER" in answer["error"]
    answer = operator.publish("asked", candidate, "--version", "1", model_name="other")
    assert "made for the model 'asked', the configuration names 'other'" in answer["error"]
    answer = operator.publish("asked", candidate, "--version", "1", tolerance=1e-9)
    assert "lets answers differ by 0.0001; the tolerance of the" in answer["error"]
    answer = operator.publish("asked", candidate, "--version", "1", limits={"seconds": "x"})
    assert "limits, seconds: found 'x', wanted int" in answer["error"]
    assert nothing_of(operator.server, "asked")


def test_a_sample_goes_the_whole_way(tracked: Operator) -> None:
    """Data, training, evaluation, publication: every step is told the digest of the one before."""
    options: dict[str, Any] = {
        "model_name": "breast-cancer",
        "project": "breast_cancer",
        "data_uri": str(tracked.place / "data"),
        "thresholds": {"accuracy": 0.9},
        "tolerance": 1e-4,
    }
    data = tracked.run("prepare", **options)
    assert data["ok"], data
    trained = tracked.run("train", "--data-version", data["data_version"], **options)
    assert trained["ok"], trained
    named = ("--run-id", trained["run_id"], "--candidate", trained["candidate"])
    early = tracked.run("publish", *named, **options)
    assert "has not passed its evaluation here" in early["error"]
    judge = ("evaluate", *named, "--data-version", data["data_version"])
    hard = tracked.run(*judge, **{**options, "thresholds": {"accuracy": 0.9999}})
    assert "is not good enough. The accuracy is" in hard["error"]
    assert "has not passed" in tracked.run("publish", *named, **options)["error"]
    judged = tracked.run(*judge, **options)
    assert judged["ok"], judged
    answer = tracked.run("publish", *named, "--golden", tracked.place / "golden.json", **options)
    assert answer["ok"], answer
    assert json.loads((tracked.place / "golden.json").read_text())["cases"]
    claims = tracked.claims("breast-cancer", answer["digest"])
    client = tracked.server.client("models/breast-cancer")
    manifest = client.manifest(answer["digest"])
    assert manifest is not None
    files = {name: blob.digest for name, blob in parse_release(manifest).files.items()}
    ring = KeyRing.of(tracked.public_key)
    evaluation = signing.attested(
        client, answer["digest"], files, ring, claims.statement
    ).evaluation
    assert evaluation.data_manifest == f"sha256:{data['data_version']}"
    assert evaluation.metrics["accuracy"] >= evaluation.thresholds["accuracy"] == 0.9
    assert evaluation.lock.startswith("sha256:")
    current = tracked.run("current", **options)
    # The model registry is asked over its own protocol, which a folder does not speak.
    assert not current["ok"]
