# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who else uses what came with the platform: the signs, and what stays because of them.

A package that we brought may be used by others later: its files are then theirs to keep. The signs
are general, so that they hold for packages that nobody thought of: files that neither dpkg nor the
ledger knows, changed settings, units and processes of others, marks of an administrator.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch

from . import packages
from .ledger import Ledger, Thing, inside

# Where packages keep what people write.
PLACES = ("/etc/", "/opt/", "/srv/", "/var/")
# In these, programs write by themselves, or links are made for many packages.
NO_SIGN = (
    "/etc/alternatives",
    "/etc/default/locale",
    "/etc/locale.conf",
    "/etc/locale.gen",
    "/etc/rc?.d",
    "/etc/rcS.d",
    "/etc/ssl/certs",
    "/etc/systemd/system",
    "/var/cache",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/lib/mlops",
    "/var/lib/systemd",
    "/var/lib/ucf",
    "/var/lock",  # a link to /run, where nothing outlives a restart
    "/var/log",
    "/var/run",
    "/var/tmp",  # noqa: S108 (skipped, nothing is put there)
    "*/__pycache__",
)
# What the programs of our packages write by themselves sooner or later, whoever uses them.
MADE_BY_PROGRAMS = (
    "/var/lib/libuuid/clock*.txt",
    "/var/lib/logrotate/status*",
    "/var/lib/smartmontools/attrlog.*",
    "/var/lib/smartmontools/smartd.*.state*",
    "/var/lib/xfsprogs/xfs_scrub_all_media.stamp",
)
# What the scripts of our packages make: releases up to 0.2.0 did not note it.
MADE_BY_SCRIPTS = (
    "/etc/lighttpd/conf-enabled/90-javascript-alias.conf",
    "/etc/nginx/sites-enabled/default",
    "/etc/nvme/hostid",
    "/etc/nvme/hostnqn",
    "/etc/postgresql-common/createcluster.conf",
    "/etc/postgresql-common/root.crt",
    "/etc/ssl/private/ssl-cert-snakeoil.key",
    "/var/lib/smartmontools/drivedb/*",
    "/var/www/html/index.nginx-debian.html",
)
# Units that releases up to 0.2.0 disabled without a note.
RESTED_BEFORE = (
    "ceph-crash.service",
    "ceph-mgr.target",
    "ceph-mon.target",
    "ceph-osd.target",
    "ceph-radosgw.target",
    "ceph.target",
    "docker-registry.service",
    "nginx.service",
    "postgresql.service",
    "prometheus-alertmanager.service",
    "prometheus-blackbox-exporter.service",
    "prometheus-nginx-exporter.service",
    "prometheus-node-exporter.service",
    "prometheus-postgres-exporter.service",
    "prometheus.service",
    "rbdmap.service",
)
_FRESH = ".mlops-new-"
_PATH = re.compile(r"(?<![\w$}*/])/(?:etc|opt|srv|var)/[\w.+@-]+(?:/[\w.+@-]+)+")
_EXECUTES = re.compile(r"^Exec(?:Start|StartPre|StartPost)\s*=\s*[-@:+!|]*(/\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Use:
    """What is in use by others, as far as removal has to know it."""

    packages: Mapping[str, str] = field(default_factory=dict)  # each with the first sign
    # Which packages have to do with a trace; without an entry, all of its transaction.
    traces: Mapping[str, frozenset[str]] = field(default_factory=dict)
    # Files of others in directories that would go as a whole.
    strangers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    manual: frozenset[str] = frozenset()  # packages that apt leaves alone already


def no_sign(path: str) -> bool:
    """Whether what lies there tells nothing about who uses a package."""
    return any(
        fnmatch(path, pattern) or fnmatch(path, pattern + "/*") for pattern in NO_SIGN
    ) or not path.startswith(PLACES)


def own_folders(
    listed: Mapping[str, Collection[str]], elsewhere: Collection[str]
) -> dict[str, set[str]]:
    """Paths in the file lists of the packages only, each with those that list it."""
    found: dict[str, set[str]] = {}
    for package, paths in listed.items():
        for path in paths:
            if path not in elsewhere and not no_sign(path):
                found.setdefault(path, set()).add(package)
    return found


def mentioned(script: str) -> set[str]:
    """The paths that a script of a package takes away, or may take away."""
    text = re.sub(r"(?m)^\s*#.*$", "", script).replace("\\\n", " ")
    found: set[str] = set()
    for line in text.splitlines():
        if re.search(r"\brm\b", line):
            found.update(_PATH.findall(line))
    return {path for path in found if not no_sign(path)}


def unknown(
    present: Iterable[str], known: Collection[str], ledger: Ledger, made: Collection[str]
) -> list[str]:
    """Files that no package lists, no script of a package made, and that are not ours.

    ``known``: what packages list. ``made``: what was there right after packages came.
    """
    return sorted(
        path
        for path in present
        if path not in known
        and path not in made
        and not no_sign(path)
        and not _recorded(path, ledger)
        and not any(fnmatch(path, pattern) for pattern in (*MADE_BY_SCRIPTS, *MADE_BY_PROGRAMS))
    )


def _recorded(path: str, ledger: Ledger) -> bool:
    folder, name = os.path.split(path)
    if name.startswith(_FRESH):
        path = os.path.join(folder, name[len(_FRESH) :])
    return ledger.has("file", path)


def settings(status: str, names: Collection[str]) -> dict[str, dict[str, str]]:
    """The settings files of the packages with the MD5 sums that they came with, from the text of
    /var/lib/dpkg/status."""
    found: dict[str, dict[str, str]] = {}
    for paragraph in status.split("\n\n"):
        first = re.match(r"Package: (\S+)", paragraph)
        if first is None or first.group(1) not in names:
            continue
        rows = re.search(r"^Conffiles:\n((?: .*\n?)+)", paragraph, re.MULTILINE)
        words = [row.split() for row in rows.group(1).splitlines()] if rows else []
        found[first.group(1)] = {row[0]: row[1] for row in words if len(row) == 2}
    return found


def programs(unit: str) -> tuple[str, ...]:
    """The programs that the text of a unit starts."""
    return tuple(packages.plain(path) for path in _EXECUTES.findall(unit))


def rested(ledger: Ledger, packaged: Mapping[str, str]) -> dict[str, str]:
    """The units that rest for us, each with its package.

    ``packaged``: the unit files of our packages, each with its package.
    """
    found = {
        os.path.basename(path): package
        for path, package in packaged.items()
        if os.path.basename(path) in RESTED_BEFORE
    }
    for thing in ledger:
        if thing.kind == "rested":
            found[thing.name] = thing.data["package"] if thing.data["done"] else ""
    return {unit: package for unit, package in found.items() if package in packaged.values()}


def foreign_process(cgroup: str, packaged: Collection[str], ledger: Ledger) -> bool:
    """Whether a process that runs a program of our packages is somebody else's.

    ``cgroup``: the text of its file in /proc. ``packaged``: file names of our packages' units. The
    process is not if it runs in a unit of ours, or in one that came with the packages and needs
    nobody to make it, as an instance of a template does.
    """
    ours = {one.data.get("unit", one.name) for one in ledger if one.kind == "unit"}
    return not (ours | set(packaged)) & set(re.split(r"[/\s]", cgroup))


def marked(ledger: Ledger, manual: Iterable[str]) -> dict[str, str]:
    """Packages that were marked as wanted after us; of others it is not known who marked them."""
    found = {}
    for name in manual:
        thing = ledger.get("package", name)
        if thing is not None and thing.data.get("auto"):
            found[name] = "an administrator has installed it, too (apt-mark showmanual)"
    return found


def with_users(
    installed: Mapping[str, packages.Installed], names: Iterable[str], signs: Mapping[str, str]
) -> dict[str, str]:
    """The signs, also for those of the packages that build on one whose files are in use."""
    found = dict(signs)
    more = True
    while more:
        more = False
        for name in names:
            if name in found or name not in installed:
                continue
            for group in installed[name].depends:
                base = next((one for one in group if one in found), None)
                if base is not None:
                    found[name] = f"it belongs to {base}, which is in use"
                    more = True
                    break
    return found


def holders(
    trace: Thing, names: Collection[str], holding: Mapping[str, Collection[str]]
) -> frozenset[str]:
    """Which of the packages of a trace have to do with it.

    ``holding``: paths that packages list or take away themselves, with those packages.
    """
    among = frozenset(trace.data.get("packages", names))
    found: set[str] = set()
    for path, each in holding.items():
        if inside(path, trace.name) or inside(trace.name, path):
            found.update(each)
    whole = [name for name in among if name in os.path.basename(trace.name)]
    if whole:
        found.add(max(whole, key=len))
    elif not found & among:
        found |= {name for name in among if packages.named_after(trace.name, name)}
    return frozenset(found & among or among)


def stranger(
    path: str, uid: int, inside_owner: tuple[int, int], ledger: Ledger, ours: Collection[int]
) -> bool:
    """Whether a file in a directory of ours is of somebody else.

    ``uid``: its owner. ``inside_owner``: user and group of the directory. ``ours``: numbers of our
    users. Settings are all recorded; state is written by our users, and by root where the directory
    is not root's alone.
    """
    name = os.path.basename(path)
    if _recorded(path, ledger) or name.startswith(_FRESH) or "/__pycache__/" in path:
        return False
    if inside(path, "/etc/mlops"):
        return True
    recorded = ledger.has("directory", os.path.dirname(path))
    if recorded and inside_owner == (0, 0):
        return True
    return uid != 0 and uid not in ours
