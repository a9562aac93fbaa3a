# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many bits a parameter takes in each format, as the format is stored.

A format of 4 bits takes more: groups of parameters share scales, and outside GGUF the embeddings
and the head stay in 16 bits. What is not known is taken so that the estimate is not too low.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .answer import told

# Bits of one number, by the names in use.
PLAIN: dict[str, float] = {
    **dict.fromkeys(("fp64", "float64", "double"), 64),
    **dict.fromkeys(("fp32", "float32", "float", "int32"), 32),
    **dict.fromkeys(("fp16", "float16", "half", "bf16", "bfloat16", "int16"), 16),
    **dict.fromkeys(("fp8", "float8", "fp8_e4m3", "fp8_e5m2", "int8"), 8),
    "int4": 4,
}
# Bits with the scales: QLoRA, section 3 (32 bits for each 64 parameters, or 0.127 with scales that
# are quantised too); OCP Microscaling (8 bits for each 32); NVIDIA (8 bits for each 16).
SCALED: dict[str, float] = {
    **dict.fromkeys(("nf4", "fp4"), 4.5),
    "nf4_double": 4.127,
    "mxfp4": 4.25,
    "nvfp4": 4.5,
}
# A scale of 16 bits and a zero point of 4 for each group; GPTQ also keeps an index of the inputs.
GROUPED: dict[str, float] = {"awq": 4.0, "gptq": 4.015}
GROUP_SIZE = 128
GROUP_BITS = 20
# llama.cpp, tools/quantize, tables of Llama 2 7B and Llama 3 8B; the larger, rounded up. Every
# tensor counts, the embeddings included.
GGUF: dict[str, float] = {
    "q2_k": 3.35,
    "q3_k_s": 3.66,
    "q3_k_m": 4.02,
    "q3_k_l": 4.32,
    "iq4_xs": 4.45,
    "iq4_nl": 4.69,
    "q4_0": 4.68,
    "q4_1": 5.12,
    "q4_k_s": 4.69,
    "q4_k_m": 4.91,
    "q5_0": 5.58,
    "q5_1": 6.05,
    "q5_k_s": 5.59,
    "q5_k_m": 5.72,
    "q6_k": 6.58,
    "q8_0": 8.51,
}
BITS: dict[str, float] = {**PLAIN, **SCALED, **GROUPED, **GGUF}
# Bits of what a quantised model leaves as it is, and of scales where only "int4" is said.
WHOLE = 16
SOME_SCALES = 0.5
# Kaplan et al. 2020: a transformer has 12 x layers x width^2 parameters; LLaMA's have a width of
# 128 x layers. Qwen2.5 has one of the largest vocabularies whose head is not shared.
ASPECT, VOCABULARY = 128, 152_064


@dataclass(frozen=True)
class Format:
    """A type of number: its name, and the bits of a parameter in it."""

    name: str
    bits: float

    @property
    def counted(self) -> bool:
        """Whether parameters x bits is what others publish, though less than what is stored."""
        return self.name in PLAIN and self.bits < WHOLE

    @property
    def partial(self) -> bool:
        """Whether the format leaves embeddings and head in 16 bits."""
        return self.counted or self.name in SCALED or self.name in GROUPED


def in_groups(form: Format, group: int) -> Format:
    """The format with the scales of groups of this size, where it has such groups."""
    return Format(form.name, form.bits + GROUP_BITS / group) if form.name in GROUPED else form


def whole_parameters(parameters: int) -> int:
    """The most that embeddings and head of a transformer of that size are thought to be."""
    width = math.pow(parameters * ASPECT / 12, 1 / 3)
    return min(parameters // 2, math.ceil(2 * VOCABULARY * width))


def stored(parameters: int, form: Format, whole: int) -> tuple[float, str]:
    """The bytes of a model as it is stored, and the formula. ``whole`` stay in 16 bits."""
    bits = form.bits + (SOME_SCALES if form.name == "int4" else 0)
    if not form.partial or not whole:
        return (
            math.ceil(parameters * bits / 8),
            f"{told(parameters)} parameters x {told(bits / 8)} bytes ({form.name})",
        )
    rest = parameters - whole
    return (
        math.ceil(rest * bits / 8) + whole * WHOLE // 8,
        f"{told(rest)} parameters x {told(bits / 8)} bytes ({form.name}) + {told(whole)} of"
        f" embeddings and head x {WHOLE // 8} bytes",
    )
