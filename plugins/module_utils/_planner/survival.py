# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens if one host is lost, and placements that survive it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from .arrays import Ints, np
from .grouped import group
from .model import FEASIBLE, Assignment, Budget, Host, Instance, Result, Survival
from .search.best_fit import BestFit, orders
from .search.state import Item, Packing
from .solver import solve


def survive(
    instance: Instance, placement: Iterable[Assignment], budget: Budget
) -> tuple[Survival, ...]:
    """For each host, the replicas on it that would find no other place if it were lost.

    All other replicas stay where they are, MIG instances included. What is in a pool outlives the
    host and does not move: its replicas go on where the same pool is reached. A replica counts as
    stranded when neither of two orders (hardest first, and each to where most is free) finds it a
    place. Raises Cancelled where the caller wants so; when the time of the budget is over, the
    hosts not yet looked at are missing from the answer.
    """
    problem = group(instance)
    packing = Packing(problem)
    packing.read(placement)
    # What is not placed does not matter here.
    rank = np.empty(len(problem.shapes), dtype=np.int64)
    rank[orders(problem)[0]] = np.arange(len(problem.shapes))
    refuge = _Refuge(packing, budget)
    found = []
    for host, lost in enumerate(problem.instance.hosts):
        stranded = refuge.stranded(host, rank)
        names = _names(packing, host, stranded)
        found.append(Survival(lost.name, len(packing.items[host]), names))
        if host % 50 == 0:
            budget.tell("loss of each host", host / len(problem.instance.hosts))
            if not budget.left:
                break
    return tuple(found)


def _names(packing: Packing, host: int, streams: list[int]) -> dict[str, int]:
    """The workloads of the stranded streams: those of them that run on the host."""
    if not streams:
        return {}
    found: Counter[str] = Counter()
    running = packing.names_on(host)
    for stream in streams:
        found[running[stream].pop()] += 1
    return dict(found)


class _Refuge:
    """Looks for places for the replicas of one host on the others."""

    def __init__(self, packing: Packing, budget: Budget) -> None:
        self.packing = packing
        self.best_fit = BestFit(packing, budget)
        self.able: dict[int, Ints] = {}

    def _hosts(self, shape: int) -> Ints:
        """Hosts with room for the shape before anything is lost, the fullest first."""
        if self.packing.problem.pools:  # a lost host leaves its part of a pool to the others
            return self._with_room(shape)
        if shape not in self.able:
            self.able[shape] = self._with_room(shape)
        return self.able[shape]

    def _with_room(self, shape: int) -> Ints:
        hosts = self.best_fit.hosts(shape)
        hosts = hosts[self.packing.room(shape, hosts) > 0]
        return hosts[np.argsort(self.best_fit.score(hosts), kind="stable")]

    def _reaches(self, shape: int, lost: int, other: int) -> bool:
        """Whether a host reaches the pools that hold what the shape has on the lost host."""
        problem = self.packing.problem
        there = {number for _column, number in problem.pooled[other]}
        return all(
            number in there or not problem.demand[shape, column]
            for column, number in problem.pooled[lost]
        )

    def stranded(self, host: int, rank: Ints) -> list[int]:
        """The streams whose replicas find no place, one entry for each replica."""
        best: list[int] | None = None
        for roomy in (False, True):
            left = self._try(host, rank, roomy)
            if best is None or len(left) < len(best):
                best = left
            if not best:
                break
        return best or []

    def _try(self, host: int, rank: Ints, roomy: bool) -> list[int]:
        packing, problem = self.packing, self.packing.problem
        items = packing.clear(host)
        placed: list[tuple[int, Item]] = []
        left: list[int] = []
        shape_of = [problem.streams[stream].shape for stream, _devices in items]
        at: dict[int, int] = {}
        for number in sorted(range(len(items)), key=lambda n: int(rank[shape_of[n]])):
            stream, shape = items[number][0], shape_of[number]
            hosts = self._hosts(shape)
            if roomy:
                hosts = hosts[::-1]
            start = at.get(shape, 0)
            spread = problem.streams[stream].spread >= 0
            for place in range(0 if spread else start, len(hosts)):
                other = int(hosts[place])
                if (
                    other != host
                    and self._reaches(shape, host, other)
                    and packing.put(shape, other, stream)
                ):
                    placed.append((other, packing.items[other][-1]))
                    at[shape] = place
                    break
            else:
                left.append(stream)
                if not spread:
                    at[shape] = len(hosts)
        for other, item in placed:
            packing.take(other, item)
        packing.restore(host, items)
        return left


def solve_surviving(
    instance: Instance, budget: Budget, seed: int = 0
) -> tuple[Result, tuple[Survival, ...]]:
    """A placement of which any one host may be lost, if one is found.

    Tried in this order: the plain plan; plans that leave a largest host of each kind empty; plans
    that leave a part of every host free. The best of them is returned with what each loss would
    strand; where any loss strands something, no placement that survives was found (which does not
    say that there is none). The verdict is that of the plain plan.
    """
    first = solve(instance, budget.part(0.3), seed)
    if first.verdict != FEASIBLE:
        return first, survive(instance, first.placement, budget)
    best, losses = first, survive(instance, first.placement, budget)
    for harder in _harder(instance):
        if not _stranded(losses) or not budget.left:
            break
        trial = solve(harder, budget.part(0.3), seed)
        if trial.verdict != FEASIBLE:
            continue
        after = survive(instance, trial.placement, budget)
        if len(after) == len(instance.hosts) and _stranded(after) < _stranded(losses):
            best = replace(
                first, placement=trial.placement, seconds=budget.used, optimal=first.optimal
            )
            losses = after
    return replace(best, seconds=budget.used), losses


def _stranded(losses: Iterable[Survival]) -> int:
    return sum(sum(loss.stranded.values()) for loss in losses)


def _harder(instance: Instance) -> Iterator[Instance]:
    """Questions whose answers leave room for what a lost host carried."""
    yield replace(instance, hosts=_without_spares(instance))
    for part in (0.05, 0.1, 0.2, 0.3):
        yield replace(
            instance,
            hosts=tuple(
                replace(host, supply=tuple(figure * (1 - part) for figure in host.supply))
                for host in instance.hosts
            ),
        )


def _without_spares(instance: Instance) -> tuple[Host, ...]:
    """All hosts but one of each kind that no other kind could stand in for."""

    def covers(one: Host, other: Host) -> bool:
        mine, theirs = Counter(one.devices), Counter(other.devices)
        return (
            all(a >= b for a, b in zip(one.supply, other.supply))
            and all(mine[device] >= times for device, times in theirs.items())
            and one.tags >= other.tags
        )

    kinds: dict[object, Host] = {}
    for host in instance.hosts:
        kinds.setdefault((host.supply, host.devices, host.tags), host)
    found = list(kinds.values())
    spares = {
        host.name
        for host in found
        if not any(other is not host and covers(other, host) for other in found)
    }
    return tuple(host for host in instance.hosts if host.name not in spares)
