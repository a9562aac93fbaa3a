"""Every documented variable takes effect from the inventory, and something reads it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
# What a caller tells an entry point of the box is no variable of an inventory.
TOLD = {"common_nginx_owner"}


@cache
def documented() -> dict[str, str]:
    """Every option of every role, and the role."""
    found = {}
    for role in ROLES:
        page = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())
        for entry in page["argument_specs"].values():
            for name in entry.get("options") or {}:
                if name not in TOLD:
                    found[name] = role
    # The page of the pipeline documents its variables in its head.
    text = (ROOT / "playbooks" / "vars" / "pipeline.yml").read_text(encoding="utf-8")
    for name in re.findall(r"^#   (pipeline_\w+)  ", text, re.M):
        found[name] = "pipeline"
    return found


def marker(name: str) -> str:
    return f"the inventory says {name}"


HOSTS = {
    "control": ["ctl1"],
    "metadata_db": ["ctl1"],
    "object_store": ["store1"],
    "edge": ["edge1"],
}
FILES = {
    "group_vars/all": ["all"],
    "group_vars of the group": list(HOSTS),
    "host_vars": ["ctl1", "edge1", "store1"],
}


def seen(folder: Path, place: str) -> list[dict[str, Any]]:
    """What plays and roles see on ctl1 of an inventory that sets every variable in one place."""
    page = {group: {"hosts": dict.fromkeys(names)} for group, names in HOSTS.items()}
    (folder / "hosts.yml").write_text(yaml.safe_dump(page))
    values = yaml.safe_dump({name: marker(name) for name in documented()})
    for name in FILES[place]:
        path = folder / ("host_vars" if place == "host_vars" else "group_vars") / f"{name}.yml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(values)
    program = Path(__file__).with_name("seen_inputs.py")
    done = subprocess.run(
        [sys.executable, program, folder / "hosts.yml", "ctl1", *documented()],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections")},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("place", FILES)
def test_no_play_and_no_role_swallows_what_the_inventory_says(tmp_path: Path, place: str) -> None:
    answers = seen(tmp_path, place)
    swallowed = [
        f"{answer['play']}: {answer['role']}: {name}"
        for answer in answers
        for name in documented()
        if answer["seen"].get(name) != marker(name)
    ]
    assert swallowed == []
    # The box is called from the roles; what it is told is what the plays of these see.
    assert {answer["role"] for answer in answers} == {"", *ROLES} - {"common"}


def texts() -> dict[Path, str]:
    """Everything that could read a variable."""
    found = {}
    for folder, endings in (
        ("roles", ("yml", "j2", "py")),
        ("playbooks", ("yml", "j2")),
        ("plugins", ("py",)),
    ):
        for ending in endings:
            for path in (ROOT / folder).rglob(f"*.{ending}"):
                found[path] = path.read_text(encoding="utf-8")
    return found


def test_something_reads_every_documented_variable() -> None:
    reading = []
    for path, text in texts().items():
        if path.name == "argument_specs.yml" or (path.suffix == ".py" and "modules" in path.parts):
            continue
        # A definition is no reading, its right side is; and a comment is none.
        taken = r"^\w+:" if path.parent.name == "defaults" else r"^#.*$"
        reading.append(re.sub(taken, "", text, flags=re.M))
    words = set(re.findall(r"\w+", "\n".join(reading)))
    # These are read by name and prefix: Site.of("object_store", "access_key").
    of = re.findall(r'(?:\.of|replaced)\((?:site, )?"(\w+)", "(\w+)"', "\n".join(reading))
    words |= {f"{role}_{name}" for role, name in of}
    assert sorted(set(documented()) - words) == []


WIRED = re.compile(r"__wired_(\w+)")


def test_what_is_handed_over_is_only_a_default() -> None:
    wiring = yaml.safe_load((ROOT / "playbooks" / "vars" / "wiring.yml").read_text())
    handed = {WIRED.sub(r"\1", name) for name in wiring if WIRED.match(name)}
    assert handed & set(documented()) == handed - {"monitoring_metrics_port"}
    open_names = [name for name in wiring if not name.startswith("__")]
    assert open_names == ["mlops_placement"], "a bare name here would stand above the inventory"


def test_every_wired_value_is_named_by_a_role_and_every_name_is_wired() -> None:
    wiring = (ROOT / "playbooks" / "vars" / "wiring.yml").read_text()
    named = {
        name
        for path, text in texts().items()
        if path.parent.name in ("defaults", "vars") and "roles" in path.parts
        for name in WIRED.findall(text)
    }
    assert named == set(re.findall(r"^__wired_(\w+):", wiring, re.M))


def test_lists_that_the_site_computes_can_be_added_to() -> None:
    known = documented()
    lists = []
    for role in ROLES:
        folder = ROOT / "roles" / role
        page = yaml.safe_load((folder / "meta" / "argument_specs.yml").read_text())
        defaults = yaml.safe_load((folder / "defaults" / "main.yml").read_text())
        for entry in page["argument_specs"].values():
            for name, option in (entry.get("options") or {}).items():
                if option["type"] == "list" and "__wired_" in str(defaults.get(name)):
                    lists.append((role, name))
    assert lists
    for role, name in lists:
        extra = f"{role}_extra_{name.removeprefix(role + '_')}"
        assert extra in known, f"{name} has no {extra}"
