# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Supply: what hosts have, measured."""

from __future__ import annotations

# The version of the collection, written into everything that is measured.
TOOL_VERSION = "0.3.0"
