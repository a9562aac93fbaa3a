# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load the exact files of a release with the code of the model server, away from everything.

The model comes from somebody: it is parsed by a child process that has an empty directory, no
secret in its environment, no network, limits of memory, time and files, and, where this process
is root, a user of its own. What could not be taken away is said in the result.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .candidate import MAX_TEXT_BYTES, Candidate, check_size
from .config import Section
from .errors import PipelineError
from .shared import ROOT

SERVER = ROOT / "roles/model_serving/files"
CHILD = ROOT / "pipeline/mlops_trial"
ANSWER_MIB = 256
# Golden answers are a text of that size at most; the rest is what is said of the model itself.
MAX_LINE_BYTES = MAX_TEXT_BYTES + 2**20
LATENCY_REQUESTS = 200


@dataclass(frozen=True)
class Limits:
    """What a device lets a model have. The defaults are those of the role model_serving.

    Of its 512 MiB the server itself takes 160.
    """

    memory_mib: int = 352
    release_max_mib: int = 100
    threads: int = 1
    seconds: int = 300

    @classmethod
    def of(cls, options: Section | None) -> Limits:
        """Read the part ``limits`` of the configuration."""
        if options is None:
            return cls()
        part = options.section("limits")
        return cls(
            part.count("memory_mib", cls.memory_mib),
            part.count("release_max_mib", cls.release_max_mib),
            part.count("threads", cls.threads),
            part.count("seconds", cls.seconds),
        )

    def check_size(self, candidate: Candidate) -> None:
        """Refuse what devices do not plan disk for."""
        check_size(candidate.size, self.release_max_mib)


@dataclass(frozen=True)
class Trial:
    """What was measured."""

    load_seconds: float
    peak_mib: float
    latency_ms: Mapping[str, float]
    inputs: Sequence[Mapping[str, Any]]
    outputs: Sequence[Mapping[str, Any]]
    answers: Sequence[Mapping[str, list[Any]]]
    gaps: Mapping[str, float]
    runtime: str
    weaker: Sequence[str]
    arrays: Mapping[str, Any] = field(default_factory=dict)
    profile: Mapping[str, Any] = field(default_factory=dict)
    """The reference profile, where one was asked for."""
    profile_use: str = ""
    """What devices do with the profile of the candidate: watched, other or none."""

    def to_json(self) -> dict[str, Any]:
        """What a step prints of it."""
        return {
            "load_seconds": self.load_seconds,
            "peak_mib": self.peak_mib,
            "latency_ms": dict(self.latency_ms),
            "golden_gap": max(self.gaps.values(), default=0.0),
            "profile": self.profile_use,
            "runtime": self.runtime,
            "sandbox": "full" if not self.weaker else "weaker: " + "; ".join(self.weaker),
        }


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """A place for a candidate that a trial may read and nobody else can change."""
    with tempfile.TemporaryDirectory(prefix="mlops-trial-") as place:
        # The user of the trial may pass through and read, and cannot list or write.
        Path(place).chmod(0o711)
        for name in ("in", "empty"):
            (Path(place) / name).mkdir()
            (Path(place) / name).chmod(0o755)
        yield Path(place) / "in"


def passable(folder: Path) -> bool:
    """Say whether any user may walk to a folder."""
    return all(each.stat().st_mode & 0o001 for each in (folder, *folder.parents))


def trial(
    candidate: Candidate,
    limits: Limits,
    golden: Mapping[str, Any] | None = None,
    requests: Sequence[Mapping[str, Any]] = (),
    rows: Mapping[str, Any] | None = None,
    outputs: Sequence[str] = (),
    latency: int = LATENCY_REQUESTS,
    profile: Mapping[str, Any] | None = None,
) -> Trial:
    """Try a candidate that lies in a workplace; a sentence says why devices could not serve it."""
    limits.check_size(candidate)
    place = candidate.folder.parent
    order: dict[str, Any] = {
        "server": str(SERVER),
        "place": str(place),
        "folder": str(candidate.folder),
        "threads": limits.threads,
        "memory_mib": limits.memory_mib,
        "answer_mib": ANSWER_MIB,
        "seconds": limits.seconds,
        "own_user": passable(place),
        "latency": latency,
        "golden": golden,
        "tolerance": (golden or {}).get("tolerance"),
        "requests": list(requests),
        "outputs": list(outputs),
        "profile": profile,
    }
    if rows is not None:
        order.update(rows=str(place / "rows.npz"), rows_mib=write_rows(place / "rows.npz", rows))
    answer, arrays = ask(order, place.parent / "empty", limits.seconds)
    if not answer.get("ok"):
        why = str(answer.get("failure") or "no reason was given")
        why = why.replace(f"{candidate.folder}/", "")
        why = newer_than_devices(candidate, why, str(answer.get("runtime"))) or why
        raise PipelineError(f"Devices could not serve this model: {why}")
    peak = float(answer["peak_mib"])
    if peak > limits.memory_mib:
        raise PipelineError(
            f"The model took {peak:.0f} MiB, more than the {limits.memory_mib} MiB that it may "
            "take on a device (memory_mib of mlops_models, or of limits)."
        )
    return Trial(
        load_seconds=float(answer["load_seconds"]),
        peak_mib=peak,
        latency_ms=answer.get("latency_ms", {}),
        inputs=answer["inputs"],
        outputs=answer["outputs"],
        answers=answer["answers"],
        gaps=answer.get("gaps", {}),
        runtime=str(answer["runtime"]),
        weaker=tuple(answer["weaker"]),
        arrays=read_arrays(arrays) if rows is not None and profile is None else {},
        profile=answer.get("profile") or {},
        profile_use=str(answer.get("profile_use") or ""),
    )


def newer_than_devices(candidate: Candidate, why: str, runtime: str) -> str:
    """The sentence for a model that an older ONNX Runtime does not know; else nothing."""
    opsets = ", ".join(f"{name or 'ai.onnx'} {n}" for name, n in candidate.model.opsets.items())
    if "Unsupported model IR version" in why:
        found = f"IR version {candidate.model.ir_version}"
    elif "officially supported" in why or "*guarantees*" in why:
        found = f"opset {opsets}"
    else:
        return ""
    return (
        f"it is of {found}, newer than ONNX Runtime {runtime} of the devices knows; "
        "export it for an older one."
    )


def write_rows(path: Path, rows: Mapping[str, Any]) -> int:
    """Write arrays where the child may read them; return the MiB that it needs for them."""
    import numpy as np

    with path.open("wb") as stream:
        np.savez(stream, **rows)
    path.chmod(0o644)
    # The rows, their copy in the model's type, the answers and the file that they are written to.
    return 4 * (path.stat().st_size // 2**20 + 1) + 32


def read_arrays(data: bytes) -> dict[str, Any]:
    """Read what the child has computed; objects are not accepted."""
    import numpy as np

    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, OSError, KeyError) as error:
        raise PipelineError(f"The model's answers cannot be read: {error}.") from None


def ask(order: Mapping[str, Any], empty: Path, seconds: int) -> tuple[dict[str, Any], bytes]:
    """Run the child; its answer, or the sentence that says how it ended."""
    if not (SERVER / "mlops_serving/engine.py").is_file():
        raise PipelineError(f"The code of the model server is not in {SERVER}.")
    environment = {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        # One thread, so that the process can still be confined after the libraries are loaded.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
        "ORT_DISABLE_TELEMETRY": "1",
    }
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(
            [sys.executable, "-I", "-B", str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=err,
            cwd=empty,
            env=environment,
            start_new_session=True,
        )
        try:
            child.communicate(json.dumps(order).encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            raise PipelineError(
                f"The model did not answer within {seconds} seconds (limits, seconds)."
            ) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        out.seek(0)
        line = out.readline(MAX_LINE_BYTES)
        if len(line) == MAX_LINE_BYTES:
            raise PipelineError(
                "What the model answers to its cases takes more than "
                f"{MAX_TEXT_BYTES // 2**20} MiB, too much for golden answers to travel with a "
                "release; give fewer or smaller cases, or export the model with smaller outputs."
            )
        err.seek(0)
        said = err.read(65536).decode("utf-8", "replace")
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise PipelineError(f"Devices could not serve this model: {ending(child, said)}")
        return answer, out.read()


def ending(child: subprocess.Popen[bytes], said: str) -> str:
    """How a child ended that gave no answer."""
    tail = " ".join(said.strip().splitlines()[-1:])[:400]
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        return f"loading it ended the process by {name}. {tail}".strip()
    return f"loading it ended the process with {child.returncode}. {tail}".strip()
