# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device serves of one model, whatever else it serves."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.errors import CheckError
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.golden import (
    Golden,
    GoldenCase,
)
from ansible_collections.mlops.onprem.plugins.modules import inference_check

DIGEST, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64
GOLDEN = Golden((GoldenCase({"inputs": [{"name": "x"}]}, {"y": (1.0,)}),), 1e-4)
PARAMS = {"model_name": "demo", "model_version": "3", "digest": DIGEST, "requests": 2}


class Device:
    """A device that answers what it is told to."""

    def __init__(self, served: dict[str, Any]) -> None:
        self._served = served

    def ask(self, method: str, path: str, _body: Any = None) -> dict[str, Any]:
        if path == "/release":
            return self._served
        if method == "GET":
            return {"versions": ["3"]}
        return {"outputs": [{"name": "y", "data": [1.0]}]}


@pytest.mark.parametrize(
    "served",
    [
        {"digest": DIGEST},
        {"models": {"demo": {"digest": DIGEST}}, "digest": DIGEST},
        {"models": {"demo": {"digest": DIGEST}, "other": {"digest": OTHER}}},
    ],
)
def test_the_model_is_found_beside_others_and_on_older_servers(served: dict[str, Any]) -> None:
    client: Any = Device(served)
    assert inference_check.check_device(client, "edge1", GOLDEN, PARAMS)["requests"] == 3


@pytest.mark.parametrize(
    "served",
    [
        {"digest": OTHER},
        {"models": {"demo": {"digest": OTHER}, "other": {"digest": DIGEST}}},
        {"models": {"other": {"digest": DIGEST}}, "digest": DIGEST},
        {"models": {"demo": None}},
        {},
    ],
)
def test_another_release_is_not_taken_for_it(served: dict[str, Any]) -> None:
    client: Any = Device(served)
    with pytest.raises(CheckError, match=f"of demo, wanted {DIGEST}"):
        inference_check.check_device(client, "edge1", GOLDEN, PARAMS)
