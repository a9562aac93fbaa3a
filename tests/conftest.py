# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every test: none hangs on the speed of the machine or on chance."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# By itself Hypothesis fails an example of more than 0.2 s, and examples that are made too slowly.
settings.register_profile(
    "steady", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.load_profile("steady")
