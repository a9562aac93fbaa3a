# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pairs that do not work: a driver with a card, a kernel, or the programs that people run."""

from __future__ import annotations

from collections.abc import Iterator

from . import matrix
from .facts import (
    Facts,
    branch_of,
    numbers,
    release_of,
)

WORDS = {True: "open", False: "closed"}


def clashes(
    version: str, is_open: bool | None, facts: Facts, cuda: int = 0, family: str = ""
) -> tuple[str, ...]:
    """Each pair of this driver with something of the host that does not work, as a sentence."""
    number = branch_of(version)
    found: list[str] = []
    for card in facts.cards:
        found += _card(number, is_open, card.architecture, card.named, card.device)
    found += _cuda(version, cuda)
    if family and is_open is not None:
        found += _kernels(number, is_open, facts, family)
    return tuple(dict.fromkeys(found))


def _card(number: int, is_open: bool | None, name: str, named: str, device: int) -> Iterator[str]:
    row = matrix.ARCHITECTURES.get(name)
    if row is None:
        if matrix.outdated(device):
            yield f"the {named} is older than Kepler, and no driver of today drives it"
        return
    if row.last is not None and number > row.last:
        yield f"branch {number} no longer drives the {named}: the last one for {name} is {row.last}"
    if number < row.first:
        yield f"branch {number} does not know the {named}: the first one for {name} is {row.first}"
    if is_open and not row.open:
        yield f"the open kernel module does not drive the {named}: {name} needs the closed one"
    if is_open is False and not row.closed:
        yield f"the closed kernel module does not drive the {named}: {name} needs the open one"
    if is_open and number < matrix.OPEN_SINCE:
        yield f"branch {number} has no open kernel module: the first one is {matrix.OPEN_SINCE}"


def _cuda(version: str, cuda: int) -> Iterator[str]:
    least = matrix.CUDA_MINIMUM.get(cuda)
    if least and numbers(version) < numbers(least):
        yield f"driver {version} is too old for programs of CUDA {cuda}, which need {least}"


def _kernels(number: int, is_open: bool, facts: Facts, family: str) -> Iterator[str]:
    for release in dict.fromkeys(one for one in (facts.running, facts.next) if one):
        for limit in matrix.KERNEL_LIMITS:
            have = release_of(release)
            same = (limit.family, limit.branch, limit.open) == (family, number, is_open)
            if same and have >= limit.kernel:
                yield (
                    f"the {WORDS[is_open]} kernel module {number} of {family.capitalize()} does "
                    f"not build for the kernel {release} ({limit.said})"
                )
