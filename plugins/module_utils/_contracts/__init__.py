# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the platform needs from outside, and how to judge whether it is there.

One folder for each protocol: ``judge`` is values in, values out; ``read`` looks through a client
that is handed in; only ``client`` knows the library. ``endpoint`` leads from an address to verified
TLS, and ``probe`` is the frame that a module of each protocol fills.
"""

from __future__ import annotations
