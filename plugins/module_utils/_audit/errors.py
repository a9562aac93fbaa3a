# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One error type; its message is a sentence for people."""

from __future__ import annotations


class AuditError(Exception):
    """What was found, what was wanted, and what mends it."""
