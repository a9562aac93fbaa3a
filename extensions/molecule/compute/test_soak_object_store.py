# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What jobs say and leave behind lies in the company's object store, by the job's own number."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
import yaml

from extensions.molecule.compute.hosts import (
    HERE,
    ROOT,
    SCHEDULER,
    STATE,
    apply,
    on,
    placed,
    play,
    until,
    workloads,
)
from extensions.molecule.compute.test_jobs import LOGS, ended

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.soak
SERVER = ROOT / "extensions" / "molecule" / "shared" / "s3_server.py"
BUCKET = "mlops-jobs"
# The address of this machine in the network of the scenario.
ADDRESS = "10.209.0.1"
REPORT = {
    "name": "report",
    "kind": "batch",
    "requests": {"cpu_cores": 1, "memory": "100MiB"},
    # The training and the session hold both cores of the other host. A lab plans more than there
    # is, so that the job may be placed there too, as job_scheduler.crowded says, and has to wait.
    "hosts": {"names": ["cgpu1"]},
    "priority": 30,
    "run": {
        "team": "language",
        "command": [
            "/bin/sh",
            "-c",
            'echo "told $MLFLOW_RUN_CONTEXT"; echo 0.93 > "$MLOPS_RESULT/accuracy"',
        ],
        "environment": {"MLFLOW_TRACKING_URI": "https://registry.example.com"},
        "time_limit": "5min",
    },
}


def server(action: str, *words: str) -> None:
    command = [sys.executable, str(SERVER), action, f"--state={STATE / 's3'}", *words]
    subprocess.run(command, check=True, timeout=120)


def authorities(store: dict[str, str]) -> list[str]:
    """That of the company's database stays, or the accounting could not reach it."""
    return [str(STATE / "company-ca.crt"), store["mol_s3_ca_file"]]


@pytest.fixture(scope="module")
def store() -> Iterator[dict[str, str]]:
    """The company's object store, trusted by the hosts of the site."""
    facts = STATE / "s3.yml"
    server("start", f"--address={ADDRESS}", f"--facts={facts}")
    handed: dict[str, str] = yaml.safe_load(facts.read_text("utf-8"))
    trusted = json.dumps({"trust_extra_ca_files": authorities(handed)})
    play(HERE / "hosts.yml", "-e", trusted)
    yield handed
    server("stop")
    play(HERE / "hosts.yml")


@pytest.fixture(scope="module")
def client(store: dict[str, str]) -> S3Client:
    made: S3Client = boto3.client(
        "s3",
        endpoint_url=store["mol_s3_endpoint"],
        region_name=store["mol_s3_region"],
        verify=store["mol_s3_ca_file"],
        aws_access_key_id=store["mol_s3_access_key"],
        aws_secret_access_key=store["mol_s3_secret_key"],
    )
    made.create_bucket(Bucket=BUCKET)
    return made


def keys(client: S3Client) -> list[str]:
    return [one["Key"] for one in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def test_log_and_result_of_a_job_come_to_the_object_store_with_the_name_of_its_run(
    store: dict[str, str], client: S3Client
) -> None:
    apply(
        trust_extra_ca_files=authorities(store),
        workloads_object_store={
            "endpoint": store["mol_s3_endpoint"],
            "bucket": BUCKET,
            "access_key": store["mol_s3_access_key"],
            "secret_key": store["mol_s3_secret_key"],
            "region": store["mol_s3_region"],
        },
        workloads_collect_seconds=5,
        mlops_workloads=[*workloads(), REPORT],
    )
    identity = on(SCHEDULER, "sacct -nPX -a --name=report -o JobID").strip()
    assert ended(identity) == "COMPLETED"
    base = f"jobs/report/{identity}-ben"
    host = placed()["report", 0]["host"]
    until(
        lambda: {f"{base}/log", f"{base}/result/accuracy"} <= set(keys(client)),
        lambda: f"{keys(client)}\n{on(host, 'journalctl -n 20 -u mlops-job-collect')}",
    )
    log = client.get_object(Bucket=BUCKET, Key=f"{base}/log")["Body"].read().decode()
    told = json.loads(log.partition("told ")[2].splitlines()[0])
    assert told["mlflow.runName"] == f"report-{identity}"
    assert told["slurm_job_id"] == identity
    result = client.get_object(Bucket=BUCKET, Key=f"{base}/result/accuracy")["Body"].read()
    assert result == b"0.93\n"
    # Who runs jobs has no key of the store.
    kept = "/etc/mlops/workloads/job_store.json"
    assert "Permission denied" in on(host, f"runuser -u ben -- cat {kept}", check=False)
    assert store["mol_s3_secret_key"] not in on(host, f"cat {LOGS}/report.{identity}.log")
