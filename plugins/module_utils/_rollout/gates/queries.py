# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site's own questions to Prometheus: a number within bounds, or no answer."""

from __future__ import annotations

import math

from ..shapes import FAIL, LEFT_OUT, MISSING, PASS, Gate, Look
from .settings import GateSettings, Query


def _one(query: Query, value: float | None) -> Gate:
    name = f"queries:{query.name}"
    bounds = (("min", query.least), ("max", query.most))
    wanted = {key: bound for key, bound in bounds if bound is not None}
    limits = " and ".join(
        f"at {'least' if key == 'min' else 'most'} {bound:g}" for key, bound in wanted.items()
    )
    if value is None or math.isnan(value):
        said = f"Prometheus has no answer to {query.name}; {limits} is wanted."
        return Gate(name, MISSING, said, {}, wanted)
    low = query.least is not None and value < query.least
    high = query.most is not None and value > query.most
    said = f"{query.name} is {value:g}; {limits} is wanted."
    found = {"value": value} if math.isfinite(value) else {}
    return Gate(name, FAIL if low or high else PASS, said, found, wanted)


def judge(look: Look, settings: GateSettings) -> tuple[Gate, ...]:
    """Judge each query. They are facts of the site, not samples: one look decides."""
    if not settings.queries:
        said = "Left out: the site declares none; they stand in rollout_gates.queries."
        return (Gate("queries", LEFT_OUT, said),)
    return tuple(_one(query, look.queries.get(query.name)) for query in settings.queries)
