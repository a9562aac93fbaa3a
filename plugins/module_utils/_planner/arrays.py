# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""numpy and scipy's HiGHS for the planner, which only the controller has.

Where they are missing the planner can be imported all the same, and ``MISSING`` says why it
cannot be used: a module then ends with a sentence, not with a traceback.
"""

from __future__ import annotations

import traceback
from typing import Any

__all__ = (
    "MISSING",
    "Bools",
    "Floats",
    "Ints",
    "Shorts",
    "coo_array",
    "csr_array",
    "linprog",
    "np",
)

MISSING: str | None = None

try:
    import numpy as np
    import numpy.typing as npt
    from scipy.optimize import linprog
    from scipy.sparse import coo_array, csr_array

    Ints = npt.NDArray[np.int64]
    Shorts = npt.NDArray[np.int16]
    Bools = npt.NDArray[np.bool_]
    Floats = npt.NDArray[np.float64]
except ImportError:
    MISSING = traceback.format_exc()

    def __getattr__(name: str) -> Any:
        """Stand for every name that could not be imported."""
        if name.startswith("__"):
            raise AttributeError(name)
        return None
