# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All cases of the scenario `compute`, also those that CI leaves out.

    python -m tests.soak.compute [--network 10.216]

A control host and two that play GPUs, made for it and taken away. One JSON line a case; exits 1
when one failed. The output of the scenario is kept in ``build/soak``.
"""

from __future__ import annotations

import sys

from tests.soak.rollout import main

if __name__ == "__main__":
    sys.exit(main("compute"))
