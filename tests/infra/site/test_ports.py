"""From outside, a host offers SSH and TLS, nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.infra.site.conftest import ROOT, Site


def test_only_ssh_and_tls_are_open(site: Site, host_name: str) -> None:
    command = [sys.executable, "tests/infra/portscan.py", site.address(host_name)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    ports = json.loads(output)
    assert ports, "the scan saw no open port at all, not even SSH"
    plain = [port for port in ports if port["port"] != 22 and not port["tls"]]
    assert not plain
    assert {port["port"] for port in ports} <= {22, 443, 9443}
