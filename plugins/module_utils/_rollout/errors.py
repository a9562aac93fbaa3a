# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The error of this package."""

from __future__ import annotations

from .._findings.errors import PlatformError


class RolloutError(PlatformError):
    """A rollout cannot go on as asked; the message is a sentence for people."""
