# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of the site, and those that each device is to have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._demand.models import PLACE, Model, parse_models
from .errors import SiteError
from .site import CONTROL, Site

TOLERANCE = 0.0001  # as playbooks/vars/pipeline.yml has it
TRUSTED = "/etc/mlops/tls/ca.crt"


def written(site: Site) -> object:
    """What the inventory says, the same for all hosts; None where it says nothing."""
    for host in site.groups.get(CONTROL) or site.groups.get("all") or ():
        value = site.value(host, PLACE)
        if value:
            return value
    return None


def _parsed(site: Site) -> tuple[Model, ...]:
    found, problems = parse_models(written(site), site.groups)
    if problems:
        raise SiteError("; ".join(problems))
    return found


def models(site: Site) -> list[dict[str, Any]]:
    """Every model with its fields and C(hosts), the devices that it is for."""
    return [model.as_dict(site.groups) for model in _parsed(site)]


def of_host(site: Site, host: str) -> list[dict[str, Any]]:
    """What a device has to know of its models: their names and what they take."""
    return [
        {
            "name": model.name,
            "memory_mib": model.memory_mib,
            "release_max_mib": model.release_max_mib,
        }
        for model in _parsed(site)
        if host in model.hosts(site.groups)
    ]


def declared(site: Site) -> bool:
    """Whether the inventory names models, so that a device has those and no others."""
    return bool(written(site))


def scheduled(site: Site) -> list[dict[str, Any]]:
    """The models that a timer of the control host trains: when, and what the steps are told."""
    return [
        {
            "name": model.name,
            "project": model.project,
            "calendar": model.schedule.calendar,
            "unchanged_data": model.schedule.unchanged_data,
            "data_uri": str(site.value(site.control, "pipeline_data_uri") or ""),
            "step": _told(model),
        }
        for model in _parsed(site)
        if model.schedule is not None
    ]


def sampled(site: Site) -> list[Model]:
    """The models of which requests are kept."""
    return [model for model in _parsed(site) if model.sample is not None]


def _told(model: Model) -> dict[str, Any]:
    """What is the model's own of the configuration of the steps, as for a run of the controller."""
    parameters = {step: dict(given) for step, given in (model.parameters or {}).items()}
    if isinstance(model.cases, int):
        parameters.setdefault("train", {})["golden_cases"] = model.cases
    told: dict[str, Any] = {
        "model_name": model.name,
        "parameters": parameters,
        "thresholds": dict(model.thresholds or {}),
        "tolerance": TOLERANCE if model.tolerance is None else model.tolerance,
        "limits": {"memory_mib": model.memory_mib, "release_max_mib": model.release_max_mib},
    }
    if model.margin is not None:
        told["margin"] = model.margin
    if model.data:
        told["source"] = _source(model.data)
    return told


def _source(data: str | Mapping[str, Any]) -> str | dict[str, Any]:
    """Where the data come from; a database is verified by what the host itself trusts."""
    if isinstance(data, str):
        return data
    return {name: {"ca_file": TRUSTED, **value} for name, value in data.items()}
