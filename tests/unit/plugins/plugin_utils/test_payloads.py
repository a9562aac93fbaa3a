# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible packs for a module is packed once for all runs, as long as no file has changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible import constants
from ansible_collections.mlops.onprem.plugins.plugin_utils import payloads

ROOT = Path(__file__).resolve().parents[4]
STAT = "ansible.modules.stat-ZIP_DEFLATED-none"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "module_utils"
    folder.mkdir()
    (folder / "one.py").write_text("ONE = 1\n")
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The packs of a run: one of Ansible, one of nobody we know, one that is not complete."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / STAT).write_bytes(b"pack.")
    (folder / f"{STAT}.lock").write_bytes(b"")
    (folder / "ansible.modules.copy-ZIP_DEFLATED-none").write_bytes(b"pa")
    (folder / "ansible.modules.file-ZIP_DEFLATED-none").write_bytes(b"")
    (folder / "ansible_collections.company.own.plugins.modules.x-none").write_bytes(b"pack.")
    monkeypatch.setattr(payloads, "of_the_run", lambda: folder)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_complete_packs_that_we_know_are_kept(
    run: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(payloads.place, "__defaults__", ((source,),))
    kept = payloads.bring()
    assert kept is not None
    payloads.keep(kept)
    assert names(kept) == [STAT]
    (run / STAT).unlink()
    assert payloads.bring() == kept
    assert (run / STAT).read_bytes() == b"pack."


def test_a_file_that_changed_during_the_run_leaves_nothing(
    run: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(payloads.place, "__defaults__", ((source,),))
    kept = payloads.bring()
    assert kept is not None
    os.utime(source / "one.py", ns=(1, 1))
    payloads.keep(kept)
    assert names(kept) == []


@pytest.mark.parametrize("change", ["new", "longer", "touched", "gone", "renamed"])
def test_any_change_of_a_file_is_another_state(source: Path, change: str) -> None:
    before = payloads.state([source])
    assert payloads.state([source]) == before
    file = source / "one.py"
    if change == "new":
        (source / "two.py").write_text("")
    elif change == "longer":
        moment = file.stat()
        file.write_text("ONE = 11\n")
        os.utime(file, ns=(moment.st_atime_ns, moment.st_mtime_ns))
    elif change == "touched":
        os.utime(file, ns=(1, 1))
    elif change == "gone":
        file.unlink()
    else:
        file.rename(source / "uno.py")
    assert payloads.state([source]) != before


def test_a_folder_that_others_can_write_is_not_used(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "modules"
    assert payloads.place(folder, [source]) is not None
    folder.chmod(0o777)
    assert payloads.place(folder, [source]) is None
    folder.chmod(0o700)
    (folder / payloads.state([source])).chmod(0o770)
    assert payloads.place(folder, [source]) is None


def test_what_can_stand_in_for_files_of_ansible_is_not_kept_apart(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DEFAULT_MODULE_UTILS_PATH", [str(source)])
    assert payloads.place(tmp_path / "modules", [source]) is None


def test_old_states_go(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "modules"
    for number in range(8):
        source = tmp_path / str(number)
        source.mkdir()
        (source / "one.py").write_text("")
        monkeypatch.setattr(payloads.place, "__defaults__", ((source,),))
        payloads.keep(payloads.place(folder))
    left = list(folder.iterdir())
    assert len(left) == payloads.KEPT_STATES
    assert folder / payloads.state([source]) in left


def test_a_place_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert payloads.bring() is None
    payloads.keep(None)


def test_the_second_run_packs_nothing(tmp_path: Path) -> None:
    """Seen in what Ansible itself says of what it does."""
    play = tmp_path / "play.yml"
    play.write_text(
        "- hosts: localhost\n  connection: local\n  gather_facts: false\n"
        "  tasks: [ansible.builtin.stat: {path: /}]\n"
    )
    environment = os.environ | {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_DEBUG": "1",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        "localhost,",
        str(play),
    ]
    said = []
    for _run in range(2):
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        said.append(done.stdout + done.stderr)
    assert "ANSIBALLZ: Creating module" in said[0]
    assert "ANSIBALLZ: Creating module" not in said[1]
    assert "ANSIBALLZ: using cached module" in said[1]
    assert [path.name for path in (tmp_path / "cache").rglob("ansible.modules.*")] == [STAT]
