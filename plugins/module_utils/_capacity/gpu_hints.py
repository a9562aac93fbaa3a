# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people may have meant who ask for a GPU, or a MIG instance, that no host has."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

from .._planner.mig.geometry import card, explain
from .._planner.model import Workload
from .cards import Card
from .question import Problem


def gpu_hints(problem: Problem, works: Sequence[Workload]) -> tuple[str, ...]:
    """A sentence for each model or MIG profile that these workloads want and no GPU has."""
    cards = [one for place in problem.places.values() for one in place.cards]
    found = [hint for work in works for hint in (*_models(work, cards), *_profile(work, cards))]
    return tuple(dict.fromkeys(found))


def _models(work: Workload, cards: Sequence[Card]) -> Iterator[str]:
    there = sorted({one.model for one in cards})
    if not work.gpu.models or not there or not work.gpu.models.isdisjoint(there):
        return
    said = ", ".join(sorted(work.gpu.models))
    yield f"no GPU is of the model {said}; the hosts have {', '.join(there)}" + (
        "".join(
            f"; did you mean {near}?"
            for near in dict.fromkeys(nearest(one, there) for one in sorted(work.gpu.models))
            if near
        )
    )


def nearest(written: str, models: Sequence[str]) -> str:
    """The model that is most alike, spaces and hyphens aside; empty if none is."""
    wanted = _squashed(written)
    if not wanted:
        return ""
    best = (0.0, "")
    for model in models:
        words = re.split(r"[\s_-]+", model)
        parts = {
            "".join(words[first:last]).lower()
            for first in range(len(words))
            for last in range(first + 1, len(words) + 1)
        }
        alike = max(difflib.SequenceMatcher(None, wanted, part).ratio() for part in parts)
        best = max(best, (alike, model))
    return best[1] if best[0] >= 0.75 else ""


def _squashed(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name[:64]).lower()


def _profile(work: Workload, cards: Sequence[Card]) -> Iterator[str]:
    profile = work.gpu.profile
    keys = sorted({one.mig for one in cards if one.mig})
    if not profile or not cards or any(profile in card(key).profiles for key in keys):
        return
    for key in keys:
        yield explain(key, {profile: 1})
    off = sorted({one.model for one in cards if not one.mig})
    if off:
        yield (
            f"{profile} asks for a MIG instance, but MIG is off, or not known, on"
            f" {', '.join(off)}: turn it on with nvidia-smi -i INDEX -mig 1 where the card can do"
            " it, or ask for gpu.count, gpu.share or gpu.memory"
        )
