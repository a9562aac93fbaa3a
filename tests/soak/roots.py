# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roots of Debian in which campaigns run, each made once and kept; and what campaigns count."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from labhosts.image import Recipe
from labhosts.machine import Machine


class CannotRun(Exception):
    """The campaign cannot be made here; the message says what is missing."""


def say(**told: object) -> None:
    """Print a line of JSON."""
    print(json.dumps(told), flush=True)


def root_of(machine: Machine, recipe: Recipe, place: Path, name: str, fresh: bool) -> Path:
    """The root that the recipe makes, below ``place``; made anew if ``fresh``."""
    place = place / f"{name}-{recipe.tag}"
    root = place / "root"
    if fresh or not (place / "complete").exists():
        machine.install_missing()
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        began = time.monotonic()
        with (place / "log").open("w") as log:
            command = recipe.command(place, str(root))
            done = subprocess.run(command, stdout=log, stderr=log, check=False)
        if done.returncode:
            last = (place / "log").read_text().strip().splitlines()[-8:]
            raise CannotRun(f"The root {name} cannot be made here: " + "\n".join(last))
        (place / "complete").touch()
        say(step=f"root {name}", seconds=round(time.monotonic() - began, 1))
    return root


class Count:
    """What passed and failed."""

    def __init__(self) -> None:
        self.passed = self.failed = 0

    def judge(self, step: str, good: bool, **told: object) -> None:
        self.passed += good
        self.failed += not good
        say(step=step, good=good, **told)

    def end(self, began: float, **told: object) -> int:
        """Say what it came to since a time of the monotonic clock; 1 where anything failed."""
        seconds = round(time.monotonic() - began, 1)
        say(passed=self.passed, failed=self.failed, **told, seconds=seconds)
        return int(self.failed > 0)


def run(
    about: str | None,
    campaign: Callable[[bool], int],
    clear: Callable[[], None],
    words: Sequence[str],
) -> int:
    """Make a campaign as the words of its command say, then clear; 2 where it cannot be made."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--fresh", action="store_true", help="make the roots anew")
    fresh = bool(parser.parse_args(words).fresh)
    try:
        return campaign(fresh)
    except CannotRun as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        clear()
