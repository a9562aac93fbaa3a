# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the tests: one line a step, output only of what failed, the times, and the counts at the end.

    python -m tests.run [--lanes N] [lint] [unit] [sanity] [molecule [SCENARIO...]] [site]

Without arguments everything runs. The output of every step is kept in ``build/test``.

What waits for hosts runs beside one another: the lab site, which takes longest, and the scenarios
of the roles in lanes, each with test hosts of its own. What computes fills the waits, at a lower
priority so that the hosts answer as fast as ever: the unit tests in one line, linters and sanity
tests in another, so that a test which waits for a server leaves no processor idle.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests import with_ansible
from tests.lanes import Lane, environment_of, own_hosts

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "test"
BIN = Path(sys.executable).parent
COLLECTION = ".collections/ansible_collections/mlops/onprem"
# What mypy checks of the training pipeline.
STEPS = ("pipeline/mlops_pipeline", "pipeline/bundle.py", "pipeline/environment.py")
PROGRAMS = ("pipeline/mlops_trial", "pipeline/sample/breast_cancer", "pipeline/sample/digits")
NEWEST = ROOT / ".venv-2.21"  # the newest ansible-core, where a Python for it exists
STAGES = ("lint", "unit", "sanity", "molecule", "site")
TAIL = 60
WIDTH = 160  # of a line about a failed test in the summary
# Lines of a log that say what failed where no report does: Ansible's, the callback's, Molecule's.
TELLING = re.compile(
    r"^\s*(?:fatal: |\[?ERROR\b|CRITICAL\b|FAILED\b|UNREACHABLE\b|ERROR: |Traceback |\S+Error: )"
)
LANES = 2
# Rough seconds of the long scenarios while everything runs, so that they start first and the lanes
# end together.
LONG = {
    "assess_refuses": 800,
    "object_store": 540,
    "company_host": 480,
    "registries": 460,
    "rollout": 330,
    "common": 230,
    "model_serving": 220,
    "monitoring": 400,
    "object_store_refuses": 210,
    "assess": 200,
    "metadata_db": 200,
    "metadata_db_refuses": 160,
    "gateway": 110,
    "model_registry_refuses": 110,
}
# Run by name only, as by `make soak SOAK=compute`: a quarter of what CI may take in all. Of it CI
# runs the scheduler alone (`job_scheduler`).
BY_NAME = frozenset({"compute"})
WITH_OWN_HOSTS = 300  # of a scenario that makes and destroys hosts only for itself


@dataclass(frozen=True)
class Counts:
    """How many tests passed, failed and were skipped; of those that failed, a line each."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: tuple[str, ...] = ()

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.failures + other.failures,
        )


@dataclass(frozen=True)
class Step:
    """One command, and how to count its tests from its exit status and its output."""

    stage: str
    name: str
    command: list[str]
    count: Callable[[bool, str], Counts] = field(
        default=lambda good, _output: Counts(int(good), int(not good))
    )
    environment: dict[str, str] = field(default_factory=dict)


def junit(path: Path) -> Callable[[bool, str], Counts]:
    """Count the tests of a report of pytest; no report and a failure is one failed test."""

    def count(good: bool, _output: str) -> Counts:
        total = Counts()
        if path.exists():
            for suite in ElementTree.parse(path).getroot().iter("testsuite"):
                number = {
                    key: int(suite.get(key, 0))
                    for key in ("tests", "failures", "errors", "skipped")
                }
                failed = number["failures"] + number["errors"]
                passed = number["tests"] - failed - number["skipped"]
                total += Counts(passed, failed, number["skipped"], tuple(failures(suite)))
            path.unlink()
        return total if good or total.failed else total + Counts(failed=1)

    return count


def failures(suite: ElementTree.Element) -> Iterator[str]:
    """Each failed test of a suite, and the first line of what it said."""
    for case in suite.iter("testcase"):
        for verdict in (*case.findall("failure"), *case.findall("error")):
            said = (verdict.get("message") or verdict.text or "").strip().split("\n")[0]
            yield f"{case.get('classname')}::{case.get('name')}: {said}"


def telling(output: str) -> list[str]:
    """What a log without a report says about its failure: telling lines, or else the last ones."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return [line for line in lines if TELLING.match(line)][:5] or lines[-5:]


def count_sanity(good: bool, output: str) -> Counts:
    """Count the sanity tests that ran, one a test and Python."""
    ran = len(re.findall(r"^Running sanity test ", output, re.MULTILINE))
    failed = sum(int(n) for n in re.findall(r"The (\d+) sanity test\(s\) listed below", output))
    if not good and not failed:
        failed = 1
    return Counts(max(ran - failed, 0), failed)


def count_scenario(name: str) -> Callable[[bool, str], Counts]:
    """A scenario is one test; what testinfra saw in it is counted besides."""
    report = ROOT / "build" / "molecule" / f"{name}.xml"

    def count(good: bool, output: str) -> Counts:
        inner = junit(report)(True, output)
        return inner + Counts(int(good), int(not good and not inner.failed))

    return count


def pytest(stage: str, name: str, *arguments: str, python: Path = BIN / "python") -> Step:
    """A run of pytest."""
    report = BUILD / f"{stage}-{name}.xml".replace(" ", "-")
    command = [str(python), "-m", "pytest", "--quiet", f"--junitxml={report}", *arguments]
    return Step(stage, name, command, junit(report))


def lint() -> Iterator[Step]:
    """Linters and the type checker."""
    python = [
        path
        for path in ("plugins", "tests", "extensions", "roles", "pipeline", "docs")
        if (ROOT / path).exists()
    ]
    yield Step("lint", "ruff", [str(BIN / "ruff"), "check", *python])
    yield Step("lint", "ruff format", [str(BIN / "ruff"), "format", "--check", *python])
    yield Step("lint", "mypy", [str(BIN / "mypy"), f"{COLLECTION}/plugins", "tests", *STEPS])
    for program in PROGRAMS:  # each is started in its folder and imports what lies there
        environment = {"MYPYPATH": program}
        command = [str(BIN / "mypy"), program]
        yield Step("lint", f"mypy {Path(program).name}", command, environment=environment)
    yield Step("lint", "yamllint", [str(BIN / "yamllint"), "--strict", "."])
    yield Step(
        "lint", "ansible-lint", [sys.executable, "-m", "tests.ansible_lint", "--offline", "-q"]
    )
    yield Step("lint", "changelog", [str(BIN / "antsibull-changelog"), "lint"])
    yield Step("lint", "readme", [sys.executable, "docs/generate.py", "--check"])
    docs = [str(BIN / "antsibull-docs"), "lint-collection-docs", "--plugin-docs", COLLECTION]
    yield Step("lint", "documentation", docs)


def unit() -> Iterator[Step]:
    """Unit tests, and those that bring their own servers."""
    yield pytest("unit", "core 2.19", "tests/unit")
    if (ROOT / "tests" / "integration").exists():
        yield pytest("unit", "own servers", "tests/integration")
    if prepare_newest():
        files = [str(path.relative_to(ROOT)) for path in with_ansible.chosen()]
        yield pytest("unit", "core 2.21", *files, python=NEWEST / "bin" / "python")


def sanity() -> Iterator[Step]:
    """ansible-test sanity without ignores."""
    yield Step("sanity", "core 2.19", [sys.executable, "tests/sanity.py"], count_sanity)
    if prepare_newest():
        command = [str(NEWEST / "bin" / "python"), "tests/sanity.py", "--light"]
        yield Step("sanity", "core 2.21", command, count_sanity)


def longest_first(scenarios: list[str]) -> deque[str]:
    """The queue that all lanes take their next scenario from."""

    def seconds(name: str) -> int:
        return LONG.get(name, WITH_OWN_HOSTS if own_hosts(name) else 0)

    return deque(sorted(scenarios, key=lambda name: (-seconds(name), name)))


def scenarios_of_roles() -> list[str]:
    """All scenarios that share the test hosts."""
    present = sorted(path.parent.name for path in ROOT.glob("extensions/molecule/*/molecule.yml"))
    return [name for name in present if name not in {"default", "site"} | BY_NAME]


def molecule(lane: Lane, queue: deque[str], *, destroy: bool) -> Iterator[Step]:
    """Scenarios of the roles, one after the other on the hosts of the lane, until none is left."""
    lane.write()
    # Molecule remembers that it created the hosts even when they are gone: see that they stand.
    up = [sys.executable, "extensions/lab/lab.py", "up", f"--topology={lane.topology}"]
    hosts = f"hosts {lane.number}"
    yield Step("molecule", hosts, up, lambda good, _output: Counts(failed=int(not good)))
    while queue:
        try:
            name = queue.popleft()
        except IndexError:
            break
        command = [str(BIN / "molecule"), "test", "-s", name, "--no-command-borders"]
        if topology := own_hosts(name):  # beside those of the lane, and gone after it
            environment = environment_of(topology.parent / "inventory", name)
        else:
            command, environment = [*command, "--destroy=never"], lane.environment
        yield Step("molecule", name, command, count_scenario(name), environment)
    if destroy:
        yield around("molecule", "destroy", "default", lane)


def site() -> Iterator[Step]:
    """The scenario that is the lab site itself."""
    if not (ROOT / "extensions/molecule/site/molecule.yml").exists():
        return
    # What Molecule remembers of the hosts may be of a lab that is gone.
    yield around("site", "reset", "site")
    command = [str(BIN / "molecule"), "test", "-s", "site", "--destroy=never"]
    command += ["--no-command-borders"]
    # It is built beside this scenario, long before this scenario comes to it.
    more = {"MLOPS_NEWEST": str(NEWEST)} if newest_python() else {}
    yield Step("site", "lab", command, count_scenario("site"), more)
    # A site that stood before its test stays.
    yield around("site", "destroy", "site")


def around(stage: str, verb: str, scenario: str, lane: Lane | None = None) -> Step:
    """A command of Molecule before or after the tests, which only counts if it fails."""
    command = [str(BIN / "molecule"), verb, "-s", scenario]
    name, more = (f"{verb} {lane.number}", lane.environment) if lane else (verb, {})
    return Step(stage, name, command, lambda good, _output: Counts(failed=int(not good)), more)


@functools.cache
def newest_python() -> str | None:
    """Python 3.12 or newer for the newest ansible-core, if this machine has one."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python3.{minor}") for minor in (13, 12)]
    candidates += [str(path) for path in sorted(pyenv.glob("3.1[2-9].*/bin/python3"), reverse=True)]
    question = "import sys, venv, ensurepip; sys.exit(not (3, 12) <= sys.version_info < (3, 15))"
    for candidate in filter(None, candidates):
        if (
            subprocess.run([candidate, "-c", question], check=False, capture_output=True).returncode
            == 0
        ):
            return candidate
    return None


_preparing = threading.Lock()


def prepare_newest() -> bool:
    """Whether the newest ansible-core has its environment; whoever asks first builds it."""
    with _preparing:
        return _build_newest()


@functools.cache
def _build_newest() -> bool:
    """Build the environment with the newest ansible-core; say so once where that is impossible."""
    python = newest_python()
    if python is None:
        print("skip  core 2.21: no Python 3.12 or newer on this machine", flush=True)
        return False
    command = ["extensions/env.sh", "requirements-test-2.21.txt", NEWEST.name]
    with started(command, env={**os.environ, "PYTHON": python}) as process:
        return process.wait() == 0


_running: set[subprocess.Popen[bytes]] = set()


@contextlib.contextmanager
def started(command: list[str], **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program with a process group of its own, which `stop_all` finds."""
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, **more)
    _running.add(process)
    try:
        yield process
    finally:
        _running.discard(process)


def stop_all() -> None:
    """End what runs, with all that it has started; it gets a while to clean up."""
    for process in list(_running):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
    deadline = time.monotonic() + 120
    while _running and time.monotonic() < deadline:
        time.sleep(0.2)
    for process in list(_running):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def claim_hosts() -> int:
    """Hold the test hosts: steps inherit the lock, so that those of a killed run still have it."""
    lock = os.open(BUILD / "hosts.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("wait  for a step of another run on the test hosts to end", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def ended(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Wait for the end; the exit status, and seconds of processor of all that it started."""
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def processors() -> tuple[float, float]:
    """Seconds that the processors of this machine computed, and that they had to do nothing."""
    with contextlib.suppress(OSError, ValueError):
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
        each = os.sysconf("SC_CLK_TCK")
        return sum(ticks[:3]) / each, sum(ticks[3:5]) / each
    return 0.0, 0.0


def run(
    step: Step, niceness: int = 0, inherited: tuple[int, ...] = ()
) -> tuple[Counts, float, float]:
    """Run a step, keep its output, show the end of it if it failed."""
    log = BUILD / f"{step.stage}-{step.name}.log".replace(" ", "-")
    path = f"{BIN}:{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "ANSIBLE_FORCE_COLOR": "false", "NO_COLOR": "1"}
    environment["MLOPS_LAB_FOR_TESTS"] = "1"
    environment.update(step.environment)
    begun = time.monotonic()
    with log.open("wb") as stream:
        command = ["nice", f"-n{niceness}", *step.command]
        with started(
            command, env=environment, stdout=stream, stderr=stream, pass_fds=inherited
        ) as process:
            status, computed = ended(process)
    seconds = time.monotonic() - begun
    output = log.read_text(encoding="utf-8", errors="replace")
    good = status == 0
    counts = step.count(good, output)
    if counts.failed and not counts.failures:
        counts += Counts(failures=tuple(telling(output)))
    print(
        f"{'ok  ' if good else 'FAIL'}  {step.stage}: {step.name:28} {seconds:7.1f} s, "
        f"{computed:6.1f} s of processor",
        flush=True,
    )
    if not good:
        print("\n".join(f"      {line}" for line in output.splitlines()[-TAIL:]))
        print(f"      all of it: {log.relative_to(ROOT)}", flush=True)
    return counts, seconds, computed


def shortened(line: str) -> str:
    """A line that fits; of a long one the beginning."""
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"


def main() -> int:
    """Run the chosen stages and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "words", nargs="*", metavar="STAGE", help="stages; after molecule: scenarios"
    )
    parser.add_argument("--lanes", type=int, default=LANES, help="sets of test hosts")
    options = parser.parse_args()
    words: list[str] = options.words
    stages = [word for word in words if word in STAGES] or list(STAGES)
    scenarios = words[words.index("molecule") + 1 :] if "molecule" in words else []
    scenarios = [word for word in scenarios if word not in STAGES]
    BUILD.mkdir(parents=True, exist_ok=True)
    inherited = (claim_hosts(),) if {"molecule", "site"} & set(stages) else ()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begun, before = time.monotonic(), processors()
    lines = list(lines_of(stages, scenarios, options.lanes))
    newest = bool({"unit", "sanity", "site"} & set(stages))
    results = run_all(lines, inherited, newest=newest)
    return 130 if results is None else report(results, time.monotonic() - begun, before)


def lines_of(
    stages: list[str], scenarios: list[str], lanes: int
) -> Iterator[tuple[Iterable[Step], int]]:
    """Steps that follow one another, and how far each line of them gives way to the others."""
    if "site" in stages:
        yield site(), 0
    if "molecule" in stages:
        queue = longest_first(scenarios or scenarios_of_roles())
        for number in range(1, min(lanes, len(queue)) + 1):
            yield molecule(Lane(number), queue, destroy=not scenarios), 0
    for line in ((("unit", unit),), (("lint", lint), ("sanity", sanity))):
        computing = [steps() for name, steps in line if name in stages]
        yield itertools.chain.from_iterable(computing), 10


Result = tuple[Step, Counts, float, float]
"""A step, what it counted, the seconds that it took, and those that a processor computed."""


def run_all(
    lines: list[tuple[Iterable[Step], int]], inherited: tuple[int, ...], *, newest: bool
) -> list[Result] | None:
    """Run the lines beside one another; nothing where somebody ended it."""
    results: list[Result] = []
    stopped = threading.Event()

    def follow(steps: Iterable[Step], niceness: int) -> None:
        for step in steps:
            if stopped.is_set():
                return
            results.append((step, *run(step, niceness, inherited)))

    with ThreadPoolExecutor(max_workers=16) as pool:
        running: list[Future[Any]] = [pool.submit(prepare_newest)] if newest else []
        running += [pool.submit(follow, steps, niceness) for steps, niceness in lines]
        try:
            for one in running:
                one.result()
        except KeyboardInterrupt:
            stopped.set()
            stop_all()
            return None
    return results


def report(results: list[Result], elapsed: float, before: tuple[float, float]) -> int:
    """Print where the time went, what failed and the counts; 1 if anything failed."""
    total = sum((counts for _step, counts, _seconds, _computed in results), Counts())
    times = [(taken, used, f"{step.stage}: {step.name}") for step, _counts, taken, used in results]
    wrong = {f"{step.stage}: {step.name}": one for step, one, *_times in results if one.failed}
    whole = sum(taken for taken, _used, _name in times)
    print("\nWhere the time went, and how much of it a processor computed (hosts not counted)")
    for taken, used, name in sorted(times, reverse=True):
        blocks = "█" * round(40 * taken / max(whole, 1))
        print(f"  {name:36} {taken:7.1f} s {used:7.1f} s  {blocks}")
    used = sum(used for _taken, used, _name in times)
    print(f"  {'all, one after the other':36} {whole:7.1f} s {used:7.1f} s")
    busy, idle = (now - then for now, then in zip(processors(), before, strict=True))
    print(f"  {'all, as it ran':36} {elapsed:7.1f} s", end="")
    print(f"  (this machine computed {busy:.0f} s, and had {idle:.0f} s with nothing to do)")
    for name, counts in wrong.items():
        print(f"Failed: {name}")
        for said in counts.failures:
            print(f"  {shortened(said)}")
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    return int(total.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
