# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role asks of the plan about jobs, sessions, datasets and images of others."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.onprem.plugins.filter.workloads import workloads

IMAGE = f"ctl1:443/web@sha256:{'a' * 64}"
PLANNED = [
    {
        "name": "train",
        "kind": "training",
        "requests": {"cpu_cores": 2, "memory": "1GiB"},
        "gpu": {"count": 1},
        "run": {"command": ["true"], "team": "vision", "account": "anna"},
    },
    {
        "name": "desk",
        "kind": "user",
        "requests": {"cpu_cores": 1},
        "run": {"team": "text", "account": "carl", "idle": "1h"},
    },
    {
        "name": "images",
        "kind": "dataset",
        "requests": {"disks": [{"path": "/data/i", "size": "1GiB"}]},
        "run": {"owner": "anna"},
    },
    {
        "name": "web",
        "kind": "service",
        "requests": {"cpu_cores": 1},
        "run": {"image": IMAGE, "port": 8080},
    },
]
ROWS = [
    {"workload": "train", "replica": 0, "host": "g1", "gpu_ids": ["GPU-a"]},
    {"workload": "desk", "replica": 0, "host": "g2"},
    {"workload": "images", "replica": 0, "host": "g1"},
    {"workload": "web", "replica": 0, "host": "g2"},
]
SITE: dict[str, Any] = {
    "site": "s",
    "members": {"vision": ["anna"], "text": ["carl"]},
    "scheduler": ["ctl1"],
    "supply": {"g1": {"gpus": {"gpus": [{"uuid": "GPU-a", "model": "Tesla T4"}]}}, "g2": {}},
    "tracking": "https://ctl1/mlflow",
}


def ask(question: str, host: str = "", **more: Any) -> Any:
    return workloads(PLANNED, question, ROWS, host, **{**SITE, **more})


def test_every_job_of_the_site_is_told_to_the_scheduler() -> None:
    jobs = ask("jobs")
    assert [(job["workload"], job["node"], job["kind"]) for job in jobs] == [
        ("train", "g1", "batch"),
        ("desk", "g2", "session"),
    ]
    assert (jobs[0]["gres"], jobs[0]["memory_mib"]) == ("gpu:tesla_t4:1", 1024)
    assert jobs[0]["environment"] == {"MLFLOW_TRACKING_URI": "https://ctl1/mlflow"}
    assert jobs[1]["idle"] == 3600
    assert ask("job_hosts") == ["g1", "g2"]


def test_a_host_is_asked_for_the_accounts_of_its_jobs_and_the_scheduler_for_all() -> None:
    assert [row["command"][-1] for row in ask("accounts", "g1")] == ["anna"]
    assert [row["command"][-1] for row in ask("accounts")] == ["anna", "carl"]
    assert ask("accounts", "elsewhere") == []


def test_datasets_and_images_are_those_of_the_host() -> None:
    assert [row["path"] for row in ask("datasets", "g1")] == ["/data/i"]
    assert ask("datasets", "g2") == []
    assert ask("dataset_hosts") == ["g1"]
    found = ask("quadlets", "g2", registry="ctl1:443", login="/x", margin_percent=25)
    assert [row["name"] for row in found] == ["mlops-workload-web-0"]
    assert "PodmanArgs=--authfile=/x\n" in found[0]["text"]
    assert ask("quadlets", "g1") == []


def test_a_gpu_that_nothing_serves_from_is_the_schedulers() -> None:
    assert ask("gpu_owners") == {"g1": {"GPU-a": "scheduler"}, "g2": {}}


def test_a_refusal_is_a_sentence_of_the_filter() -> None:
    with pytest.raises(AnsibleFilterError, match="the inventory has none; put a host into"):
        ask("jobs", scheduler=[])
    with pytest.raises(AnsibleFilterError, match="runs as anna, who is no member of vision"):
        ask("jobs", members={"vision": ["ben"], "text": ["carl"]})
