# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden requests: what a replica has to answer before anybody else may ask it.

``golden.json`` of a release holds cases. One of a language model is a prompt with the tokens, or
the text, that greedy decoding gives; without an expected answer it is asked twice and has to say
the same. One of an ONNX model is a request of the protocol with the trainer's answers; the server
computes those itself as it starts, and is ready only if they are right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .web import Unanswered, ask, ask_json

READY = {"onnx": "/v2/health/ready", "llama_cpp": "/health", "vllm": "/health"}
ASK_SECONDS = 120.0
MOST_TOKENS = 64
OK = 200


class Wrong(Exception):
    """A replica answers otherwise than it should; reads as a sentence."""


def ready(engine: str, socket: str, timeout: float = 5.0) -> bool:
    """Whether an engine has loaded its model."""
    try:
        return ask(socket, "GET", READY[engine], timeout=timeout)[0] == OK
    except Unanswered:
        return False


def cases_of(release: Path) -> list[Mapping[str, Any]]:
    """The golden cases of a release."""
    try:
        value = json.loads((release / "golden.json").read_bytes())
        cases = value["cases"]
        if not isinstance(cases, list) or not cases:
            raise ValueError("there is no case")
        return cases
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Wrong(f"The golden requests in {release} cannot be read: {error}.") from None


def _llama(socket: str, prompt: str, tokens: int) -> dict[str, Any]:
    """Greedy tokens by llama.cpp's own call, which says their numbers."""
    asked = {
        "prompt": prompt,
        "n_predict": tokens,
        "temperature": 0.0,
        "seed": 1,
        "cache_prompt": False,
        "return_tokens": True,
    }
    status, said = ask_json(socket, "POST", "/completion", asked, ASK_SECONDS)
    if status != OK or not isinstance(said, dict):
        raise Wrong(f"A golden request was answered with HTTP {status}: {str(said)[:200]}.")
    return {"tokens": said.get("tokens"), "text": said.get("content")}


def _openai(socket: str, prompt: str, tokens: int) -> dict[str, Any]:
    """Greedy text by the calls that every engine of this kind has."""
    _status, models = ask_json(socket, "GET", "/v1/models", timeout=ASK_SECONDS)
    try:
        name = models["data"][0]["id"]
        asked = {
            "model": name,
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": 0.0,
            "seed": 1,
        }
        status, said = ask_json(socket, "POST", "/v1/completions", asked, ASK_SECONDS)
        if status != OK:
            raise Wrong(f"A golden request was answered with HTTP {status}: {str(said)[:200]}.")
        return {"text": said["choices"][0]["text"]}
    except (KeyError, IndexError, TypeError) as error:
        raise Wrong(f"A golden request was answered in another form: {error!r}.") from None


ASKS = {"llama_cpp": _llama, "vllm": _openai}


def check(engine: str, socket: str, release: Path) -> int:
    """Compare the answers of a replica with those of its release; the number of cases.

    Raises:
        Wrong: An answer differs, or there is none.
    """
    cases = cases_of(release)
    ask_engine = ASKS.get(engine)
    if ask_engine is None:
        return len(cases)
    for number, case in enumerate(cases, start=1):
        try:
            request, expected = case["request"], case.get("expected") or {}
            prompt, tokens = str(request["prompt"]), int(request.get("max_tokens", 16))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Wrong(f"Golden case {number} cannot be read: {error!r}.") from None
        found = ask_engine(socket, prompt, min(tokens, MOST_TOKENS))
        if not found.get("text") and not found.get("tokens"):
            raise Wrong(f"Golden case {number} was answered with nothing.")
        wanted = {
            key: expected[key] for key in ("tokens", "text") if key in expected and key in found
        }
        if not wanted:
            wanted = ask_engine(socket, prompt, min(tokens, MOST_TOKENS))
        for key, value in wanted.items():
            if found[key] != value:
                raise Wrong(
                    f"Golden case {number}: the answer has other {key} than expected: "
                    f"{str(found[key])[:120]} instead of {str(value)[:120]}."
                )
    return len(cases)
