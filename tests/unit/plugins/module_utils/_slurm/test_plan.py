# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From measured hosts to the files of Slurm, and every refusal with its sentence."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._slurm.asked import answer
from ansible_collections.mlops.onprem.plugins.module_utils._slurm.nodes import (
    bus_of,
    memory,
    topology,
    type_of,
)

CGROUP_2 = {"version": "v2", "controllers": ["cpu", "cpuset", "memory", "pids"]}


def card(index: int, **more: Any) -> dict[str, Any]:
    return {
        "index": index,
        "vendor": "NVIDIA",
        "uuid": f"GPU-{index}",
        "model": "NVIDIA A100-SXM4-40GB",
        "pci_bus_id": f"00000000:0{index}:00.0",
        **more,
    }


def facts(name: str, cards: list[dict[str, Any]], **told: Any) -> dict[str, Any]:
    return {
        "mlops_supply": {
            "cpu": {"sockets": 2, "cores": 32, "threads": 64},
            "memory": {"total_mib": 515_000.0},
            "gpus": {"gpus": cards},
        },
        "mlops_slurm": {
            "hostname": name,
            "cgroup": CGROUP_2,
            "devices": [f"/dev/nvidia{index}" for index in range(len(cards))],
            "minors": {},
            **told,
        },
    }


def asked(**more: Any) -> dict[str, Any]:
    # The driver counts the cards of gpu1 otherwise than their files are numbered.
    minors = {f"0000:0{index}:00.0": 3 - index for index in range(4)}
    return {
        "cluster": "plant",
        "controllers": ["ctl"],
        "nodes": ["gpu2", "gpu1"],
        "facts": {
            "ctl": {"mlops_slurm": {"hostname": "ctl"}},
            "gpu1": facts("gpu1", [card(index) for index in range(4)], minors=minors),
            "gpu2": facts("gpu2", []),
        },
        "addresses": {"ctl": "10.0.0.1", "gpu1": "10.0.0.11", "gpu2": "10.0.0.12"},
        "groups": {"gpu": ["gpu1", "gpu2"], "big": ["gpu1"]},
        "teams": [{"name": "vision", "members": ["anna"], "gpus": 3}],
        "partitions": [{"name": "main", "default": True}],
        "database": {"host": "db", "database": "acct", "user": "slurm", "password": "x1"},
        "reserved_memory_mib": 2048,
        "cgroup": "auto",
        "node_timeout": 300,
        **more,
    }


def workload(name: str, kind: str, memory: str = "1GiB", **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, "requests": {"cpu_cores": 2, "memory": memory}, **more}


def line(text: str, start: str) -> str:
    found = [row for row in text.splitlines() if row.startswith(start)]
    assert len(found) == 1, found
    return found[0]


def test_nodes_are_written_as_they_were_measured() -> None:
    plan = answer(asked())
    assert plan["findings"] == []
    assert line(plan["slurm_conf"], "NodeName=gpu1") == (
        "NodeName=gpu1 NodeAddr=10.0.0.11 CPUs=64 Sockets=2 CoresPerSocket=16 ThreadsPerCore=2"
        " RealMemory=509696 MemSpecLimit=2048 Gres=gpu:nvidia_a100_sxm4_40gb:4 State=UNKNOWN"
    )
    assert "Gres" not in line(plan["slurm_conf"], "NodeName=gpu2")
    assert "SlurmctldHost=ctl(10.0.0.1)" in plan["slurm_conf"]
    assert "AccountingStorageEnforce=associations,limits,qos" in plan["slurm_conf"]
    assert "Nodes=gpu1,gpu2 Default=YES" in line(plan["slurm_conf"], "PartitionName=main")


def test_the_order_of_the_inventory_changes_nothing() -> None:
    assert answer(asked(nodes=["gpu1", "gpu2"])) == answer(asked())


def test_gpus_have_the_file_that_the_driver_names_and_not_their_place_in_the_count() -> None:
    plan = answer(asked(owners={"gpu1": {"GPU-0": "serving", "GPU-2": "scheduler"}}))
    assert line(plan["gres_conf"], "NodeName=gpu1 Name=gpu") == (
        "NodeName=gpu1 Name=gpu Type=nvidia_a100_sxm4_40gb"
        " File=/dev/nvidia0,/dev/nvidia1,/dev/nvidia2"
    )
    assert [gpu["uuid"] for gpu in plan["nodes"]["gpu1"]["gpus"]] == ["GPU-3", "GPU-2", "GPU-1"]


def test_a_gpu_has_the_file_that_the_library_tells_where_proc_tells_none() -> None:
    cards = [card(index, minor=3 - index) for index in range(4)]
    rows = asked()
    rows["facts"]["gpu1"] = facts("gpu1", cards)
    owners = {"gpu1": {"GPU-0": "serving", "GPU-2": "serving"}}
    plan = answer({**rows, "owners": owners})
    assert plan["findings"] == []
    assert line(plan["gres_conf"], "NodeName=gpu1 Name=gpu").endswith("/dev/nvidia0,/dev/nvidia2")
    denied = line(plan["gres_conf"], "NodeName=gpu1 Name=served")
    assert denied.endswith(" File=/dev/nvidia1,/dev/nvidia3")


def test_a_gpu_whose_file_nobody_tells_is_denied_to_jobs_and_not_guessed() -> None:
    rows = asked()
    rows["facts"]["gpu1"] = facts("gpu1", [card(0, minor=1), card(1)])
    plan = answer(rows)
    assert line(plan["gres_conf"], "NodeName=gpu1 Name=gpu").endswith(" File=/dev/nvidia1")
    assert line(plan["gres_conf"], "NodeName=gpu1 Name=served").endswith(" File=/dev/nvidia0")


def test_a_gpu_that_serves_is_known_as_what_no_job_may_have() -> None:
    plan = answer(asked(owners={"gpu1": {f"GPU-{index}": "serving" for index in range(4)}}))
    assert "Name=gpu " not in plan["gres_conf"]
    assert "nvidia" not in plan["slurm_conf"]
    assert plan["nodes"]["gpu1"]["gpus"] == []
    assert line(plan["gres_conf"], "NodeName=gpu1") == (
        "NodeName=gpu1 Name=served File=/dev/nvidia0,/dev/nvidia1,/dev/nvidia2,/dev/nvidia3"
    )
    assert " Gres=served:4 " in line(plan["slurm_conf"], "NodeName=gpu1")
    assert "GresTypes=gpu,served" in plan["slurm_conf"]
    assert "AccountingStorageTRES=gres/gpu,gres/served" in plan["slurm_conf"]


def test_every_device_file_is_a_gpu_of_jobs_or_denied_to_them() -> None:
    rows = asked(owners={"gpu1": {"GPU-2": "serving"}})
    told = rows["facts"]["gpu1"]["mlops_slurm"]
    told["devices"] = [f"/dev/nvidia{index}" for index in range(12)]
    rows["facts"]["gpu1"]["mlops_supply"]["gpus"]["gpus"][1]["lost"] = True
    plan = answer(rows)
    assert line(plan["gres_conf"], "NodeName=gpu1 Name=gpu").endswith("/dev/nvidia0,/dev/nvidia3")
    denied = ",".join(f"/dev/nvidia{index}" for index in (1, 2, *range(4, 12)))
    assert line(plan["gres_conf"], "NodeName=gpu1 Name=served").endswith(f" File={denied}")
    assert plan["nodes"]["gpu1"]["gres"] == "gpu:nvidia_a100_sxm4_40gb:2,served:10"


def test_a_host_whose_driver_tells_nothing_gives_no_job_its_devices() -> None:
    rows = asked()
    rows["facts"]["gpu1"]["mlops_supply"]["gpus"] = {"gpus": []}
    assert answer(rows)["nodes"]["gpu1"]["gres"] == "served:4"


def test_the_placement_of_the_plan_says_which_gpus_serve() -> None:
    workloads = [workload("chat", "serving"), workload("fit", "training")]
    row = {"workload": "chat", "replica": 0, "host": "gpu1", "gpu_ids": ["GPU-3"]}
    gone = {"workload": "left", "replica": 0, "host": "gpu1", "gpu_ids": ["GPU-1"]}
    plan = answer(asked(workloads=workloads, placement=[row, gone]))
    assert [gpu["uuid"] for gpu in plan["nodes"]["gpu1"]["gpus"]] == ["GPU-2", "GPU-1", "GPU-0"]
    # As the assessment of the same run has it: by host, and without its name in the rows.
    by_host = {"gpu1": [{key: row[key] for key in row if key != "host"}]}
    assert answer(asked(workloads=workloads, placement=by_host)) == plan
    both = [row, {**row, "workload": "fit"}]
    found = answer(asked(workloads=workloads, placement=both))["findings"]
    assert [(one["id"], one["severity"]) for one in found] == [
        ("job_scheduler.owned_twice", "fail")
    ]
    assert "GPU GPU-3 is planned for chat and for the jobs of fit" in found[0]["found"]


def test_mig_instances_are_given_one_by_one_with_every_file() -> None:
    rows = asked()
    files = ["/dev/nvidia-caps/nvidia-cap30", "/dev/nvidia-caps/nvidia-cap31"]
    one = {
        "gpu_instance_id": 3,
        "compute_instance_id": 0,
        "memory_mib": 9856.0,
        "files": files,
    }
    other = {"gpu_instance_id": 4, "compute_instance_id": 0, "memory_mib": 9856.0}
    rows["facts"]["gpu1"]["mlops_supply"]["gpus"]["gpus"] = [
        card(2, mig_mode="Enabled", mig_instances=[one, other])
    ]
    plan = answer(rows)
    assert line(plan["gres_conf"], "NodeName=gpu1 Name=gpu") == (
        "NodeName=gpu1 Name=gpu Type=nvidia_a100_sxm4_40gb.mig_10gb MultipleFiles=/dev/nvidia1,"
        "/dev/nvidia-caps/nvidia-cap30,/dev/nvidia-caps/nvidia-cap31"
    )
    # The other instance lacks a file: it is said, and not given away.
    assert [found["id"] for found in plan["findings"]] == ["job_scheduler.gpu_device"]
    assert "MIG instance 4/0 of GPU-2" in plan["findings"][0]["found"]


@pytest.mark.parametrize(
    ("change", "check", "severity", "words"),
    [
        ({"minors": {}}, "gpu_minor", "warn", "file GPU GPU-0 has; jobs do not get it"),
        ({"devices": []}, "gpu_device", "warn", "has no device file (/dev/nvidia3)"),
        ({"hostname": "gpu2"}, "hostname", "fail", "gpu1 and gpu2 have the same host name, gpu2"),
        ({"cgroup": {"version": "v1"}}, "cgroup", "fail", "has no cgroups that Slurm can use"),
    ],
)
def test_what_a_host_lacks_is_said_on_it(
    change: dict[str, Any], check: str, severity: str, words: str
) -> None:
    rows = asked()
    rows["facts"]["gpu1"]["mlops_slurm"].update(change)
    found = [one for one in answer(rows)["findings"] if one["host"] == "gpu1"]
    assert {(one["id"], one["severity"]) for one in found} == {(f"job_scheduler.{check}", severity)}
    assert words in found[0]["found"]
    assert found[0]["remedy"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"partitions": []}, "job_scheduler_partitions: must have at least one partition"),
        (
            {"partitions": [{"name": "a", "groups": ["edge"]}]},
            "job_scheduler_partitions[0].groups: 'edge' is no group with nodes; there is big, gpu",
        ),
        (
            {"partitions": [{"name": "a", "teams": ["txt"]}]},
            "job_scheduler_partitions[0].teams: 'txt' is no team in mlops_teams; there is vision",
        ),
        (
            {"partitions": [{"name": "a", "max_time": "2 days"}]},
            "job_scheduler_partitions[0].max_time: must be minutes, HH:MM:SS",
        ),
        (
            {"partitions": [{"name": "a"}, {"name": "a"}]},
            "job_scheduler_partitions[1].name: 'a' is there twice",
        ),
        (
            {"partitions": [{"name": "a", "default": True}, {"name": "b", "default": True}]},
            "job_scheduler_partitions: has more than one default",
        ),
        ({"extra": {"SlurmUser": "x"}}, "job_scheduler_extra_settings.SlurmUser: is written by"),
        ({"extra": {"MaxJobCount": "1\n2"}}, "job_scheduler_extra_settings.MaxJobCount: must be"),
        ({"database": {}}, "there is no database for the accounting"),
        (
            {"database": {"host": "db", "database": "a", "user": "u", "password": "a#b"}},
            "job_scheduler_accounting_db.password: has a space, a quote or one of",
        ),
        ({"teams": [{"name": "a"}]}, "mlops_teams[0].members: is missing"),
        ({"reserved_memory_mib": 600_000}, "600,000 MiB are not for jobs"),
        ({"node_timeout": "soon"}, "job_scheduler_node_timeout: must be a number"),
    ],
)
def test_every_refusal_is_a_finding_that_stops(change: dict[str, Any], words: str) -> None:
    stops = [row for row in answer(asked(**change))["findings"] if row["severity"] == "fail"]
    assert stops
    assert words in stops[0]["found"]
    assert stops[0]["remedy"]


def test_a_host_that_was_not_measured_stops_the_run() -> None:
    rows = asked()
    del rows["facts"]["gpu2"]
    found = answer(rows)["findings"]
    assert [(one["id"], one["host"]) for one in found] == [("job_scheduler.unmeasured", "gpu2")]


def test_without_cgroups_everywhere_nothing_is_enforced_and_that_is_said_on_every_host() -> None:
    rows = asked()
    for name in ("gpu1", "gpu2"):
        rows["facts"][name]["mlops_slurm"]["cgroup"] = {"version": "v1"}
    plan = answer(rows)
    assert plan["cgroup"] == "disabled"
    assert "CgroupPlugin=disabled" in plan["cgroup_conf"]
    assert "TaskPlugin=task/affinity\n" in plan["slurm_conf"]
    assert "JobAcctGatherParams=OverMemoryKill" in plan["slurm_conf"]
    assert [(one["host"], one["severity"]) for one in plan["findings"]] == [
        ("gpu1", "warn"),
        ("gpu2", "warn"),
    ]


def test_cgroups_of_version_1_are_taken_where_they_are_mounted() -> None:
    rows = asked(cgroup_mountpoint="/run/cgv1/")
    for name in ("gpu1", "gpu2"):
        rows["facts"][name]["mlops_slurm"]["cgroup"] = {
            "version": "v1",
            "v1_mountpoints": ["/run/cgv1"],
        }
    plan = answer(rows)
    assert plan["findings"] == []
    for row in ("CgroupPlugin=cgroup/v1", "CgroupMountpoint=/run/cgv1", "ConstrainDevices=yes"):
        assert row in plan["cgroup_conf"].splitlines()
    assert "ProctrackType=proctrack/cgroup" in plan["slurm_conf"]


def test_version_2_needs_its_controllers() -> None:
    rows = asked()
    for name in ("gpu1", "gpu2"):
        rows["facts"][name]["mlops_slurm"]["cgroup"] = {"version": "v2", "controllers": ["hugetlb"]}
    assert answer(rows)["cgroup"] == "disabled"
    assert answer(asked())["cgroup"] == "v2"


def test_what_serves_beside_slurm_is_not_given_to_jobs() -> None:
    plan = answer(asked(reserved={"gpu1": {"memory_mib": 32_000, "cpu_cores": 7.5}}))
    row = line(plan["slurm_conf"], "NodeName=gpu1")
    assert " MemSpecLimit=34048 " in row
    assert " CoreSpecCount=4 " in row


def test_what_the_plan_gives_to_services_and_models_is_not_given_to_jobs() -> None:
    rows = asked(
        workloads=[
            workload("chat", "serving", "8GiB", limits={"memory": "12GiB", "cpu_cores": 6}),
            workload("rank", "service", "1000MiB"),
            workload("fit", "training", "64GiB"),
        ],
        placement=[
            {"workload": name, "replica": 0, "host": host}
            for name, host in (
                ("chat", "gpu1"),
                ("rank", "gpu1"),
                ("fit", "gpu1"),
                ("chat", "gpu2"),
            )
        ],
        limit_margin_percent=25,
    )
    rows["facts"]["gpu1"]["mlops_demand"] = [
        {"service": "nginx", "cpu_cores": 0.1, "memory_mib": 60},
        {"service": "node exporter", "cpu_cores": 0.05, "memory_mib": 40},
    ]
    plan = answer(rows)
    assert plan["findings"] == []
    row = line(plan["slurm_conf"], "NodeName=gpu1")
    # 2048 of the system, 100 of services, 12288 and 1250 that the units let models have.
    assert " MemSpecLimit=15744 " in row
    # 0.15 + 6 + 2.5 of 64 threads, in whole cores of two.
    assert " CoreSpecCount=5 " in row
    assert " MemSpecLimit=14336 CoreSpecCount=3 " in line(plan["slurm_conf"], "NodeName=gpu2")
    rows["reserved"] = {"gpu1": {"memory_mib": 1000, "cpu_cores": 2}}
    row = line(answer(rows)["slurm_conf"], "NodeName=gpu1")
    assert " MemSpecLimit=16704 CoreSpecCount=6 " in row


def test_a_workload_that_cannot_be_read_stops_the_run() -> None:
    found = answer(asked(workloads=[{"name": "chat", "kind": "serving"}]))["findings"]
    assert [(one["id"], one["severity"]) for one in found] == [("job_scheduler.variables", "fail")]
    assert found[0]["found"].startswith("mlops_workloads: ")


def test_the_way_to_the_database_is_verified_where_an_authority_is_known() -> None:
    plain = answer(asked())["slurmdbd_conf"]
    assert "StorageParameters" not in plain
    database = {**asked()["database"], "ca_file": "/etc/mlops/tls/ca.crt", "port": 3307}
    tls = answer(asked(database=database))["slurmdbd_conf"].splitlines()
    assert {"StorageParameters=SSL_CA=/etc/mlops/tls/ca.crt", "StoragePort=3307"} <= set(tls)


def test_partitions_have_the_nodes_of_their_groups_and_the_teams_they_take() -> None:
    rows = [{"name": "big", "groups": ["big"], "teams": ["vision"], "max_time": "1-00:00:00"}]
    assert line(answer(asked(partitions=rows))["slurm_conf"], "PartitionName=big") == (
        "PartitionName=big Nodes=gpu1 Default=NO MaxTime=1-00:00:00 AllowAccounts=vision"
        " PriorityTier=1 State=UP"
    )


def test_nothing_that_was_asked_is_changed() -> None:
    rows = asked()
    before = deepcopy(rows)
    answer(rows)
    assert rows == before


def test_figures_of_hosts() -> None:
    assert topology({"sockets": 2, "cores": 32, "threads": 64}) == (2, 16, 2)
    assert topology({"threads": 6, "cores": 4, "sockets": 1}) == (1, 6, 1)  # big and little cores
    assert topology({}) == (1, 1, 1)
    assert memory(24_105) == 23_808
    assert bus_of("00000000:65:00.0") == bus_of("0000:65:00.0") == "0000:65:00.0"
    assert type_of("NVIDIA H100 80GB HBM3") == "nvidia_h100_80gb_hbm3"


def test_jobs_that_are_planned_on_a_small_host_all_start() -> None:
    """As a lab with overcommitted processors plans them: two jobs and services on two cores."""
    rows = asked(
        nodes=["gpu2"],
        workloads=[
            workload("train", "training", "20GiB")
            | {"requests": {"cpu_cores": 1, "memory": "20GiB"}},
            workload("desk", "user", "1GiB") | {"requests": {"cpu_cores": 1, "memory": "1GiB"}},
        ],
        placement={"gpu2": [{"workload": name, "replica": 0} for name in ("train", "desk")]},
    )
    supply = rows["facts"]["gpu2"]["mlops_supply"]
    supply["cpu"] = {"sockets": 1, "cores": 2, "threads": 2}
    supply["memory"] = {"total_mib": 23_900}
    rows["facts"]["gpu2"]["mlops_demand"] = [{"cpu_cores": 0.2, "memory_mib": 900}]
    plan = answer(rows)
    assert plan["findings"] == []
    node = plan["nodes"]["gpu2"]
    assert node["job_cpus"] == 2
    assert node["job_memory_mib"] >= 21 * 1024
    # One more finds no room at the same time, and that is said.
    rows["placement"]["gpu2"].append({"workload": "more", "replica": 0})
    rows["workloads"].append(
        workload("more", "batch", "1GiB") | {"requests": {"cpu_cores": 1, "memory": "1GiB"}}
    )
    (found,) = answer(rows)["findings"]
    assert (found["id"], found["severity"]) == ("job_scheduler.crowded", "warn")
    assert "hold 3 processors and 22,528 MiB" in found["found"]
