# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether workloads fit on hosts, where they go, what is missing, and what to buy.

It imports none of its parts: who only needs words of ``model`` must not load numpy and scipy.
"""

from __future__ import annotations
