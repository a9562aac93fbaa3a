# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every panel of every dashboard shows something on a site that runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.infra.site.conftest import ROOT, Site

PANELS: dict[str, Any] = yaml.safe_load(
    Path(ROOT, "extensions/dashboards/panels.yml").read_text(encoding="utf-8")
)
# Asks until every expression has an answer: some rules are evaluated every few minutes only.
ASK = """
import base64, json, pathlib, time, urllib.parse, urllib.request
account = b"mlops:" + pathlib.Path("/etc/mlops/monitoring/prometheus.password").read_bytes().strip()
shown = {"Authorization": "Basic " + base64.b64encode(account).decode()}
base = "http://127.0.0.1:9090/prometheus/api/v1/query?"
left, end = json.loads(GIVEN), time.monotonic() + 360
while True:
    kept = {}
    for title, expr in left.items():
        url = base + urllib.parse.urlencode({"query": expr})
        with urllib.request.urlopen(urllib.request.Request(url, headers=shown)) as answer:
            if not json.load(answer)["data"]["result"]:
                kept[title] = expr
    left = kept
    if not left or time.monotonic() > end:
        break
    time.sleep(5)
print(json.dumps(left))
"""


def asked(*, needs: bool) -> dict[str, str]:
    """Expressions by panel, with every host and model chosen."""
    return {
        f"{page['title']}: {panel['title']} {at}": query["expr"]
        .replace("$host", ".*")
        .replace("$model", ".*")
        for page in PANELS.values()
        for panel in page["panels"]
        for at, query in enumerate(panel["queries"])
        if ("needs" in panel) == needs
    }


def test_no_panel_is_empty_that_needs_nothing_the_site_lacks(site: Site) -> None:
    expressions = asked(needs=False)
    assert len(expressions) > 10
    empty = json.loads(site.run_python(site.groups["control"][0], ASK, json.dumps(expressions)))
    assert empty == {}
