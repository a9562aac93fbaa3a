# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host is gone, and comes back; then workloads leave the list, and nothing of them is left."""

from __future__ import annotations

from collections import Counter

import pytest

from extensions.molecule.compute.hosts import (
    GPU_HOSTS,
    SCHEDULER,
    apply,
    on,
    placed,
    until,
    without_power,
    workloads,
)
from extensions.molecule.compute.test_jobs import number, queue
from extensions.molecule.compute.test_serving import ask, completion

pytestmark = pytest.mark.soak
LEFT = ("chat", "handbook", "train", "desk-ben")


def test_what_was_on_a_lost_host_moves_where_it_may_and_what_cannot_is_said() -> None:
    """cgpu1 has room for chat, no card for a second iris or the training, and is not ben's host."""
    with without_power("cgpu2"):
        said = apply(mlops_lost_hosts="cgpu2")
        found = Counter(name for name, _replica in placed())
        assert found == {"iris": 1, "chat": 2, "handbook": 1}
        assert {row["host"] for row in placed().values()} <= {"cgpu1", SCHEDULER}
        told = " ".join(said.split())
        for waits in ("iris", "train", "desk-ben"):
            sentence = f"cgpu2: 1 replica of {waits} cannot move and waits until it is back"
            assert sentence in told, said[-8000:]
        assert "desk-ben may run on cgpu2 only" in told
        assert completion("hello")
        assert ask("GET", "iris/v2/health/ready", "vision").status_code == 200
        assert queue("%j %T") == []
        assert on(SCHEDULER, "sinfo -h -N -o %N").split() == ["cgpu1"]
    apply()
    until(lambda: queue("%T", "--name=train") == ["RUNNING"], lambda: str(queue("%j %T %r")))
    # A session ended with its host, and is begun again by its people.
    on(SCHEDULER, "mlops-job submit desk-ben")
    assert number("desk-ben")
    assert Counter(name for name, _replica in placed())["iris"] == 2


def test_what_left_the_list_leaves_nothing() -> None:
    apply(mlops_workloads=[row for row in workloads() if row["name"] not in LEFT])
    assert {name for name, _replica in placed()} == {"iris"}
    for host in GPU_HOSTS:
        kept = on(host, "ls /opt/mlops /var/lib/mlops/workloads/releases")
        assert "llama" not in kept
        assert "tiny" not in kept
        units = on(host, "systemctl list-unit-files --no-legend 'mlops-workload-*'")
        assert "iris" in units
        assert "chat" not in units
        assert "chat" not in on(host, "cat /etc/mlops/nginx/sites.d/* /etc/mlops/workloads/*")
    assert queue("%j") == []
    assert "no such command" in on(SCHEDULER, "mlops-job list || echo no such command", check=False)
    at_the_gateway = on(SCHEDULER, "cat /etc/mlops/nginx/sites.d/* /etc/mlops/nginx/gateway.d/*")
    for name in LEFT:
        assert name not in at_the_gateway
        assert ask("GET", f"{name}/health", "language").status_code == 404
    assert ask("GET", "iris/v2/health/ready", "vision").status_code == 200
