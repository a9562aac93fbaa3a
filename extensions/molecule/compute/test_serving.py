# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is planned to serve serves where the plan put it, with its limits, behind one address."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
import yaml

from extensions.molecule.compute.hosts import (
    GPU_HOSTS,
    INVENTORY,
    ROOT,
    STATE,
    applied_again,
    device_files,
    on,
    placed,
)

GATEWAY = "https://10.209.0.10"
MIB = 2**20
# Of the inventory: memory in MiB, and processors as systemd tells them.
LIMITS = {"iris": (700, "1s"), "chat": (300, "500ms")}


def key_of(team: str) -> str:
    kept = yaml.safe_load((INVENTORY / "group_vars/all/secrets.yml").read_text("utf-8"))
    return str(kept[f"team_token_{team}"])


def ask(method: str, path: str, team: str = "", **more: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {key_of(team)}"} if team else {}
    with requests.Session() as session:
        session.trust_env = False
        return session.request(
            method,
            f"{GATEWAY}/workloads/{path}",
            headers=headers,
            verify=str(STATE / "ca-bundle.crt"),
            timeout=60,
            **more,
        )


def completion(text: str) -> Any:
    asked = {"model": "tiny", "prompt": text, "max_tokens": 8, "temperature": 0, "seed": 1}
    answer = ask("POST", "chat/v1/completions", "language", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["text"]


def shown(host: str, unit: str) -> dict[str, str]:
    wanted = "ActiveState,MemoryMax,CPUQuotaPerSecUSec,Environment,DeviceAllow,DevicePolicy"
    lines = on(host, f"systemctl show {unit} -p {wanted}").splitlines()
    found: dict[str, str] = {}
    for line in lines:
        name, _equals, value = line.partition("=")
        found[name] = f"{found[name]} {value}" if name in found else value
    return found


@pytest.mark.parametrize("workload", sorted(LIMITS))
@pytest.mark.parametrize("replica", [0, 1])
def test_a_replica_runs_where_it_is_planned_with_the_planned_limits(
    workload: str, replica: int
) -> None:
    row = placed()[workload, replica]
    unit = shown(row["host"], f"mlops-workload-{workload}-{replica}.service")
    memory, processors = LIMITS[workload]
    assert unit["ActiveState"] == "active"
    assert unit["MemoryMax"] == str(memory * MIB)
    assert unit["CPUQuotaPerSecUSec"] == processors
    files = device_files(row["host"])
    told = {file for file in files.values() if f"{file} " in unit["DeviceAllow"]}
    assert told == {files[gpu] for gpu in row["gpu_ids"]}
    for gpu in row["gpu_ids"]:
        assert f"CUDA_VISIBLE_DEVICES={gpu}" in unit["Environment"]


def test_no_host_runs_what_is_planned_elsewhere() -> None:
    for host in GPU_HOSTS:
        units = on(host, "systemctl list-units --no-legend --plain 'mlops-workload-*'").splitlines()
        found = {line.split()[0] for line in units}
        assert found == {
            f"mlops-workload-{workload}-{replica}.service"
            for (workload, replica), row in placed().items()
            if row["host"] == host and workload in LIMITS
        }


def test_golden_answers_come_over_tls() -> None:
    golden = json.loads((ROOT / "tests/fixtures/release/golden.json").read_text("utf-8"))
    for case in golden["cases"]:
        answer = ask("POST", "iris/v2/models/iris/infer", "vision", json=case["request"])
        assert answer.status_code == 200, answer.text
        outputs = {one["name"]: one["data"] for one in answer.json()["outputs"]}
        for name, expected in case["expected"].items():
            assert outputs[name] == pytest.approx(expected, abs=1e-4)


def test_the_same_tokens_come_each_time_from_every_replica() -> None:
    said = {completion("hello") for _time in range(6)}
    assert len(said) == 1
    assert said != {""}


def test_an_endpoint_of_the_company_answers_by_its_name() -> None:
    answer = ask("POST", "handbook/v1/completions", "language", json={"prompt": "how"})
    assert answer.json()["choices"][0]["text"] == "as the handbook says"


def test_who_has_no_key_or_another_team_s_is_not_let_in() -> None:
    assert ask("GET", "chat/v1/models").status_code == 401
    assert ask("GET", "iris/v2/health/ready", "language").status_code == 403
    assert ask("GET", "iris/v2/health/ready", "vision").status_code == 200


def test_a_second_run_changes_nothing() -> None:
    applied_again()
