# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One GPU serves and the other is the scheduler's: what was planned is read back, and refused."""

from __future__ import annotations

import json
import re
import shlex

import pytest
import requests
import yaml

from extensions.molecule.compute.hosts import (
    INVENTORY,
    STATE,
    device_files,
    on,
    placed,
    refused,
    until,
)

CONTROLLER, NODE = "lctl", "lgpu1"
UNIT = "mlops-workload-chat-0.service"
SECRETS = INVENTORY / "group_vars" / "all" / "secrets.yml"


def job() -> dict[str, str]:
    said = on(CONTROLLER, "scontrol -o show job $(squeue -h -o %A --name=train)", check=False)
    return dict(re.findall(r"(\S+?)=(\S*)", said))


def ask(method: str, path: str, key: str, **more: object) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.request(
            method,
            f"https://10.210.0.10/workloads/chat/{path}",
            headers={"Authorization": f"Bearer {key}"},
            verify=str(STATE / "ca-bundle.crt"),
            timeout=60,
            **more,  # type: ignore[arg-type]
        )


def test_the_training_runs_on_the_card_that_does_not_serve_with_the_planned_limits() -> None:
    serving, training = placed()["chat", 0], placed()["train", 0]
    assert serving["host"] == training["host"] == NODE
    assert serving["gpu_ids"] != training["gpu_ids"]
    until(lambda: job().get("JobState") == "RUNNING", lambda: str(job()))
    found = job()
    assert (found["NodeList"], found["Account"], found["QOS"]) == (NODE, "vision", "vision")
    assert found["UserId"].startswith("anna(")
    assert "mem=150M" in found["AllocTRES"]
    assert "gres/gpu" in found["AllocTRES"]
    assert found["TimeLimit"] == "02:00:00"
    log = f"/var/lib/mlops/workload_jobs/train.{found['JobId']}.log"
    wanted = f"CUDA_VISIBLE_DEVICES={training['gpu_ids'][0]}"
    until(lambda: wanted in on(NODE, f"cat {log}", check=False), lambda: on(NODE, f"cat {log}"))


def test_the_database_has_what_the_job_was_given() -> None:
    said = on(CONTROLLER, "sacct -nPX -a --name=train -o User,Account,AllocTRES")
    until(lambda: "gres/gpu=1" in said, lambda: said)
    assert said.startswith("anna|vision|")


def test_the_replica_has_its_card_and_its_limits() -> None:
    row = placed()["chat", 0]
    asked = "MemoryMax,CPUQuotaPerSecUSec,Environment,DeviceAllow"
    said = on(NODE, f"systemctl show {UNIT} -p {asked}")
    assert f"MemoryMax={300 * 2**20}\n" in said
    assert "CPUQuotaPerSecUSec=500ms\n" in said
    assert f"CUDA_VISIBLE_DEVICES={row['gpu_ids'][0]}" in said
    files = device_files(NODE)
    assert re.findall(r"/dev/nvidia\d\b", said) == [files[gpu] for gpu in row["gpu_ids"]]


def test_the_same_tokens_come_over_tls_to_who_has_the_key_of_a_team() -> None:
    key = yaml.safe_load(SECRETS.read_text("utf-8"))["team_token_vision"]
    prompt = {"model": "tiny", "prompt": "hello", "max_tokens": 8, "temperature": 0, "seed": 1}
    answers = [ask("POST", "v1/completions", key, json=prompt) for _time in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    texts = {answer.json()["choices"][0]["text"] for answer in answers}
    assert len(texts) == 1
    assert texts != {""}
    assert ask("GET", "v1/models", "somebody.else").status_code == 401


def test_a_team_s_limit_holds_its_jobs() -> None:
    line = "cd /tmp && sbatch --parsable --output=/dev/null --gres=gpu:1 --mem=50 --wrap=true"
    words = ["runuser", "-u", "anna", "--", "sh", "-c", line]
    number = on(CONTROLLER, shlex.join(words)).strip()
    asked = f"squeue -h -j {number} -o '%T|%r'"
    until(
        lambda: on(CONTROLLER, asked).strip() == "PENDING|QOSGrpGRES",
        lambda: on(CONTROLLER, "squeue"),
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"team": "language"}, "of the team language, which mlops_teams does not have"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_changes(
    change: dict[str, str], sentence: str
) -> None:
    text = (INVENTORY / "group_vars" / "all" / "workloads.yml").read_text("utf-8")
    rows = yaml.safe_load(text)["mlops_workloads"]
    wrong = [row | ({"run": row["run"] | change} if row["name"] == "train" else {}) for row in rows]
    said = refused(mlops_workloads=wrong)
    assert sentence in " ".join(said.split()), said[-4000:]
    assert json.loads((STATE / "placement.json").read_text("utf-8"))["placement"]
