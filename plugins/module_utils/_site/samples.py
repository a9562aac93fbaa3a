# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples of requests: what each device keeps, and what the control host fetches from whom.

A device is asked with a token of its own, which says nothing of that of another one. Without a
model that is sampled there is no secret, no account and no bucket.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from . import fleet, models, pulling
from .site import Site

KEY = "model_samples_key"
COLLECTOR = "samples"  # as mlops_serving/samples.py calls who fetches


def _derived(site: Site, purpose: str) -> str:
    """A secret of its own for each purpose, none of which tells another."""
    key = str(site.secret(KEY, length=40))
    return hmac.new(key.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def of_host(site: Site, host: str) -> list[dict[str, Any]]:
    """C(name), C(rate) and C(redact) of each model that a device samples.

    None where the control host does not reach the device.
    """
    if pulling.pulls(site, host):
        return []
    return [
        {"name": model.name, "rate": model.sample.rate, "redact": dict(model.sample.redact)}
        for model in models.sampled(site)
        if model.sample and host in model.hosts(site.groups)
    ]


def token(site: Site, host: str) -> str:
    """With what a device is asked for its samples; empty where it has none."""
    return f"{COLLECTOR}.{_derived(site, f'token of {host}')}" if of_host(site, host) else ""


def token_hash(site: Site, host: str) -> str:
    """By what a device knows that token again, as C(mlops_serving/access.py) has it."""
    told = token(site, host)
    salt = hashlib.sha256(host.encode()).digest()[:16]
    secret = told.partition(".")[2]
    found = hashlib.sha256(salt + secret.encode()).hexdigest()
    return f"sha256:{salt.hex()}:{found}" if told else ""


def key(site: Site, host: str) -> str:
    """What makes a hash of a value: the same on all devices, so that equal values stay equal."""
    return _derived(site, "hashes") if of_host(site, host) else ""


def kept(site: Site) -> list[dict[str, Any]]:
    """C(name), C(days), C(mib_per_day) and C(most_mib) of each model that is sampled."""
    return [
        {
            "name": model.name,
            "days": model.sample.days,
            "mib_per_day": model.sample.mib_per_day,
            "most_mib": model.sample.most_mib,
        }
        for model in models.sampled(site)
        if model.sample
    ]


def devices(site: Site) -> list[dict[str, str]]:
    """C(name), C(url) and C(token) of each device that samples."""
    return [
        {"name": one["name"], "url": one["url"], "token": token(site, one["name"])}
        for one in fleet.devices(site)
        if of_host(site, one["name"])
    ]
