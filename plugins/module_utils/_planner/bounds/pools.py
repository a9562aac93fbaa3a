# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices that are cut up alike: what is asked of them by its sum, and how they can be cut up."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from ..arrays import Bools, np
from ..grouped import NEVER, Problem
from ..model import Certificate
from ..whole_numbers import whole_shares
from .certificate import hosts_of, left_out, names_of, number, plural
from .cutting import Cut, Stock, cut


@dataclass
class Pool:
    """Devices that are cut up alike, and what may be cut from them.

    ``parts`` are the distinct sizes with the number of replicas of each; ``whole`` the numbers of
    whole devices with theirs.
    """

    resource: str
    unit: str
    devices: int
    full: tuple[int, int]
    parts: dict[tuple[int, int], int]
    whole: dict[int, int]
    words: dict[tuple[int, int], str]
    shapes: list[int]

    @property
    def replicas(self) -> int:
        """All replicas that need such devices."""
        return sum(self.parts.values()) + sum(self.whole.values())

    def sizes_and_counts(self) -> list[tuple[Fraction, int]]:
        """By how much of a device each replica takes."""
        rows = [
            (
                Fraction(second, self.full[1]) if self.full[1] else Fraction(size, self.full[0]),
                count,
            )
            for (size, second), count in self.parts.items()
        ]
        return rows + [(Fraction(size), count) for size, count in self.whole.items()]

    def needed_by_sum(self) -> Fraction:
        """How many devices are needed if they could be cut up without waste."""
        # For MIG the sum is that of compute slices, as people count; memory slices are geometry.
        column, full = (1, self.full[1]) if self.full[1] else (0, self.full[0])
        most = Fraction(sum(size[column] * count for size, count in self.parts.items()), full)
        return most + sum(size * count for size, count in self.whole.items())


def pools_of(problem: Problem, shapes: Bools, groups: Bools) -> Iterator[Pool]:
    """The devices that the shapes may use on the hosts: those without MIG, and each MIG card."""
    chosen = np.flatnonzero(shapes & problem.gpu)
    hosts = hosts_of(problem, groups)
    if not len(chosen) or not hosts:
        return
    kinds_there = Counter(problem.device_kind[hosts].reshape(-1).tolist())
    cards: dict[str, list[int]] = defaultdict(list)
    for kind, device in enumerate(problem.kinds):
        cards[device.mig].append(kind)
    for card, kinds in cards.items():
        can = problem.usable[chosen][:, kinds] | (problem.part[chosen][:, kinds] < NEVER)
        # A MIG instance that also fits another card is not bound to this one.
        others = [kind for kind in range(len(problem.kinds)) if kind not in kinds]
        elsewhere = problem.usable[chosen][:, others] | (problem.part[chosen][:, others] < NEVER)
        here = chosen[can.any(axis=1) & ~elsewhere.any(axis=1)]
        if not len(here):
            continue
        used = [kind for at, kind in enumerate(kinds) if can[np.isin(chosen, here), at].any()]
        devices = sum(kinds_there.get(kind, 0) for kind in used)
        yield _pool(problem, card, used, here.tolist(), devices)


def _pool(problem: Problem, card: str, kinds: list[int], shapes: list[int], devices: int) -> Pool:
    parts: Counter[tuple[int, int]] = Counter()
    whole: Counter[int] = Counter()
    words: dict[tuple[int, int], str] = {}
    if card:
        full = (int(problem.full[kinds[0]]), int(problem.full2[kinds[0]]))
        sizes = {
            shape: (int(problem.part[shape, kinds].min()), int(problem.part2[shape, kinds].max()))
            for shape in shapes
        }
    else:
        cut_up = [shape for shape in shapes if not problem.whole[shape]]
        shares = [
            min(Fraction(int(problem.part[shape, k]), int(problem.full[k])) for k in kinds)
            for shape in cut_up
        ]
        units, unit = whole_shares(shares)
        full, sizes = (unit, 0), {shape: (size, 0) for shape, size in zip(cut_up, units)}
    for shape in shapes:
        count = int(problem.count[shape])
        if problem.whole[shape]:
            whole[int(problem.whole[shape])] += count
        else:
            parts[sizes[shape]] += count
            words[sizes[shape]] = (
                problem.shapes[shape].gpu.profile or f"{number(sizes[shape][0] / full[0])} GPU"
            )
    models = sorted({problem.kinds[kind].model for kind in kinds})
    all_models = {device.model for device in problem.kinds if device.mig == card}
    resource = "gpu" if set(models) == all_models else f"gpu {'/'.join(models)}"
    return Pool(
        f"mig {card}" if card else resource, "GPUs", devices, full, dict(sorted(parts.items())),
        dict(sorted(whole.items())), words, shapes,
    )  # fmt: skip


def fragmented(problem: Problem, shapes: Bools, groups: Bools) -> Iterator[Certificate]:
    """Where the devices would suffice by their sum, but no way to cut them up does."""
    for pool in pools_of(problem, shapes, groups):
        if not pool.parts or pool.needed_by_sum() > pool.devices:
            continue
        sizes, counts = tuple(pool.parts), list(pool.parts.values())
        if any(size > pool.full[0] for size, _second in sizes):
            continue
        prices = cut(Stock(pool.full, sizes), counts)
        whole = sum(size * count for size, count in pool.whole.items())
        exact = prices.devices(counts)
        needed = -int(-exact // 1) + whole
        if needed <= pool.devices:
            continue
        excess = exact + whole - pool.devices
        weights: list[tuple[Fraction, int]] = list(zip(prices.prices, counts))
        weights += [(Fraction(size), count) for size, count in pool.whole.items()]
        out = left_out(weights, excess)
        yield Certificate(
            "geometry" if pool.full[1] else "fragmentation", pool.resource, pool.unit,
            float(needed), float(pool.devices), float(needed - pool.devices), out,
            names_of(problem, pool.shapes), tuple(_cut_steps(pool, prices, needed, out)),
        )  # fmt: skip


def _cut_steps(pool: Pool, prices: Cut, needed: int, out: int) -> Iterator[str]:
    sizes, counts = list(pool.parts), list(pool.parts.values())
    yield (
        f"by their sum {pool.replicas} replicas need {number(float(pool.needed_by_sum()))}"
        f" {pool.unit}, and there are {pool.devices}: a check of sums says yes"
    )
    if not pool.full[1]:
        yield from _rests(pool, prices)
    yield (
        "count each part as below; however a GPU is filled, what is on it counts as at most 1"
        " (for example " + "; ".join(_fullest(pool, prices)) + ")"
    )
    priced = [(p, s, n) for p, s, n in zip(prices.prices, sizes, counts) if p]
    for price in sorted({p for p, _s, _n in priced}, reverse=True):
        same = [(s, n) for p, s, n in priced if p == price]
        times = sum(n for _s, n in same)
        yield (
            f"{times:,} workloads of {' or '.join(pool.words[s] for s, _n in same)} count as"
            f" {price} each: {number(float(price * times))}"
        )
    free = [s for p, s in zip(prices.prices, sizes) if not p]
    if free:
        yield f"those of {', '.join(pool.words[s] for s in free)} count as nothing"
    whole = sum(size * count for size, count in pool.whole.items())
    if whole:
        yield f"{sum(pool.whole.values()):,} workloads with whole GPUs take {whole:,}"
    yield (
        f"needs at least {needed:,} GPUs, there are {pool.devices:,}:"
        f" {needed - pool.devices:,} missing"
    )
    yield f"at least {out} {plural(out)} must be left out, even if those that count most are"


def _rests(pool: Pool, prices: Cut) -> Iterator[str]:
    """Say which large part leaves a rest that few others fit into."""
    for size, count in sorted(pool.parts.items(), key=lambda row: -row[0][0] * row[1]):
        rest = pool.full[0] - size[0]
        price = dict(zip(pool.parts, prices.prices))[size]
        into = sum(n for other, n in pool.parts.items() if other[0] <= rest)
        if price * pool.full[0] > size[0] and into < count:
            left = number(rest / pool.full[0])
            yield (
                f"{count:,} workloads of {pool.words[size]} leave {left} of a GPU each;"
                f" only {into:,} workloads fit into such a rest"
            )
            return


def _fullest(pool: Pool, prices: Cut) -> list[str]:
    """Some fillings that count as 1, to see how tight the counting is."""
    found: list[str] = []
    for pattern in reversed(prices.patterns):
        worth = sum(price * times for price, times in zip(prices.prices, pattern))
        if worth == 1 and len(found) < 4:
            parts = [
                f"{times} x {pool.words[size]}" if times > 1 else pool.words[size]
                for size, times in zip(pool.parts, pattern)
                if times
            ]
            found.append(" + ".join(parts))
    return found
