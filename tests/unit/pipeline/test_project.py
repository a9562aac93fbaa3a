# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A team's own code: what an MLproject may say, and how it is run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlops_pipeline import prepare, project, sources
from mlops_pipeline.config import Config, Section
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.timing import Timings

from tests.patience import PATIENCE, eventually

HASH = "six==1.17.0 --hash=sha256:" + "0" * 64 + "\n"
PREPARE = """
import argparse, json, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--output", type=pathlib.Path)
parser.add_argument("--word")
parser.add_argument("--source", type=pathlib.Path)
options = parser.parse_args()
(options.output / "word.txt").write_text(options.word)
if options.source:
    for path in options.source.iterdir():
        (options.output / path.name).write_bytes(path.read_bytes())
(pathlib.Path.cwd() / "left behind").write_text("x")
print("noise")
print(json.dumps({"rows": {"train": 3}, "environment": dict(os.environ)}))
"""


def made(folder: Path, text: str = "", **files: str) -> Path:
    """A project in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "MLproject").write_text(
        text
        or """
name: demo
entry_points:
  prepare:
    parameters:
      output: path
      word: {type: string, default: good}
      source: {type: path, default: ""}
    command: "python prepare.py --output {output} --word {word} {source}"
"""
    )
    (folder / "requirements.txt").write_text(HASH)
    (folder / "prepare.py").write_text(PREPARE)
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def point(command: str, parameters: str = "{output: path}") -> str:
    return (
        f"name: demo\nentry_points:\n  prepare:\n    parameters: {parameters}\n"
        f"    command: {json.dumps(command)}\n"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[", "this is not YAML"),
        ("- x", "wanted a mapping with name and entry_points"),
        ("name: x", "wanted entry_points with prepare, train, evaluate"),
        (
            "docker_env: {}\nentry_points: {}",
            "docker_env: environments are made",
        ),
        (point("a {other}"), r"it uses \{other\}, which parameters does not declare"),
        (point("a | b {output}"), "found '|'; a command is started without a shell"),
        (point("a", "{word: string}"), "wanted the parameter output"),
        (point("a", "{output: {type: int}}"), "found the type 'int', wanted string, float"),
        (point("'"), "command: it cannot be read"),
        (point(""), "command: it is empty"),
    ],
)
def test_a_wrong_project_is_refused_with_the_place(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(PipelineError, match=sentence) as refusal:
        project.load_project(made(tmp_path / "p", text))
    assert str(tmp_path / "p/MLproject") in str(refusal.value)


def test_a_folder_without_a_project_names_the_samples(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"has no readable MLproject.*breast_cancer"):
        project.load_project(tmp_path)


def test_a_project_without_a_locked_list_is_refused(tmp_path: Path) -> None:
    folder = made(tmp_path / "p")
    (folder / "requirements.txt").unlink()
    with pytest.raises(PipelineError, match="uv pip compile --generate-hashes"):
        project.load_project(folder)
    (folder / "requirements.txt").write_text("six\n")
    with pytest.raises(PipelineError, match="Found no hashes in"):
        project.python_of(project.load_project(folder), str(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


def test_values_are_words_and_never_a_shell(tmp_path: Path) -> None:
    code = project.load_project(made(tmp_path / "p"))
    words = project.command_of(
        code.entry_points["prepare"], {"output": "/a b", "word": "x; touch $(y)"}, "/py"
    )
    assert words == ["/py", "prepare.py", "--output", "/a b", "--word", "x; touch $(y)", ""]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"output": "x", "colour": "red"}, "has no parameter colour; it has output, source, word"),
        ({}, "needs the parameter output"),
    ],
)
def test_strange_and_missing_parameters_are_named(
    tmp_path: Path, values: dict[str, Any], sentence: str
) -> None:
    code = project.load_project(made(tmp_path / "p"))
    with pytest.raises(PipelineError, match=sentence):
        project.command_of(code.entry_points["prepare"], values, "/py")


def test_a_number_has_to_be_one(tmp_path: Path) -> None:
    text = point("a {output} {n}", "{output: path, n: {type: float, default: 1}}")
    code = project.load_project(made(tmp_path / "p", text))
    entry = code.entry_points["prepare"]
    assert project.command_of(entry, {"output": "o"}, "/py") == ["a", "o", "1"]
    with pytest.raises(PipelineError, match="parameter n of prepare is 'many', wanted a number"):
        project.command_of(entry, {"output": "o", "n": "many"}, "/py")


def simple(folder: Path, program: str) -> project.Project:
    return project.load_project(
        made(folder, point("python prepare.py {output}"), **{"prepare.py": program})
    )


def test_project_code_sees_no_secret_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_SIGNING_KEY", "canary-7")
    program = """
import json, os, pathlib
pathlib.Path("left").write_text("x")
print(json.dumps({"seen": dict(os.environ), "cwd": os.getcwd()}))
"""
    code = simple(tmp_path / "p", program)
    before = code.digest
    said = project.run(code, "prepare", {"output": str(tmp_path)}, sys.executable)
    assert "canary-7" not in json.dumps(said)
    assert not [name for name in said["seen"] if name.startswith(("PIPELINE_", "PYTHONPATH"))]
    assert said["cwd"] != str(tmp_path / "p")
    assert not Path(said["cwd"]).exists()
    assert code.digest == before


def test_a_failure_is_the_last_line_without_control_characters(tmp_path: Path) -> None:
    code = simple(tmp_path / "p", "raise SystemExit('the \\x1b[31mcolumn age is missing')")
    with pytest.raises(PipelineError) as refusal:
        project.run(code, "prepare", {"output": "x"}, sys.executable)
    assert str(refusal.value) == (
        "The entry point prepare of demo ended 1: the [31mcolumn age is missing"
    )


def ends(pid: int, seconds: float = PATIENCE) -> bool:
    """Whether a process is gone, or is in a moment: what was killed may still be on its way out."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def times_out_once(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the time of a program be up as soon as it has written a file, and not before."""
    really = subprocess.Popen.wait

    def wait(child: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if timeout is None:
            return really(child)
        eventually(there.exists, f"{there.name} is written")
        raise subprocess.TimeoutExpired("program", timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)


def test_what_does_not_end_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = f"""
import pathlib, subprocess, time
child = subprocess.Popen(["sleep", "3600"])
written = pathlib.Path({str(tmp_path / "written")!r})
written.write_text(str(child.pid))
written.rename({str(tmp_path / "pid")!r})
time.sleep(3600)
"""
    code = simple(tmp_path / "p", program)
    times_out_once(tmp_path / "pid", monkeypatch)
    with pytest.raises(PipelineError, match="was ended after 1 seconds"):
        project.run(code, "prepare", {"output": "x"}, sys.executable, timeout=1)
    assert ends(int((tmp_path / "pid").read_text()))


def test_the_time_of_a_program_is_really_counted(tmp_path: Path) -> None:
    code = simple(tmp_path / "p", "import time; time.sleep(3600)")
    with pytest.raises(PipelineError, match=r"was ended after 0\.2 seconds"):
        project.run(code, "prepare", {"output": "x"}, sys.executable, timeout=0.2)


def test_endless_output_is_read_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project, "MAX_OUTPUT_BYTES", 1000)
    code = simple(tmp_path / "p", "print('x' * 100000); print('{\"metrics\": {\"a\": 1}}')")
    said = project.run(code, "prepare", {"output": "x"}, sys.executable)
    assert project.metrics_of(said, "evaluate") == {"a": 1.0}


@pytest.mark.parametrize("answer", [{}, {"metrics": {}}, {"metrics": {"a": "b"}}])
def test_metrics_have_to_be_numbers(answer: dict[str, Any]) -> None:
    with pytest.raises(PipelineError, match=r"printed no metrics|wanted a number"):
        project.metrics_of(answer, "evaluate")


def test_the_digest_is_that_of_the_files_wherever_they_lie(tmp_path: Path) -> None:
    one, two = made(tmp_path / "one"), made(tmp_path / "two")
    (two / "__pycache__").mkdir()
    (two / "__pycache__/x.pyc").write_bytes(b"x")
    assert project.load_project(one).digest == project.load_project(two).digest
    (two / "prepare.py").write_text("pass")
    assert project.load_project(one).digest != project.load_project(two).digest


@pytest.fixture
def own_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment is built."""
    monkeypatch.setattr(project, "python_of", lambda *_: sys.executable)


SOURCE = point(
    "python prepare.py --output {output} --word x --source {source}",
    "{output: path, source: path}",
)


@pytest.mark.usefixtures("own_python")
@pytest.mark.parametrize("place", ["folder", "file"])
def test_own_data_from_a_directory_or_a_file_become_a_version(tmp_path: Path, place: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/rows.parquet").write_bytes(b"PAR1")
    source = tmp_path / "in" if place == "folder" else tmp_path / "in/rows.parquet"
    options = {
        "project": str(made(tmp_path / "p", SOURCE)),
        "data_uri": str(tmp_path / "out"),
        "source": str(source),
    }
    config = Config(Section(options, "c"), {})
    first = prepare.run(config, Timings())
    assert (first["changed"], first["files"], first["source_files"]) == (True, 2, 1)
    assert prepare.run(config, Timings())["changed"] is False
    stored = tmp_path / "out" / first["data_version"]
    manifest = json.loads((stored / "manifest.json").read_text())
    assert manifest["source"][0]["path"] == "rows.parquet"
    (tmp_path / "in/rows.parquet").write_bytes(b"PAR2")
    assert prepare.run(config, Timings())["data_version"] != first["data_version"]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("/nowhere/x", "The source of the data, /nowhere/x, is not there"),
        (7, "found 7, wanted s3://bucket/prefix, a path, or a mapping with postgresql"),
        ({"postgresql": {"query": "select 1"}}, "postgresql: the option database is missing"),
        ({"mysql": {}}, "source, postgresql: the option query is missing"),
    ],
)
def test_a_wrong_source_is_named(tmp_path: Path, source: Any, sentence: str) -> None:
    config = Config(Section({"source": source}, "c"), {})
    with pytest.raises(PipelineError, match=sentence):
        sources.fetch(config, tmp_path)


def test_an_empty_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    config = Config(Section({"source": str(tmp_path / "in")}, "c"), {})
    with pytest.raises(PipelineError, match="holds no file"):
        sources.fetch(config, tmp_path)


@pytest.mark.parametrize("name", sorted(each.name for each in project.SAMPLES.iterdir()))
def test_every_sample_is_a_project_that_mlflow_could_read(name: str) -> None:
    code = project.load_project(name)
    assert set(code.entry_points) == {"prepare", "train", "evaluate"}
    assert "--hash=sha256:" in code.requirements.read_text()
    for entry in code.entry_points.values():
        assert entry.words[0] == "python"
        assert (code.folder / entry.words[1]).is_file()


def test_the_engine_knows_no_sample() -> None:
    engine = Path(project.__file__).parent
    for path in engine.glob("*.py"):
        text = path.read_text()
        assert not re.search(r"(import|from) (sklearn|skl2onnx|lightgbm)", text), path
    assert os.path.isdir(project.SAMPLES / "breast_cancer")  # noqa: PTH112
