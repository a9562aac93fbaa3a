# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent of a device that fetches its orders: look, converge, tell, wait.

What it is ordered is judged by the rules of ``channel``, and done by the same code as a step that
is pushed over SSH. It knows no way of its own to change anything.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Protocol

from ..channel.documents import (
    MAX_CHANNEL_BYTES,
    MAX_ROOT_BYTES,
    MAX_SIGNATURES_BYTES,
    Channel,
    Signed,
    Target,
)
from ..channel.rules import MAX_CHAIN, STALE, UNSIGNED, Clock, Judgement, State
from ..client import Interrupted
from ..errors import BusyError, RegistryError
from .fleet import MAX_STATE_BYTES, Page
from .machine import machine
from .orders import (
    ACTIVATE,
    ACTIVATED,
    COMMIT,
    COMMITTED,
    LOOK,
    NONE,
    REVERT,
    STAGE,
    STAGED,
    Answer,
    Order,
)

FORMAT = 1
MEMORY = "agent.json"
RESETS = "agent.resets"
LOCK = "agent.lock"
IDLE_SECONDS = 300.0
AGAIN_SECONDS = 20.0
# Of a device that comes late to a ring that has passed: time enough to judge a release by itself.
CATCH_UP_SECONDS = 900.0
MOST_STEPS = 4
MOST_METRICS = 10 * 1024
MOST_SENTENCE = 300
# What the gates over a ring read of a device, and nothing else of the 200 series it has.
FAMILIES = (
    "mlops_model_requests_total",
    "mlops_model_request_seconds",
    "mlops_model_predictions_total",
    "mlops_model_info",
)


class Talk(Protocol):
    """One contact with the gateway."""

    def get(self, path: str, limit: int, tag: str = "") -> Page:
        """Fetch a page. May raise ``Interrupted``."""

    def put(self, path: str, body: bytes) -> Page:
        """Leave a page. May raise ``Interrupted``."""


class Believes(Protocol):
    """What a device believes, on its disk before it is used."""

    def state(self) -> State:
        """Return what is remembered."""

    def take(self, roots: Sequence[Signed], channel: Signed | None, clock: Clock) -> Judgement:
        """Judge what was fetched."""


class Steps(Protocol):
    """The rollouts of this device."""

    def do(self, order: Order) -> Answer:
        """Do one step."""

    def locked(self) -> str:
        """Why the operator or the device refuses; nothing where it does not."""

    def probe(self, model: str, digest: str, number: int) -> int:
        """Send golden requests to the release that is served; how many were sent."""

    def forget(self) -> None:
        """Forget how far an online key has driven the generations that no longer counts."""


@dataclass(frozen=True)
class Local:
    """What the agent is told of its device, each asked when it is needed."""

    clock: Callable[[], Clock]
    metrics: Callable[[], str]
    certificate_expires: Callable[[], float]
    machine: Callable[[], Mapping[str, Any]] = machine


def next_step(wanted: str, phase: str) -> str:
    """The step that leads from a phase to what is ordered; none where it is done.

    What this device has gone back from, by order or by its own judgement, it does not try again
    in the same rollout. One that comes late to a release which passed elsewhere still takes it
    through every gate of its own.
    """
    if wanted == REVERT:
        return REVERT if phase in (STAGED, ACTIVATED, COMMITTED) else ""
    ways = {NONE: STAGE, STAGED: ACTIVATE, ACTIVATED: COMMIT}
    ends = {STAGE: STAGED, ACTIVATE: ACTIVATED, COMMIT: COMMITTED}
    reached = (NONE, STAGED, ACTIVATED, COMMITTED)
    if phase not in reached or reached.index(phase) >= reached.index(ends[wanted]):
        return ""
    return ways[phase]


def order_of(target: Target, step: str) -> Order:
    """What a channel says of a model, as one step."""
    return Order(
        step=step,
        rollout=target.rollout,
        generation=target.generation,
        model=target.model,
        digest=target.digest,
        deadline=target.deadline or CATCH_UP_SECONDS,
        limits=dict(target.limits),
        rate=target.rate,
        rollback=target.rollback,
        counter=target.counter,
        size=target.size,
    )


def shorten(text: str, models: Sequence[str], most: int = MOST_METRICS) -> str:
    """The lines of a metrics page that judge a release, as long as they fit."""
    found: list[str] = []
    left = most
    for line in text.splitlines():
        if not line.startswith(FAMILIES) or "_created" in line.partition("{")[0]:
            continue
        if not any(f'model_name="{model}"' in line for model in models):
            continue
        left -= len(line) + 1
        if left < 0:
            return ""
        found.append(line)
    return "\n".join(found) + "\n" if found else ""


def wait(next_poll: float, failures: int, chance: Callable[[], float] = random.random) -> float:
    """Seconds until the next contact, a fifth more or less, so that no two devices keep step.

    After failures they are told apart further: those that lost the gateway at the same moment
    come back over a span that doubles, up to the idle one.
    """
    if failures:
        span = min(IDLE_SECONDS, AGAIN_SECONDS * 2.0 ** min(failures - 1, 8))
        return span * (0.25 + chance())
    return next_poll * (0.8 + 0.4 * chance())


class Agent:
    """The agent, with everything that varies passed in."""

    def __init__(
        self,
        name: str,
        ring: str,
        contact: Callable[[], AbstractContextManager[Talk]],
        believes: Believes,
        steps: Steps,
        local: Local,
        directory: Path,
        idle: float = IDLE_SECONDS,
    ) -> None:
        self._name = name
        self._ring = ring
        self._contact = contact
        self._believes = believes
        self._steps = steps
        self._local = local
        self._memory = directory / MEMORY
        self._resets = directory / RESETS
        self._lock = directory / LOCK
        self._page = Page(0)
        self._signatures = b""
        self._idle = idle
        self.next_poll = idle

    # -- a poll -----------------------------------------------------------------------------

    def poll(self) -> dict[str, Any]:
        """Fetch, do what is ordered, tell what came of it; return what was told.

        The connection is let go of while there is work that may take minutes. Committing and
        going back take none, and each new connection costs the gateway 2 ms.

        Raises:
            BusyError: Another process of this device is at it.
            Interrupted: The gateway cannot be reached; nothing has changed.
            RegistryError: It answers, but not as it should.
        """
        with self._alone():
            return self._poll()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """What is believed has one writer: the service, or a person who polls by hand."""
        with self._lock.open("a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise BusyError(
                    "Another poll of this device is under way; it tells what came of it."
                ) from None
            yield

    def _poll(self) -> dict[str, Any]:
        with self._contact() as talk:
            judgement = self._fetched(talk)
            self._forget(judgement.state.resets)
            work = self._work(judgement.channel)
            probes = self._probes(judgement.channel)
            if not work and not probes:
                return self._tell(talk, judgement)
            # A step may end the process or the power: what is ordered stands on the disk by now.
            if not probes and {step for _target, step in work} <= {COMMIT, REVERT}:
                self._converge(work)
                with contextlib.suppress(Interrupted):
                    return self._tell(talk, judgement)
        self._converge(work)
        self._probe(probes)
        with self._contact() as talk:
            return self._tell(talk, judgement)

    def _forget(self, resets: int) -> None:
        """Have a rotated key reset what the one before drove forward in the rollouts, too.

        That it was done is written down after it: a device that was killed in between does it
        twice, which changes nothing.
        """
        known = 0
        with contextlib.suppress(OSError, ValueError):
            known = int(self._resets.read_text(encoding="ascii"))
        if resets > known:
            self._steps.forget()
            fresh = self._resets.with_name(f".{RESETS}.new")
            fresh.write_text(f"{resets}\n", encoding="ascii")
            fresh.replace(self._resets)

    def _fetched(self, talk: Talk) -> Judgement:
        before = self._believes.state()
        roots = list(self._roots(talk, before.root.version))
        judgement = self._judged(roots, self._channel(talk))
        if judgement.refusal is not None and judgement.refusal.kind == UNSIGNED:
            # Document and signature are two files: we may have come between them.
            self._page = Page(0)
            judgement = self._judged([], self._channel(talk))
        channel = judgement.channel
        self.next_poll = float(channel.next_poll) if channel is not None else self._idle
        return judgement

    def _judged(self, roots: Sequence[Signed], channel: Signed | None) -> Judgement:
        return self._believes.take(roots, channel, self._local.clock())

    def _roots(self, talk: Talk, version: int) -> Iterator[Signed]:
        """The roots after the one that is trusted, one by one."""
        for number in range(version + 1, version + 1 + MAX_CHAIN):
            page = talk.get(f"/fleet/root/{number}.json", MAX_ROOT_BYTES)
            if page.status != 200:
                self._check(page, "root document", absent=True)
                return
            marks = talk.get(f"/fleet/root/{number}.json.sig", MAX_SIGNATURES_BYTES)
            self._check(marks, "signature of the root document")
            yield Signed(page.body, marks.body)

    def _channel(self, talk: Talk) -> Signed | None:
        """The channel of the ring; None where nobody has published one."""
        path = f"/fleet/channel/{self._ring}.json"
        page = talk.get(path, MAX_CHANNEL_BYTES, self._page.tag)
        if page.status == 304 and self._page.body:
            return Signed(self._page.body, self._signatures)
        if page.status == 404:
            return None
        self._check(page, "channel document")
        marks = talk.get(path + ".sig", MAX_SIGNATURES_BYTES)
        self._check(marks, "signature of the channel document")
        self._page, self._signatures = page, marks.body
        return Signed(page.body, marks.body)

    @staticmethod
    def _check(page: Page, what: str, absent: bool = False) -> None:
        if page.status == 200 or (absent and page.status == 404):
            return
        if page.status >= 500 or page.status == 429:
            raise Interrupted(f"HTTP {page.status} for the {what}")
        why = {
            400: "it does not accept this device's certificate",
            403: "it does not accept this device's certificate; enrol it again if it has expired",
            404: "it is not there",
        }.get(page.status, f"it answered HTTP {page.status}")
        raise RegistryError(f"The gateway did not hand out the {what}: {why}.")

    # -- doing what is ordered --------------------------------------------------------------

    def _look(self, target: Target) -> Answer:
        return self._steps.do(replace(order_of(target, LOOK), rate=0))

    def _work(self, channel: Channel | None) -> list[tuple[Target, str]]:
        """What is ordered and not done, and the step that comes next."""
        targets = channel.models if channel is not None else ()
        steps = [(one, next_step(one.step, self._look(one).phase)) for one in targets]
        return [(one, step) for one, step in steps if step]

    def _converge(self, work: Iterable[tuple[Target, str]]) -> None:
        for target, _step in work:
            self._go(target)

    def _go(self, target: Target) -> None:
        """Go step by step, as far as the order says and the device allows."""
        answer = self._look(target)
        for _number in range(MOST_STEPS):
            step = next_step(target.step, answer.phase)
            if not step:
                return
            before = answer.phase
            answer = self._steps.do(order_of(target, step))
            self._remember(target, answer)
            if answer.failure or answer.refused or answer.phase == before:
                return

    # -- asking itself ----------------------------------------------------------------------

    def _probes(self, channel: Channel | None) -> list[Target]:
        """The models of which golden requests are ordered now."""
        if channel is None:
            return []
        now = self._local.clock().now
        return [one for one in channel.models if one.probes and now < one.probe_until]

    def _probe(self, targets: Iterable[Target]) -> None:
        """Send golden requests where the device is on what it was ordered, and count them.

        That it could not is nothing to say: the requests that are not counted say it.
        """
        for target in targets:
            answer = self._look(target)
            if answer.served != target.digest or answer.phase not in (ACTIVATED, COMMITTED):
                continue
            sent = 0
            with contextlib.suppress(Interrupted, RegistryError, OSError):
                sent = self._steps.probe(target.model, target.digest, target.probes)
            known = self._recall()
            last = known.get(target.model) or {}
            if (last.get("rollout"), last.get("digest")) != (target.rollout, target.digest):
                last = {
                    "rollout": target.rollout,
                    "digest": target.digest,
                    "answer": answer.to_json(),
                }
            known[target.model] = {**last, "probes": int(last.get("probes") or 0) + sent}
            self._keep(known)

    # -- what came of it --------------------------------------------------------------------

    def _recall(self) -> dict[str, Any]:
        """The last answers by model, so that they are told again until there are others."""
        with contextlib.suppress(OSError, ValueError):
            value = json.loads(self._memory.read_bytes())
            if isinstance(value, dict):
                return value
        return {}

    def _remember(self, target: Target, answer: Answer) -> None:
        known = self._recall()
        value = answer.to_json()
        last = known.get(target.model) or {}
        same = last.get("rollout") == target.rollout and last.get("digest") == target.digest
        if same:
            # Gates of earlier steps stay; of two with one name the later one counts.
            gates = {gate["name"]: gate for gate in last["answer"]["gates"]}
            gates.update({gate["name"]: gate for gate in value["gates"]})
            value["gates"] = list(gates.values())
            value["moved"] += last["answer"]["moved"]
        known[target.model] = {
            "rollout": target.rollout,
            "digest": target.digest,
            "answer": value,
            **({"probes": last["probes"]} if same and "probes" in last else {}),
        }
        self._keep(known)

    def _keep(self, known: Mapping[str, Any]) -> None:
        fresh = self._memory.with_name(f".{MEMORY}.new")
        fresh.write_text(json.dumps(known, sort_keys=True), encoding="utf-8")
        fresh.replace(self._memory)

    def _told(self, target: Target) -> dict[str, Any]:
        """Where the device is with one model: the last answer, with what is true now."""
        now = self._look(target)
        last = self._recall().get(target.model) or {}
        same = last.get("rollout") == target.rollout and last.get("digest") == target.digest
        answer = dict(last["answer"]) if same else now.to_json()
        answer.update(phase=now.phase, served=now.served, reached=True)
        if not answer["failure"]:
            answer["failure"] = now.failure
        answer["failure"] = answer["failure"][:MOST_SENTENCE]
        answer["refused"] = answer["refused"][:MOST_SENTENCE]
        return {
            "rollout": target.rollout,
            "generation": target.generation,
            "digest": target.digest,
            "step": target.step,
            "answer": answer,
            "probes": int(last.get("probes") or 0) if same else 0,
        }

    def document(self, judgement: Judgement) -> dict[str, Any]:
        """The state of this device, as the control host reads it."""
        clock = self._local.clock()
        refusal = judgement.refusal
        targets = judgement.targets
        return {
            "format": FORMAT,
            "name": self._name,
            "ring": self._ring,
            "at": round(clock.now, 3),
            "synchronised": clock.synchronised,
            "root": judgement.state.root.version,
            "sequence": judgement.state.sequence,
            "expires": judgement.state.expires,
            "stale": refusal is not None and refusal.kind == STALE,
            "refusal": refusal.sentence[:MOST_SENTENCE] if refusal is not None else "",
            "lock": self._steps.locked()[:MOST_SENTENCE],
            "certificate_expires": self._local.certificate_expires(),
            "models": {target.model: self._told(target) for target in targets},
            "metrics": self._metrics([target.model for target in targets]),
            "machine": dict(self._local.machine()),
        }

    def _metrics(self, models: Sequence[str]) -> str:
        if not models:
            return ""
        try:
            return shorten(self._local.metrics(), models)
        except (Interrupted, RegistryError):
            return ""

    def _tell(self, talk: Talk, judgement: Judgement) -> dict[str, Any]:
        document = self.document(judgement)
        body = encoded(document)
        page = talk.put(f"/fleet/state/{self._name}", body)
        if page.status not in (200, 201, 204):
            self._check(Page(page.status), "place for the state of this device")
        return document


def encoded(document: Mapping[str, Any]) -> bytes:
    """A state as it is sent; what does not fit is left out, the longest first, and said so."""
    value = dict(document)
    body = json.dumps(value, sort_keys=True).encode()
    if len(body) > MAX_STATE_BYTES:
        value["metrics"] = ""
        value["left_out"] = ["metrics"]
        body = json.dumps(value, sort_keys=True).encode()
    if len(body) > MAX_STATE_BYTES:
        value["left_out"] = ["metrics", "gates"]
        value["models"] = {
            name: {**one, "answer": {**one["answer"], "gates": []}}
            for name, one in value["models"].items()
        }
        body = json.dumps(value, sort_keys=True).encode()
    if len(body) > MAX_STATE_BYTES:
        raise RegistryError(
            f"The state of this device has {len(body)} bytes, the gateway takes {MAX_STATE_BYTES}."
        )
    return body
