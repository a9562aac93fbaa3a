# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates over a ring: only what is proved passes, and chance does not fail a good release."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.gates import (
    GateSettings,
    detectable,
    judge,
    thresholds,
    verdict_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.gates.power import at_least
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.shapes import (
    FAIL,
    INCONCLUSIVE,
    LEFT_OUT,
    MISSING,
    OVER_RING,
    PASS,
    Gate,
    Look,
    Seen,
)

FAST = dict.fromkeys(("0.005", "0.01", "0.015", "0.02", "0.025", "0.05", "0.1", "0.25", "+Inf"), 0)
FAST |= {"0.01": 300, "0.015": 90, "0.02": 9, "0.025": 1}
EVENLY = {"0": 200, "1": 100, "2": 100}
CONTROL = Seen("old1", "sha256:old", True, 400, 0, FAST, EVENLY)
GOOD = Seen("new1", "sha256:new", True, 400, 0, FAST, EVENLY)
SETTINGS = GateSettings.parse({"latency_p95_ms": 50, "latency_p99_ms": 100})


def look(*ring: Seen, **changes: Any) -> Look:
    at = Look(ring=ring or (GOOD,), control=(CONTROL,), looks=3, seconds=300.0)
    return dataclasses.replace(at, **changes)


def judged(
    at: Look, settings: GateSettings = SETTINGS, memory: Mapping[str, float] | None = None
) -> dict[str, Gate]:
    return {gate.name: gate for gate in judge(at, settings, memory or {})[0]}


def of(gates: Mapping[str, Gate], verdict: str) -> list[str]:
    return [name for name, gate in gates.items() if gate.verdict == verdict]


def slowed(seen: Seen, steps: int) -> Seen:
    """The same counts, so many buckets later."""
    bounds = sorted(seen.latency, key=float)
    counts = [0] * steps + [seen.latency[bound] for bound in bounds]
    return dataclasses.replace(seen, latency=dict(zip(bounds, counts, strict=False)))


def with_(**changes: Any) -> Seen:
    return dataclasses.replace(GOOD, **changes)


def test_a_good_ring_passes_every_gate() -> None:
    gates = judged(look())
    assert of(gates, PASS) == [
        "answers",
        "latency",
        "latency:control",
        "errors",
        "errors:control",
        "shift",
    ]
    assert of(gates, LEFT_OUT) == ["queries"]
    assert verdict_of(gates.values()) == PASS


# One defect, and the one gate that sees it: without that gate the ring would go on.
DEFECTS: dict[str, tuple[Seen, tuple[str, ...]]] = {
    "silent": (with_(answered=False), ("answers",)),
    "errors": (
        with_(errors=80, latency={k: v * 4 // 5 for k, v in FAST.items()}),
        ("errors", "errors:control"),
    ),
    "refusals": (with_(invalid=80), ("errors:control",)),
    "beyond the objective": (slowed(GOOD, 4), ("latency", "latency:control")),
    "slower": (slowed(GOOD, 3), ("latency:control",)),
    "shift": (with_(predictions={"0": 20, "1": 190, "2": 190}), ("shift",)),
    "another class": (with_(predictions={**EVENLY, "other": 300}), ("shift",)),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_fails_its_gate_and_no_other(defect: str) -> None:
    ring, wanted = DEFECTS[defect]
    gates = judged(look(ring))
    assert tuple(of(gates, FAIL)) == tuple(name for name in gates if name in wanted)
    assert verdict_of(gates.values()) == FAIL
    assert all(gate.said.endswith(".") for gate in gates.values())


def test_names_of_gates_begin_with_the_words_for_them() -> None:
    settings = GateSettings.parse({"queries": [{"name": "yield", "query": "x", "min": 1}]})
    gates = judged(look(queries={"yield": 2.0}), settings)
    assert {name.partition(":")[0] for name in gates} == set(OVER_RING)


def test_no_data_is_missing_and_never_a_pass() -> None:
    nothing = Seen("new1", "sha256:new", None)
    gates = judged(look(nothing))
    assert of(gates, PASS) == []
    assert of(gates, MISSING) == [name for name in gates if name != "queries"]
    assert verdict_of(gates.values()) == MISSING


def test_a_control_that_is_asked_nothing_is_missing() -> None:
    gates = judged(look(control=(Seen("old1", "sha256:old", True),)))
    assert of(gates, MISSING) == ["latency:control", "errors:control", "shift"]


def test_without_a_release_before_the_comparisons_are_left_out_and_shown() -> None:
    gates = judged(look(control=()))
    assert of(gates, LEFT_OUT) == ["latency:control", "errors:control", "shift", "queries"]
    assert "nothing to compare with" in gates["shift"].said
    assert verdict_of(gates.values()) == PASS


def test_nothing_but_what_was_left_out_is_no_pass() -> None:
    assert verdict_of([Gate("shift", LEFT_OUT, "Left out.")]) == MISSING
    assert verdict_of([]) == MISSING


def test_missing_is_worse_than_inconclusive_and_fail_is_worst() -> None:
    verdicts = [FAIL, MISSING, INCONCLUSIVE, PASS, LEFT_OUT]
    for number, worst in enumerate(verdicts[:4]):
        gates = [Gate("errors", verdict, "Said.") for verdict in reversed(verdicts[number:])]
        assert verdict_of(gates) == worst


def test_a_waived_gate_says_why() -> None:
    settings = GateSettings.parse({"waive": {"shift": "no traffic at night"}})
    gate = judged(look(with_(predictions={})), settings)["shift"]
    assert (gate.verdict, gate.said) == (LEFT_OUT, "Left out: no traffic at night")


def test_to_waive_latency_leaves_out_both_gates_of_it() -> None:
    given = {"latency_p95_ms": 50, "waive": {"latency": "no devices are alike"}}
    gates = judged(look(slowed(GOOD, 4)), GateSettings.parse(given))
    assert of(gates, LEFT_OUT) == ["latency", "latency:control", "queries"]
    assert {gates[name].said for name in ("latency", "latency:control")} == {
        "Left out: no devices are alike"
    }


def test_without_an_objective_latency_is_compared_alone() -> None:
    gates = judged(look(), GateSettings())
    assert gates["latency"].verdict == LEFT_OUT
    assert "set latency_p95_ms" in gates["latency"].said
    assert gates["latency:control"].verdict == PASS


def test_a_gate_tells_the_quantiles_where_they_are_below_the_last_bucket() -> None:
    gates = judged(look())
    assert gates["latency"].found["p95_ms"] == pytest.approx(15)
    assert gates["latency"].found["p99_ms"] == pytest.approx(20)
    found = gates["latency:control"].found
    assert [found[name] for name in ("p50_ms", "p95_ms", "control_p95_ms")] == [10, 15, 15]
    late = judged(look(with_(latency={"0.01": 300, "+Inf": 100})))
    assert "p95_ms" not in late["latency"].found
    assert "p95_ms" not in late["latency:control"].found
    assert late["latency:control"].found["control_p95_ms"] == 15


def test_few_requests_prove_nothing() -> None:
    few = with_(requests=40, latency={"0.01": 40, "0.1": 0}, predictions={"0": 20, "1": 20})
    gates = judged(look(few))
    assert of(gates, FAIL) == []
    assert set(of(gates, INCONCLUSIVE)) >= {"errors", "errors:control", "latency", "shift"}


def test_a_small_sample_with_a_large_index_does_not_decide() -> None:
    few = with_(predictions={"0": 2, "1": 5, "2": 1})
    gate = judged(look(few), GateSettings.parse({"min_requests": 1}))["shift"]
    assert gate.found["psi"] > gate.wanted["psi_max"]
    assert gate.verdict == INCONCLUSIVE


def test_many_buckets_of_which_none_has_shifted_do_not_add_up() -> None:
    even = {str(n): 100 + n for n in range(20)}
    ring, control = with_(predictions=even), dataclasses.replace(CONTROL, predictions=even)
    gate = judged(look(ring, control=(control,)))["shift"]
    assert gate.verdict == PASS
    assert gate.found["log_evidence"] < 0


def test_errors_within_what_is_tolerable_bake_longer_until_that_is_proved() -> None:
    verdicts = [
        judged(look(with_(requests=100 * n, errors=n)))["errors"].verdict for n in (2, 5, 30)
    ]
    assert verdicts == [INCONCLUSIVE, INCONCLUSIVE, PASS]


def test_one_broken_device_among_a_hundred_is_seen() -> None:
    fleet = [with_(host=f"d{n}", requests=20) for n in range(99)]
    broken = with_(host="bad", requests=20, errors=20, answered=False)
    gates = judged(look(*fleet, broken))
    assert gates["errors"].verdict == FAIL
    assert "bad fails more" in gates["errors"].said
    slow = with_(host="bad", requests=20, latency={"0.1": 0, "0.25": 20})
    fast = [with_(host=f"d{n}", requests=20, latency={"0.01": 20, "0.1": 0}) for n in range(99)]
    assert "bad is slower" in judged(look(*fast, slow))["latency"].said


def test_a_device_of_which_nothing_is_known_holds_the_ring() -> None:
    unknown = with_(host="quiet", requests=1, latency={"0.01": 1})
    gates = judged(look(GOOD, unknown))
    assert gates["errors"].verdict == gates["latency"].verdict == INCONCLUSIVE
    assert "too little is known of quiet" in gates["errors"].said


def test_an_objective_within_a_bucket_is_neither_proved_nor_refuted() -> None:
    within = with_(latency={"0.025": 0, "0.1": 400})
    gate = judged(look(within, control=()), GateSettings.parse({"latency_p95_ms": 50}))["latency"]
    assert gate.verdict == INCONCLUSIVE


def test_evidence_stays_when_a_device_forgets_its_counters() -> None:
    bad = with_(requests=100, errors=60)
    _gates, memory = judge(look(bad), SETTINGS, {})
    assert judged(look(GOOD), SETTINGS, memory)["errors"].verdict == FAIL


@pytest.mark.parametrize("test", [name for name in SETTINGS.tests if name != "answers"])
def test_evidence_of_each_test_fails_its_gate_as_long_as_it_is_remembered(test: str) -> None:
    memory = {test: SETTINGS.fail_bar}
    for _look in range(3):
        gates, memory = judge(look(), SETTINGS, memory)
        assert [gate.name for gate in gates if gate.verdict == FAIL] == [test.partition(".")[0]]
    below = {test: SETTINGS.fail_bar - 0.01}
    assert verdict_of(judge(look(), SETTINGS, below)[0]) == PASS


def test_a_little_too_much_on_every_device_is_seen_in_their_sum() -> None:
    many = [with_(host=f"d{n}", requests=60, errors=4) for n in range(20)]
    gate = judged(look(*many))["errors"]
    assert gate.verdict == FAIL
    assert gate.found["log_evidence_device"] < SETTINGS.fail_bar < gate.found["log_evidence"]
    slow = {"0.01": 54, "0.1": 0, "0.25": 6}
    gate = judged(look(*[with_(host=f"d{n}", latency=slow) for n in range(20)]))["latency"]
    assert gate.verdict == FAIL
    assert gate.found["log_evidence_p95_device"] < SETTINGS.fail_bar


def test_no_verdict_before_as_many_requests_as_are_wanted() -> None:
    settings = GateSettings.parse({"min_requests": 401, "latency_p95_ms": 50})
    gates = judged(look(), settings)
    assert of(gates, INCONCLUSIVE) == [
        "latency",
        "latency:control",
        "errors",
        "errors:control",
        "shift",
    ]


@pytest.mark.parametrize(
    ("ring", "gate"),
    [
        (with_(requests=400, errors=4), "errors:control"),
        (with_(latency={**FAST, "0.01": 287, "0.25": 13}), "latency"),
        (with_(latency={name: count // 20 for name, count in FAST.items()}), "latency:control"),
    ],
)
def test_what_is_neither_proved_nor_refuted_is_inconclusive(ring: Seen, gate: str) -> None:
    settings = GateSettings.parse({"min_requests": 1, "latency_p95_ms": 50})
    assert judged(look(ring), settings)[gate].verdict == INCONCLUSIVE


def test_an_index_made_of_many_small_shifts_does_not_pass() -> None:
    ring = with_(predictions={str(n): (80, 320)[n % 2] for n in range(20)})
    control = dataclasses.replace(CONTROL, predictions={str(n): 200 for n in range(20)})
    gate = judged(look(ring, control=(control,)))["shift"]
    assert gate.verdict == INCONCLUSIVE
    assert gate.found["psi"] > gate.wanted["psi_max"]


def test_many_small_shifts_the_same_way_are_a_large_one() -> None:
    """No bucket alone has moved by the limit; all below a bound have, against all above."""
    ring = with_(predictions={str(n): (340, 60)[n // 10] for n in range(20)})
    control = dataclasses.replace(CONTROL, predictions={str(n): 200 for n in range(20)})
    assert judged(look(ring, control=(control,)))["shift"].verdict == FAIL


@pytest.mark.parametrize("predictions", [{"0": 400}, {"0": 400, "1": 0}])
def test_a_model_that_said_one_class_before_and_says_it_now_has_not_shifted(
    predictions: dict[str, int],
) -> None:
    """As one that looks for defects does, where there are none."""
    ring = with_(predictions=predictions)
    control = dataclasses.replace(CONTROL, predictions=predictions)
    gate = judged(look(ring, control=(control,)))["shift"]
    assert (gate.verdict, gate.found["psi"]) == (PASS, 0)
    other = with_(predictions={"0": 0, "1": 400})
    assert judged(look(other, control=(control,)))["shift"].verdict == FAIL


def test_memory_says_since_when_a_device_is_silent() -> None:
    settings = GateSettings.parse({"silent_seconds": 100})
    memory: dict[str, float] = {}
    verdicts = []
    for number, (seconds, answered) in enumerate(
        [(10, False), (60, True), (120, True), (180, False), (219, False), (220, False)]
    ):
        gates, memory = judge(
            look(with_(answered=answered), looks=number, seconds=float(seconds)), settings, memory
        )
        verdicts.append(gates[0].verdict)
    assert verdicts == [INCONCLUSIVE, PASS, PASS, INCONCLUSIVE, INCONCLUSIVE, FAIL]


def test_where_nobody_answers_the_way_is_broken_and_not_the_release() -> None:
    off = dataclasses.replace(CONTROL, answered=False)
    assert judged(look(with_(answered=False), control=(off,)))["answers"].verdict == MISSING


def test_a_ring_of_no_devices_is_missing() -> None:
    gate = judged(look(ring=()))["answers"]
    assert (gate.verdict, gate.said) == (MISSING, "No device of this ring was looked at.")


@pytest.mark.parametrize(
    ("silent", "named"), [(3, "s: d0, d1, d2."), (5, "s: d0, d1, d2 and 2 more.")]
)
def test_a_sentence_names_three_devices_and_counts_the_others(silent: int, named: str) -> None:
    ring = [with_(host=f"d{n}", answered=n >= silent) for n in range(9)]
    assert judged(look(*ring))["answers"].said.endswith(named)


def test_a_tolerable_share_of_failed_devices_is_judged_by_evidence() -> None:
    settings = GateSettings.parse({"device_failure_rate_max": 0.02})

    def gate(failed: int, devices: int) -> Gate:
        ring = [with_(host=f"d{n}", answered=n >= failed) for n in range(devices)]
        return judged(look(*ring), settings)["answers"]

    assert gate(1, 100).verdict == PASS
    assert gate(1, 100).said == (
        "99 of 100 devices answer from the new release; 2.00% may fail: d0."
    )
    assert gate(1, 10).verdict == INCONCLUSIVE
    assert gate(12, 100).verdict == FAIL


@pytest.mark.parametrize(
    ("value", "verdict"), [(None, MISSING), (float("nan"), MISSING), (0.2, FAIL), (0.5, PASS)]
)
def test_a_query_without_an_answer_is_missing(value: float | None, verdict: str) -> None:
    settings = GateSettings.parse({"queries": [{"name": "yield", "query": "x", "min": 0.4}]})
    gates = judged(look(queries={"yield": value}), settings)
    assert gates["queries:yield"].verdict == verdict
    assert judged(look(), settings)["queries:yield"].verdict == MISSING


@pytest.mark.parametrize(("value", "verdict"), [(0.9, FAIL), (1, PASS), (2, PASS), (2.1, FAIL)])
def test_a_query_has_to_lie_within_its_bounds_which_are_told(value: float, verdict: str) -> None:
    query = {"name": "yield", "query": "x", "min": 1, "max": 2}
    gates = judged(look(queries={"yield": value}), GateSettings.parse({"queries": [query]}))
    gate = gates["queries:yield"]
    assert gate.verdict == verdict
    assert gate.said == f"yield is {value:g}; at least 1 and at most 2 is wanted."


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "rollout_gates: must be a mapping, but is a list"),
        ({"eror_rate_max": 1}, "did you mean error_rate_max?"),
        ({"error_rate_max": "1%"}, "rollout_gates.error_rate_max: must be a number"),
        ({"alpha": 1}, "rollout_gates.alpha: must be a share from 0.0001 to 0.5, but is 1"),
        ({"waive": {"errors": "no"}}, "rollout_gates.waive: has the unknown key 'errors'"),
        ({"waive": {"shift": ""}}, "rollout_gates.waive.shift: must not be empty"),
        ({"queries": [{"name": "a", "query": "b"}]}, "rollout_gates.queries[0]: must have min or"),
        (
            {"queries": [{"name": "a", "query": "b", "min": 2, "max": -1}]},
            "rollout_gates.queries[0].min: is 2, above max (-1)",
        ),
        (
            {"queries": [{"name": "a", "query": "b", "max": 1}] * 2},
            "rollout_gates.queries[1].name: 'a' is there twice",
        ),
        ({"latency_p95_ms": 0}, "rollout_gates.latency_p95_ms: must be above 0"),
        ({"latency_p95_ms": 9, "latency_p99_ms": 8}, "rollout_gates.latency_p99_ms: is 8, below"),
    ],
)
def test_thresholds_that_cannot_be_meant_are_refused(given: object, said: str) -> None:
    with pytest.raises(ShapeError) as caught:
        GateSettings.parse(given)
    assert said in str(caught.value)


def test_alpha_is_shared_by_rings_and_tests() -> None:
    few, many = SETTINGS.over(1), SETTINGS.over(10)
    assert few.fail_bar == pytest.approx(math.log(len(SETTINGS.tests) / 0.05))
    assert many.fail_bar == pytest.approx(math.log(10 * len(SETTINGS.tests) / 0.05))
    assert few.pass_bar == many.pass_bar == pytest.approx(math.log(20))
    assert len(SETTINGS.tests) == len(GateSettings().tests) + 4


@pytest.mark.parametrize(
    ("given", "tests"),
    [
        ({"waive": {"shift": "no traffic"}}, {"latency:control"}),
        ({"waive": {"latency": "unlike devices"}}, {"shift"}),
        ({"device_failure_rate_max": 0.01}, {"answers", "latency:control", "shift"}),
    ],
)
def test_only_what_can_fail_a_ring_takes_a_part_of_alpha(
    given: dict[str, Any], tests: set[str]
) -> None:
    always = {"errors", "errors.device", "errors:control"}
    assert set(GateSettings.parse(given).tests) == always | tests


def test_larger_rings_see_smaller_defects() -> None:
    by_devices = [detectable(n, SETTINGS) for n in (1, 3, 30, 300)]
    assert by_devices == pytest.approx([0.9, 0.536, 0.0739, 0.00765], rel=0.01)
    by_requests = [detectable(n, SETTINGS, "requests") for n in (0, 1, 10, 100, 1000, 10000)]
    assert by_requests[:2] == [1.0, 1.0]
    assert by_requests[1:] == sorted(by_requests[1:], reverse=True)
    assert 0.02 < by_requests[-1] < 0.03


def test_each_gate_says_its_threshold_or_why_it_is_left_out() -> None:
    given = {
        "latency_p95_ms": 50,
        "latency_p99_ms": 200,
        "error_rate_max": 0.001,
        "device_failure_rate_max": 0.05,
        "waive": {"shift": "no traffic"},
        "queries": [{"name": "queue", "query": "max(depth)", "min": 1, "max": 9}],
    }
    settings = GateSettings.parse(given)
    assert thresholds.sentences(settings, {"memory_mib": 1500.0}, first=False) == [
        "Gate load: the release loads on each device within 1,500 MiB.",
        "Gate golden: its golden answers come within its tolerance on each device.",
        "Gate answers: a device that is silent for 120 s has failed, and 5 % of a ring may.",
        "Gate errors: less than 0.1 % of the requests fail, proved by at least 100.",
        "Gate errors:control: at most 2 % more than on the release before.",
        "Gate latency: p95 at most 50 ms and p99 at most 200 ms.",
        "Gate latency:control: at most 5 % of the requests are slower than the release before "
        "times 2.",
        "Gate shift: left out: no traffic.",
        "Gate queries:queue: max(depth) is at least 1 and at most 9.",
    ]
    alone = thresholds.sentences(GateSettings(), {}, first=True)
    assert alone[0] == "Gate load: the release loads on each device."
    assert "and none of a ring may" in alone[2]
    left = [line for line in alone if "left out, no device serves the model yet" in line]
    assert [line.split(": ")[0] for line in left] == [
        "Gate errors:control",
        "Gate latency:control",
        "Gate shift",
    ]
    assert "left out, no objective" in alone[5]
    waived = GateSettings(waive={"latency": "batch only"})
    assert thresholds.sentences(waived, {}, first=False)[5:7] == [
        "Gate latency: left out: batch only.",
        "Gate latency:control: left out: batch only.",
    ]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
@pytest.mark.parametrize("count", [-1, 0, 1, 10, 19, 20, 21])
def test_how_likely_so_many_are_is_the_sum_of_the_binomial_distribution(
    count: int, share: float
) -> None:
    exact = sum(
        math.comb(20, number) * share**number * (1 - share) ** (20 - number)
        for number in range(max(0, count), 21)
    )
    assert at_least(count, 20, share) == pytest.approx(exact, rel=1e-9, abs=0)


def test_of_a_thousand_million_only_the_terms_that_count_are_summed() -> None:
    assert at_least(2, 10**9, 1e-9) == pytest.approx(1 - 2 / math.e, rel=1e-4)


def test_a_ring_too_small_for_its_thresholds_sees_a_total_failure_alone() -> None:
    tolerant = GateSettings.parse({"device_failure_rate_max": 0.3})
    assert [detectable(count, tolerant) for count in (0, 1, 2)] == [1.0, 1.0, 1.0]
    assert detectable(0, SETTINGS) == 1.0
