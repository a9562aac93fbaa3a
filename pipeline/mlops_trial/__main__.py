# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load a model with the code of the model server, in a process that has nothing to lose.

Started by ``mlops_pipeline.trial`` as ``python -I pipeline/mlops_trial``: an order in JSON comes on
standard input, the answer goes to standard output: one line of JSON and, for predictions, arrays
in numpy's own format after it.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import sandbox

LATENCY_SECONDS = 2.0
PROFILE_BATCH = 512


def peak_mib() -> float:
    """Largest resident memory of this process so far; what getrusage says is our parent's too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def tensors(entries: Any) -> list[dict[str, Any]]:
    """Inputs or outputs as the protocol describes them."""
    return [
        {"name": each.name, "datatype": each.datatype, "shape": each.shape}
        for each in entries.values()
    ]


def largest(gaps: list[dict[str, float]]) -> dict[str, float]:
    """The largest gap of each output over all cases."""
    found: dict[str, float] = {}
    for case in gaps:
        for name, gap in case.items():
            found[name] = max(found.get(name, 0.0), gap)
    return found


def latencies(engine: Any, feed: Any, names: list[str], most: int) -> list[float]:
    """Milliseconds of one request after another."""
    spent: list[float] = []
    end = time.perf_counter() + LATENCY_SECONDS
    while len(spent) < most and (not spent or time.perf_counter() < end):
        started = time.perf_counter()
        engine.run(feed, names)
        spent.append((time.perf_counter() - started) * 1000)
    return sorted(spent)


def rows_of(engine: Any, np: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Rows that lie in a file, in the types of the model."""
    with np.load(order["rows"], allow_pickle=False) as stored:
        feed = {name: stored[name] for name in stored.files}
    for name, value in feed.items():
        if name in engine.inputs:
            feed[name] = value.astype(engine.inputs[name].dtype)
    return feed


def predict(
    engine: Any, np: Any, order: dict[str, Any], feed: dict[str, Any], step: int
) -> dict[str, Any]:
    """Answers to rows, as arrays."""
    names = order.get("outputs") or [*engine.outputs]
    count = max((len(value) for value in feed.values()), default=0)
    parts = [
        engine.run({name: value[at : at + (step or count)] for name, value in feed.items()}, names)
        for at in range(0, count, step or max(count, 1))
    ]
    joined = {
        name: np.concatenate([np.asarray(part[number]) for part in parts])
        for number, name in enumerate(names)
    }
    return {
        name: value.astype(str) if value.dtype == object else value
        for name, value in joined.items()
    }


def work(
    order: dict[str, Any], engines: Any, profiles: Any, np: Any
) -> tuple[dict[str, Any], bytes]:
    """Do what the order says; the first thing that fails ends it with its sentence."""
    folder = Path(order["folder"])
    answer: dict[str, Any] = {"ok": False}
    arrays = b""
    rest = peak_mib()
    try:
        started = time.perf_counter()
        engine = engines.load(folder, int(order["threads"]))
        answer["load_seconds"] = round(time.perf_counter() - started, 3)
        answer["inputs"], answer["outputs"] = tensors(engine.inputs), tensors(engine.outputs)
        names = [*engine.outputs]
        answer["answers"] = []
        for number, request in enumerate(order.get("requests") or (), start=1):
            try:
                feed = engines.feed_of(engine, request)
                values = engine.run(feed, names)
            except MemoryError:
                raise
            except Exception as error:  # ONNX Runtime raises its own unrelated types
                raise engines.EngineError(f"Request {number}: {error}") from None
            answer["answers"].append(
                {name: engines.listed(value) for name, value in zip(names, values, strict=True)}
            )
        golden = order.get("golden")
        if golden:
            answer["gaps"] = largest(engines.golden_gaps(engine, golden))
            engines.check_golden(engine, golden, order["tolerance"])
            answer["profile_use"] = check_profile(engine, profiles, folder)
        first = (golden or {}).get("cases") or [
            {"request": each} for each in order.get("requests") or ()
        ]
        if first and order["latency"]:
            feed = engines.feed_of(engine, first[0]["request"])
            spent = latencies(engine, feed, names, int(order["latency"]))
            answer["latency_ms"] = {
                "p50": round(spent[len(spent) // 2], 3),
                "p95": round(spent[min(len(spent) - 1, int(len(spent) * 0.95))], 3),
                "requests": len(spent),
            }
        if order.get("rows"):
            feed = rows_of(engine, np, order)
            if order.get("profile") is not None:
                answer["profile"] = profile_of(engine, np, profiles, order, feed)
            else:
                stream = io.BytesIO()
                found = predict(engine, np, order, feed, int(order.get("batch") or 0))
                np.savez(stream, **found)
                arrays = stream.getvalue()
        answer["ok"] = True
    except MemoryError:
        answer["failure"] = out_of_memory(order)
    except Exception as error:  # ONNX Runtime raises its own unrelated types
        text = " ".join(str(error).split())[:1500]
        grown = any(word in text for word in ("bad_alloc", "Failed to allocate", "bad allocation"))
        answer["failure"] = out_of_memory(order) if grown else text or type(error).__name__
    answer["peak_mib"] = round(peak_mib() - rest, 1)
    answer["process_mib"] = round(peak_mib(), 1)
    return answer, arrays


def profile_of(
    engine: Any, np: Any, profiles: Any, order: dict[str, Any], feed: dict[str, Any]
) -> dict[str, Any]:
    """The reference profile of rows and of the model's answers to them."""
    lacking = sorted(set(engine.inputs) - set(feed))
    unknown = sorted(set(feed) - set(engine.inputs))
    if lacking or unknown:
        raise profiles.ProfileError(
            f"The reference has no rows of {', '.join(lacking) or 'nothing'} and rows of "
            f"{', '.join(unknown) or 'nothing'} that the model does not take; wanted one array "
            f"for each of {', '.join(engine.inputs)}."
        )
    # A model that takes so many rows at a time, and no others.
    fixed = [each.dims[0] for each in engine.inputs.values() if each.dims]
    step = next((size for size in fixed if isinstance(size, int)), PROFILE_BATCH)
    ordered = {name: feed[name] for name in engine.inputs}
    most = min(len(value) for value in ordered.values()) // max(step, 1) * max(step, 1)
    if step != PROFILE_BATCH:
        ordered = {name: value[:most] for name, value in ordered.items()}
    answers = predict(engine, np, order, ordered, step)
    told = order["profile"]
    wanted = profiles.Wanted(told["names"], told["declared"])
    made = profiles.build(ordered, answers, wanted).to_json()
    if profiles.parse(json.loads(json.dumps(made))) is None:
        raise profiles.ProfileError("The profile that was made cannot be read again.")
    found: dict[str, Any] = made
    return found


def check_profile(engine: Any, profiles: Any, folder: Path) -> str:
    """What the server will do with the profile of a release; a sentence where it fits nothing."""
    found = profiles.read(folder)
    if found is None:
        return "other" if (folder / profiles.FILE).exists() else "none"
    lacking = sorted({column.tensor for column in found.features} - set(engine.inputs))
    if lacking:
        raise profiles.ProfileError(
            f"The reference profile speaks of the input {', '.join(lacking)}, the model has "
            f"{', '.join(engine.inputs)}; make it of this model."
        )
    return "watched"


def out_of_memory(order: dict[str, Any]) -> str:
    """What to say of a model that wants more than it may have."""
    return (
        f"The model needs more than the {order['memory_mib']} MiB that it may take on a device "
        "(memory_mib of mlops_models, or of limits)."
    )


def warm_up(np: Any, profiles: Any) -> None:
    """Have numpy load what it loads late: afterwards its own files can no longer be seen."""
    stream = io.BytesIO()
    np.savez(stream, x=np.linspace(0.0, 1.0, profiles.LEAST_ROWS).reshape(-1, 1))
    stream.seek(0)
    with np.load(stream, allow_pickle=False) as stored:
        rows = stored["x"]
    words = np.asarray(["a", "b"] * (len(rows) // 2), dtype=object)
    profiles.build({"x": rows, "n": rows.astype(int), "words": words}, {"p": rows})


def main() -> None:
    """Read the order, lose all rights, work, answer."""
    order = json.loads(sys.stdin.buffer.read())
    # Native libraries print to standard output; what goes out there is the answer.
    out = os.dup(1)
    os.dup2(2, 1)
    weaker = sandbox.before()
    sys.path.insert(0, order["server"])
    import numpy as np
    import onnxruntime
    from mlops_serving import engine as engines
    from mlops_serving import profile as profiles

    if order.get("rows"):
        warm_up(np, profiles)
    weaker += sandbox.after(
        Path(order["place"]),
        bool(order["own_user"]),
        int(order["memory_mib"]) + int(order.get("rows_mib", 0)),
        int(order["answer_mib"]),
        int(order["seconds"]),
    )
    answer, arrays = work(order, engines, profiles, np)
    answer["runtime"] = onnxruntime.__version__
    answer["weaker"] = weaker
    with os.fdopen(out, "wb") as stream:
        stream.write(json.dumps(answer).encode() + b"\n")
        stream.write(arrays)


if __name__ == "__main__":
    main()
