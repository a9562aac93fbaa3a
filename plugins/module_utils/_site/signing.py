# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key of the releases: they are signed on the controller and verified by the devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .site import Site

SIGNER, KEY = "release_signing", "release_signing_key"


def _signer(site: Site, host: str) -> Mapping[str, Any]:
    """Who signs instead of a key on the controller, as the inventory says it."""
    return site.value(host, SIGNER) or {}


def key(site: Site, host: str) -> str:
    """The private key; none where somebody else signs, and then none is made."""
    if _signer(site, host).get("kind", "key") != "key":
        return ""
    return str(site.value(host, KEY) or site.secret(KEY, kind="private_key"))


def public_key(site: Site, host: str) -> str:
    """The public half, which devices believe; empty where another signer has not told it."""
    told = _signer(site, host).get("public_key")
    if told is not None:
        return str(told)
    private = key(site, host)
    return site.public_half(private) if private else ""
