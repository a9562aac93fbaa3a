"""Each case of a scenario's cases.yml is refused with its sentence, and no host has changed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra.outside import SITE
from tests.infra.snapshot import Snapshot, differences, take

SHARED = Path(__file__).resolve().parent
ROOT = SHARED.parents[2]
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
CASES: list[dict[str, Any]] = yaml.safe_load((SCENARIO / "cases.yml").read_text())
WORDS = {"case", "vars", "expect", "before", "after"}


def test_every_case_uses_the_vocabulary() -> None:
    for case in CASES:
        assert set(case) <= WORDS, f"{case['case']}: known words are {', '.join(sorted(WORDS))}"
        assert case["expect"]


class Outside:
    """The hosts of the scenario, over SSH."""

    def __init__(self, names: list[str], ssh_config: str) -> None:
        self.names = names
        self.ssh_config = ssh_config
        # How the hosts were at last, as long as nobody has touched them since.
        self.known: dict[str, Snapshot] | None = None

    def shell(self, line: str | None) -> None:
        for name in self.names if line else []:
            self.known = None
            subprocess.run(["ssh", "-F", self.ssh_config, name, str(line)], check=True)

    def snapshot(self) -> dict[str, Snapshot]:
        with ThreadPoolExecutor(len(self.names)) as pool:
            taken = pool.map(lambda name: take(name, Path(self.ssh_config)), self.names)
            self.known = dict(zip(self.names, taken, strict=True))
        return self.known

    def changes_since(self, before: dict[str, Snapshot]) -> list[str]:
        now = self.snapshot()
        return [
            f"{name}: {line}"
            for name in self.names
            for line in differences(before[name], now[name], [])
        ]


def attempt(variables: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run the play of the scenario with the variables of a case."""
    command = [str(Path(sys.executable).with_name("ansible-playbook"))]
    command += ["--inventory", str(SITE)]
    command += ["--extra-vars", json.dumps(variables), str(SHARED / "attempt.yml")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def plain(text: str) -> str:
    """The output without colours, escapes and the breaks of lines that were too long."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text).replace('\\"', '"')
    return re.sub(r"\s+", " ", text)


@pytest.fixture(scope="module")
def outside(request: pytest.FixtureRequest) -> Outside:
    options = request.config.option
    names = [spec.removeprefix("ssh://") for spec in options.hosts.split(",")]
    return Outside(names, options.ssh_config)


@pytest.mark.parametrize("case", CASES, ids=lambda case: re.sub(r"\W+", "-", case["case"]))
def test_refused_and_nothing_changed(case: dict[str, Any], outside: Outside) -> None:
    outside.shell(case.get("before"))
    try:
        before = outside.known or outside.snapshot()
        done = attempt(case.get("vars", {}))
        changes = outside.changes_since(before)
    finally:
        outside.shell(case.get("after"))
    said = plain(done.stdout + done.stderr)
    assert done.returncode != 0, f"{case['case']!r} was accepted:\n{said[-3000:]}"
    assert re.search(case["expect"], said), f"wanted {case['expect']!r}, but the play said:\n{said}"
    assert not changes, "refused, but the hosts have changed"
