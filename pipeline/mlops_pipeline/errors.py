# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors of the pipeline."""

from __future__ import annotations

LONGEST = 4000


def plain(text: str) -> str:
    """A text that does nothing but be read: models and registries name things as they like."""
    kept = "".join(each if each.isprintable() else "?" for each in " ".join(text.splitlines()))
    return kept if len(kept) <= LONGEST else kept[:LONGEST] + "…"


class PipelineError(Exception):
    """A step cannot go on; the message is a sentence for people."""

    def __init__(self, message: str) -> None:
        super().__init__(plain(message))


class Refused(PipelineError):
    """Everything worked, and the candidate is not good enough to be published."""
