# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""A role that is given a wrong argument, in a real run, says so and prints no secret."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ASKS = re.compile(r"mlops\.onprem\.secret'\s*,\s*'(\w+)'")
# Each role, and what it is told wrong: a port, a number, a choice, a part that is missing.
WRONG: dict[str, dict[str, Any]] = {
    "artifact_registry": {"artifact_registry_object_store": {"bucket": "releases"}},
    "gateway": {"gateway_port": "https"},
    "metadata_db": {"metadata_db_mode": "managed", "metadata_db_port": "many"},
    "model_registry": {"model_registry_workers": "many"},
    "model_serving": {"model_serving_port": "https"},
    "monitoring": {"monitoring_retention_days": "long"},
    "object_store": {"object_store_mode": "borrowed"},
    "trust": {"trust_days": "many"},
}


def names_of_secrets() -> set[str]:
    found: set[str] = set()
    for folder in ("roles", "playbooks"):
        for path in (ROOT / folder).rglob("*.yml"):
            found.update(ASKS.findall(path.read_text()))
    return found


STYLES = (["default"], ["default", "-vv"], ["mlops.onprem.progress", "-v"])


@pytest.mark.parametrize("style", STYLES)
def test_no_secret_is_printed(tmp_path: Path, style: list[str]) -> None:
    secrets = {name: f"canary-{name}-9173" for name in names_of_secrets()}
    assert len(secrets) > 8
    play = [
        {
            "hosts": [role, "idle"],  # a play whose every host fails would be the last one
            "gather_facts": False,
            "vars": wrong,
            "roles": [{"role": f"mlops.onprem.{role}", "when": "inventory_hostname != 'idle'"}],
        }
        for role, wrong in WRONG.items()
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
    hosts = {role: {"ansible_connection": "local"} for role in (*WRONG, "idle")}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    kept = tmp_path / "group_vars/all/secrets.yml"
    kept.parent.mkdir(parents=True)
    kept.write_text(yaml.safe_dump(secrets))
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={tmp_path / 'hosts.yml'}",
            *style[1:],
            str(tmp_path / "play.yml"),
        ],
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_STDOUT_CALLBACK": style[0],
            "ANSIBLE_NOCOLOR": "1",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert said.count("Validation of arguments failed") >= len(WRONG), said
    assert "canary-" not in said
