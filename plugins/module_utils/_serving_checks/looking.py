# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at a device that serves: what it counts, and whether it answers from which release.

The transport is handed in. Golden requests are sent first and the counters read after them, so that
they are counted in what is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .errors import CheckError


class Ask(Protocol):
    """Sends one request to a device; gives status and body."""

    def __call__(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """May raise ``CheckError`` with a sentence."""


@dataclass(frozen=True)
class Looked:
    """What a look at one device came to.

    ``answered`` says whether it answered a request from the release that it was asked for. ``page``
    are its metrics, empty where they could not be read. ``problem`` is a sentence.
    """

    answered: bool
    page: str = ""
    asked: int = 0
    refused: int = 0
    problem: str = ""


def served(value: Any, model: str) -> str:
    """The digest that a device says it serves of a model, empty if none.

    A server of an earlier version has one model, and names its digest alone.
    """
    if not isinstance(value, Mapping):
        return ""
    models = value.get("models")
    one = models.get(model) if isinstance(models, Mapping) else value
    digest = one.get("digest") if isinstance(one, Mapping) else None
    return digest if isinstance(digest, str) else ""


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _probe(ask: Ask, model: str, bodies: Sequence[bytes], number: int) -> tuple[int, int, str]:
    """Send golden requests: how many were answered with an error, and what the last one said."""
    asked = refused = 0
    said = ""
    for turn in range(number):
        status, data = ask("POST", f"/v2/models/{model}/infer", bodies[turn % len(bodies)])
        asked += 1
        if status != 200:
            refused += 1
            value = _json(data)
            reason = str(value.get("error") or "")[:200] if isinstance(value, Mapping) else ""
            said = f"a golden request was answered with HTTP {status}" + (
                f" ({reason})" if reason else ""
            )
    return asked, refused, said


def look_at(
    serving: Ask, metrics: Ask, model: str, digest: str, bodies: Sequence[bytes], probes: int
) -> Looked:
    """Ask a device what it serves, send it golden requests, and read what it counts.

    At least one golden request is sent where there are any: that a device says what it serves is no
    proof that it answers.
    """
    problem, answered, asked, refused = "", False, 0, 0
    try:
        status, data = serving("GET", "/release")
        found = served(_json(data), model) if status == 200 else ""
        answered = found == digest
        if not answered:
            problem = f"it serves {found or 'nothing'} of {model}, wanted {digest}"
        elif bodies:
            asked, refused, said = _probe(serving, model, bodies, max(1, probes))
            answered, problem = refused < asked, said
    except CheckError as error:
        answered, problem = False, str(error)
    page = ""
    try:
        status, data = metrics("GET", "/metrics/model_serving")
        if status == 200:
            page = data.decode(errors="replace")
        else:
            problem = problem or f"its metrics are answered with HTTP {status}"
    except CheckError as error:
        problem = problem or str(error)
    return Looked(answered, page, asked, refused, problem)
