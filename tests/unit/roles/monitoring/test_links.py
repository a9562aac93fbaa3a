# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No link leads to a page that Debian's packages leave out."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[4]
GATEWAY = ROOT / "roles" / "monitoring" / "templates" / "gateway.conf.j2"
THERE = re.compile(r"/prometheus/classic/(graph|alerts)$")


def redirects() -> list[tuple[str, str]]:
    """The locations that send on, as regular expressions, and where to."""
    text = jinja2.Template(GATEWAY.read_text()).render(
        __monitoring_prometheus="127.0.0.1:9090", __monitoring_alertmanager="127.0.0.1:9093"
    )
    found = re.findall(r"location (=|~) (\S+) {\s+return 302 (\S+);", text)
    return [(re.escape(where) if how == "=" else where, to) for how, where, to in found]


def followed(path: str) -> str:
    """Where nginx sends a path, itself if nowhere: the first expression that matches."""
    for where, target in redirects():
        match = re.search(where if where.startswith("^") else f"^{where}$", path)
        if match:
            page = match[1] if match.groups() else None
            return target.replace("$1", page or "").replace("$is_args$args", "?ARGS")
    return path


@pytest.mark.parametrize(
    ("link", "page"),
    [
        ("/prometheus", "/prometheus/classic/graph"),
        ("/prometheus/", "/prometheus/classic/graph"),
        ("/prometheus/new/alerts", "/prometheus/classic/graph"),
        ("/prometheus/graph", "/prometheus/classic/graph?ARGS"),
        ("/prometheus/alerts", "/prometheus/classic/alerts?ARGS"),
        ("/prometheus/targets", "/prometheus/classic/targets?ARGS"),
        ("/prometheus/rules", "/prometheus/classic/rules?ARGS"),
        ("/prometheus/tsdb-status", "/prometheus/classic/status"),
        ("/alertmanager", "/prometheus/classic/alerts"),
        ("/alertmanager/", "/prometheus/classic/alerts"),
        # what programs ask stays
        ("/prometheus/api/v1/alerts", "/prometheus/api/v1/alerts"),
        ("/prometheus/classic/graph", "/prometheus/classic/graph"),
        ("/prometheus/metrics", "/prometheus/metrics"),
        ("/alertmanager/api/v2/silences", "/alertmanager/api/v2/silences"),
    ],
)
def test_a_link_leads_to_a_page_that_is_there(link: str, page: str) -> None:
    assert followed(link) == page


def test_the_start_page_points_at_pages_that_are_there() -> None:
    page = yaml.safe_load((ROOT / "roles/monitoring/vars/provides.yml").read_text())
    paths = [tile["path"] for tile in page["monitoring_provides"]["tiles"]]
    assert [THERE.search(path) is not None for path in paths] == [True, True]


def test_the_closing_words_point_at_pages_that_are_there() -> None:
    text = (ROOT / "playbooks" / "templates" / "site_page.txt.j2").read_text(encoding="utf-8")
    paths = re.findall(r"gateway }}(/(?:prometheus|alertmanager)\S*)", text)
    assert len(paths) == 2
    assert all(THERE.search(path) for path in paths)
