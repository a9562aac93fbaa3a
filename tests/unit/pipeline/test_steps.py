# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of the pipeline that need no library: configuration, data, storage, judgement."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlops_pipeline.__main__ import main
from mlops_pipeline.config import SECRETS, Config, Section, forget_others, load
from mlops_pipeline.data import (
    Entry,
    build_manifest,
    describe_folder,
    fetch_dataset,
    sha256,
)
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.judgement import judge
from mlops_pipeline.storage import DirectoryStorage, open_storage


def config(**options: Any) -> Config:
    return Config(Section(options, "config.json"), {})


@pytest.fixture
def dataset(tmp_path: Path) -> tuple[DirectoryStorage, str]:
    """A stored version of the data, and its name."""
    storage = DirectoryStorage(str(tmp_path / "stored"))
    files = {"train.csv": b"a,label\n1,0\n", "images/one.png": b"\x89PNG"}
    (tmp_path / "made/images").mkdir(parents=True)
    for name, data in files.items():
        (tmp_path / "made" / name).write_bytes(data)
        storage.put(f"new/{name}", tmp_path / "made" / name)
    manifest = build_manifest("demo", {"seed": 17}, describe_folder(tmp_path / "made"))
    version = sha256(manifest)
    (tmp_path / "stored/new").rename(tmp_path / "stored" / version)
    storage.write(f"{version}/manifest.json", manifest)
    return storage, version


def test_a_data_set_is_fetched_and_checked(
    dataset: tuple[DirectoryStorage, str], tmp_path: Path
) -> None:
    storage, version = dataset
    manifest = fetch_dataset(storage, version, tmp_path)
    assert manifest["dataset"] == "demo"
    assert manifest["parameters"] == {"seed": "17"}
    assert (tmp_path / "images/one.png").read_bytes() == b"\x89PNG"
    assert [each["path"] for each in manifest["files"]] == ["images/one.png", "train.csv"]


def test_changed_data_are_refused(dataset: tuple[DirectoryStorage, str], tmp_path: Path) -> None:
    storage, version = dataset
    storage.write(f"{version}/train.csv", b"a,label\n2,0\n")
    with pytest.raises(PipelineError, match=r"train.csv has the sha256 \w{64}, the manifest says"):
        fetch_dataset(storage, version, tmp_path)


def test_a_changed_manifest_is_refused(
    dataset: tuple[DirectoryStorage, str], tmp_path: Path
) -> None:
    storage, version = dataset
    storage.write(f"{version}/manifest.json", b"{}")
    with pytest.raises(PipelineError, match="was changed after the data were prepared"):
        fetch_dataset(storage, version, tmp_path)


def test_a_manifest_cannot_write_elsewhere(tmp_path: Path) -> None:
    storage = DirectoryStorage(str(tmp_path / "stored"))
    manifest = build_manifest("demo", {}, [Entry("../outside", 1, "0" * 64)])
    version = sha256(manifest)
    storage.write(f"{version}/manifest.json", manifest)
    storage.write("outside", b"x")
    (tmp_path / "here").mkdir()
    with pytest.raises(PipelineError, match=r"names the file '../outside', which lies outside"):
        fetch_dataset(storage, version, tmp_path / "here")
    assert not (tmp_path / "outside").exists()


def test_links_are_no_data(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to("/etc/hostname")
    with pytest.raises(PipelineError, match="x is a link; wanted a file"):
        describe_folder(tmp_path)


def test_the_version_of_the_store_is_part_of_the_manifest() -> None:
    source = [Entry("a.csv", 1, "0" * 64, "v7")]
    one = json.loads(build_manifest("demo", {}, [], source, "s3://b/x"))
    assert one["source"] == [{"path": "a.csv", "size": 1, "sha256": "0" * 64, "version": "v7"}]
    assert build_manifest("demo", {}, [], source, "s3://b/x") != build_manifest(
        "demo", {}, [], [Entry("a.csv", 1, "0" * 64, "v8")], "s3://b/x"
    )


def test_data_that_were_never_prepared_are_said(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="run the step prepare first"):
        fetch_dataset(DirectoryStorage(str(tmp_path)), "0" * 64, tmp_path)


def test_places_are_directories_or_buckets(tmp_path: Path) -> None:
    assert open_storage(tmp_path.as_uri(), config()).uri == tmp_path.as_uri()
    assert open_storage(str(tmp_path), config()).uri == tmp_path.as_uri()
    with pytest.raises(PipelineError, match="wanted s3://bucket/prefix or a directory"):
        open_storage("ftp://x/y", config())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "config.json: the option name is missing."),
        ({"name": 7}, "config.json, name: found 7, wanted str."),
        ({"name": True}, "config.json, name: found True, wanted str."),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PipelineError) as refusal:
        config(**options).options.text("name")
    assert str(refusal.value) == sentence


def test_counts_and_numbers() -> None:
    options = config(count=0, number=1).options
    assert options.number("number") == 1.0
    with pytest.raises(PipelineError, match="count: found 0, wanted 1 or more"):
        options.count("count")
    with pytest.raises(PipelineError, match=r"config.json, model, kind: found 3, wanted str"):
        config(model={"kind": 3}).options.section("model").text("kind")


def test_configuration_is_json_or_yaml(tmp_path: Path) -> None:
    for name, text in (("c.json", '{"a": "b"}'), ("c.yml", "a: b\n")):
        (tmp_path / name).write_text(text)
        assert load(str(tmp_path / name)).options.text("a") == "b"
    (tmp_path / "c.json").write_text("[")
    with pytest.raises(PipelineError, match="this is not JSON"):
        load(str(tmp_path / "c.json"))
    (tmp_path / "c.yml").write_text("a: [")
    with pytest.raises(PipelineError, match="this is not YAML"):
        load(str(tmp_path / "c.yml"))
    with pytest.raises(PipelineError, match="cannot be read"):
        load(str(tmp_path / "none.json"))


def test_secrets_come_from_the_environment_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from file\n")
    options = Section({}, "c")
    assert Config(options, {"S": "direct"}).secret("S") == "direct"
    assert Config(options, {"S_FILE": str(tmp_path / "key")}).secret("S") == "from file"
    with pytest.raises(PipelineError, match="The secret S is missing; set S or S_FILE"):
        Config(options, {}).secret("S")
    with pytest.raises(PipelineError, match=r"nowhere \(S_FILE\) cannot be read"):
        Config(options, {"S_FILE": "/nowhere"}).secret("S")


def test_a_step_forgets_the_secrets_of_others() -> None:
    every = {name for names in SECRETS.values() for name in names}
    environment = {**dict.fromkeys(every, "x"), "PIPELINE_SIGNING_KEY_FILE": "k", "PATH": "/bin"}
    forget_others("evaluate", environment)
    assert set(environment) == {
        "PATH",
        "PIPELINE_MLFLOW_PASSWORD",
        "PIPELINE_S3_ACCESS_KEY",
        "PIPELINE_S3_SECRET_KEY",
    }


def test_evaluate_reads_the_registry_only_where_it_compares() -> None:
    for step, kept in (("evaluate", True), ("train", False), ("prepare", False)):
        environment = {"PIPELINE_REGISTRY_PASSWORD": "x", "PIPELINE_SIGNING_KEY": "k"}
        forget_others(step, environment, comparing=True)
        assert ("PIPELINE_REGISTRY_PASSWORD" in environment) is kept
        assert "PIPELINE_SIGNING_KEY" not in environment
    assert config(margin=0).compares
    assert not config().compares


@pytest.mark.parametrize("margin", [None, 0.01])
def test_the_command_keeps_the_registry_from_an_evaluation_that_does_not_compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, margin: float | None
) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"model_name": "demo", "margin": margin}))
    monkeypatch.setenv("PIPELINE_REGISTRY_PASSWORD", "canary")
    seen: list[bool] = []

    def evaluate(found: Config, *_rest: Any) -> dict[str, Any]:
        seen.append("PIPELINE_REGISTRY_PASSWORD" in found.environment)
        return {}

    monkeypatch.setattr("mlops_pipeline.evaluate.run", evaluate)
    said = ["--data-version", "v", "--candidate", "sha256:1"]
    assert main(["evaluate", "--config", str(tmp_path / "c.json"), *said]) == 0
    assert seen == [margin is not None]


def test_only_what_publishes_signs_and_pushes() -> None:
    for secret in ("PIPELINE_SIGNING_KEY", "PIPELINE_REGISTRY_PASSWORD"):
        writers = {step for step, names in SECRETS.items() if secret in names}
        assert writers <= {"publish", "weights", "configure", "current"}
    signing = {step for step in SECRETS if "PIPELINE_SIGNING_KEY" in SECRETS[step]}
    assert signing == {"publish", "weights", "configure"}


def test_thresholds_are_judged_one_by_one() -> None:
    metrics = {"accuracy": 0.9, "f1": float("nan")}
    assert judge(metrics, {"accuracy": 0.9}) == []
    assert judge(metrics, {"accuracy": 0.95, "f1": 0.5, "auc": 0.5}) == [
        "The accuracy is 0.9000, wanted 0.95 or more.",
        "There is no metric auc; known are accuracy, f1.",
        "The f1 is nan, wanted 0.5 or more.",
    ]


def test_a_failure_is_one_line_of_json_and_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", "--config", str(tmp_path / "none.json")]) == 1
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert (result["step"], result["ok"]) == ("prepare", False)
    assert err.strip() == result["error"]
    assert "cannot be read" in err


def test_the_shared_code_is_found_without_ansible() -> None:
    """As in the pipeline's own environment: no site-packages, so no importer of Ansible."""
    root = Path(__file__).resolve().parents[3]
    shared = "ansible_collections.mlops.onprem.plugins.module_utils"
    program = f"""
import sys
sys.path.insert(0, {str(root / "pipeline")!r})
import mlops_pipeline
from {shared}._release.client import RegistryClient
from {shared}._contracts.s3.client import BOTO_ERROR
print(RegistryClient.__module__, bool(BOTO_ERROR))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout == f"{shared}._release.client True\n"
