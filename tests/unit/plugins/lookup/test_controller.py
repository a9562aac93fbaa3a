# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole runs that are refused before anything is looked at: one sentence, exit code 1."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.mlops.onprem.plugins.plugin_utils import controller
from ansible_collections.mlops.onprem.plugins.plugin_utils.inventory_sources import broken_variables

from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[4]
OF_A_GROUP, OF_A_HOST = "group_vars/control.yml", "host_vars/ctl1/main.yml"
LOCAL = "control: {hosts: {ctl1: {ansible_connection: local}}}\n"


def run(
    tmp_path: Path, *arguments: str, page: str = LOCAL, name: str = "assess", blocked: str = ""
) -> tuple[int, str]:
    """Exit code and words of a playbook; ``blocked`` is a package that cannot be imported."""
    (tmp_path / "hosts.yml").write_text(page)
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "COLUMNS": "500", "LC_ALL": "C.UTF-8"}
    if blocked:
        broken = tmp_path / "broken" / blocked
        broken.mkdir(parents=True)
        (broken / "__init__.py").write_text("raise ImportError('no library')\n")
        environment["PYTHONPATH"] = str(broken.parent)
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            "-i",
            str(tmp_path / "hosts.yml"),
            str(ROOT / "playbooks" / f"{name}.yml"),
            *arguments,
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=5 * PATIENCE,
    )
    return done.returncode, done.stdout + done.stderr


def refusals(said: str) -> list[str]:
    return [line for line in said.splitlines() if "REFUSED" in line]


def assert_clean(said: str) -> None:
    for noise in ("Origin:", "Traceback", "The lookup plugin", "has no attribute", "-vvv"):
        assert noise not in said


@pytest.mark.parametrize("name", ["assess", "site", "remove", "selfcheck", "pipeline_check"])
def test_an_inventory_without_hosts_ends_every_playbook(name: str, tmp_path: Path) -> None:
    code, said = run(tmp_path, page="control: {hosts: {}}\n", name=name)
    [line] = refusals(said)
    assert code == 1
    assert f"The inventory ({tmp_path}/hosts.yml) has no hosts, wanted at least one host" in line
    assert_clean(said)


@pytest.mark.parametrize("name", ["remove", "selfcheck"])
def test_a_half_read_inventory_ends_a_playbook_that_does_not_assess(
    name: str, tmp_path: Path
) -> None:
    code, said = run(tmp_path, page=LOCAL + "edge: {hosts: [cam1]}\n", name=name)
    assert code == 1
    assert f"{tmp_path}/hosts.yml: hosts of the group edge is a list" in refusals(said)[0]


def test_a_package_that_cannot_be_loaded_ends_the_run_with_the_command(tmp_path: Path) -> None:
    code, said = run(tmp_path, blocked="psycopg")
    [line] = refusals(said)
    assert code == 1
    assert "This machine lacks the Python package psycopg; install with: " in line
    assert "psycopg[binary]" in line
    assert_clean(said)


@pytest.mark.parametrize(
    ("place", "text", "reason"),
    [
        (OF_A_GROUP, "a: [1\n", "cannot be read: YAML parsing failed"),
        (OF_A_HOST, "a: 1\n\tb: 2\n", "YAML parsing failed: Tabs are usually invalid"),
        (OF_A_GROUP, "- a\n", "cannot be read: it holds a list, wanted variables"),
        (OF_A_HOST, "just text\n", "cannot be read: it holds a text, wanted variables"),
        (OF_A_GROUP, "$ANSIBLE_VAULT;1.1;AES256\n3130\n", "give its password with "),
        (OF_A_HOST, "$ANSIBLE_VAULT;1.1;AES256\n3130\n", "--ask-vault-pass"),
    ],
)
def test_a_broken_file_of_variables_is_named(
    place: str, text: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text(text)
    code, said = run(tmp_path)
    [line] = refusals(said)
    assert code == 1
    assert f"{tmp_path}/{place} cannot be read: " in line
    assert reason in line


@pytest.mark.parametrize("value", ["français", "[de]"])
def test_a_value_at_which_ansible_would_stop_is_told_with_its_file(
    value: str, tmp_path: Path
) -> None:
    code, said = run(tmp_path, page=LOCAL + f"all: {{vars: {{mlops_language: {value}}}}}\n")
    [line] = refusals(said)
    assert code == 1
    assert "mlops_language is " in line
    assert f"one of en, de; mend mlops_language in {tmp_path}/hosts.yml" in line
    assert_clean(said)


@pytest.mark.parametrize("place", ["hosts.yml", OF_A_GROUP])
def test_a_file_in_another_encoding_is_named_with_its_line(place: str, tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(LOCAL)
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_bytes("a: 1\nmlops_site_name: Würth\n".encode("latin-1"))
    given = {"ansible_inventory_sources": [str(tmp_path)]}
    groups = {"all": ["ctl1"], "control": ["ctl1"]}
    found = broken_variables({**given, "groups": groups}, DataLoader())
    assert found == [
        f"{tmp_path}/{place} cannot be read: it is not in UTF-8 (line 2); save it in that encoding"
    ]


def test_a_localhost_with_another_python_gets_the_line_to_write(tmp_path: Path) -> None:
    poor = tmp_path / "python3"
    poor.write_text("#!/bin/sh\nexit 1\n")
    poor.chmod(0o755)

    def remedies(**variables: str) -> list[str]:
        class Hosts(dict[str, dict[str, str]]):
            raw_get = dict.__getitem__

        hosts = Hosts(localhost={"ansible_connection": "local", **variables})
        found = controller.own_python({"hostvars": hosts, "groups": {"all": list(hosts)}})
        return [row.remedy for row in found]

    wanted = 'set for it ansible_python_interpreter: "{{ ansible_playbook_python }}"'
    assert remedies(ansible_python_interpreter=str(poor)) == [wanted]
    assert remedies(ansible_python_interpreter="/nowhere/python3") == [wanted]
    assert remedies(ansible_python_interpreter=sys.executable) == []
    assert remedies(ansible_python_interpreter="{{ ansible_playbook_python }}") == []
    assert controller.own_python({"hostvars": {}, "groups": {"all": ["ctl1"]}}) == []


def test_a_misspelt_tag_ends_the_run(tmp_path: Path) -> None:
    code, said = run(tmp_path, "--tags", "monitring")
    assert code == 1
    assert "No task has the tag monitring (did you mean monitoring?)" in refusals(said)[0]


def test_a_run_that_begins_in_the_middle_ends_with_the_option(tmp_path: Path) -> None:
    code, said = run(tmp_path, "--start-at-task", "Judge")
    assert code != 0
    assert "leave out --start-at-task" in said
    assert_clean(said)


@pytest.mark.parametrize(
    "page", [LOCAL, "edge: {hosts: {cam1: {}}}\n", "", "control: {hosts: [a]}\n"]
)
def test_the_syntax_can_be_checked_without_a_site(page: str, tmp_path: Path) -> None:
    code, said = run(tmp_path, "--syntax-check", page=page, name="site")
    assert code == 0, said


def test_tags_of_others_are_left_to_them(tmp_path: Path) -> None:
    assert controller.unknown_tags(("web",), (str(tmp_path / "own.yml"),)) == ""
    assert controller.unknown_tags((), ("mlops.onprem.site",)) == ""
    assert controller.unknown_tags(("all", "monitoring"), ("mlops.onprem.site",)) == ""
    assert "did you mean gateway" in controller.unknown_tags(("gatway",), ("mlops.onprem.site",))


def test_a_collection_tells_its_version() -> None:
    assert controller.installed("mlops.onprem")[:1].isdigit()
    assert controller.installed("nobody.nothing") == ""
