# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus, Alertmanager and vmagent: this machine's, or Debian's out of their packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import unpacked


def program(name: str) -> str:
    """Where a program is; it is not installed for that."""
    # One or the other has promtool, by release.
    own = {"prometheus-alertmanager": (name,), "vmagent": ("victoria-metrics",)}
    own["prometheus-blackbox-exporter"] = (name,)
    found = unpacked.program(name, own.get(name, ("promtool", "prometheus")), "promtool")
    if not found:
        pytest.fail(f"no {name} here: run apt-get update, or install prometheus or promtool")
    return found


def alertmanager() -> list[str]:
    """The command of Alertmanager. Debian's reads its own templates from /usr/share, which an
    unpacked one finds in a view of the files of its own."""
    found = program("prometheus-alertmanager")
    share = Path(found).parents[1] / "share"
    if share == Path("/usr/share"):
        return [found]
    view = f'mount --bind \'{share}\' /usr/share && exec "$0" "$@"'
    return ["unshare", "--map-root-user", "--mount", "sh", "-c", view, found]
