"""What an operator has at hand: the site's directory, and a client on the controller."""

from __future__ import annotations

import os
import re
from pathlib import Path

import requests
import tomllib
import yaml
from testinfra.host import Host

from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / os.environ.get("MLOPS_TEST_SITE", "extensions/molecule/inventory")


def address_of(name: str) -> str:
    """The address of a host of the scenarios, one that is managed or one of the company's."""
    topology = tomllib.loads((SITE.parent / "topology.toml").read_text(encoding="utf-8"))
    return str(topology["hosts"][name]["ip"])


def ca_bundle() -> str:
    return str(SITE / ".state/ca-bundle.crt")


def secret(name: str) -> str:
    kept = yaml.safe_load((SITE / "group_vars/all/secrets.yml").read_text(encoding="utf-8"))
    return str(kept[name])


def address(host: Host) -> str:
    return str(host.check_output("hostname -I").split()[0])


class Client:
    """Requests to the gateway of a host, verified as people's browsers would."""

    def __init__(self, host: Host, account: tuple[str, str] | None = None) -> None:
        self.url = f"https://{address(host)}"
        self._session = requests.Session()
        self._session.verify = ca_bundle()
        self._session.auth = account
        self._session.trust_env = False

    def ask(self, method: str, path: str, **more: object) -> requests.Response:
        url = path if path.startswith("https:") else self.url + path
        return self._session.request(method, url, timeout=PATIENCE, **more)  # type: ignore[arg-type]


def exposure(host: Host, unit: str) -> float:
    """What systemd says about the sandbox of a unit: 0 is none exposed, 10 everything."""
    said = host.check_output(f"systemd-analyze security --no-pager {unit}.service")
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found, said
    return float(found[1])


def open_ports(host: Host) -> set[int]:
    """Ports that listen on more than loopback."""
    ports = set()
    for line in host.check_output("ss -Hltn").splitlines():
        place, _colon, port = line.split()[3].rpartition(":")
        if not place.startswith(("127.", "[::1]")):
            ports.add(int(port))
    return ports


READABLE = {
    "arguments": "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'",
    "files": "find /etc/mlops /etc/systemd/system /var/lib/mlops /run -type f -perm -o+r "
    "-size -200k -exec cat {} + 2>/dev/null",
    "journal": "journalctl --no-pager --output=cat",
}


def spills(host: Host, value: str) -> list[str]:
    """Where everybody on the host could read the value. It is looked for on the controller, so
    that looking does not spill it."""
    return [
        place for place, show in READABLE.items() if value.encode() in host.run(show).stdout_bytes
    ]
