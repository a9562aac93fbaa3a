# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sums of a plan, its refusals, and the promises that hold for any numbers."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.margins import Margins
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.mounts import holding
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.ports import clashes
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.site_sums import (
    FEASIBLE,
    INFEASIBLE,
    UNDECIDED,
    Plan,
    plan,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import (
    Demand,
    DiskNeed,
    PortNeed,
)
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_800_000_000.0
NONE = Margins(0, 0, 1, 0, 0, 0, 3600)


def facts(**changes: Any) -> dict[str, Any]:
    """A host with 4 cores, 8 GiB of which half is in use, and two disks."""
    return {
        "host": "ctl1",
        "clock": {"epoch": NOW - 5, "controller_epoch": NOW - 5},
        "cpu": {"usable_cores": 4},
        "memory": {"total_mib": 8192.0, "available_mib": 4096.0},
        "filesystems": [
            disk("/", "8:1", 20000, 10000),
            disk("/var/lib", "8:2", 50000, 40000),
        ],
        "listeners": [],
        "services": {"foreign": [], "ours": []},
        "ours": {"directories": [], "packages_mib": 0},
        "gpus": {"source": "none", "gpus": [], "problem": None},
        "unknown": [],
        **changes,
    }


def disk(mount: str, device: str, size: float, left: float, **more: Any) -> dict[str, Any]:
    return {
        "mount": mount,
        "device": device,
        "size_mib": size,
        "available_mib": left,
        "inodes": 1000,
        "inodes_available": 900,
        "read_only": False,
        **more,
    }


def listener(port: int, address: str = "0.0.0.0", **more: Any) -> dict[str, Any]:
    return {
        "protocol": "tcp",
        "port": port,
        "address": address,
        "pid": 12,
        "process": "apache2",
        "unit": "apache2.service",
        "ours": False,
        "main": True,
        "command": "/usr/sbin/apache2 -k start",
        **more,
    }


def one(*demand: Demand, margins: Margins = NONE, hints: Any = None, **changes: Any) -> Plan:
    return plan({"ctl1": facts(**changes)}, {"ctl1": demand}, margins, NOW, hints)


def sentences(found: Plan) -> list[str]:
    return [row.sentence for row in found.findings if row.severity != "pass"]


def test_needs_of_services_add_up() -> None:
    found = one(Demand("A", memory_mib=1000), Demand("B", memory_mib=2000))
    row = next(row for row in found.rows if row.resource == "memory")
    assert (row.total, row.foreign, row.demanded, row.free, row.short) == (
        8192,
        4096,
        3000,
        1096,
        0,
    )
    assert found.verdict == FEASIBLE


def test_services_that_fit_one_by_one_but_not_together_are_refused() -> None:
    hints = {"model_registry": {"memory": ["model_registry_workers"]}}
    found = one(
        Demand("MLflow", role="model_registry", memory_mib=2500),
        Demand("Prometheus", role="monitoring", memory_mib=2000),
        margins=Margins(512, 0, 1, 0, 0, 0, 3600),
        hints=hints,
    )
    assert found.verdict == INFEASIBLE
    assert sentences(found) == [
        "ctl1: memory has room for 3,584 MiB (8,192 in total, 4,096 used by others, "
        "512 kept for the system), wanted 4,500 MiB (MLflow 2,500, Prometheus 2,000); "
        "add 916 MiB or place fewer services on ctl1, or lower the need by model_registry_workers"
    ]


def test_our_running_services_are_not_counted_twice() -> None:
    demand = Demand("MLflow", memory_mib=4500)
    ours = {"foreign": [], "ours": [{"unit": "mlops-mlflow.service", "memory_mib": 700.0}]}
    assert one(demand).verdict == INFEASIBLE
    found = one(demand, services=ours)
    assert found.verdict == FEASIBLE
    assert found.rows[1].foreign == 3396


def test_what_we_use_beyond_our_declared_need_counts_as_used() -> None:
    ours = {"foreign": [], "ours": [{"unit": "mlops-mlflow.service", "memory_mib": 3000.0}]}
    found = one(Demand("MLflow", memory_mib=1000), services=ours)
    row = next(row for row in found.rows if row.resource == "memory")
    assert (row.foreign, row.ours_now) == (3096, 1000)


def test_paths_on_one_file_system_add_up_and_others_do_not() -> None:
    found = one(
        Demand("A", disks=(DiskNeed("/var/lib/a", 30000, "retention"), DiskNeed("/usr", 500))),
        Demand("B", disks=(DiskNeed("/var/lib/b/c", 15000),)),
    )
    rows = {row.resource: row for row in found.rows if row.resource.startswith("disk")}
    assert rows["disk /"].demanded == 500
    assert rows["disk /var/lib"].demanded == 45000
    assert sentences(found) == [
        "ctl1: disk /var/lib has room for 40,000 MiB (50,000 in total, 10,000 used by others, "
        "0 kept "
        "for the system), wanted 45,000 MiB (A 30,000 (retention), B 15,000 (/var/lib/b/c)); "
        "free or add 5,000 MiB or place fewer services on ctl1"
    ]


def test_a_file_system_that_is_mounted_twice_has_its_room_once() -> None:
    twice = [disk("/", "8:1", 20000, 10000), disk("/srv", "8:1", 20000, 10000)]
    demand = Demand("A", disks=(DiskNeed("/var", 6000), DiskNeed("/srv/x", 6000)))
    assert one(demand, filesystems=twice).verdict == INFEASIBLE
    apart = [disk("/", "8:1", 20000, 10000), disk("/srv", "8:2", 20000, 10000)]
    assert one(demand, filesystems=apart).verdict == FEASIBLE


def test_what_we_keep_on_a_disk_already_is_not_needed_again() -> None:
    demand = Demand("A", disks=(DiskNeed("/var/lib/mlops/a", 45000),))
    kept = {
        "directories": [
            {"path": "/var/lib/mlops/a", "mib": 8000.0, "entries": 3, "complete": True}
        ],
        "packages_mib": 0,
    }
    assert one(demand).verdict == INFEASIBLE
    assert one(demand, ours=kept).verdict == FEASIBLE


def test_a_read_only_file_system_is_refused() -> None:
    only = [disk("/", "8:1", 20000, 10000, read_only=True)]
    found = one(Demand("A", disks=(DiskNeed("/opt", 1),)), filesystems=only)
    assert sentences(found) == [
        "ctl1: /opt lies on /, which is mounted read-only, wanted a writable file system for A; "
        "remount it with: mount -o remount,rw /"
    ]


def test_inodes_are_counted_like_space() -> None:
    found = one(Demand("A", disks=(DiskNeed("/opt", 1, inodes=950),)))
    assert [row.id for row in found.findings] == ["capacity.inodes"]


@pytest.mark.parametrize(
    ("address", "listening", "clash"),
    [
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "::", True),
        ("localhost", "127.0.0.1", True),
        ("127.0.0.1", "10.0.0.5", False),
        ("127.0.0.1", "127.0.0.2", False),
    ],
)
def test_ports_clash_only_where_addresses_meet(address: str, listening: str, clash: bool) -> None:
    assert clashes(PortNeed(443, address), "tcp", 443, listening) is clash


def test_a_port_held_by_another_program_names_it_and_the_variable() -> None:
    found = one(
        Demand("Gateway", role="gateway", ports=(PortNeed(443),)),
        listeners=[listener(443)],
        hints={"gateway": {"port": ["gateway_port"]}},
    )
    assert sentences(found) == [
        "ctl1: port 443/tcp on 0.0.0.0 is held by apache2 (process 12, apache2.service), "
        "wanted port "
        "443 free for Gateway; stop it with: systemctl disable --now apache2.service, or choose "
        "another port by gateway_port"
    ]


@pytest.mark.parametrize(
    ("holder", "advice"),
    [
        # a program that somebody started in a session, or a job, lies in that unit
        (
            {"process": "python3", "unit": "ssh.service", "main": False, "command": "python3 x.py"},
            "end it where it was started (see it with: ps -o pid,ppid,user,args -p 12)",
        ),
        ({"process": "web", "unit": "cron.service", "main": False}, "end it where it was started"),
        ({"process": "web", "unit": "session-3.scope", "main": False}, "end it where it was"),
        ({"process": "web", "unit": "user@1000.service", "main": True}, "end it where it was"),
        ({"process": "web", "unit": "apache2.service", "main": False}, "end it where it was"),
        ({"process": "web", "unit": "init.scope", "main": False}, "end it where it was started"),
        # facts of an earlier release do not say
        ({"process": "web", "unit": "web.service", "main": None}, "end it where it was started"),
        # the service itself, without which the host or all containers are lost
        ({"process": "sshd", "unit": "ssh.service"}, "end it where it was started"),
        ({"process": "sshd", "unit": "sshd.service"}, "end it where it was started"),
        ({"process": "dockerd", "unit": "docker.service"}, "end it where it was started"),
        ({"process": "containerd", "unit": "containerd.service"}, "end it where it was started"),
        ({"process": "systemd-resolve", "unit": "systemd-resolved.service"}, "end it where"),
        (
            {"process": "docker-proxy", "unit": "docker.service", "main": False},
            "find its container with: docker ps --filter publish=443",
        ),
        (
            {"process": "systemd", "pid": 1, "unit": "init.scope", "main": False},
            "find the socket that systemd holds with: systemctl list-sockets '*:443'",
        ),
        ({"process": None, "pid": None, "unit": None}, "find it with: ss -lntup 'sport = :443'"),
    ],
)
def test_the_way_to_free_a_port_is_never_destructive(holder: dict[str, Any], advice: str) -> None:
    [line] = sentences(
        one(Demand("Gateway", ports=(PortNeed(443),)), listeners=[listener(443, **holder)])
    )
    assert f"wanted port 443 free for Gateway; {advice}" in line
    assert "systemctl disable" not in line
    assert "kill" not in line


def test_the_command_of_a_program_in_another_unit_is_shown() -> None:
    more: dict[str, Any] = {"process": "python3", "unit": "ssh.service", "main": False}
    [line] = sentences(
        one(
            Demand("Gateway", ports=(PortNeed(443),)),
            listeners=[listener(443, command="python3 -m http.server 443", **more)],
        )
    )
    assert "held by python3 (process 12, ssh.service): python3 -m http.server 443, wanted" in line


def test_a_port_says_itself_which_variable_moves_it() -> None:
    ours = PortNeed(9100, "127.0.0.1", remedy="set monitoring_node_exporter_port to a free one")
    rival = Demand("Other", role="other", unit="b", ports=(PortNeed(9100, "127.0.0.1"),))
    found = one(
        rival,
        Demand("Node exporter", role="monitoring", unit="a", ports=(ours,)),
        listeners=[{**listener(9100), "process": "node_exporter", "unit": "node_exporter.service"}],
        hints={"monitoring": {"port": ["monitoring_a_port", "monitoring_b_port"]}},
    )
    held, asked_twice = (
        next(text for text in sentences(found) if words in text)
        for words in ("free for Node exporter", "is asked for by")
    )
    assert held.endswith(", or set monitoring_node_exporter_port to a free one")
    assert asked_twice.endswith(
        "; place them on different hosts, or set monitoring_node_exporter_port to a free one"
    )


def test_a_port_held_by_ourselves_is_no_clash() -> None:
    found = one(
        Demand("Gateway", ports=(PortNeed(443),)),
        listeners=[listener(443, ours=True, unit="mlops-nginx.service")],
    )
    assert found.verdict == FEASIBLE


def test_two_of_our_services_on_one_port_are_refused_unless_they_share_the_unit() -> None:
    first = Demand("Gateway", role="gateway", unit="mlops-nginx.service", ports=(PortNeed(443),))
    second = Demand("S3", role="object_store", unit="ceph-radosgw.service", ports=(PortNeed(443),))
    found = one(first, second)
    assert sentences(found) == [
        "ctl1: port 443/tcp is asked for by Gateway and by S3, wanted one service a port; "
        "place them "
        "on different hosts"
    ]
    shared = Demand("UI", role="monitoring", unit="mlops-nginx.service", ports=(PortNeed(443),))
    assert one(first, shared).verdict == FEASIBLE


def test_a_gpu_without_driver_is_refused_where_one_is_needed() -> None:
    gpus = {
        "source": "pci",
        "problem": "driver missing: NVIDIA 0x20b2 at 0000:01:00.0",
        "gpus": [{}],
    }
    found = one(Demand("Serving", gpus=1), gpus=gpus)
    assert sentences(found) == [
        "ctl1: driver missing: NVIDIA 0x20b2 at 0000:01:00.0, wanted a working driver for "
        "every card; "
        "install the driver of the card, then assess again",
        "ctl1: GPU has room for 0 GPUs (0 in total, 0 used by others, 0 kept for the "
        "system), wanted "
        "1 GPUs (Serving 1); add 1 GPUs or place fewer services on ctl1",
    ]
    assert one(Demand("Other", memory_mib=1), gpus=gpus).verdict == FEASIBLE


def test_the_unknown_is_neither_zero_nor_enough() -> None:
    found = one(
        Demand("A", memory_mib=1),
        memory={"total_mib": None, "available_mib": None},
        unknown=[{"what": "memory", "reason": "/proc/meminfo: Permission denied"}],
    )
    assert found.verdict == UNDECIDED
    assert sentences(found) == [
        "ctl1: memory could not be measured: /proc/meminfo: Permission denied, wanted a measured "
        "value; look with: ansible ctl1 -m mlops.onprem.capacity_facts"
    ]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"clock": {"epoch": NOW - 7200}},
            "ctl1: the facts are 7,200 seconds old, wanted at most 3,600 seconds "
            "(mlops_facts_max_age); measure again with: ansible-playbook playbooks/assess.yml",
        ),
        (
            {"clock": {"epoch": NOW + 9000}},
            "ctl1: the facts are from 9,000 seconds ahead, wanted at most 3,600 seconds "
            "(mlops_facts_max_age); measure again with: ansible-playbook playbooks/assess.yml",
        ),
        (
            {"host": "ctl2"},
            "ctl1: the facts under this name were measured on ctl2, wanted facts of ctl1; "
            "measure again with: ansible-playbook playbooks/assess.yml",
        ),
        (
            {"clock": {}},
            "ctl1: the facts do not say when they were measured, wanted facts with a time; "
            "measure again with: ansible-playbook playbooks/assess.yml",
        ),
    ],
)
def test_facts_that_cannot_be_trusted_are_refused(changes: Any, sentence: str) -> None:
    found = one(Demand("A"), **changes)
    assert found.verdict == UNDECIDED
    assert sentences(found) == [sentence]


def test_the_age_is_taken_from_the_controllers_clock() -> None:
    wrong = {"epoch": NOW - 90000, "controller_epoch": NOW - 5}
    assert one(Demand("A"), clock=wrong).verdict == FEASIBLE


def test_a_host_that_is_asked_for_something_must_have_facts() -> None:
    found = plan({}, {"edge1": [Demand("A")]}, NONE, NOW)
    assert found.hosts == {"edge1": UNDECIDED}


def test_a_path_belongs_to_the_longest_mount() -> None:
    mounts: dict[str, Any] = {"/": {}, "/var": {}, "/var/lib": {}}
    assert holding("/var/lib/mlops", mounts) == "/var/lib"
    assert holding("/var/library", mounts) == "/var"
    assert holding("/opt", mounts) == "/"


amounts = st.floats(0, 20000, allow_nan=False)


@given(st.lists(amounts, max_size=6), amounts, amounts)
def test_a_feasible_plan_never_exceeds_what_is_left(
    needs: list[float], available: float, reserve: float
) -> None:
    demand = [Demand(f"s{index}", memory_mib=need) for index, need in enumerate(needs)]
    memory = {"total_mib": 20000.0, "available_mib": available}
    found = one(*demand, margins=Margins(reserve, 0, 1, 0, 0, 0, 3600), memory=memory)
    fits = sum(needs) + reserve <= available + 0.01
    assert (found.verdict == FEASIBLE) is fits or abs(sum(needs) + reserve - available) < 0.02


@given(st.lists(amounts, min_size=1, max_size=6), amounts)
def test_more_memory_never_turns_a_yes_into_a_no(needs: list[float], more: float) -> None:
    demand = [Demand(f"s{index}", memory_mib=need) for index, need in enumerate(needs)]
    small = one(*demand, memory={"total_mib": 20000.0, "available_mib": 15000.0})
    large = one(*demand, memory={"total_mib": 20000.0 + more, "available_mib": 15000.0 + more})
    assert not (small.verdict == FEASIBLE and large.verdict == INFEASIBLE)


@given(st.permutations(range(5)))
def test_the_order_of_services_does_not_matter(order: list[int]) -> None:
    demand = [Demand(f"s{index}", memory_mib=index * 700.0) for index in range(5)]
    shuffled = [demand[index] for index in order]
    assert one(*demand).rows == one(*shuffled).rows
