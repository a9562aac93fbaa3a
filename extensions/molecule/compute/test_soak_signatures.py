# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A workload is pointed at a model that nobody trusted has signed: what served goes on serving."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from extensions.molecule.compute import test_serving
from extensions.molecule.compute.hosts import (
    GPU_HOSTS,
    SCHEDULER,
    STATE,
    applied_again,
    on,
    placed,
    refused,
    workloads,
)

pytestmark = pytest.mark.soak
MODEL, REGISTRY = "iris", "https://10.209.0.10:5443"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
# What the refused runs would have changed, by content; environments by the sizes of their files.
LOOK = r"""
cd /
find etc/mlops etc/systemd/system var/lib/mlops/workloads var/lib/mlops/ledger.json \
  -type f -exec sha256sum {} + 2> /dev/null | sort -k 2
find opt/mlops ! -name __pycache__ ! -name '*.pyc' -printf '%p %m %s\n' 2> /dev/null | sort
for unit in $(systemctl list-units --no-legend --plain 'mlops-workload*.service' \
    'mlops-nginx*.service' | cut -d' ' -f1 | sort); do
  systemctl show -p Id,MainPID,ActiveEnterTimestampMonotonic,ExecStart "$unit"
done
"""


def digest_of(version: str) -> str:
    """What the registry has under a version of the model."""
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(
            f"{REGISTRY}/v2/models/{MODEL}/manifests/v{version}",
            auth=("pull", "pull-of-the-scenario"),
            headers={"Accept": MANIFEST},
            verify=str(STATE / "ca-bundle.crt"),
            timeout=60,
        )
    answer.raise_for_status()
    return str(answer.headers["Docker-Content-Digest"])


def pointed(run: dict[str, str]) -> list[dict[str, Any]]:
    """The list of the company with another release of the model."""
    rows = workloads()
    for row in rows:
        if row["name"] == MODEL:
            row["run"].pop("version")
            row["run"] |= run
    return rows


def looked() -> dict[str, list[str]]:
    """What is on the hosts, and since when each unit runs with which release."""
    return {host: on(host, LOOK).splitlines() for host in (*GPU_HOSTS, SCHEDULER)}


@pytest.mark.parametrize("words", [("--check",), ()], ids=["check", "run"])
@pytest.mark.parametrize(
    ("version", "option", "found"),
    [("2", "version", "is refused. The key "), ("3", "digest", "is not signed.")],
    ids=["stranger", "nobody"],
)
def test_a_model_that_is_not_signed_is_refused_and_the_old_one_serves_on(
    version: str, option: str, found: str, words: tuple[str, ...]
) -> None:
    digest, served = digest_of(version), digest_of("1")
    before, places = looked(), placed()
    assert any(served.removeprefix("sha256:")[:16] in line for line in before[GPU_HOSTS[0]])
    run = {"version": version} if option == "version" else {"digest": digest}
    said = " ".join(refused(*words, mlops_workloads=pointed(run)).split())
    what = f"version {version}" if option == "version" else "the release"
    for sentence in (
        f"iris: The release {digest} {found}",
        f"Publish {what} of iris signed with a key that is trusted (make pipeline), or set "
        f"run.{option} of iris in mlops_workloads to one that is.",
    ):
        assert sentence in said, said[-8000:]
    after = looked()
    for host, lines in before.items():
        assert after[host] == lines, set(after[host]) ^ set(lines)
    assert placed() == places
    assert test_serving.ask("GET", "iris/v2/health/ready", "vision").status_code == 200
    test_serving.test_golden_answers_come_over_tls()


def test_after_the_refusals_there_is_nothing_to_put_right() -> None:
    applied_again()
