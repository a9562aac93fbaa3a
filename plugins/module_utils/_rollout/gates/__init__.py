# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates over a ring: what the evidence proves, at every look.

    evalues      bets against a claim about shares, of one group and of two
    settings     rollout_gates: what is tolerable, and how sure a verdict has to be
    histograms   what buckets say for certain
    answers latency errors shift queries   one gate each, and its comparison
    judgement    all of them at one look
    power        what a ring of a size can see
    thresholds   what each gate judges by, in sentences

Names of gates are the words of ``shapes.OVER_RING``; after a colon comes what is compared
(``errors:control``) or which query it is (``queries:<name>``).
"""

from __future__ import annotations

from .judgement import judge, verdict_of
from .power import DEVICES, REQUESTS, detectable
from .settings import GateSettings, Query

__all__ = ["DEVICES", "REQUESTS", "GateSettings", "Query", "detectable", "judge", "verdict_of"]
