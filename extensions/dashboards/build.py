# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the dashboards for a company's own Grafana, with Grafana's own SDK.

    python extensions/dashboards/build.py [--check]

What is on them stands in ``panels.yml``; the files go to ``roles/monitoring/files/dashboards``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    VariableRefresh,
)

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "roles/monitoring/files/dashboards"
PANELS = Path(__file__).with_name("panels.yml")
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDE, HIGH, STAT_HIGH = 12, 8, 4


def target(row: dict[str, Any], reference: str) -> prometheus.Dataquery:
    """One expression of a panel."""
    query = prometheus.Dataquery().expr(row["expr"]).ref_id(reference).datasource(SOURCE)
    return query.legend_format(row.get("legend", "__auto"))


def panel(row: dict[str, Any]) -> Any:
    """One panel: a line over time, or the newest number."""
    made: Any = stat.Panel() if row.get("kind") == "stat" else timeseries.Panel()
    width = row.get("width", WIDE if row.get("kind") != "stat" else 6)
    height = STAT_HIGH if row.get("kind") == "stat" else HIGH
    made = made.title(row["title"]).description(row["about"]).unit(row["unit"])
    made = made.datasource(SOURCE).span(width).height(height)
    if "max" in row:
        made = made.min(0).max(row["max"])
    if row.get("kind") != "stat":
        legend = common.VizLegendOptions().show_legend(True).placement(LegendPlacement.BOTTOM)
        made = made.legend(legend.display_mode(LegendDisplayMode.LIST).calcs([]))
        made = made.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    for at, each in enumerate(row["queries"]):
        made = made.with_target(target(each, chr(ord("A") + at)))
    return made


def variable(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """A choice at the top of a dashboard."""
    made = dashboard.QueryVariable(name).label(label).datasource(SOURCE).query(query)
    made = made.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    return made.multi(True).include_all(True).all_value(".*")


def build(name: str, page: dict[str, Any]) -> str:
    """A dashboard as the text of its file."""
    made = dashboard.Dashboard(page["title"]).uid(f"mlops-{name}").tags(["mlops.onprem"])
    made = made.description(page["about"]).refresh("1m").time("now-6h", "now").editable()
    made = made.tooltip(DashboardCursorSync.CROSSHAIR)
    made = made.with_variable(
        dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    )
    for choice in page.get("choices", []):
        made = made.with_variable(variable(choice["name"], choice["label"], choice["query"]))
    for row in page["panels"]:
        made = made.with_panel(panel(row))
    return json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def main() -> int:
    """Write the files, or say which differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say which files differ")
    options = parser.parse_args()
    pages = yaml.safe_load(PANELS.read_text(encoding="utf-8"))
    stale = []
    for name, page in pages.items():
        place, text = PLACE / f"{name}.json", build(name, page)
        if not place.exists() or place.read_text(encoding="utf-8") != text:
            stale.append(place)
            if not options.check:
                place.parent.mkdir(exist_ok=True)
                place.write_text(text, encoding="utf-8")
    for place in stale:
        print(f"{place.relative_to(ROOT)} {'differs' if options.check else 'written'}")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
