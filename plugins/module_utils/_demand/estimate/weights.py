# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model consists of: tensors, their elements and bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..._findings.shape import ShapeError, shown

MOST_DIMENSIONS = 64
MOST_ELEMENTS = 2**60


@dataclass(frozen=True)
class Weights:
    """What a model consists of: tensors, elements of all, and bytes by type of element."""

    tensors: int
    parameters: int
    size: int
    by_type: tuple[tuple[str, int], ...] = ()

    def __add__(self, other: Weights) -> Weights:
        types = dict(self.by_type)
        for name, size in other.by_type:
            types[name] = types.get(name, 0) + size
        return Weights(
            self.tensors + other.tensors,
            self.parameters + other.parameters,
            self.size + other.size,
            tuple(sorted(types.items())),
        )


NOTHING = Weights(0, 0, 0)


def is_whole(value: object) -> bool:
    """Whether JSON gave a whole number; to Python, true and false are some, too."""
    return isinstance(value, int) and not isinstance(value, bool)


def elements_of(name: str, shape: object) -> int:
    """How many elements a tensor of this shape has."""
    if (
        not isinstance(shape, list)
        or len(shape) > MOST_DIMENSIONS
        or not all(is_whole(length) and 0 <= length <= MOST_ELEMENTS for length in shape)
    ):
        raise ShapeError(f"gives the tensor {shown(name)} no shape")
    found = math.prod(shape)
    if found > MOST_ELEMENTS:
        raise ShapeError(f"gives the tensor {shown(name)} an impossible shape")
    return found
