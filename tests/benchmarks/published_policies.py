# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Online placement: workloads arrive one at a time, none leaves, one that fits nowhere is dropped.

The policies are those compared by Q. Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing
Workloads with Fragmentation Gradient Descent", USENIX ATC 2023 ("the paper"), as its simulator
(hkust-adsl/kubernetes-scheduler-simulator) computes them. They are what a plan is compared with,
and their published results show that our model of hosts and GPUs is right.

Every policy gives each host on which a workload fits a whole number from 0 to 100; the highest
wins, and of equals the first in an order of the hosts that is drawn once for each run. That order
matters: most scores are equal, and FGD loses five points where ties are drawn anew each time.

Amounts are counted in thousandths of their unit, as whole numbers, so that sums are exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ansible_collections.mlops.onprem.plugins.module_utils._planner.arrays import Bools, Ints, np
from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import (
    Assignment,
    GpuNeed,
    Host,
    Instance,
    Workload,
)

WHOLE = 1000  # thousandths of a device
BEST = 100  # the highest score
NOWHERE = -1  # the score of a host on which the workload does not fit

# Share of all workloads, by the number of their occurrences, whose shapes FGD takes for typical
# (setting of the paper's experiments: popularity threshold 95 %).
TYPICAL = 0.95


@dataclass(frozen=True)
class Allocation:
    """What a run came to. GPUs are counted in devices; shares as their fraction."""

    policy: str
    placement: tuple[Assignment, ...]
    unplaced: Mapping[str, int]
    gpus: int
    gpus_asked: float
    gpus_placed: float

    @property
    def percent(self) -> float:
        """GPUs placed as a percentage of all GPUs; 0 where there are none."""
        return 100 * self.gpus_placed / self.gpus if self.gpus else 0.0


class PolicyError(Exception):
    """The question has what the policies do not know. Reads as a sentence."""


def _thousandths(amounts: Sequence[Sequence[float]]) -> Ints:
    counted: Ints = np.rint(np.asarray(amounts, dtype=float) * 1000).astype(np.int64)
    return counted


def _share(gpu: GpuNeed) -> int:
    """What is needed of each device, in thousandths; 0 for no GPU."""
    if gpu.count:
        return WHOLE
    return max(1, round(gpu.share * WHOLE)) if gpu.share else 0


def _gpu_total(gpu: GpuNeed) -> int:
    return max(gpu.count, 1) * _share(gpu)


class _Shape:
    """What one workload needs, and the hosts that are allowed."""

    def __init__(self, workload: Workload, demand: Ints, allowed: Bools, cpu: int) -> None:
        self.demand = demand
        self.cpu = int(demand[cpu])
        self.share = _share(workload.gpu)
        self.count = workload.gpu.count or int(self.share > 0)
        self.allowed = allowed

    @property
    def shares(self) -> bool:
        """Whether it takes a part of one device."""
        return 0 < self.share < WHOLE

    @property
    def kind(self) -> int:
        """How GPUs are used, as GpuClustering tells workloads apart: 0 shares, else the count."""
        return 0 if self.shares else self.count


class _Cluster:
    """What is left on each host, in the order that breaks ties. Absent devices have nothing left.

    ``whole``, ``largest`` and ``left`` sum up ``gpu`` for each host: the number of untouched
    devices, the largest rest of a device, and the sum of the rests. ``kinds`` has the kinds of
    GPU workloads on each host.
    """

    def __init__(self, hosts: Sequence[Host], cpu: int) -> None:
        self.free = _thousandths([host.supply for host in hosts])
        self.devices = np.array([len(host.devices) for host in hosts])
        most = max(1, int(self.devices.max()))
        self.gpu: Ints = np.where(np.arange(most) < self.devices[:, None], WHOLE, 0)
        self.whole = self.devices.copy()
        self.left = self.gpu.sum(axis=1)
        self.largest = self.gpu.max(axis=1)
        self.models = [host.devices[0].model if host.devices else "" for host in hosts]
        self.kinds: Bools = np.zeros((len(hosts), most + 1), dtype=bool)
        self.cpu = self.free[:, cpu]
        # What the scores are scaled by: the most that any host has (the paper: 128 cores, 8 GPUs).
        self.most_cpu = max(1, int(self.cpu.max()))
        self.most_gpu = WHOLE * most

    def fits(self, shape: _Shape, hosts: Ints) -> Bools:
        """On which of the hosts the workload fits."""
        fits: Bools = shape.allowed[hosts] & (self.free[hosts] >= shape.demand).all(axis=1)
        if shape.shares:
            fits &= self.largest[hosts] >= shape.share
        elif shape.count:
            fits &= self.whole[hosts] >= shape.count
        return fits

    def place(self, shape: _Shape, host: int, devices: Ints) -> None:
        self.free[host] -= shape.demand
        if shape.count:
            rests = self.gpu[host]
            rests[devices] -= shape.share
            self.whole[host] = np.count_nonzero(rests == WHOLE)
            self.left[host] = rests.sum()
            self.largest[host] = rests.max()
            self.kinds[host, shape.kind] = True


class _Policy(Protocol):
    """How hosts are ranked, and which device of the chosen host a share goes to."""

    ties_at_random: bool

    def score(self, cluster: _Cluster, shape: _Shape, hosts: Ints, /) -> Ints:
        """From 0 to 100 for each of the hosts, on all of which the workload fits."""

    def device(self, cluster: _Cluster, shape: _Shape, host: int) -> int:
        """The device for a workload that takes a part of one."""


class _Same:
    """All hosts and devices are alike: the first of each that fits."""

    ties_at_random = False

    def score(self, _cluster: _Cluster, _shape: _Shape, hosts: Ints) -> Ints:
        return np.zeros(len(hosts), dtype=np.int64)

    def device(self, cluster: _Cluster, shape: _Shape, host: int) -> int:
        return int(np.argmax(cluster.gpu[host] >= shape.share))


class _Random(_Same):
    """Any host that fits, any device that fits."""

    ties_at_random = True

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def device(self, cluster: _Cluster, shape: _Shape, host: int) -> int:
        return int(self._rng.choice(np.flatnonzero(cluster.gpu[host] >= shape.share)))


class _Tightest:
    """Shares go to the device with the least left that suffices."""

    ties_at_random = False

    def device(self, cluster: _Cluster, shape: _Shape, host: int) -> int:
        rests = cluster.gpu[host]
        return int(np.argmin(np.where(rests >= shape.share, rests, WHOLE + 1)))


class _DotProd(_Tightest):
    """The smaller the product of what is left and what is asked (CPU, GPU), the better.

    After R. Grandl et al., "Multi-resource packing for cluster schedulers" (Tetris), SIGCOMM 2014,
    turned round by the paper: the dot product is taken for waste, not for alignment.
    """

    def score(self, cluster: _Cluster, shape: _Shape, hosts: Ints) -> Ints:
        cpu = cluster.cpu[hosts] / cluster.most_cpu * (shape.cpu / cluster.most_cpu)
        asked = shape.share * shape.count / cluster.most_gpu
        gpu = cluster.left[hosts] / cluster.most_gpu * asked
        scores: Ints = (BEST * (1 - (cpu + gpu) / 2)).astype(np.int64)
        return scores


class _BestFit(_Tightest):
    """The less of CPU and GPU (equal weights) would be left on the host, the better."""

    def score(self, cluster: _Cluster, shape: _Shape, hosts: Ints) -> Ints:
        cpu = (cluster.cpu[hosts] - shape.cpu) / cluster.most_cpu
        gpu = (cluster.left[hosts] - shape.share * shape.count) / cluster.most_gpu
        scores: Ints = ((1 - (cpu * 0.5 + gpu * 0.5)) * BEST).astype(np.int64)
        return scores


class _GpuClustering(_Tightest):
    """Workloads of one kind (shares, one GPU, two GPUs, ...) are kept together.

    Four bands of 25: hosts with this kind only, with this kind among others, with no GPU workload,
    with other kinds only; within a band the host with the least left. After W. Xiao et al.,
    "Gandiva", OSDI 2018, as the paper has it.
    """

    def score(self, cluster: _Cluster, shape: _Shape, hosts: Ints) -> Ints:
        if not shape.count:
            return np.zeros(len(hosts), dtype=np.int64)
        kinds = cluster.kinds[hosts]
        number = kinds.sum(axis=1)
        same = kinds[:, shape.kind]
        band = np.select([same & (number == 1), same, number == 0], [3, 2, 1], 0)
        tight = 25 * (cluster.most_gpu - cluster.left[hosts]) // cluster.most_gpu
        scores: Ints = 25 * band + tight
        return scores


class _GpuPacking(_Tightest):
    """First devices that are shared already, then hosts that are used already, then idle hosts.

    After Q. Weng et al., "MLaaS in the Wild", NSDI 2022, as the paper has it. Scores from 50 to
    100: the rest of a shared device suffices, the smaller the better; from 33 to 50: untouched
    devices of a used host, the fewer the better; below: a host whose devices are all untouched,
    the fewer it has the better.
    """

    def score(self, cluster: _Cluster, shape: _Shape, hosts: Ints) -> Ints:
        if not shape.count:
            return np.zeros(len(hosts), dtype=np.int64)
        rests = cluster.gpu[hosts]
        tightest = np.where(rests >= shape.share, rests, WHOLE).min(axis=1)
        shared = np.maximum(BEST - tightest * 100 // WHOLE // 10, BEST // 2)
        used = max(BEST // 2 - shape.count, BEST // 3)
        whole = cluster.whole[hosts]
        idle = np.maximum(BEST // 3 - whole, whole)
        scores: Ints = np.select(
            [whole == cluster.devices[hosts], tightest == WHOLE], [idle, used], shared
        )
        return scores


class _Fgd:
    """Fragmentation gradient descent: the placement after which the fewest GPUs are fragments.

    The fragments of a host are, on the mean over the typical workloads, the rests of GPUs that
    such a workload could not use: all where the workload does not fit on the host or uses no GPU,
    else those of devices with less left than it asks of one (the paper, section 4). The score is
    ``100 / (1 + exp(-d))``, cut to a whole number, where ``d`` is by how many GPUs fragments
    shrink.

    With ``weight`` workloads that need ``share`` of ``count`` devices each and whose CPU suffices,
    fragments are ``left - sum(weight * usable) / sum(weight)``, so that only sums over classes of
    equal GPU need are wanted: ``usable`` are the rests of the devices with ``share`` or more left,
    where there are ``count`` of them.
    """

    ties_at_random = False

    def __init__(self, instance: Instance, cluster: _Cluster, shapes: Sequence[_Shape]) -> None:
        typical, self._total = _typical(instance, shapes)
        classes = list(dict.fromkeys(gpu for _cpu, gpu in typical if gpu.wanted))
        self._share = np.array([_share(gpu) for gpu in classes], dtype=np.int64)
        self._count = np.array([max(gpu.count, 1) for gpu in classes], dtype=np.int64)
        self._allowed = np.array(
            [
                [not gpu.models or model in gpu.models for gpu in classes]
                for model in cluster.models
            ],
            dtype=np.int64,
        ).reshape(len(cluster.models), len(classes))
        # weight[k, c]: workloads of class c that need at most the k-th smallest amount of CPU.
        self._steps = np.unique([cpu for cpu, gpu in typical if gpu.wanted]).astype(np.int64)
        weight = np.zeros((len(self._steps) + 1, len(classes)), dtype=np.int64)
        for (cpu, gpu), number in typical.items():
            if gpu.wanted:
                step = int(np.searchsorted(self._steps, cpu)) + 1
                weight[step, classes.index(gpu)] += number
        self._weight = weight.cumsum(axis=0)

    def score(self, cluster: _Cluster, shape: _Shape, hosts: Ints) -> Ints:
        scores: Ints = self._by_device(cluster, shape, hosts).max(axis=1)
        return scores

    def device(self, cluster: _Cluster, shape: _Shape, host: int) -> int:
        return int(self._by_device(cluster, shape, np.array([host])).argmax())

    def _by_device(self, cluster: _Cluster, shape: _Shape, hosts: Ints) -> Ints:
        """Scores by host and, where a part of one device is taken, by device."""
        rests = cluster.gpu[hosts][:, :, None]  # host, device, class
        suits = rests >= self._share
        number = suits.sum(axis=1)
        usable = (rests * suits).sum(axis=1)
        allowed = self._allowed[hosts]
        before = self._used(cluster.cpu[hosts], allowed, number, usable)
        if shape.shares:
            after = rests - shape.share
            suits_after = after >= self._share
            number = number[:, None] + suits_after - suits
            usable = usable[:, None] + after * suits_after - rests * suits
        else:
            number = (number - shape.count)[:, None]  # a whole device suits every class
            usable = (usable - shape.count * WHOLE)[:, None]
        cpu = (cluster.cpu[hosts] - shape.cpu)[:, None]
        used = self._used(cpu, allowed[:, None], number, usable)
        shrunk = shape.share * shape.count * self._total - (before[:, None] - used)
        # The logistic function by tanh: exact at 0, and never out of range.
        logistic = (1 + np.tanh(shrunk / (2 * WHOLE * self._total))) / 2
        scores: Ints = (BEST * logistic).astype(np.int64)
        if shape.shares:
            scores[cluster.gpu[hosts] < shape.share] = NOWHERE
        return scores

    def _used(self, cpu: Ints, allowed: Ints, number: Ints, usable: Ints) -> Ints:
        """What the typical workloads could use, summed over them; the last axis is the class."""
        weight = self._weight[np.searchsorted(self._steps, cpu, side="right")]
        used: Ints = (weight * allowed * (number >= self._count) * usable).sum(axis=-1)
        return used


def _typical(
    instance: Instance, shapes: Sequence[_Shape]
) -> tuple[Mapping[tuple[int, GpuNeed], int], int]:
    """The most frequent CPU and GPU needs, until 95 % of all workloads are covered; their sum."""
    found: Counter[tuple[int, GpuNeed]] = Counter()
    for workload, shape in zip(instance.workloads, shapes, strict=True):
        found[shape.cpu, workload.gpu] += workload.replicas
    typical: dict[tuple[int, GpuNeed], int] = {}
    covered = 0
    # Of equal frequency the larger need comes first, as in the paper's simulator.
    for (cpu, gpu), number in sorted(
        found.items(),
        key=lambda entry: (entry[1], entry[0][0], _share(entry[0][1]), entry[0][1].count),
        reverse=True,
    ):
        if covered >= TYPICAL * found.total():
            break
        typical[cpu, gpu] = number
        covered += number
    return typical, covered


_Maker = Callable[[Instance, _Cluster, Sequence[_Shape], "np.random.Generator"], _Policy]

_MAKERS: Mapping[str, _Maker] = {
    "random": lambda _instance, _cluster, _shapes, rng: _Random(rng),
    "dotprod": lambda *_: _DotProd(),
    "gpuclustering": lambda *_: _GpuClustering(),
    "gpupacking": lambda *_: _GpuPacking(),
    "bestfit": lambda *_: _BestFit(),
    "fgd": lambda instance, cluster, shapes, _rng: _Fgd(instance, cluster, shapes),
    "firstfit": lambda *_: _Same(),
}

POLICIES = tuple(_MAKERS)


def _check(instance: Instance, arrivals: Sequence[int]) -> None:
    """Refuse what the policies have no notion of. Raises PolicyError."""
    if "cpu" not in instance.resources:
        raise PolicyError("the published policies rank hosts by their CPU, but no cpu is planned")
    if not instance.hosts:
        raise PolicyError("there is no host")
    for host in instance.hosts:
        if len({device.model for device in host.devices}) > 1:
            raise PolicyError(f"host {host.name} mixes GPU models, which the policies cannot tell")
        if any(device.mig for device in host.devices):
            raise PolicyError(f"host {host.name} is in MIG mode, which the policies do not know")
    for workload in instance.workloads:
        if workload.gpu.profile or workload.gpu.memory_mib or workload.spread:
            raise PolicyError(
                f"workload {workload.name} asks for a MIG profile, for GPU memory or to be spread, "
                "which the policies do not know"
            )
    for index in arrivals:
        if not 0 <= index < len(instance.workloads):
            raise PolicyError(f"arrival {index} is none of {len(instance.workloads)} workloads")


def inflated(instance: Instance, demand: float, seed: int) -> tuple[int, ...]:
    """Arrivals that ask for ``demand`` times all GPUs, as indices into the workloads.

    Every replica once in random order, then replicas drawn with replacement until the next one
    would ask for too much (the paper, section 6); where already the replicas ask for more,
    random ones are left out. Raises PolicyError where that is impossible.
    """
    rng = np.random.default_rng(seed)
    if not 0 <= demand <= 100:
        raise PolicyError(f"demand {demand} is not from 0 to 100 times the GPUs there are")
    replicas = np.array([workload.replicas for workload in instance.workloads], dtype=np.int64)
    asked = np.array([_gpu_total(w.gpu) for w in instance.workloads], dtype=np.int64)
    gpus = sum(len(host.devices) for host in instance.hosts)
    wanted = round(demand * WHOLE * gpus)
    order = rng.permutation(np.repeat(np.arange(len(replicas)), replicas))
    if not gpus:
        raise PolicyError("no host has a GPU")
    if not (asked * replicas).any():
        raise PolicyError("no workload asks for a GPU")
    reached = asked[order].cumsum()
    if reached[-1] >= wanted:
        return tuple(order[: np.searchsorted(reached, wanted, side="right")].tolist())
    total = int(reached[-1])
    parts = [order]
    while True:
        drawn = rng.choice(order, size=len(order))
        reached = total + asked[drawn].cumsum()
        if reached[-1] > wanted:
            parts.append(drawn[: np.searchsorted(reached, wanted, side="right")])
            return tuple(np.concatenate(parts).tolist())
        parts.append(drawn)
        total = int(reached[-1])


def once(instance: Instance, seed: int) -> tuple[int, ...]:
    """Arrivals of every replica once, in random order, as indices into the workloads."""
    replicas = [workload.replicas for workload in instance.workloads]
    order = np.repeat(np.arange(len(replicas)), replicas)
    return tuple(np.random.default_rng(seed).permutation(order).tolist())


def known(instance: Instance, arrivals: Sequence[int]) -> Instance:
    """The same question where all that arrives is known beforehand."""
    numbers = Counter(arrivals)
    workloads = (
        replace(workload, replicas=numbers[index])
        for index, workload in enumerate(instance.workloads)
        if numbers[index]
    )
    return replace(instance, workloads=tuple(workloads))


def run(policy: str, instance: Instance, arrivals: Sequence[int], seed: int) -> Allocation:
    """Place what arrives, one after the other.

    ``arrivals`` are indices into ``instance.workloads``, whose replicas tell how frequent each
    workload is (FGD wants to know). ``seed`` draws the order of the hosts, and the choices of the
    policy ``random``. Raises PolicyError where the instance has what the policies do not know.
    """
    if policy not in _MAKERS:
        raise PolicyError(f"there is no policy {policy!r}; there are {', '.join(POLICIES)}")
    _check(instance, arrivals)
    # Not the stream that drew the arrivals: hosts and arrivals have nothing to do with each other.
    rng = np.random.default_rng((seed, 1))
    hosts = [instance.hosts[index] for index in rng.permutation(len(instance.hosts))]
    cpu = instance.resources.index("cpu")
    cluster = _Cluster(hosts, cpu)
    shapes = _shapes(instance, hosts, cpu)
    chosen = _MAKERS[policy](instance, cluster, shapes, rng)
    placed: list[Assignment] = []
    seen: Counter[int] = Counter()
    unplaced: Counter[str] = Counter()
    ranking = _Ranking(cluster, chosen, len(shapes))
    for index in arrivals:
        shape, workload = shapes[index], instance.workloads[index]
        replica, seen[index] = seen[index], seen[index] + 1
        scores = ranking.scores(index, shape)
        host = int(scores.argmax())
        if scores[host] == NOWHERE:
            unplaced[workload.name] += 1
            continue
        if chosen.ties_at_random:
            host = int(rng.choice(np.flatnonzero(scores == scores[host])))
        devices = _devices(cluster, chosen, shape, host)
        cluster.place(shape, host, devices)
        ranking.changed.append(host)
        placed.append(Assignment(workload.name, replica, hosts[host].name, tuple(devices.tolist())))
    asked = sum(_gpu_total(instance.workloads[index].gpu) for index in arrivals)
    return Allocation(
        policy=policy,
        placement=tuple(placed),
        unplaced=dict(unplaced),
        gpus=int(cluster.devices.sum()),
        gpus_asked=asked / WHOLE,
        gpus_placed=float(cluster.devices.sum() * WHOLE - cluster.left.sum()) / WHOLE,
    )


def _shapes(instance: Instance, hosts: Sequence[Host], cpu: int) -> list[_Shape]:
    models = [host.devices[0].model if host.devices else "" for host in hosts]
    demands = _thousandths([workload.demand for workload in instance.workloads])

    def allowed(workload: Workload) -> Bools:
        return np.array(
            [
                workload.tags <= host.tags
                and (workload.hosts is None or host.name in workload.hosts)
                and (not workload.gpu.models or model in workload.gpu.models)
                for host, model in zip(hosts, models, strict=True)
            ],
            dtype=bool,
        )

    return [
        _Shape(workload, demand, allowed(workload), cpu)
        for workload, demand in zip(instance.workloads, demands, strict=True)
    ]


def _devices(cluster: _Cluster, policy: _Policy, shape: _Shape, host: int) -> Ints:
    if shape.shares:
        return np.array([policy.device(cluster, shape, host)])
    return np.flatnonzero(cluster.gpu[host] == WHOLE)[: shape.count]


class _Ranking:
    """The score of every host for every shape, computed again only for hosts that changed."""

    def __init__(self, cluster: _Cluster, policy: _Policy, shapes: int) -> None:
        self.changed: list[int] = []
        self._cluster = cluster
        self._policy = policy
        self._scores: dict[int, Ints] = {}
        self._read = [0] * shapes

    def scores(self, index: int, shape: _Shape) -> Ints:
        """From 0 to 100 by host; NOWHERE where the workload does not fit."""
        if index in self._scores:
            stale = np.array(sorted(set(self.changed[self._read[index] :])), dtype=np.int64)
        else:
            self._scores[index] = np.full(len(self._cluster.models), NOWHERE)
            stale = np.arange(len(self._cluster.models))
        self._read[index] = len(self.changed)
        scores = self._scores[index]
        if len(stale):
            scores[stale] = NOWHERE
            suitable = stale[self._cluster.fits(shape, stale)]
            if len(suitable):
                scores[suitable] = self._policy.score(self._cluster, shape, suitable)
        return scores
