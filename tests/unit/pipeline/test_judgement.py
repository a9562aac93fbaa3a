# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What evaluate has found reaches publish, and nobody else can say it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from mlops_pipeline import judgement
from mlops_pipeline.candidate import Candidate, assemble
from mlops_pipeline.config import Config, Section
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.publish import judged
from mlops_pipeline.trial import Limits, Trial

from tests import onnx_bytes as onnx

REQUEST = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}
GOLDEN = {"tolerance": 0.001, "cases": [{"request": REQUEST, "expected": {"y": [1]}}]}
TRIED = Trial(0.1, 10.0, {}, [], [], [], {"y": 0.0005}, "1", ())


def config(**options: Any) -> Config:
    return Config(Section(options, "c.yml"), {})


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where judgements are kept."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def candidate(tmp_path: Path) -> Candidate:
    """A candidate of one small model."""
    (tmp_path / "net.onnx").write_bytes(onnx.model())
    settings = {"model_name": "demo", "tolerance": 0.001}
    made: Candidate = assemble(tmp_path / "c", tmp_path / "net.onnx", GOLDEN, settings)
    return made


def passed(made: Candidate, **other: Any) -> Any:
    found = {
        "candidate": made.digest,
        "cases": judgement.cases_digest(made),
        "tolerance": 0.001,
        "thresholds": {"accuracy": 0.9},
        "metrics": {"accuracy": 0.95},
        "data_version": "a" * 64,
        "project_commit": "c0ffee",
        "lock_digest": "sha256:" + "b" * 64,
        "time": "2026-01-31T12:00:00Z",
        **other,
    }
    return judgement.Judgement(**found)


def test_a_judgement_is_read_back_and_signed_with_todays_thresholds(candidate: Candidate) -> None:
    place = judgement.default_place(candidate.digest)
    judgement.write(place, passed(candidate))
    assert place.stat().st_mode & 0o777 == 0o600
    found = judged(config(thresholds={"accuracy": 0.94}), candidate, TRIED, None)
    evaluation = found.evaluation()
    assert evaluation.thresholds == {"accuracy": 0.94}
    assert evaluation.metrics == {"accuracy": 0.95}
    assert evaluation.data_manifest == "sha256:" + "a" * 64
    assert evaluation.project_commit == "c0ffee"
    assert evaluation.candidate == candidate.digest


def test_thresholds_without_a_judgement_are_refused(candidate: Candidate, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="has not passed its evaluation here"):
        judged(config(thresholds={"accuracy": 0.9}), candidate, TRIED, None)
    with pytest.raises(PipelineError, match="has not passed its evaluation here"):
        judged(config(), candidate, TRIED, tmp_path / "none.json")


def test_a_model_without_thresholds_is_judged_by_its_cases(candidate: Candidate) -> None:
    found = judged(config(), candidate, TRIED, None)
    assert found.metrics == {"golden_gap": 0.0005}
    assert found.cases == judgement.cases_digest(candidate)


def test_thresholds_that_were_raised_since_count(candidate: Candidate) -> None:
    judgement.write(judgement.default_place(candidate.digest), passed(candidate))
    with pytest.raises(PipelineError, match=r"The accuracy is 0\.9500, wanted 0\.99 or more"):
        judged(config(thresholds={"accuracy": 0.99}), candidate, TRIED, None)
    with pytest.raises(PipelineError, match="There is no metric f1; known are accuracy"):
        judged(config(thresholds={"f1": 0.5}), candidate, TRIED, None)


def test_a_judgement_about_other_bytes_or_cases_is_refused(
    candidate: Candidate, tmp_path: Path
) -> None:
    place = tmp_path / "j.json"
    judgement.write(place, passed(candidate, candidate="sha256:" + "0" * 64))
    with pytest.raises(PipelineError, match=r"is about sha256:0+, wanted sha256:"):
        judged(config(), candidate, TRIED, place)
    judgement.write(place, passed(candidate, cases="sha256:" + "0" * 64))
    with pytest.raises(PipelineError, match="It was judged on other cases"):
        judged(config(), candidate, TRIED, place)


@pytest.mark.parametrize("mode", [0o622, 0o660, 0o666])
def test_a_judgement_that_others_can_write_is_refused(
    candidate: Candidate, tmp_path: Path, mode: int
) -> None:
    place = tmp_path / "j.json"
    judgement.write(place, passed(candidate))
    place.chmod(mode)
    with pytest.raises(PipelineError, match="could have been written by somebody else"):
        judgement.read(place, candidate.digest)


def test_a_link_or_a_folder_is_no_judgement(candidate: Candidate, tmp_path: Path) -> None:
    judgement.write(tmp_path / "real.json", passed(candidate))
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    with pytest.raises(PipelineError, match="cannot be read"):
        judgement.read(tmp_path / "link.json", candidate.digest)
    with pytest.raises(PipelineError, match="it is not a plain file"):
        judgement.read(tmp_path, candidate.digest)


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": {"accuracy": True}},
        {"metrics": {"accuracy": "1"}},
        {"metrics": []},
        {"thresholds": None},
        {"tolerance": None},
        {"data_version": 3},
        {"more": 1},
    ],
)
def test_a_judgement_of_another_form_is_refused(
    candidate: Candidate, tmp_path: Path, change: dict[str, Any]
) -> None:
    place = tmp_path / "j.json"
    place.write_text(json.dumps({**asdict(passed(candidate)), **change}))
    with pytest.raises(PipelineError, match="is not one that evaluate has written"):
        judgement.read(place, candidate.digest)


def test_what_is_no_json_is_refused(candidate: Candidate, tmp_path: Path) -> None:
    place = tmp_path / "j.json"
    for text in ("", "[", "[]", "[" * 100_000):
        place.write_text(text)
        with pytest.raises(PipelineError, match="is not one that evaluate has written"):
            judgement.read(place, candidate.digest)


def test_an_earlier_judgement_is_taken_back(candidate: Candidate) -> None:
    place = judgement.default_place(candidate.digest)
    judgement.write(place, passed(candidate))
    judgement.forget(place)
    judgement.forget(place)
    assert judgement.read(place, candidate.digest) is None


def test_the_operators_tolerance_bounds_that_of_the_candidate(candidate: Candidate) -> None:
    assert judgement.tolerance_of(config(), candidate) == 0.001
    assert judgement.tolerance_of(config(tolerance=0.01), candidate) == 0.01
    with pytest.raises(PipelineError, match=r"lets answers differ by 0\.001; the tolerance of"):
        judgement.tolerance_of(config(tolerance=0.0001), candidate)


def test_a_candidate_of_another_model_is_refused(candidate: Candidate) -> None:
    assert judgement.name_of(config(), candidate) == "demo"
    with pytest.raises(PipelineError, match="made for the model 'demo', the configuration names"):
        judgement.name_of(config(model_name="other"), candidate)


def test_thresholds_are_numbers() -> None:
    assert judgement.thresholds_of(config(thresholds={"a": 1})) == {"a": 1.0}
    for wrong in ("1", True, None):
        with pytest.raises(PipelineError, match="thresholds, a: found"):
            judgement.thresholds_of(config(thresholds={"a": wrong}))


def test_limits_come_from_the_configuration(candidate: Candidate) -> None:
    limits = Limits.of(config(limits={"release_max_mib": 1, "memory_mib": 7}).options)
    assert (limits.release_max_mib, limits.memory_mib, limits.seconds) == (1, 7, 300)
    limits.check_size(candidate)
    with pytest.raises(PipelineError, match="memory_mib: found 0, wanted 1 or more"):
        Limits.of(config(limits={"memory_mib": 0}).options)
