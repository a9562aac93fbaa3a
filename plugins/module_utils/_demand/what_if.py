# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes to try: hosts and workloads more or fewer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .._findings.shape import (
    ShapeError,
    each,
    field,
    known_keys,
    mapping,
    optional,
    shown,
    text,
)
from .offers import Shape, parse_shape
from .quantities import (
    counted,
)
from .words import NO_WORDS, meant, words
from .workloads import Known, Spec, parse_workload


@dataclass(frozen=True)
class WhatIf:
    """Changes to try: hosts and workloads more or fewer. Hosts are shapes with how many."""

    add_hosts: tuple[tuple[Shape, int], ...] = ()
    remove_hosts: tuple[str, ...] = ()
    add_workloads: tuple[Spec, ...] = ()
    remove_workloads: tuple[str, ...] = ()

    @property
    def wanted(self) -> bool:
        """Whether anything is to be tried."""
        return bool(
            self.add_hosts or self.remove_hosts or self.add_workloads or self.remove_workloads
        )


def parse_what_if(
    value: object,
    known: Known,
    specs: Sequence[Spec],
    shapes: Sequence[Shape],
    place: str = "assess_what_if",
) -> tuple[WhatIf, tuple[str, ...]]:
    """The changes to try, and a sentence for what cannot be read."""
    try:
        return _what_if(value, known, specs, shapes), ()
    except ShapeError as error:
        return WhatIf(), (str(error.within(place)),)


def _what_if(value: object, known: Known, specs: Sequence[Spec], shapes: Sequence[Shape]) -> WhatIf:
    given = mapping({} if value is None else value)
    known_keys(given, ("add_hosts", "remove_hosts", "add_workloads", "remove_workloads"))
    by_name = {shape.name: shape for shape in shapes}

    def host(row: object) -> tuple[Shape, int]:
        told = mapping(row)
        count = optional(told, "count", counted(1, 10_000), 1)
        if "offer" not in told:
            plain = {key: told[key] for key in told if key != "count"}
            return parse_shape(plain, known.groups), count
        known_keys(told, ("offer", "count"))
        name = field(told, "offer", text)
        if name not in by_name:
            raise ShapeError(
                f"mlops_host_offers has no {shown(name)}{meant(name, by_name)}", "offer"
            )
        return by_name[name], count

    def removed(key: str, names: Iterable[str], what: str) -> tuple[str, ...]:
        found = optional(given, key, words, NO_WORDS)
        for index, name in enumerate(found):
            if name not in names:
                raise ShapeError(
                    f"there is no {what} {shown(name)}{meant(name, names)}", f"{key}[{index}]"
                )
        return found

    gone = removed("remove_workloads", [spec.name for spec in specs], "workload")
    taken = {spec.name for spec in specs} - set(gone)

    def workload(row: object) -> Spec:
        spec = parse_workload(row, known)
        if spec.name in taken:
            raise ShapeError(
                f"{shown(spec.name)} is there already; remove it by remove_workloads first", "name"
            )
        taken.add(spec.name)
        return spec

    return WhatIf(
        add_hosts=optional(given, "add_hosts", lambda rows: each(rows, host), ()),
        remove_hosts=removed("remove_hosts", known.hosts, "host"),
        add_workloads=optional(given, "add_workloads", lambda rows: each(rows, workload), ()),
        remove_workloads=gone,
    )
