# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of estimates and measurements, run as Ansible runs them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.mlops.onprem.plugins.module_utils._demand.estimate.local import LocalFiles
from ansible_collections.mlops.onprem.plugins.modules import (
    capacity_benchmark,
    capacity_benchmark_compare,
    capacity_estimate,
)

RELEASE = Path(__file__).resolve().parents[3] / "fixtures" / "release"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Runs a module's main and returns its answer."""

    def running(main: Callable[[], None], check: bool = False, **options: Any) -> dict[str, Any]:
        with (
            patch_module_args({**options, "_ansible_check_mode": check}),
            pytest.raises(SystemExit),
        ):
            main()
        return dict(json.loads(capsys.readouterr().out))

    return running


# -- capacity_estimate ----------------------------------------------------------------------------


def test_estimates_come_with_workloads_and_a_report(run: Callable[..., dict[str, Any]]) -> None:
    answer = run(
        capacity_estimate.main,
        check=True,
        estimates=[
            {"name": "edge", "kind": "model", "files": str(RELEASE), "device": "cpu"},
            {"kind": "ring_size", "defect_rate": 0.05},
        ],
    )
    assert answer["changed"] is False
    assert [row["name"] for row in answer["estimates"]] == ["edge", "ring_size_2"]
    assert answer["workloads"] == {"edge": {"replicas": 1, "requests": {"memory_mib": 1}}}
    assert (
        "ring_size_2: devices: ceil(ln(1 - 0.95) / ln(1 - 0.05)) = 59 devices" in answer["report"]
    )


@pytest.mark.parametrize(
    ("estimates", "sentence"),
    [
        ("model", "estimates: must be a list, but is a text."),
        ([{"kind": "model"}], "estimates[0]: must have parameters and dtype, or files."),
        (
            [{"kind": "model", "files": "/dev/zero"}],
            "estimates[0].files: /dev/zero cannot be read: It is no regular file.",
        ),
        (
            [{"kind": "model", "files": "/no\0where.onnx"}],
            "estimates[0].files: /no\0where.onnx cannot be read: No such file or directory.",
        ),
    ],
)
def test_a_bad_estimate_fails_with_its_place(
    run: Callable[..., dict[str, Any]], estimates: Any, sentence: str
) -> None:
    answer = run(capacity_estimate.main, estimates=estimates)
    assert (answer["failed"], answer["msg"]) == (True, sentence)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="It is no regular file"):
        LocalFiles().open(str(tmp_path / "pipe"))
    (tmp_path / "file").write_bytes(b"abc")
    with LocalFiles().open(str(tmp_path / "file")) as stream:
        assert stream.read() == b"abc"
    assert LocalFiles().size(str(tmp_path / "file")) == 3
    assert LocalFiles().names(str(tmp_path / "file")) is None
    assert set(LocalFiles().names(str(tmp_path)) or ()) == {"file", "pipe"}


# -- capacity_benchmark ---------------------------------------------------------------------------


def test_a_disk_is_measured_and_left_as_it_was(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    answer = run(
        capacity_benchmark.main,
        directory=str(tmp_path),
        measures=["disk"],
        file_mib=16,
        margin_mib=64,
        seconds=0.1,
        use_fio=False,
    )
    assert answer["changed"] is False
    assert answer["capacity_benchmark"]["directory"] == str(tmp_path)
    assert answer["capacity_benchmark"]["sequential_write"]["mib"] > 0
    assert list(tmp_path.iterdir()) == []


def test_check_mode_measures_nothing(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    answer = run(capacity_benchmark.main, check=True, directory=str(tmp_path / "none"))
    assert (answer["changed"], answer["capacity_benchmark"]) == (False, {})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"file_mib": 15}, "file_mib must be between 16 and 65536, but is 15."),
        ({"seconds": "nan"}, "seconds must be between 0.1 and 120, but is nan."),
        ({"directory": "/none"}, "/none is no directory."),
        ({"measures": ["network"]}, "role is missing; measuring the network needs it."),
        (
            {"measures": ["network"], "role": "serve", "peer": "192.0.2.1"},
            "address is missing; measuring the network needs it.",
        ),
        (
            {"measures": ["network"], "role": "connect", "peer": "192.0.2.1"},
            "peer 192.0.2.1 is none of the peers (none).",
        ),
        (
            {"directory": "/", "margin_mib": 2**30},
            None,
        ),
    ],
)
def test_what_may_not_be_measured_is_refused(
    run: Callable[..., dict[str, Any]], options: dict[str, Any], sentence: str | None
) -> None:
    answer = run(capacity_benchmark.main, **options)
    assert answer["failed"] is True
    if sentence is None:
        assert "MiB free, but the file takes 256 MiB and 1073741824 MiB are kept" in answer["msg"]
    else:
        assert answer["msg"] == sentence


# -- capacity_benchmark_compare -------------------------------------------------------------------


def test_equal_hosts_are_compared(run: Callable[..., dict[str, Any]]) -> None:
    facts = {"cpu": {"model": "EPYC", "threads": 8}, "memory": {"total_mib": 65536}}
    shape = "EPYC x 8; 64 GiB; disks none; GPUs none"
    answer = run(
        capacity_benchmark_compare.main,
        results={
            name: {"memory_copy": {"mib_per_s": speed, "tool": "own measurement"}}
            for name, speed in (("a", 1000), ("b", 1000), ("c", 899), ("d", 1))
        },
        supply={"a": facts, "b": facts, "c": facts, "d": {"unreachable": "no route"}},
    )
    assert answer["changed"] is False
    assert answer["shapes"] == {shape: ["a", "b", "c"]}
    assert [(row["host"], row["severity"]) for row in answer["findings"]] == [
        ("c", "warn"),
        ("a", "pass"),
        ("b", "pass"),
    ]
    assert answer["not_compared"] == [
        "d: no other host of its shape was measured in the same way: memory copy"
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"results": {"a": "fast"}},
            "The results cannot be read: a: must be a mapping, but is a text.",
        ),
        ({"results": {}, "share": 0}, "share must be above 0 and at most 1, but is 0.0."),
        (
            {"results": {}, "fdatasync_p99_ms": "nan"},
            "fdatasync_p99_ms must be above 0, but is nan.",
        ),
    ],
)
def test_a_comparison_of_nothing_sensible_is_refused(
    run: Callable[..., dict[str, Any]], options: dict[str, Any], sentence: str
) -> None:
    answer = run(capacity_benchmark_compare.main, **options)
    assert (answer["failed"], answer["msg"]) == (True, sentence)
