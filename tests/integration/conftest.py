# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run modules of the collection against real servers on this machine."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> RunModule:
    """Run a module as Ansible does, in this process, and return its result."""

    def run(module: ModuleType, check_mode: bool = False, **arguments: Any) -> dict[str, Any]:
        capsys.readouterr()
        basic._ANSIBLE_ARGS = None
        with (
            patch_module_args({**arguments, "_ansible_check_mode": check_mode}),
            pytest.raises(SystemExit),
        ):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return run


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def closed_port() -> int:
    return free_port()
