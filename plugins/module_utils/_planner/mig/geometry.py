# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which MIG instances fit on one card together, and where each begins.

A card has compute slices (7; an A30 has 4) and memory slices (8; an A30 has 4). An instance takes
some of each: a ``3g.40gb`` takes 3 compute slices and half of the memory, so 4 memory slices, and
may begin only at some of them. Instances fit together where no profile is used more often than
allowed, the compute slices suffice, and all find a place without sharing a memory slice. Source:
NVIDIA Multi-Instance GPU User Guide, "Concepts" and "Supported MIG Profiles"; figures by card in
`cards`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product

from .cards import CARDS, FAMILIES, VARIANTS

Placed = tuple[str, int]  # name of a profile, and the memory slice at which the instance begins
Layout = tuple[tuple[str, int], ...]  # names of profiles, sorted, with how many of each

UNKNOWN, INSTANCES, SUM, PLACEMENT = "unknown", "instances", "sum", "placement"

# Drivers report up to 2 % less than a card's nominal memory (an H100 80GB has 81559 of 81920 MiB).
MEMORY_TOLERANCE = 0.03


class MigError(Exception):
    """What is asked makes no sense; reads as a sentence."""


@dataclass(frozen=True)
class Profile:
    """One kind of instance; ``starts`` are the memory slices at which one may begin."""

    name: str
    slices: int
    memory_slices: int
    max_instances: int
    memory_mib: int
    starts: tuple[int, ...]

    def mask(self, start: int) -> int:
        """The memory slices taken by an instance that begins at ``start``, one bit for each."""
        return ((1 << self.memory_slices) - 1) << start


@dataclass(frozen=True)
class Card:
    """One card that MIG can divide, its profiles by the names that people write."""

    key: str
    name: str
    memory_mib: int
    slices: int
    memory_slices: int
    profiles: Mapping[str, Profile]


@cache
def card(key: str) -> Card:
    """The card of that key; raises MigError where there is none.

    How many memory slices a profile takes follows from its share of the card's memory, to the
    nearest slice. The figures of Hopper and Blackwell cards give a placement as many slices as the
    profile has compute slices, which would let two ``3g.40gb`` and a ``1g.10gb`` share 80 GB; with
    memory counted, all cards with 7 compute slices allow the same layouts, as NVIDIA documents.

    A profile's name gives its compute slices and its share of the card's memory in whole GiB
    (``1g.18gb`` is an eighth of 141); ``+me`` is the one variant with media extensions (REV1),
    ``+gfx`` one with graphics, ``-me`` one without any media engine.
    """
    if key not in CARDS:
        raise MigError(f"no MIG geometry is known for {key!r}; known are {', '.join(CARDS)}")
    name, memory_mib, rows = CARDS[key]
    slices = max(row.slices for row in rows.values())
    memory_slices = 4 if slices == 4 else 8
    profiles = {}
    for source, row in rows.items():
        takes = round(row.memory_mib * memory_slices / memory_mib)
        gib = int(memory_mib / 1024 * takes / memory_slices + 0.5)
        variant = next((said for end, said in VARIANTS.items() if source.endswith(end)), "")
        written = f"{row.slices}g.{gib}gb{variant}"
        # An instance with two memory slices begins at an even one, with four at 0 or 4.
        starts = tuple(
            start for start in row.starts if start % takes == 0 and start + takes <= memory_slices
        )
        profiles[written] = Profile(
            written, row.slices, takes, row.max_instances, row.memory_mib, starts
        )
    return Card(key, name, memory_mib, slices, memory_slices, profiles)


def known() -> tuple[str, ...]:
    """The keys of all cards whose geometry is known."""
    return tuple(CARDS)


def card_of(model: str, memory_mib: float | None = None) -> str:
    """The key of the card that the driver calls ``model`` and that has this memory in MiB.

    Without a memory (None or 0) the size in the model's name decides, if it has one. Empty where
    no geometry is known, such as for an RTX PRO 5000. A Grace Hopper module bears the memory of its
    processor in its name, which says nothing of the GPU's.
    """
    if model in CARDS:
        return model
    words = re.findall(r"[A-Z]+\d*[A-Z]*|\d+", model.upper())
    grace = re.search(r"\bGH\d", model.upper())
    said = None if grace else re.search(r"(\d+)\s*GB\b", model.upper())
    size = memory_mib or (float(said.group(1)) * 1024 if said else 0)
    fitting = []
    for key, figures in CARDS.items():
        family, form, _nominal = key.split("_")
        if not any(meant <= set(words) for meant in FAMILIES.get(family, (frozenset({family}),))):
            continue
        if size and abs(size - figures.memory_mib) > MEMORY_TOLERANCE * figures.memory_mib:
            continue
        fitting.append((form[:3] not in " ".join(words), key))
    if not size and len({CARDS[key].memory_mib for _other, key in fitting}) > 1:
        return ""
    return min(fitting)[1] if fitting else ""


def canonical(counts: Mapping[str, int]) -> Layout:
    """The layout with these counts, in the form that `layouts` has it."""
    return tuple(sorted((name, count) for name, count in counts.items() if count))


@cache
def layouts(key: str) -> frozenset[Layout]:
    """Every combination of instances that fits on the card, the empty one included."""
    this = card(key)
    ranges = [range(profile.max_instances + 1) for profile in this.profiles.values()]
    every = (dict(zip(this.profiles, numbers)) for numbers in product(*ranges))
    return frozenset(canonical(counts) for counts in every if place(key, counts) is not None)


def place(
    key: str, counts: Mapping[str, int], taken: Iterable[Placed] = ()
) -> tuple[Placed, ...] | None:
    """Where each instance begins, largest first; None where they do not fit together.

    ``taken`` are instances that stay where they are. The search is exact: None is a proof.
    """
    return _place(key, canonical(_counted(counts)), tuple(sorted(taken)))


@lru_cache(maxsize=65536)
def _place(key: str, wanted: Layout, taken: tuple[Placed, ...]) -> tuple[Placed, ...] | None:
    if _cause_by_count(key, wanted, taken):
        return None
    profiles = card(key).profiles
    used = 0
    for name, start in taken:
        used |= profiles[name].mask(start)
    order = sorted(wanted, key=lambda row: (-profiles[row[0]].memory_slices, row[0]))
    queue = [profiles[name] for name, count in order for _each in range(count)]

    def search(index: int, used: int, last: int) -> tuple[Placed, ...] | None:
        if index == len(queue):
            return ()
        profile = queue[index]
        same = index > 0 and queue[index - 1] is profile
        # The last places first: the card's last memory slice can be used by no single-slice
        # instance. Equal instances are placed in one order only.
        for start in reversed(profile.starts):
            if (same and start >= last) or used & profile.mask(start):
                continue
            rest = search(index + 1, used | profile.mask(start), start)
            if rest is not None:
                return ((profile.name, start), *rest)
        return None

    return search(0, used, 0)


def cause(key: str, counts: Mapping[str, int], taken: Iterable[Placed] = ()) -> str:
    """Why the instances do not fit, in one word; empty where they do.

    ``unknown``: the card has no such profile; ``instances``: more of one profile than allowed;
    ``sum``: more compute slices than there are; ``placement``: they would suffice, but the memory
    slices cannot be divided so.
    """
    wanted, there = canonical(_counted(counts)), tuple(sorted(taken))
    found = _cause_by_count(key, wanted, there)
    if found:
        return found
    return "" if _place(key, wanted, there) is not None else PLACEMENT


def _cause_by_count(key: str, wanted: Layout, taken: tuple[Placed, ...]) -> str:
    this = card(key)
    together = _together(wanted, taken)
    if any(name not in this.profiles for name in together):
        return UNKNOWN
    if any(count > this.profiles[name].max_instances for name, count in together.items()):
        return INSTANCES
    if sum(this.profiles[name].slices * count for name, count in together.items()) > this.slices:
        return SUM
    return ""


def explain(key: str, counts: Mapping[str, int], taken: Iterable[Placed] = ()) -> str:
    """Why the instances do not fit on one card, as a sentence; empty where they do."""
    wanted, there = canonical(_counted(counts)), tuple(sorted(taken))
    why = cause(key, counts, there)
    if not why:
        return ""
    this = card(key)
    together = _together(wanted, there)
    asked = " + ".join(f"{count} x {name}" for name, count in wanted)
    if there:
        asked += " beside " + ", ".join(f"{name} at {start}" for name, start in there)
    if why == UNKNOWN:
        wrong = next(name for name in together if name not in this.profiles)
        return f"{this.name} has no MIG profile {wrong}; it has {', '.join(this.profiles)}"
    if why == INSTANCES:
        name, count = next(
            row for row in together.items() if row[1] > this.profiles[row[0]].max_instances
        )
        most = this.profiles[name].max_instances
        return f"{asked}: {this.name} allows at most {most} x {name}, not {count}"
    compute = _sum(this.profiles[name].slices for name, count in _each(together))
    if why == SUM:
        return (
            f"{asked}: too large by sum, {compute} compute slices of the {this.slices}"
            f" of {this.name}"
        )
    memory = [this.profiles[name].memory_slices for name, _one in _each(together)]
    places = "; ".join(
        f"{name} takes {this.profiles[name].memory_slices} and begins at "
        + _places(this.profiles[name].starts)
        for name in together
    )
    over = (
        f"their memory slices are {_sum(memory)} of {this.memory_slices}"
        if sum(memory) > this.memory_slices
        else f"their {_sum(memory)} memory slices of {this.memory_slices} cannot be laid out"
    )
    return (
        f"{asked}: fits by the sum of compute slices ({compute} of {this.slices}) but not by"
        f" placement on {this.name}: {over} ({places})"
    )


def conflict(key: str, placed: Iterable[Placed]) -> str:
    """What is wrong with a placement, as a sentence; empty where nothing is. Searches nothing."""
    this = card(key)
    owner: dict[int, Placed] = {}
    counts: dict[str, int] = {}
    for name, start in placed:
        profile = this.profiles.get(name)
        if profile is None:
            return f"{this.name} has no MIG profile {name}"
        if start not in profile.starts:
            return f"{name} cannot begin at memory slice {start} of {this.name}"
        counts[name] = counts.get(name, 0) + 1
        for piece in range(start, start + profile.memory_slices):
            if piece in owner:
                other, where = owner[piece]
                return f"{name} at {start} and {other} at {where} share memory slice {piece}"
            owner[piece] = (name, start)
    if _cause_by_count(key, canonical(counts), ()):
        return explain(key, counts)
    return ""


def _places(starts: tuple[int, ...]) -> str:
    if len(starts) > 2 and starts == tuple(range(starts[0], starts[-1] + 1)):
        return f"{starts[0]} to {starts[-1]}"
    return " or ".join(str(start) for start in starts)


def _counted(counts: Mapping[str, int]) -> Mapping[str, int]:
    for name, count in counts.items():
        if count < 0:
            raise MigError(f"the number of {name} must be at least 0, but is {count}")
    return counts


def _together(wanted: Layout, taken: tuple[Placed, ...]) -> dict[str, int]:
    found = dict(wanted)
    for name, _start in taken:
        found[name] = found.get(name, 0) + 1
    return found


def _each(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return [(name, 1) for name, count in counts.items() for _one in range(count)]


def _sum(numbers: Iterable[int]) -> str:
    listed = list(numbers)
    return f"{' + '.join(str(number) for number in listed)} = {sum(listed)}"
