# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of others as quadlets with the planned limits, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._demand.running import ContainerRun
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.containers import (
    FIRST_UID,
    RANGE,
    RANGES,
    ContainerRefused,
    base_uid,
    quadlet,
    quadlets,
)
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.mig import Divided, Instance
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.placed import Placed

IMAGE = f"registry.example.com/web@sha256:{'a' * 64}"
RUN = ContainerRun(
    IMAGE,
    port=8080,
    health="/healthz",
    environment=(("GREETING", 'say "50 %" $HOME'), ("PLAIN", "x")),
    volumes=(("/data/web", "/srv"),),
    command=("serve", "--name", "a b"),
)
WEB = Placed(
    "web", "service", 1, "gpu1", cpu_cores=2.0, memory_mib=1000.0, gpu_ids=("GPU-a",), run=RUN
)


def lines(one: Placed = WEB) -> list[str]:
    return quadlet(one, Divided(), 25).text.splitlines()


def test_a_replica_becomes_a_quadlet_with_the_planned_limits() -> None:
    found = quadlet(WEB, Divided(), 25)
    assert (found.name, found.owner) == ("mlops-workload-web-1", "workload_container_web_1")
    assert found.port == 8081
    for line in (
        f"Image={IMAGE}",
        "PublishPort=127.0.0.1:8081:8080",
        "AddDevice=nvidia.com/gpu=GPU-a",
        "Volume=/data/web:/srv",
        'Environment="GREETING=say \\"50 %%\\" $$HOME"',
        "Environment=PLAIN=x",
        'Exec=serve --name "a b"',
        "MemoryMax=1250M",
        "CPUQuota=250%",
        "NoNewPrivileges=true",
        "Slice=mlops.slice",
        "WantedBy=multi-user.target",
    ):
        assert line in found.text.splitlines()
    limited = replace(WEB, memory_limit_mib=1024.0, cpu_limit=1.5)
    assert {"MemoryMax=1024M", "CPUQuota=150%"} <= set(lines(limited))


def test_its_root_is_nobody_on_the_host() -> None:
    base = base_uid("mlops-workload-web-1")
    assert f"PodmanArgs=--uidmap=0:{base}:65536 --gidmap=0:{base}:65536" in lines()
    assert base != base_uid("mlops-workload-web-2")
    assert FIRST_UID <= base <= FIRST_UID + RANGE * (RANGES - 1) < 2**31


def test_our_own_registry_is_asked_with_our_account() -> None:
    file = "/etc/mlops/workloads/images.json"
    own = quadlet(WEB, Divided(), 25, ("registry.example.com", file)).text
    assert f"PodmanArgs=--authfile={file}\n" in own
    assert "--authfile" not in quadlet(WEB, Divided(), 25, ("ctl1:443", file)).text
    assert "--authfile" not in quadlet(WEB, Divided(), 25).text


def test_what_is_not_asked_for_is_not_there() -> None:
    bare = Placed("web", "service", 0, "gpu1", run=ContainerRun(IMAGE))
    text = quadlet(bare, Divided(), 25).text
    for word in ("PublishPort", "Volume", "AddDevice", "Exec=", "MemoryMax", "CPUQuota", "Environ"):
        assert word not in text


def test_a_mig_instance_is_named_by_the_host() -> None:
    one = replace(WEB, profile="1g.10gb", slice=2)
    found = quadlet(one, Divided(named={("GPU-a", 2): "MIG-b"}), 25).text
    assert "AddDevice=nvidia.com/gpu=MIG-b\n" in found
    measured = Divided({"GPU-a": (Instance("MIG-c", "1g.10gb", 2),)})
    assert "AddDevice=nvidia.com/gpu=MIG-c\n" in quadlet(one, measured, 25).text
    with pytest.raises(ContainerRefused, match="GPU-a, which has no instances; lay"):
        quadlets([one], "gpu1", Divided(), 25)
    assert quadlets([one], "gpu1", Divided(), 25, check=True) == ()


def test_two_replicas_do_not_share_a_port() -> None:
    other = replace(WEB, workload="other", replica=0, run=replace(RUN, port=8081))
    with pytest.raises(ContainerRefused, match="other 0 and web 1 both answer on port 8081"):
        quadlets([WEB, other], "gpu1", Divided(), 25)
    assert [one.name for one in quadlets([WEB, other], "gpu2", Divided(), 25)] == []
    assert len(quadlets([WEB, replace(other, host="gpu2")], "gpu1", Divided(), 25)) == 1


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (replace(RUN, volumes=(("/a b", "/x"),)), "has signs that a quadlet takes for others"),
        (replace(RUN, environment=(("A", "x\ny"),)), "line break"),
    ],
)
def test_what_a_quadlet_cannot_hold_is_refused(run: ContainerRun, why: str) -> None:
    with pytest.raises(ContainerRefused, match=why):
        quadlet(replace(WEB, run=run), Divided(), 25)
