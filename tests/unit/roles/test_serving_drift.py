# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The profile of a model and what the server finds by it, against known distributions."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "roles/model_serving/files"))
drift = importlib.import_module("mlops_serving.drift")
profiles = importlib.import_module("mlops_serving.profile")
SCHEMA = json.loads((ROOT / "docs/schema/reference_profile.schema.json").read_text())
WORDS = np.asarray(["red", "green", "blue"], dtype=object)


def rows(count: int, seed: int) -> dict[str, Any]:
    """Two numbers, a whole number and a word."""
    chance = np.random.default_rng(seed)
    return {
        "x": chance.normal(size=(count, 2)).astype(np.float32),
        "n": chance.integers(0, 4, size=(count, 1)),
        "word": WORDS[chance.integers(0, 3, size=count)],
    }


def answers(inputs: dict[str, Any]) -> dict[str, Any]:
    sure = 1 / (1 + np.exp(-inputs["x"][:, 0].astype(float)))
    return {"label": (sure > 0.5).astype(np.int64), "p": np.stack([1 - sure, sure], axis=1)}


@pytest.fixture(scope="module")
def profile() -> Any:
    inputs = rows(2000, 1)
    names = profiles.Wanted({"x": ["height", "width"]})
    return profiles.build(inputs, answers(inputs), names)


def observed(profile: Any, inputs: dict[str, Any], **settings: Any) -> Any:
    """A window of single requests, one each second; its verdict."""
    count = len(inputs["word"])
    told = {"window_seconds": count - 1, "window_requests": count, **settings}
    watch = drift.Watch(profile, drift.Settings(**told), 0.0)
    outputs = answers(inputs)
    for at in range(count):
        feed = {name: values[at : at + 1] for name, values in inputs.items()}
        watch.observe(feed, ("label", "p"), [v[at : at + 1] for v in outputs.values()], float(at))
    return watch


def found(watch: Any) -> set[tuple[str, str]]:
    assert watch.verdict is not None
    return {(each.feature, each.measure) for each in watch.verdict.beyond}


# -- the profile ------------------------------------------------------------------------------


def test_a_profile_is_what_its_schema_says_and_is_read_again(profile: Any) -> None:
    value = json.loads(json.dumps(profile.to_json()))
    jsonschema.validate(value, SCHEMA)
    assert profiles.parse(value) == profile
    assert [column.name for column in profile.features] == ["height", "width", "n", "word"]
    assert [column.kind for column in profile.features] == ["number"] * 2 + ["category"] * 2
    assert all(column.rows + column.missing == 2000 for column in profile.features)
    assert profile.features[0].counts == (200,) * 10
    assert profile.prediction.values == ("1", "0") or profile.prediction.values == ("0", "1")
    assert profile.confidence.minimum >= 0.5


def test_at_most_64_features_and_those_that_vary_or_are_declared() -> None:
    chance = np.random.default_rng(0)
    many = np.zeros((100, 200))
    many[:, 50:150] = chance.normal(size=(100, 100))
    made = profiles.build({"x": many}, {})
    assert (len(made.features), made.left_out, made.chosen) == (64, 136, "most_variable")
    assert all(50 <= column.index < 150 for column in made.features)
    made = profiles.build({"x": many}, {}, profiles.Wanted(declared=["x[3]", "x[60]"]))
    assert [column.index for column in made.features] == [3, 60]
    assert (made.left_out, made.chosen) == (198, "declared")
    assert len(json.dumps(made.to_json())) < profiles.MOST_BYTES
    with pytest.raises(profiles.ProfileError, match=r"does not have y"):
        profiles.build({"x": many}, {}, profiles.Wanted(declared=["y"]))


def test_too_few_rows_make_no_profile() -> None:
    with pytest.raises(profiles.ProfileError, match="49 rows, wanted 50"):
        profiles.build({"x": np.zeros((49, 1))}, {})


def test_a_number_that_is_mostly_the_same_has_a_bin_for_it() -> None:
    values = np.concatenate([np.zeros(70), np.linspace(1, 2, 30)]).reshape(-1, 1)
    column = profiles.build({"x": values}, {}).features[0]
    assert column.edges[0] == 0.0
    assert column.counts[0] == 70
    constant = profiles.build({"x": np.ones((60, 1))}, {}).features[0]
    assert (constant.edges, constant.counts) == ((), (60,))


def test_missing_values_are_counted_and_stand_in_no_bin() -> None:
    values = np.asarray([math.nan] * 10 + [*range(90)], dtype=np.float32).reshape(-1, 1)
    words = np.asarray([""] * 20 + ["a"] * 80, dtype=object)
    made = profiles.build({"x": values, "w": words}, {})
    assert [(column.missing, column.rows) for column in made.features] == [(10, 90), (20, 80)]


def test_words_beyond_a_hundred_are_not_called_new() -> None:
    words = np.asarray([f"w{at % 150}" for at in range(1500)], dtype=object)
    column = profiles.build({"w": words}, {}).features[0]
    assert (len(column.values), column.complete, len(column.counts)) == (100, False, 20)
    assert sum(column.counts) == 1500
    tally = drift.Tally(column.counts, 0, 900)
    assert {each.measure for each in drift.judge_column(column, tally, 1e-4, True)} == {
        "psi",
        "rare",
        "missing",
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"counts": [1]}, "1 counts"),
        ({"counts": [-1, *[200] * 9]}, "below zero"),
        ({"edges": [3, 2, 1, 4, 5, 6, 7, 8, 9]}, "do not rise"),
        ({"edges": ["x"] * 9}, "ValueError"),
        ({"kind": "colour"}, "colour"),
    ],
)
def test_a_broken_profile_is_refused(profile: Any, change: dict[str, Any], said: str) -> None:
    value = json.loads(json.dumps(profile.to_json()))
    value["features"][0].update(change)
    with pytest.raises(profiles.ProfileError, match=said):
        profiles.parse(value)


def test_a_profile_of_another_kind_is_none_of_ours(tmp_path: Path) -> None:
    assert profiles.read(tmp_path) is None
    for text in ('{"columns": []}', "[]", '{"kind": "mlops.onprem/reference-profile"}'):
        (tmp_path / "profile.json").write_text(text)
        assert profiles.read(tmp_path) is None
        assert drift.make(tmp_path, drift.Settings(), lambda: 0.0) is None


# -- the statistics ---------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [1, 2, 9, 19])
@pytest.mark.parametrize("level", [0.05, 1e-3, 1e-5, 1e-8])
def test_chi_square_is_that_of_scipy(degrees: int, level: float) -> None:
    assert drift.chi_square_limit(degrees, level) == pytest.approx(
        float(stats.chi2.isf(level, degrees)), rel=1e-6
    )


@pytest.mark.parametrize("seen", [0, 1, 20])
@pytest.mark.parametrize("rows", [150, 5000])
@pytest.mark.parametrize("window", [30, 500])
@pytest.mark.parametrize("level", [0.05, 1e-5])
def test_the_most_expected_is_that_of_scipy(
    seen: int, rows: int, window: int, level: float
) -> None:
    wanted = float(stats.betabinom.isf(level, window, seen + 1, rows - seen))
    assert drift.most_expected(seen, rows, window, level) == wanted


def test_psi_of_equal_shares_is_nothing_and_grows_with_the_difference() -> None:
    assert drift.stability([100] * 4, [50] * 4) == (pytest.approx(0.0), 4)
    small, _bins = drift.stability([100] * 4, [55, 50, 50, 45])
    large, _bins = drift.stability([100] * 4, [90, 60, 30, 20])
    assert 0 < small < 0.02 < 0.2 < large


def test_rare_bins_are_joined() -> None:
    groups = drift.joined([900, 5, 5, 90], 500)
    assert sorted(map(sorted, groups)) == [[0], [1, 2, 3]]
    assert drift.stability([100, 0], [500, 0]) == (0.0, 1)


def column(counts: tuple[int, ...], **more: Any) -> Any:
    values = tuple("abcdefghijklmn"[: len(counts) - 1])
    return profiles.Column("x", profiles.CATEGORY, counts, values=values, **more)


def beyond(column: Any, seen: tuple[int, ...], inputs: bool = True, outside: int = 0) -> set[str]:
    tally = drift.Tally(seen, 0, outside)
    readings = drift.judge_column(column, tally, 1e-5, inputs)
    return {each.measure for each in readings if each.beyond}


@pytest.mark.parametrize(
    ("counts", "seen", "wanted"),
    [
        # One in a hundred, and each second one now; the joined bins have what they had.
        ((1980, 20, 0), (250, 250, 0), {"rare"}),
        ((1980, 20, 0), (0, 500, 0), {"rare"}),
        # From the smaller of two frequent ones, so that the PSI of the joined bins is nothing.
        ((1050, 900, 50, 0), (263, 25, 212, 0), {"rare"}),
        # What is as it was, or rarer, or a little more frequent, is none.
        ((1980, 20, 0), (495, 5, 0), set()),
        ((1980, 20, 0), (500, 0, 0), set()),
        ((1980, 20, 0), (488, 12, 0), set()),
        # Two of them, each for itself.
        ((1960, 20, 20, 0), (440, 30, 30, 0), {"rare"}),
    ],
)
def test_a_rare_value_that_is_frequent_now_is_found(
    counts: tuple[int, ...], seen: tuple[int, ...], wanted: set[str]
) -> None:
    assert beyond(column(counts), seen) == wanted


def test_an_answer_that_the_model_never_gave_in_training_is_found() -> None:
    always = column((2000, 0))
    assert beyond(always, (300, 200), inputs=False, outside=200) == {"rare"}
    assert beyond(always, (500, 0), inputs=False) == set()


def test_a_new_value_is_told_as_new_and_not_as_rare() -> None:
    assert beyond(column((1990, 0)), (300, 200), outside=200) == {"unseen"}
    # Among those that have no bin of their own some are known, and the others new.
    assert beyond(column((1990, 10)), (300, 200), outside=195) == {"unseen"}
    assert beyond(column((1990, 10)), (300, 200), outside=0) == {"rare"}


def test_a_number_that_was_nearly_always_nought_is_found_when_it_is_not() -> None:
    values = np.zeros(2000)
    values[::40] = np.arange(50) + 1.0
    known = profiles.describe("x", values)
    assert beyond(known, (0, 500)) == {"rare"}
    assert beyond(known, (488, 12)) == set()


def test_rare_values_of_one_distribution_are_beyond_as_often_as_declared_at_most() -> None:
    """At one in a hundred, 2,000 windows, each with its reference: at most 36 by chance (1e-4)."""
    chance = np.random.default_rng(4)
    shares = [0.9, *[0.01] * 10]
    wrong = 0
    for _window in range(2000):
        counts, seen = (tuple(chance.multinomial(n, shares).tolist()) for n in (300, 500))
        reading = drift.rare_reading(column((*counts, 0)), drift.Tally((*seen, 0)), 0.01, True)
        wrong += reading is not None and reading.beyond
    assert wrong <= 36


def test_psi_of_one_distribution_is_beyond_its_limit_as_often_as_declared() -> None:
    """At one in a hundred, 4,000 windows: between 20 and 62 is what chance leaves (1e-4)."""
    chance = np.random.default_rng(3)
    reference = [60] * 10
    level = 0.01
    limit = (1 / 600 + 1 / 500) * drift.chi_square_limit(9, level)
    beyond = 0
    for _window in range(4000):
        shares = chance.dirichlet(reference)
        value, _bins = drift.stability(reference, chance.multinomial(500, shares).tolist())
        beyond += value > limit
    assert 20 <= beyond <= 62


# -- windows ----------------------------------------------------------------------------------


def test_the_same_distribution_is_no_alarm(profile: Any) -> None:
    for seed in range(10, 16):
        watch = observed(profile, rows(500, seed))
        assert found(watch) == set()
        assert watch.verdict.requests == 500


def shifted(inputs: dict[str, Any]) -> None:
    inputs["x"][:, 1] += 1


def scaled(inputs: dict[str, Any]) -> None:
    inputs["x"][:, 1] *= 4


def lost(inputs: dict[str, Any]) -> None:
    inputs["x"][::10, 1] = math.nan


def new(inputs: dict[str, Any]) -> None:
    inputs["word"][::10] = "mauve"


def other(inputs: dict[str, Any]) -> None:
    inputs["n"][:] = 3


def turned(inputs: dict[str, Any]) -> None:
    inputs["x"][:, 0] += 1


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (shifted, {("width", "psi")}),
        (scaled, {("width", "psi"), ("width", "out_of_range")}),
        (lost, {("width", "missing")}),
        (new, {("word", "unseen")}),
        (other, {("n", "psi")}),
        (turned, {("height", "psi"), ("prediction", "psi"), ("confidence", "psi")}),
    ],
)
def test_a_change_is_found_where_it_is(
    profile: Any, change: Any, wanted: set[tuple[str, str]]
) -> None:
    inputs = rows(500, 20)
    change(inputs)
    beyond = found(observed(profile, inputs))
    assert wanted <= beyond
    assert {feature for feature, _measure in beyond} <= {feature for feature, _m in wanted}


def test_too_few_requests_and_too_short_a_time_are_no_window(profile: Any) -> None:
    assert observed(profile, rows(300, 30), window_requests=301).verdict is None
    assert observed(profile, rows(300, 30), window_seconds=300.0).verdict is None
    watch = observed(profile, rows(300, 30))
    assert watch.verdict.requests == 300
    assert watch.requests == 0


def test_a_verdict_grows_old(profile: Any) -> None:
    watch = observed(profile, rows(300, 31))
    ended = watch.verdict.ended
    assert watch.current(ended + 86400) is watch.verdict
    assert watch.current(ended + 86401) is None


def test_a_client_with_large_batches_weighs_no_more(profile: Any) -> None:
    watch = drift.Watch(profile, drift.Settings(), 0.0)
    inputs = rows(1000, 40)
    watch.observe(inputs, ("label", "p"), list(answers(inputs).values()), 1.0)
    assert watch.requests == 1


def test_outputs_that_a_client_does_not_ask_for_are_not_compared(profile: Any) -> None:
    watch = drift.Watch(profile, drift.Settings(0.0, 60), 0.0)
    inputs = rows(60, 41)
    for at in range(60):
        feed = {name: values[at : at + 1] for name, values in inputs.items()}
        watch.observe(feed, (), (), float(at))
    assert {each.feature for each in watch.verdict.readings} == {"height", "width", "n", "word"}


@pytest.mark.parametrize("shown", [0, 1, 2, 5])
def test_there_are_never_more_series_than_declared(shown: int) -> None:
    readings = [
        drift.Reading(feature, measure, value, 0.1)
        for feature in ("prediction", "confidence")
        for measure, value in (("psi", 0.5), ("rare", 0.5))
    ] + [
        drift.Reading(f"x{at}", measure, at / 64, 0.9)
        for at in range(64)
        for measure in ("psi", "rare", "missing", "out_of_range")
    ]
    kept = drift.chosen(readings, [f"x{at}" for at in range(64)], shown)
    assert len(kept) == 4 + 4 * min(shown, 64)
    # 58 of 64 is the first beyond 0.9; the worst are shown before the first of the list.
    names = [each.feature for each in kept]
    assert ("x63" in names) is (shown > 0)
    assert "x0" not in names
    quiet = [drift.Reading(each.feature, each.measure, 0.0, 1.0) for each in readings]
    again = drift.chosen(quiet, [f"x{at}" for at in range(64)], shown)
    assert ["x0" in [each.feature for each in again]] == [shown > 0]


def test_the_level_is_shared_by_tests_and_windows() -> None:
    settings = drift.Settings(window_seconds=3600, false_alarms=0.72)
    assert settings.level(10) == pytest.approx(0.72 / (720 * 10))
    assert drift.Settings(window_seconds=0, false_alarms=1e-9).level(200) == 1e-12


def test_a_profile_of_another_model_is_named(profile: Any) -> None:
    watch = drift.Watch(profile, drift.Settings(), 0.0)
    shapes = {"x": [-1, 2], "n": [-1, 1], "word": [-1]}
    assert watch.fits(shapes, ["label", "p"]) == ""
    assert watch.fits({"x": [-1, 2]}, ["label", "p"]) == "the model has no input n"
    assert watch.fits(shapes, ["label"]) == "the model has no output p"
