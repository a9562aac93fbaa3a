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
from mlops_pipeline.config import Config, Section, load
from mlops_pipeline.data import (
    Rows,
    build_manifest,
    from_csv,
    read_dataset,
    sha256,
    split,
    to_csv,
)
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.evaluate import judge, largest_gap
from mlops_pipeline.storage import DirectoryStorage, open_storage

ROWS = Rows(("a", "b"), [[0.1, 1e-30], [2.0, 3.5]], [0, 1])


def config(**options: Any) -> Config:
    return Config(Section(options, "config.json"), {})


def test_a_split_is_the_same_everywhere() -> None:
    parts = split(10, 0.3, seed=17)
    assert parts == {"test": [0, 1, 3], "train": [2, 4, 5, 6, 7, 8, 9]}
    assert parts != split(10, 0.3, seed=18)


def test_rows_read_back_as_they_were_written() -> None:
    assert from_csv(to_csv(ROWS), "x.csv") == ROWS


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "x.csv: the first line does not name features and a label."),
        ("a,b\n1,2\n", "x.csv: the first line does not name features and a label."),
        ("a,label\n1\n", "x.csv, line 2: 1 fields, wanted 2."),
        ("a,label\n1,0\ny,0\n", "x.csv, line 3: could not convert string to float: 'y'."),
    ],
)
def test_a_wrong_line_is_named(text: str, sentence: str) -> None:
    with pytest.raises(PipelineError) as refusal:
        from_csv(text.encode(), "x.csv")
    assert str(refusal.value) == sentence


@pytest.fixture
def dataset(tmp_path: Path) -> tuple[DirectoryStorage, str]:
    """A stored data set and its version."""
    storage = DirectoryStorage(str(tmp_path))
    files = {"train.csv": to_csv(ROWS), "test.csv": to_csv(ROWS)}
    manifest = build_manifest("demo", "here", 17, 0.5, files)
    version = sha256(manifest)
    for name, data in {**files, "manifest.json": manifest}.items():
        storage.write(f"{version}/{name}", data)
    return storage, version


def test_a_data_set_is_read_and_checked(dataset: tuple[DirectoryStorage, str]) -> None:
    storage, version = dataset
    manifest, parts = read_dataset(storage, version, ("test",))
    assert manifest["dataset"] == "demo"
    assert parts == {"test": ROWS}


def test_changed_data_are_refused(dataset: tuple[DirectoryStorage, str]) -> None:
    storage, version = dataset
    storage.write(f"{version}/train.csv", b"a,label\n1,0\n")
    with pytest.raises(PipelineError, match=r"train.csv has the sha256 \w{64}, the manifest says"):
        read_dataset(storage, version)


def test_a_changed_manifest_is_refused(dataset: tuple[DirectoryStorage, str]) -> None:
    storage, version = dataset
    storage.write(f"{version}/manifest.json", b"{}")
    with pytest.raises(PipelineError, match="was changed after the data were prepared"):
        read_dataset(storage, version)


def test_data_that_were_never_prepared_are_said(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="run the step prepare first"):
        read_dataset(DirectoryStorage(str(tmp_path)), "0" * 64)


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


def test_thresholds_are_judged_one_by_one() -> None:
    metrics = {"accuracy": 0.9, "f1": float("nan")}
    assert judge(metrics, {"accuracy": 0.9}) == []
    assert judge(metrics, {"accuracy": 0.95, "f1": 0.5, "auc": 0.5}) == [
        "The accuracy is 0.9000, wanted 0.95 or more.",
        "There is no metric auc; known are accuracy, f1.",
        "The f1 is nan, wanted 0.5 or more.",
    ]


def test_answers_of_another_length_differ_infinitely() -> None:
    assert largest_gap([1.0], [1.0, 2.0]) == float("inf")
    assert largest_gap([], []) == 0.0
    assert largest_gap([1.0, 2.0], [1.5, 2.0]) == 0.5


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
