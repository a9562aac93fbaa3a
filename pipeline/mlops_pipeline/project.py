# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A team's own code: a project in MLflow's format, run in an environment of its own.

We read the file ``MLproject`` ourselves: the steps need its entry points ``prepare``, ``train`` and
``evaluate``, not the rest of MLflow. A command is split into words before values are put in, so
that no value is ever read by a shell. The code runs in a copy of its folder that goes away again,
and with none of the secrets of the step that starts it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .disk import MOST_MIB, Disk
from .errors import PipelineError

PROJECT_FILE = "MLproject"
REQUIREMENTS_FILE = "requirements.txt"
SAMPLES = Path(__file__).resolve().parents[1] / "sample"

# What the engine gives to each entry point; an entry point has to declare these.
GIVEN: Mapping[str, tuple[str, ...]] = {
    "prepare": ("output",),
    "train": ("data", "candidate"),
    "evaluate": ("candidate", "data"),
}
# Given too, if the site names a source of data.
SOURCE = "source"

KINDS = ("string", "float", "path", "uri")
LEFT_OUT = ("__pycache__", ".git", ".venv", "mlruns", ".mypy_cache", ".ruff_cache")
MAX_PROJECT_BYTES = 64 * 1024 * 1024
MAX_OUTPUT_BYTES = 4 * 1024 * 1024
SHELL = re.compile(r"^(\|\|?|&&?|;|[<>]{1,2})$")
PLACE = re.compile(r"\{(\w+)\}")
# What a program needs to find itself, and nothing of ours.
PASSED_ON = ("LANG", "LC_ALL", "TZ", "OMP_NUM_THREADS", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class Parameter:
    """One parameter of an entry point; no default means that it has to be given."""

    name: str
    kind: str
    default: str | None


@dataclass(frozen=True)
class EntryPoint:
    """One command of a project."""

    name: str
    parameters: Mapping[str, Parameter]
    words: tuple[str, ...]


@dataclass(frozen=True)
class Project:
    """A folder with an MLproject."""

    folder: Path
    name: str
    entry_points: Mapping[str, EntryPoint]
    requirements: Path

    @property
    def digest(self) -> str:
        """The digest over every file of the project: what code it is, wherever it lies."""
        listing = [
            [str(path.relative_to(self.folder)), hashlib.sha256(path.read_bytes()).hexdigest()]
            for path in files_of(self.folder)
        ]
        text = json.dumps(sorted(listing), separators=(",", ":"))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    @property
    def lock_digest(self) -> str:
        """The digest of the hash-locked list that the environment is made of."""
        return "sha256:" + hashlib.sha256(self.requirements.read_bytes()).hexdigest()

    @property
    def commit(self) -> str:
        """The commit that git has for the folder, empty if it has none; ``digest`` decides."""
        git = shutil.which("git")
        if git is None:
            return ""
        command = [git, "-C", str(self.folder)]
        head = subprocess.run(
            [*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
        if head.returncode:
            return ""
        state = subprocess.run(
            [*command, "status", "--porcelain", "--", "."],
            capture_output=True,
            text=True,
            check=False,
        )
        return head.stdout.strip() + ("-dirty" if state.stdout.strip() else "")


def files_of(folder: Path) -> list[Path]:
    """Return the files of a project, without what tools leave behind."""
    found, size = [], 0
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(each for each in folders if each not in LEFT_OUT)
        for name in sorted(names):
            path = Path(root) / name
            if name.endswith(".pyc") or not path.is_file():
                continue
            size += path.stat().st_size
            found.append(path)
    if size > MAX_PROJECT_BYTES:
        raise PipelineError(
            f"The project {folder} holds {size >> 20} MiB, at most {MAX_PROJECT_BYTES >> 20} are "
            "accepted; name data as the source of the data, not beside the code."
        )
    return found


def folder_of(name: str) -> Path:
    """Return the folder of a project: a path, or the name of a sample that ships with us."""
    path = Path(name).expanduser()
    if "/" not in name and not path.is_dir() and (SAMPLES / name).is_dir():
        return SAMPLES / name
    return path.resolve()


def load_project(place: str | Path, lock: str = "") -> Project:
    """Read and check a project; ``lock`` is its locked list where that was brought beside it."""
    folder = folder_of(str(place))
    file = folder / PROJECT_FILE
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        samples = ", ".join(sorted(each.parent.name for each in SAMPLES.glob("*/MLproject")))
        raise PipelineError(
            f"The project {place} has no readable {PROJECT_FILE} ({error.strerror}); name a folder "
            f"with one, or one of the samples: {samples}."
        ) from None
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PipelineError(f"{file}: this is not YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(value, Mapping):
        raise PipelineError(f"{file}: wanted a mapping with name and entry_points.")
    for word in ("docker_env", "conda_env"):
        if word in value:
            raise PipelineError(
                f"{file}, {word}: environments are made from a hash-locked list only; put it into "
                f"{REQUIREMENTS_FILE}, or name it in python_env."
            )
    points = value.get("entry_points")
    if not isinstance(points, Mapping):
        raise PipelineError(f"{file}: wanted entry_points with {', '.join(GIVEN)}.")
    return Project(
        folder,
        str(value.get("name") or folder.name),
        {str(name): _entry_point(file, str(name), found) for name, found in points.items()},
        Path(lock) if lock else _requirements(file, value.get("python_env")),
    )


def _entry_point(file: Path, name: str, value: Any) -> EntryPoint:
    where = f"{file}, entry_points, {name}"
    if not isinstance(value, Mapping) or not isinstance(value.get("command"), str):
        raise PipelineError(f"{where}: wanted a mapping with a command.")
    declared = value.get("parameters") or {}
    if not isinstance(declared, Mapping):
        raise PipelineError(f"{where}, parameters: wanted a mapping of names.")
    parameters = {str(key): _parameter(where, str(key), found) for key, found in declared.items()}
    words = _command(where, value["command"], parameters)
    for needed in GIVEN.get(name, ()):
        if needed not in parameters:
            raise PipelineError(
                f"{where}: wanted the parameter {needed}, by which the place of it is told; "
                f"declared are {', '.join(sorted(parameters)) or 'none'}."
            )
    return EntryPoint(name, parameters, words)


def _command(where: str, text: str, parameters: Mapping[str, Parameter]) -> tuple[str, ...]:
    """The words of a command, which no shell reads; each place in them is a parameter."""
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise PipelineError(f"{where}, command: it cannot be read ({error}).") from None
    if not words:
        raise PipelineError(f"{where}, command: it is empty.")
    for word in words:
        if SHELL.match(word):
            raise PipelineError(
                f"{where}, command: found {word!r}; a command is started without a shell. Put what "
                "needs one into a program of the project."
            )
        for used in PLACE.findall(word):
            if used not in parameters:
                raise PipelineError(
                    f"{where}, command: it uses {{{used}}}, which parameters does not declare."
                )
    return words


def _parameter(where: str, name: str, value: Any) -> Parameter:
    if isinstance(value, str):
        value = {"type": value}
    if not isinstance(value, Mapping):
        raise PipelineError(f"{where}, parameters, {name}: wanted a type or {{type, default}}.")
    kind = str(value.get("type", "string"))
    if kind not in KINDS:
        raise PipelineError(
            f"{where}, parameters, {name}: found the type {kind!r}, wanted {', '.join(KINDS)}."
        )
    default = value.get("default")
    return Parameter(name, kind, None if default is None else str(default))


def _requirements(file: Path, environment: Any) -> Path:
    """Return the locked list: the one that python_env names, else the one beside the project."""
    path = file.parent / REQUIREMENTS_FILE
    if environment is not None:
        import yaml

        named = file.parent / str(environment)
        try:
            value = yaml.safe_load(named.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise PipelineError(f"{file}, python_env: {named} cannot be read: {error}.") from None
        lines = value.get("dependencies") if isinstance(value, Mapping) else None
        if (
            not isinstance(lines, list)
            or len(lines) != 1
            or not str(lines[0]).strip().startswith("-r ")
        ):
            raise PipelineError(
                f"{named}, dependencies: wanted one line, '-r {REQUIREMENTS_FILE}' with hashes; "
                f"found {lines!r}."
            )
        path = named.parent / str(lines[0]).strip()[3:].strip()
    if not path.is_file():
        raise PipelineError(
            f"The project {file.parent} has no {path.name}; its environment is made from a list "
            "with hashes: uv pip compile --generate-hashes --only-binary :all: requirements.in "
            f"-o {REQUIREMENTS_FILE}"
        )
    return path.resolve()


def python_of(project: Project, cache: str = "", given: str = "") -> str:
    """Return the Python of the project's environment, which is built if it is not there yet.

    Where nothing is built, as on a host without an index, ``given`` is the one installed there.
    """
    if given:
        return given
    # A program beside this package; the folder of both is on the path of whoever runs a step.
    from environment import default_cache, ensure

    try:
        python, _changed = ensure(
            project.requirements, Path(cache).expanduser() if cache else default_cache()
        )
    except SystemExit as error:
        raise PipelineError(f"The environment of {project.name} cannot be made. {error}") from None
    return python


def command_of(point: EntryPoint, values: Mapping[str, Any], python: str) -> list[str]:
    """Return the words of a command with the values put in."""
    known = point.parameters
    strange = sorted(set(values) - set(known))
    if strange:
        raise PipelineError(
            f"The entry point {point.name} has no parameter {', '.join(strange)}; it has "
            f"{', '.join(sorted(known))}."
        )
    settled: dict[str, str] = {}
    for name, parameter in known.items():
        value = values.get(name, parameter.default)
        if value is None:
            raise PipelineError(f"The entry point {point.name} needs the parameter {name}.")
        if parameter.kind == "float":
            try:
                float(value)
            except (TypeError, ValueError):
                raise PipelineError(
                    f"The parameter {name} of {point.name} is {value!r}, wanted a number."
                ) from None
        settled[name] = str(value)
    words = [PLACE.sub(lambda found: settled[found.group(1)], word) for word in point.words]
    if words[0] in ("python", "python3"):
        words[0] = python
    return words


def run(
    project: Project,
    entry: str,
    values: Mapping[str, Any],
    python: str,
    timeout: float = 3600.0,
    disk_mib: int = MOST_MIB,
) -> dict[str, Any]:
    """Run an entry point; return the line of JSON that it may end with.

    It runs in a copy of the project, with no secret in its environment and a home of its own. A
    failure is a sentence with the last line that it wrote to standard error. Its copy and the
    folders that it is given (values that are a ``Path``) may take ``disk_mib`` together.
    """
    point = project.entry_points.get(entry)
    if point is None:
        raise PipelineError(
            f"The project {project.name} has no entry point {entry}; it has "
            f"{', '.join(sorted(project.entry_points)) or 'none'}."
        )
    command = command_of(point, values, python)
    with tempfile.TemporaryDirectory(prefix="mlops-project-") as place:
        here = Path(place)
        for path in files_of(project.folder):
            target = here / "code" / path.relative_to(project.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        (here / "home").mkdir()
        out, err = here / "out", here / "err"
        given = [value for value in values.values() if isinstance(value, Path)]
        disk = Disk((here, *(path for path in given if path.is_dir())), disk_mib)
        disk.check(f"The entry point {entry} of {project.name}")
        code, problem = _start(command, here, out, err, timeout, disk)
        if problem:
            raise PipelineError(f"The entry point {entry} of {project.name} was ended: {problem}.")
        if code:
            said = last_line(err) or last_line(out) or "it said nothing"
            ended = f"was ended after {timeout:g} seconds" if code == TIMED_OUT else f"ended {code}"
            raise PipelineError(f"The entry point {entry} of {project.name} {ended}: {said}")
        return json_line(out)


TIMED_OUT = 124


def _wait(child: subprocess.Popen[bytes], timeout: float, disk: Disk) -> tuple[int, str]:
    """Wait for the end, and look at the disk meanwhile and then; exit status and problem."""
    end, pause = time.monotonic() + timeout, 1.0
    while True:
        try:
            return child.wait(max(0.0, min(pause, end - time.monotonic()))), disk.problem()
        except subprocess.TimeoutExpired:
            if time.monotonic() >= end:
                return TIMED_OUT, ""
        problem, pause = disk.look()
        if problem:
            return TIMED_OUT, problem


def _start(
    command: list[str], here: Path, out: Path, err: Path, timeout: float, disk: Disk
) -> tuple[int, str]:
    """Run a command in a group of its own, which ends with it.

    Returns its exit status, and what is wrong with the disk that it has taken.
    """
    path = f"{Path(command[0]).parent}:{os.environ.get('PATH', os.defpath)}"
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment.update(
        PATH=path,
        HOME=str(here / "home"),
        TMPDIR=str(here / "home"),
        PYTHONDONTWRITEBYTECODE="1",
        PYTHONUNBUFFERED="1",
        DO_NOT_TRACK="true",
        ORT_DISABLE_TELEMETRY="1",
    )
    with out.open("wb") as stdout, err.open("wb") as stderr:
        try:
            child = subprocess.Popen(
                command,
                cwd=here / "code",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        except OSError as error:
            raise PipelineError(f"{command[0]} cannot be started: {error.strerror}.") from None
        try:
            return _wait(child, timeout, disk)
        finally:
            # Also what it started and left behind, and also if we are interrupted.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _tail(path: Path) -> list[str]:
    """Return the last lines that a program wrote, however much it wrote."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - MAX_OUTPUT_BYTES))
        return stream.read().decode(errors="replace").splitlines()


def last_line(path: Path) -> str:
    """Return the last line that says something, short and without control characters."""
    for line in reversed(_tail(path)):
        text = "".join(each for each in line if each.isprintable()).strip()
        if text:
            return text[:400]
    return ""


def json_line(path: Path) -> dict[str, Any]:
    """Return the last line that is a mapping in JSON; empty if there is none."""
    for line in reversed(_tail(path)):
        if not line.lstrip().startswith("{"):
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return {}


def metrics_of(answer: Mapping[str, Any], entry: str) -> dict[str, float]:
    """Return the metrics of an answer; each has to be a number."""
    found = answer.get("metrics")
    if not isinstance(found, Mapping) or not found:
        raise PipelineError(
            f"The entry point {entry} printed no metrics; its last line should be JSON such as "
            '{"metrics": {"accuracy": 0.95}}.'
        )
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise PipelineError(f"The metric {name} of {entry} is {value!r}, wanted a number.")
    return {str(name): float(value) for name, value in found.items()}
