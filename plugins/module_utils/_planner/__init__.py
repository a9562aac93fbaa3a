# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether workloads fit on hosts, where they go, what is missing, and what to buy."""

from __future__ import annotations

from .purchase import purchase
from .solver import allocate, solve
from .survival import solve_surviving, survive
from .verify import verify

__all__ = ["allocate", "purchase", "solve", "solve_surviving", "survive", "verify"]
