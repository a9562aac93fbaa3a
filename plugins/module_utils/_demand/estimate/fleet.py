# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge fleets: how long a ring takes to download, and how large a ring must be to see a defect."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..._findings.shape import ShapeError, each, field, known_keys, mapping, optional, text
from ..quantities import size_keys
from . import fields
from .answer import Estimate, Figure, figure, told

DOWNLOAD_SOURCE = "bits of all devices / usable bits a second of the narrowest part"
RING_SOURCE = (
    "n independent devices see a defect of rate p with probability 1 - (1 - p)^n: n >="
    " ln(1 - confidence) / ln(1 - p)"
)

DOWNLOAD_KEYS = (
    *size_keys("release"),
    *("uplink_mbit", "uplink_share_percent", "device_mbit", "rings"),
)
RING_KEYS = ("defect_rate", "confidence", "devices")


def edge_download(name: str, data: Mapping[str, Any]) -> Estimate:
    """Seconds that each ring takes to download a release, one ring after the other.

    All devices of a ring share the site's uplink, of which only a share may be taken; none is
    faster than its own link. 1 Mbit/s is 1,000,000 bits a second.
    """
    known_keys(data, DOWNLOAD_KEYS)
    release = fields.size(data, "release")
    uplink = field(data, "uplink_mbit", fields.above_zero)
    percent = optional(data, "uplink_share_percent", fields.within(0.1, 100), 80.0)
    device = optional(data, "device_mbit", fields.above_zero, 0.0)
    rings = field(data, "rings", lambda value: each(value, _ring))
    if not rings:
        raise ShapeError("must not be empty", "rings")
    parts: list[Figure] = []
    usable = uplink * percent / 100
    for index, (ring, devices) in enumerate(rings):
        seconds = devices * release * 8 / (usable * 1e6)
        formula = (
            f"{told(devices)} devices x {told(release)} bytes x 8 / ({told(uplink)} Mbit/s x"
            f" {percent:g} %)"
        )
        if device and release * 8 / (device * 1e6) > seconds:
            seconds = release * 8 / (device * 1e6)
            formula = f"{told(release)} bytes x 8 / {told(device)} Mbit/s of a device"
        label = ring or f"ring_{index + 1}"
        parts.append(figure(label, formula, seconds, "s", DOWNLOAD_SOURCE))
    sums = " + ".join(told(part.value) for part in parts)
    total = figure("all_rings", sums, sum(part.value for part in parts), "s", DOWNLOAD_SOURCE)
    return Estimate(name, "edge_download", (total, *parts))


def _ring(value: object) -> tuple[str, int]:
    if isinstance(value, Mapping):
        data = mapping(value)
        known_keys(data, ("name", "devices"))
        return field(data, "name", text), field(data, "devices", fields.count)
    return "", fields.count(value)


def ring_size(name: str, data: Mapping[str, Any]) -> Estimate:
    """How many devices see a defect of a given rate at least once, with a given confidence.

    With ``devices`` also how likely that many see it.
    """
    known_keys(data, RING_KEYS)
    rate = field(data, "defect_rate", fields.share)
    confidence = optional(data, "confidence", fields.share, 0.95)
    parts = []
    # log1p keeps small rates exact.
    size = math.ceil(math.log1p(-confidence) / math.log1p(-rate) - 1e-12)
    formula = f"ceil(ln(1 - {confidence:g}) / ln(1 - {rate:g}))"
    parts.append(figure("devices", formula, max(1, size), "devices", RING_SOURCE))
    if data.get("devices") is not None:
        devices = field(data, "devices", fields.count)
        seen = -math.expm1(devices * math.log1p(-rate))
        formula = f"1 - (1 - {rate:g})^{devices}"
        parts.append(figure("probability", formula, seen, "of 1", RING_SOURCE))
    return Estimate(name, "ring_size", tuple(parts))
