# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documents promise: links lead somewhere, commands exist, requirements are true."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    if not name.startswith(("CHANGELOG", "tests/fixtures"))
]
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def names(path: Path) -> set[str]:
    return {
        re.split(r"[<>=;]", line, maxsplit=1)[0].strip()
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith(("#", "-"))
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file(document: Path) -> None:
    links = LINK.findall(document.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (document.parent / link).exists()] == []


def test_every_command_of_make_that_is_told_exists() -> None:
    targets = set()
    for makefile in ("Makefile", "tests/tests.mk"):
        targets |= set(re.findall(r"^([a-z-]+):", (ROOT / makefile).read_text(), re.MULTILINE))
    told = set()
    for document in DOCUMENTS:
        told |= set(re.findall(r"(?:^|`)make ([a-z-]+)", document.read_text(), re.MULTILINE))
    assert {"site", "assess", "remove"} <= told
    assert told <= targets


def test_every_playbook_that_the_readme_names_exists() -> None:
    text = (ROOT / "README.md").read_text()
    line = next(line for line in text.splitlines() if "mlops.onprem.assess    # also" in line)
    called = {"assess", *re.findall(r" \.([a-z_]+)", line)}
    assert {"site", "remove"} <= called
    assert all((ROOT / f"playbooks/{name}.yml").is_file() for name in called)


def test_an_execution_environment_gets_what_the_controller_needs() -> None:
    told = yaml.safe_load((ROOT / "meta/execution-environment.yml").read_text())["dependencies"]
    needed = names(ROOT / "requirements/controller.in")
    # Ansible is the environment's own; the rest of these comes with it. Nothing is built there.
    of_ansible = {"ansible", "ansible-core", "Jinja2", "PyYAML", "jmespath"}
    assert names(ROOT / told["python"]) == needed - of_ansible - {"distlib"}
    assert any(
        line.startswith("openssh") for line in (ROOT / told["system"]).read_text().split("\n")
    )


def test_the_readme_names_the_ansible_core_that_the_collection_asks_for() -> None:
    asked = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["requires_ansible"]
    oldest = re.search(r">=(\d+\.\d+)", asked)
    assert oldest
    assert f"ansible-core {oldest[1]} to" in (ROOT / "README.md").read_text()
