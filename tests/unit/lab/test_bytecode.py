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
    """Without the files that are only locked."""
    return [file for file in sorted((tmp_path / "kept").glob("*")) if file.name[0] != "."]


def test_a_source_is_compiled_once_and_another_one_anew(tmp_path: Path) -> None:
    assert said(tmp_path, "WORD = 'one'") == "one"
    [file] = kept(tmp_path)
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o777 == 0o600
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


COMPILE = """
import sys
sys.path[:0] = [{place!r}]
import lab_bytecode
lab_bytecode.install({kept!r}, "/opt/mlops/")
import compileall
folder, name = sys.argv[1:]
sys.exit(not compileall.compile_dir(folder, quiet=1, stripdir=folder, prependdir=name))
"""


def compiled(tmp_path: Path, host: str, name: str = "/opt/mlops/app") -> bytes:
    """The bytecode of an application on a host, without the time of its source."""
    folder = tmp_path / host
    folder.mkdir()
    (folder / "part.py").write_text("WORD = 'one'\n")
    program = COMPILE.format(place=str(FOLDER), kept=str(tmp_path / "kept"))
    subprocess.run([sys.executable, "-c", program, str(folder), name], check=True)
    [file] = (folder / "__pycache__").glob("*.pyc")
    return file.read_bytes()[16:]


def test_an_application_is_compiled_once_and_on_another_host_it_is_the_same(tmp_path: Path) -> None:
    first = compiled(tmp_path, "one")
    code = marshal.loads(first)
    assert code.co_filename == "/opt/mlops/app/part.py"
    assert marshal.loads(compiled(tmp_path, "two")) == code
    [file] = kept(tmp_path)
    other = compile("WORD = 'kept'", "/opt/mlops/app/part.py", "exec")
    file.write_bytes(marshal.dumps(other))
    assert marshal.loads(compiled(tmp_path, "three")) == other


def test_an_application_of_another_name_is_compiled_anew(tmp_path: Path) -> None:
    """The code bears its file's name, which a traceback shows."""
    compiled(tmp_path, "one")
    code = marshal.loads(compiled(tmp_path, "two", "/opt/mlops/other"))
    assert code.co_filename == "/opt/mlops/other/part.py"
    assert len(kept(tmp_path)) == 2


def test_what_is_not_ours_is_compiled_as_ever(tmp_path: Path) -> None:
    assert marshal.loads(compiled(tmp_path, "one", "/srv/app")).co_filename == "/srv/app/part.py"
    assert kept(tmp_path) == []


def test_where_nothing_can_be_kept_the_code_is_right_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file, not a directory")
    assert marshal.loads(compiled(tmp_path, "one")).co_filename == "/opt/mlops/app/part.py"


def test_the_builder_keeps_it_where_the_hosts_look(tmp_path: Path) -> None:
    text = (FOLDER / "lab_bytecode.py").read_text()
    assert f'KEPT = "{state.BYTECODE_KEPT}"' in text


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
