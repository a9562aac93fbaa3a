# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus, Alertmanager and vmagent: this machine's, or Debian's out of their packages."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mlops.onprem" / "promtool"


def program(name: str) -> str:
    """Where a program is; it is not installed for that."""
    found = shutil.which(name) or shutil.which(name, path=CACHE / "usr" / "bin")
    if found:
        return found
    CACHE.mkdir(parents=True, exist_ok=True)
    # One or the other has promtool, by release.
    own = {"prometheus-alertmanager": (name,), "vmagent": ("victoria-metrics",)}
    own["prometheus-blackbox-exporter"] = (name,)
    packages = own.get(name, ("promtool", "prometheus"))
    for package in packages:
        subprocess.run(
            ["apt-get", "download", "-qq", package], cwd=CACHE, check=False, capture_output=True
        )
        for archive in CACHE.glob(f"{package}_*.deb"):
            subprocess.run(["dpkg-deb", "--extract", archive, CACHE], check=True)
            archive.unlink()
        found = shutil.which(name, path=CACHE / "usr" / "bin")
        if found:
            return found
    pytest.fail(f"no {name} here: run apt-get update, or install prometheus or promtool")


def alertmanager() -> list[str]:
    """The command of Alertmanager. Debian's reads its own templates from /usr/share, which an
    unpacked one finds in a view of the files of its own."""
    found = program("prometheus-alertmanager")
    share = Path(found).parents[1] / "share"
    if share == Path("/usr/share"):
        return [found]
    view = f'mount --bind \'{share}\' /usr/share && exec "$0" "$@"'
    return ["unshare", "--map-root-user", "--mount", "sh", "-c", view, found]
