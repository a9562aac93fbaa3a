"""Nothing that is shipped or used in tests talks to a host whose SSH key was not looked at."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
LOOSE = re.compile(
    r"host_key_checking\s*[=:]\s*(false|no|0)\b|HOST_KEY_CHECKING\W+(false|no|0)\b"
    r"|StrictHostKeyChecking[= ]\s*(no|off|accept-new)\b|UserKnownHostsFile[= ]\s*/dev/null",
    re.IGNORECASE,
)


def test_the_pattern_knows_the_ways_to_switch_it_off() -> None:
    for line in (
        "host_key_checking = False",
        "ANSIBLE_HOST_KEY_CHECKING: 'no'",
        "-o StrictHostKeyChecking=no",
        "StrictHostKeyChecking accept-new",
        "-o UserKnownHostsFile=/dev/null",
    ):
        assert LOOSE.search(line), line


def test_keys_of_hosts_are_checked_everywhere() -> None:
    wrong = []
    for folder in (
        "",
        "docs",
        "extensions",
        "inventories",
        "playbooks",
        "plugins",
        "roles",
        "tests",
    ):
        found = (ROOT / folder).rglob("*") if folder else ROOT.glob("*")
        for path in found:
            if not path.is_file() or path.suffix not in (".cfg", ".md", ".py", ".sh", ".yml", ""):
                continue
            if "/." in str(path.relative_to(ROOT).parent) or path == Path(__file__):
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
            wrong += [f"{path.relative_to(ROOT)}: {said[0]}" for said in LOOSE.finditer(text)]
    assert wrong == []


def test_the_lab_and_the_test_hosts_bring_their_own_keys() -> None:
    for name in ("inventories/lab/group_vars/all/connection.yml",):
        said = yaml.safe_load((ROOT / name).read_text())["ansible_ssh_common_args"]
        assert re.search(r"UserKnownHostsFile=\S.*/\.state/ssh/known_hosts", said)
        assert "StrictHostKeyChecking=yes" in said
    page = ROOT / "extensions/molecule/inventory/group_vars/all/main.yml"
    said = yaml.safe_load(page.read_text())["ansible_ssh_common_args"]
    assert "/ssh/known_hosts -o StrictHostKeyChecking=yes" in said
