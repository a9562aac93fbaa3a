# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What devices have told, as answers and evidence; what is no answer, what nobody can mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.mlops.onprem.plugins.module_utils._release.device import orders
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.agent import encoded
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.shapes import PHASES, STEPS
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.states import (
    MAX_BYTES,
    Collected,
    Told,
    collect,
    read,
)
from ansible_collections.mlops.onprem.plugins.modules import fleet_states

NEW, OLD = "sha256:" + "a" * 64, "sha256:" + "b" * 64
PAGE = f"""\
mlops_model_info{{model_name="defects",model_version="7",digest="{NEW}"}} 1
mlops_model_requests_total{{model_name="defects",model_version="7",outcome="ok"}} 40
mlops_model_requests_total{{model_name="defects",model_version="7",outcome="error"}} 2
"""


def document(
    step: str = "activate", phase: str = "activated", host: str = "edge1", **changed: Any
) -> dict[str, Any]:
    answer = orders.Answer(
        host,
        step,
        True,
        phase,
        NEW,
        (orders.Gate("golden", "PASS", "All answers are those of the trainer.", {"far": 0.5}),),
        moved=14352,
    ).to_json()
    answer.update({name: changed.pop(name) for name in ("failure", "refused") if name in changed})
    model = {
        "rollout": "defects-7",
        "generation": 2,
        "digest": NEW,
        "step": step,
        "answer": answer,
    }
    model.update(changed.pop("of_model", {}))
    return {
        "format": 1,
        "name": host,
        "ring": "ring_canary",
        "at": 5.0,
        "synchronised": True,
        "root": 1,
        "sequence": 12,
        "expires": 99,
        "stale": False,
        "refusal": "",
        "lock": "",
        "certificate_expires": 1800000000.0,
        "models": {"defects": model},
        "metrics": PAGE,
        **changed,
    }


def told(value: dict[str, Any], host: str = "edge1", at: float = 100.0) -> Told:
    return read(encoded(value), host, at)


def found(*states: Told, step: str = "activate", **changed: Any) -> Collected:
    options: dict[str, Any] = {
        "hosts": [one.host for one in states],
        "model": "defects",
        "rollout": "defects-7",
        "generation": 2,
        "digest": NEW,
        "step": step,
        **changed,
    }
    return collect({one.host: one for one in states}, **options)


def test_a_state_is_an_answer_and_evidence() -> None:
    one = found(told(document()))
    (answer,) = one.answers
    assert (answer.host, answer.step, answer.reached, answer.phase, answer.served) == (
        "edge1",
        "activate",
        True,
        "activated",
        NEW,
    )
    assert (answer.moved, answer.gates[0].name, answer.gates[0].found) == (
        14352,
        "golden",
        {"far": 0.5},
    )
    assert one.seen == ()  # what it counted is read where the ring is looked at
    (seen,) = found(told(document("activate", "activated")), step="look").seen
    assert (seen.host, seen.digest, seen.requests, seen.errors, seen.answered, seen.at) == (
        "edge1",
        NEW,
        42,
        2,
        True,
        100.0,
    )
    assert (one.waiting, one.silent) == ((), ())


@pytest.mark.parametrize(
    ("ordered", "step", "phase", "answers"),
    [
        ("stage", "stage", "none", False),
        ("stage", "stage", "staged", True),
        ("activate", "activate", "staged", False),
        ("activate", "activate", "activated", True),
        ("activate", "activate", "reverted", True),
        ("commit", "activate", "activated", False),
        ("commit", "commit", "activated", False),
        ("commit", "commit", "committed", True),
        ("revert", "activate", "activated", False),
        ("revert", "revert", "activated", False),
        ("revert", "revert", "reverted", True),
        ("revert", "revert", "none", True),
        # The order before was the same step: only a device that has seen the order can be done.
        ("activate", "stage", "staged", False),
    ],
)
def test_an_answer_is_where_a_device_has_come_to_an_end(
    ordered: str, step: str, phase: str, answers: bool
) -> None:
    one = found(told(document(step, phase)), step=ordered)
    assert bool(one.answers) is answers
    assert one.waiting == (() if answers else ("edge1",))


@pytest.mark.parametrize("word", ["failure", "refused"])
def test_what_did_not_work_is_an_answer(word: str) -> None:
    one = found(told(document("stage", "none", **{word: "No room is left."})), step="stage")
    assert getattr(one.answers[0], word) == "No room is left."
    # That is no word about the step after it.
    later = found(told(document("stage", "none", **{word: "No room is left."})), step="activate")
    assert (later.answers, later.waiting) == ((), ("edge1",))


@pytest.mark.parametrize("of_model", [{"rollout": "defects-6"}, {"digest": OLD}, {"generation": 1}])
def test_what_was_told_of_another_order_is_no_answer(of_model: dict[str, Any]) -> None:
    one = found(told(document(of_model=of_model)))
    assert (one.answers, one.waiting) == ((), ("edge1",))
    looked = found(told(document(of_model=of_model)), step="look")
    assert looked.answers[0].phase == "none"


def test_a_look_says_where_every_device_is() -> None:
    one = found(told(document("activate", "activated")), step="look")
    assert (one.answers[0].step, one.answers[0].phase) == ("look", "activated")


def test_a_device_that_told_nothing_lately_is_silent() -> None:
    assert found(told(document()), since=101.0).silent == ("edge1",)
    assert found(told(document()), since=100.0).silent == ()
    nobody = collect({}, ["edge9"], "defects", "defects-7", 2, NEW, "activate")
    assert (nobody.answers, nobody.seen, nobody.silent) == ((), (), ("edge9",))


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another device": lambda value: value.update(name="edge2"),
    "another format": lambda value: value.update(format=2),
    "no models": lambda value: value.pop("models"),
    "a list": lambda value: value.update(models=[]),
    "a phase": lambda value: value["models"]["defects"]["answer"].update(phase="gone"),
    "a step": lambda value: value["models"]["defects"].update(step="erase"),
    "a verdict": lambda value: value["models"]["defects"]["answer"]["gates"][0].update(verdict="x"),
    "no number": lambda value: value["models"]["defects"]["answer"]["gates"][0].update(
        found={"far": float("nan")}
    ),
    "many gates": lambda value: value["models"]["defects"]["answer"].update(
        gates=[{"name": "a", "verdict": "PASS"}] * 33
    ),
    "text for a number": lambda value: value.update(sequence="twelve"),
    "a number for text": lambda value: value["models"]["defects"]["answer"].update(served=7),
    "a list for a step": lambda value: value["models"]["defects"].update(step=["stage"]),
    "text for yes or no": lambda value: value.update(stale="no"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_counts_as_silence_and_says_why(name: str) -> None:
    value = document()
    BROKEN[name](value)
    one = found(read(json.dumps(value).encode(), "edge1", 1.0))
    assert (one.answers, one.seen, one.silent) == ((), (), ("edge1",))
    assert one.told[0].problem.startswith("The state of edge1 cannot be read: ")


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"\xff", b"[" * 5000, b" " * (MAX_BYTES + 1), b"1e999"]
)
def test_no_bytes_end_the_collecting(data: bytes) -> None:
    assert read(data, "edge1", 1.0).problem


def test_a_state_that_is_too_large_is_not_read_at_all() -> None:
    whole = encoded(document())
    assert not read(whole + b" " * (MAX_BYTES - len(whole)), "edge1", 1.0).problem
    one = read(whole + b" " * (MAX_BYTES - len(whole) + 1), "edge1", 1.0)
    assert one.problem == f"The state of edge1 cannot be read: is larger than {MAX_BYTES} bytes."
    assert not one.models


def test_what_people_read_of_a_device_is_one_line() -> None:
    text = "a\nb\x1b[2Jc" + "d" * 5000
    failure = found(told(document(failure=text))).answers[0].failure
    assert failure.startswith("a b [2Jc")
    assert len(failure) == 1000


def test_both_sides_speak_the_same_words() -> None:
    assert (orders.STEPS, orders.PHASES) == (STEPS, PHASES)


def run(capsys: pytest.CaptureFixture[str], **options: Any) -> dict[str, Any]:
    with patch_module_args(options), pytest.raises(SystemExit):
        fleet_states.main()
    return dict(json.loads(capsys.readouterr().out))


def test_the_module_reads_the_files_of_nginx(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "edge1.json").write_bytes(encoded(document()))
    (tmp_path / "edge2.json").write_bytes(encoded(document()))
    (tmp_path / "edge3.json").symlink_to("edge1.json")
    asked = {
        "hosts": ["edge1", "edge2", "edge3", "edge4", "../edge1"],
        "model": "defects",
        "digest": NEW,
        "rollout": "defects-7",
        "generation": 2,
        "step": "activate",
        "directory": str(tmp_path),
    }
    one = run(capsys, **asked)
    assert one["changed"] is False
    assert [answer["host"] for answer in one["answers"]] == ["edge1"]
    looked = run(capsys, **{**asked, "step": "look"})
    assert (one["seen"], looked["seen"][0]["requests"]) == ([], 42)
    assert one["silent"] == ["edge2", "edge3", "edge4", "../edge1"]
    assert one["devices"]["edge1"]["certificate_expires"] == 1800000000.0
    assert "edge2 has left it" in one["devices"]["edge2"]["problem"]
    gone = run(capsys, **{**asked, "directory": str(tmp_path / "none")})
    assert gone["failed"]
    assert "rollout_transport" in gone["msg"]
