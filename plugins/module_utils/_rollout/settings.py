# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the variables of a rollout, told before any host is asked: a sentence each.

They are given as they were written, since Jinja's filters take what is no number for 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .._findings.shape import ShapeError, each, kind_of, mapping, shown, text
from .errors import RolloutError
from .gates import GateSettings
from .plan import (
    ALL,
    DIGEST,
    MODEL,
    RING,
    TRANSPORTS,
    approval_of,
    known_rings,
    limits_of,
    ring_names,
    share,
)
from .rings import FIRST, Cut, Measured, checked, cut
from .turn import ASKS
from .window import parse

VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# As the bounds of a plan are named, and the variables that give them.
LIMITS = (
    "bake_seconds", "bake_limit_seconds", "poll_seconds", "concurrent_downloads", "bandwidth_mbit",
    "deferred_share", "min_requests", "probe_requests", "contact_seconds", "idle_seconds",
)  # fmt: skip

Given = Mapping[str, Any]
Groups = Mapping[str, Sequence[str]]


def problems(given: Given, groups: Groups, devices: Sequence[str]) -> list[str]:
    """A sentence for each variable ``rollout_<key>`` that no rollout can be planned by.

    ``given`` has the variables by name without ``rollout_``; those that lack are not looked at.
    ``devices`` are those that releases are for.
    """
    found: list[str] = []
    for check in CHECKS:
        try:
            check(given, groups, devices)
        except ShapeError as error:
            found.append(_sentence(error))
        except RolloutError as error:
            found.append(str(error).rstrip("."))
    return found


def _sentence(error: ShapeError) -> str:
    """A sentence that begins with the variable: the path of the error begins with its key."""
    return f"rollout_{error.path}: {error.problem}"


def _limits(given: Given, _groups: Groups, _devices: Sequence[str]) -> None:
    limits_of({key: given[key] for key in LIMITS if key in given})


def _shares(given: Given, _groups: Groups, _devices: Sequence[str]) -> None:
    if "ring_shares" in given:
        try:
            found = each(given["ring_shares"], share)
        except ShapeError as error:
            raise error.within("ring_shares") from None
        checked(found)


def _gates(given: Given, _groups: Groups, _devices: Sequence[str]) -> None:
    try:
        GateSettings.parse(given.get("gates"))
    except ShapeError as error:
        raise ShapeError(error.problem, error.path.removeprefix("rollout_")) from None


def _window(given: Given, _groups: Groups, _devices: Sequence[str]) -> None:
    lines = given.get("window") or ()
    try:
        found = (lines,) if isinstance(lines, str) else each(lines, text)
    except ShapeError as error:
        raise error.within("window") from None
    for line in found:
        parse(line)


def _rings(given: Given, groups: Groups, devices: Sequence[str]) -> None:
    """Rings that are groups, each once, and no device in two; persons for rings that there are."""
    try:
        declared = each(given.get("rings") or (), text)
    except ShapeError as error:
        raise error.within("rings") from None
    approval = approval_of(given)
    # A device in two of the usual rings is told of the inventory itself, by the assessment.
    told = [] if declared else [host for host in devices if _usual(host, groups) > 1]
    judged = [host for host in devices if host not in told]
    here = {name: [host for host in hosts if host in judged] for name, hosts in groups.items()}
    found = cut(dict.fromkeys(judged, Measured()), here, declared) if judged else Cut(())
    known = ring_names({"rings": declared, "groups": groups}, [ring.name for ring in found.rings])
    known_rings(approval if devices else {}, known)


def _usual(host: str, groups: Groups) -> int:
    """In how many of the usual rings a device is."""
    return sum(host in groups.get(name, ()) for name in FIRST)


def _words(given: Given, _groups: Groups, _devices: Sequence[str]) -> None:
    for key, choices in (
        ("action", tuple(ASKS)),
        ("on_failure", (RING, ALL)),
        ("transport", TRANSPORTS),
    ):
        if key in given and given[key] not in choices:
            raise ShapeError(
                f"must be one of {', '.join(choices)}, but is {shown(given[key])}", key
            )


def _is_version(value: object) -> bool:
    """Whether it can be the version of a release, such as ``7`` or ``7-config.1``."""
    kind = isinstance(value, (int, str)) and not isinstance(value, bool)
    return kind and bool(VERSION.fullmatch(str(value)))


def _release(given: Given, _groups: Groups, _devices: Sequence[str]) -> None:
    """What names the release."""
    version, digest = given.get("version"), given.get("digest")
    if version not in (None, "") and not _is_version(version):
        raise ShapeError(
            "must be a version as the model registry counts them, such as 7, but is "
            f"{shown(version) if isinstance(version, (int, float, str)) else kind_of(version)}",
            "version",
        )
    if digest not in (None, "") and not DIGEST.fullmatch(str(digest)):
        raise ShapeError(
            f"must be sha256: and 64 hexadecimal digits, but is {shown(digest)}", "digest"
        )
    if given.get("model") and not MODEL.fullmatch(str(given["model"])):
        raise ShapeError(
            "must be a name of small letters, digits, '.', '_' and '-', but is "
            f"{shown(given['model'])}",
            "model",
        )


def _mappings(given: Given, _groups: Groups, _devices: Sequence[str]) -> None:
    try:
        mapping(given.get("config") or {})
    except ShapeError as error:
        raise error.within("config") from None


CHECKS = (_words, _release, _mappings, _limits, _shares, _window, _rings, _gates)
