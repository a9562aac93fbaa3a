# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of work on hosts that a run leaves out: what finds another place, and what waits.

Work on a host that is declared lost moves where it can. Nothing moves because a device is switched
off: what is planned on one waits for it, and so does what is new and finds room nowhere else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .._demand.workloads import Spec
from .._planner.model import FEASIBLE, Budget
from .places import Place
from .question import Earlier, carries, tag_of
from .site_plan import Planning, Site
from .staying import place

# Of the time to plan: for the look whether everything fits, and for each look at less than that.
FIRST, EACH = 0.2, 0.15


def leave_out(
    site: Site, lost: Sequence[str], off: Sequence[Place], planning: Planning, budget: Budget
) -> tuple[Site, tuple[Earlier, ...]]:
    """The site without lost hosts and devices that are off, and the replicas that wait for them."""
    staying = _gone(site, [device.name for device in off])
    count = Counter(row.workload for row in staying)
    waiting = _who_waits(site, count, staying)
    site = _reduced(site, count, staying)
    site, more = strand(site, lost, off, planning, budget)
    return site, (*more, *waiting)


def strand(
    site: Site, lost: Sequence[str], off: Sequence[Place], planning: Planning, budget: Budget
) -> tuple[Site, tuple[Earlier, ...]]:
    """The site with as many replicas as fit on the hosts that are there, and those that wait.

    Only what was on a lost host, or is new and could run on a device that is off, ever waits, and
    of that as little as can be found: workloads of high priority are placed first. Where even
    without all of it the rest does not fit, these hosts are not the reason: nothing waits then, and
    the plan says what is short.
    """
    gone = (*_gone(site, lost), *_new(site, off))
    if not gone or _fits(site, {}, gone, planning, budget.part(FIRST)):
        return site, ()
    waiting = Counter(row.workload for row in gone)
    if not _fits(site, waiting, gone, planning, budget.part(EACH)):
        return site, ()
    order = {spec.name: (-spec.priority, spec.name) for spec in site.specs}
    for name in sorted(waiting, key=lambda one: order[one]):
        least, most = 0, waiting[name]
        while least < most:
            middle = (least + most) // 2
            tried = {**waiting, name: middle}
            if _fits(site, tried, gone, planning, budget.part(EACH)):
                most = middle
            else:
                least = middle + 1
        waiting[name] = least
    return _reduced(site, waiting, gone), _who_waits(site, waiting, gone)


def _gone(site: Site, lost: Sequence[str]) -> tuple[Earlier, ...]:
    """The replicas that were on a lost host, or waited for one already."""
    replicas = {spec.name: spec.replicas for spec in site.specs}
    return tuple(
        row
        for row in site.earlier
        if row.host in lost and row.replica < replicas.get(row.workload, 0)
    )


def _new(site: Site, off: Sequence[Place]) -> tuple[Earlier, ...]:
    """The replicas that no run has placed, as far as they may run on a device that is off."""
    known = {(row.workload, row.replica) for row in site.earlier}
    found = []
    for spec in site.specs:
        able = [device.name for device in off if _may_run(spec, device)]
        if able:
            found += [
                Earlier(spec.name, number, able[number % len(able)])
                for number in range(spec.replicas)
                if (spec.name, number) not in known
            ]
    return tuple(found)


def _may_run(spec: Spec, device: Place) -> bool:
    named = not spec.hosts or device.name in spec.hosts
    return named and all(carries(device, tag) for tag in tag_of(spec))


def _fits(
    site: Site,
    waiting: Mapping[str, int],
    gone: Sequence[Earlier],
    planning: Planning,
    budget: Budget,
) -> bool:
    tried = _reduced(site, waiting, gone)
    usual = replace(planning, survive=False)
    result, _survivals, _kept = place(tried.problem(site.today), tried.earlier, usual, budget)
    return result.verdict == FEASIBLE


def _reduced(site: Site, waiting: Mapping[str, int], gone: Sequence[Earlier]) -> Site:
    """The site without the replicas that wait; those that are left are numbered from 0 again."""
    left = {row for row in site.earlier if row not in gone}
    again: list[Earlier] = []
    numbers: Counter[str] = Counter()
    for row in site.earlier:
        if row in left and waiting.get(row.workload):
            again.append(replace(row, replica=numbers[row.workload]))
            numbers[row.workload] += 1
        else:
            again.append(row)
    return replace(
        site,
        specs=tuple(
            replace(spec, replicas=spec.replicas - waiting.get(spec.name, 0)) for spec in site.specs
        ),
        earlier=tuple(again),
    )


def _who_waits(
    site: Site, waiting: Mapping[str, int], gone: Sequence[Earlier]
) -> tuple[Earlier, ...]:
    """The replicas that wait, each for the host that it was on, with the numbers after the rest."""
    replicas = {spec.name: spec.replicas for spec in site.specs}
    found: list[Earlier] = []
    for name, count in sorted(waiting.items()):
        rows = [row for row in gone if row.workload == name][:count]
        first = replicas[name] - count
        found += [replace(row, replica=first + number) for number, row in enumerate(rows)]
    return tuple(found)
