# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at a device: who answers from which release, with which counters, or why not."""

from __future__ import annotations

import json
from collections.abc import Callable

from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.errors import CheckError
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.looking import (
    look_at,
    served,
)

DIGEST = "sha256:" + "a" * 64
BODIES = [b'{"inputs": [1]}', b'{"inputs": [2]}']
Answers = Callable[[str, bytes], "tuple[int, bytes]"]


class Device:
    """Says what it serves and answers requests as told; keeps what it was asked."""

    def __init__(self, digest: str = DIGEST, status: int = 200, down: str = "") -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        self._digest, self._status, self._down = digest, status, down

    def __call__(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        if self._down:
            raise CheckError(self._down)
        self.asked.append((method, path, body or b""))
        if path == "/release":
            return 200, json.dumps({"models": {"iris": {"digest": self._digest}}}).encode()
        if path.startswith("/metrics"):
            return 200, b"mlops_model_info 1\n"
        return self._status, b'{"error": "no memory"}'


def test_a_device_that_answers_is_asked_as_often_as_told_and_its_counters_are_read_last() -> None:
    device = Device()
    found = look_at(device, device, "iris", DIGEST, BODIES, 3)
    assert (found.answered, found.asked, found.refused, found.problem) == (True, 3, 0, "")
    assert [body for _method, path, body in device.asked if "infer" in path] == [
        BODIES[0],
        BODIES[1],
        BODIES[0],
    ]
    assert device.asked[-1][1] == "/metrics/model_serving"
    assert found.page == "mlops_model_info 1\n"


def test_one_request_is_sent_also_where_none_is_asked_for() -> None:
    assert look_at(Device(), Device(), "iris", DIGEST, BODIES, 0).asked == 1


def test_a_device_that_only_says_so_has_not_answered() -> None:
    found = look_at(Device(status=503), Device(), "iris", DIGEST, BODIES, 2)
    assert (found.answered, found.refused) == (False, 2)
    assert "HTTP 503 (no memory)" in found.problem
    assert found.page  # what it counts is read all the same


def test_another_release_is_named_and_gets_no_golden_requests() -> None:
    device = Device(digest="sha256:" + "b" * 64)
    found = look_at(device, device, "iris", DIGEST, BODIES, 5)
    assert not found.answered
    assert f"it serves sha256:{'b' * 64} of iris, wanted {DIGEST}" in found.problem
    assert not [path for _method, path, _body in device.asked if "infer" in path]


def test_a_silent_device_is_a_sentence() -> None:
    silent = Device(down="it does not answer at https://edge1: timed out")
    found = look_at(silent, silent, "iris", DIGEST, BODIES, 5)
    assert not found.answered
    assert found.page == ""
    assert "does not answer" in found.problem


def test_a_server_of_one_model_names_its_digest_alone() -> None:
    assert served({"digest": DIGEST}, "iris") == DIGEST
    assert served({"models": {}}, "iris") == ""
    assert served([], "iris") == ""
