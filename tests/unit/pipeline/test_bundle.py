# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle holds all that the engine imports, and is the same bytes for the same code."""

from __future__ import annotations

import ast
import shutil
import zipfile
from pathlib import Path

import bundle
import pytest
from mlops_pipeline.project import load_project

SAMPLES = ("breast_cancer", "digits")
SAMPLE = load_project("digits")
COLLECTION = "ansible_collections.mlops.onprem."


def imported(path: str, text: str) -> set[str]:
    """The files of the collection that a file imports by name, its packages included."""
    package = path.rpartition("/")[0].split("/")
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom):
            continue
        words = (node.module or "").split(".") if node.module else []
        if node.level:
            words = [*package[: len(package) - node.level + 1], *words]
        elif (node.module or "").startswith(COLLECTION):
            words = words[3:]
        else:
            continue
        for names in ([*words], *([*words, alias.name] for alias in node.names)):
            for end in range(1, len(names) + 1):
                base = "/".join(names[:end])
                found |= {f"{base}.py", f"{base}/__init__.py"}
    return {name for name in found if (bundle.ROOT / name).is_file()}


def test_nothing_that_is_imported_is_missing(tmp_path: Path) -> None:
    place, changed = bundle.ensure(SAMPLE, tmp_path)
    assert changed
    with zipfile.ZipFile(place) as archive:
        names = set(archive.namelist())
        wanted: set[str] = set()
        for name in names:
            if name.endswith(".py") and not name.startswith("project/"):
                wanted |= imported(name, archive.read(name).decode())
    assert len(wanted) > 40
    assert sorted(wanted - names) == []


@pytest.mark.parametrize("name", SAMPLES)
def test_the_project_is_the_one_that_the_controller_has(tmp_path: Path, name: str) -> None:
    sample = load_project(name)
    place, _changed = bundle.ensure(sample, tmp_path / "cache")
    with zipfile.ZipFile(place) as archive:
        archive.extractall(tmp_path / "code")
    there = load_project(tmp_path / "code" / bundle.PROJECT, str(tmp_path / "code" / bundle.LOCK))
    assert there.digest == sample.digest
    assert there.lock_digest == sample.lock_digest


def test_the_same_code_is_the_same_file_wherever_it_lies(tmp_path: Path) -> None:
    first, _changed = bundle.ensure(SAMPLE, tmp_path / "cache")
    copy = tmp_path / "elsewhere"
    shutil.copytree(SAMPLE.folder, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert bundle.ensure(load_project(copy), tmp_path / "cache") == (first, False)
    (copy / "MLproject").write_text((copy / "MLproject").read_text() + "\n# another\n")
    other, changed = bundle.ensure(load_project(copy), tmp_path / "cache")
    assert changed
    assert other != first
