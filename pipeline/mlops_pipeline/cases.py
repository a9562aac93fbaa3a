# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests with their expected answers, from whatever form people have them in."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .candidate import MAX_TEXT_BYTES, check_request
from .errors import PipelineError

Case = dict[str, Any]
MAX_CASES = 16
FORM = (
    'Wanted one request of the Open Inference Protocol ({"inputs": [{"name": …, "shape": …, '
    '"datatype": …, "data": …}]}), a list of them, or {"cases": [{"request": …, "expected": '
    '{"output": […]}}]}'
)


def read_json(path: Path) -> Any:
    """Read a JSON file of bounded size."""
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise PipelineError(f"The file {path} is larger than {MAX_TEXT_BYTES // 2**20} MiB.")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise PipelineError(f"The file {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"The file {path} is not JSON ({error}).") from None


def read_npz(path: Path) -> dict[str, Any]:
    """Read named arrays; objects are refused, as reading them would run code."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as stored:
            if not hasattr(stored, "files"):
                raise PipelineError(f"{path} holds one array without a name; write it by np.savez.")
            return {name: stored[name] for name in stored.files}
    except OSError as error:
        raise PipelineError(f"The file {path} cannot be read: {error}.") from None
    except (ValueError, EOFError, KeyError) as error:
        raise PipelineError(f"The file {path} does not hold plain arrays: {error}.") from None


def read_cases(path: Path, inputs: Sequence[Mapping[str, Any]]) -> list[Case]:
    """Read the cases of a file; those without an expected answer have none."""
    if path.suffix == ".npz":
        return from_arrays(read_npz(path), inputs, str(path))
    return from_json(read_json(path), str(path))


def from_json(value: Any, where: str) -> list[Case]:
    """Read requests, or cases of requests and answers."""
    if isinstance(value, Mapping):
        value = value.get("cases", value.get("requests", [value]))
    if not isinstance(value, list) or not value:
        raise PipelineError(f"{where}: there is no case. {FORM}.")
    cases: list[Case] = []
    for number, each in enumerate(value, start=1):
        place = f"{where}, case {number}"
        case = each if isinstance(each, Mapping) and "request" in each else {"request": each}
        check_request(case["request"], place)
        request = {
            "inputs": [
                {
                    "name": tensor["name"],
                    "shape": tensor["shape"],
                    "datatype": tensor["datatype"],
                    "data": flat(tensor["data"]),
                }
                for tensor in case["request"]["inputs"]
            ]
        }
        fresh: Case = {"request": request}
        if case.get("expected") is not None:
            fresh["expected"] = answer_of(case["expected"], place)
        cases.append(fresh)
    return cases


def flat(value: Any) -> list[Any]:
    """A list without the lists in it."""
    if not isinstance(value, list):
        return [value]
    found: list[Any] = []
    for each in value:
        found += flat(each) if isinstance(each, list) else [each]
    return found


def answer_of(value: Any, place: str) -> dict[str, list[Any]]:
    """Read an expected answer: values by output."""
    if not isinstance(value, Mapping) or not value:
        raise PipelineError(f"{place}: the expected answer is not {{output: list of values}}.")
    return {str(name): flat(data) for name, data in value.items()}


def from_arrays(
    arrays: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]], where: str
) -> list[Case]:
    """Make a case of each row, if the model takes rows; else one case of all."""
    wanted = {each["name"]: each for each in inputs}
    if set(arrays) != set(wanted):
        raise PipelineError(
            f"{where}: found arrays named {', '.join(sorted(arrays)) or 'nothing'}; the inputs of "
            f"the model are {', '.join(sorted(wanted))}."
        )
    for name, array in arrays.items():
        shape = wanted[name]["shape"]
        if array.ndim != len(shape):
            raise PipelineError(
                f"{where}: the array {name} has the shape {list(array.shape)}; the input has "
                f"{shape} (-1: any size)."
            )
    if not by_row(arrays, wanted):
        return [{"request": request_of(arrays, wanted)}]
    count = min(len(array) for array in arrays.values())
    if not count:
        raise PipelineError(f"{where}: there is no row in it.")
    return [
        {
            "request": request_of(
                {name: array[row : row + 1] for name, array in arrays.items()}, wanted
            )
        }
        for row in range(min(count, MAX_CASES))
    ]


def by_row(arrays: Mapping[str, Any], wanted: Mapping[str, Mapping[str, Any]]) -> bool:
    """Say whether the first axis of every array counts rows that the model takes one by one."""
    return len({len(array) for array in arrays.values() if array.ndim}) == 1 and all(
        wanted[name]["shape"] and wanted[name]["shape"][0] in (-1, 1) for name in arrays
    )


def request_of(
    arrays: Mapping[str, Any], wanted: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Write arrays as a request."""
    return {
        "inputs": [
            {
                "name": name,
                "shape": [int(size) for size in array.shape],
                "datatype": wanted[name]["datatype"],
                "data": values(array, wanted[name]["datatype"]),
            }
            for name, array in sorted(arrays.items())
        ]
    }


def values(array: Any, datatype: str) -> list[Any]:
    """The values of an array as the protocol has them for a type."""
    listed = array.ravel().tolist()
    if datatype == "BYTES":
        return [each.decode() if isinstance(each, bytes) else str(each) for each in listed]
    if datatype == "BOOL":
        return [bool(each) for each in listed]
    if datatype.startswith(("INT", "UINT")):
        return [int(each) for each in listed]
    import numpy as np

    kinds = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}
    return [float(each) for each in array.ravel().astype(kinds.get(datatype, np.float64)).tolist()]


def read_expected(path: Path, cases: Sequence[Case]) -> list[Case]:
    """Add the expected answers of a file to cases."""
    if path.suffix == ".npz":
        arrays = read_npz(path)
        short = [name for name, array in arrays.items() if len(cases) > 1 > array.ndim]
        short += [n for n, a in arrays.items() if len(cases) > 1 and a.ndim and len(a) < len(cases)]
        if not arrays or short:
            raise PipelineError(
                f"{path}: wanted an answer for each of {len(cases)} cases; missing in "
                f"{', '.join(short) or 'all'}."
            )
        answers: Any = [
            {
                name: flat((array[row] if len(cases) > 1 else array).ravel().tolist())
                for name, array in arrays.items()
            }
            for row in range(len(cases))
        ]
    else:
        answers = read_json(path)
        if isinstance(answers, Mapping):
            answers = answers.get("answers", answers.get("cases", [answers]))
        if not isinstance(answers, list) or len(answers) != len(cases):
            found = len(answers) if isinstance(answers, list) else "no list of"
            raise PipelineError(f"{path}: found {found} answers, wanted {len(cases)}, one a case.")
        answers = [
            each["expected"] if isinstance(each, Mapping) and "expected" in each else each
            for each in answers
        ]
    return [
        {**case, "expected": answer_of(answer, f"{path}, case {number}")}
        for number, (case, answer) in enumerate(zip(cases, answers, strict=True), start=1)
    ]


def writable(answer: Mapping[str, Sequence[Any]], number: int) -> dict[str, list[Any]]:
    """An answer that JSON can hold: null stands for what is no number; infinity has no form."""
    found: dict[str, list[Any]] = {}
    for name, data in answer.items():
        if any(isinstance(each, float) and math.isinf(each) for each in data):
            raise PipelineError(
                f"Case {number}: the model answers infinity in {name}, which JSON cannot carry; "
                "give another case."
            )
        found[name] = [
            None if isinstance(each, float) and math.isnan(each) else each for each in data
        ]
    return found


def from_example(value: Any, inputs: Sequence[Mapping[str, Any]], where: str) -> list[Case]:
    """Make cases of the input example that MLflow has logged with a model."""
    import numpy as np

    if isinstance(value, Mapping):
        value = value.get("dataframe_split", value.get("inputs", value))
    try:
        if isinstance(value, Mapping) and "data" in value and "columns" in value:
            names = [str(each) for each in value["columns"]]
            columns = dict(zip(names, zip(*value["data"], strict=True), strict=True))
            if {each["name"] for each in inputs} == set(names):
                value = {name: [[each] for each in column] for name, column in columns.items()}
            else:
                value = value["data"]
        if not isinstance(value, Mapping):
            if len(inputs) != 1:
                raise PipelineError(
                    f"{where}: one array for a model of {len(inputs)} inputs; give the cases "
                    "yourself (--cases)."
                )
            value = {inputs[0]["name"]: value}
        arrays = {str(name): np.asarray(data) for name, data in value.items()}
    except (ValueError, TypeError):
        raise PipelineError(
            f"{where}: the logged input example has no form that is understood here; give the "
            "cases yourself (--cases)."
        ) from None
    return from_arrays(arrays, inputs, where)
