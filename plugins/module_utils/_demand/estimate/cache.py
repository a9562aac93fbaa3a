# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory of the key-value cache of a transformer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..._findings.shape import ShapeError, field, known_keys, optional
from ..quantities import size_keys
from . import fields
from .answer import Estimate, Figure, Need, figure, in_mib, told

KV_SOURCE = (
    "keys and values of every layer and token: Pope et al. 2022, Efficiently Scaling Transformer"
    " Inference; blocks as in Kwon et al. 2023 (vLLM)"
)
LATENT_SOURCE = "DeepSeek-V2, section 2.1.4: one latent vector and one rotary key for each layer"
WINDOW_SOURCE = "Gemma 3 report, section 2: layers with a sliding window keep its tokens only"
COPIED_SOURCE = "vLLM, tensor parallel: a GPU holds at least one KV head; a latent vector whole"

LATENT_KEYS = ("kv_lora_rank", "qk_rope_head_dim")
HEAD_KEYS = ("kv_heads", "head_size")
KV_KEYS = (
    *("layers", *HEAD_KEYS, "dtype", "tokens", "sequences", "tokens_per_sequence"),
    *("block_tokens", "gpus", *LATENT_KEYS, "sliding_window", "sliding_layers"),
    *size_keys("memory"),
)


@dataclass(frozen=True)
class _Layers:
    """What the layers keep. ``each_one`` are the bytes of a token in one of them.

    ``copies`` is how often the GPUs hold it all together. ``window`` is in tokens.
    """

    number: int
    each_one: float
    formula: str
    source: str
    copies: float
    windowed: int
    window: int
    block: int

    @property
    def token_size(self) -> float:
        """Bytes of a token in all layers."""
        return self.number * self.each_one

    def blocks(self, length: int) -> tuple[int, int]:
        """Blocks of a sequence in a layer that keeps everything, and in one with a window.

        A window may begin and end within a block, so that it touches one more.
        """
        every = math.ceil(length / self.block)
        return every, min(every, math.ceil(self.window / self.block) + 1)

    def size(self, length: int) -> float:
        """Bytes of one sequence."""
        every, few = self.blocks(length)
        kept = (self.number - self.windowed) * every + self.windowed * few
        return kept * self.block * self.each_one


def _layers(data: Mapping[str, Any]) -> _Layers:
    number = field(data, "layers", fields.up_to(100_000))
    word, width = optional(data, "dtype", fields.bits, ("bf16", 16.0))
    gpus = optional(data, "gpus", fields.up_to(1024), 1)
    said = f"{told(width / 8)} bytes ({word})"
    if any(data.get(key) is not None for key in LATENT_KEYS):
        for key in HEAD_KEYS:
            if data.get(key) is not None:
                raise ShapeError(
                    "cannot stand beside kv_lora_rank: the cache of latent attention (MLA) has no"
                    f" heads; leave out {' and '.join(HEAD_KEYS)}",
                    key,
                )
        rank = field(data, "kv_lora_rank", fields.up_to(10_000_000))
        rotary = field(data, "qk_rope_head_dim", fields.up_to(1_000_000, 0))
        each_one = (rank + rotary) * width / 8
        formula, source = f"{number} layers x ({rank} + {rotary}) x {said}", LATENT_SOURCE
        copies = float(gpus)
    else:
        heads = field(data, "kv_heads", fields.up_to(100_000))
        head = field(data, "head_size", fields.up_to(1_000_000))
        each_one = 2 * heads * head * width / 8
        formula, source = f"2 x {number} layers x {heads} KV heads x {head} x {said}", KV_SOURCE
        copies = math.ceil(heads / gpus) * gpus / heads
    window, windowed = _window(data, number)
    block = optional(data, "block_tokens", fields.up_to(1_000_000), 16)
    return _Layers(number, each_one, formula, source, copies, windowed, window, block)


def _window(data: Mapping[str, Any], number: int) -> tuple[int, int]:
    """The window in tokens and the layers that have it; zeros where there is none."""
    if data.get("sliding_window") is None and data.get("sliding_layers") is None:
        return 0, 0
    window = field(data, "sliding_window", fields.up_to(10**9))
    windowed = field(data, "sliding_layers", fields.up_to(100_000))
    if windowed > number:
        raise ShapeError(f"must be at most layers ({number}), but is {windowed}", "sliding_layers")
    return window, windowed


def kv_cache(name: str, data: Mapping[str, Any]) -> Estimate:
    """Memory of the key-value cache of a transformer, in bytes.

    per token = 2 (key and value) x layers x KV heads x head size x bytes; with latent attention
    (MLA) layers x (``kv_lora_rank`` + ``qk_rope_head_dim``) x bytes. Tokens are kept in blocks of
    16 (vLLM), so they are rounded up to whole blocks, for each sequence where sequences are given.
    ``sliding_layers`` keep the tokens of ``sliding_window`` only. With ``memory_*`` given in place
    of tokens: how many blocks of one sequence fit into it. With more ``gpus`` than KV heads, and
    with latent attention, several of them keep the same.
    """
    return cache_and_size(name, data)[0]


def cache_and_size(name: str, data: Mapping[str, Any]) -> tuple[Estimate, float]:
    """The estimate, and the bytes that the cache takes of all GPUs together."""
    known_keys(data, KV_KEYS)
    layers = _layers(data)
    token = figure("per_token", layers.formula, layers.token_size, "bytes", layers.source)
    memory = fields.size(data, "memory", 0.0)
    ways = [bool(memory), data.get("tokens") is not None, data.get("sequences") is not None]
    if sum(ways) != 1:
        raise ShapeError("must have one of tokens, sequences (with tokens_per_sequence), memory_*")
    if memory:
        return Estimate(name, "kv_cache", (*_fitting(layers, memory), token)), memory
    if ways[1]:
        sequences, length = 1, field(data, "tokens", fields.count)
    else:
        sequences = field(data, "sequences", fields.up_to(10**9))
        length = field(data, "tokens_per_sequence", fields.up_to(10**9))
    parts = [*_kept(layers, sequences, length), token]
    size = parts[0].value
    if layers.copies > 1:
        formula = f"{told(size)} x {told(layers.copies)} copies"
        size = math.ceil(size * layers.copies)
        parts.append(figure("on_all_gpus", formula, size, "bytes", COPIED_SOURCE))
    gpus = optional(data, "gpus", fields.up_to(1024), 1)
    need = Need(gpu_memory_mib=in_mib(size / gpus), gpu_count=gpus)
    return Estimate(name, "kv_cache", tuple(parts), need), size


def _kept(layers: _Layers, sequences: int, length: int) -> list[Figure]:
    """The size of the cache, and its blocks."""
    block = layers.block
    every, few = layers.blocks(length)
    many = f"{told(sequences)} sequences x " if sequences > 1 else ""
    blocks = sequences * every
    number = figure("blocks", f"{many}ceil({told(length)} / {block})", blocks, "blocks", KV_SOURCE)
    if not layers.windowed:
        formula = f"{told(blocks)} blocks x {block} tokens x {told(layers.token_size)}"
        total = figure("kv_cache", formula, blocks * block * layers.token_size, "bytes", KV_SOURCE)
        return [total, number]
    formula = (
        f"{many}({layers.number - layers.windowed} layers x {told(every)} blocks +"
        f" {layers.windowed} layers x {told(few)} blocks) x {block} tokens x"
        f" {told(layers.each_one)}"
    )
    size = sequences * layers.size(length)
    return [figure("kv_cache", formula, size, "bytes", WINDOW_SOURCE), number]


def _fitting(layers: _Layers, memory: float) -> list[Figure]:
    """How many blocks of one sequence fit into a memory, and their tokens."""
    block, size = layers.block, layers.token_size * layers.copies
    copied = f" x {told(layers.copies)} copies" if layers.copies > 1 else ""
    blocks = int(memory // (size * block))
    formula = f"floor({told(memory)} / ({told(layers.token_size)}{copied} x {block}))"
    few = math.ceil(layers.window / block) + 1
    if layers.windowed and blocks > few:
        full = layers.number - layers.windowed
        windows = layers.windowed * few * block * layers.each_one * layers.copies
        grows = full * layers.each_one * layers.copies * block
        if not grows:
            raise ShapeError("is enough for any number of tokens: every layer has a window")
        blocks = int((memory - windows) // grows)
        formula = (
            f"floor(({told(memory)} - {told(windows)} of windows) / ({full} layers x"
            f" {told(layers.each_one)}{copied} x {block}))"
        )
    fit = figure("blocks", formula, blocks, "blocks", KV_SOURCE)
    tokens = figure("tokens", f"{told(blocks)} x {block}", blocks * block, "tokens", KV_SOURCE)
    return [fit, tokens]
