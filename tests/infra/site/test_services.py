"""Every service of ours: running, unprivileged, sandboxed, in our slice."""

from __future__ import annotations

import json

from testinfra.host import Host

MAX_EXPOSURE = 4.0


def our_units(remote: Host) -> list[str]:
    """Services that run in mlops.slice, as systemd tells."""
    listing = json.loads(
        remote.check_output("systemctl list-units --type=service --all --output=json --no-pager")
    )
    names = [row["unit"] for row in listing if row["load"] == "loaded"]
    slices = remote.check_output(
        "systemctl show --property=Slice --value -- " + " ".join(names)
    ).split()
    found = [name for name, group in zip(names, slices, strict=True) if group == "mlops.slice"]
    assert found, "no service of ours runs on this host"
    return found


def properties(remote: Host, unit: str, *names: str) -> dict[str, str]:
    output = remote.check_output(f"systemctl show --property={','.join(names)} -- {unit}")
    return dict(line.split("=", 1) for line in output.splitlines())


def test_every_service_is_active_and_enabled(remote: Host) -> None:
    for unit in our_units(remote):
        shown = properties(remote, unit, "ActiveState", "UnitFileState", "Type")
        assert shown["ActiveState"] == "active", unit
        assert shown["UnitFileState"] in ("enabled", "enabled-runtime"), unit


def test_no_service_runs_as_root(remote: Host) -> None:
    for unit in our_units(remote):
        pid = properties(remote, unit, "MainPID")["MainPID"]
        status = remote.check_output(f"cat /proc/{pid}/status")
        uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
        assert "0" not in uids, f"{unit} runs as root"


def test_every_unit_is_sandboxed(remote: Host) -> None:
    units = our_units(remote)
    listing = remote.check_output("systemd-analyze security --no-pager")
    exposure = {}
    for line in listing.splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 3 and fields[0] in units:
            exposure[fields[0]] = float(fields[1])
    assert sorted(exposure) == sorted(units)
    too_open = {unit: value for unit, value in exposure.items() if value > MAX_EXPOSURE}
    assert not too_open, f"exposure above {MAX_EXPOSURE}: {too_open}"
