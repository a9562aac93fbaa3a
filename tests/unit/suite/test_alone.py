# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs alone has a network in which nothing changes, and in which it reaches itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import alone

PROGRAM = """
import json, os, socket
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname(), 60).close()
names = [name for _index, name in socket.if_nameindex()]
print(json.dumps({"interfaces": names, "network": os.readlink("/proc/self/ns/net")}))
"""


@pytest.fixture(autouse=True)
def _anew() -> None:
    alone.unshare.cache_clear()


def test_it_reaches_itself_in_a_network_of_its_own() -> None:
    if not alone.unshare():
        pytest.skip("this user may have no network of its own")
    done = subprocess.run(
        alone.alone([sys.executable, "-c", PROGRAM]), check=True, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    assert "lo" in found["interfaces"]
    assert found["network"] != str(Path("/proc/self/ns/net").readlink())


def test_how_it_ends_is_handed_on() -> None:
    assert subprocess.run(alone.alone(["sh", "-c", "exit 7"]), check=False).returncode == 7


def test_who_may_not_have_one_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert alone.alone(["true"]) == ["true"]
