# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An environment that is there is not believed by its marker alone."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host import app, app_apply
from ansible_collections.mlops.onprem.plugins.module_utils._host.ledger import Ledger
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import Book

TARGET = app.Target("3.13", "x86_64", "glibc 2.41")
PACKAGE = "lib/python3.13/site-packages"


@pytest.fixture
def wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> app.Environment:
    if os.getuid() != 0:
        pytest.skip("environments belong to root")
    monkeypatch.setattr(app, "ROOT", str(tmp_path / "opt"))
    monkeypatch.setattr(app, "BUILDS", str(tmp_path / "opt" / ".builds"))
    return app.Environment("tool", "0" * 64, sys.executable, TARGET)


@pytest.fixture
def archive(tmp_path: Path) -> str:
    """A tree with one module, as the controller sends it."""
    tree = tmp_path / "tree"
    package, programs = tree / PACKAGE, tree / "bin"
    record = package / "tool-1.dist-info" / "RECORD"
    for folder in (package / "tool", record.parent, programs):
        folder.mkdir(parents=True)
    rows = []
    for name, text in (("tool/__init__.py", "value = 1\n"), ("tool/data.bin", "abcd")):
        (package / name).write_text(text)
        sum_ = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
        rows.append(f"{name},sha256={sum_.rstrip('=')},{len(text)}")
    (programs / "tool").write_text("#!/usr/bin/python3\nimport tool\n")
    (programs / "tool").chmod(0o755)
    rows += ["../../../bin/tool,sha256=AAAA,1", "tool-1.dist-info/RECORD,,"]
    record.write_text("\n".join(rows) + "\n")
    path = tmp_path / "environment.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(tree, arcname=".")
    return str(path)


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.fixture
def installed(
    wanted: app.Environment, archive: str, umask: Callable[[int], int]
) -> app.Environment:
    app_apply.install(wanted, archive)
    assert app_apply.installed(wanted)
    assert app_apply.damaged(wanted) == ""
    assert app_apply.misfits(wanted, ledger_of(wanted)) == {}
    return wanted


def ledger_of(wanted: app.Environment) -> Ledger:
    return app.claimed(Ledger(), "r", wanted, ())


def module(wanted: app.Environment) -> Path:
    return Path(wanted.build) / PACKAGE / "tool" / "__init__.py"


def test_whoever_holds_the_ledger_makes_what_services_can_read(
    tmp_path: Path, umask: Callable[[int], int]
) -> None:
    umask(0o077)
    with Book(check=False, folder=str(tmp_path / "state")):
        (tmp_path / "by-us").mkdir()
        subprocess.run(["mkdir", str(tmp_path / "by-a-program")], check=True)
    for name in ("by-us", "by-a-program"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o755


def test_an_environment_that_a_strict_umask_closed_is_seen_and_opened(
    wanted: app.Environment, archive: str, umask: Callable[[int], int]
) -> None:
    umask(0o077)
    app_apply.install(wanted, archive)
    assert app_apply.installed(wanted)
    wrong = app_apply.misfits(wanted, ledger_of(wanted))
    assert {app.ROOT, app.BUILDS, wanted.builds} <= set(wrong)
    app_apply.mend(wanted, wrong)
    assert app_apply.misfits(wanted, ledger_of(wanted)) == {}
    assert app_apply.damaged(wanted) == ""
    assert stat.S_IMODE(Path(wanted.build).stat().st_mode) == 0o755


def test_a_directory_that_was_there_before_us_keeps_its_mode(
    installed: app.Environment,
) -> None:
    Path(app.ROOT).chmod(0o700)
    assert app_apply.misfits(installed, Ledger()) == {}
    assert app_apply.misfits(installed, ledger_of(installed)) == {app.ROOT: 0o755}


@pytest.mark.parametrize(
    ("name", "mode", "fitting"),
    [
        (f"{PACKAGE}/tool", 0o700, 0o755),
        (f"{PACKAGE}/tool/__init__.py", 0o600, 0o644),
        (f"{PACKAGE}/tool/__init__.py", 0o666, 0o644),
        ("bin/tool", 0o700, 0o755),
        ("pyvenv.cfg", 0o600, 0o644),
    ],
)
def test_a_wrong_mode_is_seen_and_mended(
    installed: app.Environment, name: str, mode: int, fitting: int
) -> None:
    path = Path(installed.build) / name
    path.chmod(mode)
    assert app_apply.damaged(installed) == ""
    assert app_apply.misfits(installed, Ledger()) == {str(path): fitting}
    app_apply.mend(installed, {str(path): fitting})
    assert app_apply.misfits(installed, Ledger()) == {}


def test_a_wrong_owner_is_seen_and_mended(installed: app.Environment) -> None:
    os.chown(module(installed), 1000, 1000)
    wrong = app_apply.misfits(installed, Ledger())
    assert list(wrong) == [str(module(installed))]
    app_apply.mend(installed, wrong)
    assert module(installed).stat().st_uid == 0


def cut(path: Path) -> None:
    path.write_text("v")


def overwrite(path: Path) -> None:
    """Other content of the same size with the old times, as a bad disk or a careful hand leaves."""
    before = path.stat()
    path.write_text("value = 2\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("harm", [Path.unlink, cut, overwrite])
def test_a_damaged_file_is_seen_and_replaced(
    installed: app.Environment, archive: str, harm: Callable[[Path], None]
) -> None:
    harm(module(installed))
    assert app_apply.damaged(installed) == f"{module(installed)} is missing or was changed"
    app_apply.install(installed, archive)
    assert app_apply.damaged(installed) == ""
    assert module(installed).read_text() == "value = 1\n"


@pytest.mark.parametrize(("rarely", "compiled"), [((), True), (("tool/far",), False)])
def test_only_what_is_imported_gets_bytecode(
    wanted: app.Environment, archive: str, tmp_path: Path, rarely: tuple[str, ...], compiled: bool
) -> None:
    far = tmp_path / "tree" / PACKAGE / "tool" / "far"
    far.mkdir()
    (far / "module.py").write_text("value = 2\n")
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "tree", arcname=".")
    environment = replace(wanted, rarely=rarely)
    app_apply.install(environment, archive)
    package = Path(wanted.build) / PACKAGE / "tool"
    assert list(package.glob("__pycache__/__init__.*.pyc"))
    assert bool(list(package.glob("far/__pycache__/module.*.pyc"))) is compiled
    assert app_apply.installed(environment)
    assert app_apply.damaged(environment) == ""
    assert app_apply.misfits(environment, Ledger()) == {}


def test_a_missing_python_is_damage(installed: app.Environment) -> None:
    (Path(installed.build) / "bin" / "python").unlink()
    assert app_apply.damaged(installed).endswith("/bin/python is missing")


def test_a_file_that_was_only_touched_is_no_damage(installed: app.Environment) -> None:
    os.utime(module(installed))
    assert app_apply.damaged(installed) == ""


def test_either_content_of_a_file_that_two_wheels_bring_is_right(
    installed: app.Environment,
) -> None:
    other = Path(installed.build) / PACKAGE / "other-1.dist-info"
    other.mkdir()
    (other / "RECORD").write_text("tool/__init__.py,sha256=AAAA,3\n")
    os.utime(module(installed))
    assert app_apply.damaged(installed) == ""
    module(installed).write_text("neither of both")
    assert app_apply.damaged(installed) != ""


def test_the_rows_of_a_record_that_say_something() -> None:
    text = 'a.py,sha256=AAEC,3\n"b, c.py",sha256=AAEC,\n../../../bin/x,sha256=AAEC,3\nRECORD,,\n'
    assert list(app.recorded(text)) == [("a.py", "000102", 3), ("b, c.py", "000102", None)]


@pytest.fixture
def patched(wanted: app.Environment, archive: str, tmp_path: Path, umask: object) -> Path:
    """An environment whose wheel was changed on its way, as by an index that adds authorities."""
    tree = tmp_path / "tree"
    (tree / PACKAGE / "tool" / "data.bin").write_text("abcd and the authority of the company")
    with tarfile.open(archive, "w") as tar:
        tar.add(tree, arcname=".")
    app_apply.install(wanted, archive)
    return Path(wanted.build) / PACKAGE / "tool" / "data.bin"


def test_what_came_otherwise_than_recorded_is_whole_until_it_changes(
    wanted: app.Environment, patched: Path
) -> None:
    assert app_apply.damaged(wanted) == ""
    os.utime(patched)
    assert app_apply.damaged(wanted) == ""
    patched.write_text("abcd and the authority of a stranger")
    assert app_apply.damaged(wanted) == f"{patched} is missing or was changed"


def test_an_environment_of_an_earlier_release_is_whole_if_nobody_touched_it(
    wanted: app.Environment, patched: Path
) -> None:
    (Path(wanted.build) / app.CAME_OTHERWISE).unlink()
    assert app_apply.damaged(wanted) == ""
    patched.unlink()
    assert app_apply.damaged(wanted) == f"{patched} is missing or was changed"
