# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory of activations, which training keeps for the way back: of transformers and of others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..._findings.shape import ShapeError, field, known_keys, optional
from ..quantities import size_keys, sizes_given
from . import fields
from .answer import Figure, figure, told

TRANSFORMER_SOURCE = (
    "Korthikanti et al. 2022, Reducing Activation Recomputation, equations 1, 2 and 6"
)
MEASURED_SOURCE = "samples of a batch x what was measured for one"
OUTPUTS_SOURCE = (
    "samples x numbers that the layers put out (timm model cards: Activations) x 2.2: inputs of"
    " normalisation and non-linear layers are kept as well; ResNet-50 and ViT-B/16 as measured"
)
# ResNet-50: 11.1 million outputs of 4 bytes, 88.7 MiB measured for each sample in training;
# ViT-B/16: 16.5 million, 124.2 MiB. Both take about 2.1 times their outputs.
OUTPUTS_FACTOR = 2.2
# Half of the layers in 16 bits is not relied upon: nothing is published for it.
OUTPUT_BYTES = 4

TRANSFORMER_KEYS = ("layers", "hidden_size", "heads", "sequence", "batch", "recompute")
VISION_KEYS = ("batch", "outputs_per_sample", *size_keys("per_sample"))
ACTIVATION_KEYS = (*TRANSFORMER_KEYS, *VISION_KEYS[1:])


def activations(data: Mapping[str, Any], precision: str) -> Figure:
    """Activations on one GPU, in bytes.

    Of a transformer by its shape; of any other model, such as one for images, by what one sample
    takes (``per_sample_*``), or by the numbers that its layers put out for one.
    """
    known_keys(data, ACTIVATION_KEYS)
    measured = bool(sizes_given(data, "per_sample"))
    if not measured and data.get("outputs_per_sample") is None:
        return _of_transformer(data, precision)
    for key in TRANSFORMER_KEYS:
        if key != "batch" and data.get(key) is not None:
            raise ShapeError(
                "is of a transformer; leave it out beside per_sample_* or outputs_per_sample", key
            )
    batch = field(data, "batch", fields.up_to(10**7))
    if not measured:
        outputs = field(data, "outputs_per_sample", fields.above_zero)
        size = batch * outputs * OUTPUT_BYTES * OUTPUTS_FACTOR
        formula = f"{batch} x {told(outputs)} x {OUTPUT_BYTES} bytes x {OUTPUTS_FACTOR:g}"
        return figure("activations", formula, math.ceil(size), "bytes", OUTPUTS_SOURCE)
    if data.get("outputs_per_sample") is not None:
        raise ShapeError("gives per_sample and outputs_per_sample; give one of them")
    each_one = fields.size(data, "per_sample")
    formula = f"{batch} x {told(each_one)}"
    return figure("activations", formula, math.ceil(batch * each_one), "bytes", MEASURED_SOURCE)


def _of_transformer(data: Mapping[str, Any], precision: str) -> Figure:
    """Activations of a transformer in 16 bits, doubled for 32, on one GPU, in bytes.

    Sequence s, batch b, hidden size h, heads a, for each layer: s b h (34 + 5 a s / h); with the
    attention recomputed 34 s b h; with everything recomputed 2 s b h, and one whole layer.
    """
    layers = field(data, "layers", fields.up_to(100_000))
    h = field(data, "hidden_size", fields.up_to(10**7))
    a = field(data, "heads", fields.up_to(100_000))
    s = field(data, "sequence", fields.up_to(10**9))
    b = field(data, "batch", fields.up_to(10**7))
    way = optional(data, "recompute", fields.choice("none", "selective", "full"), "none")
    whole = s * b * h * (34 + 5 * a * s / h)
    if way == "none":
        size = layers * whole
        formula = f"{layers} layers x {s} x {b} x {h} x (34 + 5 x {a} x {s} / {h})"
    elif way == "selective":
        size = layers * 34.0 * s * b * h
        formula = f"{layers} layers x 34 x {s} x {b} x {h}"
    else:
        size = layers * 2.0 * s * b * h + whole
        formula = f"{layers} layers x 2 x {s} x {b} x {h} + {told(whole)} of one layer"
    if precision == "fp32":
        size, formula = 2 * size, f"2 x ({formula})"
    return figure("activations", formula, math.ceil(size), "bytes", TRANSFORMER_SOURCE)
