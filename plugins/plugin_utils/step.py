# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one step of the pipeline on this machine, with the secrets of that step and no other.

Configuration and secrets are handed over as files in memory, which end with the two processes that
hold them: nothing is on a disk, in an argument or in the environment, also not after a kill.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any

# What each step needs. Only publish and configure sign and push.
SECRETS: Mapping[str, tuple[str, ...]] = {
    "prepare": ("PIPELINE_S3_ACCESS_KEY", "PIPELINE_S3_SECRET_KEY", "PIPELINE_SOURCE_PASSWORD"),
    "train": ("PIPELINE_S3_ACCESS_KEY", "PIPELINE_S3_SECRET_KEY", "PIPELINE_MLFLOW_PASSWORD"),
    "evaluate": ("PIPELINE_S3_ACCESS_KEY", "PIPELINE_S3_SECRET_KEY", "PIPELINE_MLFLOW_PASSWORD"),
    "publish": (
        "PIPELINE_MLFLOW_PASSWORD",
        "PIPELINE_REGISTRY_PASSWORD",
        "PIPELINE_SIGNING_KEY",
        "PIPELINE_SIGNING_PIN",
    ),
    "current": ("PIPELINE_MLFLOW_PASSWORD", "PIPELINE_REGISTRY_PASSWORD"),
    "configure": (
        "PIPELINE_REGISTRY_PASSWORD",
        "PIPELINE_SIGNING_KEY",
        "PIPELINE_SIGNING_PIN",
    ),
    "package": ("PIPELINE_MLFLOW_PASSWORD",),
}
# What a step needs besides, if the configuration has a margin: it reads the last release.
COMPARING: Mapping[str, tuple[str, ...]] = {"evaluate": ("PIPELINE_REGISTRY_PASSWORD",)}
# What of these a step needs where it only says what it would do.
CHECKING: Mapping[str, tuple[str, ...]] = {"configure": ("PIPELINE_REGISTRY_PASSWORD",)}
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "prepare": (),
    "train": ("data_version",),
    "evaluate": ("run_id", "data_version", "candidate", "judgement"),
    "publish": ("run_id", "candidate", "judgement", "package", "golden"),
    "current": ("golden",),
    "configure": (),
    "package": ("cases",),
}
PASSED_ON = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "XDG_CACHE_HOME"),
    *("SSH_AUTH_SOCK", "SOFTHSM2_CONF"),
    *("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy"),
)
MAX_OUTPUT_BYTES = 1024 * 1024


@contextmanager
def in_memory(texts: Mapping[str, str]) -> Iterator[dict[str, int]]:
    """Hold texts in files that have no name on any disk; return their descriptors."""
    handles: dict[str, int] = {}
    try:
        for name, text in texts.items():
            handles[name] = os.memfd_create(name)
            with os.fdopen(os.dup(handles[name]), "wb") as stream:
                stream.write(text.encode())
        yield handles
    finally:
        for handle in handles.values():
            os.close(handle)


def last_line(text: str) -> dict[str, Any]:
    """Return the line of JSON that a step ends with."""
    for line in reversed(text.splitlines()):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return {}


def tail(stream: IO[bytes]) -> str:
    """Return the end of what a step wrote, however much it wrote."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - MAX_OUTPUT_BYTES))
    return stream.read().decode(errors="replace")


def _wait(child: subprocess.Popen[bytes], timeout: float) -> bool:
    """Wait for a step; say whether it ended by itself. What it started ends with it."""
    try:
        child.wait(timeout)
        return True
    except subprocess.TimeoutExpired:
        return False
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def needed(step: str, config: Mapping[str, Any], checking: bool = False) -> tuple[str, ...]:
    """Return the names of the secrets that a step is given."""
    if checking:
        return CHECKING.get(step, SECRETS[step])
    compares = config.get("margin") is not None
    return (*SECRETS[step], *(COMPARING.get(step, ()) if compares else ()))


def run(params: Mapping[str, Any]) -> dict[str, Any]:
    """Run a step; return what it printed, or why it printed nothing."""
    started = time.monotonic()
    step = params["step"]
    given = {name: str(value) for name, value in params["secrets"].items() if value}
    checking = bool(params.get("check"))
    wanted = needed(step, params["config"], checking)
    secrets = {name: given[name] for name in wanted if name in given}
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment["PYTHONPATH"] = params["folder"]
    with (
        in_memory({"config": json.dumps(params["config"]), **secrets}) as handles,
        tempfile.TemporaryDirectory(prefix="mlops-step-") as empty,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        environment.update({f"{name}_FILE": f"/dev/fd/{handles[name]}" for name in secrets})
        command = [params["python"], "-m", "mlops_pipeline", step]
        command += ["--config", f"/dev/fd/{handles['config']}"]
        if step == "package":
            command += [str(params["artifact"]), "--name", str(params["model_name"])]
            command += ["--out", str(params["package"])]
            command += ["--accept-answers"] if params["accept_answers"] else []
        command += ["--check"] if checking and step in CHECKING else []
        for option in ARGUMENTS[step]:
            if params.get(option):
                command += [f"--{option.replace('_', '-')}", str(params[option])]
        try:
            child = subprocess.Popen(
                command,
                cwd=empty,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                pass_fds=list(handles.values()),
                start_new_session=True,
            )
            if _wait(child, params["timeout"]):
                result = last_line(tail(out))
                said = " ".join(tail(err).strip().splitlines()[-1:])[:400]
                error = f"It ended with {child.returncode} and printed no result. {said}".strip()
            else:
                result, error = {}, f"It did not end within {params['timeout']} seconds."
        except OSError as problem:
            result, error = {}, f"It cannot be run: {problem}."
    if not result:
        spent = round(time.monotonic() - started, 3)
        result = {"step": step, "ok": False, "changed": False, "seconds": spent, "error": error}
    return result
