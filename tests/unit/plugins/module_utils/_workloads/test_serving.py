# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a placed replica to its unit, and every sentence that refuses one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._demand.running import ServingRun
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.entrance import (
    entrances,
    locals_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.mig import Divided, Instance
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.placed import Placed
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.questions import answer
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.serving import (
    Host,
    Loaded,
    Refused,
    cpu_quota,
    foreseen,
    memory_max,
    unit,
)

RUN = ServingRun("llama_cpp", "assistant", version=3, context_tokens=1024, parallel=2)
ONE = Placed("chat", "serving", 1, "gpu1", cpu_cores=1.0, cpu_limit=2.5, memory_mib=500.0, run=RUN)
WEIGHTS = Loaded("/releases/ab", "gguf", size_mib=100.0, token_bytes=1024, context_tokens=4096)
HOST = Host("gpu1", gpus={"GPU-a": 0, "GPU-b": 3}, gpu_mib={"GPU-a": 16384.0, "GPU-b": 16384.0})


def settings(one: Placed, host: Host = HOST, loaded: Loaded = WEIGHTS) -> dict[str, Any]:
    return dict(unit(one, loaded, host).settings["Service"])


def test_a_limit_is_the_limit_and_a_request_has_a_margin() -> None:
    assert (cpu_quota(ONE), memory_max(ONE)) == (250, 625)
    bare = replace(ONE, cpu_limit=None, memory_limit_mib=512.0)
    assert (cpu_quota(bare), memory_max(bare)) == (125, 512)
    assert cpu_quota(replace(ONE, cpu_limit=None, cpu_cores=0.0)) == 0


def test_the_unit_has_the_limits_of_the_plan_and_no_network() -> None:
    found = settings(ONE)
    assert found["MemoryMax"] == "625M"
    assert found["CPUQuota"] == "250%"
    assert found["RestrictAddressFamilies"] == "AF_UNIX"
    assert found["IPAddressDeny"] == "any"
    assert "DeviceAllow" not in found
    made = unit(ONE, WEIGHTS, HOST)
    assert made.name == "mlops-workload-chat-1"
    assert made.owner == "workload_unit_chat_1"
    assert "--context=1024" in made.command
    assert "--model=/releases/ab/model.gguf" in made.command
    assert made.environment["CUDA_VISIBLE_DEVICES"] == ""


def test_nobody_finds_a_replica_before_its_golden_answers() -> None:
    admit, chgrp = settings(ONE)["ExecStartPost"]
    assert " admit --engine=llama_cpp --directory=/run/mlops-workload-chat-1 " in admit
    assert chgrp == "+/usr/bin/chgrp mlops-nginx /run/mlops-workload-chat-1"


def test_a_replica_sees_its_planned_gpus_alone() -> None:
    one = replace(ONE, gpu_ids=("GPU-b",))
    made = unit(one, WEIGHTS, HOST)
    assert made.environment["CUDA_VISIBLE_DEVICES"] == "GPU-b"
    assert "--gpu" in made.command
    service = made.settings["Service"]
    assert "/dev/nvidia3 rw" in service["DeviceAllow"]
    assert "/dev/nvidia0 rw" not in service["DeviceAllow"]
    assert service["DevicePolicy"] == "closed"
    assert service["PrivateDevices"] is None


SPLIT = Divided(
    {
        "GPU-b": (
            Instance("MIG-1", "1g.10gb", 2, ("/dev/nvidia-caps/nvidia-cap30",)),
            Instance("MIG-2", "3g.40gb", 4, ("/dev/nvidia-caps/nvidia-cap39",)),
        )
    }
)
ON_INSTANCE = replace(ONE, gpu_ids=("GPU-b",), profile="1g.10gb", slice=2)


def test_a_mig_instance_is_seen_by_its_own_name_and_opened_by_its_own_files() -> None:
    host = replace(HOST, mig=SPLIT)
    made = unit(ON_INSTANCE, WEIGHTS, host)
    assert made.environment["CUDA_VISIBLE_DEVICES"] == "MIG-1"
    assert made.settings["Service"]["DeviceAllow"] == [
        "/dev/nvidiactl rw",
        "/dev/nvidia-uvm rw",
        "/dev/nvidia-uvm-tools rw",
        "/dev/nvidia3 rw",
        "/dev/nvidia-caps/nvidia-cap30 r",
    ]
    bare = Divided({"GPU-b": (Instance("MIG-1", "1g.10gb", 2),)})
    with pytest.raises(Refused, match=r"open the MIG instance MIG-1 for chat are not known or not"):
        unit(ON_INSTANCE, WEIGHTS, replace(HOST, mig=bare))


@pytest.mark.parametrize(
    ("one", "loaded", "host", "said"),
    [
        (
            replace(ONE, run=None),
            WEIGHTS,
            HOST,
            "chat has no engine that runs as a unit; set run.engine to one of onnx, llama_cpp",
        ),
        (
            ONE,
            WEIGHTS,
            replace(HOST, machine="riscv64"),
            "gpu1: the environment of llama_cpp for chat has wheels for Python 3.10 and later on "
            "x86_64 and aarch64; the host has Python 3.13 on riscv64",
        ),
        (
            ONE,
            WEIGHTS,
            replace(HOST, python=(3, 9)),
            "gpu1: the environment of llama_cpp for chat has wheels for Python 3.10 and later",
        ),
        (
            ONE,
            replace(WEIGHTS, kind="onnx"),
            HOST,
            "chat: the release of assistant is onnx, and llama_cpp loads gguf; choose another",
        ),
        (
            replace(ONE, run=replace(RUN, context_tokens=8192)),
            WEIGHTS,
            HOST,
            "chat: context_tokens is 8,192, and the model assistant was made for 4,096; lower",
        ),
        (
            ONE,
            replace(WEIGHTS, token_bytes=1024 * 1024),
            HOST,
            "chat: 1,024 tokens x 2 at a time take 2,048 MiB beside 100 MiB of weights and 64 MiB "
            "of the engine, 2,212 MiB in all; 625 MiB are planned; lower context_tokens or",
        ),
        (
            replace(ONE, gpu_ids=("GPU-z",)),
            WEIGHTS,
            HOST,
            "gpu1: chat is planned on GPU GPU-z, which the host does not have now; assess the",
        ),
        (
            replace(ONE, gpu_ids=("GPU-a",)),
            WEIGHTS,
            replace(HOST, gpus={"GPU-a": None}),
            "gpu1: chat is planned on GPU GPU-a, and the driver does not say which device file it "
            "has; look there whether nvidia-smi -q tells its Minor Number",
        ),
    ],
)
def test_what_cannot_run_is_refused_in_a_sentence(
    one: Placed, loaded: Loaded, host: Host, said: str
) -> None:
    with pytest.raises(Refused) as refused:
        unit(one, loaded, host)
    assert str(refused.value).startswith(said)


def test_gpu_memory_holds_the_model_of_a_replica_with_gpus() -> None:
    one = replace(ONE, gpu_ids=("GPU-a",), memory_mib=100.0)
    assert unit(one, replace(WEIGHTS, size_mib=10_000.0), HOST)
    with pytest.raises(Refused, match=r"16,384 MiB are planned"):
        unit(one, replace(WEIGHTS, size_mib=20_000.0), HOST)


@pytest.mark.parametrize(
    ("engine", "kind", "words"),
    [
        ("onnx", "onnx", ["mlops_serving", "--execution-provider=CPUExecutionProvider"]),
        ("vllm", "safetensors", ["--max-model-len=1024", "--served-model-name=assistant"]),
    ],
)
def test_every_engine_is_started_in_its_own_words(engine: str, kind: str, words: list[str]) -> None:
    one = replace(ONE, memory_limit_mib=8192.0, run=replace(RUN, engine=engine))
    made = unit(one, replace(WEIGHTS, kind=kind), HOST)
    assert [word for word in words if word not in made.command] == []
    if engine == "vllm":
        assert made.environment["HF_HUB_OFFLINE"] == "1"
        assert made.settings["Service"]["IPAddressAllow"] == "localhost"


def test_options_are_the_engines_own() -> None:
    run = replace(RUN, options=(("n_batch", "64"),))
    assert "--option=n_batch=64" in unit(replace(ONE, run=run), WEIGHTS, HOST).command


TWO = [replace(ONE, replica=0), ONE, replace(ONE, replica=2, host="gpu2")]
OUTSIDE = Placed(
    "llm", "serving", 0, "gpu1", run=ServingRun("external", url="https://llm.example.com/")
)


def test_a_workload_has_one_address_over_its_hosts() -> None:
    (found,) = entrances(TWO, {"gpu1": "10.0.0.1"}, ["vision", "speech"])
    assert [vars(one) for one in found.hosts] == [
        {"host": "gpu1", "address": "10.0.0.1", "weight": 2},
        {"host": "gpu2", "address": "gpu2", "weight": 1},
    ]
    assert found.teams == ("vision", "speech")
    assert found.as_dict()["request_mib"] == 4


def test_somebody_elses_endpoint_has_no_hosts_of_ours() -> None:
    (found,) = entrances([OUTSIDE], {}, [])
    assert found.hosts == ()
    assert found.as_dict()["server_name"] == "llm.example.com"
    assert locals_of([OUTSIDE], "gpu1") == ()


def test_a_team_that_is_none_is_refused() -> None:
    one = replace(ONE, run=replace(RUN, teams=("vison",)))
    with pytest.raises(
        Refused, match=r"^chat: run.teams names vison, which is no team of mlops_te"
    ):
        entrances([one], {}, ["vision"])


def test_the_nginx_of_a_host_knows_the_replicas_that_are_there() -> None:
    (found,) = locals_of(TWO, "gpu1")
    assert found.servers == (
        "unix:/run/mlops-workload-chat-0/answer.sock",
        "unix:/run/mlops-workload-chat-1/answer.sock",
    )


WRITTEN: list[dict[str, Any]] = [
    {
        "name": "chat",
        "kind": "serving",
        "replicas": 2,
        "hosts": {"groups": ["gpu"]},
        "requests": {"cpu_cores": 1, "memory_mib": 500},
        "run": {"engine": "llama_cpp", "model": "assistant", "version": 3},
    },
    {"name": "planned-only", "kind": "training", "requests": {"cpu_cores": 1}},
]
PLACEMENT: dict[str, list[dict[str, Any]]] = {
    "gpu1": [{"workload": "chat", "replica": 0}, {"workload": "planned-only", "replica": 0}],
    "gpu2": [{"workload": "chat", "replica": 1}, {"workload": "gone", "replica": 0}],
}
BROUGHT = {
    "chat": {
        "directory": "/releases/ab",
        "kind": "gguf",
        "size": 1024,
        "config": {"token_bytes": 512, "context_tokens": 2048},
    }
}


@pytest.mark.parametrize(
    ("question", "host", "more", "wanted"),
    [
        ("hosts", "", {}, ["gpu1", "gpu2"]),
        (
            "releases",
            "gpu1",
            {},
            [{"workload": "chat", "model": "assistant", "version": "3"}],
        ),
        ("owners", "gpu2", {}, ["workload_unit_chat_1"]),
        ("units", "gpu2", {}, []),
        ("external", "", {}, []),
        (
            "environments",
            "gpu1",
            {"locks": {"llama_cpp": "r.txt"}},
            [{"engine": "llama_cpp", "requirements": "r.txt", "debian": ["libgomp1"]}],
        ),
    ],
)
def test_a_question_of_the_role_is_answered(
    question: str, host: str, more: dict[str, Any], wanted: Any
) -> None:
    assert answer(WRITTEN, PLACEMENT, question, host, more) == wanted


def test_a_unit_is_planned_once_its_release_is_there() -> None:
    (found,) = answer(WRITTEN, PLACEMENT, "units", "gpu1", {"releases": BROUGHT})
    assert found["name"] == "mlops-workload-chat-0"
    assert found["ready"] == "/health"


def test_a_replica_opens_the_file_that_the_driver_names_and_not_its_place_in_the_count() -> None:
    cards = [{"uuid": f"GPU-{at}", "index": at, "minor": 2 - at} for at in range(3)]
    row = {"workload": "chat", "replica": 0, "gpus": [0], "gpu_ids": ["GPU-0"]}
    more = {"releases": BROUGHT, "facts": {"gpus": {"gpus": cards}}}
    written = [{**WRITTEN[0], "gpu": {"count": 1}}]
    (found,) = answer(written, {"gpu1": [row]}, "units", "gpu1", more)
    allowed = found["settings"]["Service"]["DeviceAllow"]
    assert [one for one in allowed if one[len("/dev/nvidia")].isdigit()] == ["/dev/nvidia2 rw"]


def test_an_engine_without_an_environment_is_refused() -> None:
    with pytest.raises(Refused, match=r"set workloads_environments.llama_cpp to a lock file"):
        answer(WRITTEN, PLACEMENT, "environments", "gpu1", {})


def test_the_selfcheck_asks_golden_answers_and_the_gateway() -> None:
    asked = answer(WRITTEN, PLACEMENT, "checks", "gpu1", {"releases": BROUGHT})
    assert asked[0] == {"unit": "mlops-workload-chat-0.service"}
    assert "--release=/releases/ab" in asked[1]["command"]
    gateway = answer(
        WRITTEN, PLACEMENT, "gateway_checks", "", {"url": "https://ctl1", "token": "secret"}
    )
    assert gateway[0]["url"] == "https://ctl1/workloads/chat/health"
    assert gateway[0]["headers"] == {"Authorization": "Bearer secret"}
    assert gateway[1]["status"] == [401]


def test_what_is_known_to_fail_is_told_by_the_assessment() -> None:
    by_number = replace(OUTSIDE, run=ServingRun("external", url="https://10.0.0.7:8443"))
    said = foreseen(
        [ONE, replace(ONE, gpu_ids=("GPU-z",)), OUTSIDE, by_number],
        {"gpu1": replace(HOST, python=(3, 9))},
    )
    assert [one.partition(";")[0] for one in said] == [
        "gpu1: the environment of llama_cpp for chat has wheels for Python 3.10 and later on "
        "x86_64 and aarch64",
        "gpu1: the environment of llama_cpp for chat has wheels for Python 3.10 and later on "
        "x86_64 and aarch64",
        "llm is at https://10.0.0.7:8443, and nginx holds certificates against names only",
    ]
    assert foreseen([replace(ONE, gpu_ids=("GPU-z",))], {"gpu1": HOST})[0].startswith(
        "gpu1: chat is planned on GPU GPU-z, which the host does not have now"
    )
    assert foreseen([ONE, OUTSIDE], {"gpu1": HOST}) == []


def test_what_is_set_aside_is_told_by_unit() -> None:
    work = [
        {
            "name": "chat",
            "kind": "serving",
            "requests": {"cpu_cores": "500m", "memory": "2GiB"},
            "run": {"engine": "llama_cpp", "model": "tiny", "version": 1},
        },
        {
            "name": "away",
            "kind": "serving",
            "requests": {"cpu_cores": 1},
            "run": {"engine": "external", "url": "https://llm.example.com"},
        },
    ]
    rows = {
        "g1": [{"workload": "chat", "replica": 1}, {"workload": "away", "replica": 0}],
        "g2": [{"workload": "chat", "replica": 0}],
    }
    assert answer(work, rows, "planned", "g1", {}) == [
        {
            "unit": "mlops-workload-chat-1.service",
            "service": "chat[1]",
            "cpu_cores": 0.5,
            "memory_mib": 2048,
        }
    ]
