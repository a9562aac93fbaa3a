# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates: weights for shapes, a supply that no placement can exceed, and the arithmetic.

All bounds have one form. Each replica of a shape weighs something, and whatever is placed together
weighs at most the supply. What weighs more cannot all be placed; the number that must be left out
is that of the heaviest replicas whose weight makes up for what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from ..arrays import Bools, np
from ..grouped import Problem
from ..model import Workload


def left_out(weights: Iterable[tuple[Fraction | int, int]], excess: Fraction | int) -> int:
    """The least number of replicas that weigh the excess together; pairs are weight and count.

    Weights and excess are exact: what a float would round up here would be claimed as proven.
    """
    out = 0
    for weight, count in sorted(weights, reverse=True):
        if excess <= 0 or weight <= 0:
            break
        need = min(count, -(-excess // weight))
        out += need
        excess -= need * weight
    return out


def number(figure: float) -> str:
    """A figure for a sentence: at most four decimals, thousands set apart."""
    text = f"{float(figure):,.4f}".rstrip("0").rstrip(".")
    return text if text not in ("-0", "") else "0"


def listed(names: Sequence[str], most: int = 6) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def gpu_text(workload: Workload) -> str:
    """What a replica needs of GPUs, in words; empty where nothing."""
    need = workload.gpu
    what = ""
    if need.count:
        what = f"{need.count} GPU" + ("s" if need.count > 1 else "")
    elif need.share:
        what = f"{number(need.share)} of a GPU"
    elif need.memory_mib:
        what = f"{number(need.memory_mib)} MiB of a GPU"
    elif need.profile:
        what = f"a MIG instance {need.profile}"
    if what and need.models:
        what += f" ({' or '.join(sorted(need.models))})"
    return what


def names_of(problem: Problem, shapes: Iterable[int]) -> tuple[str, ...]:
    """The workloads that have these shapes."""
    return tuple(
        name
        for shape in shapes
        for stream in problem.streams_of[shape]
        for name, _count in problem.streams[stream].members
    )


def hosts_of(problem: Problem, groups: Bools) -> list[int]:
    """The hosts of the chosen groups."""
    return [host for group in np.flatnonzero(groups) for host in problem.groups[group].hosts]


def plural(count: int, noun: str = "replica") -> str:
    """The noun as it follows a number."""
    return noun if count == 1 else f"{noun}s"
