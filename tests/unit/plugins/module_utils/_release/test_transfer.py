# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching under a cap: a link that is filled and never exceeded, over breaks and among devices."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import (
    Interrupted,
    RegistryClient,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.device import Device
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.orders import Order
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.rate import (
    Bucket,
    RatedTransport,
    rated,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.rollout import Rollouts
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.source import Source
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.store import ReleaseStore

from .conftest import MODEL, SITE, Bench, FakeAnswer, FakeServing

CAP = 4_000_000
DEVICES = 8
SIZE = 3_000_000


@dataclass
class Line:
    """The line of one device on a clock of its own: when how many bytes came.

    Reading takes a little time, and now and then the device does something else for a while.
    """

    chance: random.Random
    time: float = 0.0
    came: list[tuple[float, int]] = field(default_factory=list)
    breaks_at: int | None = None

    def clock(self) -> float:
        return self.time

    def pause(self, seconds: float) -> None:
        self.time += seconds + self.chance.uniform(0, 0.002)
        if self.chance.random() < 0.005:
            self.time += 0.3

    def over(self, answer: FakeAnswer) -> FakeAnswer:
        """The answer, with its bytes counted as they come."""
        read = answer.read

        def counted(size: int) -> bytes:
            total = sum(number for _time, number in self.came)
            if self.breaks_at is not None and total >= self.breaks_at:
                self.breaks_at = None
                raise Interrupted("the line is cut")
            data = read(size)
            self.time += len(data) / 100_000_000
            self.came.append((self.time, len(data)))
            return data

        answer.read = counted  # type: ignore[method-assign]
        return answer


def device_on(bench: Bench, line: Line, root: Path, rate: int) -> Rollouts:
    root.mkdir()
    bucket = Bucket(rate, line.clock, line.pause)

    def wire(
        method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> FakeAnswer:
        return line.over(bench.registry(method, url, headers, body))

    transport = RatedTransport(wire, bucket)

    def client(repository: str) -> RegistryClient:
        return RegistryClient(
            "https://registry", repository, transport, "pull", "secret", line.pause
        )

    store = ReleaseStore(root)
    source = Source("models", client, bench.ring, SITE)
    return Rollouts(Device(store, source, FakeServing(store), keep=3), lock_file=root / "none")


def most_in(came: list[tuple[float, int]], window: float) -> int:
    """The most bytes that came within any stretch of so many seconds."""
    most = number = start = 0
    for time, size in came:
        number += size
        while came[start][0] <= time - window:
            number -= came[start][1]
            start += 1
        most = max(most, number)
    return most


def test_eight_devices_fill_a_link_and_never_exceed_it(bench: Bench, tmp_path: Path) -> None:
    digest = bench.publish("1", model_onnx=random.Random(1).randbytes(SIZE))
    lines = [Line(random.Random(number)) for number in range(DEVICES)]
    for number, line in enumerate(lines):
        if number == 0:
            line.breaks_at = SIZE // 2
        rollouts = device_on(bench, line, tmp_path / f"device{number}", CAP // DEVICES)
        answer = rollouts.do(Order("stage", "r", 1, MODEL, digest))
        assert (answer.failure, answer.phase) == ("", "staged")
        # A break costs nothing twice.
        assert answer.moved < SIZE + 10_000
    together = sorted(one for line in lines for one in line.came)
    assert most_in(together, 1.0) <= CAP
    assert most_in(lines[0].came, 1.0) <= CAP // DEVICES
    last = min(line.time for line in lines)
    filled = sum(size for time, size in together if time <= last) / last / CAP
    assert filled >= 0.8


@pytest.mark.parametrize("rate", [32 * 1024, 1_000_000, 100_000_000])
def test_a_bucket_gives_its_rate_and_no_burst_after_a_rest(rate: int) -> None:
    line = Line(random.Random(0))
    bucket = Bucket(rate, line.clock, line.pause)
    taken = []
    for turn in range(400):
        if turn % 100 == 99:
            line.time += 60
        taken.append((line.clock(), bucket.take(256 * 1024)))
    assert most_in(taken, 1.0) <= rate


def test_without_a_cap_nothing_is_in_between(bench: Bench) -> None:
    assert rated(bench.registry, 0) is bench.registry
    assert isinstance(rated(bench.registry, 50_000), RatedTransport)


def test_bytes_that_did_not_come_are_not_paid_for() -> None:
    line = Line(random.Random(0))
    transport = RatedTransport(
        lambda *_arguments: FakeAnswer(200, b"x" * 10), Bucket(40_000, line.clock, line.pause)
    )
    answer = transport("GET", "https://registry/", {})
    assert answer.read(1000) == b"x" * 10
    before = line.time
    assert transport("GET", "https://registry/", {}).read(1000) == b"x" * 10
    assert line.time - before < 0.01
