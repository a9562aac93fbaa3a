# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the tests of the scenario look at its hosts: over SSH, and through Ansible."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
INVENTORY = HERE / "inventory"
STATE = INVENTORY / ".state"
BIN = Path(sys.executable).parent
GPU_HOSTS = ("cgpu1", "cgpu2")
LONGEST = 300
RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", re.MULTILINE)


def on(host: str, command: str, *, check: bool = True) -> str:
    """What a command of the shell says on a host."""
    done = subprocess.run(
        ["ssh", "-F", str(STATE / "ssh" / "config"), host, command],
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    assert not check or done.returncode == 0, f"{host}: {command}\n{done.stdout}{done.stderr}"
    return done.stdout + ("" if check else done.stderr)


def module(host: str, name: str, **arguments: Any) -> dict[str, Any]:
    """What a module of the collection answers on a host."""
    environment = os.environ | {
        "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    }
    command = [str(BIN / "ansible"), host, "-i", str(INVENTORY), "-m", f"mlops.onprem.{name}"]
    words = ["-a", json.dumps(arguments)] if arguments else []
    done = subprocess.run(
        [*command, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)["plays"][0]["tasks"][0]["hosts"][host]
    return answer


def play(book: Path, *words: str) -> dict[str, int]:
    """Run a playbook; how much it changed on each host."""
    done = subprocess.run(
        [str(BIN / "ansible-playbook"), "-i", str(INVENTORY), str(book), *words],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=6 * LONGEST,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    recap = done.stdout.rpartition("PLAY RECAP")[2]
    return {name: int(count) for name, count in RECAP.findall(recap)}


def apply(**variables: Any) -> dict[str, int]:
    """Run the site once more; how much it changed on each host."""
    return play(HERE / "apply.yml", "-e", json.dumps(variables))


def placed() -> dict[tuple[str, int], dict[str, Any]]:
    """Where the plan put each replica of each workload."""
    rows = json.loads((STATE / "placement.json").read_text("utf-8"))["placement"]
    return {(row["workload"], row["replica"]): row for row in rows}
