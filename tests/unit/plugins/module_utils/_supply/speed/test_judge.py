# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What measurements mean: percentiles, fio's answers, and which host is slower than its equals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import PASS, WARN
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError
from ansible_collections.mlops.onprem.plugins.module_utils._supply.speed.judge import (
    BenchmarkError,
    compare,
    fio_arguments,
    latencies,
    parse_fio,
    percentile,
    refusal,
    shape_of,
    throughput,
)
from hypothesis import given, settings
from hypothesis import strategies as st

OWN, FIO = "own measurement", "fio-3.33"


def disk(write: float, p99: float | None = 2.0, **more: Any) -> dict[str, Any]:
    return {
        "sequential_write": {"mib_per_s": write, "direct": True, "tool": OWN, **more},
        "fdatasync": {"p50_ms": 1.0, "p99_ms": p99, "samples": 500, "tool": OWN},
    }


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 2.0), (0.51, 3.0), (0.75, 3.0), (0.99, 4.0), (0.0, 1.0), (1.0, 4.0)]
)
def test_a_percentile_is_a_sample_by_nearest_rank(share: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == value


def test_the_99th_percentile_is_unknown_below_100_samples() -> None:
    assert latencies([0.001] * 99) == {"samples": 99, "p50_ms": 1.0, "p99_ms": None}
    assert latencies([0.001] * 98 + [0.02] * 2)["p99_ms"] == 20.0
    assert latencies([]) == {"samples": 0, "p50_ms": None, "p99_ms": None}
    with pytest.raises(BenchmarkError, match="there is no sample"):
        percentile([], 0.5)


def test_throughput_is_in_mib_a_second() -> None:
    assert throughput(10 * 2**20, 2.0) == {"mib_per_s": 5.0, "mib": 10.0, "seconds": 2.0}
    assert throughput(10 * 2**20, 0.0)["mib_per_s"] is None


def test_too_little_space_is_refused_with_what_is_missing() -> None:
    assert refusal("/d", 1280, 256, 1024) == ""
    assert refusal("/d", 1279, 256, 1024) == (
        "/d has 1279 MiB free, but the file takes 256 MiB and 1024 MiB are kept free: choose a"
        " smaller file_mib, or free 1 MiB"
    )


# -- comparison -----------------------------------------------------------------------------------


def test_a_host_below_nine_tenths_of_the_median_of_its_shape_is_a_finding() -> None:
    results = {"a": disk(100), "b": disk(100), "c": disk(89.9), "d": disk(90), "other": disk(10)}
    shapes = dict.fromkeys("abcd", "big") | {"other": "small"}
    findings, alone = compare(results, shapes)
    slow = [row for row in findings if row.severity == WARN]
    # The median of 100, 100, 89.9 and 90 is 95; nine tenths of it are 85.5.
    assert slow == []
    results["c"] = disk(85.4)
    findings, alone = compare(results, shapes)
    slow = [row for row in findings if row.severity == WARN]
    assert [row.sentence for row in slow] == [
        "c: sequential write is 85.4 MiB/s, wanted at least 85.5 MiB/s (0.9 x 95, the median of 4"
        " hosts of equal shape); look for a failing or busy disk, a throttled processor, a bad"
        " link or memory module"
    ]
    assert [row.host for row in findings if row.id.endswith("equal_hosts")] == ["c", "a", "b", "d"]
    assert alone == [
        "other: no other host of its shape was measured in the same way: fdatasync median,"
        " sequential write"
    ]


def test_a_latency_far_above_the_median_is_a_finding() -> None:
    results = {
        host: {"fdatasync": {"p50_ms": p50, "p99_ms": 5.0, "samples": 500, "tool": OWN}}
        for host, p50 in (("a", 2.0), ("b", 2.0), ("c", 2.3), ("d", 1.0))
    }
    findings, _alone = compare(results, dict.fromkeys("abcd", "s"))
    slow = [row for row in findings if row.severity == WARN]
    assert [(row.host, row.found) for row in slow] == [("c", "fdatasync median is 2.3 ms")]
    assert slow[0].wanted.startswith("at most 2.222 ms (2 / 0.9, the median of 4 hosts")


def test_other_shapes_and_other_ways_of_measuring_are_not_compared() -> None:
    results = {
        "a": disk(100),
        "b": disk(10, tool=FIO),
        "c": disk(10, direct=False),
        "d": disk(10),
    }
    findings, alone = compare(results, {**dict.fromkeys("abc", "s"), "d": "t"})
    assert [row for row in findings if row.severity == WARN] == []
    assert {line.partition(":")[0] for line in alone} == {"a", "b", "c", "d"}


def test_hosts_without_a_shape_are_alone() -> None:
    findings, alone = compare({"a": disk(100), "b": disk(10)}, {})
    assert [row.id for row in findings] == ["capacity_benchmark.fdatasync"] * 2
    assert len(alone) == 2


@pytest.mark.parametrize(
    ("p99", "severity", "found"),
    [
        (9.99, PASS, "fdatasync p99 is 9.99 ms"),
        (10.0, WARN, "fdatasync p99 is 10 ms"),
        (None, WARN, "fdatasync p99 is unknown: 500 samples in the time given"),
    ],
)
def test_the_rule_for_logs_is_below_ten_milliseconds(
    p99: float | None, severity: str, found: str
) -> None:
    findings, _alone = compare({"a": disk(1, p99)}, {})
    assert [(row.severity, row.found) for row in findings] == [(severity, found)]
    assert findings[0].wanted == "below 10 ms, the rule of etcd's documentation"


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        ("fast", "a: must be a mapping, but is a text"),
        ({"fdatasync": 3}, "a.fdatasync: must be a mapping, but is a number"),
        (
            {"random_read": {"iops": "many"}},
            "a.random_read.iops: must be a number, but is 'many'",
        ),
        ({"random_read": {"iops": -1}}, "a.random_read.iops: must be at least 0, but is -1"),
    ],
)
def test_results_that_are_none_are_refused(result: Any, sentence: str) -> None:
    with pytest.raises(ShapeError) as caught:
        compare({"a": result}, {})
    assert str(caught.value) == sentence


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.1, 1e6), min_size=2, max_size=8), st.integers(-20, 20))
def test_the_unit_of_the_measurement_does_not_change_who_is_slow(
    values: list[float], power: int
) -> None:
    def slow(scale: float) -> list[str]:
        results = {
            f"h{index}": {"memory_copy": {"mib_per_s": value * scale, "tool": OWN}}
            for index, value in enumerate(values)
        }
        findings, _alone = compare(results, dict.fromkeys(results, "s"))
        return [row.host for row in findings if row.severity == WARN]

    assert slow(1.0) == slow(2.0**power)


# -- shapes ---------------------------------------------------------------------------------------

FACTS = {
    "cpu": {"model": "EPYC 7543", "threads": 64},
    "memory": {"total_mib": 257_600},
    "disks": [
        {"kind": "disk", "model": "MZ7", "size_mib": 915_715.3},
        {"kind": "partition", "model": None, "size_mib": 512},
    ],
    "gpus": {"gpus": [{"model": "A100"}, {"model": "A100"}]},
}


def test_the_shape_of_a_host_is_told_in_words() -> None:
    assert shape_of(FACTS) == "EPYC 7543 x 64; 256 GiB; disks MZ7/894; GPUs A100, A100"
    assert shape_of({}) == "? x ?; ? GiB; disks none; GPUs none"


@pytest.mark.parametrize(
    ("change", "equal"),
    [
        ({"memory": {"total_mib": 257_100}}, True),
        ({"memory": {"total_mib": 128_000}}, False),
        ({"cpu": {"model": "EPYC 7543", "threads": 32}}, False),
        ({"disks": []}, False),
        ({"gpus": {"gpus": [{"model": "A100"}]}}, False),
        ({"gpus": None}, False),
        ({"listeners": [1]}, True),
    ],
)
def test_hosts_differ_in_shape_by_what_they_are_made_of(
    change: dict[str, Any], equal: bool
) -> None:
    assert (shape_of({**FACTS, **change}) == shape_of(FACTS)) is equal


# -- fio ------------------------------------------------------------------------------------------


def fio_answer(**sections: Any) -> str:
    return json.dumps({"fio version": FIO, "jobs": [{"jobname": "x", "error": 0, **sections}]})


SYNC = {"lat_ns": {"N": 4321, "percentile": {"50.000000": 783_000, "99.000000": 2_376_000}}}
READ = {
    "io_bytes": 50 * 2**20,
    "runtime": 500,
    "iops": 25_600.4321,
    "clat_ns": {"percentile": {"99.000000": 151_000}},
}


def test_fio_is_read_from_its_json() -> None:
    assert parse_fio("fdatasync", "note: something\n" + fio_answer(sync=SYNC)) == {
        "samples": 4321,
        "p50_ms": 0.783,
        "p99_ms": 2.376,
        "tool": FIO,
    }
    assert parse_fio("random_read", fio_answer(read=READ)) == {
        "mib_per_s": 100.0,
        "mib": 50.0,
        "seconds": 0.5,
        "iops": 25_600.4,
        "p99_ms": 0.151,
        "tool": FIO,
    }
    assert parse_fio("sequential_read", fio_answer(read=READ))["mib_per_s"] == 100.0


def test_few_samples_of_fio_have_no_99th_percentile() -> None:
    few = {"lat_ns": {**SYNC["lat_ns"], "N": 99}}
    assert parse_fio("fdatasync", fio_answer(sync=few))["p99_ms"] is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "fio's answer about random_read cannot be read"),
        ("fio: command not found", "fio's answer about random_read cannot be read"),
        ("{", "fio's answer about random_read cannot be read"),
        ("[]", "fio's answer about random_read cannot be read"),
        ('{"jobs": []}', "fio's answer about random_read cannot be read"),
        (fio_answer(), "fio's answer about random_read cannot be read"),
        (
            json.dumps({"fio version": FIO, "jobs": [{"error": 28}]}),
            "fio failed with error 28",
        ),
        (
            fio_answer(read={**READ, "iops": -1}),
            "fio's answer about random_read gives -1.0 as iops",
        ),
        (
            fio_answer(read={**READ, "iops": float("nan")}),
            "fio's answer about random_read gives nan as iops",
        ),
    ],
)
def test_what_is_no_answer_of_fio_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(BenchmarkError) as caught:
        parse_fio("random_read", text)
    assert str(caught.value).startswith(sentence)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["io_bytes", "runtime", "lat_ns", "N"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


def answered(job: str, text: str) -> bool:
    """Whether it is an answer, or else a sentence. Anything else than these is raised."""
    try:
        return bool(parse_fio(job, text))
    except BenchmarkError as error:
        return "fio" in str(error)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["fdatasync", "sequential_read", "random_read"]),
    st.dictionaries(st.sampled_from(["sync", "read", "error"]), JSON),
    st.text(max_size=20),
)
def test_any_answer_of_fio_is_read_or_refused(job: str, sections: Any, text: str) -> None:
    assert answered(job, fio_answer(**{"error": 0, **sections}))
    assert answered(job, text)


def test_fio_may_write_only_the_file_that_is_there() -> None:
    for job in ("fdatasync", "sequential_write", "sequential_read", "random_read"):
        arguments = fio_arguments(job, "/proc/1/fd/3", 64, 2.5, direct=True)
        assert "--filename=/proc/1/fd/3" in arguments
        assert "--allow_file_create=0" in arguments
        assert "--size=64m" in arguments
        assert "--runtime=3" in arguments
    assert "--fdatasync=1" in fio_arguments("fdatasync", "f", 1, 1, direct=True)
    with pytest.raises(BenchmarkError, match="there is no job trim"):
        fio_arguments("trim", "f", 1, 1, direct=True)
