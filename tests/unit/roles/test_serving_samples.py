# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples of requests in the model server: what is taken, what is not, and what it may cost."""

from __future__ import annotations

import importlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "roles/model_serving/files"))
samples = importlib.import_module("mlops_serving.samples")
access = importlib.import_module("mlops_serving.access")
engine = importlib.import_module("mlops_serving.engine")

NAMES = ["age", "name", "height"]


class Model:
    """As much of a loaded model as is looked at."""

    def __init__(self) -> None:
        self.inputs = {
            "numbers": engine.Tensor("numbers", "FP32", ("n", 3)),
            "words": engine.Tensor("words", "BYTES", ("n", 1)),
        }
        self.outputs = {"p": engine.Tensor("p", "FP32", ("n", 2))}


FEED = {
    "numbers": np.asarray([[41, 7, 1.5], [42, 8, 1.6]], dtype=np.float32),
    "words": np.asarray([["ada"], ["bob"]], dtype=object),
}
ANSWERS = [np.asarray([[0.25, 0.75], [0.5, 0.5]], dtype=np.float32)]


def kept(
    redact: dict[str, str], rate: float = 1.0, most: int = samples.MOST_BYTES
) -> tuple[Any, Any, Counter[str]]:
    counted: Counter[str] = Counter()

    def count(model: str, outcome: str, number: int) -> None:
        counted[f"{model} {outcome}"] += number

    rules = {"m": samples.Rule(rate, redact)}
    found = samples.Samples(rules, access.Clients([]), b"key", count, most)
    config = {"input": "numbers", "feature_names": NAMES}
    return found, samples.sampler_of(found, "m", "3", Model(), config), counted


def offered(redact: dict[str, str], identifier: str = "order-1") -> dict[str, Any]:
    found, sampler, _counted = kept(redact)
    sampler.offer(identifier, FEED, ("p",), ANSWERS, 0.0)
    _batch, lines = found.fetch("", {})
    document: dict[str, Any] = json.loads(lines)
    return document


def test_the_first_row_is_kept_by_name() -> None:
    assert offered({}) == {
        "model": "m",
        "version": "3",
        "time": "1970-01-01T00:00:00Z",
        "id": "order-1",
        "inputs": {"numbers": {"age": 41.0, "name": 7.0, "height": 1.5}, "words": {"words": "ada"}},
        "outputs": {"p": {"p[0]": 0.25, "p[1]": 0.75}},
    }


def test_what_is_to_be_left_out_is_in_no_sample_and_in_no_memory() -> None:
    redact = {"age": "drop", "words": "drop", "id": "drop", "p[1]": "drop"}
    found, sampler, _counted = kept(redact)
    sampler.offer("order-1", FEED, ("p",), ANSWERS, 0.0)
    (waiting,) = found._waiting
    assert [line.tolist() for _part, line in waiting.inputs] == [[7.0, 1.5], []]
    shown = found.shown(waiting)
    assert shown["inputs"] == {"numbers": {"name": 7.0, "height": 1.5}, "words": {}}
    assert shown["outputs"] == {"p": {"p[0]": 0.25}}
    assert "id" not in shown


def test_a_hash_is_equal_for_equal_values_and_tells_nothing_without_the_key() -> None:
    one = offered({"words": "hash", "age": "hash", "id": "hash"})
    again = offered({"words": "hash"}, "order-2")
    assert one["inputs"]["words"] == again["inputs"]["words"] != {"words": "ada"}
    assert len(one["inputs"]["words"]["words"]) == 32
    assert one["inputs"]["numbers"]["name"] == 7.0
    assert "41" != one["inputs"]["numbers"]["age"] != 41.0
    assert one["id"] != "order-1"


def test_what_is_no_number_is_null() -> None:
    found, sampler, _counted = kept({})
    feed = {**FEED, "numbers": np.asarray([[np.nan, np.inf, 1]], dtype=np.float32)}
    sampler.offer("i", feed, ("p",), ANSWERS, 0.0)
    (line,) = found.fetch("", {})[1].splitlines()
    assert json.loads(line)["inputs"]["numbers"] == {"age": None, "name": None, "height": 1.0}
    assert b"NaN" not in line


def test_nothing_is_kept_where_a_name_to_be_redacted_is_not_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert kept({"agee": "drop"})[1] is None
    assert "names agee, and the release has no such input or column" in caplog.text


@pytest.mark.parametrize(("chance", "there"), [(0.0, 1), (0.09, 1), (0.1, 0), (0.9, 0)])
def test_only_the_share_is_kept(chance: float, there: int) -> None:
    found, _sampler, _counted = kept({}, 0.1)
    parts = {
        name: samples.part_of(tensor, [], {})[0]
        for group in (Model().inputs, Model().outputs)
        for name, tensor in group.items()
    }
    samples.Sampler(found, "m", "3", parts, lambda: chance).offer("i", FEED, ("p",), ANSWERS, 0.0)
    assert found.fetch("", {})[1].count(b"\n") == there


def test_no_rate_keeps_nothing() -> None:
    found, sampler, counted = kept({}, 0.0)
    for _request in range(100):
        sampler.offer("i", FEED, ("p",), ANSWERS, 0.0)
    assert found.fetch("", {}) == ("", b"")
    assert counted == {"m stored": 0, "m dropped": 0}


def test_what_has_no_room_is_dropped_and_counted_and_room_comes_back() -> None:
    found, sampler, counted = kept({}, most=1500)
    for _request in range(5):
        sampler.offer("i", FEED, ("p",), ANSWERS, 0.0)
    batch, lines = found.fetch("", {})
    there = lines.count(b"\n")
    assert 0 < there < 5
    assert counted["m dropped"] == 5 - there
    sampler.offer("i", FEED, ("p",), ANSWERS, 0.0)
    assert counted["m dropped"] == 6 - there
    assert found.fetch(batch, {"m": there}) == ("", b"")
    sampler.offer("i", FEED, ("p",), ANSWERS, 0.0)
    assert counted["m dropped"] == 6 - there
    assert found.fetch("", {})[1].count(b"\n") == 1


def test_a_request_that_is_too_large_is_dropped() -> None:
    found, sampler, counted = kept({})
    long = {**FEED, "words": np.asarray([["x" * samples.MOST_OF_ONE]], dtype=object)}
    sampler.offer("i", long, ("p",), ANSWERS, 0.0)
    assert (found.fetch("", {})[1], counted["m dropped"]) == (b"", 1)


def test_a_batch_is_handed_out_until_it_is_stored() -> None:
    found, sampler, counted = kept({})
    sampler.offer("one", FEED, ("p",), ANSWERS, 0.0)
    batch, lines = found.fetch("", {})
    sampler.offer("two", FEED, ("p",), ANSWERS, 0.0)
    assert found.fetch("", {}) == (batch, lines)
    assert found.fetch("0" * 32, {"m": 1}) == (batch, lines)
    assert counted["m stored"] == 0
    following, more = found.fetch(batch, {"m": 1})
    assert following not in ("", batch)
    assert json.loads(more)["id"] == "two"
    assert counted["m stored"] == 1
    # What the store had no room for.
    assert found.fetch(following, {}) == ("", b"")
    assert counted == {"m stored": 1, "m dropped": 1}


def test_inputs_with_very_many_columns_are_lists() -> None:
    tensor = engine.Tensor("image", "UINT8", (-1, 30, 30))
    part, _used = samples.part_of(tensor, [], {})
    line = part.take(np.zeros((2, 30, 30), dtype=np.uint8))
    assert part.shown(line, str) == [0] * 900
    part, _used = samples.part_of(tensor, [], {"image[0]": "drop"})
    assert list(part.shown(part.take(np.zeros((1, 30, 30), dtype=np.uint8)), str)) == [
        f"image[{at}]" for at in range(1, 900)
    ]


def test_the_file_of_the_role_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "samples.json"
    given = {
        "models": [{"name": "m", "rate": 0.5, "redact": {"age": "drop"}}],
        "token_hash": access.hash_secret("secret", b"0" * 16),
        "key": "k",
    }
    path.write_text(json.dumps(given))
    found = samples.read_samples(path, lambda *_told: None)
    assert found.rules == {"m": samples.Rule(0.5, {"age": "drop"})}
    assert found.clients.identify("Bearer samples.secret", None) == "samples"
    assert found.clients.identify("Bearer samples.other", None) is None
    path.write_text(json.dumps({**given, "models": []}))
    assert samples.read_samples(path, lambda *_told: None) is None
    assert samples.read_samples(None, lambda *_told: None) is None
    path.write_text("{}")
    with pytest.raises(samples.SamplesError, match=r"samples\.json, cannot be read"):
        samples.read_samples(path, lambda *_told: None)
