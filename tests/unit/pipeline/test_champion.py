# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""With a margin, a candidate has to hold its own against the last release on the same data."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release import oci, release, signature
from ansible_collections.mlops.onprem.plugins.module_utils._release.statement import Champion
from mlops_pipeline import champion, current, evaluate, judgement, publish, signing
from mlops_pipeline.candidate import Candidate, assemble
from mlops_pipeline.config import Config, Section
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.timing import Timings
from mlops_pipeline.trial import Trial

from tests import onnx_bytes as onnx

from .test_signing import Registry

REQUEST = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}
GOLDEN = {"tolerance": 0.001, "cases": [{"request": REQUEST, "expected": {"y": [1]}}]}
TRIED = Trial(0.1, 10.0, {}, [], [], [], {"y": 0.0005}, "1", ())
VERSION = "d" * 64


class Store(Registry):
    """A registry that also hands out the files of a release."""

    def small_blob(self, blob: oci.Descriptor, limit: int = 1 << 20) -> bytes:
        return super().small_blob(blob, limit)

    def blob(self, blob: oci.Descriptor, sink: Any, name: str = "") -> int:
        data = self.blobs[blob.digest]
        digest = hashlib.sha256()
        # Half of it came in an earlier attempt.
        sink.write(data[: len(data) // 2])
        sink.write(data[sink.start(digest) :])
        digest.update(data[len(data) // 2 :])
        assert f"sha256:{digest.hexdigest()}" == blob.digest, name
        return blob.size


class Runs:
    """What the model registry is told of a run."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.tags: dict[str, str] = {}

    def MlflowClient(self) -> Any:  # noqa: N802 - MLflow's name
        return self

    def log_metric(self, _run: str, name: str, value: float) -> None:
        self.metrics[name] = value

    def set_tag(self, _run: str, name: str, value: str) -> None:
        self.tags[name] = value


class Site:
    """A site with a release, version 4, and a candidate; a project that measures both."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        self.registry: Any = Store()
        self.runs = Runs()
        self.signer = key(place / "site.key")
        self.options: dict[str, Any] = {
            "model_name": "demo",
            "site": "plant-7",
            "thresholds": {"accuracy": 0.8, "auc": 0.8},
            "margin": 0.02,
            "release_keys": [{"public_key": self.signer.public_key}],
            "mlflow": {"url": "https://registry"},
        }
        self.old = self.make("old", 1)
        self.new = self.make("new", 2)
        self.scores: dict[str, Any] = {}
        self.measured: list[tuple[str, str]] = []
        self.code = {self.old.digest: "p", self.new.digest: "p"}
        self.digest = self.store(self.old, "4")
        self.tags = [{"key": "mlops.release_digest", "value": self.digest}]
        monkeypatch.setattr(current, "aliased_version", lambda *_: {"tags": self.tags})
        monkeypatch.setattr(current, "open_registry", lambda *_: self.registry)
        monkeypatch.setattr(evaluate, "trial", lambda *_args, **_kw: TRIED)
        monkeypatch.setattr(evaluate, "fetched", self.fetched)
        for step in (evaluate, champion):
            monkeypatch.setattr(step, "measure", self.measure)

    def make(self, name: str, number: int) -> Candidate:
        model = self.place / f"{name}.onnx"
        model.write_bytes(onnx.model(onnx.field(2, f"graph{number}")))
        settings = {"model_name": "demo", "tolerance": 0.001}
        made: Candidate = assemble(self.place / name, model, GOLDEN, settings)
        return made

    def store(self, made: Candidate, version: str) -> str:
        files = publish.descriptors(made)
        for each, blob in files.items():
            self.registry.blobs[blob.digest] = (made.folder / each).read_bytes()
        manifest = release.build_manifest(files, "demo", version, "r", "2026-01-02T03:04:05Z")
        digest: str = oci.digest_of(manifest.to_bytes())
        self.registry.manifests[digest] = manifest.to_bytes()
        return digest

    def sign(self, signer: Any = None, **claims: Any) -> None:
        said = {"site": "plant-7", "model_name": "demo", "model_version": "4", "kind": "onnx"}
        full = signature.Claims(**{**said, **claims}, counter=0, key_id="")
        signing.sign_release(self.registry, self.digest, signer or self.signer, full, now=1000.0)

    @contextlib.contextmanager
    def fetched(self, *_args: Any) -> Iterator[tuple[Candidate, Any]]:
        yield self.new, self.runs

    def measure(self, _config: Config, folder: Path, data_version: str) -> dict[str, Any]:
        """What a project would do; whose bytes these are is seen from the bytes alone."""
        data = (folder / "model.onnx").read_bytes()
        made = next(
            each
            for each in (self.old, self.new)
            if (each.folder / "model.onnx").read_bytes() == data
        )
        self.measured.append((made.digest, data_version))
        found = self.scores[made.digest]
        if isinstance(found, PipelineError):
            raise found
        return {
            "metrics": found,
            "rows": 9,
            "data_version": data_version,
            "project_digest": self.code[made.digest],
            "project_commit": "c0ffee",
            "lock_digest": "sha256:" + "b" * 64,
        }

    @property
    def config(self) -> Config:
        return Config(Section(self.options, "c.yml"), {})

    @property
    def file(self) -> Path:
        return self.place / "judgement.json"

    def run(self, new: dict[str, float], old: Any = None) -> dict[str, Any]:
        self.scores = {self.new.digest: new, self.old.digest: old}
        answer: dict[str, Any] = evaluate.run(
            self.config, Timings(), "r1", VERSION, self.new.digest, None, self.file
        )
        return answer

    def judged(self) -> judgement.Judgement:
        found: judgement.Judgement = publish.judged(self.config, self.new, TRIED, self.file)
        return found


def key(place: Path) -> signing.PemSigner:
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(place)]
    subprocess.run(command, check=True, capture_output=True)
    return signing.PemSigner(place.read_text())


def scores(accuracy: float, auc: float = 0.9) -> dict[str, float]:
    return {"accuracy": accuracy, "auc": auc}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("new", "old", "margin"),
    [
        (scores(0.95), scores(0.9), 0.0),
        (scores(0.9), scores(0.9), 0.0),
        (scores(0.89), scores(0.9), 0.02),
        # By a hair: 0.92 - 0.02 is more than 0.9 in binary fractions.
        (scores(0.9), scores(0.92), 0.02),
        (scores(0.82, 0.8), scores(0.83, 0.82), 0.02),
    ],
)
def test_a_candidate_within_the_margin_passes_and_says_whom_it_met(
    site: Site, new: dict[str, float], old: dict[str, float], margin: float
) -> None:
    site.sign()
    site.options["margin"] = margin
    answer = site.run(new, {**old, "loss": 3.0})
    met = Champion(site.digest, "4", old, margin)
    assert answer["champion"] == {
        "digest": site.digest,
        "version": "4",
        "metrics": old,
        "margin": margin,
    }
    assert "version 4 before it had accuracy" in answer["comparison"]
    # Both on the same data, each by its exact bytes.
    assert site.measured == [(site.new.digest, VERSION), (site.old.digest, VERSION)]
    assert site.judged().evaluation().champion == met
    assert site.runs.tags == {
        "mlops.evaluation": "passed",
        "mlops.champion_digest": site.digest,
    }
    assert site.runs.metrics["champion_accuracy"] == old["accuracy"]


@pytest.mark.parametrize(
    ("new", "old", "name"),
    [
        (scores(0.87), scores(0.9), "accuracy"),
        (scores(0.99, 0.85), scores(0.9, 0.9), "auc"),
    ],
)
def test_a_candidate_that_falls_behind_in_one_metric_is_refused(
    site: Site, new: dict[str, float], old: dict[str, float], name: str
) -> None:
    site.sign()
    with pytest.raises(PipelineError) as refusal:
        site.run(new, old)
    assert str(refusal.value) == (
        f"The model of run r1 is not good enough. The {name} is {new[name]:.4f}, that of the last "
        f"release (version 4) on the same data {old[name]:.4f}; wanted {old[name] - 0.02:.4f} or "
        "more, as the margin is 0.02."
    )
    assert not site.file.exists()
    assert site.runs.tags["mlops.evaluation"] == "failed"
    assert site.runs.metrics[f"test_{name}"] == new[name]
    assert site.runs.metrics[f"champion_{name}"] == old[name]


def test_nothing_is_compared_without_a_margin(site: Site) -> None:
    del site.options["margin"]
    site.options["release_keys"] = []
    answer = site.run(scores(0.85), scores(0.99))
    assert "champion" not in answer
    assert site.measured == [(site.new.digest, VERSION)]
    assert site.judged().champion is None


def test_below_the_thresholds_nobody_else_is_asked(site: Site) -> None:
    site.sign()
    with pytest.raises(PipelineError, match=r"The accuracy is 0\.7000, wanted 0\.8 or more"):
        site.run(scores(0.7), scores(0.6))
    assert site.measured == [(site.new.digest, VERSION)]


def test_the_first_release_has_nobody_before_it(site: Site) -> None:
    site.tags = []
    answer = site.run(scores(0.85))
    assert answer["comparison"] == "no release before it"
    assert site.judged().champion == Champion("", "", {}, 0.02)


def test_a_release_from_before_claims_counts_as_none_and_says_why(site: Site) -> None:
    payload = signature.build_payload(site.registry.reference, site.digest)
    layer = oci.Descriptor.of(signature.PAYLOAD_TYPE, payload)
    site.registry.blobs[layer.digest] = payload
    site.registry.manifests[signature.signature_tag(site.digest)] = (
        signature.build_signature_manifest(payload, site.signer.sign(payload)).to_bytes()
    )
    answer = site.run(scores(0.85))
    assert answer["comparison"].startswith("no release before it that counts: The signature of")
    assert site.measured == [(site.new.digest, VERSION)]


@pytest.mark.parametrize(
    ("claims", "stranger", "sentence"),
    [
        (None, False, "is not signed"),
        ({}, True, "is not known here"),
        ({"model_name": "other"}, False, "was signed for the model"),
        ({"site": "plant-8"}, False, "was signed for the site"),
    ],
)
def test_a_forged_release_is_not_run_and_does_not_switch_the_comparison_off(
    site: Site, claims: dict[str, Any] | None, stranger: bool, sentence: str
) -> None:
    if claims is not None:
        site.sign(key(site.place / "stranger.key") if stranger else None, **claims)
    with pytest.raises(PipelineError, match=sentence) as refusal:
        site.run(scores(0.99), scores(0.1))
    assert "leave margin out for this run" in str(refusal.value)
    assert site.measured == [(site.new.digest, VERSION)]
    assert site.runs.tags == {"mlops.evaluation": "failed"}
    assert not site.file.exists()


@pytest.mark.parametrize(
    ("old", "sentence"),
    [
        (
            PipelineError("The entry point evaluate of demo ended 1: no input x2"),
            r"x2\. To publish",
        ),
        ({"accuracy": 0.9}, "the project gives no number for auc; it gives accuracy"),
        (scores(float("nan")), "the project gives no number for accuracy"),
    ],
)
def test_a_release_that_cannot_be_measured_on_these_data_stops_the_run(
    site: Site, old: Any, sentence: str
) -> None:
    site.sign()
    with pytest.raises(PipelineError, match=sentence) as refusal:
        site.run(scores(0.99), old)
    said = str(refusal.value)
    assert said.startswith(
        f"The last release of demo (version 4, {site.digest}) cannot be measured"
    )
    assert said.endswith("(margin of the entry of mlops_models, or pipeline_margin).")
    assert site.runs.tags == {"mlops.evaluation": "failed"}
    assert site.runs.metrics["test_accuracy"] == 0.99


def test_a_release_larger_than_a_device_takes_is_not_fetched(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.sign()
    monkeypatch.setattr(release.Release, "size", property(lambda _: 2 * 2**20))
    site.options["limits"] = {"release_max_mib": 1}
    with pytest.raises(PipelineError, match=r"it has 2\.0 MiB, more than the 1 MiB of a release"):
        site.run(scores(0.99), scores(0.9))


def test_code_that_changes_between_the_two_is_no_comparison(site: Site) -> None:
    site.sign()
    site.code[site.old.digest] = "q"
    with pytest.raises(PipelineError, match="the code of the project was changed"):
        site.run(scores(0.99), scores(0.9))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"release_keys": []}, "list the keys that devices trust, or leave margin out"),
        ({"mlflow": {}}, "set mlflow, url, or leave margin out"),
        ({"margin": -0.1}, "c.yml, margin: found -0.1, wanted a number from 0 up"),
        ({"margin": float("nan")}, "c.yml, margin: found nan, wanted a number from 0 up"),
        ({"margin": "a little"}, "c.yml, margin: found 'a little', wanted float"),
        ({"thresholds": {}}, "compares the metrics of thresholds, and there is none"),
    ],
)
def test_a_margin_that_could_have_no_effect_is_refused(
    site: Site, change: dict[str, Any], sentence: str
) -> None:
    site.sign()
    site.options.update(change)
    with pytest.raises(PipelineError, match=sentence):
        site.run(scores(0.99), scores(0.9))


def test_publish_wants_the_comparison_and_judges_it_by_its_own_margin(site: Site) -> None:
    site.sign()
    site.run(scores(0.89), scores(0.9))
    site.options["margin"] = 0.0
    with pytest.raises(PipelineError, match=r"wanted 0\.9000 or more, as the margin is 0\."):
        site.judged()
    site.options["margin"] = 0.05
    found = site.judged().champion
    assert found is not None
    assert found.margin == 0.05
    del site.options["margin"]
    site.run(scores(0.89), scores(0.9))
    site.options["margin"] = 0.02
    with pytest.raises(PipelineError, match="was not compared with the last release"):
        site.judged()


def test_publish_refuses_if_another_release_came_in_between(site: Site) -> None:
    site.sign()
    site.run(scores(0.95), scores(0.9))
    verdict = site.judged()

    def check() -> None:
        publish.check_last(site.config, Timings(), "demo", site.new, verdict)

    check()
    compared = site.digest
    # The same files as the candidate's are what an earlier try of publish has left.
    site.digest = site.tags[0]["value"] = site.store(site.new, "5")
    site.sign(model_version="5")
    check()
    site.digest = site.tags[0]["value"] = site.store(site.make("third", 3), "6")
    site.sign(model_version="6")
    with pytest.raises(PipelineError) as refusal:
        check()
    assert str(refusal.value) == (
        f"The candidate was compared with {compared}; since then {site.digest} (version 6) was "
        "published. Run the step evaluate again."
    )
    del site.options["margin"]
    check()


@pytest.mark.parametrize("change", [{"margin": True}, {"metrics": {"a": "1"}}, {"more": 1}])
def test_a_comparison_of_another_form_is_refused(site: Site, change: dict[str, Any]) -> None:
    site.sign()
    site.run(scores(0.95), scores(0.9))
    value = json.loads(site.file.read_text())
    value["champion"].update(change)
    site.file.write_text(json.dumps(value))
    with pytest.raises(PipelineError, match="is not one that evaluate has written"):
        site.judged()
