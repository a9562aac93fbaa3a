"""The upgrade campaign's judgement, and its table of releases."""

from __future__ import annotations

import copy
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.soak.judge import Outage, Release, losses, outage, releases, too_long, vanished

ROOT = Path(__file__).resolve().parents[3]
TABLE = (ROOT / "tests" / "releases.toml").read_text()
A, B = "a" * 40, "b" * 40


def row(version: str = "1.0.0", commit: str = A) -> str:
    return f'[[release]]\nversion = "{version}"\ncommit = "{commit}"\n'


@pytest.mark.parametrize("release", releases(TABLE), ids=lambda release: release.version)
def test_each_commit_carries_its_version(release: Release) -> None:
    shown = subprocess.run(
        ["git", "show", f"{release.commit}:galaxy.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if shown.returncode:
        pytest.skip("this clone does not have the commit")
    assert re.search(r"^version: (.*)$", shown.stdout, re.MULTILINE)[1] == release.version  # type: ignore[index]


def test_a_table_is_read_oldest_first() -> None:
    assert releases(row() + row("1.10.0", B)) == [Release("1.0.0", A), Release("1.10.0", B)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "there is no release"),
        (row("1.0"), "release 1: '1.0' is no version like 1.2.3"),
        (row(commit="65a18d0"), "release 1: '65a18d0' is not 40 hexadecimal digits"),
        (row("1.10.0") + row("1.9.0", B), "the releases do not stand oldest first"),
        (row() + 'tag = "v1"\n', r"release 1: wants version and commit, found \['commit', 'tag'"),
    ],
)
def test_a_bad_table_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        releases(text)


SITE: dict[str, Any] = {
    "secrets": {"password": "1f"},
    "served": {"edge1": "sha256:1"},
    "predictions": {"edge1": [1.0]},
    "runs": ["r1"],
    "models": ["iris 1"],
    "artifacts": ["sha256-1.sig"],
    "oldest_sample": 1000.0,
}


def test_what_was_added_is_no_loss() -> None:
    after = copy.deepcopy(SITE)
    after["secrets"]["new"] = "2e"
    after["runs"] += ["r2"]
    after["oldest_sample"] = 1001.0
    assert losses(SITE, after) == []


@pytest.mark.parametrize(
    ("part", "value", "sentence"),
    [
        ("secrets", {}, "secrets: password is gone"),
        ("secrets", {"password": "2e"}, "secrets: password has changed"),
        ("served", {"edge1": None}, "served: edge1 has changed"),
        ("predictions", {"edge1": [0.5]}, "predictions: edge1 has changed"),
        ("runs", [], "runs: r1 is gone"),
        ("models", ["iris 2"], "models: iris 1 is gone"),
        ("artifacts", [], "artifacts: sha256-1.sig is gone"),
        ("oldest_sample", 1500.0, "metrics: the oldest sample is 500 s younger than before"),
    ],
)
def test_a_loss_is_named(part: str, value: Any, sentence: str) -> None:
    assert losses(SITE, {**SITE, part: value}) == [sentence]


def answer(value: float, **more: object) -> list[dict[str, object]]:
    return [{"name": "probabilities", "data": [0.1, value], **more}]


OLD = {**SITE, "predictions": {"edge1": answer(0.9), "edge2": answer(0.9)}}
OLD["served"] = {"edge1": "sha256:1", "edge2": "sha256:1"}
ANEW = {**OLD, "served": {"edge1": "sha256:2", "edge2": "sha256:2"}}


def test_a_release_made_anew_answers_as_the_old_one_did() -> None:
    now = {"edge1": answer(0.90001, parameters={}), "edge2": answer(0.9, shape=[1, 2])}
    assert losses(OLD, {**ANEW, "predictions": now}, anew=True) == []
    assert losses(OLD, ANEW) == ["served: edge1 has changed", "served: edge2 has changed"]


@pytest.mark.parametrize(
    ("part", "value", "sentence"),
    [
        ("served", OLD["served"], "served: edge1 has nothing new"),
        ("served", {"edge1": "sha256:2", "edge2": None}, "served: edge2 has nothing new"),
        ("served", {"edge1": "sha256:2"}, "served: edge2 is gone"),
        ("served", {"edge1": "sha256:2", "edge2": "sha256:3"}, "served: the devices do not agree"),
        ("predictions", {"edge1": answer(0.8)}, "predictions: edge1 has changed"),
        ("predictions", {"edge1": answer(0.9)}, "predictions: edge2 has changed"),
        ("secrets", {"password": "2e"}, "secrets: password has changed"),
        ("models", ["iris 2"], "models: iris 1 is gone"),
    ],
)
def test_a_loss_beside_a_release_made_anew_is_named(part: str, value: Any, sentence: str) -> None:
    assert sentence in losses(OLD, {**ANEW, part: value}, anew=True)


def test_what_left_the_ledgers_is_named_by_host() -> None:
    before = {"ctl1": ["unit a", "unit b"], "edge1": ["file c"]}
    assert vanished(before, {"ctl1": ["unit b", "unit d"]}) == ["ctl1: unit a", "edge1: file c"]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([], Outage(0, 0, 0.0)),
        ([(0, True), (1, True)], Outage(2, 0, 0.0)),
        # Away from the last good answer to the next.
        ([(0, True), (1, False), (2, False), (3, True)], Outage(4, 2, 3.0)),
        # Never back: until it was last asked.
        ([(0, True), (1, False), (5, False)], Outage(3, 2, 5.0)),
        ([(1, False), (4, True), (5, False), (6, True)], Outage(4, 2, 3.0)),
    ],
)
def test_an_outage_is_as_long_as_nobody_was_answered(
    answers: list[tuple[float, bool]], expected: Outage
) -> None:
    assert outage(answers) == expected


def test_only_devices_are_held_to_the_bound() -> None:
    seen = {"edge1": Outage(9, 2, 3.0), "edge2": Outage(9, 8, 60.0), "mlflow": Outage(9, 9, 90.0)}
    assert too_long(seen, ["edge1", "edge2", "edge3"], 45) == [
        "edge2: away for 60.0 s, wanted 45 s or less",
        "edge3: was never asked",
    ]
