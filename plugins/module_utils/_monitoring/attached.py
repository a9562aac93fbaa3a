# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a Prometheus that is not ours really measures the site and judges by our rules.

What it answers is compared with what we asked for: the series ``up`` by an instant query, the
reasons by ``/api/v1/targets``, the rules by ``/api/v1/rules``
(prometheus.io/docs/prometheus/latest/querying/api).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Place = tuple[str, str]  # job and host
INCLUDE_SCRAPES = (
    "see that scrape_config_files of its configuration names our scrape.yml,"
    " and that it was reloaded"
)
INCLUDE_RULES = (
    "see that rule_files of its configuration names our rules.yml, and that it was reloaded"
)
SHOWN = 5


@dataclass(frozen=True)
class Answer:
    """What the Prometheus says: ``up`` by job and host, errors of scrapes, and its rules."""

    up: Mapping[Place, float]
    errors: Mapping[Place, str]
    rules: Mapping[str, str]


@dataclass(frozen=True)
class Lack:
    """Something that is missing, and what mends it."""

    what: str
    found: str
    remedy: str


def read(up: Mapping[str, Any], targets: Mapping[str, Any], rules: Mapping[str, Any]) -> Answer:
    """The three answers of its API, each the ``data`` of one."""
    values: dict[Place, float] = {}
    for row in up.get("result") or []:
        labels = row.get("metric") or {}
        place = (str(labels.get("job", "")), str(labels.get("host", "")))
        # One of several is down: then that is what is told.
        values[place] = min(values.get(place, 1.0), float(row["value"][1]))
    errors: dict[Place, str] = {}
    for target in targets.get("activeTargets") or []:
        labels = target.get("labels") or {}
        place = (str(labels.get("job", "")), str(labels.get("host", "")))
        errors[place] = errors.get(place) or str(target.get("lastError") or "")
    judged = {
        str(rule.get("name")): str(rule.get("lastError") or "")
        for group in rules.get("groups") or []
        for rule in group.get("rules") or []
    }
    return Answer(values, errors, judged)


def lacking(answer: Answer, places: Iterable[Place], rules: Iterable[str]) -> list[Lack]:
    """What is not as it should be."""
    wanted = sorted(set(places))
    return _series(answer, wanted) + _rules(answer, sorted(set(rules)))


def _series(answer: Answer, wanted: Sequence[Place]) -> list[Lack]:
    unknown = [one for one in wanted if one not in answer.up and one not in answer.errors]
    if wanted and len(unknown) == len(wanted):
        return [Lack("series", f"none of the {len(wanted)} targets of the site", INCLUDE_SCRAPES)]
    found = []
    for job, host in wanted:
        what = f"metrics of {job} on {host}"
        if (job, host) in unknown:
            found.append(Lack(what, "it is not among its targets", INCLUDE_SCRAPES))
        elif answer.up.get((job, host)) != 1.0:
            why = answer.errors.get((job, host)) or "it was not read yet"
            found.append(Lack(what, f"they cannot be read: {why}", _mending(host, why)))
    return found


def _mending(host: str, why: str) -> str:
    said = why.lower()
    if "403" in said or "400" in said:
        return (
            "name the whole subject of its client certificate in"
            " common_extra_nginx_metrics_clients, and run site.yml"
        )
    if "certificate" in said or "tls" in said or "no such file" in said:
        return "compare the files of monitoring_existing_tls there with the authority of the site"
    return f"let it reach {host} through every firewall between them"


def _rules(answer: Answer, wanted: Sequence[str]) -> list[Lack]:
    absent = [name for name in wanted if name not in answer.rules]
    if absent and len(absent) == len(wanted):
        return [Lack("rules", f"none of the {len(wanted)} rules of the site", INCLUDE_RULES)]
    found = []
    if absent:
        more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
        names = ", ".join(absent[:SHOWN])
        found.append(
            Lack("rules", f"it has not loaded {names}{more}", "place rules.yml anew and reload it")
        )
    for name in wanted:
        if answer.rules.get(name):
            found.append(
                Lack(
                    f"rule {name}",
                    f"it fails: {answer.rules[name]}",
                    "report it with that sentence",
                )
            )
    return found
