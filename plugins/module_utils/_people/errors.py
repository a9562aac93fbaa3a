# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be wrong with the accounts of people."""

from __future__ import annotations

from .._findings.errors import PlatformError


class PeopleError(PlatformError):
    """A sentence for people: what was found, what was wanted, what mends it."""
