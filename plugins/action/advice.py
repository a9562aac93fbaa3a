# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of the advice module: asks Prometheus, advises, and plans again."""

from __future__ import annotations

import calendar
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode

from ansible.errors import AnsibleActionFail
from ansible.module_utils.urls import open_url
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.onprem.plugins.module_utils._advice.advices import (
    Advice,
    by_workload,
    changed,
    of_disk,
    of_gpu,
    of_workload,
    scaled,
    unasked,
    usages,
)
from ansible_collections.mlops.onprem.plugins.module_utils._advice.bounds import problem
from ansible_collections.mlops.onprem.plugins.module_utils._advice.request import (
    CPU,
    MEMORY,
    Settings,
)
from ansible_collections.mlops.onprem.plugins.module_utils._advice.usage import DAY, Usage
from ansible_collections.mlops.onprem.plugins.module_utils._advice.verified import (
    Verified,
    compare,
    outcome,
    told,
)
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.margins import Margins
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.planning import (
    plan_workloads,
)
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.request import (
    Request,
    Written,
    read_request,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import parse_demand
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import each

STEP = 300.0
ARGUMENTS = {
    "url": {"type": "str", "required": True},
    "user": {"type": "str", "default": ""},
    "password": {"type": "str", "default": "", "no_log": True},
    "ca_file": {"type": "path", "required": True},
    "days": {"type": "int", "default": 28},
    "least_days": {"type": "int", "default": 14},
    "ahead_days": {"type": "int", "default": 14},
    "chance": {"type": "float", "default": 0.01},
    "exceeded": {"type": "float", "default": 0.01},
    "workloads": {"type": "raw", "default": []},
    "offers": {"type": "raw", "default": []},
    "planning": {"type": "dict", "default": {}},
    "directory": {"type": "path", "required": True},
}
MEMORY_QUERY = 'max by (host, unit) (mlops_unit_memory_bytes{unit=~"mlops-workload-.+"})'
CPU_QUERY = (
    'max by (host, unit) (rate(mlops_unit_cpu_seconds_total{unit=~"mlops-workload-.+"}[10m]))'
)
BUSY_QUERY = "mlops:gpu_utilisation:ratio"
GPU_MEMORY_QUERY = "mlops:gpu_memory_used:bytes"
FREE_QUERY = "min by (host, mountpoint) (node_filesystem_avail_bytes)"
SIZE_QUERY = "max by (host, mountpoint) (node_filesystem_size_bytes)"


class Prometheus:
    """The two questions that are asked of it."""

    def __init__(self, args: Mapping[str, Any], start: float, end: float) -> None:
        self.args, self.start, self.end = args, start, end

    def _ask(self, path: str, **words: Any) -> list[dict[str, Any]]:
        url = f"{self.args['url'].rstrip('/')}/api/v1/{path}?{urlencode(words)}"
        try:
            answer = open_url(
                url,
                url_username=self.args["user"] or None,
                url_password=self.args["password"] or None,
                force_basic_auth=True,
                ca_path=self.args["ca_file"],
                timeout=60,
            )
            found: list[dict[str, Any]] = json.loads(answer.read())["data"]["result"]
        except (OSError, URLError, ValueError, LookupError, TypeError) as error:
            raise AnsibleActionFail(
                f"Prometheus at {self.args['url']} did not say what the site used: {error}. Set"
                " advise_prometheus to a url, user and password that are answered."
            ) from error
        return found

    def series(self, query: str) -> list[tuple[Mapping[str, str], Usage]]:
        """What a query gave over the window."""
        rows = self._ask("query_range", query=query, start=self.start, end=self.end, step=STEP)
        return usages(rows, self.start, self.end, STEP)

    def figures(self, query: str) -> list[tuple[Mapping[str, str], float]]:
        """What a query gives at the end of the window."""
        rows = self._ask("query", query=query, time=self.end)
        return [(row["metric"], float(row["value"][1])) for row in rows]


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry point."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        variables = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        _checked, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        wrong = problem(args)
        if wrong:
            raise AnsibleActionFail(f"{wrong}.")
        directory = Path(args["directory"])
        page, text = advise_site(args, variables, time.time())
        if not self._task.check_mode:
            written = json.dumps(page, indent=1, sort_keys=True) + "\n"
            (directory / "advice.json").write_text(written, encoding="utf-8")
        result.update(changed=False, text=text, **page)
        return result


def advise_site(
    args: Mapping[str, Any], variables: Mapping[str, Any], now: float
) -> tuple[dict[str, Any], str]:
    """The report, and the same for people."""
    directory = Path(args["directory"])
    report = read_report(directory / "assessment.json")
    end = now - now % STEP
    prometheus = Prometheus(args, end - args["days"] * DAY, end)
    settings = Settings(
        args["chance"], args["exceeded"], args["ahead_days"] * DAY, blocks=args["least_days"]
    )
    written = written_of(args, variables, directory, report)
    read = read_request(written, list(report["supply"]), args["planning"])
    if read.problems:
        raise AnsibleActionFail("; ".join(read.problems))
    advices = [
        *of_workloads(read, prometheus, settings, directory),
        *of_models(prometheus, args["days"]),
        *of_disks(prometheus, report, settings),
    ]
    verified = None
    if any(one.change for one in advices):
        verified = planned_again(args, written, report, advices)
    rows = [one.as_dict() for one in advices]
    page = {
        "schema": 1,
        "advised_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "window_days": args["days"],
        "advices": rows,
        "verified": None if verified is None else vars(verified),
    }
    return page, told(rows, verified)


def read_report(path: Path) -> dict[str, Any]:
    """The assessment, which is the baseline."""
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AnsibleActionFail(
            f"{path}, the last assessment, is wanted and cannot be read ({error}); run"
            " playbooks/assess.yml first."
        ) from error
    return report


def written_of(
    args: Mapping[str, Any],
    variables: Mapping[str, Any],
    directory: Path,
    report: Mapping[str, Any],
) -> Written:
    """The question of the assessment, as the inventory and the last run wrote it."""
    hostvars, groups = variables["hostvars"], variables["groups"]
    labels, resources = (
        {host: hostvars[host].get(name) or {} for host in report["supply"]}
        for name in ("mlops_host_labels", "mlops_host_resources")
    )
    try:
        earlier = json.loads((directory / "placement.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        earlier = None
    return Written(args["workloads"], args["offers"], labels, groups, None, earlier, resources)


def of_workloads(
    read: Request, prometheus: Prometheus, settings: Settings, directory: Path
) -> list[Advice]:
    """Requests of all workloads, and whole GPUs that they hold."""
    if not read.specs:
        return []
    memory = by_workload(prometheus.series(MEMORY_QUERY))
    measured = {
        CPU: by_workload(prometheus.series(CPU_QUERY)),
        MEMORY: {name: scaled(usage, 2.0**-20) for name, usage in memory.items()},
    }
    cards = cards_of(directory)
    busy, used = (
        {labels.get("uuid", ""): usage for labels, usage in prometheus.series(query)}
        for query in (BUSY_QUERY, GPU_MEMORY_QUERY)
    )
    found = []
    for spec in read.specs:
        found += of_workload(spec, measured, settings)
        names = cards.get(spec.name, [])
        gpu = of_gpu(
            spec,
            [busy[name] for name in names if name in busy],
            [used[name] for name in names if name in used],
            settings,
        )
        found += [gpu] if gpu else []
    return found


def cards_of(directory: Path) -> dict[str, list[str]]:
    """The GPUs that each workload was given."""
    try:
        rows = json.loads((directory / "placement.json").read_text(encoding="utf-8"))["placement"]
    except (OSError, ValueError, KeyError):
        return {}
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["workload"], []).extend(row.get("gpu_ids") or [])
    return found


def of_models(prometheus: Prometheus, days: int) -> list[Advice]:
    """Models on devices that nobody asks."""
    seen = prometheus.figures(f"count by (model_name) (count_over_time(mlops_model_info[{days}d]))")
    asked = {labels["model_name"]: 0.0 for labels, _value in seen if labels.get("model_name")}
    for labels, value in prometheus.figures(
        f"sum by (model_name) (increase(mlops_model_requests_total[{days}d]))"
    ):
        asked[labels.get("model_name", "")] = value
    asked.pop("", None)
    covered = {
        labels["model_name"]: value
        for labels, value in prometheus.figures(
            "max by (model_name) (count_over_time((count by (model_name) (mlops_model_info))"
            f"[{days}d:1h])) / {days * 24}"
        )
        if labels.get("model_name")
    }
    return unasked(asked, covered, days)


def of_disks(prometheus: Prometheus, report: Mapping[str, Any], settings: Settings) -> list[Advice]:
    """File systems that will be full."""
    margins = report["margins"]
    sizes = {
        (labels.get("host"), labels.get("mountpoint")): value
        for labels, value in prometheus.figures(SIZE_QUERY)
    }
    found = []
    for labels, usage in prometheus.series(FREE_QUERY):
        host, path = labels.get("host", ""), labels.get("mountpoint", "")
        keep = max(
            sizes.get((host, path), 0.0) * margins["disk_reserve_percent"] / 100,
            margins["disk_reserve_mib"] * 2.0**20,
        )
        one = of_disk(host, path, usage, keep, settings)
        found += [one] if one else []
    return found


def planned_again(
    args: Mapping[str, Any],
    written: Written,
    report: Mapping[str, Any],
    advices: list[Advice],
) -> Verified:
    """The plan with everything as advised, beside the plan as it is."""
    supply = report["supply"]
    demand = {host: each(rows, parse_demand) for host, rows in report["demand"].items()}
    margins = Margins(**report["margins"])
    # By the time of the assessment, so that its facts are as fresh as they were.
    at = calendar.timegm(time.strptime(report["assessed_at"], "%Y-%m-%dT%H:%M:%SZ"))

    def plan(question: Written) -> Mapping[str, Any]:
        found = plan_workloads(
            question,
            list(supply),
            supply,
            demand,
            margins,
            args["planning"],
            time.monotonic,
            at,
        )
        if found.plan is None:
            raise AnsibleActionFail("; ".join(row.found for row in found.findings))
        return found.plan.as_dict()

    advised = replace(written, workloads=changed(args["workloads"], advices))
    return compare(outcome(plan(written)), outcome(plan(advised)))
