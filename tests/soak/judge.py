# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The thinking of the upgrade campaign: releases, what was lost, how long something was away."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import tomllib

COMMIT = re.compile(r"[0-9a-f]{40}")
VERSION = re.compile(r"\d+\.\d+\.\d+")


@dataclass(frozen=True)
class Release:
    """A version of the collection and the commit that it is.

    ``reissued`` says why devices no longer take what this release signed, so that an upgrade trains
    and releases the sample anew; empty if they take it.
    """

    version: str
    commit: str
    reissued: str = ""


def releases(text: str) -> list[Release]:
    """Read the table of releases; oldest first."""
    found = []
    for number, row in enumerate(tomllib.loads(text).get("release", []), 1):
        if set(row) - {"reissued"} != {"version", "commit"}:
            raise ValueError(f"release {number}: wants version and commit, found {sorted(row)}")
        release = Release(**row)
        if not VERSION.fullmatch(release.version):
            raise ValueError(f"release {number}: {release.version!r} is no version like 1.2.3")
        if not COMMIT.fullmatch(release.commit):
            raise ValueError(f"release {number}: {release.commit!r} is not 40 hexadecimal digits")
        found.append(release)
    order = [tuple(int(part) for part in release.version.split(".")) for release in found]
    for earlier, later in pairwise(order):
        if earlier >= later:
            raise ValueError("the releases do not stand oldest first")
    if not found:
        raise ValueError("there is no release")
    return found


# What an upgrade has to leave exactly as it was; of the rest it may add to, but lose nothing.
EQUAL = ("secrets", "served", "predictions")
KEPT = ("runs", "models", "artifacts")


# Two trainings on the same data may differ as much as two machines' answers of one model may.
TOLERANCE = 1e-4


def losses(before: Mapping[str, Any], after: Mapping[str, Any], *, anew: bool = False) -> list[str]:
    """What the later record of a site lacks or has otherwise, one sentence each.

    ``anew``: the sample was trained and released again. Then all devices are to serve one and the
    same release, which was not there before, and to answer the golden case as they did.
    """
    found = _reissued(before, after) if anew else []
    for part in ("secrets",) if anew else EQUAL:
        old, new = before[part], after[part]
        for name in sorted(old):
            if name not in new:
                found.append(f"{part}: {name} is gone")
            elif old[name] != new[name]:
                found.append(f"{part}: {name} has changed")
    for part in KEPT:
        found += [
            f"{part}: {name} is gone" for name in sorted(set(before[part]) - set(after[part]))
        ]
    # A scrape interval of leeway: the figure is measured.
    later = after["oldest_sample"] - before["oldest_sample"]
    if later > 60:
        found.append(f"metrics: the oldest sample is {later:.0f} s younger than before")
    return found


def _reissued(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    found = []
    served = after["served"]
    for name in sorted(before["served"]):
        if name not in served:
            found.append(f"served: {name} is gone")
        elif not served[name] or served[name] == before["served"][name]:
            found.append(f"served: {name} has nothing new")
    if len(set(served.values())) > 1:
        found.append("served: the devices do not agree")
    for name, answer in sorted(before["predictions"].items()):
        if not _agree(_values(answer), _values(after["predictions"].get(name, []))):
            found.append(f"predictions: {name} has changed")
    return found


def _values(outputs: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Name of an output -> its values, whatever else the protocol says of it."""
    return {str(output["name"]): list(output["data"]) for output in outputs}


def _agree(old: Mapping[str, list[Any]], new: Mapping[str, list[Any]]) -> bool:
    return set(old) == set(new) and all(
        len(values) == len(new[name])
        and all(math.isclose(*pair, abs_tol=TOLERANCE) for pair in zip(values, new[name]))
        for name, values in old.items()
    )


def vanished(before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> list[str]:
    """What hosts no longer list in their ledgers; a migration may have taken it away."""
    return [
        f"{host}: {thing}"
        for host, things in sorted(before.items())
        for thing in sorted(set(things) - set(after.get(host, [])))
    ]


@dataclass(frozen=True)
class Outage:
    """How often a service did not answer, and for how long at a stretch."""

    asked: int
    failed: int
    longest_seconds: float


def outage(answers: Iterable[tuple[float, bool]]) -> Outage:
    """Judge answers in the order of their times; away is from the last good to the next good."""
    asked = failed = 0
    longest = 0.0
    good = away = None
    last = 0.0
    for moment, answered in answers:
        asked += 1
        last = moment
        if answered:
            if away is not None:
                longest = max(longest, moment - away)
            good, away = moment, None
        else:
            failed += 1
            if away is None:
                away = moment if good is None else good
    if away is not None:
        longest = max(longest, last - away)
    return Outage(asked, failed, round(longest, 1))


def too_long(outages: Mapping[str, Outage], devices: Iterable[str], bound: float) -> list[str]:
    """Devices that were away longer than a restart may take, or that nobody could ask."""
    found = []
    for name in devices:
        seen = outages.get(name, Outage(0, 0, 0.0))
        if not seen.asked:
            found.append(f"{name}: was never asked")
        elif seen.longest_seconds > bound:
            found.append(f"{name}: away for {seen.longest_seconds} s, wanted {bound:g} s or less")
    return found
