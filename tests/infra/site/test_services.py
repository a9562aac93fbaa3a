"""Every service of ours: running, unprivileged, sandboxed, in our slice."""

from __future__ import annotations

import json
import re

from testinfra.host import Host

from tests.infra.site.conftest import Site

MAX_EXPOSURE = 4.0
WATCHED = "mlops-alertmanager"


def loaded_units(remote: Host) -> dict[str, bool]:
    """Services in mlops.slice, as systemd tells, and whether a timer starts them."""
    listing = json.loads(
        remote.check_output("systemctl list-units --type=service --all --output=json --no-pager")
    )
    names = [row["unit"] for row in listing if row["load"] == "loaded"]
    slices = remote.check_output(
        "systemctl show --property=Slice --value -- " + " ".join(names)
    ).split()
    found = [name for name, group in zip(names, slices, strict=True) if group == "mlops.slice"]
    return {
        name: ".timer" in properties(remote, name, "TriggeredBy")["TriggeredBy"] for name in found
    }


def our_units(remote: Host) -> list[str]:
    """Our services that run all the time."""
    found = [name for name, timed in loaded_units(remote).items() if not timed]
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


def test_what_a_timer_starts_ends_well_and_is_sandboxed(remote: Host) -> None:
    for unit in [name for name, timed in loaded_units(remote).items() if timed]:
        timer = unit.replace(".service", ".timer")
        assert properties(remote, timer, "ActiveState")["ActiveState"] == "active", timer
        assert properties(remote, timer, "UnitFileState")["UnitFileState"] == "enabled", timer
        shown = properties(remote, unit, "Type", "Result")
        assert (shown["Type"], shown["Result"]) == ("oneshot", "success"), unit
        said = remote.check_output(f"systemd-analyze security --no-pager {unit}").splitlines()[-1]
        found = re.search(r"exposure level for \S+: ([\d.]+)", said)
        assert found, said
        assert float(found[1]) <= MAX_EXPOSURE, said


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


def test_an_alertmanager_that_tells_nobody_outside_reaches_nobody(site: Site) -> None:
    control = site.connect(site.groups["control"][0])
    shown = control.check_output("systemctl show -P IPAddressDeny -P IPAddressAllow %s", WATCHED)
    assert "0.0.0.0/0" in shown
    assert "127.0.0.0/8" in shown
