# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What make would run, for inventories and locales as people have them."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def planned(target: str, **environment: str) -> list[str]:
    """The command of ansible-playbook that a target would run, as words."""
    done = subprocess.run(
        ["make", "--dry-run", target],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": "/nowhere", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    [line] = [line for line in done.stdout.splitlines() if "ansible-playbook" in line]
    return shlex.split(line)


@pytest.mark.parametrize("target", ["site", "assess", "check", "pipeline", "remove"])
def test_a_path_with_spaces_stays_one_word(target: str) -> None:
    words = planned(target, INVENTORY="inventories/my plant (Zürich)", LC_ALL="C.UTF-8")
    assert words[1:3] == ["-i", "inventories/my plant (Zürich)"]


@pytest.mark.parametrize(
    ("inventory", "built"),
    [
        ("inventories/lab", True),
        ("inventories/lab/", True),
        ("inventories/mine", False),
        ("my inventories/lab", False),
        ("inventories/lab 2", False),
    ],
)
def test_only_the_lab_is_built(inventory: str, built: bool) -> None:
    done = subprocess.run(
        ["make", "--dry-run", "site", f"INVENTORY={inventory}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("lab.py up" in done.stdout) is built


BUILDERS = {
    # Each waits until the other has begun, as long as tests are patient.
    "extensions/env.sh": """#!/usr/bin/env bash
echo "environment $1" >>ran
touch environment
for _ in $(seq 1200); do [ -e hosts ] && break; sleep 0.1; done
[ -e hosts ] && mkdir -p .venv/bin && ln -s "$(command -v python3)" .venv/bin/python
exit "$ENVIRONMENT"
""",
    "extensions/lab/lab.py": """
import os, sys, time
with open("ran", "a") as stream:
    print("hosts", *sys.argv[1:], file=stream)
open("hosts", "w").close()
give_up = time.monotonic() + 120
while not os.path.exists("environment") and time.monotonic() < give_up:
    time.sleep(0.1)
sys.exit(int(os.environ["HOSTS"]) if os.path.exists("environment") else 9)
""",
}


def built(checkout: Path, environment: int = 0, hosts: int = 0) -> int:
    """Run C(make lab) with builders that end so; the exit status of make."""
    for name, text in BUILDERS.items():
        path = checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    shutil.copy(ROOT / "Makefile", checkout)
    variables = {"ENVIRONMENT": str(environment), "HOSTS": str(hosts)}
    return subprocess.run(
        ["make", "lab"], cwd=checkout, env={"PATH": os.environ["PATH"], **variables}, check=False
    ).returncode


def test_environment_and_hosts_are_built_at_the_same_time(tmp_path: Path) -> None:
    assert built(tmp_path) == 0
    ran = (tmp_path / "ran").read_text().splitlines()
    assert sorted(ran) == ["environment requirements.txt", "hosts up"]
    # Now there is an environment, which comes up to date before it is used.
    (tmp_path / "ran").unlink()
    assert built(tmp_path) == 0
    ran = (tmp_path / "ran").read_text().splitlines()
    assert ran == ["environment requirements.txt", "hosts up"]


@pytest.mark.parametrize("ends", [{"environment": 1}, {"hosts": 1}])
def test_a_builder_that_fails_is_not_overheard(ends: dict[str, int], tmp_path: Path) -> None:
    assert built(tmp_path, **ends) != 0
    ran = (tmp_path / "ran").read_text().splitlines()
    assert sorted(ran) == ["environment requirements.txt", "hosts up"]


@pytest.mark.parametrize("locale", ["C", "POSIX", "", "C.UTF-8"])
def test_ansible_gets_a_locale_that_it_takes(locale: str, tmp_path: Path) -> None:
    page = tmp_path / "asked.mk"
    page.write_text(f"include {ROOT}/Makefile\nasked:\n\t@locale charmap\n")
    done = subprocess.run(
        ["make", "--silent", "-f", str(page), "asked"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "LC_ALL": locale},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "UTF-8"


@pytest.mark.parametrize("playbook", ["site.yml", "playbooks/assess.yml", "playbooks/remove.yml"])
def test_a_playbook_of_the_checkout_is_found_from_any_directory(
    playbook: str, tmp_path: Path
) -> None:
    checkout = tmp_path / "a checkout"
    (checkout / "extensions").mkdir(parents=True)
    for name in ("galaxy.yml", "site.yml", "plugins", "roles", "meta"):
        (checkout / name).symlink_to(ROOT / name)
    for folder in ("extensions/env.sh", "playbooks"):
        source = ROOT / folder
        if source.is_dir():
            shutil.copytree(source, checkout / folder, ignore=shutil.ignore_patterns("collections"))
        else:
            shutil.copy(source, checkout / folder)
    (checkout / "requirements.txt").write_text("")
    empty = hashlib.sha256(b"").hexdigest()[:16]
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / f".complete-{empty}").touch()
    subprocess.run([checkout / "extensions" / "env.sh", "requirements.txt"], check=True)
    (tmp_path / "hosts.yml").write_text("control: {hosts: {ctl1: {}}}\n")
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            "--syntax-check",
            f"-i{tmp_path / 'hosts.yml'}",
            str(checkout / playbook),
        ],
        cwd="/",
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
