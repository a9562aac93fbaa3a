# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error of this package: a sentence for a person."""

from __future__ import annotations

from .._findings.errors import PlatformError


class HostError(PlatformError):
    """Something about the host that stops us, said as a sentence: found, wanted, remedy."""
