"""The running site, looked at from outside: over SSH and over its own TLS ports."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Site:
    """What the inventory says: hosts by name, groups, and the variables of each host."""

    inventory: Path
    variables: dict[str, dict[str, Any]]
    groups: dict[str, list[str]]

    @property
    def hosts(self) -> list[str]:
        return sorted(self.variables)

    def address(self, name: str) -> str:
        return str(self.variables[name].get("ansible_host", name))

    def ssh_options(self, name: str) -> list[str]:
        """What the inventory says about the keys of hosts counts here, too."""
        given = str(self.variables[name].get("ansible_ssh_common_args", ""))
        return [*shlex.split(given), "-o", "LogLevel=ERROR"]

    def run_python(self, name: str, program: str, given: str) -> str:
        """Run a Python program on a host; the program and its input travel by stdin, never argv."""
        variables = self.variables[name]
        command = ["ssh", "-i", str(variables["ansible_ssh_private_key_file"])]
        command += self.ssh_options(name)
        command += [f"{variables.get('ansible_user', 'root')}@{self.address(name)}"]
        command += ["sudo -n python3 -" if variables.get("ansible_become") else "python3 -"]
        source = f"GIVEN = {given!r}\n{program}"
        done = subprocess.run(command, input=source, check=True, capture_output=True, text=True)
        return done.stdout

    def connect(self, name: str) -> Host:
        """Open (or reuse) an SSH connection to a host of the site."""
        variables = self.variables[name]
        user = variables.get("ansible_user", "root")
        sudo = "&sudo=true" if variables.get("ansible_become") else ""
        key = variables["ansible_ssh_private_key_file"]
        return testinfra.get_host(
            f"ssh://{user}@{self.address(name)}?ssh_identity_file={key}&controlpersist=60{sudo}",
            ssh_extra_args=shlex.join(self.ssh_options(name)),
        )


@cache
def read_site(inventory: Path) -> Site:
    """Ask Ansible what the inventory means."""
    command = Path(sys.executable).with_name("ansible-inventory")
    output = subprocess.run(
        [str(command), "-i", str(inventory), "--list"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout
    # The listing is not templated; this is the one expression that says where keys lie.
    listing = json.loads(re.sub(r"\{\{ inventory_dir\b[^}]*\}\}", str(inventory), output))
    variables = listing["_meta"]["hostvars"]

    def members(group: str) -> list[str]:
        entry = listing.get(group, {})
        found = set(entry.get("hosts", []))
        for child in entry.get("children", []):
            found.update(members(child))
        return sorted(found)

    groups = {name: members(name) for name in listing if name != "_meta"}
    return Site(inventory, variables, groups)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--inventory", default="inventories/lab", help="inventory of the site")


def site_of(config: pytest.Config) -> Site:
    return read_site(ROOT / str(config.getoption("--inventory")))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    site = site_of(metafunc.config)
    if "host_name" in metafunc.fixturenames:
        metafunc.parametrize("host_name", site.hosts)
    if "edge_name" in metafunc.fixturenames:
        metafunc.parametrize("edge_name", site.groups["edge"])


@pytest.fixture(scope="session")
def site(request: pytest.FixtureRequest) -> Site:
    return site_of(request.config)


@pytest.fixture
def remote(site: Site, host_name: str) -> Host:
    return site.connect(host_name)


@pytest.fixture(scope="session")
def secrets(site: Site) -> dict[str, str]:
    """Every secret value of the site by name; private keys by their longest base64 line."""
    found: dict[str, str] = {}
    for name in ("secrets.yml", "company.yml"):
        path = site.inventory / "group_vars" / "all" / name
        if not path.exists():
            continue
        for key, value in (yaml.safe_load(path.read_text()) or {}).items():
            if name == "company.yml" and "password" not in key and "secret" not in key:
                continue
            text = str(value)
            found[key] = max(text.splitlines(), key=len) if "PRIVATE KEY" in text else text
    assert found, "the site has no secrets, so nothing could be searched for"
    return found
