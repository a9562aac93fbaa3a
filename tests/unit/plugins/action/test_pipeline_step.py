# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A step is told its own secrets only, and leaves none of them anywhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.action.pipeline_step import SPEC
from ansible_collections.mlops.onprem.plugins.plugin_utils import step
from mlops_pipeline.config import COMPARING, SECRETS

from tests.patience import PATIENCE, eventually

ROOT = Path(__file__).resolve().parents[4]
EVERY = {name for names in SECRETS.values() for name in names}
PROGRAM = """
import json, os, sys
config = sys.argv[sys.argv.index("--config") + 1]
read = lambda path: open(path).read()
secrets = {
    name: [read(path), read(path)]
    for name, path in os.environ.items()
    if name.startswith("PIPELINE_") and name.endswith("_FILE")
}
print(json.dumps({
    "ok": True, "argv": sys.argv, "config": json.loads(read(config)), "secrets": secrets,
    "environment": dict(os.environ), "cwd": os.getcwd(), "there": os.listdir(),
}))
"""


def params(folder: Path, name: str, program: str = PROGRAM, **more: Any) -> dict[str, Any]:
    """Options of a step that is a program of the test."""
    package = folder / "mlops_pipeline"
    package.mkdir(exist_ok=True)
    (package / "__main__.py").write_text(program)
    found = {option: SPEC[option].get("default") for option in SPEC}
    return {
        **found,
        "step": name,
        "python": sys.executable,
        "folder": str(folder),
        "config": {"a": 1},
        "secrets": {each: f"canary {each}" for each in EVERY},
        "run_id": "r1",
        "candidate": "sha256:1",
        **more,
    }


@pytest.mark.parametrize("name", sorted(step.SECRETS))
def test_a_step_is_told_its_own_secrets_and_no_other(tmp_path: Path, name: str) -> None:
    said = step.run(params(tmp_path, name))
    wanted = {f"{each}_FILE" for each in step.SECRETS[name]}
    # Twice: who reads a secret does not take it from the next one who does.
    assert said["secrets"] == {
        each: [f"canary {each.removesuffix('_FILE')}"] * 2 for each in wanted
    }
    assert "canary" not in json.dumps([said["argv"], said["environment"], said["config"]])
    assert said["config"] == {"a": 1}
    assert said["there"] == []
    assert not Path(said["cwd"]).exists()


@pytest.mark.parametrize("name", sorted(step.SECRETS))
def test_only_evaluate_is_told_more_where_there_is_a_margin(tmp_path: Path, name: str) -> None:
    said = step.run(params(tmp_path, name, config={"margin": 0}))
    more = {"PIPELINE_REGISTRY_PASSWORD"} if name == "evaluate" else set()
    assert set(said["secrets"]) == {f"{each}_FILE" for each in {*step.SECRETS[name], *more}}


def test_the_steps_and_their_secrets_are_those_of_the_pipeline() -> None:
    assert {name: set(names) for name, names in step.SECRETS.items()} == {
        name: set(SECRETS[name]) for name in step.SECRETS
    }
    assert step.COMPARING == COMPARING
    page = yaml.safe_load(
        (ROOT / "plugins/modules/pipeline_step.py").read_text().split('r"""')[1].split('"""')[0]
    )
    assert set(page["options"]) == set(SPEC)
    assert sorted(page["options"]["step"]["choices"]) == SPEC["step"]["choices"]


def test_a_step_that_only_says_what_it_would_do_gets_no_key_that_signs(tmp_path: Path) -> None:
    said = step.run(params(tmp_path, "configure", check=True))
    assert set(said["secrets"]) == {"PIPELINE_REGISTRY_PASSWORD_FILE"}
    assert "--check" in said["argv"]
    for name, check in (("configure", False), ("current", True)):
        said = step.run(params(tmp_path, name, check=check))
        assert set(said["secrets"]) == {f"{each}_FILE" for each in step.SECRETS[name]}
        assert "--check" not in said["argv"]


def test_digests_are_handed_on(tmp_path: Path) -> None:
    argv = step.run(params(tmp_path, "evaluate", data_version="v"))["argv"]
    for option, value in (("--run-id", "r1"), ("--candidate", "sha256:1"), ("--data-version", "v")):
        assert argv[argv.index(option) + 1] == value


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("raise SystemExit('no such thing')", "ended with 1 and printed no result. no such thing"),
        ("import time; time.sleep(3600)", "did not end within 1 seconds"),
        ("print('[' * 100000)", "ended with 0 and printed no result"),
    ],
)
def test_a_step_without_a_result_is_a_sentence(tmp_path: Path, program: str, sentence: str) -> None:
    patience = 1 if "sleep" in program else int(PATIENCE)
    said = step.run(params(tmp_path, "prepare", program, timeout=patience))
    assert said["ok"] is False
    assert sentence in said["error"]


def test_a_python_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    said = step.run(params(tmp_path, "prepare", python="/nowhere/python"))
    assert said["error"].startswith("It cannot be run:")


def test_a_kill_leaves_no_secret_on_the_disk(tmp_path: Path) -> None:
    """Killed while a step runs: neither Ansible's own folder nor any other holds the secret."""
    (tmp_path / "mlops_pipeline").mkdir()
    (tmp_path / "mlops_pipeline/__main__.py").write_text(
        f"import time, pathlib; pathlib.Path({str(tmp_path / 'runs')!r}).touch(); time.sleep(3600)"
    )
    home = tmp_path / "home"
    home.mkdir()
    play = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "tasks": [
                {
                    "mlops.onprem.pipeline_step": {
                        "step": "publish",
                        "python": sys.executable,
                        "folder": str(tmp_path),
                        "config": {},
                        "run_id": "r1",
                        "secrets": {
                            "PIPELINE_SIGNING_KEY": "{{ lookup('env', 'THE_KEY') }}",
                        },
                    }
                }
            ],
        }
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
    environment = {
        **os.environ,
        "HOME": str(home),
        "TMPDIR": str(home),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_LOCAL_TEMP": str(home / "local"),
        "ANSIBLE_REMOTE_TEMP": str(home / "remote"),
        "THE_KEY": "canary-of-the-key",
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), str(tmp_path / "play.yml")]
    child = subprocess.Popen(
        [*command, "-i", "localhost,", "-c", "local", "-vvv"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        eventually(
            lambda: (tmp_path / "runs").exists() or child.poll() is not None, "the step runs"
        )
        assert (tmp_path / "runs").exists(), child.stdout and child.stdout.read()
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        output, _none = child.communicate()
    for pid in _children_of(tmp_path):
        os.kill(pid, signal.SIGKILL)
    assert b"canary-of-the-key" not in output
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"canary-of-the-key" not in path.read_bytes(), path


def _children_of(folder: Path) -> list[int]:
    """The step goes on without its parent, as it has a session of its own."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if f"PYTHONPATH={folder}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found
