# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Break what decides a rollout, one place at a time, and see that some test notices.

Each mutant is the code with one change: a comparison is negated, a branch is never taken, or a gate
of a ring always passes. A mutant that no test notices is a rule that nobody holds. Runs in forked
processes over the sources in memory; no file is changed.

    python -m tests.soak.mutants              all of them
    python -m tests.soak.mutants --sample 12  an even share of them
    python -m tests.soak.mutants --rules --quick  the rules that CI breaks
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.machinery
import importlib.util
import io
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import ModuleType

# Imported once, not by each child; what is tested is imported in the child only.
import hypothesis.strategies  # noqa: F401
import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "ansible_collections.mlops.onprem.plugins.module_utils._rollout"
SOURCES = ROOT / "plugins" / "module_utils" / "_rollout"
TESTS = ROOT / "tests" / "unit" / "plugins" / "module_utils" / "_rollout"
# What is broken, and the tests that have to notice, the quick ones first.
MACHINE = ("test_machine.py", "test_stops.py", "test_campaigns.py", "test_desk.py")
GATES = ("test_gates.py", "test_evalues.py", "test_desk.py")
CHANNELS = ("test_channels.py", "test_states.py", "test_desk.py", "test_campaigns.py")
PARTS = {
    "machine.py": MACHINE,
    "modes.py": MACHINE,
    "standing.py": MACHINE,
    "orders.py": ("test_orders.py", *MACHINE),
    "words.py": ("test_words.py", *MACHINE),
    "channels.py": CHANNELS,
    "states.py": ("test_states.py", "test_channels.py"),
    "gates/judgement.py": GATES,
    "gates/answers.py": GATES,
    "gates/errors.py": GATES,
    "gates/latency.py": GATES,
    "gates/shift.py": GATES,
    "gates/queries.py": GATES,
    "gates/histograms.py": GATES,
    "gates/settings.py": GATES,
    "gates/power.py": GATES,
    "gates/evalues.py": ("test_evalues.py", "test_gates.py"),
}
# What CI breaks: the rules without which a rollout would do harm.
RULES = (
    ("modes.py", "never taken: if state.verdict == FAIL"),
    ("modes.py", "never taken: if unjudged"),
    ("modes.py", "never taken: if persons and ring.name not in state.approvals"),
    ("modes.py", "never taken: if len(deferred) > plan.limits.deferred_share"),
    ("modes.py", "never taken: if unproven and outcome == ROLLED_BACK"),
    ("gates/answers.py", "says PASS instead of FAIL"),
    ("gates/errors.py", "says PASS instead of FAIL"),
    ("gates/latency.py", "says PASS instead of FAIL"),
    ("gates/shift.py", "says PASS instead of FAIL"),
    ("gates/queries.py", "says PASS instead of FAIL"),
)
# A mutant that takes so much of a processor never ends, which is noticed too. One that only waits
# has the longer time, which a busy machine needs for tests that are well.
SECONDS, LONGEST = 120, 1800
OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    part: str
    line: int
    said: str
    number: int  # of the node, in the order of the walk

    def __str__(self) -> str:
        return f"{self.part}:{self.line} {self.said}"


def _comparison(node: ast.AST) -> str:
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return f"negated: {ast.unparse(node)}"
    return ""


def _branch(node: ast.AST) -> str:
    if isinstance(node, ast.If):
        return f"never taken: if {ast.unparse(node.test)}"
    return ""


def _gate(node: ast.AST) -> str:
    if (
        isinstance(node, ast.Name)
        and isinstance(node.ctx, ast.Load)
        and node.id in ("FAIL", "MISSING")
    ):
        return f"says PASS instead of {node.id}"
    return ""


def mutants(part: str) -> list[Mutant]:
    """All mutants of a file."""
    found = []
    for number, node in enumerate(ast.walk(ast.parse((SOURCES / part).read_text()))):
        said = _comparison(node) or _branch(node)
        if not said and part.startswith("gates/"):
            said = _gate(node)
        if said:
            found.append(Mutant(part, node.lineno, said, number))  # type: ignore[attr-defined]
    return sorted(found, key=lambda mutant: (mutant.line, mutant.number))


def broken(mutant: Mutant) -> ast.Module:
    """The file with the change."""
    tree = ast.parse((SOURCES / mutant.part).read_text())
    node = list(ast.walk(tree))[mutant.number]
    if isinstance(node, ast.Compare):
        node.ops = [OPPOSITE[type(node.ops[0])]()]
    elif isinstance(node, ast.If):
        node.test = ast.copy_location(ast.Constant(False), node.test)
    elif isinstance(node, ast.Name):
        node.id = "PASS"
    return ast.fix_missing_locations(tree)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Hands the changed file to whoever imports it."""

    def __init__(self, mutant: Mutant) -> None:
        self._name = f"{PACKAGE}.{mutant.part[:-3].replace('/', '.')}"
        self._path = SOURCES / mutant.part
        self._code = compile(broken(mutant), str(self._path), "exec")

    def find_spec(self, name: str, *_where: object) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(name, self._path, loader=self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:  # noqa: ARG002
        return None

    def exec_module(self, module: ModuleType) -> None:
        # Every gate may have to say PASS, whether it does so otherwise or not.
        module.__dict__["PASS"] = "PASS"
        exec(self._code, module.__dict__)


def _tests(name: str) -> int:
    for known in list(sys.modules):
        if known.startswith(("ansible_collections", "tests.unit")):
            del sys.modules[known]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return int(
            pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--no-header", str(TESTS / name)])
        )


def noticed(mutant: Mutant | None, tests: Sequence[str]) -> bool:
    """Whether some test fails with the change; without one, whether the tests fail anyway."""
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        signal.alarm(LONGEST)
        code = 1
        with suppress(BaseException):
            if mutant is not None:
                sys.meta_path.insert(0, Finder(mutant))
            # One file after the other: most are noticed by the first, and no other is read then.
            code = next(filter(None, map(_tests, tests)), 0)
        os._exit(min(code, 100))
    _pid, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) != 0


def sampled(found: Sequence[Mutant], number: int) -> Iterator[Mutant]:
    """An even share of all mutants; the same every time."""
    if not number or number >= len(found):
        yield from found
        return
    for index in range(number):
        yield found[(2 * index + 1) * len(found) // (2 * number)]


def ruled(found: Sequence[Mutant]) -> list[Mutant]:
    """The mutants that CI tries; a rule that is no longer there is a mistake of this table."""
    return [
        next(one for one in found if one.part == part and one.said.startswith(said))
        for part, said in RULES
    ]


def processor() -> float:
    """Seconds of processor that the tests took so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(arguments: Sequence[str] | None = None) -> int:
    """Break and test; 1 where something was not noticed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=int, default=0, help="so many of all mutants")
    parser.add_argument("--part", nargs="+", choices=sorted(PARTS), help="of these files only")
    parser.add_argument("--rules", action="store_true", help="only the rules that CI breaks")
    parser.add_argument("--quick", action="store_true", help="only the tests that are first")
    asked = parser.parse_args(arguments)
    os.chdir(ROOT)
    found = [mutant for part in PARTS if part in (asked.part or PARTS) for mutant in mutants(part)]
    chosen = ruled(found) if asked.rules else list(sampled(found, asked.sample))
    tests = {part: names[: 1 if asked.quick else None] for part, names in PARTS.items()}
    if not chosen or noticed(None, tests[chosen[0].part]):
        print("The tests fail, or there is nothing to break; mend that first.")
        return 2
    started, survivors = time.monotonic(), []
    for part, of_part in groupby(chosen, key=lambda mutant: mutant.part):
        tried, spent = list(of_part), processor()
        for mutant in tried:
            if not noticed(mutant, tests[part]):
                survivors.append(mutant)
                print(f"not noticed: {mutant}", flush=True)
        missed = sum(mutant.part == part for mutant in survivors)
        told = f"{len(tried) - missed} of {len(tried)} noticed"
        print(f"{part}: {told}, {processor() - spent:.0f} s of processor", flush=True)
    print(
        f"{len(chosen) - len(survivors)} of {len(chosen)} mutants noticed"
        f" ({len(found)} in all) in {time.monotonic() - started:.0f} s"
    )
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
