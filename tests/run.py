# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the tests: one line a step, output only of what failed, the times, and the counts at the end.

    python tests/run.py [lint] [unit] [sanity] [molecule [SCENARIO...]] [site]

Without arguments everything runs. The output of every step is kept in ``build/test``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "test"
BIN = Path(sys.executable).parent
COLLECTION = ".collections/ansible_collections/mlops/onprem"
NEWEST = ROOT / ".venv-2.21"  # the newest ansible-core, where a Python for it exists
STAGES = ("lint", "unit", "sanity", "molecule", "site")
TAIL = 60


@dataclass(frozen=True)
class Counts:
    """How many tests passed, failed and were skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
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
                total += Counts(
                    number["tests"] - failed - number["skipped"], failed, number["skipped"]
                )
            path.unlink()
        return total if good or total.failed else total + Counts(failed=1)

    return count


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
    yield Step("lint", "mypy", [str(BIN / "mypy"), f"{COLLECTION}/plugins", "tests"])
    yield Step("lint", "yamllint", [str(BIN / "yamllint"), "--strict", "."])
    yield Step("lint", "ansible-lint", [str(BIN / "ansible-lint"), "--offline", "-q"])
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
        yield pytest("unit", "core 2.21", "tests/unit", python=NEWEST / "bin" / "python")


def sanity() -> Iterator[Step]:
    """ansible-test sanity without ignores."""
    yield Step("sanity", "core 2.19", [sys.executable, "tests/sanity.py"], count_sanity)
    if prepare_newest():
        command = [str(NEWEST / "bin" / "python"), "tests/sanity.py", "--light"]
        yield Step("sanity", "core 2.21", command, count_sanity)


def molecule(scenarios: list[str]) -> Iterator[Step]:
    """The scenarios of the roles, one after the other on the same hosts."""
    program = [str(BIN / "molecule")]
    present = sorted(path.parent.name for path in ROOT.glob("extensions/molecule/*/molecule.yml"))
    chosen = scenarios or [name for name in present if name not in {"default", "site"}]
    # Molecule remembers that it created the hosts even when they are gone: see that they stand.
    topology = "extensions/molecule/topology.toml"
    up = [sys.executable, "extensions/lab/lab.py", "up", "--topology", topology]
    yield Step("molecule", "hosts", up, lambda good, _output: Counts(failed=int(not good)))
    for name in chosen:
        command = [*program, "test", "-s", name, "--destroy=never", "--no-command-borders"]
        yield Step("molecule", name, command, count_scenario(name))
    if not scenarios:
        yield around("molecule", "destroy", "default")


def site() -> Iterator[Step]:
    """The scenario that is the lab site itself."""
    command = [
        str(BIN / "molecule"),
        "test",
        "-s",
        "site",
        "--destroy=never",
        "--no-command-borders",
    ]
    more = {"MLOPS_NEWEST": str(NEWEST)} if prepare_newest() else {}
    if (ROOT / "extensions/molecule/site/molecule.yml").exists():
        # What Molecule remembers of the hosts may be of a lab that is gone.
        yield around("site", "reset", "site")
        yield Step("site", "lab", command, count_scenario("site"), more)
        # A site that stood before its test stays.
        yield around("site", "destroy", "site")


def around(stage: str, verb: str, scenario: str) -> Step:
    """A command of Molecule before or after the tests, which only counts if it fails."""
    command = [str(BIN / "molecule"), verb, "-s", scenario]
    return Step(stage, verb, command, lambda good, _output: Counts(failed=int(not good)))


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


def prepare_newest() -> bool:
    """Build the environment with the newest ansible-core; say so once where that is impossible."""
    python = newest_python()
    if python is None:
        print("skip  core 2.21: no Python 3.12 or newer on this machine", flush=True)
        return False
    command = ["extensions/env.sh", "requirements-test-2.21.txt", NEWEST.name]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHON": python}, check=False)
    return done.returncode == 0


def run(step: Step) -> tuple[Counts, float]:
    """Run a step, keep its output, show the end of it if it failed."""
    log = BUILD / f"{step.stage}-{step.name}.log".replace(" ", "-")
    path = f"{BIN}:{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "ANSIBLE_FORCE_COLOR": "false", "NO_COLOR": "1"}
    environment.update(step.environment)
    started = time.monotonic()
    with log.open("wb") as stream:
        done = subprocess.run(
            step.command,
            cwd=ROOT,
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
        )
    seconds = time.monotonic() - started
    output = log.read_text(encoding="utf-8", errors="replace")
    good = done.returncode == 0
    counts = step.count(good, output)
    print(
        f"{'ok  ' if good else 'FAIL'}  {step.stage}: {step.name:28} {seconds:7.1f} s", flush=True
    )
    if not good:
        print("\n".join(f"      {line}" for line in output.splitlines()[-TAIL:]))
        print(f"      all of it: {log.relative_to(ROOT)}", flush=True)
    return counts, seconds


def main() -> int:
    """Run the chosen stages and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "words", nargs="*", metavar="STAGE", help="stages; after molecule: scenarios"
    )
    words = parser.parse_args().words
    stages = [word for word in words if word in STAGES] or list(STAGES)
    scenarios = words[words.index("molecule") + 1 :] if "molecule" in words else []
    scenarios = [word for word in scenarios if word not in STAGES]
    BUILD.mkdir(parents=True, exist_ok=True)
    steps: dict[str, Callable[[], Iterator[Step]]] = {
        "lint": lint,
        "unit": unit,
        "sanity": sanity,
        "molecule": lambda: molecule(scenarios),
        "site": site,
    }
    results: list[tuple[Step, Counts, float]] = []

    def lane(names: list[str]) -> None:
        for name in names:
            for step in steps[name]():
                results.append((step, *run(step)))

    # The scenarios of the roles wait more than they compute, so the rest runs beside them.
    started = time.monotonic()
    beside = [stage for stage in stages if stage != "molecule"]
    molecule_only = [stage for stage in stages if stage == "molecule"]
    with ThreadPoolExecutor() as pool:
        lanes = [pool.submit(lane, names) for names in (beside, molecule_only) if names]
        for one in lanes:
            one.result()
    elapsed = time.monotonic() - started
    total = sum((counts for _step, counts, _seconds in results), Counts())
    times = [(seconds, f"{step.stage}: {step.name}") for step, _counts, seconds in results]
    wrong = [f"{step.stage}: {step.name}" for step, counts, _seconds in results if counts.failed]
    whole = sum(seconds for seconds, _name in times)
    print("\nWhere the time went")
    for seconds, name in sorted(times, reverse=True):
        print(f"  {name:36} {seconds:7.1f} s  {'█' * round(40 * seconds / max(whole, 1))}")
    print(f"  {'all, one after the other':36} {whole:7.1f} s")
    print(f"  {'all, as it ran':36} {elapsed:7.1f} s")
    if wrong:
        print(f"Failed: {', '.join(wrong)}")
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    return int(total.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
