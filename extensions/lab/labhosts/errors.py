# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one error of this package."""

from __future__ import annotations


class LabError(Exception):
    """A sentence for the person at the terminal; no traceback belongs to it."""
