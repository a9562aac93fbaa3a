# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a timer does with a model: when it trains, what it leaves behind, and who signs it.

The steps are played by a small program that answers as the engine does; that the engine itself runs
from a bundle is seen in tests/unit/pipeline/test_bundle.py.
"""

from __future__ import annotations

import importlib.util
import json
import stat
import subprocess
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from mlops_pipeline import config

from tests import prometheus_programs
from tests.unit.pipeline.test_project import ends, times_out_once

ROOT = Path(__file__).resolve().parents[4]
PROGRAM = ROOT / "roles/pipelines/files/mlops_pipelines.py"
DATA, RUN, CANDIDATE = "d" * 64, "run-1", "sha256:" + "c" * 64

# Answers each step with the line in <place>/<step>.json, and writes down how it was called.
ENGINE = """#!/usr/bin/python3
import json, os, pathlib, sys
place = pathlib.Path(os.environ["HOME"])
step = sys.argv[3]
config = json.loads(pathlib.Path(sys.argv[5]).read_text())
secrets = sorted(name for name in os.environ if name.startswith("PIPELINE_"))
with (place / "calls").open("a") as stream:
    stream.write(json.dumps([step, sys.argv[6:], config["model_name"], secrets]) + "\\n")
answer = json.loads((place / (step + ".json")).read_text())
if step == "evaluate" and answer.get("ok"):
    judgement = pathlib.Path(sys.argv[sys.argv.index("--judgement") + 1])
    judgement.write_text("{}")
    judgement.chmod(0o600)
print("a library says something")
print(json.dumps(answer))
sys.exit(0 if answer.get("ok") else 1)
"""


@pytest.fixture(scope="session")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mlops_pipelines", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Host:
    """The directories of a control host, and an engine that answers what it is told to."""

    def __init__(self, place: Path, program: ModuleType) -> None:
        self.place, self.program = place, program
        self.root = place / "state"
        for name in ("trained/welds", "published", "metrics"):
            (self.root / name).mkdir(parents=True)
        engine = place / "python"
        engine.write_text(ENGINE)
        engine.chmod(engine.stat().st_mode | stat.S_IXUSR)
        self.bundle("code")
        self.settings: dict[str, Any] = {
            "model": "welds",
            "bundle": str(place / "welds.zip"),
            "python": str(engine),
            "unchanged_data": "wait",
            "root": str(self.root),
            "step": {"model_name": "welds", "limit_seconds": 60},
        }
        self.answers("prepare", ok=True, data_version=DATA)
        self.answers("train", ok=True, run_id=RUN, candidate=CANDIDATE)
        self.answers("evaluate", ok=True)
        self.answers("publish", ok=True, digest="sha256:" + "e" * 64, model_version="3")

    def bundle(self, text: str) -> None:
        with zipfile.ZipFile(self.place / "welds.zip", "w") as archive:
            archive.writestr("pipeline/code.py", text)

    def answers(self, step: str, **answer: Any) -> None:
        (self.place / f"{step}.json").write_text(json.dumps(answer))

    def run(self, what: str) -> int:
        page = self.place / "welds.json"
        page.write_text(json.dumps(self.settings))
        (self.place / "calls").unlink(missing_ok=True)
        return int(self.program.main([what, str(page)]))

    @property
    def calls(self) -> list[list[Any]]:
        page = self.place / "calls"
        return [json.loads(line) for line in page.read_text().splitlines()] if page.exists() else []

    @property
    def steps(self) -> list[str]:
        return [call[0] for call in self.calls]

    @property
    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.root / "trained/welds/state.json").read_text()))

    @property
    def published(self) -> dict[str, Any]:
        return dict(json.loads((self.root / "published/welds.json").read_text()))

    def outcome(self) -> str:
        for line in (self.root / "metrics/metrics.prom").read_text().splitlines():
            if line.startswith("mlops_pipeline_outcome{") and line.endswith(" 1"):
                return line.split('outcome="')[1].split('"')[0]
        return ""


@pytest.fixture
def host(tmp_path: Path, program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Host:
    for name in {name for names in program.SECRETS.values() for name in names}:
        file = name == "PIPELINE_SIGNING_KEY"
        monkeypatch.setenv(f"{name}_FILE" if file else name, "/etc/key" if file else "secret")
    monkeypatch.setenv("HOME", str(tmp_path))
    return Host(tmp_path, program)


def test_a_good_candidate_waits_and_is_published_once(host: Host) -> None:
    assert host.run("train") == 0
    assert host.steps == ["prepare", "train", "evaluate"]
    assert (host.state["outcome"], host.outcome()) == ("waiting", "waiting")
    # Another user, of the same group, is to read both.
    for name, mode in (("judgement.json", 0o640), ("state.json", 0o644)):
        assert stat.S_IMODE((host.root / "trained/welds" / name).stat().st_mode) == mode
    assert host.run("publish") == 0
    ((step, arguments, _model, _secrets),) = host.calls
    assert step == "publish"
    assert arguments[:4] == ["--run-id", RUN, "--candidate", CANDIDATE]
    assert (host.published["version"], host.outcome()) == ("3", "published")
    assert host.run("publish") == 0
    assert host.calls == []


def test_the_same_data_and_code_are_not_trained_again(host: Host) -> None:
    host.run("train")
    assert host.run("train") == 0
    assert host.steps == ["prepare"]
    assert host.state["outcome"] == "unchanged"
    # What waits goes on waiting, and is still what publish takes.
    assert host.outcome() == "waiting"
    host.run("publish")
    assert host.steps == ["publish"]
    assert host.run("train") == 0
    assert host.outcome() == "published"


@pytest.mark.parametrize("change", ["data", "code", "settings", "train"])
def test_what_is_new_is_trained(host: Host, change: str) -> None:
    host.run("train")
    if change == "data":
        host.answers("prepare", ok=True, data_version="f" * 64)
    elif change == "code":
        host.bundle("other code")
    elif change == "settings":
        host.settings["step"]["thresholds"] = {"accuracy": 0.9}
    else:
        host.settings["unchanged_data"] = "train"
    host.run("train")
    assert host.steps == ["prepare", "train", "evaluate"]


def test_a_candidate_that_is_not_good_enough_is_no_fault_and_is_not_published(host: Host) -> None:
    why = "The model of run run-1 is not good enough. accuracy 0.81, wanted 0.93."
    host.answers("evaluate", ok=False, refused=True, error=why)
    assert host.run("train") == 0
    assert host.outcome() == "refused"
    assert why in host.state["why"]
    assert host.run("publish") == 0
    assert host.calls == []


def test_a_refused_candidate_takes_the_place_of_one_that_waited(host: Host) -> None:
    host.run("train")
    host.answers("prepare", ok=True, data_version="f" * 64)
    host.answers("evaluate", ok=False, refused=True, error="worse than the last release")
    host.run("train")
    assert host.run("publish") == 0
    assert host.calls == []


@pytest.mark.parametrize("step", ["prepare", "train", "evaluate"])
def test_a_step_that_fails_is_tried_again_and_leaves_what_waits(host: Host, step: str) -> None:
    host.run("train")
    host.answers("prepare", ok=True, data_version="f" * 64)
    kept = (host.place / f"{step}.json").read_text()
    host.answers(step, ok=False, error="the object store does not answer")
    assert host.run("train") == 1
    assert host.outcome() == "failed"
    assert "the object store does not answer" in host.state["why"]
    assert host.state["candidate"] == CANDIDATE
    (host.place / f"{step}.json").write_text(kept)
    if step == "prepare":
        host.answers("prepare", ok=True, data_version="f" * 64)
    assert host.run("train") == 0
    assert host.steps == ["prepare", "train", "evaluate"]


def test_what_could_not_be_published_is_tried_again(host: Host) -> None:
    host.run("train")
    host.answers("publish", ok=False, error="the registry does not answer")
    assert host.run("publish") == 1
    assert host.outcome() == "failed"
    host.answers("publish", ok=True, digest="sha256:" + "e" * 64, model_version="3")
    assert host.run("publish") == 0
    assert host.outcome() == "published"


def test_a_step_without_a_result_is_told_with_its_last_words(host: Host) -> None:
    (host.place / "train.json").write_text("no json")
    assert host.run("train") == 1
    assert "JSONDecodeError" in host.state["why"]


def test_a_step_that_does_not_end_is_ended_with_what_it_started(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = host.place / "python"
    engine.write_text("#!/bin/sh\nsleep 600 & echo $! > $HOME/c; mv $HOME/c $HOME/child; wait\n")
    times_out_once(host.place / "child", monkeypatch)
    assert host.run("train") == 1
    assert "did not end within 60 seconds" in host.state["why"]
    assert ends(int((host.place / "child").read_text()))


def test_the_secrets_of_a_step_are_those_that_the_engine_asks_for(program: ModuleType) -> None:
    for step, names in program.SECRETS.items():
        assert set(names) == {*config.SECRETS[step], *config.COMPARING.get(step, ())}, step


def test_each_step_sees_its_own_secrets_only(host: Host) -> None:
    host.run("train")
    host_calls = {call[0]: call[3] for call in host.calls}
    host.run("publish")
    host_calls.update({call[0]: call[3] for call in host.calls})
    store = ["PIPELINE_S3_ACCESS_KEY", "PIPELINE_S3_SECRET_KEY"]
    registries = ["PIPELINE_MLFLOW_PASSWORD", "PIPELINE_REGISTRY_PASSWORD"]
    assert host_calls == {
        "prepare": [*store, "PIPELINE_SOURCE_PASSWORD"],
        "train": [registries[0], *store],
        "evaluate": [*registries, *store],
        "publish": [*registries, "PIPELINE_SIGNING_KEY_FILE", "PIPELINE_SIGNING_PIN"],
    }


def test_a_kill_leaves_a_whole_file(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.run("train")
    before = host.state

    def killed(_old: Path, _new: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        host.run("train")
    assert host.state == before
    kept = sorted(path.name for path in (host.root / "trained/welds").iterdir())
    assert kept == ["judgement.json", "state.json"]


def test_metrics_are_what_prometheus_reads(host: Host) -> None:
    host.run("train")
    host.run("publish")
    text = (host.root / "metrics/metrics.prom").read_text()
    checked = [prometheus_programs.program("promtool"), "check", "metrics"]
    done = subprocess.run(checked, input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert 'mlops_pipeline_waiting_since_timestamp_seconds{model_name="welds"} 0\n' in text
    for outcome in host.program.OUTCOMES:
        assert f'mlops_pipeline_outcome{{model_name="welds",outcome="{outcome}"}} ' in text
    for step in ("prepare", "train", "evaluate", "publish"):
        assert f'mlops_pipeline_step_seconds{{model_name="welds",step="{step}"}} ' in text
