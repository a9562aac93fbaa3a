# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The formulas beyond their published figures: limits, brute force, and refusals by field."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._demand.estimate import read, storage
from ansible_collections.mlops.onprem.plugins.module_utils._demand.estimate.answer import (
    Estimate,
    told,
)
from ansible_collections.mlops.onprem.plugins.module_utils._demand.estimate.serving import (
    Waiting,
    look_at_trace,
    slots_for,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError
from hypothesis import given, settings
from hypothesis import strategies as st

from .model_writers import MemoryFiles, message, onnx, safetensors, tensor

MIB, GIB, TIB = 2**20, 2**30, 2**40


def ask(**fields: Any) -> Estimate:
    return read.estimate(fields, MemoryFiles())


def figures(**fields: Any) -> dict[str, float]:
    return {row.name: row.value for row in ask(**fields).figures}


# -- memory ---------------------------------------------------------------------------------------


def test_a_model_asks_for_a_gpu_with_weights_overhead_and_cache() -> None:
    answer = ask(
        kind="model",
        name="chat",
        parameters=8_030_261_248,
        dtype="bf16",
        cpu_cores=4,
        replicas=2,
        kv_cache={"layers": 32, "kv_heads": 8, "head_size": 128, "tokens": 32768},
    ).as_dict()
    total = 2 * 8_030_261_248 * 1.2 + 32768 * 131_072
    assert answer["workload"] == {
        "replicas": 2,
        "requests": {"cpu_cores": 4.0},
        "gpu": {"memory_mib": math.ceil(total / MIB)},
    }
    assert answer["value"] == 16_060_522_496
    assert answer["formula"] == (
        "8,030,261,248 parameters x 2 bytes (bf16) = 16,060,522,496 bytes = 14.96 GiB"
    )


def test_a_model_without_gpu_asks_for_memory() -> None:
    answer = ask(kind="model", parameters=1_000_000, dtype="fp32", device="cpu", overhead_percent=0)
    assert answer.as_dict()["workload"] == {"replicas": 1, "requests": {"memory_mib": 4}}


def test_a_model_split_over_gpus_asks_for_whole_ones() -> None:
    answer = ask(kind="model", parameters=70 * 10**9, dtype="bf16", overhead_percent=0, gpus=4)
    assert answer.figures[-1].value == 35 * 10**9
    assert answer.as_dict()["workload"] == {"replicas": 1, "gpu": {"count": 4}}
    assert answer.need is not None
    assert answer.need.gpu_memory_mib == math.ceil(35 * 10**9 / MIB)


def test_weights_come_from_a_file_in_its_own_type_or_in_another() -> None:
    raw = onnx(message(5, tensor([1024, 1024], 1, message(9, b"\0" * (4 * MIB)))))
    files = MemoryFiles({"m.onnx": raw})
    asked = {"kind": "model", "files": "m.onnx"}
    assert read.estimate(asked, files).figures[0].value == 4 * MIB
    assert read.estimate({**asked, "dtype": "int8"}, files).figures[0].value == MIB


def test_sequences_are_rounded_up_to_whole_blocks_each() -> None:
    found = figures(
        kind="kv_cache",
        layers=1,
        kv_heads=1,
        head_size=1,
        dtype="int8",
        sequences=10,
        tokens_per_sequence=17,
    )
    assert found == {"kv_cache": 10 * 32 * 2, "blocks": 20, "per_token": 2}


def test_training_on_several_hosts_asks_for_whole_gpus_of_each() -> None:
    answer = ask(kind="training", parameters=10**9, gpus=16, zero_stage=2)
    assert answer.as_dict()["workload"]["replicas"] == 2
    assert answer.as_dict()["workload"]["gpu"] == {"count": 8}
    assert answer.figures[0].value == 4 * 10**9 + 10**9


def test_lora_keeps_the_weights_frozen_and_trains_the_rest() -> None:
    found = figures(
        kind="training",
        parameters=10**9,
        lora={"trainable_parameters": 10**6, "base_dtype": "q8_0"},
    )
    assert found["each_gpu"] == 8.51 * 10**9 / 8 + 16 * 10**6
    split = figures(
        kind="training",
        parameters=10**9,
        gpus=4,
        zero_stage=3,
        largest_layer_parameters=10**7,
        lora={"trainable_parameters": 10**6, "base_dtype": "bf16"},
    )
    assert split["each_gpu"] == 2 * 10**9 / 4 + 2 * 10**7 + 18 * 10**6 / 4


def test_activations_follow_the_way_of_recomputation() -> None:
    shape = {"layers": 2, "hidden_size": 64, "heads": 4, "sequence": 128, "batch": 3}
    sbh = 128 * 3 * 64
    found = [
        figures(kind="training", parameters=1, activations={**shape, "recompute": way})[
            "activations"
        ]
        for way in ("none", "selective", "full")
    ]
    whole = sbh * (34 + 5 * 4 * 128 / 64)
    assert found == [2 * whole, 2 * 34 * sbh, 2 * 2 * sbh + whole]


# -- serving --------------------------------------------------------------------------------------


def test_by_littles_law_no_more_than_the_allowed_share_is_busy() -> None:
    found = ask(
        kind="serving",
        rate_per_second=50,
        service_seconds=0.2,
        concurrency=2,
        max_utilisation=0.5,
        spare_replicas=1,
        each_replica={"cpu_cores": 2, "memory_mib": 512},
    )
    assert found.as_dict()["workload"] == {
        "replicas": 11,
        "requests": {"cpu_cores": 2.0, "memory_mib": 512},
    }
    assert figures(kind="serving", rate_per_second=7, service_seconds=1, max_utilisation=0.7) == {
        "replicas": 10
    }


def erlang_c(slots: int, load: float) -> float:
    """The probability that a request must wait, with ``load`` (rate x service time) erlangs."""
    if load >= slots:
        return 1.0
    blocked = 1.0
    for server in range(1, slots + 1):
        blocked = load * blocked / (server + load * blocked)
    return blocked / (1 - load / slots * (1 - blocked))


@pytest.mark.parametrize(
    ("slots", "load", "waits"),
    [
        (1, 0.0, 0.0),
        # One server: the share of its time that it is busy.
        (1, 0.3, 0.3),
        # Two servers, in closed form: 2 r^2 / (1 + r) with r = load / 2.
        (2, 1.0, 2 * 0.25 / 1.5),
        # Erlang's tables.
        (14, 10.0, 0.1741),
        (13, 10.0, 0.2853),
        (5, 5.0, 1.0),
        (5, 6.0, 1.0),
    ],
)
def test_erlang_c_agrees_with_closed_forms_and_tables(
    slots: int, load: float, waits: float
) -> None:
    assert erlang_c(slots, load) == pytest.approx(waits, abs=5e-5)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(0.1, 200),
    st.floats(0.01, 5),
    st.floats(0, 10),
    st.floats(0.01, 0.999),
    st.integers(1, 4),
)
def test_the_fewest_slots_keep_the_promise_and_fewer_do_not(
    rate: float, service: float, seconds: float, quantile: float, step: int
) -> None:
    slots, late = slots_for(rate, service, Waiting(seconds, quantile), step)
    load = rate * service

    def too_late(number: int) -> float:
        if load >= number:
            return 1.0
        return erlang_c(number, load) * math.exp(-(number / service - rate) * seconds)

    assert slots % step == 0
    assert late == pytest.approx(too_late(slots), rel=1e-9)
    assert too_late(slots) <= 1 - quantile
    assert slots == step or too_late(slots - step) > 1 - quantile - 1e-12


def test_a_queue_simulated_request_by_request_agrees_with_erlang_c() -> None:
    chance, rate, service, slots = random.Random(7), 4.0, 0.5, 3
    free, now, late, total = [0.0] * slots, 0.0, 0, 30_000
    for _request in range(total):
        now += chance.expovariate(rate)
        soonest = min(range(slots), key=free.__getitem__)
        begin = max(now, free[soonest])
        late += begin - now > 0.2
        free[soonest] = begin + chance.expovariate(1 / service)
    expected = erlang_c(slots, rate * service) * math.exp(-(slots / service - rate) * 0.2)
    assert late / total == pytest.approx(expected, abs=0.02)


def test_the_busiest_window_is_found_wherever_it_lies() -> None:
    chance = random.Random(3)
    times = [chance.uniform(0, 1000) for _one in range(300)]
    times += [777.0 + 0.1 * one for one in range(50)]
    found = look_at_trace(times, 10.0)
    assert found.peak == max(sum(1 for at in times if t <= at < t + 10.0) for t in times)


def test_poisson_arrivals_use_the_queue_and_bursts_the_peak() -> None:
    chance = random.Random(11)
    at, even = 0.0, []
    for _one in range(4000):
        at += chance.expovariate(2.0)
        even.append(at)
    waiting = {"seconds": 1, "quantile": 0.95}
    calm = ask(
        kind="serving", arrivals=even, service_seconds=1.5, waiting=waiting, window_seconds=10
    )
    rate = (len(even) - 1) / (even[-1] - even[0])
    assert calm.figures[0].value == slots_for(rate, 1.5, Waiting(1, 0.95))[0]
    assert "Poisson-like" in calm.notes[0]
    bursts = [60.0 * minute + 0.01 * one for minute in range(60) for one in range(100)]
    busy = ask(
        kind="serving", arrivals=bursts, service_seconds=1.5, waiting=waiting, window_seconds=10
    )
    assert "comes in bursts" in busy.notes[0]
    # 100 arrivals in a window of 10 s, 1.5 s each, 70 % busy.
    assert busy.figures[0].value == math.ceil(10 * 1.5 / 0.7)
    short = ask(kind="serving", arrivals=even[:20], service_seconds=1.5, waiting=waiting)
    assert "too short to tell" in short.notes[0]


def test_arrivals_are_read_from_a_file_line_by_line() -> None:
    asked = {"kind": "serving", "arrivals_file": "t", "service_seconds": 1}
    files = MemoryFiles({"t": b"1\n2.5\n\n 3 \n"})
    peak = {row.name: row.value for row in read.estimate(asked, files).figures}["peak_rate"]
    assert peak == 3 / 60
    files.content["t"] = b"1\nnan\n"
    with pytest.raises(ShapeError, match=r"^arrivals_file: t, line 2: must be a finite number"):
        read.estimate(asked, files)
    with pytest.raises(ShapeError, match=r"^arrivals_file: x cannot be read: No such file"):
        read.estimate({**asked, "arrivals_file": "x"}, files)
    files.content["t"] = b"\xff\xfe"
    with pytest.raises(ShapeError, match=r"^arrivals_file: t, line 1: must be a number"):
        read.estimate(asked, files)


# -- storage --------------------------------------------------------------------------------------


def test_datasets_grow_compound_or_linear() -> None:
    asked = {"kind": "dataset", "size_tib": 2, "growth_percent_per_year": 50, "years": 2}
    assert figures(**asked, copies=2)["space"] == 2 * 2 * TIB * 2.25
    assert figures(**asked, growth="linear")["space"] == 2 * TIB * 2
    need = ask(**asked, path="/data").as_dict()["workload"]["requests"]
    assert need == {"disks": [{"path": "/data", "size_mib": 4.5 * TIB / MIB}]}


def test_mlflow_counts_artifacts_and_rows() -> None:
    found = figures(
        kind="mlflow",
        runs_per_day=10,
        retention_days=100,
        artifacts_per_run_mib=50,
        metrics_per_run=1000,
        params_per_run=20,
        tags_per_run=10,
    )
    assert found == {
        "artifacts": 1000 * 50 * MIB,
        "database": 1000 * (1000 * 250 + 30 * 300),
        "runs": 1000,
        "rows": 1000 * 1030,
    }


def test_prometheus_takes_series_and_interval_too() -> None:
    found = figures(kind="prometheus", series=150_000, scrape_interval_seconds=15, retention_days=1)
    samples = 86_400 * 10_000 * 2
    assert found == {"space": samples * 1.2, "samples": samples, "rate": 10_000}


def brute_force_usable(sizes: Sequence[int], pieces: int) -> int:
    """How many objects fit whose pieces of size 1 lie in different domains: place, fullest last."""
    left, objects = list(sizes), 0
    while True:
        best = sorted(range(len(left)), key=lambda index: -left[index])[:pieces]
        if left[best[-1]] < 1:
            return objects
        for index in best:
            left[index] -= 1
        objects += 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=3, max_size=7), st.integers(1, 3))
def test_unequal_failure_domains_hold_what_can_be_placed(sizes: list[int], pieces: int) -> None:
    found = storage._most_per_piece(sorted(float(size) for size in sizes), pieces)
    assert brute_force_usable(sizes, pieces) == math.floor(found + 1e-9)


def test_ceph_keeps_room_for_the_loss_of_the_largest_domain() -> None:
    found = ask(kind="ceph", domains_tib=[10, 10, 10, 10, 20], replicas=3)
    assert found.figures[0].value == pytest.approx(40 / 3 * 0.85 * TIB, abs=1)
    coded = ask(
        kind="ceph", failure_domains=7, raw_per_domain_tib=12, data_chunks=4, coding_chunks=2
    )
    assert coded.figures[0].value == pytest.approx(72 * 4 / 6 * 0.85 * TIB, abs=1)
    assert coded.notes == ()


def test_ceph_says_when_small_domains_limit_it() -> None:
    found = ask(kind="ceph", domains_tib=[1, 1, 1, 100, 100], replicas=3)
    # After the loss of one of 100: 1, 1, 1 and 100; three pieces need two of the small ones.
    assert found.figures[0].value == pytest.approx(1.5 * 0.85 * TIB, abs=1)
    assert found.notes == ("The failure domains are unequal: the small ones limit the pieces.",)


def test_ceph_says_when_there_is_no_place_to_recover_to_and_when_too_little_is_there() -> None:
    found = ask(kind="ceph", failure_domains=3, raw_per_domain_tib=10, replicas=3, wanted_tib=6)
    assert found.figures[0].value == pytest.approx(20 / 3 * 0.85 * TIB, abs=1)
    assert [row.name for row in found.figures] == ["usable", "raw", "missing"]
    assert "no place to recover to" in found.notes[0]
    assert found.notes[1] == "What is wanted does not fit."


def kept_on_worst_day(every: int, days: int) -> tuple[int, int]:
    """Backups kept, and full ones of them, on the worst day of a simulated schedule."""
    worst = (0, 0)
    for today in range(days + 3 * every, days + 5 * every):
        oldest = today - days + 1
        first = oldest - oldest % every
        kept = range(first, today + 1)
        worst = max(worst, (sum(1 for day in kept if day % every == 0), len(kept)))
    return worst


@pytest.mark.parametrize("every", [1, 2, 7, 30])
@pytest.mark.parametrize("days", [1, 6, 7, 8, 30, 31])
def test_backups_cover_the_worst_day_of_a_simulated_schedule(every: int, days: int) -> None:
    found = figures(
        kind="backup",
        size_gib=100,
        full_every_days=every,
        retention_days=days,
        change_percent_per_day=10,
    )
    full, kept = kept_on_worst_day(every, days)
    assert (found["full"], found["full"] + found["increments"]) == (full, kept)
    assert found["space"] == pytest.approx((full + 0.1 * (kept - full)) * 100 * GIB)


# -- fleet ----------------------------------------------------------------------------------------


def test_rings_download_over_the_share_of_the_uplink_but_no_faster_than_a_device() -> None:
    found = figures(
        kind="edge_download",
        release_mb=500,
        uplink_mbit=100,
        uplink_share_percent=50,
        device_mbit=20,
        rings=[1, {"name": "half", "devices": 10}, 100],
    )
    assert found == {
        "ring_1": 500 * 8 / 20,
        "half": 10 * 500 * 8 / 50,
        "ring_3": 100 * 500 * 8 / 50,
        "all_rings": 200 + 800 + 8000,
    }


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-6, 0.99), st.floats(0.01, 0.9999))
def test_a_ring_of_that_size_sees_the_defect_and_a_smaller_one_does_not(
    rate: float, confidence: float
) -> None:
    size = int(figures(kind="ring_size", defect_rate=rate, confidence=confidence)["devices"])
    assert (
        figures(kind="ring_size", defect_rate=rate, confidence=confidence, devices=size)[
            "probability"
        ]
        >= confidence - 1e-9
    )
    assert size == 1 or 1 - (1 - rate) ** (size - 1) < confidence + 1e-9


# -- what people write ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("x", "estimates: must be a list, but is a text"),
        ([1], "estimates[0]: must be a mapping, but is a number"),
        ([{}], "estimates[0].kind: is missing"),
        (
            [{"kind": "disk"}],
            "estimates[0].kind: must be one of model, kv_cache, training, serving, dataset,"
            " mlflow, prometheus, ceph, backup, edge_download, ring_size, but is 'disk'",
        ),
        (
            [{"kind": "ring_size", "rate": 1}],
            "estimates[0]: has the unknown key 'rate'; known are name, kind, defect_rate,"
            " confidence, devices",
        ),
        (
            [{"kind": "ring_size", "defect_rate": 1}],
            "estimates[0].defect_rate: must be above 0 and below 1, but is 1",
        ),
        (
            [{"kind": "ring_size", "defect_rate": 0.1}] * 2,
            None,
        ),
        (
            [{"kind": "ring_size", "defect_rate": 0.1, "name": "a"}] * 2,
            "estimates[1].name: 'a' is the name of an earlier estimate",
        ),
        (
            [{"kind": "kv_cache", "layers": 32, "kv_heads": 0, "head_size": 128, "tokens": 1}],
            "estimates[0].kv_heads: must be between 1 and 100000, but is 0",
        ),
        (
            [{"kind": "kv_cache", "layers": 32, "kv_heads": 8, "head_size": 128}],
            "estimates[0]: must have one of tokens, sequences (with tokens_per_sequence), memory_*",
        ),
        (
            [{"kind": "model", "parameters": 5, "dtype": "fp32", "gpus": 2, "device": "cpu"}],
            "estimates[0].gpus: needs device: gpu",
        ),
        ([{"kind": "model"}], "estimates[0]: must have parameters and dtype, or files"),
        ([{"kind": "model", "parameters": 5}], "estimates[0].dtype: is missing"),
        (
            [{"kind": "model", "parameters": 5, "dtype": "fp12"}],
            "estimates[0].dtype: must be one of fp64, float64, double, fp32, float32, float, int32,"
            " fp16, float16, half, bf16, bfloat16, int16, fp8, float8, fp8_e4m3, fp8_e5m2, int8,"
            " int4, nf4, fp4, nf4_double, mxfp4, nvfp4, awq, gptq, q2_k, q3_k_s, q3_k_m, q3_k_l,"
            " iq4_xs, iq4_nl, q4_0, q4_1, q4_k_s, q4_k_m, q5_0, q5_1, q5_k_s, q5_k_m, q6_k, q8_0,"
            " but is 'fp12'",
        ),
        (
            [{"kind": "model", "files": ["gone.onnx"]}],
            "estimates[0].files: gone.onnx cannot be read: No such file or directory",
        ),
        (
            [{"kind": "model", "parameters": 5, "dtype": "fp32", "kv_cache": {"layers": "x"}}],
            "estimates[0].kv_cache.layers: must be a number, but is 'x'",
        ),
        (
            [{"kind": "training", "parameters": 5, "offload": "optimizer"}],
            "estimates[0].offload: is optimizer, which needs zero_stage 1, 2 or 3",
        ),
        (
            [{"kind": "training", "parameters": 5, "offload": "all", "zero_stage": 2}],
            "estimates[0].offload: is all, which needs zero_stage 3, not 2",
        ),
        (
            [{"kind": "training", "parameters": 5, "zero_stage": 3}],
            "estimates[0].largest_layer_parameters: is missing",
        ),
        (
            [{"kind": "training", "parameters": 5, "gpus": 2, "gpus_per_host": 4}],
            "estimates[0].gpus_per_host: must be at most gpus (2), but is 4",
        ),
        (
            [
                {
                    "kind": "training",
                    "parameters": 5,
                    "lora": {"rank": 8, "matrices": [{"inputs": 4, "outputs": 4}]},
                }
            ],
            "estimates[0].lora: trains 64 parameters, more than the model's 5",
        ),
        (
            [{"kind": "dataset", "size_gib": 1, "size_tb": 1}],
            "estimates[0]: gives size_gib and size_tb; give one of them",
        ),
        (
            [{"kind": "dataset"}],
            "estimates[0].size_gib: is missing; units are bytes, kib, mib, gib, tib, mb, gb, tb",
        ),
        (
            [{"kind": "dataset", "size_gib": -1}],
            "estimates[0].size_gib: must be at least 0, but is -1",
        ),
        (
            [{"kind": "dataset", "size_gib": 1, "path": "data"}],
            "estimates[0].path: must be an absolute path, but is 'data'",
        ),
        (
            [
                {
                    "kind": "dataset",
                    "size_tib": 1e9,
                    "growth_percent_per_year": 10_000,
                    "years": 50,
                }
            ],
            "estimates[0]: grows beyond what can be stored; see growth_percent_per_year and years",
        ),
        (
            [{"kind": "ceph", "failure_domains": 2, "raw_per_domain_tib": 1, "replicas": 3}],
            "estimates[0]: has 2 failure domains, but 3 pieces of every object need one each",
        ),
        (
            [{"kind": "serving", "service_seconds": 1}],
            "estimates[0]: must have one of rate_per_second, arrivals, arrivals_file",
        ),
        (
            [{"kind": "serving", "service_seconds": 1, "rate_per_second": float("nan")}],
            "estimates[0].rate_per_second: must be a finite number, but is nan",
        ),
        (
            [{"kind": "serving", "service_seconds": 1, "arrivals": [1, -1]}],
            "estimates[0].arrivals[1]: must be at least 0, but is -1",
        ),
        (
            [{"kind": "serving", "service_seconds": 1, "arrivals": [1, 1]}],
            "estimates[0].arrivals: must have at least two different times",
        ),
        (
            [
                {
                    "kind": "serving",
                    "service_seconds": 1e6,
                    "rate_per_second": 1e9,
                    "waiting": {"seconds": 1},
                }
            ],
            "estimates[0]: keeps 1,000,000,000,000,000 slots busy, more than 2000000 are not"
            " estimated",
        ),
        (
            [{"kind": "edge_download", "release_mb": 1, "uplink_mbit": 1, "rings": [0]}],
            "estimates[0].rings[0]: must be between 1 and 1e+15, but is 0",
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_path_of_the_field(rows: Any, sentence: str | None) -> None:
    if sentence is None:
        assert len(read.estimate_all(rows, MemoryFiles())) == len(rows)
        return
    with pytest.raises(ShapeError) as caught:
        read.estimate_all(rows, MemoryFiles())
    assert str(caught.value) == sentence


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["bf16", "optimizer", "all", "full", "m.onnx", "linear", "1", "-1", "nan"])
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)
USUAL = st.integers(0, 40) | st.floats(0, 1) | ANY
FILES = MemoryFiles({"m.onnx": onnx(message(5, tensor([3], 1))), "m.safetensors": safetensors({})})


def of_kind(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    keys = st.sampled_from(read.KEYS[kind])
    return st.dictionaries(keys, USUAL, max_size=9).map(lambda row: {**row, "kind": kind})


def answered(rows: object) -> bool:
    """Whether the answer is sensible, or else a sentence. Anything else than these is raised."""
    try:
        found = read.estimate_all(rows, FILES)
    except ShapeError as error:
        return str(error).startswith("estimates")
    return all(
        math.isfinite(row.value) and row.value >= 0 and row.formula
        for answer in found
        for row in answer.figures
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(sorted(read.KINDS)).flatmap(of_kind) | ANY, max_size=2))
def test_any_list_gives_a_sentence_or_an_answer(rows: list[Any]) -> None:
    assert answered(rows)


# Fields that make each kind answer, to which others are added or in which values are replaced.
WHOLE: dict[str, dict[str, Any]] = {
    "model": {"parameters": 10, "dtype": "bf16"},
    "kv_cache": {"layers": 2, "kv_heads": 2, "head_size": 8, "tokens": 100},
    "training": {"parameters": 10, "gpus": 4, "zero_stage": 1},
    "serving": {"rate_per_second": 3, "service_seconds": 0.5},
    "dataset": {"size_gib": 3},
    "mlflow": {"runs_per_day": 3, "retention_days": 9},
    "prometheus": {"samples_per_second": 3, "retention_days": 9},
    "ceph": {"failure_domains": 5, "raw_per_domain_tib": 1, "replicas": 3},
    "backup": {"size_gib": 3, "retention_days": 9},
    "edge_download": {"release_mb": 3, "uplink_mbit": 9, "rings": [1, 10]},
    "ring_size": {"defect_rate": 0.1},
}


@pytest.mark.parametrize("kind", sorted(WHOLE))
def test_one_field_more_or_other_gives_a_sentence_or_an_answer(kind: str) -> None:
    extremes: tuple[Any, ...] = (
        0,
        1,
        5e-324,
        1e-9,
        1e9,
        1e15,
        1e308,
        "x",
        [],
        {},
        True,
        None,
        [1e15],
        "bf16",
    )
    assert read.estimate_all([{**WHOLE[kind], "kind": kind}], FILES)
    for key in read.KEYS[kind]:
        for value in extremes:
            assert answered([{**WHOLE[kind], "kind": kind, key: value}]), (key, value)


def test_every_kind_names_the_fields_it_reads() -> None:
    assert set(read.KEYS) == set(read.KINDS)
    for kind, keys in read.KEYS.items():
        assert len(set(keys)) == len(keys), kind


def test_a_size_may_have_its_unit_beside_it() -> None:
    assert figures(kind="dataset", size="3GiB") == figures(kind="dataset", size_gib=3)


def test_no_two_units_of_a_size_are_taken_for_each_other() -> None:
    found = [
        figures(kind="dataset", **{f"size_{unit}": number})["space"]
        for unit, number in (("tib", 1), ("gib", 1024), ("mib", MIB), ("bytes", TIB))
    ]
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("number", "text"),
    [(1e6, "1,000,000"), (0.5, "0.5"), (2.25, "2.25"), (1 / 3, "0.333333"), (1e-7, "1e-07")],
)
def test_numbers_are_told_shortly(number: float, text: str) -> None:
    assert told(number) == text
