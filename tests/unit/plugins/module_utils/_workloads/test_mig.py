# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The instance of the plan among those of a host, and every mismatch with its sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._demand.running import ServingRun
from ansible_collections.mlops.onprem.plugins.module_utils._supply.facts import gpus_of
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.mig import (
    NoInstance,
    divided,
)
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.placed import Placed
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.questions import answer
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.serving import Refused

ONE = Placed(
    "chat",
    "serving",
    0,
    "gpu1",
    gpu_ids=("GPU-a",),
    profile="1g.10gb",
    slice=2,
    run=ServingRun("llama_cpp", "assistant", version=3),
)


def row(number: int, profile: str | None, start: int | None, **more: Any) -> dict[str, Any]:
    return {
        "gpu_instance_id": number,
        "compute_instance_id": 0,
        "uuid": f"MIG-{number}",
        "profile": profile,
        "start": start,
        "files": [f"/dev/nvidia-caps/nvidia-cap{9 * number + part}" for part in (3, 4)],
        **more,
    }


LAYOUT = [row(5, "2g.20gb", 0), row(9, "1g.10gb", 2), row(10, "1g.10gb", 3), row(1, "3g.40gb", 4)]


def of(rows: list[dict[str, Any]], named: str = "", one: Placed = ONE) -> Any:
    names = {"GPU-a": {"2": named}} if named else {}
    card = {"uuid": "GPU-a", "mig_instances": rows}
    return divided(gpus_of({"gpus": {"gpus": [card]}}), names).of(one)


def test_the_instance_is_the_one_that_begins_where_the_plan_says() -> None:
    found = of(LAYOUT)
    assert found.name == "MIG-9"
    assert found.files == ("/dev/nvidia-caps/nvidia-cap84", "/dev/nvidia-caps/nvidia-cap85")
    assert of(LAYOUT, one=replace(ONE, profile="3g.40gb", slice=4)).name == "MIG-1"


def test_the_inventory_names_an_instance_where_the_driver_does_not() -> None:
    assert of(LAYOUT, "MIG-10").name == "MIG-10"
    nameless = [replace_row(one, uuid=None) for one in LAYOUT]
    assert (of(nameless, "MIG-x").name, of(nameless, "MIG-x").files) == ("MIG-x", of(LAYOUT).files)
    assert of([], "MIG-x").files == ()
    silent = [replace_row(one, uuid=None, start=None) for one in LAYOUT]
    assert (of(silent, "MIG-x").name, of(silent, "MIG-x").files) == ("MIG-x", ())


def replace_row(one: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**one, **more}


@pytest.mark.parametrize(
    ("rows", "named", "said"),
    [
        ([], "", "which has no instances; lay the instances out as planned (role gpu_driver)"),
        (
            [row(1, "3g.40gb", 4), row(5, "2g.20gb", 0)],
            "",
            "which has 2g.20gb at slice 0, 3g.40gb at slice 4; lay the instances out as planned "
            "(role gpu_driver)",
        ),
        (
            [row(5, "1g.20gb", 2)],
            "",
            "which has 1g.20gb at slice 2; lay the instances out as planned (role gpu_driver)",
        ),
        (
            [row(9, "1g.10gb", 2), row(9, "1g.10gb", 2, compute_instance_id=1)],
            "",
            "and that one is split into 2 compute instances; lay the instances out as planned "
            "(role gpu_driver)",
        ),
        (
            [row(9, "1g.10gb", None)],
            "",
            "and the driver does not tell where its instances lie; say the name of this one in "
            "workloads_mig_instances, as nvidia-smi -L shows it",
        ),
        (
            [row(9, "1g.10gb", 2, uuid=None)],
            "",
            "whose name the driver does not tell; say it in workloads_mig_instances, as nvidia-smi "
            "-L shows it",
        ),
        (
            [row(9, "1g.10gb", 2)],
            "MIG-77",
            "which workloads_mig_instances calls MIG-77, and the instances of that GPU are MIG-9; "
            "mend workloads_mig_instances, or leave it out where the driver tells the names itself",
        ),
    ],
)
def test_what_is_not_as_planned_is_refused_in_a_sentence(
    rows: list[dict[str, Any]], named: str, said: str
) -> None:
    with pytest.raises(NoInstance) as refused:
        of(rows, named)
    start = "gpu1: chat is planned on the MIG instance 1g.10gb at slice 2 of GPU GPU-a"
    assert str(refused.value).replace(start, "").lstrip(", ") == said


WRITTEN = [
    {
        "name": "chat",
        "kind": "serving",
        "requests": {"cpu_cores": 1},
        "gpu": {"profile": "1g.10gb"},
        "run": {"engine": "llama_cpp", "model": "assistant", "version": 3},
    }
]
PLACED = {
    "gpu1": [
        {
            "workload": "chat",
            "replica": 0,
            "gpu_ids": ["GPU-a"],
            "profile": "1g.10gb",
            "slice": 2,
        }
    ]
}


def units(rows: list[dict[str, Any]], check: bool = False) -> Any:
    card = {"uuid": "GPU-a", "index": 0, "minor": 1, "mig_instances": rows}
    more = {
        "releases": {"chat": {"directory": "/releases/ab", "kind": "gguf"}},
        "facts": {"gpus": {"gpus": [card]}},
        "check": check,
    }
    return answer(WRITTEN, PLACED, "units", "gpu1", more)


def test_a_unit_opens_the_planned_instance_and_no_other_without_any_variable() -> None:
    (found,) = units(LAYOUT)
    assert found["environment"]["CUDA_VISIBLE_DEVICES"] == "MIG-9"
    allowed = found["settings"]["Service"]["DeviceAllow"]
    assert [one for one in allowed if "nvidia-caps" in one] == [
        "/dev/nvidia-caps/nvidia-cap84 r",
        "/dev/nvidia-caps/nvidia-cap85 r",
    ]
    assert "/dev/nvidia1 rw" in allowed


def test_what_an_earlier_role_would_have_made_is_not_missed_where_nothing_is_changed() -> None:
    assert units([], check=True) == []
    with pytest.raises(Refused, match="which has no instances"):
        units([])
