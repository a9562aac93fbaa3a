"""A service whose process dies comes back by itself."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from testinfra.host import Host

from tests.infra.site.conftest import Site
from tests.infra.site.test_services import our_units, properties
from tests.patience import PATIENCE


def wait_for(condition: Callable[[], bool], seconds: float) -> float | None:
    """Seconds until the condition held, or None when it did not in time."""
    started = time.monotonic()
    while (waited := time.monotonic() - started) < seconds:
        if condition():
            return waited
        time.sleep(0.2)
    return None


def is_back(remote: Host, unit: str, old_pid: str) -> bool:
    shown = properties(remote, unit, "ActiveState", "MainPID")
    return shown["ActiveState"] == "active" and shown["MainPID"] not in ("0", old_pid)


@pytest.mark.destructive
def test_killed_services_are_back(site: Site, remote: Host, host_name: str) -> None:
    late = []
    for unit in our_units(remote):
        pid = properties(remote, unit, "MainPID")["MainPID"]
        assert pid != "0", f"{unit} has no process to kill"
        remote.check_output(f"kill -9 {pid}")
        waited = wait_for(lambda u=unit, p=pid: is_back(remote, u, p), PATIENCE)  # type: ignore[misc]
        if waited is None:
            late.append(unit)
    assert not late, f"{host_name}: not back within {PATIENCE:.0f} s: {late}"
