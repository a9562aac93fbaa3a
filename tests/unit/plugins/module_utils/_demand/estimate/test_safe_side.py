# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Estimates where rules of thumb are too low: never below what others published, nor far above."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._demand.estimate.read import estimate
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError

from .model_writers import MemoryFiles

MIB, GIB, GB = 2**20, 2**30, 10**9
QWEN_7B = {"kind": "model", "parameters": 7_615_616_512}
QWEN_EMBEDDINGS = 2 * 152_064 * 3584
LLAMA2_13B = {"kind": "model", "parameters": 13_015_864_320}
LLAMA2_EMBEDDINGS = 2 * 32_000 * 5120
LLAMA31_8B = {"kind": "model", "parameters": 8_030_261_248}
DEEPSEEK_V3 = {"kind": "kv_cache", "layers": 61, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
GEMMA3_27B = {"kind": "kv_cache", "layers": 62, "kv_heads": 16, "head_size": 128}
WINDOWS = {"sliding_window": 1024, "sliding_layers": 52}
QWEN3_235B = {"kind": "kv_cache", "layers": 94, "kv_heads": 4, "head_size": 128}
RESNET50 = {"kind": "training", "precision": "fp32", "parameters": 25_557_032}
VIT_B16 = {"kind": "training", "precision": "fp32", "parameters": 86_567_656}

# What is asked, the figure, its unit, what is published, and how far above it may be, in percent.
PUBLISHED = [
    # bartowski's GGUF files of Llama 2 13B and of Llama 3.1 8B, in GB.
    ({**LLAMA2_13B, "dtype": "q4_k_m"}, "weights", GB, 7.86, 3),
    ({**LLAMA2_13B, "dtype": "Q8_0"}, "weights", GB, 13.83, 1),
    ({**LLAMA31_8B, "dtype": "Q4_K_M"}, "weights", GB, 4.92, 1),
    # vLLM, issue 13882: weights of Qwen2.5-7B in bitsandbytes' 4 bits.
    ({**QWEN_7B, "dtype": "nf4"}, "weights", GIB, 5.20, 12),
    (
        {**QWEN_7B, "dtype": "nf4", "unquantised_parameters": QWEN_EMBEDDINGS},
        "weights",
        GIB,
        5.20,
        5,
    ),
    ({**QWEN_7B, "dtype": "int4"}, "stored", GIB, 5.20, 12),
    # TheBloke's files of Llama 2 13B, in GB: AWQ and GPTQ in groups of 128, GPTQ in groups of 32.
    (
        {**LLAMA2_13B, "dtype": "awq", "unquantised_parameters": LLAMA2_EMBEDDINGS},
        "weights",
        GB,
        7.245,
        1,
    ),
    (
        {**LLAMA2_13B, "dtype": "gptq", "unquantised_parameters": LLAMA2_EMBEDDINGS},
        "weights",
        GB,
        7.26,
        1,
    ),
    (
        {
            **LLAMA2_13B,
            "dtype": "gptq",
            "group_size": 32,
            "unquantised_parameters": LLAMA2_EMBEDDINGS,
        },
        "weights",
        GB,
        8.00,
        1,
    ),
    # OpenAI, gpt-oss model card: 116.83 billion parameters, a checkpoint of 60.8 GiB in MXFP4.
    (
        {"kind": "model", "parameters": 116_830_000_000, "dtype": "mxfp4"},
        "weights",
        GIB,
        60.8,
        4,
    ),
    # DeepSeek-V3 report, table of caches: 70,272 bytes a token.
    ({**DEEPSEEK_V3, "tokens": 1}, "per_token", 1, 70_272, 0),
    # llama.cpp with latent attention: 10.72 GiB for 163,840 tokens.
    ({**DEEPSEEK_V3, "tokens": 163_840}, "kv_cache", GIB, 10.72, 0.1),
    # llama.cpp, pull request 12637: Gemma 3 27B with 128k tokens takes 10 GiB and the windows.
    ({**GEMMA3_27B, **WINDOWS, "tokens": 131_072}, "kv_cache", GIB, 10.0, 5),
    # Hugging Face, Model training anatomy: 18 bytes a parameter in mixed precision, 16 in fp32.
    ({"kind": "training", "parameters": 10**9, "precision": "amp"}, "each_gpu", GB, 18, 0),
    ({"kind": "training", "parameters": 10**9, "precision": "fp32"}, "each_gpu", GB, 16, 0),
    # WSShiro/vramexp: training in fp32 with 128 images of 224 x 224; outputs by timm's cards.
    (
        {**RESNET50, "activations": {"batch": 128, "outputs_per_sample": 11_100_000}},
        "each_gpu",
        MIB,
        11_738,
        6,
    ),
    (
        {**VIT_B16, "activations": {"batch": 128, "outputs_per_sample": 16_500_000}},
        "each_gpu",
        MIB,
        17_218,
        12,
    ),
    # Robust Perception's formula (bytes a sample x rate x retention x 1.2), done by hand.
    (
        {
            "kind": "prometheus",
            "samples_per_second": 30_000,
            "retention_days": 15,
            "bytes_per_sample": 1.7,
        },
        "space",
        GB,
        79.3,
        0.1,
    ),
]


def figures(asked: dict[str, Any]) -> dict[str, float]:
    return {row.name: row.value for row in estimate(asked, MemoryFiles()).figures}


@pytest.mark.parametrize(("asked", "name", "unit", "published", "percent"), PUBLISHED)
def test_an_estimate_is_not_below_what_was_published(
    asked: dict[str, Any], name: str, unit: int, published: float, percent: float
) -> None:
    found = figures(asked)[name] / unit
    assert published * (1 - 1e-4) <= found <= published * (1 + percent / 100) * (1 + 1e-4)


def test_qlora_of_65_billion_parameters_fits_on_48_gb() -> None:
    """QLoRA, section 1: a model of 65 billion parameters on one GPU of 48 GB."""
    lora = {"base_dtype": "nf4_double", "trainable_parameters": 400_000_000}
    asked = {"kind": "training", "parameters": 65_285_660_672, "lora": lora}
    assert 40 * GB < figures(asked)["each_gpu"] <= 48 * GB


@pytest.mark.parametrize("dtype", ["int4", "int8", "fp8"])
def test_serving_takes_what_is_stored_not_what_is_counted(dtype: str) -> None:
    found = figures({**QWEN_7B, "dtype": dtype, "overhead_percent": 0})
    assert found["weights"] < found["stored"] == found["serving"]
    plain = figures({**QWEN_7B, "dtype": dtype, "unquantised_parameters": 0})
    assert plain["stored"] < found["stored"]


@pytest.mark.parametrize("dtype", ["bf16", "fp32", "q4_k_m"])
def test_nothing_is_added_where_every_parameter_is_in_the_format(dtype: str) -> None:
    found = figures({**QWEN_7B, "dtype": dtype})
    assert "stored" not in found
    assert found == figures({**QWEN_7B, "dtype": dtype, "unquantised_parameters": 10**9})


@pytest.mark.parametrize(
    ("gpus", "copies"), [(1, 1), (2, 1), (4, 1), (8, 2), (16, 4), (3, 1.5), (6, 1.5)]
)
def test_gpus_beyond_the_kv_heads_keep_the_same_again(gpus: int, copies: float) -> None:
    cache = {key: value for key, value in QWEN3_235B.items() if key != "kind"}
    asked = {"kind": "model", "parameters": 235 * 10**9, "dtype": "fp8", "gpus": gpus}
    with_cache = estimate({**asked, "kv_cache": {**cache, "tokens": 178_880}}, MemoryFiles()).need
    without = estimate(asked, MemoryFiles()).need
    assert with_cache is not None
    assert without is not None
    whole = figures({**QWEN3_235B, "tokens": 178_880})["kv_cache"] / MIB
    added = with_cache.gpu_memory_mib - without.gpu_memory_mib
    assert added == pytest.approx(whole * copies / gpus, abs=1)


def test_a_latent_vector_is_on_every_gpu() -> None:
    found = figures({**DEEPSEEK_V3, "tokens": 1600, "gpus": 8})
    assert found["on_all_gpus"] == 8 * found["kv_cache"] == 8 * 1600 * 70_272


def test_tokens_that_fit_are_those_that_vllm_logs() -> None:
    """Qwen3-235B on 4 GPUs with 8.11 GiB each for the cache: 178,880 (vLLM, issue 21348)."""
    found = figures({**QWEN3_235B, "gpus": 4, "memory_gib": 4 * 8.11})["tokens"]
    assert found == pytest.approx(178_880, rel=0.012)


def test_copies_leave_less_tokens() -> None:
    alone = figures({**QWEN3_235B, "memory_gib": 64, "gpus": 4})["tokens"]
    assert figures({**QWEN3_235B, "memory_gib": 64, "gpus": 8})["tokens"] == alone // 2 // 16 * 16


def test_memory_that_a_model_gives_to_its_cache_is_counted() -> None:
    cache = {"layers": 32, "kv_heads": 8, "head_size": 128}
    asked = {**LLAMA31_8B, "dtype": "bf16"}
    more = figures({**asked, "kv_cache": {**cache, "memory_gib": 10}})["serving"]
    assert more - figures(asked)["serving"] == 10 * GIB


def test_short_sequences_do_not_fill_the_window() -> None:
    asked = {**GEMMA3_27B, "tokens": 512}
    assert figures({**asked, **WINDOWS})["kv_cache"] == figures(asked)["kv_cache"]


@pytest.mark.parametrize("sequences", [1, 7])
def test_each_sequence_has_its_own_window(sequences: int) -> None:
    asked = {**GEMMA3_27B, **WINDOWS, "sequences": sequences, "tokens_per_sequence": 8192}
    token = 2 * 16 * 128 * 2
    assert figures(asked)["kv_cache"] == sequences * token * (10 * 8192 + 52 * (1024 + 16))


@pytest.mark.parametrize("memory", [1, 10, 11])
def test_what_fits_with_windows_takes_no_more_than_the_memory(memory: int) -> None:
    asked = {**GEMMA3_27B, **WINDOWS}
    tokens = int(figures({**asked, "memory_gib": memory})["tokens"])
    assert figures({**asked, "tokens": tokens})["kv_cache"] <= memory * GIB
    assert figures({**asked, "tokens": tokens + 16})["kv_cache"] > memory * GIB


@pytest.mark.parametrize(
    ("stage", "expected"), [(0, 18), (1, 10 + 8 / 4), (2, 6 + 12 / 4), (3, 18 / 4 + 0.1)]
)
def test_stages_split_what_torch_keeps(stage: int, expected: float) -> None:
    asked: dict[str, Any] = {"kind": "training", "parameters": 10**9, "gpus": 4}
    layer = {"largest_layer_parameters": 10**7} if stage == 3 else {}
    found = figures({**asked, **layer, "zero_stage": stage, "precision": "amp"})
    assert found["each_gpu"] == expected * 10**9


def test_activations_of_images_as_measured() -> None:
    asked = {**RESNET50, "activations": {"batch": 10, "per_sample_mib": 90}}
    assert figures(asked)["activations"] == 900 * MIB


def test_activations_of_a_transformer_in_32_bits_are_twice_those_in_16() -> None:
    shape = {"layers": 12, "hidden_size": 768, "heads": 12, "sequence": 197, "batch": 128}
    asked = {"kind": "training", "parameters": 10**8, "activations": shape}
    double = figures({**asked, "precision": "fp32"})["activations"]
    assert double == 2 * figures(asked)["activations"]
    # WSShiro/vramexp measured 17,218 MiB.
    assert figures({**VIT_B16, "activations": shape})["each_gpu"] >= 17_218 * MIB


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (
            {**DEEPSEEK_V3, "kv_heads": 128, "tokens": 1},
            "kv_heads: cannot stand beside kv_lora_rank: the cache of latent attention",
        ),
        ({**DEEPSEEK_V3, "qk_rope_head_dim": None, "tokens": 1}, "qk_rope_head_dim: is missing"),
        ({**GEMMA3_27B, "sliding_window": 1024, "tokens": 1}, "sliding_layers: is missing"),
        ({**GEMMA3_27B, **WINDOWS, "sliding_layers": 63, "tokens": 1}, "must be at most layers"),
        (
            {**GEMMA3_27B, **WINDOWS, "sliding_layers": 62, "memory_gib": 99},
            "is enough for any number of tokens",
        ),
        (
            {**QWEN_7B, "dtype": "nf4", "unquantised_parameters": 10**10},
            "must be at most the param",
        ),
        ({**QWEN_7B, "dtype": "q4_k_xl"}, "dtype: must be one of"),
        (
            {**QWEN_7B, "dtype": "bf16", "kv_cache": {"layers": 1, "gpus": 2}},
            "kv_cache.gpus: is said by the gpus of the model",
        ),
        (
            {**RESNET50, "zero_stage": 2, "offload": "optimizer"},
            "offload: is optimizer, which needs precision: mixed, not fp32",
        ),
        ({**RESNET50, "precision": "bf16"}, "precision: must be one of mixed, amp, fp32"),
        (
            {**RESNET50, "activations": {"batch": 1, "outputs_per_sample": 5, "heads": 2}},
            "activations.heads: is of a transformer",
        ),
        ({**RESNET50, "activations": {"outputs_per_sample": 5}}, "activations.batch: is missing"),
    ],
)
def test_what_does_not_go_together_is_refused(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ShapeError, match=re.escape(sentence)):
        estimate(asked, MemoryFiles())
