# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the tests of the scenario look at its hosts: over SSH, and through Ansible."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

COMPUTE = Path(__file__).resolve().parent
ROOT = COMPUTE.parents[2]
# The scenario whose hosts are meant: this one, or that of the scheduler alone.
HERE = COMPUTE.with_name(os.environ.get("MLOPS_COMPUTE_SITE", COMPUTE.name))
INVENTORY = HERE / "inventory"
STATE = INVENTORY / ".state"
BIN = Path(sys.executable).parent
GPU_HOSTS = ("cgpu1", "cgpu2")
SCHEDULER = "cctl"
SOON = 60
LONGEST = 300
TOPOLOGY = f"--topology={(HERE / 'topology.toml').relative_to(ROOT)}"
PREFIX = "mlops-compute-"
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


def until(asked: Callable[[], bool], said: Callable[[], str], seconds: float = SOON) -> None:
    """Wait for something that comes soon."""
    end = time.monotonic() + seconds
    while not asked():
        assert time.monotonic() < end, said()
        time.sleep(0.5)


def lab(*words: str, check: bool = True) -> str:
    """What the builder of the lab says."""
    done = subprocess.run(
        [sys.executable, "extensions/lab/lab.py", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    assert not check or done.returncode == 0, f"lab.py {words}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@contextlib.contextmanager
def without_power(host: str) -> Iterator[None]:
    """A host as if somebody had pulled its plug; afterwards it starts as any server does."""
    lab("podman", TOPOLOGY, "kill", "--signal", "KILL", PREFIX + host)
    lab("podman", TOPOLOGY, "wait", PREFIX + host)
    try:
        yield
    finally:
        lab("up", TOPOLOGY)


def module(host: str, name: str, /, **arguments: Any) -> dict[str, Any]:
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


def _played(book: Path, words: Sequence[str], inventory: Path) -> tuple[int, str]:
    done = subprocess.run(
        [str(BIN / "ansible-playbook"), "-i", str(inventory), str(book), *words],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=6 * LONGEST,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def play(book: Path, *words: str, inventory: Path = INVENTORY) -> str:
    """Run a playbook; what it says."""
    code, said = _played(book, words, inventory)
    assert code == 0, said[-8000:]
    return said


def changes(said: str) -> dict[str, int]:
    """How much a run changed on each host."""
    recap = said.rpartition("PLAY RECAP")[2]
    return {name: int(count) for name, count in RECAP.findall(recap)}


def applied_again(*, inventory: Path = INVENTORY, **variables: Any) -> None:
    """Run the site once more, which must find nothing to do; else say what it did."""
    said = apply(inventory=inventory, **variables)
    assert set(changes(said).values()) == {0}, said[-8000:]


def apply(*, inventory: Path = INVENTORY, **variables: Any) -> str:
    """Run the site once more; what it says."""
    return play(COMPUTE / "apply.yml", "-e", json.dumps(variables), inventory=inventory)


def refused(*words: str, **variables: Any) -> str:
    """Run the site once more, which must not go; what it says."""
    code, said = _played(COMPUTE / "apply.yml", [*words, "-e", json.dumps(variables)], INVENTORY)
    assert code != 0, said[-8000:]
    return said


@contextlib.contextmanager
def inventory_with(groups: Mapping[str, Sequence[str]]) -> Iterator[Path]:
    """The inventory of the site with other hosts in some groups, as somebody edits it."""
    place = ROOT / ".cache" / "compute-edited"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    hosts = yaml.safe_load((INVENTORY / "hosts.yml").read_text("utf-8"))
    known = {
        name: told
        for group in hosts.values()
        for name, told in (group.get("hosts") or {}).items()
        if told
    }
    hosts |= {
        name: {"hosts": {host: known[host] for host in members}} for name, members in groups.items()
    }
    # Who is in no group any more is still a host of the company.
    hosts["all"] = {"hosts": known}
    (place / "hosts.yml").write_text(yaml.safe_dump(hosts), "utf-8")
    for name in ("group_vars", ".state"):
        (place / name).symlink_to(INVENTORY / name)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def device_files(host: str) -> dict[str, str]:
    """The device file of each card of a host, by its UUID, as the driver tells."""
    told = on(host, "nvidia-smi -q -x")
    cards = ElementTree.fromstring(told).findall("gpu")  # noqa: S314, our own stand-in's
    return {
        str(card.findtext("uuid")): f"/dev/nvidia{card.findtext('minor_number')}" for card in cards
    }


def placed() -> dict[tuple[str, int], dict[str, Any]]:
    """Where the plan put each replica of each workload."""
    rows = json.loads((STATE / "placement.json").read_text("utf-8"))["placement"]
    return {(row["workload"], row["replica"]): row for row in rows}


def workloads() -> list[dict[str, Any]]:
    """What the company of the scenario wants to run."""
    text = (INVENTORY / "group_vars" / "all" / "workloads.yml").read_text("utf-8")
    found: list[dict[str, Any]] = yaml.safe_load(text)["mlops_workloads"]
    return found
