# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of the planner, as people and earlier runs wrote it: parsed, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .._demand.offers import Shape, parse_shapes
from .._demand.quantities import at_most, switch
from .._demand.what_if import WhatIf, parse_what_if
from .._demand.words import parse_host_resources, parse_labels
from .._demand.workloads import Known, Spec, parse_workloads
from .._findings.shape import (
    ShapeError,
    each,
    known_keys,
    mapping,
    number,
    optional,
    shown,
    text,
    whole,
)
from .._findings.shape import field as required
from .question import Earlier
from .site_plan import Planning

PLACEMENT_SCHEMA = 1
SCHEDULERS = "scheduler"  # the group of the inventory
MOST_SECONDS, MOST_YEARS = 86400.0, 20.0


@dataclass(frozen=True)
class Written:
    """Plain data as people and earlier runs wrote it. ``groups`` has the hosts of each group.

    ``lost`` are hosts that may be named and carry nothing, ``off`` devices that are switched off.
    """

    workloads: object
    offers: object = None
    labels: Mapping[str, object] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    what_if: object = None
    earlier: object = None
    resources: Mapping[str, object] = field(default_factory=dict)
    lost: Sequence[str] = ()
    off: Sequence[str] = ()


def _earlier(value: object) -> Earlier:
    given = mapping(value)
    return Earlier(
        required(given, "workload", text),
        required(given, "replica", whole),
        required(given, "host", text),
        optional(given, "gpus", lambda row: each(row, whole), ()),
        optional(given, "slice", _slice, -1),
    )


def parse_planning(asked: Mapping[str, Any]) -> tuple[Planning, tuple[str, ...]]:
    """How to plan, and a sentence for what cannot be read."""
    usual = Planning()
    try:
        return (
            Planning(
                optional(asked, "seconds", _seconds, usual.seconds),
                optional(asked, "seed", whole, usual.seed),
                optional(asked, "horizon_years", _years, usual.horizon_years),
                optional(asked, "survive_lost_host", switch, usual.survive),
            ),
            (),
        )
    except ShapeError as error:
        return usual, (f"assess_{error}",)


def _seconds(value: object) -> float:
    found = at_most(MOST_SECONDS, number, "a day, in seconds")(value)
    if found < 1:
        raise ShapeError(f"must be at least 1, but is {shown(value)}")
    return found


def _years(value: object) -> float:
    return at_most(MOST_YEARS, number, "can be foreseen, in years")(value)


def _slice(value: object) -> int:
    return -1 if value == -1 else whole(value)


def parse_earlier(value: object) -> tuple[Earlier, ...]:
    """The placement of an earlier run. Raises ShapeError if it is not one."""
    if value is None:
        return ()
    if isinstance(value, str):  # why it could not be read
        raise ShapeError(shown(value))
    given = mapping(value)
    if given.get("schema") != PLACEMENT_SCHEMA:
        raise ShapeError(f"must be {PLACEMENT_SCHEMA}", "schema")
    known_keys(given, ("schema", "planned_at", "verdict", "placement", "waiting"))
    placed: tuple[Earlier, ...] = required(given, "placement", lambda rows: each(rows, _earlier))
    # What waited for a lost host counts as being there, and goes back to it.
    waited: tuple[Earlier, ...] = optional(given, "waiting", lambda rows: each(rows, _earlier), ())
    return (*placed, *waited)


def known_of(written: Written, hosts: Sequence[str]) -> tuple[Known, tuple[str, ...]]:
    """What workloads may name, and what is wrong with labels and resources."""
    labels, problems = parse_labels(written.labels)
    resources, wrong = parse_host_resources(written.resources)
    return (
        Known(
            frozenset(written.groups),
            frozenset(hosts).union(*written.groups.values()),
            frozenset(label for some in labels.values() for label in some),
            frozenset(name for some in resources.values() for name, _number in some),
            bool(written.groups.get(SCHEDULERS)),
        ),
        (*problems, *wrong),
    )


@dataclass(frozen=True)
class Request:
    """What was read, and a sentence for everything that cannot be read, its place first."""

    specs: tuple[Spec, ...]
    shapes: tuple[Shape, ...]
    what_if: WhatIf
    planning: Planning
    problems: tuple[str, ...]


def read_request(written: Written, hosts: Sequence[str], asked: Mapping[str, Any]) -> Request:
    """Everything written. ``asked`` is how to plan, as far as it is given."""
    planning, problems = parse_planning(asked)
    known, wrong = known_of(written, hosts)
    problems += wrong
    shapes, wrong = parse_shapes(written.offers, known.groups)
    problems += wrong
    offered_labels = {label for shape in shapes for label in shape.labels}
    offered_things = {name for shape in shapes for name, _number in shape.resources}
    known = replace(
        known,
        labels=known.labels | offered_labels,
        resources=known.resources | offered_things,
    )
    specs, wrong = parse_workloads(written.workloads, known)
    problems += wrong
    what_if, wrong = parse_what_if(written.what_if, known, specs, shapes)
    # What is wrong with a workload or an offer makes the changes look wrong as well.
    return Request(specs, shapes, what_if, planning, problems or wrong)
