# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model file in ONNX Runtime: what it takes, what it gives, and whether it gives what it should.

The model server and the pipeline use this same file, so that what the pipeline has accepted is
served. It needs numpy and ONNX Runtime and nothing of the server.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# ONNX Runtime reports what it runs to its maker unless told not to before it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

MODEL_FILE = "model.onnx"
BYTES = "BYTES"
CPU = "CPUExecutionProvider"
LONGEST_NAME = 256
KINDS: dict[str, tuple[str, Any]] = {
    "tensor(float16)": ("FP16", np.float16),
    "tensor(float)": ("FP32", np.float32),
    "tensor(double)": ("FP64", np.float64),
    "tensor(int8)": ("INT8", np.int8),
    "tensor(int16)": ("INT16", np.int16),
    "tensor(int32)": ("INT32", np.int32),
    "tensor(int64)": ("INT64", np.int64),
    "tensor(uint8)": ("UINT8", np.uint8),
    "tensor(uint16)": ("UINT16", np.uint16),
    "tensor(uint32)": ("UINT32", np.uint32),
    "tensor(uint64)": ("UINT64", np.uint64),
    "tensor(bool)": ("BOOL", np.bool_),
    "tensor(string)": (BYTES, np.object_),
}
"""What ONNX Runtime calls a type, what the Open Inference Protocol calls it, and numpy."""

DTYPES: dict[str, Any] = dict(KINDS.values())


class EngineError(Exception):
    """The model cannot be served; the message is a sentence for people."""


class DataError(ValueError):
    """A request does not fit the model; the message is a sentence for people."""


@dataclass(frozen=True)
class Tensor:
    """One input or output of a model."""

    name: str
    datatype: str
    dims: tuple[int | str, ...]
    """A number, or the name of a size that the request decides (empty where it has no name)."""

    @property
    def shape(self) -> list[int]:
        """The shape as the protocol writes it: -1 for a size that the request decides."""
        return [size if isinstance(size, int) else -1 for size in self.dims]

    @property
    def dtype(self) -> Any:
        """What numpy calls the type."""
        return DTYPES[self.datatype]


def _why_not(kind: str) -> str:
    if kind.startswith(("seq(map(", "map(")):
        return "a map, for which the protocol has no type; for scikit-learn export with zipmap off"
    if kind.startswith("seq("):
        return "a sequence, for which the protocol has no type; export the model with plain tensors"
    if "bfloat16" in kind:
        return "bfloat16, which clients cannot send; end the model in a Cast to float32"
    return "none of the protocol's types; export the model with plain tensors"


def describe(name: str, kind: str, shape: Sequence[Any]) -> Tensor:
    """Translate what ONNX Runtime says of an input or output, or say why it cannot be served."""
    if len(name) > LONGEST_NAME or not name.isprintable():
        shown = "".join(each if each.isprintable() else "?" for each in name[:40])
        raise EngineError(
            f"The name of the tensor {shown} has {len(name)} characters, wanted at most "
            f"{LONGEST_NAME} that can be printed; export the model with plain names."
        )
    if kind not in KINDS:
        raise EngineError(
            f"The tensor {name} is a {kind}, which this server does not serve: {_why_not(kind)}."
        )
    dims = tuple(size if isinstance(size, int) else str(size or "") for size in shape)
    return Tensor(name, KINDS[kind][0], dims)


def text_of(value: Any, name: str) -> str:
    """Read one string of a tensor."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise DataError(f"A string of {name} is not UTF-8, which ONNX wants.") from None
    raise DataError(f"The tensor {name} is BYTES, found {type(value).__name__}, wanted strings.")


def _strings(data: Any, name: str) -> Any:
    flat = np.asarray(data, dtype=np.object_).ravel()
    texts = np.empty(flat.size, dtype=np.object_)
    for number, value in enumerate(flat):
        texts[number] = text_of(value, name)
    return texts


# Which kinds of numbers in a request may stand for a type: nothing is rounded or read as a number
# behind the client's back.
_ACCEPTED = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}


def _numbers(data: Any, tensor: Tensor) -> Any:
    wanted = np.dtype(tensor.dtype)
    found = np.asarray(data)
    if found.dtype == np.object_ and wanted.kind == "f":
        # JSON has no NaN; null stands for it, here and in answers.
        found = np.asarray(data, dtype=wanted)
    elif found.dtype.kind == "f" and wanted == np.uint64:
        # numpy makes fractions of small and very large whole numbers that stand together.
        exact = np.asarray(data, dtype=np.object_)
        if all(isinstance(value, int) and not isinstance(value, bool) for value in exact.ravel()):
            found = exact.astype(wanted)
    if found.size and found.dtype.kind not in _ACCEPTED[wanted.kind]:
        raise DataError(
            f"The tensor {tensor.name} is {tensor.datatype}; the data are not, or not all of them."
        )
    if found.size and wanted.kind in "iu":
        limits = np.iinfo(wanted)
        if int(found.min()) < limits.min or int(found.max()) > limits.max:
            raise DataError(
                f"The tensor {tensor.name} is {tensor.datatype}; "
                "the data hold a number that it cannot hold."
            )
    with np.errstate(over="ignore"):
        return found.astype(wanted)


def array(tensor: Tensor, data: Any, shape: Any) -> Any:
    """Make an array of what a request holds: lists, flat or nested, or an array of the type."""
    if not isinstance(shape, list | tuple) or not all(
        isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in shape
    ):
        raise DataError(f"The shape of {tensor.name} is not a list of whole numbers from 0.")
    try:
        values = _strings(data, tensor.name) if tensor.datatype == BYTES else _numbers(data, tensor)
        return values.reshape(shape)
    except DataError:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(
            f"The data of {tensor.name} do not fit its shape {list(shape)}: {error}."
        ) from None


def listed(values: Any) -> list[Any]:
    """Write an array as golden answers and JSON have it: flat, strings as text."""
    flat: list[Any] = np.asarray(values).ravel().tolist()
    return [value.decode() if isinstance(value, bytes) else value for value in flat]


class Engine:
    """A model that has been loaded."""

    def __init__(
        self,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        compute: Callable[[list[str], dict[str, Any]], list[Any]],
    ) -> None:
        self.inputs = {tensor.name: tensor for tensor in inputs}
        self.outputs = {tensor.name: tensor for tensor in outputs}
        self._compute = compute

    def input(self, name: str) -> Tensor:
        """Find an input by its name."""
        if name not in self.inputs:
            raise DataError(
                f"The model has no input {name!r}; it has {', '.join(sorted(self.inputs))}."
            )
        return self.inputs[name]

    def array(self, name: str, datatype: str, data: Any, shape: Any) -> Any:
        """Make the array of one input of a request."""
        tensor = self.input(name)
        if datatype != tensor.datatype:
            raise DataError(f"The input {name} is {tensor.datatype}, the request says {datatype}.")
        return array(tensor, data, shape)

    def check(self, feed: Mapping[str, Any]) -> None:
        """Compare what is given with what the model takes."""
        named: dict[str, int] = {}
        for name, values in feed.items():
            tensor = self.input(name)
            # A model may leave a shape out; then ONNX Runtime says none and compares itself.
            fits = not tensor.dims or len(tensor.dims) == values.ndim
            for size, found in zip(tensor.dims, values.shape, strict=False):
                fits = fits and (not isinstance(size, int) or size == found)
                if isinstance(size, str) and size and named.setdefault(size, found) != found:
                    raise DataError(
                        f"The size {size} is {named[size]} in one input and {found} in {name}."
                    )
            if not fits:
                raise DataError(
                    f"The input {name} has the shape {tensor.shape}, "
                    f"the request has {list(values.shape)}."
                )
        missing = sorted(set(self.inputs) - set(feed))
        if missing:
            raise DataError(f"The request lacks the input {', '.join(missing)}.")

    def run(self, feed: Mapping[str, Any], names: Sequence[str] = ()) -> list[Any]:
        """Compute outputs, all of them if none is named."""
        unknown = sorted(set(names) - set(self.outputs))
        if unknown:
            raise DataError(
                f"The model has no output {', '.join(unknown)}; it has {', '.join(self.outputs)}."
            )
        self.check(feed)
        return [np.asarray(found) for found in self._compute([*names] or [*self.outputs], {**feed})]


def _short(error: Exception) -> str:
    """The first line of an error of ONNX Runtime, which can be thousands of characters long."""
    text = next(iter(str(error).strip().splitlines()), type(error).__name__)
    # It quotes names of the model, which may be made to confuse whoever reads it.
    text = "".join(each if each.isprintable() else "?" for each in text)
    return text if len(text) <= 400 else text[:400] + "…"


def load(directory: Path, threads: int = 1, provider: str = CPU) -> Engine:
    """Load the model of a release as devices do, or on what else computes it (``provider``)."""
    # What needs no model, the comparison of answers, works without ONNX Runtime.
    import onnxruntime  # noqa: PLC0415
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # The arena keeps the peak of the largest request for ever; on a device memory is dearer
    # than the microseconds it saves.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    path = directory / MODEL_FILE
    there = onnxruntime.get_available_providers()
    if provider not in there:
        raise EngineError(
            f"ONNX Runtime has no {provider} here, it has {', '.join(there)}; install the "
            "environment that has it (workloads_environments), or correct execution_provider."
        )
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=list(dict.fromkeys([provider, CPU]))
        )
    except Exception as error:  # onnxruntime raises its own unrelated types
        raise EngineError(f"ONNX Runtime cannot load {path}: {_short(error)}") from error
    if provider != CPU and session.get_providers()[0] != provider:
        # It says so in a warning only, and computes everything slowly.
        raise EngineError(
            f"ONNX Runtime could not use {provider} and took {session.get_providers()[0]}; see "
            "whether driver and libraries of the GPU are there."
        )

    quiet = onnxruntime.RunOptions()
    quiet.log_severity_level = 4

    def compute(names: list[str], feed: dict[str, Any]) -> list[Any]:
        try:
            answers: list[Any] = session.run(names, feed, quiet)
        except InvalidArgument as error:
            raise DataError(f"The model does not take the request: {_short(error)}") from None
        except Exception as error:  # onnxruntime raises its own unrelated types
            raise EngineError(f"The model failed: {_short(error)}") from error
        return answers

    return Engine(
        [describe(entry.name, entry.type, entry.shape) for entry in session.get_inputs()],
        [describe(entry.name, entry.type, entry.shape) for entry in session.get_outputs()],
        compute,
    )


def gap(found: Any, wanted: Sequence[Any] | Any) -> float:
    """Say how far an answer is from the one expected: 0 if equal, infinite if not comparable.

    Numbers with a fraction: the difference, divided by the expected number where that is above 1.
    Whole numbers, truth values and strings are equal or infinitely far away.
    """
    flat = np.asarray(found).ravel()
    expected = np.asarray(wanted, dtype=np.object_).ravel()
    if flat.size != expected.size:
        return float("inf")
    if flat.dtype.kind != "f":
        return 0.0 if listed(flat) == listed(expected) else float("inf")
    numbers = expected.astype(np.float64)
    values = flat.astype(np.float64)
    same = (values == numbers) | (np.isnan(values) & np.isnan(numbers))
    with np.errstate(invalid="ignore"):
        gaps = np.abs(values - numbers) / np.maximum(1.0, np.abs(numbers))
    gaps = np.where(same, 0.0, np.where(np.isnan(gaps), np.inf, gaps))
    return float(gaps.max()) if gaps.size else 0.0


def feed_of(engine: Engine, request: Mapping[str, Any]) -> dict[str, Any]:
    """Make arrays of a request in the protocol's JSON form, as golden cases hold it."""
    return {
        tensor["name"]: engine.array(
            tensor["name"],
            tensor.get("datatype", engine.input(tensor["name"]).datatype),
            tensor["data"],
            tensor["shape"],
        )
        for tensor in request["inputs"]
    }


def golden_gaps(engine: Engine, golden: Mapping[str, Any]) -> list[dict[str, float]]:
    """Compute every golden case; for each, how far each output is from the expected one."""
    cases = golden.get("cases")
    if not isinstance(cases, list) or not cases:
        raise EngineError("The golden answers hold no case.")
    gaps = []
    for number, case in enumerate(cases, start=1):
        try:
            names = list(case["expected"])
            answers = engine.run(feed_of(engine, case["request"]), names)
            gaps.append(
                {
                    name: gap(found, case["expected"][name])
                    for name, found in zip(names, answers, strict=True)
                }
            )
        except (DataError, EngineError) as error:
            raise EngineError(f"Golden case {number}: {error}") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EngineError(
                f"Golden case {number} cannot be read: {type(error).__name__}: {error}."
            ) from None
    return gaps


def check_golden(engine: Engine, golden: Mapping[str, Any], tolerance: float) -> int:
    """Compare with the answers expected; say how many cases agree, or which one does not."""
    gaps = golden_gaps(engine, golden)
    for number, case in enumerate(gaps, start=1):
        for name, far in case.items():
            if not far <= tolerance:
                how = "differs" if far == float("inf") else f"differs by {far:.3g}"
                raise EngineError(
                    f"Golden case {number}: the answer {how} from the one expected in {name}; "
                    f"at most {tolerance:g} is accepted."
                )
    return len(gaps)
