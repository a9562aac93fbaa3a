# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory of models: weights, key-value cache, training states and activations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..._findings.shape import ShapeError, each, field, known_keys, mapping, optional
from ..quantities import size_keys, switch
from . import fields
from .activations import activations
from .answer import Estimate, Figure, Need, figure, in_mib, told
from .cache import cache_and_size
from .formats import GROUP_SIZE, Format, in_groups, stored, whole_parameters
from .model_files import Files, read_weights
from .weights import Weights

WEIGHTS_SOURCE = "parameters x bytes of the type; as accelerate estimate-memory (Hugging Face) does"
FILE_SOURCE = "shapes and types in the file (safetensors or ONNX format)"
# A rule of thumb, for buffers and fragmentation; the user may set it.
OVERHEAD_PERCENT = 20.0
OVERHEAD_SOURCE = (
    "EleutherAI, Transformer Math 101: inference takes about 1.2 times the model's memory"
)
STORED_SOURCE = (
    "bits of the format as it is stored, scales included; embeddings and head in 16 bits, at most"
    " 2 x 152,064 x (128 / 12 x parameters)^(1/3) of them if unquantised_parameters is not given"
)
PARALLEL_SOURCE = "Shoeybi et al. 2019, Megatron-LM: weights and caches split evenly over the GPUs"
ZERO_SOURCE = "Rajbhandari et al. 2020, ZeRO, section 3.1 and figure 1"
TRANSFORMERS_SOURCE = (
    "Hugging Face, Model training anatomy: AdamW keeps 8 bytes a parameter, gradients 4, weights"
    " 4 (fp32) or 6 (mixed precision)"
)
DEEPSPEED_SOURCE = "DeepSpeed documentation, Memory Requirements"
LORA_SOURCE = "Hu et al. 2021, LoRA, section 4.1: two matrices of the rank for each adapted one"
# DeepSpeed's factor for buffers in the host's memory.
HOST_FACTOR = 1.5

MODEL_KEYS = (
    *("parameters", "dtype", "files", "device", "overhead_percent", "kv_cache"),
    *("gpus", "cpu_cores", "replicas", "group_size", "unquantised_parameters"),
    *size_keys("buffers"),
)
TRAINING_KEYS = (
    *("parameters", "largest_layer_parameters", "gpus", "gpus_per_host", "zero_stage", "offload"),
    *("zero_init", "lora", "activations", "cpu_cores", "precision"),
)
LORA_KEYS = ("trainable_parameters", "rank", "matrices", "base_dtype")


def model(name: str, data: Mapping[str, Any], files: Files) -> Estimate:
    """Memory of a model's weights, in bytes, and what serving one copy of it takes.

    weights = parameters x bits / 8 + buffers, or as the model's files say. Serving adds
    ``overhead_percent`` for the runtime (20 by default: Transformer Math 101) and the key-value
    cache, if one is described. Of several ``gpus`` each holds the same share (tensor parallel);
    of the cache no less than one KV head.

    Formats of less than 16 bits are counted as they are stored: with their scales, and with
    ``unquantised_parameters`` (embeddings and head) in 16 bits. Where a plain ``int4``, ``int8``
    or ``fp8`` is said, ``weights`` is what others count, and serving takes what is stored.
    """
    known_keys(data, MODEL_KEYS)
    parts = _weights_asked(data, files)
    # What is stored, where that is more than what others count.
    largest = max(part.value for part in parts)
    percent = optional(data, "overhead_percent", fields.within(0, 1000), OVERHEAD_PERCENT)
    gpus = optional(data, "gpus", fields.up_to(1024), 1)
    total = largest * (1 + percent / 100)
    sums = f"{told(largest)} x (1 + {percent:g} / 100)"
    if data.get("kv_cache") is not None:
        cache, size = field(data, "kv_cache", lambda value: _cache(mapping(value), gpus))
        parts.extend(cache.figures)
        total += size
        sums += f" + {told(size)}"
    parts.append(figure("serving", sums, math.ceil(total), "bytes", OVERHEAD_SOURCE))
    on_gpu = optional(data, "device", fields.choice("gpu", "cpu"), "gpu") == "gpu"
    if gpus > 1 and not on_gpu:
        raise ShapeError("needs device: gpu", "gpus")
    if gpus > 1:
        formula = f"{told(math.ceil(total))} / {gpus} GPUs"
        parts.append(figure("each_gpu", formula, math.ceil(total / gpus), "bytes", PARALLEL_SOURCE))
    need = Need(
        cpu_cores=optional(data, "cpu_cores", fields.cores, 0.0),
        memory_mib=0 if on_gpu else in_mib(total),
        gpu_memory_mib=in_mib(total / gpus) if on_gpu else 0,
        gpu_count=gpus if on_gpu else 0,
        replicas=optional(data, "replicas", fields.up_to(10**6), 1),
    )
    notes = [
        "Memory of activations is within the overhead; long inputs and large batches need more."
    ]
    if gpus > 1:
        notes.append(
            f"Each of the {gpus} GPUs needs {need.gpu_memory_mib} MiB: name the models that have"
            " it under gpu.models of the workload."
        )
    return Estimate(name, "model", tuple(parts), need, tuple(notes))


def _cache(data: Mapping[str, Any], gpus: int) -> tuple[Estimate, float]:
    if data.get("gpus") is not None:
        raise ShapeError("is said by the gpus of the model", "gpus")
    return cache_and_size("", {**data, "gpus": gpus})


def _weights_asked(data: Mapping[str, Any], files: Files) -> list[Figure]:
    """The weights as they are counted, and as they are stored where that differs."""
    buffers = fields.size(data, "buffers", 0.0)
    form = Format(*optional(data, "dtype", fields.bits, ("", 0.0)))
    if data.get("files") is not None:
        if data.get("parameters") is not None:
            raise ShapeError("gives parameters and files; give one of them")
        read = field(data, "files", lambda value: read_weights(fields.texts(value), files))
        if not form.name:
            return [_weights_of_files(read, buffers)]
        parameters = read.parameters
    else:
        if data.get("parameters") is None:
            raise ShapeError("must have parameters and dtype, or files")
        form = Format(*field(data, "dtype", fields.bits))
        parameters = field(data, "parameters", fields.count)
    form = in_groups(form, optional(data, "group_size", fields.up_to(100_000, 8), GROUP_SIZE))
    most = float(whole_parameters(parameters))
    whole = optional(data, "unquantised_parameters", fields.amount, most)
    if whole > parameters:
        raise ShapeError(
            f"must be at most the parameters ({told(parameters)}), but is {told(whole)}",
            "unquantised_parameters",
        )
    added = f" + {told(buffers)} of buffers" if buffers else ""
    size, formula = stored(parameters, form, math.ceil(whole))
    kept = figure("weights", formula + added, size + buffers, "bytes", STORED_SOURCE)
    if not form.counted:
        return [kept if form.partial else replace(kept, source=WEIGHTS_SOURCE)]
    plain = f"{told(parameters)} parameters x {told(form.bits / 8)} bytes ({form.name}){added}"
    size = math.ceil(parameters * form.bits / 8) + buffers
    counted = figure("weights", plain, size, "bytes", WEIGHTS_SOURCE)
    return [counted, replace(kept, name="stored")]


def _weights_of_files(read: Weights, buffers: float) -> Figure:
    by_type = " + ".join(f"{told(size)} ({kind})" for kind, size in read.by_type)
    added = f" + {told(buffers)} of buffers" if buffers else ""
    return figure(
        "weights",
        f"{told(read.parameters)} parameters in {told(read.tensors)} tensors: {by_type}{added}",
        read.size + buffers,
        "bytes",
        FILE_SOURCE,
    )


# -- training -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Setup:
    """How a model is trained. ``largest`` are the parameters of its largest layer."""

    parameters: float
    largest: float
    gpus: int
    per_host: int
    stage: int
    offload: str
    early_split: bool
    kept: _Kept


@dataclass(frozen=True)
class _Kept:
    """Bytes of a parameter by what they are, and who says so."""

    weights: int
    gradients: int
    optimizer: int
    source: str

    @property
    def whole(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.optimizer


PRECISIONS = {
    # 16 bits for work; weights, momentum and variance in 32 bits belong to the optimizer.
    "mixed": _Kept(2, 2, 12, ZERO_SOURCE),
    # What torch.autocast keeps: weights in 32 and 16 bits, gradients in 32.
    "amp": _Kept(6, 4, 8, TRANSFORMERS_SOURCE),
    "fp32": _Kept(4, 4, 8, TRANSFORMERS_SOURCE),
}


def training(name: str, data: Mapping[str, Any]) -> Estimate:
    """Memory that training takes of each GPU and each host, in bytes.

    Mixed precision with Adam keeps 16 bytes for each parameter P: weights and gradients in 16 bits
    (2 + 2), and weights, momentum and variance in 32 bits (4 + 4 + 4) (ZeRO, 3.1). On N GPUs:

    - stage 0: 16 P on each;
    - stage 1: 4 P + 12 P / N (ZeRO, figure 1);
    - stage 2: 4 P + 16 P / N; with the optimizer on the host 2 P (DeepSpeed);
    - stage 3: 4 L + 18 P / N, L the largest layer; 4 L + 2 P / N with the optimizer, 4 L with
      everything on the host (DeepSpeed).

    A host with n of the N GPUs keeps, times 1.5 for buffers (DeepSpeed): 4 n P to begin with; with
    offload max(4 n, 16 [18 with the weights] n / N) P at stage 3, max(4 n, 16) P before; at stage
    3 with ``zero_init`` the 4 n P fall away.

    With ``precision: amp`` (torch.autocast) it is 18 bytes: weights 6, gradients 4, optimizer 8;
    with ``fp32`` 16: 4, 4 and 8. Stage 1 splits the optimizer, 2 the gradients, 3 the weights too.

    LoRA trains its T parameters so, and adds the frozen weights in their own type: whole, at stage
    3 one part of N and the largest layer.
    """
    known_keys(data, TRAINING_KEYS)
    parameters = field(data, "parameters", fields.count)
    gpus = optional(data, "gpus", fields.up_to(100_000), 1)
    per_host = optional(data, "gpus_per_host", fields.up_to(1024), min(gpus, 8))
    if per_host > gpus:
        raise ShapeError(f"must be at most gpus ({gpus}), but is {per_host}", "gpus_per_host")
    stage = optional(data, "zero_stage", fields.up_to(3, 0), 0)
    offload = optional(data, "offload", fields.choice("none", "optimizer", "all"), "none")
    if offload != "none" and stage == 0:
        raise ShapeError(f"is {offload}, which needs zero_stage 1, 2 or 3", "offload")
    if offload == "all" and stage < 3:
        raise ShapeError(f"is all, which needs zero_stage 3, not {stage}", "offload")
    if stage == 3:
        largest = field(data, "largest_layer_parameters", fields.count)
    else:
        largest = optional(data, "largest_layer_parameters", fields.count, 0)
    if largest > parameters:
        raise ShapeError(
            f"must be at most parameters ({parameters}), but is {largest}",
            "largest_layer_parameters",
        )
    early = optional(data, "zero_init", switch, False)
    precision = optional(data, "precision", fields.choice(*PRECISIONS), "mixed")
    if offload != "none" and precision != "mixed":
        raise ShapeError(f"is {offload}, which needs precision: mixed, not {precision}", "offload")
    kept = PRECISIONS[precision]
    setup = _Setup(parameters, largest, gpus, per_host, stage, offload, early, kept)
    if data.get("lora") is not None:
        trained, frozen = field(data, "lora", lambda value: _lora(mapping(value), setup))
        setup = replace(setup, parameters=trained.value, largest=0)
        parts = [_states(setup), frozen, trained]
        added = [frozen]
    else:
        parts = [_states(setup)]
        added = []
    if data.get("activations") is not None:
        work = field(data, "activations", lambda value: activations(mapping(value), precision))
        parts.append(work)
        added.append(work)
    host = _host_memory(setup)
    states = parts[0]
    total = states.value + sum(part.value for part in added)
    sums = " + ".join(f"{told(part.value)} ({part.name})" for part in (states, *added))
    device = (
        figure("each_gpu", sums, total, "bytes", states.source)
        if added
        else replace(parts.pop(0), name="each_gpu")
    )
    need = Need(
        cpu_cores=optional(data, "cpu_cores", fields.cores, 0.0),
        memory_mib=in_mib(host.value),
        gpu_memory_mib=in_mib(total),
        gpu_count=per_host,
        replicas=math.ceil(gpus / per_host),
    )
    notes = [
        f"One replica is one host with {per_host} GPUs of {need.gpu_memory_mib} MiB each: name the"
        " models that have it under gpu.models of the workload."
    ]
    if data.get("activations") is None:
        notes.append("Activations are not included; describe them under activations.")
    return Estimate(name, "training", (device, *parts, host), need, tuple(notes))


def _states(setup: _Setup) -> Figure:
    """What weights, gradients and optimizer take of each GPU."""
    if setup.kept.weights != 2:
        return _states_by_kind(setup)
    p, n = setup.parameters, setup.gpus
    layer = f"4 x {told(setup.largest)}"
    if setup.stage == 0:
        return figure("states", f"16 x {told(p)}", 16 * p, "bytes", ZERO_SOURCE)
    if setup.stage == 1:
        if setup.offload == "optimizer":
            return figure("states", f"4 x {told(p)}", 4 * p, "bytes", ZERO_SOURCE)
        formula = f"4 x {told(p)} + 12 x {told(p)} / {n}"
        return figure("states", formula, 4 * p + math.ceil(12 * p / n), "bytes", ZERO_SOURCE)
    if setup.stage == 2:
        if setup.offload == "optimizer":
            return figure("states", f"2 x {told(p)}", 2 * p, "bytes", DEEPSPEED_SOURCE)
        formula = f"4 x {told(p)} + 16 x {told(p)} / {n}"
        return figure("states", formula, 4 * p + math.ceil(16 * p / n), "bytes", DEEPSPEED_SOURCE)
    if setup.offload == "all":
        return figure("states", layer, 4 * setup.largest, "bytes", DEEPSPEED_SOURCE)
    factor = 2 if setup.offload == "optimizer" else 18
    size = 4 * setup.largest + math.ceil(factor * p / n)
    formula = f"{layer} + {factor} x {told(p)} / {n}"
    return figure("states", formula, size, "bytes", DEEPSPEED_SOURCE)


def _states_by_kind(setup: _Setup) -> Figure:
    """The same where weights, gradients and optimizer are split one after the other."""
    p, n, kept = setup.parameters, setup.gpus, setup.kept
    kinds = (kept.optimizer, kept.gradients, kept.weights)
    split = sum(kinds[: setup.stage])
    whole = kept.whole - split
    layer = (kept.weights + kept.gradients) * setup.largest if setup.stage == 3 else 0
    size = whole * p + math.ceil(split * p / n) + layer
    pieces = [f"{whole} x {told(p)}"] if whole else []
    pieces += [f"{split} x {told(p)} / {n}"] if split else []
    pieces += [f"{told(layer)} of the largest layer"] if layer else []
    return figure("states", " + ".join(pieces), size, "bytes", kept.source)


def _host_memory(setup: _Setup) -> Figure:
    """What training takes of the memory of each host."""
    p, n = setup.parameters, setup.per_host
    begin = 4 * n
    split = setup.stage == 3 and setup.early_split
    if setup.offload == "none":
        loaded = setup.largest if split else p
        formula = f"{told(loaded)} x 4 x {n} GPUs x {HOST_FACTOR}"
        size = loaded * begin * HOST_FACTOR
    else:
        kept = 18 if setup.offload == "all" else 16
        part = kept * n / setup.gpus if setup.stage == 3 else kept
        factor = part if split else max(begin, part)
        chosen = told(part) if split else f"max(4 x {n}, {told(part)})"
        formula = f"{told(p)} x {chosen} x {HOST_FACTOR}"
        size = p * factor * HOST_FACTOR
    return figure("each_host", formula, math.ceil(size), "bytes", DEEPSPEED_SOURCE)


def _lora(data: Mapping[str, Any], setup: _Setup) -> tuple[Figure, Figure]:
    """The trained parameters of LoRA, and the bytes of the frozen weights on each GPU."""
    known_keys(data, LORA_KEYS)
    word, width = optional(data, "base_dtype", fields.bits, ("bf16", 16.0))
    if data.get("trainable_parameters") is not None:
        if data.get("matrices") is not None:
            raise ShapeError("gives trainable_parameters and matrices; give one of them")
        trained = field(data, "trainable_parameters", fields.count)
        formula = "as given"
    else:
        rank = field(data, "rank", fields.up_to(1_000_000))
        rows = field(data, "matrices", lambda value: each(value, _matrix))
        if not rows:
            raise ShapeError("must not be empty", "matrices")
        trained = sum(many * rank * (inputs + outputs) for inputs, outputs, many in rows)
        formula = " + ".join(
            f"{many} x {rank} x ({inputs} + {outputs})" for inputs, outputs, many in rows
        )
    if trained > setup.parameters:
        raise ShapeError(
            f"trains {told(trained)} parameters, more than the model's {told(setup.parameters)}"
        )
    form = in_groups(Format(word, width), GROUP_SIZE)
    parameters = int(setup.parameters)
    base, told_base = stored(parameters, form, whole_parameters(parameters))
    if setup.stage == 3 and setup.offload != "all":
        layer = setup.largest * width / 8
        size = base / setup.gpus + layer
        told_base = f"{told_base} / {setup.gpus} + {told(layer)} of the largest layer"
    elif setup.stage == 3:
        size = setup.largest * width / 8
        told_base = f"{told(setup.largest)} x {told(width / 8)} bytes ({word})"
    else:
        size = base
    return (
        figure("trained", formula, trained, "parameters", LORA_SOURCE),
        figure("frozen", told_base, math.ceil(size), "bytes", LORA_SOURCE),
    )


def _matrix(value: object) -> tuple[int, int, int]:
    data = mapping(value)
    known_keys(data, ("inputs", "outputs", "count"))
    return (
        field(data, "inputs", fields.up_to(10**9)),
        field(data, "outputs", fields.up_to(10**9)),
        optional(data, "count", fields.up_to(10**6), 1),
    )
