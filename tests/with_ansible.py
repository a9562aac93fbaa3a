# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which unit tests have to do with Ansible: only they say something new under its other versions.

A test has to do with it if its text names it (a program, a variable, a package), or if something
that it imports, however far away, imports it. All other code runs once: that every Python can read
and import it is what the sanity tests see to.

    python -m tests.with_ansible      # the files

Needs nothing but Python.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UNIT = ROOT / "tests" / "unit"
COLLECTION = "ansible_collections.mlops.onprem."
NAMED = re.compile(r"ansible(?!_collections)")
# Where modules that are not of the collection are looked for, as pytest does.
PLACES = (ROOT, ROOT / "pipeline", ROOT / "extensions" / "lab")


@cache
def imports(path: Path) -> frozenset[str]:
    """Full names of all that a file imports, anywhere in it; ``a.b`` and ``a.b.c`` for one name."""
    found: set[str] = set()
    package = _package_of(path)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                base = [*package[: len(package) - node.level + 1], *base]
            found.add(".".join(base))
            found.update(".".join([*base, alias.name]) for alias in node.names)
    return frozenset(found)


def _package_of(path: Path) -> list[str]:
    """The package of a file, for imports that are relative to it."""
    parts = list(path.relative_to(ROOT).parent.parts)
    return [*COLLECTION.strip(".").split("."), *parts] if parts[:1] == ["plugins"] else parts


def files_of(name: str) -> Iterator[Path]:
    """The files of this repository that importing a name reads, those of its packages too."""
    places = (ROOT,) if name.startswith(COLLECTION) else PLACES
    for place in places:
        yield from _files(place, name.removeprefix(COLLECTION))


@cache
def _files(place: Path, name: str) -> tuple[Path, ...]:
    """Those below one place; most names are asked for again and again."""
    parts = name.split(".")
    targets = [place.joinpath(*parts[:length]) for length in range(1, len(parts) + 1)]
    files = [file for one in targets for file in (one / "__init__.py", one.with_suffix(".py"))]
    return tuple(file for file in files if file.is_file())


@cache
def reaches(path: Path) -> frozenset[Path]:
    """The file, all files of this repository that it imports, and so on."""
    found, waiting = {path}, [path]
    while waiting:
        for name in imports(waiting.pop()):
            for file in files_of(name):
                if file not in found:
                    found.add(file)
                    waiting.append(file)
    return frozenset(found)


def knows_ansible(test: Path) -> bool:
    """Whether a test, its fixtures, or anything that they import has to do with Ansible."""
    roots = [test, *(folder / "conftest.py" for folder in test.parents if folder != ROOT.parent)]
    for root in roots:
        if root.is_file() and ROOT in root.parents:
            for file in reaches(root):
                if any(name.split(".")[0] == "ansible" for name in imports(file)):
                    return True
                ours = file.relative_to(ROOT).parts[0] == "tests"
                if ours and NAMED.search(file.read_text("utf-8")):
                    return True
    return False


def chosen() -> list[Path]:
    """The unit tests that run with every ansible-core."""
    return [path for path in sorted(UNIT.rglob("test_*.py")) if knows_ansible(path)]


if __name__ == "__main__":
    print(*(path.relative_to(ROOT) for path in chosen()), sep="\n")
