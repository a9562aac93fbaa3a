# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages that lie in a file, in a real browser: on a desk, on a phone and on paper."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._assess.page import as_html
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.page import (
    as_html as rollout_html,
)
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.report import report

from tests.browsers import browser
from tests.unit.plugins.module_utils._assess import test_page, test_plan_findings
from tests.unit.plugins.module_utils._assess.test_page import WAIVER, finding
from tests.unit.plugins.module_utils._rollout import test_report

ROOT = Path(__file__).resolve().parents[2]
CHECKS = ROOT / "tests/browser/pages.mjs"
LONG = "n" * 63  # the longest name of a host
PATH = "/etc/mlops/" + "a_long_path_without_a_break" * 6
SIZES = {
    "total": 23552.0,
    "reserved": 256.0,
    "foreign": 1093.0,
    "demanded": 1169.0,
    "free": 21034.0,
}


def capacity(host: str, short: float) -> dict[str, Any]:
    """A line of the table with all that demands something."""
    parts = [
        {"service": f"Model server {number}", "role": "r", "amount": 400.0, "why": PATH}
        for number in range(6)
    ]
    named = {"host": host, "resource": "memory", "unit": "MiB", "parts": parts}
    return {**named, **SIZES, "short": short}


def host_of(name: str) -> dict[str, Any]:
    """What is known of a host."""
    return {
        "host": name,
        "system": "Debian GNU/Linux 13 (trixie)",
        "kernel": "6.12.48+deb13-amd64",
        "cpu": "2 x AMD EPYC 9354 32-Core Processor",
        "memory": "23.5G",
        "gpu": "2 x NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
        "measured": "2030-01-01T00:00:00Z",
        "unknown": ["clock.synchronised: no systemd-timesyncd; chrony or ntpd may do it"] * 2,
    }


def refused() -> dict[str, Any]:
    """An assessment with everything that can stand on a page, and with long words."""
    long: dict[str, Any] = {
        "id": "host_files." + "x" * 40,
        "found": f"{PATH} is a directory that is not empty, and which the platform has not made",
        "wanted": "a place that is free, or one that the platform has made before",
        "remedy": f"move it away with: mv {PATH} {PATH}.old; or set model_registry_artifacts_root",
    }
    away = {
        "id": "reach.ssh",
        "found": "cannot be reached: ssh: connect to host 10.0.0.99 port 22: No route to host",
        "wanted": "a host that answers over SSH",
        "remedy": "check with: ssh -i /home/jane/.ssh/id_ed25519 root@10.0.0.99 true",
    }
    rows = [finding("pass", host=f"{LONG}-{number}", **long) for number in range(40)]
    rows += [finding("error", host=f"edge{number}", **away) for number in range(20)]
    rows += [finding("warn", host=LONG, **long, waived=WAIVER), finding("warn", **long)]
    rows += [finding("fail", host=LONG, **{**long, "id": f"a.b{number}"}) for number in range(10)]
    return {
        **test_page.REPORT,
        "findings": rows,
        "counts": {"pass": 40, "warn": 1, "fail": 10, "error": 20, "waived": 1},
        "table": [capacity("ctl1", 0.0), capacity(LONG, 1320.0)],
        "hosts": [host_of("ctl1"), host_of(LONG)],
        "workloads": test_plan_findings.data(True),
    }


def rollout() -> dict[str, Any]:
    """A rollout that a gate has stopped."""
    lines = [*test_report.begun(), test_report.judged(test_report.SLOW)]
    return report([*lines, *test_report.failed([test_report.SLOW])])


def pages() -> dict[str, str]:
    """The pages, and one that is spoilt, which the checks have to find fault with."""
    bad = refused()
    good = {**bad, "verdict": "go", "findings": [finding("warn"), finding("pass")]}
    small = {**bad, "findings": bad["findings"][-12:], "workloads": None, "table": bad["table"][:1]}
    spoilt = as_html(small).replace("overflow-wrap:anywhere", "").replace('tabindex="0"', "")
    return {
        "an assessment that says go": as_html({**good, "workloads": test_plan_findings.data()}),
        "an assessment that refuses, in German": as_html({**bad, "language": "de"}),
        "a rollout that was stopped": rollout_html(rollout()),
        "spoilt": spoilt,
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What one visit of the browser found, by the page."""
    place, chromium = tmp_path_factory.mktemp("pages"), browser()
    pictures = ROOT / "build/test/pages"
    pictures.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, text in pages().items():
        files[name] = str(place / f"{name}.html")
        Path(files[name]).write_text(text, encoding="utf-8")
    settings = {
        "pages": files,
        "chromium": str(chromium.chromium),
        "packages": str(chromium.packages),
        "pictures": str(pictures),
    }
    visit = subprocess.run(
        [chromium.node, CHECKS, json.dumps(settings)],
        check=False,
        capture_output=True,
        text=True,
        env=chromium.environment,
    )
    assert visit.stdout, f"the browser did not start: {visit.stderr[-2000:]}"
    rows = [json.loads(line) for line in visit.stdout.splitlines()]
    return {row["name"]: row["problems"] for row in rows}


@pytest.mark.parametrize(
    "name",
    [
        "an assessment that says go",
        "an assessment that refuses, in German",
        "a rollout that was stopped",
    ],
)
def test_a_page_is_read_on_every_width(name: str, found: dict[str, list[str]]) -> None:
    assert found[name] == []


def test_a_page_that_is_spoilt_is_found_out(found: dict[str, list[str]]) -> None:
    said = "\n".join(found["spoilt"])
    for words in ("phone: ", "desk: ", "paper: ", "pixels in"):
        assert words in said
