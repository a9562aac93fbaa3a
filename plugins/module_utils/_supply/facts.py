# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether facts have the shape that planning relies on. A figure that is no number is no figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .._findings.shape import (
    ShapeError,
    each,
    field,
    kind_of,
    mapping,
    number,
    optional,
    text,
    whole,
)

Parse = Callable[[Any], Any]


def table(required: Mapping[str, Parse], more: Mapping[str, Parse]) -> Parse:
    """A mapping with these fields; others may be there."""

    def check(value: object) -> None:
        given = mapping(value)
        for key, parse in required.items():
            field(given, key, parse)
        for key, parse in more.items():
            optional(given, key, parse, None)

    return check


def rows(required: Mapping[str, Parse], more: Mapping[str, Parse]) -> Parse:
    """A list of such mappings."""
    return lambda value: each(value, table(required, more))


def word(value: object) -> str:
    """Anything that can be shown, as it is told in sentences."""
    try:
        return str(value)
    except (ValueError, RecursionError):  # such as a number of more digits than Python prints
        raise ShapeError(f"cannot be shown; it is {kind_of(value)}") from None


SERVICES = rows({}, {"unit": word, "memory_mib": number, "cpu_cores": number})
FACTS = table(
    {},
    {
        "host": word,
        "clock": table({}, {"epoch": number, "controller_epoch": number}),
        "cpu": table({}, {"usable_cores": number}),
        "memory": table({}, {"total_mib": number, "available_mib": number}),
        "filesystems": rows(
            {"mount": text, "size_mib": number, "available_mib": number},
            {
                "device": word,
                "type": word,
                "source": word,
                "root": word,
                "server": word,
                "fsid": word,
                "uuid": word,
                "wwn": word,
                "pool": word,
                "inodes": number,
                "inodes_available": number,
            },
        ),
        "uncounted": rows({"mount": text}, {"type": word, "reason": word}),
        "pools": rows({"name": text, "size_mib": number}, {"available_mib": number}),
        "services": table({}, {"foreign": SERVICES, "ours": SERVICES}),
        "ours": table(
            {},
            {
                "directories": rows({"path": text, "mib": number}, {"entries": number}),
                "packages_mib": number,
            },
        ),
        "listeners": rows(
            {"protocol": text, "port": whole, "address": text},
            {"process": word, "pid": word, "unit": word},
        ),
        "gpus": table(
            {},
            {
                "source": word,
                "problem": word,
                "gpus": rows(
                    {},
                    {
                        "index": whole,
                        "model": word,
                        "uuid": word,
                        "mig_mode": word,
                        "memory_mib": number,
                        "memory_used_mib": number,
                        "processes": whole,
                    },
                ),
            },
        ),
        "unknown": rows({}, {"what": word, "reason": word}),
    },
)


def problem_of(facts: object) -> str:
    """What is wrong with the facts of a host, with its place; empty if they can be used."""
    try:
        FACTS(facts)
    except ShapeError as error:
        return str(error)
    return ""
