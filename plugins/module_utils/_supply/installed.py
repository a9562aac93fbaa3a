# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is installed on a host, and what of it is ours."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from . import procfs
from .tree import Host

# What the platform keeps on a host. The ledger adds to it.
OUR_DIRECTORIES = ("/var/lib/mlops", "/opt/mlops", "/etc/mlops")
LEDGER = "/var/lib/mlops/ledger.json"
BUNDLE = "/etc/mlops/tls/ca.crt"  # the authority of the site stands first in it
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")


def platform(host: Host) -> dict[str, Any]:
    """The site that the host belongs to, the roles that made something, the authority it trusts.

    ``units`` are the systemd units of ours, by the role that brought them.
    """
    try:
        ledger = json.loads(host.read(LEDGER) or "{}")
        things = list(ledger.get("things", []))
        roles = {str(role) for thing in things for role in thing["owners"]}
        units = {
            role: sorted(
                str(thing["name"])
                for thing in things
                if thing["kind"] == "unit" and role in thing["owners"]
            )
            for role in sorted(roles)
        }
        site = ledger.get("site")
    except (ValueError, AttributeError, TypeError, KeyError):
        host.note("platform", f"{LEDGER} is damaged")
        roles, units, site = set(), {}, None
    first = CERTIFICATE.search(host.read(BUNDLE))
    return {
        "site": site if isinstance(site, dict) else None,
        "roles": sorted(roles),
        "units": {role: names for role, names in units.items() if names},
        "authority": first[0] + "\n" if first else "",
    }


def our_units(host: Host) -> frozenset[str]:
    """The systemd units that the ledger has for ours, also those outside the platform's slice."""
    try:
        things = json.loads(host.read(LEDGER) or "{}").get("things", [])
        return frozenset(str(thing["name"]) for thing in things if thing["kind"] == "unit")
    except (ValueError, AttributeError, TypeError, KeyError):
        return frozenset()  # that it is damaged is said where the site is read


def below(path: str, mounts: Iterable[str]) -> bool:
    """Whether a path lies on one of these mounts."""
    return any(path == mount or path.startswith(mount.rstrip("/") + "/") for mount in mounts)


def usage(
    path: str, deadline: float, clock: Callable[[], float], dead: Sequence[str] = ()
) -> tuple[float, int, bool]:
    """Bytes on disk and entries below a path, on its own file system, and whether all was seen.

    What is mounted at ``dead`` is not looked at: whoever does waits for ever.
    """
    total, entries, complete = 0, 0, True
    try:
        device = os.lstat(path).st_dev
    except OSError:
        return 0.0, 0, True
    waiting = [path]
    while waiting:
        if clock() > deadline:
            return total / 2**20, entries, False
        here = waiting.pop()
        try:
            with os.scandir(here) as listing:
                for entry in listing:
                    if entry.path in dead:
                        continue
                    status = entry.stat(follow_symlinks=False)
                    if status.st_dev != device:
                        continue
                    total += status.st_blocks * 512
                    entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            complete = False
    return total / 2**20, entries, complete


def ours(
    host: Host,
    deadline: float,
    clock: Callable[[], float],
    sizes: dict[str, float],
    dead: Sequence[str] = (),
) -> dict[str, Any]:
    """What the platform already keeps on this host: it is not needed a second time.

    ``dead`` are mounts that do not answer.
    """
    things: list[dict[str, Any]] = []
    text = "" if below(LEDGER, dead) else host.read(LEDGER)
    if text:
        try:
            things = list(json.loads(text).get("things", []))
        except (ValueError, AttributeError):
            host.note("ours", f"{LEDGER} is damaged")
    wanted = [path for path in OUR_DIRECTORIES if not below(path, dead) and host.exists(path)]
    for thing in things:
        name = str(thing.get("name", ""))
        if thing.get("kind") in ("directory", "trace") and not any(
            name == path or name.startswith(path + "/") for path in wanted
        ):
            # A directory that packages may share is ours only where the ledger says so.
            wanted.append(name)
    outer = [
        path
        for path in sorted(set(wanted))
        if not any(path.startswith(other.rstrip("/") + "/") for other in wanted)
    ]
    directories = []
    for path in outer:
        children = (
            [f"{path}/{name}" for name in host.names(path)] if path in OUR_DIRECTORIES else []
        )
        for part in (one for one in children or [path] if not below(one, dead)):
            away = [host.path(mount) for mount in dead]
            mib, entries, complete = usage(host.path(part), deadline, clock, away)
            directories.append(
                {"path": part, "mib": round(mib, 1), "entries": entries, "complete": complete}
            )
    packages = sorted(str(thing.get("name")) for thing in things if thing.get("kind") == "package")
    return {
        "installed": bool(things),
        "directories": directories,
        "packages": len(packages),
        "packages_mib": round(sum(sizes.get(name.partition(":")[0], 0.0) for name in packages), 1),
    }


def packages(host: Host, dead: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, float]]:
    """The package manager's state: whether an installation can begin."""
    text = host.read("/var/lib/dpkg/status")
    if not text:
        host.note("packages", "there is no /var/lib/dpkg/status; this is no Debian")
        return {"manager": None, "broken": None, "locked": None, "lists": None}, {}
    state = procfs.parse_dpkg_status(text)
    lists = [
        name
        for name in host.names("/var/lib/apt/lists")
        if name.endswith(("_Packages", "_Packages.lz4"))
    ]
    return {
        "manager": "apt",
        "broken": list(state.broken),
        "locked": _dpkg_locked(host),
        "lists": len(lists),
        "interrupted": any(name.isdecimal() for name in host.names("/var/lib/dpkg/updates")),
        # Packages of ours may be among the broken ones; the next run finishes them.
        "ours": not below(LEDGER, dead) and "ledger.json" in host.names("/var/lib/mlops"),
    }, dict(state.sizes_mib)


def _dpkg_locked(host: Host) -> bool | None:
    """Whether another process holds dpkg's lock; asked without taking it."""
    path = "/var/lib/dpkg/lock-frontend"
    try:
        status = os.stat(host.path(path))
    except FileNotFoundError:
        return False
    except OSError as error:
        host.note("packages.locked", error)
        return None
    major, minor = os.major(status.st_dev), os.minor(status.st_dev)
    mark = f" {major:02x}:{minor:02x}:{status.st_ino} "
    return mark in host.read("/proc/locks")
