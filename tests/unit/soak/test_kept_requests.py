# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the campaign judges a sample of requests that a site has stored."""

from __future__ import annotations

from typing import Any

import pytest

from tests.soak.kept_requests import against, of_devices

ROWS = [([17.99, 10.38, 122.8], "0"), ([20.57, 17.77, 132.9], "0")]
ONE, OTHER = "1" * 32, "2" * 32


def line(texture: object = ONE, twin: float = 122.80000305, **more: Any) -> dict[str, Any]:
    inputs = {"mean_texture": texture, "mean_perimeter": twin, **more}
    return {"id": "a" * 32, "inputs": {"features": inputs}}


def test_equal_values_with_equal_hashes_are_what_is_wanted() -> None:
    lines = {"edge1": [line(), line(OTHER, 132.9)], "edge2": [line(), line(OTHER, 55.0)]}
    assert against(lines, ROWS) == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([line(mean_radius=17.99)], "mean_radius was stored"),
        ([line(10.38)], "mean_texture was stored as 10.38"),
        ([line() | {"id": "order-7"}], "the id of a request was stored as 'order-7'"),
        ([line(), line(OTHER)], "one value of mean_texture has several hashes"),
        ([line(twin=55.0)], "nothing that these clients sent was stored"),
    ],
)
def test_what_should_not_be_there_is_said(lines: list[dict[str, Any]], said: str) -> None:
    assert against({"edge1": lines}, ROWS) == [said]


def test_objects_name_the_device_that_they_are_of() -> None:
    keys = [
        f"m/2026-11-29/edge1-{ONE}.jsonl",
        f"m/2026-11-28/edge2-{ONE}.jsonl",
        f"other/2026-11-29/edge3-{ONE}.jsonl",
        "m/2026-11-29/edge4-1.jsonl",
    ]
    assert of_devices(keys, "m", "2026-11-29") == {"edge1"}
