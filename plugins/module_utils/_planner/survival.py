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
from .model import FEASIBLE, INFEASIBLE, Assignment, Budget, Host, Instance, Result, Survival
from .search.best_fit import BestFit, orders
from .search.state import Item, Packing
from .solver import mend, solve

FEW = 10  # replicas of a lost host up to which ways to place them are tried one after another
STEPS = 2_000  # of these trials, for each host
PROVED = 12  # exposed hosts for which a proof is looked for


def survive(
    instance: Instance, placement: Iterable[Assignment], budget: Budget
) -> tuple[Survival, ...]:
    """For each host, the replicas on it that would find no other place if it were lost.

    All other replicas stay where they are, MIG instances included. What is in a pool outlives the
    host and does not move: its replicas go on where the same pool is reached. A replica counts as
    stranded when no order finds it a place (hardest first, each to where most is free, and what has
    least choice first), nor, for few replicas, trying one way after another: a place that was not
    found, which does not say that there is none. Raises Cancelled where the caller wants so; when
    the time of the budget is over, the hosts not yet looked at are missing from the answer.
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
        self.steps = 0

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
        for first, roomy in ((rank, False), (rank, True), (self._choices(host), False)):
            left = self._try(host, first, roomy)
            if best is None or len(left) < len(best):
                best = left
            if not best:
                return []
        items = self.packing.items[host]
        if len(items) <= FEW and self._everywhere(host):
            return []
        return best or []

    def _choices(self, host: int) -> Ints:
        """Ranks by how many hosts could take a shape: what has least choice goes first."""
        rank = np.zeros(len(self.packing.problem.shapes), dtype=np.int64)
        for stream, _devices in self.packing.items[host]:
            shape = self.packing.problem.streams[stream].shape
            rank[shape] = len(self._hosts(shape))
        return rank

    def _everywhere(self, host: int) -> bool:
        """Whether some way to place the replicas elsewhere is found by trying one after another."""
        packing = self.packing
        items = packing.clear(host)
        order = sorted(
            items, key=lambda item: len(self._hosts(packing.problem.streams[item[0]].shape))
        )
        self.steps = STEPS
        found = self._next(order, 0, host)
        packing.restore(host, items)
        return found

    def _next(self, items: list[Item], at: int, lost: int) -> bool:
        if at == len(items):
            return True
        stream = items[at][0]
        shape = self.packing.problem.streams[stream].shape
        for other in self._hosts(shape).tolist():
            self.steps -= 1
            if self.steps < 0:
                return False
            if (
                other != lost
                and self._reaches(shape, lost, other)
                and self.packing.put(shape, other, stream)
            ):
                item = self.packing.items[other][-1]
                found = self._next(items, at + 1, lost)
                self.packing.take(other, item)
                if found:
                    return True
        return False

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
    that leave a part of every host free; moving what stands where a stranded replica could go. The
    best of them is returned with what each loss would strand. Where any loss strands something, no
    placement that survives was found; `Survival.proven` tells where it is proven that there is
    none, because what is asked does not fit without that host at all. The verdict is that of the
    plain plan.
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
    placement, losses = _make_way(instance, best.placement, losses, budget.part(0.6))
    losses = _proved(instance, losses, budget, seed)
    return replace(best, placement=placement, seconds=budget.used), losses


def _make_way(
    instance: Instance,
    placement: tuple[Assignment, ...],
    losses: tuple[Survival, ...],
    budget: Budget,
) -> tuple[tuple[Assignment, ...], tuple[Survival, ...]]:
    """Move to other hosts what stands where stranded replicas could go, while that helps."""
    better = True
    while better and _stranded(losses) and budget.left:
        better = False
        for trial in _moves(instance, placement, losses, budget):
            after = survive(instance, trial, budget)
            if len(after) == len(instance.hosts) and _stranded(after) < _stranded(losses):
                placement, losses, better = trial, after, True
                break
            if not budget.left:
                break
    return placement, losses


def _moves(
    instance: Instance,
    placement: tuple[Assignment, ...],
    losses: tuple[Survival, ...],
    budget: Budget,
) -> Iterator[tuple[Assignment, ...]]:
    """Placements in which one host is emptied onto the others: first those that are in the way."""
    exposed = {loss.host for loss in losses if loss.stranded}
    order = sorted(instance.hosts, key=lambda host: host.name in exposed)
    for host in order:
        stay = [one for one in placement if one.host != host.name]
        if len(stay) == len(placement):
            continue
        others = tuple(other for other in instance.hosts if other is not host)
        result = mend(replace(instance, hosts=others), stay, budget.part(0.1))
        if result.verdict == FEASIBLE:
            yield result.placement


def _proved(
    instance: Instance, losses: tuple[Survival, ...], budget: Budget, seed: int
) -> tuple[Survival, ...]:
    """Which exposed hosts no placement can do without, however all is placed."""
    exposed = [loss for loss in losses if loss.stranded][:PROVED]
    proven = set()
    for loss in exposed:
        others = tuple(host for host in instance.hosts if host.name != loss.host)
        without = replace(instance, hosts=others)
        if solve(without, budget.part(0.3), seed).verdict == INFEASIBLE:
            proven.add(loss.host)
    return tuple(replace(loss, proven=loss.host in proven) for loss in losses)


def _stranded(losses: Iterable[Survival]) -> int:
    return sum(sum(loss.stranded.values()) for loss in losses)


def _harder(instance: Instance) -> Iterator[Instance]:
    """Questions whose answers leave room for what a lost host carried."""
    yield replace(instance, hosts=_without_spares(instance))
    # What hosts share is lost with none of them, so there nothing has to stay free.
    shared = {place for pool in instance.pools for place in pool.columns}
    for part in (0.05, 0.1, 0.2, 0.3):
        yield replace(
            instance,
            hosts=tuple(
                replace(
                    host,
                    supply=tuple(
                        figure if (host.name, column) in shared else figure * (1 - part)
                        for column, figure in enumerate(host.supply)
                    ),
                )
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
