"""What a person sees while a playbook runs, and what the benchmark reads afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]

PLAYBOOK = """
- name: First stage
  hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Say two lines
      ansible.builtin.debug: {msg: "one\\ntwo"}
    - name: Write a file
      ansible.builtin.copy: {content: new, dest: "{{ target }}", mode: "0600"}
    - name: Look at nothing
      ansible.builtin.stat: {path: /}
- name: Second stage
  hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Refuse
      ansible.builtin.fail: {msg: "found 1, wanted 2; set some_variable"}
      when: refuse | default(false) | bool
"""


def run(tmp_path: Path, *arguments: str) -> tuple[int, str, Path]:
    """Run the playbook in a process of its own; return code, output and timings file."""
    playbook = tmp_path / "play.yml"
    playbook.write_text(PLAYBOOK)
    timings = tmp_path / "timings.json"
    environment = os.environ | {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_STDOUT_CALLBACK": "mlops.onprem.progress",
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "ansible"),
        "MLOPS_TIMINGS_FILE": str(timings),
        "ANSIBLE_FORCE_COLOR": "0",
    }
    ansible_playbook = Path(sys.executable).with_name("ansible-playbook")
    command = [str(ansible_playbook), "-i", "localhost,", str(playbook), *arguments]
    command += ["-e", f"target={tmp_path / 'target'}"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    return done.returncode, done.stdout, timings


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str, Path]:
    """The playbook where the file is not there yet."""
    return run(tmp_path_factory.mktemp("first"))


def test_a_change_is_one_line_and_its_absence_none(first: tuple[int, str, Path]) -> None:
    code, output, timings = first
    assert code == 0
    assert [line for line in output.splitlines() if "Write a file" in line]
    assert "Look at nothing" not in output
    again = timings.with_name("again")
    again.mkdir()
    (again / "target").write_bytes((timings.parent / "target").read_bytes())
    (again / "target").chmod(0o600)
    _code, second, _file = run(again)
    assert "Write a file" not in second
    assert "nothing to change" in second


def test_messages_are_printed_as_text(first: tuple[int, str, Path]) -> None:
    assert "one\ntwo\n" in first[1]


def test_a_failure_names_task_host_and_sentence(tmp_path: Path) -> None:
    code, output, _file = run(tmp_path, "-e", "refuse=true")
    assert code == 2
    assert "FAILED  Refuse" in output
    assert "localhost: found 1, wanted 2; set some_variable" in output


@pytest.mark.parametrize("mode", ["--check", "--diff"])
def test_differences_are_shown_when_asked_for(tmp_path: Path, mode: str) -> None:
    _code, output, _file = run(tmp_path, mode)
    assert ("+new" in output) == (mode == "--diff")
    assert ("nothing is changed" in output) == (mode == "--check")


def test_verbose_output_is_the_default_callback(tmp_path: Path) -> None:
    _code, output, _file = run(tmp_path, "-v")
    assert "TASK [Write a file]" in output
    assert "PLAY [First stage]" in output


def test_timings_count_stages_tasks_and_hosts(first: tuple[int, str, Path]) -> None:
    _code, output, timings = first
    report = json.loads(timings.read_text())
    assert [stage["name"] for stage in report["stages"]] == ["First stage", "Second stage"]
    assert report["tasks_per_host"] == {"localhost": 3}
    assert [task["task"] for task in report["tasks"]] == [
        "Say two lines",
        "Write a file",
        "Look at nothing",
    ]
    assert report["seconds"] >= sum(stage["seconds"] for stage in report["stages"]) * 0.9
    assert "Where the time went" in output


STEERING = """
- name: Texts of a host
  hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Say it
      ansible.builtin.debug: {msg: "said \\e]0;owned\\a"}
    - name: Write it
      ansible.builtin.copy: {content: "written \\e[2J", dest: "{{ target }}", mode: "0600"}
    - name: Fail with it
      ansible.builtin.fail: {msg: "failed \\e[31m"}
"""


def test_no_text_of_a_host_steers_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "PLAYBOOK", STEERING)
    code, said, _file = run(tmp_path, "--diff")
    assert code == 2
    assert "\x1b" not in said
    for shown in ("said \\x1b]0;owned\\x07", "written \\x1b[2J", "failed \\x1b[31m"):
        assert shown in said
