# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors of the pipeline."""

from __future__ import annotations


class PipelineError(Exception):
    """A step cannot go on; the message is a sentence for people."""


class Refused(PipelineError):
    """Everything worked, and the candidate is not good enough to be published."""
