# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What hosts of tests keep of Ansible's modules: the same code, for the same source only."""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from unittest import mock

import pytest
from labhosts import state
from labhosts.state import State
from labhosts.topology import load

FOLDER = Path(state.__file__).parent
PROGRAM = """
import sys
sys.path[:0] = [{place!r}]
import lab_bytecode
lab_bytecode.install({kept!r})
sys.path[:0] = [{archive!r}]
import part
print(part.WORD)
"""


def said(tmp_path: Path, source: str, archive: str = "x_payload.zip") -> str:
    """What a module in a zip says, in a Python of its own that keeps what it compiled."""
    path = tmp_path / archive
    with zipfile.ZipFile(path, "w") as stream:
        stream.writestr("part.py", source)
    program = PROGRAM.format(place=str(FOLDER), kept=str(tmp_path / "kept"), archive=str(path))
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return done.stdout.strip()


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "kept").glob("*"))


def test_a_source_is_compiled_once_and_another_one_anew(tmp_path: Path) -> None:
    assert said(tmp_path, "WORD = 'one'") == "one"
    [file] = kept(tmp_path)
    assert file.parent.stat().st_mode & 0o777 == 0o700
    # What is kept is what runs the next time: exchanged here to see that it is read.
    file.write_bytes(marshal.dumps(compile("WORD = 'kept'", "part.py", "exec")))
    assert said(tmp_path, "WORD = 'one'") == "kept"
    assert said(tmp_path, "WORD = 'two'") == "two"
    assert len(kept(tmp_path)) == 2


@pytest.mark.parametrize("spoilt", [b"", b"nonsense"])
def test_a_spoilt_file_is_compiled_and_kept_anew(tmp_path: Path, spoilt: bytes) -> None:
    said(tmp_path, "WORD = 'one'")
    [file] = kept(tmp_path)
    file.write_bytes(spoilt)
    assert said(tmp_path, "WORD = 'one'") == "one"
    assert file.read_bytes() not in (b"", b"nonsense")


def test_other_zips_are_left_alone(tmp_path: Path) -> None:
    assert said(tmp_path, "WORD = 'one'", "application.zip") == "one"
    assert kept(tmp_path) == []


def test_only_hosts_of_tests_have_it(tmp_path: Path) -> None:
    page = tmp_path / "lab.toml"
    page.write_text(
        'project = "lab"\nnetwork = "10.9.0.0/24"\ninventory = "site"\n'
        '[hosts.one]\nip = "10.9.0.11"\n'
    )
    topology = load(page)
    [host] = topology.hosts
    names = {}
    for value in ("", "1"):
        with (
            mock.patch.dict(os.environ, {state.FOR_TESTS: value}),
            mock.patch.object(State, "_read", return_value=""),
        ):
            names[value] = set(State(topology, mock.Mock()).files_for(host))
    added = names["1"] - names[""]
    assert {Path(name).name for name in added} == {"lab_bytecode.py", "lab_bytecode.pth"}
    assert names[""] < names["1"]
