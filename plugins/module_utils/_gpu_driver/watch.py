# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the metrics of `metrics` into a file that nginx shows; started by a timer on the host."""

from __future__ import annotations

import json
import os
import sys

from . import facts, metrics
from .read import read_versions, run


def text(settings: str) -> str:
    """All that is to be seen now. ``settings``: file with the planned cards."""
    with open(settings, encoding="utf-8") as stream:
        planned = json.load(stream)["planned"]
    found = facts.parse(read_versions())
    return metrics.page(
        [
            *metrics.of_plan(planned),
            *metrics.of_cards(run(["nvidia-smi", "-q", "-x"])),
            *metrics.of_log(run(["journalctl", "--dmesg", "--boot", "--output=cat", "--quiet"])),
            *metrics.of_driver(found.loaded, found.library, found.persistenced),
        ]
    )


def main(arguments: list[str]) -> int:
    """``SETTINGS TARGET``: write the file in one step, so that nobody reads half of it."""
    settings, target = arguments
    fresh = target + ".new"
    with open(fresh, "w", encoding="utf-8") as stream:
        stream.write(text(settings))
    os.chmod(fresh, 0o644)
    os.replace(fresh, target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
