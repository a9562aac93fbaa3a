# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device measures of a release, and how it judges that."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.device import judge

MIB = 2**20


@pytest.mark.parametrize(
    ("found", "wanted", "gap"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([[1.0], [2.5]], [1.0, 2.0], 0.25),  # above 1 by the expected number
        ([0.5], [0.4], 0.1),
        ([1], [1], 0.0),
        ([1], [2], math.inf),  # whole numbers are equal or are not
        (["k"], ["k"], 0.0),
        (["k"], ["l"], math.inf),
        ([None], [math.nan], 0.0),
        ([None], [1.0], math.inf),
        ([1.0], [1.0, 2.0], math.inf),
        (None, [1.0], math.inf),
    ],
)
def test_how_far_an_answer_is_from_the_trainers(found: Any, wanted: Any, gap: float) -> None:
    assert judge.gap(found, wanted) == pytest.approx(gap)


def test_a_quantile_is_one_of_the_times() -> None:
    times = [number / 1000 for number in range(1, 101)]
    assert judge.quantile(times, 0.95) == 0.095
    assert judge.quantile(times, 0.99) == 0.099
    assert judge.quantile([0.3], 0.99) == 0.3


def test_the_better_of_two_tries_counts() -> None:
    slow, fast = [0.2] * 40, [0.01] * 40
    limits = {"p95_ms": 50.0, "p99_ms": 80.0}
    assert judge.speed_gate([slow, fast], limits).verdict == "PASS"
    gate = judge.speed_gate([slow, slow], limits)
    assert (gate.verdict, gate.wanted, gate.found["p95_ms"]) == ("FAIL", limits, 200.0)
    assert "The p95 of 40 golden requests is 200 ms" in gate.said
    # One slow answer of a hundred is for the p99 alone, two are for it to see.
    assert judge.speed_gate([[0.01] * 98 + [0.2] * 2], limits).verdict == "FAIL"
    assert judge.speed_gate([[0.01] * 99 + [0.2]], limits).verdict == "PASS"
    assert judge.speed_gate([slow], {}).verdict == "LEFT_OUT"


def test_memory_is_judged_by_what_was_declared() -> None:
    assert judge.memory_gate(30 * MIB, {"memory_mib": 30.0}).verdict == "PASS"
    assert judge.memory_gate(31 * MIB, {"memory_mib": 30.0}).verdict == "FAIL"
    assert judge.memory_gate(31 * MIB, {}).verdict == "PASS"
    assert judge.memory_gate(-1, {"memory_mib": 30.0}).verdict == "MISSING"


class ServerInProc(judge.ServerGauge):
    """A gauge that finds the server where a test has put it."""

    def _find(self) -> Path | None:
        place = self._proc / "7"
        return place if place.is_dir() else None


def says(place: Path, resident: int, peak: int) -> None:
    place.mkdir(exist_ok=True)
    text = f"Name:\tserver\nVmHWM:\t{peak} kB\nVmRSS:\t{resident} kB\n"
    (place / "status").write_text(text)


def test_the_peak_above_what_was_there_is_what_loading_takes(tmp_path: Path) -> None:
    gauge = ServerInProc(proc=tmp_path)
    says(tmp_path / "7", 100_000, 100_000)
    gauge.start()
    assert (tmp_path / "7" / "clear_refs").read_text() == "5"
    says(tmp_path / "7", 120_000, 150_000)
    assert gauge.stop() == 50_000 * 1024


def test_a_server_that_cannot_be_measured_is_not_measured(tmp_path: Path) -> None:
    gauge = ServerInProc(proc=tmp_path)
    gauge.start()
    assert gauge.stop() is None
    says(tmp_path / "7", 100_000, 100_000)
    gauge.start()
    (tmp_path / "7" / "status").unlink()  # ended meanwhile
    assert gauge.stop() is None


def release_at(place: Path, golden: str) -> Path:
    (place / "config.json").write_text('{"tolerance": 0.01}')
    (place / "golden.json").write_text(golden)
    return place


CASES = '{"cases": [{"request": {"n": 1}, "expected": {"y": [1.0]}}]}'


def test_the_device_asks_each_question_and_as_often_as_told(tmp_path: Path) -> None:
    asked: list[Any] = []

    def one(question: Any) -> tuple[int, Any]:
        asked.append(question)
        return 200, {"outputs": [{"name": "y", "data": [1.005]}]}

    gates = judge.judge(release_at(tmp_path, CASES), {"golden_requests": 5.0}, one)
    assert [(gate.name, gate.verdict) for gate in gates] == [
        ("golden", "PASS"),
        ("speed", "LEFT_OUT"),
    ]
    assert len(asked) == 6  # one more, whose time does not count
    assert gates[0].found["gap"] == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, {"outputs": [{"name": "y", "data": [1.2]}]}), "golden answers are other ones"),
        ((200, {}), "are other ones"),
        ((500, {"error": "The model failed."}), "was not answered: The model failed"),
        ((404, None), "HTTP 404"),
    ],
)
def test_a_wrong_answer_fails(tmp_path: Path, answer: tuple[int, Any], said: str) -> None:
    (gate,) = judge.judge(release_at(tmp_path, CASES), {}, lambda _question: answer)
    assert (gate.name, gate.verdict) == ("golden", "FAIL")
    assert said in gate.said


def test_golden_answers_that_cannot_be_read_fail(tmp_path: Path) -> None:
    (gate,) = judge.judge(release_at(tmp_path, "{"), {}, lambda _question: (200, {}))
    assert (gate.name, gate.verdict) == ("golden", "FAIL")
