# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Estimates against figures that others published; each case names who."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._demand.estimate.read import estimate

from .model_writers import MemoryFiles

MIB, GIB = 2**20, 2**30
BERT = {"kind": "model", "parameters": 108_310_272}
LLAMA = {"kind": "kv_cache", "layers": 32, "kv_heads": 8, "head_size": 128, "dtype": "bf16"}
T5 = {"kind": "training", "parameters": 2_851_000_000, "gpus": 8}
T5_LAYER = {"largest_layer_parameters": 32_000_000, "zero_stage": 3}

# What is asked, the figure of the answer, the unit it is published in, and the published number.
PUBLISHED = [
    # Hugging Face, accelerate estimate-memory bert-base-cased. The tool counts two buffers of 512
    # numbers of 64 bits besides the 108,310,272 parameters; smaller types halve that sum.
    ({**BERT, "dtype": "fp32", "buffers_bytes": 8192}, "weights", MIB, 413.18),
    ({**BERT, "dtype": "fp16", "buffers_bytes": 4096}, "weights", MIB, 206.59),
    ({**BERT, "dtype": "int8", "buffers_bytes": 2048}, "weights", MIB, 103.29),
    ({**BERT, "dtype": "int4", "buffers_bytes": 1024}, "weights", MIB, 51.65),
    # Meta, Llama-3.1-8B: 8,030,261,248 parameters; weights as vLLM logs them.
    ({"kind": "model", "parameters": 8_030_261_248, "dtype": "bf16"}, "weights", GIB, 14.96),
    # vLLM's log of Llama-3.1-8B: 1,952 blocks of 16 tokens in 3.81 GiB.
    ({**LLAMA, "tokens": 1}, "per_token", 1, 131_072),
    ({**LLAMA, "tokens": 1952 * 16}, "kv_cache", GIB, 3.81),
    ({**LLAMA, "tokens": 1952 * 16}, "blocks", 1, 1952),
    ({**LLAMA, "memory_gib": 3.8125}, "blocks", 1, 1952),
    # DeepSpeed documentation, Memory Requirements: t5-3b on one host with 8 GPUs, from its number
    # of parameters.
    ({**T5, "zero_stage": 2}, "each_gpu", GIB, 15.93),
    ({**T5, "zero_stage": 2}, "each_host", GIB, 127.45),
    ({**T5, "zero_stage": 2, "offload": "optimizer"}, "each_gpu", GIB, 5.31),
    ({**T5, "zero_stage": 2, "offload": "optimizer"}, "each_host", GIB, 127.45),
    ({**T5, **T5_LAYER}, "each_gpu", GIB, 6.09),
    ({**T5, **T5_LAYER}, "each_host", GIB, 127.45),
    ({**T5, **T5_LAYER, "zero_init": True}, "each_host", GIB, 1.43),
    ({**T5, **T5_LAYER, "offload": "optimizer"}, "each_gpu", GIB, 0.78),
    ({**T5, **T5_LAYER, "offload": "optimizer"}, "each_host", GIB, 127.45),
    ({**T5, **T5_LAYER, "offload": "optimizer", "zero_init": True}, "each_host", GIB, 63.72),
    ({**T5, **T5_LAYER, "offload": "all"}, "each_gpu", GIB, 0.12),
    ({**T5, **T5_LAYER, "offload": "all"}, "each_host", GIB, 127.45),
    ({**T5, **T5_LAYER, "offload": "all", "zero_init": True}, "each_host", GIB, 71.69),
    # ZeRO, figure 1: 7.5 billion parameters on 64 GPUs, in GB: 120, 31.4 with the optimizer split.
    ({"kind": "training", "parameters": 7_500_000_000}, "each_gpu", 10**9, 120.0),
    (
        {"kind": "training", "parameters": 7_500_000_000, "gpus": 64, "zero_stage": 1},
        "each_gpu",
        10**9,
        31.41,
    ),
    # LoRA, section 4.2 and table 2: rank 4 on the query and value matrices of GPT-3's 96 layers
    # of width 12,288 trains 18.9 million parameters (18.87 before their rounding).
    (
        {
            "kind": "training",
            "parameters": 175_000_000_000,
            "lora": {"rank": 4, "matrices": [{"inputs": 12288, "outputs": 12288, "count": 192}]},
        },
        "trained",
        10**6,
        18.87,
    ),
    # Prometheus: 8,521 samples a second for 4 days at 2 bytes, in GB.
    (
        {
            "kind": "prometheus",
            "samples_per_second": 8521,
            "retention_days": 4,
            "bytes_per_sample": 2,
        },
        "samples",
        10**9,
        5.89,
    ),
    # Ceph: 5 hosts of 10 TiB with 3 replicas: (50 - 10) / 3 x 0.85.
    (
        {"kind": "ceph", "failure_domains": 5, "raw_per_domain_tib": 10, "replicas": 3},
        "usable",
        2**40,
        11.33,
    ),
    # 59 devices see a defect of 5 % with 95 %.
    ({"kind": "ring_size", "defect_rate": 0.05, "confidence": 0.95}, "devices", 1, 59),
    # Erlang's table for 10 erlangs and 14 servers: 17.41 % wait; Call Centre Helper's example of
    # 200 calls an hour of 3 minutes: 14 agents answer 80 % within 20 s (13 answer 79.6 %).
    (
        {
            "kind": "serving",
            "rate_per_second": 200 / 3600,
            "service_seconds": 180,
            "waiting": {"seconds": 20, "quantile": 0.8},
        },
        "replicas",
        1,
        14,
    ),
]


@pytest.mark.parametrize(("asked", "figure", "unit", "published"), PUBLISHED)
def test_published_figures_are_reproduced_to_their_last_digit(
    asked: dict[str, Any], figure: str, unit: int, published: float
) -> None:
    found = {row.name: row.value for row in estimate(asked, MemoryFiles()).figures}
    assert round(found[figure] / unit, 2) == published


def test_without_the_buffers_only_the_last_digit_of_the_largest_figure_differs() -> None:
    found = [
        round(estimate({**BERT, "dtype": dtype}, MemoryFiles()).figures[0].value / MIB, 2)
        for dtype in ("fp32", "fp16", "int8", "int4")
    ]
    assert found == [413.17, 206.59, 103.29, 51.65]


@pytest.mark.parametrize(("asked", "figure", "unit", "published"), PUBLISHED)
def test_the_arithmetic_shown_ends_with_the_value(
    asked: dict[str, Any], figure: str, unit: int, published: float
) -> None:
    answer = estimate(asked, MemoryFiles())
    for row in answer.figures:
        assert " = " in row.formula
        assert row.source
        last = row.formula.rsplit(" = ", 1)[1]
        if row.unit == "bytes":
            exact = row.formula.rsplit(" bytes", 1)[0].rsplit(" ", 1)[1]
            assert int(exact.replace(",", "")) == row.value
        else:
            assert float(last.split()[0].replace(",", "")) == pytest.approx(row.value, rel=1e-4)
