# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two clocks, compared over a connection."""

from __future__ import annotations

from ansible_collections.mlops.onprem.plugins.module_utils._supply.clock import compare
from hypothesis import given
from hypothesis import strategies as st

times = st.floats(1e9, 2e9)
spans = st.floats(0, 100)


@given(times, spans, spans, st.floats(-1000, 1000))
def test_a_slow_connection_never_makes_a_clock_look_worse(
    before: float, first: float, second: float, offset: float
) -> None:
    host = before + first + offset
    found = compare(host, before, before + first + second)
    assert abs(found["offset_seconds"]) <= abs(offset) + 0.01
    assert abs(found["offset_seconds"] - offset) <= found["uncertainty_seconds"] + 0.01
