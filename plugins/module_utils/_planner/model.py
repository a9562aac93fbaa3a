# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the planner is told and what it answers: values only.

Supplies are what may be planned: margins and foreign use are taken off before. Every vector has
one figure for each name in ``Instance.resources``, in the unit at the same place of
``Instance.units``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

FEASIBLE, INFEASIBLE, UNDECIDED = "FEASIBLE", "INFEASIBLE", "UNDECIDED"
Vector = tuple[float, ...]


@dataclass(frozen=True)
class Device:
    """One GPU. ``mig`` names its geometry where MIG mode is on, else it is empty."""

    model: str
    memory_mib: float = 0.0
    mig: str = ""


@dataclass(frozen=True)
class Host:
    """One host: what may be planned on it, and its tags (groups, and labels as ``key=value``)."""

    name: str
    supply: Vector
    devices: tuple[Device, ...] = ()
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class GpuNeed:
    """What one replica needs of GPUs: exactly one of the first four is set, or none.

    ``count`` whole devices of one host; ``share`` of one device, above 0 and below 1;
    ``memory_mib`` of one device, which counts as that share of its memory; ``profile`` one MIG
    instance such as ``3g.40gb``. ``models`` are the models allowed; empty allows all. ``owner`` is
    who manages the device: replicas of different owners share none.
    """

    count: int = 0
    share: float = 0.0
    memory_mib: float = 0.0
    profile: str = ""
    models: frozenset[str] = frozenset()
    owner: str = ""

    @property
    def wanted(self) -> bool:
        """Whether any GPU is needed."""
        return bool(self.count or self.share or self.memory_mib or self.profile)


NO_GPU = GpuNeed()


@dataclass(frozen=True)
class Workload:
    """Replicas of one shape. Each needs ``demand`` and ``gpu`` on one host.

    The host must carry every tag of ``tags`` and be one of ``hosts``, unless that is None. Of all
    replicas of workloads with the same ``spread`` (if not empty), no two share a host. The
    higher the ``priority``, the later a replica is left out where not all fit.
    """

    name: str
    demand: Vector
    replicas: int = 1
    gpu: GpuNeed = NO_GPU
    tags: frozenset[str] = frozenset()
    hosts: frozenset[str] | None = None
    spread: str = ""
    priority: int = 0


@dataclass(frozen=True)
class Pool:
    """A supply that several hosts draw from, such as a network file system.

    ``columns`` name the resource of each host that is drawn from it, by its place in
    ``Instance.resources``; a host has at most one, and each of them has the pool's supply.
    ``offers`` are those of hosts that could be bought. What is in the pool outlives every host.
    """

    name: str
    unit: str
    supply: float
    columns: tuple[tuple[str, int], ...]
    offers: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Instance:
    """The whole question."""

    resources: tuple[str, ...]
    units: tuple[str, ...]
    hosts: tuple[Host, ...]
    workloads: tuple[Workload, ...]
    pools: tuple[Pool, ...] = ()


class Assignment(NamedTuple):
    """Where one replica goes: host, indices of its devices, and the first MIG memory slice."""

    workload: str
    replica: int
    host: str
    devices: tuple[int, ...] = ()
    slice: int = -1


@dataclass(frozen=True)
class Certificate:
    """Why not all fits, in figures that a person can check.

    ``cause`` is ``sum`` (all hosts together have too little), ``nowhere`` (a replica fits on no
    host, even an empty one), ``types`` (the hosts that are allowed have too little),
    ``fragmentation`` (the sum suffices, but no way to cut it up does), ``geometry`` (MIG
    placement) or ``spread`` (more replicas to keep apart than hosts). ``steps`` are the lines of
    the arithmetic.
    """

    cause: str
    resource: str
    unit: str
    demand: float
    supply: float
    short: float
    unplaceable: int
    shapes: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """The verdict. ``placement`` is complete if FEASIBLE, else the best found.

    ``unplaced`` counts the replicas left out, by workload; ``at_least`` is the proven lower bound
    of their number. ``sums_fit`` tells whether a check of sums alone would have said yes.
    ``value`` is what the placement is worth and ``bound`` what none can exceed: the resource in use
    for `allocate`, else the number of replicas (weighted where priorities differ).
    """

    verdict: str
    placement: tuple[Assignment, ...]
    unplaced: Mapping[str, int]
    at_least: int
    certificates: tuple[Certificate, ...] = ()
    sums_fit: bool = True
    seconds: float = 0.0
    optimal: bool = False
    value: float = 0.0
    bound: float = 0.0


@dataclass(frozen=True)
class Survival:
    """What happens if one host is lost: the replicas for which no other place was found.

    ``proven`` says that without this host no placement of all replicas exists, wherever they go.
    """

    host: str
    lost: int
    stranded: Mapping[str, int] = field(default_factory=dict)
    proven: bool = False


@dataclass(frozen=True)
class Offer:
    """A shape of host that can be bought, with its price if known, and how many at most."""

    name: str
    supply: Vector
    devices: tuple[Device, ...] = ()
    tags: frozenset[str] = frozenset()
    price: float | None = None
    most: int | None = None


@dataclass(frozen=True)
class Purchase:
    """How many hosts of each offer make the plan feasible; None where none were found.

    The verdict is INFEASIBLE where it is proven that no number of them does; the last of ``steps``
    says why, and ``others`` is the purchase for all workloads but those that fit on no host there
    is or is offered. ``at_least`` is the proven lower bound of the number of hosts (or of the
    price, where all offers have one); ``steps`` show the arithmetic behind it.
    """

    verdict: str
    counts: Mapping[str, int] | None
    hosts: int
    price: float | None
    at_least: float
    placement: tuple[Assignment, ...] = ()
    steps: tuple[str, ...] = ()
    seconds: float = 0.0
    others: Purchase | None = None


class Cancelled(Exception):
    """The caller asked to stop."""


@dataclass
class Budget:
    """How long to search. The clock is passed in; so is what asks for an early end."""

    seconds: float
    clock: Callable[[], float]
    cancelled: Callable[[], bool] = lambda: False
    progress: Callable[[str, float], None] = lambda _what, _done: None
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def used(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.started

    @property
    def left(self) -> float:
        """Seconds left, never below 0. Raises Cancelled where the caller wants an end."""
        if self.cancelled():
            raise Cancelled
        return max(0.0, self.seconds - self.used)

    def part(self, share: float) -> Budget:
        """A budget of this share of what is left."""
        return Budget(self.left * share, self.clock, self.cancelled, self.progress)

    def tell(self, what: str, done: float) -> None:
        """Report progress: what is being done, and how much of it, from 0 to 1."""
        self.progress(what, done)
