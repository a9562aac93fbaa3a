# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where everything goes, with as much as possible staying where an earlier run placed it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .._planner.model import (
    FEASIBLE,
    UNDECIDED,
    Assignment,
    Budget,
    Instance,
    Result,
    Survival,
)
from .._planner.solver import mend, solve
from .._planner.survival import solve_surviving, survive
from .._planner.verify import verify
from .question import Earlier, Problem
from .site_plan import Planning

SEEDS = 8  # further starts of a search that has time left


def sound(instance: Instance, rows: Sequence[Assignment]) -> bool:
    """Whether these replicas, and no others, may stand where they are."""
    return not verify(*_only(instance, rows))


def _only(
    instance: Instance, rows: Sequence[Assignment]
) -> tuple[Instance, tuple[Assignment, ...]]:
    """The question for these replicas alone, numbered anew."""
    numbers: Counter[str] = Counter()
    again = []
    for row in rows:
        again.append(row._replace(replica=numbers[row.workload]))
        numbers[row.workload] += 1
    works = tuple(
        replace(work, replicas=numbers[work.name])
        for work in instance.workloads
        if numbers[work.name]
    )
    return replace(instance, workloads=works), tuple(again)


def still_sound(instance: Instance, rows: Sequence[Assignment]) -> tuple[Assignment, ...]:
    """Of earlier assignments those that may stay; a host where they do not fit keeps none."""
    if not rows or sound(instance, rows):
        return tuple(rows)
    by_host: dict[str, list[Assignment]] = defaultdict(list)
    for row in rows:
        by_host[row.host].append(row)
    hosts = {host.name: host for host in instance.hosts}
    good = [
        row
        for name, here in by_host.items()
        if sound(replace(instance, hosts=(hosts[name],)), here)
        for row in here
    ]
    return tuple(good) if sound(instance, good) else ()


def place(
    problem: Problem, earlier: Sequence[Earlier], planning: Planning, budget: Budget
) -> tuple[Result, tuple[Survival, ...] | None, int]:
    """Where everything goes, with as much as possible staying where it was.

    Earlier replicas that still fit stay, down to their GPUs, and the rest is added around them;
    only where that does not work everything is placed anew. Gives the result, what a lost host
    would strand if a plan that survives was asked for, and how many replicas did not move.
    """
    instance = problem.instance
    before = problem.earlier(earlier)
    rows = still_sound(instance, before)
    if rows:
        result = mend(instance, rows, budget.part(0.3), planning.seed)
        if result.verdict == FEASIBLE:
            result = replace(result, placement=renumbered(before, result.placement))
            survivals = survive(instance, result.placement, budget.part(0.3))
            if not planning.survive or not any(row.stranded for row in survivals):
                return result, survivals, _stayed(before, result.placement)
    if planning.survive:
        result, survivals = solve_surviving(instance, budget.part(0.7), planning.seed)
    else:
        result, survivals = solve(instance, budget.part(0.95), planning.seed), ()
    result = replace(result, placement=renumbered(before, result.placement))
    return result, survivals if planning.survive else None, _stayed(before, result.placement)


def search_on(
    problem: Problem,
    earlier: Sequence[Earlier],
    known: tuple[Result, int],
    seed: int,
    budget: Budget,
) -> tuple[Result, int]:
    """Go on from an undecided result, from other seeds, until it is decided or time is over.

    ``known`` is the result and how many replicas stayed in it; the best of all is given.
    """
    best, kept = known
    before = problem.earlier(earlier)
    for attempt in range(1, SEEDS + 1):
        if best.verdict != UNDECIDED or not budget.left:
            break
        budget.tell(f"placing, from seed {seed + attempt}", 0.3)
        part = budget.part(1.0 if attempt == SEEDS else 0.5)
        result = solve(problem.instance, part, seed + attempt)
        if result.verdict != UNDECIDED or result.value > best.value:
            placement = renumbered(before, result.placement)
            at_least = max(best.at_least, result.at_least)
            best = replace(result, placement=placement, at_least=at_least)
            kept = _stayed(before, placement)
    return best, kept


def _where(one: Assignment) -> object:
    return one[2:]


def _on(one: Assignment) -> object:
    return one.host


def renumbered(before: Sequence[Assignment], after: Sequence[Assignment]) -> tuple[Assignment, ...]:
    """The same placement with the replicas numbered as before, as far as they stay.

    Replicas of a workload are alike, so whichever number fits what was there is given to it: first
    those on the same devices, then those on the same host, then the rest in order.
    """
    numbers: dict[str, set[int]] = defaultdict(set)
    for one in after:
        numbers[one.workload].add(one.replica)
    waiting = list(after)
    answer: list[Assignment] = []
    for same in (_where, _on):
        old: dict[Any, list[int]] = defaultdict(list)
        for one in reversed(before):
            if one.replica in numbers[one.workload]:
                old[one.workload, same(one)].append(one.replica)
        rest = []
        for one in waiting:
            known = old[one.workload, same(one)]
            if known:
                number = known.pop()
                numbers[one.workload].remove(number)
                answer.append(one._replace(replica=number))
            else:
                rest.append(one)
        waiting = rest
    left = {name: iter(sorted(some)) for name, some in numbers.items()}
    answer += [one._replace(replica=next(left[one.workload])) for one in waiting]
    return tuple(sorted(answer))


def _stayed(before: Sequence[Assignment], after: Sequence[Assignment]) -> int:
    """How many replicas are on the host where they were."""
    hosts = {(row.workload, row.replica): row.host for row in before}
    return sum(1 for row in after if hosts.get((row.workload, row.replica)) == row.host)
