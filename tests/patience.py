# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a test waits for what should come.

Only what never comes is wrong. What comes late does so on a machine that is busy with something
else, and says nothing about what is tested: no test fails because something took longer than a
shorter time than this.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 300.0
"""Seconds after which something is taken not to come any more. What does come is there long before,
also on a machine with a tenth of the usual speed."""


def eventually(
    seen: Callable[[], object],
    what: str | Callable[[], str],
    seconds: float = PATIENCE,
    pause: float = 0.05,
) -> None:
    """Wait until something is seen, asking at least twice; fail with what it was if it is not."""
    end = time.monotonic() + seconds
    while not seen():
        if time.monotonic() >= end and not seen():
            said = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {seconds:.0f} s: {said}")
        time.sleep(pause)
