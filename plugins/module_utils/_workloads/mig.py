# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The MIG instance that a replica is planned on, of those that were measured on its host.

The plan says a card, a profile and the first slice of its memory; the driver, for each instance,
its name, its profile and the same slice. Both have to agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .._supply.facts import Gpu
from .._supply.gpu import MigInstance
from .placed import Placed

VARIABLE = "workloads_mig_instances"


class NoInstance(Exception):
    """A replica is planned on an instance that is not there. Reads as a sentence."""


@dataclass(frozen=True)
class Instance:
    """One MIG instance. Empty and None are what the driver does not tell.

    ``files`` are those that have to be opened for it besides that of its card.
    """

    name: str = ""
    profile: str = ""
    start: int | None = None
    files: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = "an unknown slice" if self.start is None else f"slice {self.start}"
        return f"{self.profile or 'an instance'} at {where}"


@dataclass(frozen=True)
class Divided:
    """The instances of a host: measured, by card; and the names that the inventory gives them."""

    measured: Mapping[str, tuple[Instance, ...]] = field(default_factory=dict)
    named: Mapping[tuple[str, int], str] = field(default_factory=dict)

    def of(self, one: Placed) -> Instance:
        """The instance of a replica.

        Raises:
            NoInstance: The host has none that is as planned.
        """
        gpu = one.gpu_ids[0] if one.gpu_ids else "unknown"
        planned = (
            f"{one.host}: {one.workload} is planned on the MIG instance {one.profile} at slice "
            f"{one.slice} of GPU {gpu}"
        )
        there = self.measured.get(gpu, ())
        name = self.named.get((gpu, one.slice), "")
        if name and any(instance.name for instance in there):
            return _by_name(there, name, planned)
        if name and not any(instance.start is not None for instance in there):
            return Instance(name=name)
        found = _by_place(there, one, planned)
        if not (name or found.name):
            raise NoInstance(
                f"{planned}, whose name the driver does not tell; say it in {VARIABLE}, as "
                "nvidia-smi -L shows it"
            )
        return replace(found, name=name or found.name)


def divided(gpus: Sequence[Gpu], named: Mapping[str, Mapping[Any, Any]] | None = None) -> Divided:
    """Of the measured GPUs of a host, and of the names that the inventory gives."""
    return Divided(
        measured={gpu.uuid: tuple(map(_instance, gpu.mig_instances)) for gpu in gpus if gpu.uuid},
        named={
            (gpu, int(first)): str(name)
            for gpu, slices in (named or {}).items()
            for first, name in slices.items()
        },
    )


def _instance(told: MigInstance) -> Instance:
    return Instance(told.uuid or "", told.profile or "", told.start, told.files)


def _by_name(there: Sequence[Instance], name: str, planned: str) -> Instance:
    found = next((instance for instance in there if instance.name == name), None)
    if found is None:
        raise NoInstance(
            f"{planned}, which {VARIABLE} calls {name}, and the instances of that GPU are "
            f"{', '.join(instance.name for instance in there)}; mend {VARIABLE}, or leave it out "
            "where the driver tells the names itself"
        )
    return found


def _by_place(there: Sequence[Instance], one: Placed, planned: str) -> Instance:
    lay_out = "lay the instances out as planned (role gpu_driver)"
    if not there:
        raise NoInstance(f"{planned}, which has no instances; {lay_out}")
    if all(instance.start is None for instance in there):
        raise NoInstance(
            f"{planned}, and the driver does not tell where its instances lie; say the name of this"
            f" one in {VARIABLE}, as nvidia-smi -L shows it"
        )
    found = [instance for instance in there if instance.start == one.slice]
    if not found or found[0].profile not in ("", one.profile):
        told = ", ".join(sorted({str(instance) for instance in there}))
        raise NoInstance(f"{planned}, which has {told}; {lay_out}")
    if len(found) > 1:
        raise NoInstance(
            f"{planned}, and that one is split into {len(found)} compute instances; {lay_out}"
        )
    return found[0]
