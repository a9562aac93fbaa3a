# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All gates over a ring at one look, in order of cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..shapes import FAIL, INCONCLUSIVE, LEFT_OUT, MISSING, PASS, Gate, Look
from . import answers, errors, latency, queries, shift
from .settings import GateSettings

# What a ring is worth is what its worst gate says. MISSING is worse than INCONCLUSIVE: to bake
# longer does not help where nothing is measured.
WORST_FIRST = (FAIL, MISSING, INCONCLUSIVE, PASS)


def judge(
    look: Look, settings: GateSettings, memory: Mapping[str, float]
) -> tuple[tuple[Gate, ...], dict[str, float]]:
    """Judge a ring. ``memory`` is what the look before returned, empty at the first one.

    Memory has the largest evidence so far by test: what once was above the threshold stays there,
    even where a device that restarted has forgotten its counters. And it says since when devices
    are silent.
    """
    answering, of_answers = answers.judge(look, settings, memory)
    judged = [
        latency.judge(look, settings, memory),
        latency.compare(look, settings, memory),
        errors.judge(look, settings, memory),
        errors.compare(look, settings, memory),
        shift.judge(look, settings, memory),
    ]
    evidence = {"answers": of_answers}
    for _gate, logs in judged:
        evidence.update(logs)
    kept = {
        name: max(memory.get(name, 0.0), round(log, 6))
        for name, log in evidence.items()
        if name in settings.tests
    }
    gates = (answering, *(gate for gate, _logs in judged), *queries.judge(look, settings))
    return gates, {**kept, **answers.remembered(look, memory)}


def verdict_of(gates: Iterable[Gate]) -> str:
    """What the gates say together. A gate that was left out says nothing; none at all, MISSING."""
    said = {gate.verdict for gate in gates} - {LEFT_OUT}
    return next((verdict for verdict in WORST_FIRST if verdict in said), MISSING)
