# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The start page in a real browser, behind the role's own nginx and a real Prometheus."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.alone import alone
from tests.browsers import Browser, browser
from tests.integration import start_page

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "roles/gateway/files/start"
CHECKS = ROOT / "tests/browser/checks.mjs"
# What is looked at, as tests/browser/checks.mjs names it; one that is missing there fails here.
NAMES = (
    "looks phone dark de overview",
    "looks phone light en device",
    "looks desk light en overview",
    "looks desk dark de model",
    "looks desk light de device",
    "looks wall dark en overview",
    "looks wall light de overview",
    "a language and a scheme are switched and remembered",
    "nothing is shown or asked without an account",
    "an account that the gateway no longer takes leads back to signing in",
    "the password is nowhere in the page",
    "it asks at most ten questions at first and five later",
    "what stands there is kept when it asks again",
    "everything is reached by the keyboard and seen to have the focus",
    "a device and a model are opened and left by the keyboard",
    "an alert is silenced by the keyboard, shown as such, and speaks again",
    "a silence that is refused says why",
    "who may only look is offered no silence",
    "every link leads to a page with its words",
    "a site without devices, models or measurements says what comes next",
    "Prometheus is down: it says so from the start",
    "Prometheus refuses a question: it says so from the start",
    "Prometheus answers no JSON: it says so from the start",
    "the account may not see: it says so from the start",
    "there is no Prometheus: it says so from the start",
    "what was known stays, with its time, when Prometheus goes and comes back",
    "a Prometheus that never answers is given up and said to be slow",
    "an Alertmanager that is down is not taken for silence",
    "a site that is watched elsewhere says so",
    "two thousand devices stay a page that one can read",
    "a name that nobody knows is said to be unknown",
)


@pytest.fixture(scope="session")
def chromium() -> Browser:
    return browser()


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What one visit of the browser found, by what it looked at."""
    place = tmp_path_factory.mktemp("start_page")
    pictures = ROOT / "build" / "test" / "start_page"
    pictures.mkdir(parents=True, exist_ok=True)
    start_page.fetched()
    settings = json.dumps({"pictures": str(pictures)})
    command = [sys.executable, "-m", "tests.integration.start_page", str(place), settings]
    visit = subprocess.run(
        alone([*command, str(CHECKS)]),
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert visit.stdout, f"the browser did not start: {visit.stderr[-2000:]}"
    rows = [json.loads(line) for line in visit.stdout.splitlines()]
    return {row["name"]: row["problems"] for row in rows}


@pytest.mark.parametrize("name", NAMES)
def test_seen_in_a_browser(name: str, found: dict[str, list[str]]) -> None:
    assert name in found, "it was not looked at"
    assert found[name] == []


def test_every_look_is_asked_for(found: dict[str, list[str]]) -> None:
    assert set(found) == set(NAMES)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("uplot.min.js", "dist/uPlot.iife.min.js"),
        ("uplot.min.css", "dist/uPlot.min.css"),
        ("uplot.LICENSE.txt", "LICENSE"),
    ],
)
def test_the_library_is_as_it_was_published(ours: str, theirs: str, chromium: Browser) -> None:
    digests = [
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (FILES / ours, chromium.packages / "uplot" / theirs)
    ]
    assert digests[0] == digests[1]


def test_no_version_of_the_browser_is_left_to_chance() -> None:
    lock = json.loads((CHECKS.parent / "package-lock.json").read_text())
    packages = {name: one for name, one in lock["packages"].items() if name}
    assert packages
    assert all(one["integrity"].startswith("sha512-") for one in packages.values())
    assert not any("resolved" in one for one in packages.values())
