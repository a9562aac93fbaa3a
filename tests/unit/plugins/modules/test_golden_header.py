# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden requests say what they are, in the words that the model server knows."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.modules import inference_check, rollout_look

ROOT = Path(__file__).resolve().parents[4]
INFER = "/v2/models/m/infer"


sent: dict[str, str] = {}


class Device:
    """A connection that keeps the headers of what it was asked."""

    status = 200
    sock = None

    def __init__(self, *_words: Any, **_more: Any) -> None:
        sent.clear()

    def request(self, _method: str, _path: str, body: Any, headers: dict[str, str]) -> None:
        sent.update(headers if body else {})

    def getresponse(self) -> Device:
        return self

    def read(self, _most: int = -1) -> bytes:
        return b"{}"

    def close(self) -> None:
        """There is nothing to close."""


def checked(context: ssl.SSLContext) -> None:
    client = inference_check.DeviceClient("edge1", "https://edge1", context, 10)
    client.ask("POST", INFER, {"inputs": []})
    client.end()


def looked(context: ssl.SSLContext) -> None:
    rollout_look.Connection("edge1", "https://edge1", context, 10)("POST", INFER, b"{}")


@pytest.mark.parametrize(
    ("module", "ask"), [(inference_check, checked), (rollout_look, looked)], ids=["check", "look"]
)
def test_whoever_sends_them_says_so(
    module: Any, ask: Callable[[ssl.SSLContext], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.http.client, "HTTPSConnection", Device)
    if module is rollout_look:
        monkeypatch.setattr(module, "read_answer", lambda answer, *_bounds: answer.read())
    ask(ssl.create_default_context())
    text = (ROOT / "roles/model_serving/files/mlops_serving/protocol.py").read_text("utf-8")
    assert 'GOLDEN_HEADER = "x-mlops-golden"' in text
    assert sent == {"content-type": "application/json", "x-mlops-golden": "1"}
