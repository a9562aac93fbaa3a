# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Train a model on this host, as a timer says, and publish what was judged good enough.

Two units call this program, as two users: ``train`` runs the code of the project and holds no key
that signs; ``publish`` signs and pushes what ``train`` has judged, and runs no code of the project.
Each step is the pipeline's own, from the bundle that the controller has packed; systemd hands each
unit its secrets, and each step is handed on those that it needs.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

STORE = ("PIPELINE_S3_ACCESS_KEY", "PIPELINE_S3_SECRET_KEY")
SECRETS: Mapping[str, tuple[str, ...]] = {
    "prepare": (*STORE, "PIPELINE_SOURCE_PASSWORD"),
    "train": (*STORE, "PIPELINE_MLFLOW_PASSWORD"),
    "evaluate": (*STORE, "PIPELINE_MLFLOW_PASSWORD", "PIPELINE_REGISTRY_PASSWORD"),
    "publish": (
        *("PIPELINE_MLFLOW_PASSWORD", "PIPELINE_REGISTRY_PASSWORD"),
        *("PIPELINE_SIGNING_KEY", "PIPELINE_SIGNING_PIN"),
    ),
}
OUTCOMES = ("published", "waiting", "unchanged", "refused", "failed")
STATE, JUDGEMENT, METRICS = "state.json", "judgement.json", "metrics.prom"
MAX_OUTPUT_BYTES = 1024 * 1024
EXIT_FAILED = 1


class StepFailed(Exception):
    """A step ended without a result; the message says why. ``refused`` is a verdict, no fault."""

    def __init__(self, message: str, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class Settings:
    """What the controller has written down for one model."""

    def __init__(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text)
        self.model: str = value["model"]
        self.bundle = Path(value["bundle"])
        self.python: str = value["python"]
        self.unchanged: str = value["unchanged_data"]
        self.step: dict[str, Any] = value["step"]
        self.root = Path(value["root"])
        self.text = text

    @property
    def place(self) -> Path:
        """The directory of what ``train`` has found."""
        return self.root / "trained" / self.model

    @property
    def published(self) -> Path:
        """The file of what ``publish`` has done."""
        return self.root / "published" / f"{self.model}.json"

    def asked(self, data_version: str) -> str:
        """A digest over everything that a training depends on: data, code and settings."""
        parts = (data_version, hashlib.sha256(self.bundle.read_bytes()).hexdigest(), self.text)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def read(path: Path) -> dict[str, Any]:
    """Read what was kept; nothing, if nothing was."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write(path: Path, text: str) -> None:
    """Put a file in its place in one step, so that a reader or a kill never sees half of it."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
            os.fsync(stream.fileno())
        Path(beside).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(beside).unlink()
        raise


@contextlib.contextmanager
def unpacked(bundle: Path) -> Iterator[Path]:
    """The code of the engine and the project, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="mlops-pipeline-") as place:
        with zipfile.ZipFile(bundle) as archive:
            archive.extractall(place)
        yield Path(place)


def environment_of(step: str, code: Path) -> dict[str, str]:
    """What a step sees: the code, and the secrets of that step."""
    passed_on = ("PATH", "LANG", "HOME", "TMPDIR")
    kept = {name: os.environ[name] for name in passed_on if name in os.environ}
    names = [*SECRETS[step], *(f"{name}_FILE" for name in SECRETS[step])]
    secrets = {name: os.environ[name] for name in names if os.environ.get(name)}
    return {**kept, **secrets, "PYTHONPATH": str(code / "pipeline")}


def result_of(text: str) -> dict[str, Any]:
    """The line of JSON that a step ends with."""
    for line in reversed(text.splitlines()):
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                return value
    return {}


def run_step(
    settings: Settings, code: Path, step: str, arguments: Mapping[str, str], took: dict[str, float]
) -> dict[str, Any]:
    """Run a step; return what it printed. Its processes end with it.

    Raises:
        StepFailed: It found a reason not to go on, could not be run, or took too long.
    """
    config = code / "config.json"
    brought = {"project": str(code / "project"), "project_lock": str(code / "project.lock")}
    config.write_text(json.dumps({**settings.step, **brought}), encoding="utf-8")
    command = [settings.python, "-m", "mlops_pipeline", step, "--config", str(config)]
    for name, value in arguments.items():
        command += [f"--{name}", value]
    limit = int(settings.step["limit_seconds"])
    started = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(
            command,
            cwd=code,
            env=environment_of(step, code),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            child.wait(limit)
        except subprocess.TimeoutExpired:
            raise StepFailed(f"The step {step} did not end within {limit} seconds.") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            took[step] = round(time.monotonic() - started, 3)
        found, said = result_of(end_of(out)), " ".join(end_of(err).split()[-60:])
    if not found.get("ok"):
        why = found.get("error") or f"It ended with {child.returncode}. {said}".strip()
        raise StepFailed(f"The step {step} failed: {why}", bool(found.get("refused")))
    print(f"{settings.model}: {step} took {took[step]} s", flush=True)
    return found


def end_of(stream: Any) -> str:
    """The end of what a step wrote, however much it wrote."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - MAX_OUTPUT_BYTES))
    return str(stream.read().decode("utf-8", "replace"))


def trained(
    settings: Settings, before: Mapping[str, Any], took: dict[str, float]
) -> dict[str, Any]:
    """Prepare, train and judge; return what came of it."""
    with unpacked(settings.bundle) as code:
        data = run_step(settings, code, "prepare", {}, took)["data_version"]
        asked = settings.asked(data)
        if before.get("asked") == asked and settings.unchanged == "wait":
            return {"outcome": "unchanged", "why": "Data and code are those of the last training."}
        found = run_step(settings, code, "train", {"data-version": data}, took)
        judged = {
            "run-id": found["run_id"],
            "data-version": data,
            "candidate": found["candidate"],
            "judgement": str(settings.place / JUDGEMENT),
        }
        known = {
            "asked": asked,
            "data_version": data,
            "run_id": found["run_id"],
            "candidate": found["candidate"],
        }
        try:
            run_step(settings, code, "evaluate", judged, took)
        except StepFailed as error:
            if not error.refused:
                raise
            return {**known, "outcome": "refused", "why": str(error)}
    # The group is that of both units: the one that signs reads it.
    (settings.place / JUDGEMENT).chmod(0o640)
    return {
        **known,
        "outcome": "waiting",
        "why": "It was judged good enough and is not signed yet.",
    }


def train(settings: Settings) -> int:
    """Train, and keep what was found beside what the last training has left waiting."""
    place = settings.place / STATE
    before = read(place)
    took: dict[str, float] = {}
    started = time.time()
    try:
        found = trained(settings, before, took)
    except StepFailed as error:
        found = {"outcome": "failed", "why": str(error)}
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        found = {"outcome": "failed", "why": f"{type(error).__name__}: {error}"}
    # What a training before has left is kept by one that found nothing new, or could not end.
    left = {} if "candidate" in found else {k: v for k, v in before.items() if k in KEPT}
    if found["outcome"] == "unchanged" and before.get("waits"):
        left["waits"] = True
    state = {
        **left,
        **found,
        "model": settings.model,
        "started": started,
        "ended": time.time(),
        "seconds": took,
    }
    state["waits"] = found["outcome"] == "waiting" or bool(left.get("waits"))
    write(place, json.dumps(state, indent=2, sort_keys=True) + "\n")
    write_metrics(settings.root)
    print(f"{settings.model}: {found['outcome']}. {found['why']}", flush=True)
    return EXIT_FAILED if found["outcome"] == "failed" else 0


KEPT = ("asked", "data_version", "run_id", "candidate", "waits")


def waiting(state: Mapping[str, Any], published: Mapping[str, Any]) -> bool:
    """Say whether a judged candidate has not been published."""
    return bool(state.get("waits")) and state.get("candidate") != published.get("candidate")


def publish(settings: Settings) -> int:
    """Sign and push the candidate that waits, if there is one."""
    state, done = read(settings.place / STATE), read(settings.published)
    if not waiting(state, done):
        print(f"{settings.model}: nothing waits to be published", flush=True)
        return 0
    arguments = {"run-id": state["run_id"], "candidate": state["candidate"]}
    took: dict[str, float] = {}
    kept = {**done, "tried": time.time(), "why": ""}
    try:
        with unpacked(settings.bundle) as code:
            # The step takes no judgement that another user could write. Here it does so on purpose:
            # what the training unit says of its own candidate is believed, under a key of its own.
            own = code / JUDGEMENT
            own.write_text((settings.place / JUDGEMENT).read_text("utf-8"), "utf-8")
            own.chmod(0o600)
            arguments["judgement"] = str(own)
            found = run_step(settings, code, "publish", arguments, took)
        kept.update(
            candidate=state["candidate"],
            digest=found["digest"],
            version=found["model_version"],
            time=time.time(),
            seconds=took,
        )
        print(f"{settings.model}: published version {found['model_version']}", flush=True)
    except (StepFailed, OSError, KeyError, zipfile.BadZipFile) as error:
        kept["why"] = str(error)
        print(f"{settings.model}: not published. {error}", file=sys.stderr, flush=True)
    write(settings.published, json.dumps(kept, indent=2, sort_keys=True) + "\n")
    write_metrics(settings.root)
    return EXIT_FAILED if kept["why"] else 0


def outcome_of(state: Mapping[str, Any], published: Mapping[str, Any]) -> str:
    """The word for how a model stands, from what both units have left."""
    if state.get("outcome") == "failed" or published.get("why"):
        return "failed"
    if state.get("waits"):
        return "waiting" if waiting(state, published) else "published"
    return str(state.get("outcome", ""))


def metrics(states: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]) -> str:
    """What Prometheus reads, of every model."""
    lines = [
        "# HELP mlops_pipeline_outcome 1 for what the last run of a scheduled pipeline came to.",
        "# TYPE mlops_pipeline_outcome gauge",
    ]
    for model, (state, published) in sorted(states.items()):
        now = outcome_of(state, published)
        lines += [
            f'mlops_pipeline_outcome{{model_name="{model}",outcome="{each}"}} {int(each == now)}'
            for each in OUTCOMES
        ]
    for name, about, key in (
        ("last_run", "When the last run ended", "ended"),
        ("waiting_since", "Since when a judged candidate waits, 0 for none", "waiting"),
        ("published", "When the last candidate was published", "time"),
    ):
        lines.append(f"# HELP mlops_pipeline_{name}_timestamp_seconds {about}.")
        lines.append(f"# TYPE mlops_pipeline_{name}_timestamp_seconds gauge")
        for model, (state, published) in sorted(states.items()):
            since = {"waiting": state.get("ended", 0) if waiting(state, published) else 0}
            value = {**published, **state, **since}.get(key) or 0
            lines.append(f'mlops_pipeline_{name}_timestamp_seconds{{model_name="{model}"}} {value}')
    lines.append("# HELP mlops_pipeline_step_seconds How long the steps of the last run took.")
    lines.append("# TYPE mlops_pipeline_step_seconds gauge")
    for model, (state, published) in sorted(states.items()):
        for step, seconds in {**state.get("seconds", {}), **published.get("seconds", {})}.items():
            lines.append(
                f'mlops_pipeline_step_seconds{{model_name="{model}",step="{step}"}} {seconds}'
            )
    return "\n".join(lines) + "\n"


def write_metrics(root: Path) -> None:
    """Write the metrics of all models that are scheduled here."""
    states = {
        place.parent.name: (read(place), read(root / "published" / f"{place.parent.name}.json"))
        for place in (root / "trained").glob(f"*/{STATE}")
    }
    write(root / "metrics" / METRICS, metrics(states))


def main(arguments: list[str] | None = None) -> int:
    """Train or publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "publish"))
    parser.add_argument("settings", type=Path, help="what the controller has written of the model")
    options = parser.parse_args(arguments)
    settings = Settings(options.settings)
    return train(settings) if options.what == "train" else publish(settings)


if __name__ == "__main__":
    sys.exit(main())
