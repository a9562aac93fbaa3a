# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traces of the openb family: what is read, what is refused, and what the command line prints."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import (
    NO_GPU,
    Device,
    GpuNeed,
    Host,
    Instance,
    Workload,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks import openb, openb_trace
from tests.benchmarks import published_policies as policies

NODES = """\
sn,cpu_milli,memory_mib,gpu,model
n1,8000,1024,2,T4
n2,16000,2048,0,
"""
PODS = """\
name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos
p1,1000,10,1,460,,LS
p2,1500,20,0,0,,BE
p3,1000,10,1,460,,BE
p4,2000,30,2,1000,T4|A100,LS
p5,2000,30,1,1000,A100|T4|,LS
"""
Write = Callable[[str, str], tuple[Path, Path]]


@pytest.fixture(name="write")
def fixture_write(tmp_path: Path) -> Write:
    def write(nodes: str, pods: str) -> tuple[Path, Path]:
        (tmp_path / "nodes.csv").write_text(nodes)
        (tmp_path / "pods.csv").write_text(pods)
        return tmp_path / "nodes.csv", tmp_path / "pods.csv"

    return write


def test_equal_rows_become_one_workload(write: Write) -> None:
    models = frozenset({"T4", "A100"})
    assert openb_trace.read(*write(NODES, PODS)) == Instance(
        resources=("cpu", "memory"),
        units=("cores", "MiB"),
        hosts=(
            Host("n1", (8.0, 1024.0), (Device("T4"), Device("T4"))),
            Host("n2", (16.0, 2048.0)),
        ),
        workloads=(
            Workload("1cpu-10MiB-0.46gpu", (1.0, 10.0), 2, GpuNeed(share=0.46)),
            Workload("1.5cpu-20MiB", (1.5, 20.0), 1, NO_GPU),
            Workload("2cpu-30MiB-2gpu-A100|T4", (2.0, 30.0), 1, GpuNeed(count=2, models=models)),
            Workload("2cpu-30MiB-1gpu-A100|T4", (2.0, 30.0), 1, GpuNeed(count=1, models=models)),
        ),
    )


def test_optional_columns_may_be_absent(write: Write) -> None:
    nodes = "gpu,cpu_milli,rack\n1,1000,r\n\n0,2000,r\n"
    pods = "num_gpu,cpu_milli\n1,500\n0,500\n3,500\n"
    assert openb_trace.read(*write(nodes, pods)) == Instance(
        resources=("cpu",),
        units=("cores",),
        hosts=(Host("host-0", (1.0,), (Device(""),)), Host("host-1", (2.0,))),
        workloads=(
            Workload("0.5cpu-0MiB-1gpu", (0.5,), 1, GpuNeed(count=1)),
            Workload("0.5cpu-0MiB", (0.5,), 1),
            Workload("0.5cpu-0MiB-3gpu", (0.5,), 1, GpuNeed(count=3)),
        ),
    )


def test_memory_is_not_asked_for_where_only_the_hosts_name_it(write: Write) -> None:
    found = openb_trace.read(*write(NODES, "cpu_milli,num_gpu\n1,0\n"))
    assert found.workloads == (Workload("0.001cpu-0MiB", (0.001, 0.0)),)


def test_memory_is_not_planned_where_the_hosts_do_not_name_it(write: Write) -> None:
    pods = "cpu_milli,num_gpu,memory_mib\n1,0,5\n1,0,6\n"
    found = openb_trace.read(*write("cpu_milli,gpu\n1,0\n", pods))
    assert [(w.demand, w.replicas) for w in found.workloads] == [((0.001,), 2)]


def test_a_byte_order_mark_and_other_line_ends_do_no_harm(write: Write) -> None:
    found = openb_trace.read(
        *write("\ufeff" + NODES.replace("\n", "\r\n"), PODS.replace("\n", "\r\n"))
    )
    assert found == openb_trace.read(*write(NODES, PODS))


HEAD = "cpu_milli,memory_mib,num_gpu,gpu_milli\n"


@pytest.mark.parametrize(
    ("nodes", "pods", "sentence"),
    [
        ("", PODS, "nodes.csv: has no column 'cpu_milli'"),
        ("sn,cpu_milli\na,1\n", PODS, "nodes.csv: has no column 'gpu'"),
        (NODES, "cpu_milli\n1\n", "pods.csv: has no column 'num_gpu'"),
        ("gpu,cpu_milli,gpu\n", PODS, "nodes.csv: has the column 'gpu' 2 times"),
        ("cpu_milli,gpu\n", PODS, "nodes.csv: lists no host"),
        (NODES, HEAD, "pods.csv: lists no workload"),
        (NODES + "n1,1,1,0,\n", PODS, "nodes.csv, line 4: the host 'n1' is listed before"),
        (NODES, HEAD + "1,1,0\n", "pods.csv, line 2: has 3 cells, but the head has 4"),
        (NODES, HEAD + "1,1,0,0,0\n", "pods.csv, line 2: has 5 cells, but the head has 4"),
        (NODES, HEAD + ",1,0,0\n", "pods.csv, line 2: cpu_milli is empty"),
        (NODES, HEAD + "x,1,0,0\n", "pods.csv, line 2: cpu_milli is 'x', which is no number"),
        (
            NODES,
            HEAD + "1,1,0,0\n-1,1,0,0\n",
            "pods.csv, line 3: cpu_milli is '-1'; wanted is a number from 0 to 1e15",
        ),
        (
            NODES,
            HEAD + "nan,1,0,0\n",
            "pods.csv, line 2: cpu_milli is 'nan'; wanted is a number from 0 to 1e15",
        ),
        (
            NODES,
            HEAD + "1,inf,0,0\n",
            "pods.csv, line 2: memory_mib is 'inf'; wanted is a number from 0 to 1e15",
        ),
        (
            NODES,
            HEAD + "1,1,1.5,0\n",
            "pods.csv, line 2: num_gpu is 1.5; wanted is a whole number up to 1024",
        ),
        (
            "cpu_milli,gpu\n1,1000000000\n",
            PODS,
            "nodes.csv, line 2: gpu is 1e+09; wanted is a whole number up to 1024",
        ),
        (
            NODES,
            HEAD + "1,1,1,1400\n",
            "pods.csv, line 2: gpu_milli is 1400; wanted is a number above 0, up to 1000",
        ),
        (
            NODES,
            HEAD + "1,1,1,0\n",
            "pods.csv, line 2: gpu_milli is 0; wanted is a number above 0, up to 1000",
        ),
        (
            NODES,
            HEAD + "1,1,2,500\n",
            "pods.csv, line 2: asks for 2 GPUs and for 500 thousandths of one",
        ),
        (NODES, HEAD + '"1,1,0,0\n', "pods.csv, line 2: is no CSV: unexpected end of data"),
        (NODES, "x" * 200_000, "pods.csv, line 1: is no CSV: field larger than field limit"),
    ],
)
def test_bad_tables_are_refused_with_their_place(
    write: Write, nodes: str, pods: str, sentence: str
) -> None:
    with pytest.raises(openb_trace.TraceError) as caught:
        openb_trace.read(*write(nodes, pods))
    assert sentence in str(caught.value)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(openb_trace.TraceError, match="cannot be read: No such file"):
        openb_trace.read(tmp_path / "none", tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(openb_trace.TraceError, match="is no text in UTF-8"):
        openb_trace.read(tmp_path / "binary", tmp_path / "none")


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("garbage")


@given(head=st.sampled_from(["", HEAD]), garbage=st.text(max_size=200))
def test_garbage_is_read_or_refused_but_never_crashes(
    folder: Path, head: str, garbage: str
) -> None:
    path = folder / "garbage.csv"
    path.write_text(head + garbage, encoding="utf-8", errors="replace")
    (folder / "nodes.csv").write_text(NODES)
    try:
        said = str(openb_trace.read(folder / "nodes.csv", path).workloads[0].name)
    except openb_trace.TraceError as error:
        said = str(error).removeprefix(str(path))
    assert re.match(r"[\d.e+-]+cpu-|[,:] ", said)


def test_the_published_traces_have_their_known_sizes() -> None:
    found = openb_trace.read(openb.NODES, openb.PODS)
    assert len(found.hosts) == 1213
    assert sum(len(of.devices) for of in found.hosts) == 6212
    assert len(found.workloads) == 151
    assert sum(w.replicas for w in found.workloads) == 8152


# -- the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize("policy", policies.POLICIES)
@pytest.mark.parametrize("experiment", ["allocation", "place"])
def test_one_json_object_is_printed(
    write: Write, capsys: pytest.CaptureFixture[str], experiment: str, policy: str
) -> None:
    nodes, pods = write(NODES, PODS.replace("T4|A100", "T4"))
    asked = ["--experiment", experiment, "--policy", policy, "--demand", "1.0", "--seed", "7"]
    assert openb.main([str(nodes), str(pods), *asked]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["policy"] == policy
    assert printed["gpus"] == 2
    assert printed["arrived"] >= printed["unplaced"]
    assert 0 <= printed["allocation"] <= 100
    assert printed["verdict"] in ("FEASIBLE", "UNDECIDED")
    assert {"bound", "certificate", "seconds", "cpu_seconds", "peak_mib"} <= set(printed)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (["--policy", "worst"], "argument --policy: invalid choice: 'worst'"),
        (["--experiment", "guess"], "argument --experiment: invalid choice: 'guess'"),
        (["--seed", "-1"], "argument --seed: invalid seed value: '-1'"),
        (["--seconds", "0"], "argument --seconds: invalid seconds value: '0'"),
        (["--demand", "nan"], "demand nan is not from 0 to 100 times the GPUs there are"),
        (["/none"], "/none: cannot be read: No such file or directory"),
    ],
)
def test_bad_input_ends_with_one_sentence(
    capsys: pytest.CaptureFixture[str], asked: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        openb.main(asked)
    printed = capsys.readouterr()
    assert caught.value.code == 2
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert sentence in printed.err


def test_the_published_allocation_is_met_on_a_real_trace() -> None:
    # Best fit on multigpu50: the published mean of ten seeds is 95.74 %.
    instance = openb_trace.read(openb.NODES, openb.FIXTURES / "openb_pod_list_multigpu50.csv")
    found = policies.run("bestfit", instance, policies.inflated(instance, 1.3, 42), 42)
    assert found.percent == pytest.approx(95.74, abs=0.5)
