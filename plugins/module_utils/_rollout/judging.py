# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what was seen of devices to a verdict: baselines, gates, and who is silent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from .codec import as_dict
from .codec import seen as parse_seen
from .machine import Judged
from .orders import watch
from .shapes import Gate, Look, Seen
from .state import State

Gates = Callable[[Look, Mapping[str, float]], tuple[tuple[Gate, ...], dict[str, float]]]
Since = Callable[[Seen, Seen], Seen]


def judge(state: State, look: Look, gates: Gates, since: Since) -> Judged | None:
    """Judge a look at the ring that bakes; nothing where none bakes.

    Devices count since they were started. What is judged is what they counted since the ring was
    looked at first; the journal keeps that first look, so that another controller judges the same.
    """
    wanted = watch(state)
    if wanted is None:
        return None
    baseline, digest = state.baseline, state.planned().digest
    ring = [_named(one, digest) for one in look.ring if one.host in wanted.ring]
    control = [one for one in look.control if one.host in wanted.control]
    new = {one.host: as_dict(one) for one in (*ring, *control) if one.host not in baseline}
    silent = tuple(sorted(set(wanted.ring) - {one.host for one in ring if one.answered}))
    if not baseline:
        return Judged((), state.memory, silent, new)
    counted = replace(
        look,
        ring=_counted(ring, baseline, since),
        control=_counted(control, baseline, since),
        looks=state.looks,
    )
    found, memory = gates(counted, state.memory)
    return Judged(found, memory, silent, new)


def _named(one: Seen, digest: str) -> Seen:
    """A device that answers from another release does not answer from the one that is judged."""
    return one if one.digest == digest else replace(one, digest=digest, answered=False)


def _counted(
    seen: Sequence[Seen], baseline: Mapping[str, Mapping[str, object]], since: Since
) -> tuple[Seen, ...]:
    found = []
    for one in seen:
        before = baseline.get(one.host)
        if before is None:  # seen for the first time: nothing to count from yet
            found.append(Seen(one.host, one.digest, one.answered, at=one.at))
            continue
        counted = since(parse_seen(before), one)
        # That it answered was seen just now, whatever its counters make of it.
        found.append(replace(counted, answered=one.answered))
    return tuple(found)
