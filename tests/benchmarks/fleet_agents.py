# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thousands of devices that fetch their orders, as coroutines of a process of their own.

What a device believes (``rules``), what it does next (``next_step``) and how it tells it
(``encoded``) is the code of the devices. TLS is real, with a certificate for each. Only the steps
themselves are not done: there is no model server behind.
"""

from __future__ import annotations

import asyncio
import random
import resource
import ssl
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.documents import (
    Signed,
    Target,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.rules import (
    Clock,
    Own,
    State,
    first,
    judge,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.agent import (
    encoded,
    next_step,
    wait,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.orders import (
    Answer,
    Gate,
)

from tests.benchmarks import channel_world as world

OLD = "sha256:" + "0" * 64
ENDS = {"stage": "staged", "activate": "activated", "commit": "committed", "revert": "reverted"}
BOUNDS = ("0.005", "0.01", "0.02", "0.04", "0.08", "0.16", "0.32", "0.64", "1.28", "+Inf")
HANDSHAKE_SECONDS = 60.0
MOST_TRIES = 12
AT_A_TIME = 50


@dataclass
class Fleet:
    """What all devices of a process share."""

    port: int
    ca_file: str
    root: Signed
    defects: dict[str, float]
    scale: float = 1.0
    random: random.Random = field(default_factory=lambda: random.Random(7))


@dataclass
class Phone:
    """One device. ``asked`` is how many requests it answers until it is looked at."""

    name: str
    ring: str
    certificate: str
    address: str
    asked: int
    state: State
    tag: str = ""
    document: Signed | None = None
    context: Resuming | None = None
    phases: dict[str, str] = field(default_factory=dict)
    served: str = OLD
    before: str = OLD
    ever: set[str] = field(default_factory=lambda: {OLD})
    requests: int = 0
    errors: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    counted: Counter[str] = field(default_factory=Counter)

    def metrics(self, model: str) -> str:
        """The lines of its metrics page that are sent."""
        of = f'model_name="{model}",model_version="{self.served[-3:]}"'
        well = self.requests - self.errors
        rows = [
            f'mlops_model_info{{{of},digest="{self.served}"}} 1',
            f'mlops_model_requests_total{{{of},outcome="ok"}} {well}',
            f'mlops_model_requests_total{{{of},outcome="error"}} {self.errors}',
        ]
        for number, bound in enumerate(BOUNDS, start=1):
            share = min(1.0, 0.5 + 0.06 * number)
            rows.append(
                f'mlops_model_request_seconds_bucket{{{of},le="{bound}"}} '
                f"{well if bound == '+Inf' else int(well * share)}"
            )
        for bucket in range(10):
            rows.append(f'mlops_model_predictions_total{{{of},bucket="{bucket}"}} {well // 10}')
        return "\n".join(rows) + "\n"

    def do(self, target: Target, fleet: Fleet) -> None:
        """The steps of one order."""
        for _number in range(4):
            phase = self.phases.get(target.rollout, "none")
            step = next_step(target.step, phase)
            if not step:
                return
            if step == "activate":
                self.before, self.served = self.served, target.digest
                self.ever.add(target.digest)
                self.requests = self.asked
                bad = fleet.defects.get(target.digest, 0.001)
                self.errors = sum(fleet.random.random() < bad for _one in range(self.asked))
            if step == "revert" and phase in ("activated", "committed"):
                self.served, self.requests, self.errors = self.before, self.asked, 0
            self.phases[target.rollout] = ENDS[step]
            gates = tuple(
                Gate(name, "PASS", f"The gate {name} has passed with what it measured.", {"n": 1.0})
                for name in ("signature", "load", "golden", "speed")
            )
            self.answers[target.model] = Answer(
                self.name, step, True, ENDS[step], self.served, gates, moved=14352
            )

    def told(self, targets: Sequence[Target], refusal: str) -> bytes:
        """Its state, as the agent writes it."""
        models = {}
        for target in targets:
            phase = self.phases.get(target.rollout, "none")
            answer = self.answers.get(target.model) or Answer(self.name, "look", True, phase)
            value = answer.to_json()
            value.update(phase=phase, served=self.served)
            models[target.model] = {
                "rollout": target.rollout,
                "generation": target.generation,
                "digest": target.digest,
                "step": target.step,
                "answer": value,
            }
        return encoded(
            {
                "format": 1,
                "name": self.name,
                "ring": self.ring,
                "at": time.time(),
                "synchronised": True,
                "root": self.state.root.version,
                "sequence": self.state.sequence,
                "expires": self.state.expires,
                "stale": False,
                "refusal": refusal,
                "lock": "",
                "certificate_expires": 0.0,
                "models": models,
                "metrics": "".join(self.metrics(target.model) for target in targets),
            }
        )


class Resuming(ssl.SSLContext):
    """A context that takes up the session of the contact before, as the agent does."""

    session: ssl.SSLSession | None = None

    def wrap_bio(self, *given: Any, **named: Any) -> ssl.SSLObject:
        return super().wrap_bio(*given, **{**named, "session": self.session})


class Line:
    """One connection of a device to the gateway."""

    def __init__(self, phone: Phone, fleet: Fleet) -> None:
        self._phone, self._fleet = phone, fleet

    async def __aenter__(self) -> Line:
        context = self._phone.context
        if context is None:
            context = Resuming(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(self._fleet.ca_file)
            context.load_cert_chain(self._phone.certificate)
            self._phone.context = context
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1",
            self._fleet.port,
            ssl=context,
            server_hostname="localhost",
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
            local_addr=(self._phone.address, 0),
        )
        self._phone.counted["contacts"] += 1
        return self

    async def __aexit__(self, *_error: object) -> None:
        line = self._writer.get_extra_info("ssl_object")
        if line is not None and self._phone.context is not None:
            self._phone.counted["resumed"] += int(line.session_reused or False)
            self._phone.context.session = line.session
        self._writer.transport.abort()

    async def ask(self, method: str, path: str, body: bytes = b"", tag: str = "") -> Any:
        """Status, headers and body of one request."""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
        if tag:
            head += f"If-None-Match: {tag}\r\n"
        if method == "PUT":
            head += f"Content-Length: {len(body)}\r\n"
        self._writer.write(head.encode() + b"\r\n" + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode("ascii")
        status, *rows = answer.split("\r\n")
        headers = dict(row.lower().split(": ", 1) for row in rows if row)
        size = int(headers.get("content-length", "0"))
        data = await self._reader.readexactly(size) if size else b""
        code = int(status.split()[1])
        if code >= 500 or code == 429:
            raise ConnectionError(f"HTTP {code}")
        return code, headers, data


async def fetched(line: Line, phone: Phone) -> tuple[Sequence[Target], str]:
    """What is ordered, as far as it is believed."""
    number = phone.state.root.version + 1
    assert (await line.ask("GET", f"/fleet/root/{number}.json"))[0] == 404
    path = f"/fleet/channel/{phone.ring}.json"
    code, headers, data = await line.ask("GET", path, tag=phone.tag)
    if code == 200:
        marks = (await line.ask("GET", path + ".sig"))[2]
        phone.document, phone.tag = Signed(data, marks), headers.get("etag", "")
        phone.counted["handed out"] += 2
    elif code != 304:
        return (), ""
    own = Own(world.SITE, phone.ring, world.CLASS)
    clock = Clock(world.NOW + 1, True)
    verdict = judge(phone.state, (), phone.document, clock, own, world.verify)
    phone.state = verdict.state
    if verdict.refusal is not None:
        phone.counted["refused"] += 1
    return (verdict.targets, verdict.refusal.sentence if verdict.refusal is not None else "")


async def tell(line: Line, phone: Phone, targets: Sequence[Target], refusal: str) -> None:
    code = (await line.ask("PUT", f"/fleet/state/{phone.name}", phone.told(targets, refusal)))[0]
    assert code in (201, 204), code
    phone.counted["told"] += 1


async def poll(phone: Phone, fleet: Fleet) -> None:
    """What ``Agent.poll`` does."""
    async with Line(phone, fleet) as line:
        targets, refusal = await fetched(line, phone)
        steps = {next_step(one.step, phone.phases.get(one.rollout, "none")) for one in targets}
        quick = steps <= {"", "commit", "revert"}
        if quick:
            for target in targets:
                phone.do(target, fleet)
            await tell(line, phone, targets, refusal)
            return
    for target in targets:
        phone.do(target, fleet)
    async with Line(phone, fleet) as line:
        await tell(line, phone, targets, refusal)


async def come(phone: Phone, fleet: Fleet) -> None:
    """Poll, and again where it does not work, as ``follow`` does."""
    for failures in range(1, MOST_TRIES):
        try:
            await poll(phone, fleet)
            return
        except (OSError, EOFError, asyncio.TimeoutError, ssl.SSLError) as error:
            phone.counted["tries"] += 1
            phone.counted[f"error {type(error).__name__}"] += 1
            await asyncio.sleep(wait(300.0, failures, fleet.random.random) * fleet.scale)
    phone.counted["lost"] += 1


async def everybody(phones: Sequence[Phone], fleet: Fleet, spread: float) -> float:
    """All at once, or spread over some seconds as their jitter does; how long it took.

    Those that are spread wait for one another as well: a machine that is busy makes them slower,
    and does not make a crowd of them.
    """
    started = time.monotonic()
    some = asyncio.Semaphore(AT_A_TIME if spread else len(phones))

    async def one(phone: Phone) -> None:
        async with some:
            await come(phone, fleet)

    async def after(phone: Phone, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await one(phone)

    await asyncio.gather(*(after(phone, fleet.random.random() * spread) for phone in phones))
    return time.monotonic() - started


def fleet_process(
    pipe: Connection,
    rows: Sequence[tuple[str, str, str, str, int]],
    port: int,
    ca_file: str,
    root: tuple[bytes, bytes],
    defects: dict[str, float],
    scale: float,
) -> None:
    """Be some devices; do what is said over the pipe until nothing is."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    begin = Signed(*root)
    fleet = Fleet(port, ca_file, begin, defects, scale)
    state = first(begin, world.SITE, world.verify)
    phones = [Phone(*row, state, requests=row[-1]) for row in rows]
    while True:
        asked: dict[str, Any] | None = pipe.recv()
        if asked is None:
            return
        chosen = [one for one in phones if not asked["rings"] or one.ring in asked["rings"]]
        for one in chosen:
            one.counted.clear()
        seconds = asyncio.run(everybody(chosen, fleet, asked["spread"]))
        counted: Counter[str] = Counter()
        for one in chosen:
            counted.update(one.counted)
        ever = Counter(digest for one in phones for digest in one.ever)
        served = Counter(one.served for one in phones)
        pipe.send(
            {
                "seconds": seconds,
                "devices": len(chosen),
                "counted": dict(counted),
                "ever": dict(ever),
                "served": dict(served),
            }
        )
