# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""A model of one's own: the commands of docs/own_model.md, and what is refused in its place."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.patience import PATIENCE, eventually

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/own_model.md"
BLOCKS = re.findall(r"```\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
PREPARE, PACKAGE = BLOCKS[0].replace("python3 ", f"{sys.executable} ", 1), BLOCKS[1]
FIXTURES = ROOT / "tests/fixtures"
BIG_MIB = int(os.environ.get("MLOPS_TEST_BIG_MIB", "4"))

Package = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def python() -> str:
    """The Python of the pipeline, built as the page says."""
    done = subprocess.run(
        ["bash", "-euc", f"{PREPARE}\necho $python"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def models(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models as users bring them."""
    place = tmp_path_factory.mktemp("models")
    subprocess.run([python, FIXTURES / "own_models.py", place, str(BIG_MIB)], check=True)
    return place


@pytest.fixture
def package(python: str, tmp_path: Path) -> Package:
    """Run the step; its line of JSON, and what it said to a person."""

    def run(*arguments: object) -> dict[str, Any]:
        # A step that is started beside the crown jewels: nothing of them reaches the model.
        (tmp_path / "secrets.yml").write_text("password: hunter2")
        done = subprocess.run(
            [python, "-m", "mlops_pipeline", "package", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT / "pipeline"), "PIPELINE_SIGNING_KEY": "x"},
            capture_output=True,
            text=True,
            check=False,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (0 if answer["ok"] else 1)
        assert "Traceback" not in done.stderr
        assert answer["ok"] or done.stderr.strip().endswith(answer["error"])
        return answer

    return run


@pytest.mark.parametrize("kind", ["external", "string", "two_inputs", "big"])
def test_the_page_leads_from_a_file_to_a_candidate(kind: str, models: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    shutil.copytree(models / kind, here)
    commands = PACKAGE
    if kind == "big":
        commands = PACKAGE.replace(" --out", f" --release-max-mib {BIG_MIB + 1} --out")
    started = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", f"{PREPARE}\ncd {here}\n{commands}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - started
    lines = [json.loads(each) for each in done.stdout.splitlines() if each.startswith('{"')]
    first, second = [each for each in lines if each.get("step") == "package"]
    assert not first["ok"]
    assert "look at it, then run the same command with --expected" in first["error"]
    assert second["ok"], second
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", second["candidate"])
    assert second["candidate"] in done.stdout.partition("| candidate |")[2]
    shown = json.loads((here / "fraud/answers.json").read_text())
    golden = json.loads((here / "fraud/release/golden.json").read_text())
    assert golden["cases"] == shown["cases"]
    if kind == "string":
        assert golden["cases"][0]["expected"] == {"y": [2.0, -1.0]}
    if kind == "external":
        assert second["files"]["model.onnx.data"] == 32 * 16 * 4
    assert second["peak_mib"] > 0
    assert seconds < 60 + BIG_MIB
    print(f"{kind}: {seconds:.1f} s, {second['bytes']} bytes, {second['peak_mib']} MiB")


def test_a_second_run_changes_nothing(package: Package, models: Path, tmp_path: Path) -> None:
    arguments = (
        *(models / "two_inputs/model.onnx", "--name", "two", "--accept-answers"),
        *("--cases", models / "two_inputs/cases.json", "--out", tmp_path / "out"),
    )
    first, second = package(*arguments), package(*arguments)
    assert (first["changed"], second["changed"]) == (True, False)
    assert first["candidate"] == second["candidate"]
    assert first["answers"] == "produced by the model"
    # What was shown for approval is a file of cases with their answers: the inventory names it.
    shown = package(*arguments[:3], *arguments[4:6], "--out", tmp_path / "shown")
    assert "look at it" in shown["error"]
    cases = ("--cases", tmp_path / "shown/answers.json", "--out", tmp_path / "given")
    given = package(*arguments[:3], *cases)
    assert (given["answers"], given["candidate"]) == ("given", first["candidate"])
    (tmp_path / "out/release/golden.json").write_text("{}")
    third = package(*arguments)
    assert (third["changed"], third["candidate"]) == (True, first["candidate"])


def refusal(package: Package, models: Path, tmp_path: Path, kind: str, *more: object) -> str:
    out = tmp_path / "out"
    answer = package(
        *(models / kind / "model.onnx", "--name", "m", "--out", out, "--accept-answers"),
        *("--cases", models / kind / "cases.json", *more),
    )
    assert not answer["ok"], answer
    assert not (out / "release").exists()
    return str(answer["error"])


@pytest.mark.parametrize(
    ("kind", "found"), [("newer", "opset ai.onnx 99"), ("newer_format", "IR version 99")]
)
def test_what_devices_do_not_know_yet_is_refused(
    kind: str, found: str, package: Package, models: Path, tmp_path: Path
) -> None:
    said = refusal(package, models, tmp_path, kind)
    assert re.search(rf"it is of {found}, newer than ONNX Runtime 1\.\d+\.\d+ of the devices", said)


def test_a_model_that_answers_differently_each_time_is_refused(
    package: Package, models: Path, tmp_path: Path
) -> None:
    said = refusal(package, models, tmp_path, "dice")
    assert "Golden case 1: the answer differs by" in said
    assert "it does not answer a request the same way twice" in said


def test_a_model_that_takes_all_memory_is_refused(
    package: Package, models: Path, tmp_path: Path
) -> None:
    assert "more than the 352 MiB that it may take on a device" in refusal(
        package, models, tmp_path, "greedy"
    )
    (tmp_path / "c.json").write_text(json.dumps({"limits": {"memory_mib": 4}}))
    said = refusal(package, models, tmp_path, "big", "--config", tmp_path / "c.json")
    assert re.search(r"more than the 4 MiB that it may", said)


def test_a_model_that_does_not_end_is_ended(package: Package, models: Path, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"limits": {"seconds": 5}}))
    started = time.monotonic()
    said = refusal(package, models, tmp_path, "endless", "--config", tmp_path / "c.json")
    assert "did not answer within 5 seconds" in said
    assert time.monotonic() - started < 5 * PATIENCE


def test_a_model_ends_with_the_step_that_tries_it(
    python: str, models: Path, tmp_path: Path
) -> None:
    arguments = ["--name", "m", "--accept-answers", "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        [
            python,
            "-m",
            "mlops_pipeline",
            "package",
            "model.onnx",
            "--cases",
            "cases.json",
            *arguments,
        ],
        cwd=models / "endless",
        env={**os.environ, "PYTHONPATH": str(ROOT / "pipeline")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as step:

        def tried() -> list[int]:
            """The process that loops in the model, if it does so by now."""
            path = Path(f"/proc/{step.pid}/task/{step.pid}/children")
            found = [int(pid) for pid in path.read_text().split()]
            return [pid for pid in found if busy(pid)]

        eventually(tried, "a model that is tried")
        (model,) = tried()
        step.kill()
    eventually(lambda: not Path(f"/proc/{model}").exists(), "the end of the model")


def busy(pid: int) -> bool:
    """Whether a process has worked for two seconds: longer than it takes to load a model."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) > 2 * os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("poisoned", r"No Op registered for Nope\?\]0;title\?"),
        ("renamed", r"The name of the tensor y\?\[2J has 5 characters, wanted at most 256"),
    ],
)
def test_names_of_a_model_do_nothing_to_a_terminal(
    kind: str, sentence: str, package: Package, models: Path, tmp_path: Path
) -> None:
    said = refusal(package, models, tmp_path, kind)
    assert re.search(sentence, said)
    assert said.isprintable()


def test_answers_of_any_length_take_little_memory_here(
    python: str, models: Path, tmp_path: Path
) -> None:
    arguments = ["package", "model.onnx", "--name", "m", "--accept-answers"]
    arguments += ["--cases", "cases.json", "--out", str(tmp_path / "out")]
    measured = (
        "import resource, sys; from mlops_pipeline.__main__ import main; main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    peaks = {}
    for kind in ("two_inputs", "talkative"):
        done = subprocess.run(
            [python, "-c", measured, *arguments],
            cwd=models / kind,
            env={**os.environ, "PYTHONPATH": str(ROOT / "pipeline")},
            capture_output=True,
            text=True,
            check=True,
        )
        line, peaks[kind] = done.stdout.splitlines()[0], int(done.stdout.splitlines()[1])
    assert "takes more than 16 MiB, too much for golden answers" in json.loads(line)["error"]
    assert peaks["talkative"] < peaks["two_inputs"] + 300


def test_a_model_larger_than_devices_plan_for_is_refused(
    package: Package, models: Path, tmp_path: Path
) -> None:
    said = refusal(package, models, tmp_path, "big", "--release-max-mib", "1")
    assert "more than the 1 MiB that devices keep room for" in said
    assert "model_serving_release_max_mib" in said


@pytest.mark.parametrize(
    ("name", "sentence"), [("bfloat16", "which clients cannot send"), ("sequence", "a sequence")]
)
def test_types_without_a_name_in_the_protocol_are_refused(
    name: str, sentence: str, package: Package, tmp_path: Path
) -> None:
    answer = package(
        *(FIXTURES / f"models/{name}.onnx", "--name", "m", "--out", tmp_path / "out"),
    )
    assert sentence in answer["error"]


def test_answers_that_differ_are_refused(package: Package, models: Path, tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text('[{"y": [2.5, -1.0]}]')
    said = refusal(package, models, tmp_path, "string", "--expected", tmp_path / "e.json")
    assert "Golden case 1: the answer differs by 0.2 from the one expected in y" in said


def test_requests_that_do_not_fit_are_refused(
    package: Package, models: Path, tmp_path: Path
) -> None:
    cases = models / "two_inputs/cases.json"
    answer = package(
        *(models / "string/model.onnx", "--name", "m", "--accept-answers"),
        *("--out", tmp_path / "out", "--cases", cases),
    )
    assert "Request 1: The model has no input 'counts'; it has colour." in answer["error"]
    answer = package(models / "string", "--name", "m", "--out", tmp_path / "out")
    assert "There are no cases to try the model with" in answer["error"]
    assert '"name": "colour", "shape": [1, 1], "datatype": "BYTES"' in answer["error"]


def test_weights_that_are_not_there_are_named(
    package: Package, models: Path, tmp_path: Path
) -> None:
    shutil.copy(models / "external/model.onnx", tmp_path / "alone.onnx")
    answer = package(tmp_path / "alone.onnx", "--name", "m", "--out", tmp_path / "out")
    assert "from model.onnx.data, which is missing beside the model" in answer["error"]


def test_what_is_no_onnx_model_is_said(package: Package, models: Path, tmp_path: Path) -> None:
    logged = tmp_path / "logged"
    logged.mkdir()
    (logged / "MLmodel").write_text("flavors: {python_function: {}, sklearn: {}}")
    for model, sentence in (
        (logged, "is logged as python_function, sklearn, without ONNX"),
        (tmp_path / "none.onnx", "Found no model at"),
        (models, "holds 0 ONNX files (none)"),
        ("models:/fraud@champion", "give --config with its part mlflow"),
        (tmp_path / "secrets.yml", "is not an ONNX model"),
    ):
        answer = package(model, "--name", "m", "--out", tmp_path / "out")
        assert sentence in answer["error"]


def test_a_folder_that_is_not_ours_is_left_alone(
    package: Package, models: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/letters").write_text("x")
    answer = package(models / "string", "--name", "m", "--out", tmp_path / "out")
    assert "holds other things (letters)" in answer["error"]
    answer = package(models / "string", "--name", "Fraud", "--out", tmp_path / "new")
    assert "as it also names a repository" in answer["error"]


def test_the_input_example_of_mlflow_is_enough(
    package: Package, models: Path, tmp_path: Path
) -> None:
    logged = tmp_path / "logged"
    shutil.copytree(models / "external", logged)
    (logged / "MLmodel").write_text("flavors: {onnx: {data: model.onnx}}")
    example = {"inputs": [[0.5] * 32, [1.0] * 32]}
    (logged / "serving_input_example.json").write_text(json.dumps(example))
    answer = package(logged, "--name", "m", "--accept-answers", "--out", tmp_path / "out")
    assert answer["ok"], answer
    assert answer["cases"] == 2


def test_devices_and_the_pipeline_load_models_by_the_same_runtime() -> None:
    found = set()
    for path in ("requirements/pipeline.txt", "roles/model_serving/files/requirements.txt"):
        found |= set(re.findall(r"^onnxruntime==(\S+)", (ROOT / path).read_text(), re.MULTILINE))
    assert len(found) == 1
