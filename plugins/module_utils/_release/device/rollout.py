# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A staged rollout on a device: one step of one model at a time, each safe to repeat after a kill.

Before a release is switched to, the file ``armed`` and then the record with the deadline are on
the disk. From then on the device goes back by itself (``back``): at once where its own gates fail,
and at the deadline where nobody commits, be it because the network, the controller or this process
is gone.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Callable

from ..client import Interrupted
from ..errors import (
    DamagedError,
    HeldError,
    MistakenError,
    RegistryError,
    UntrustedError,
)
from ..release import Release
from ..signature import Verdict
from ..web import WebTransport
from .back import PAUSE_SECONDS, GoingBack
from .device import Device, open_device
from .judge import Gauge, ServerGauge, failed_load, judge, memory_gate, read_golden
from .memory import with_failed
from .orders import (
    ACTIVATE,
    ACTIVATED,
    COMMIT,
    COMMITTED,
    FAIL,
    LOOK,
    NONE,
    PASS,
    REVERT,
    REVERTED,
    STAGE,
    STAGED,
    Answer,
    Gate,
    Order,
)
from .rate import rated
from .record import Clock, Record
from .settings import Settings
from .state import State
from .store import CURRENT, PREVIOUS

LOCK_FILE = "/etc/mlops/model_serving/rollout.lock"
LOCKED_STEPS = (STAGE, ACTIVATE)
MOST_REASON = 500
BUSY = (429, 503)
BUSY_TRIES = 10
PROBE_SECONDS = 20.0
# Requests may be images of some MiB each: a device writes and reads no more than this at a contact.
PROBE_BYTES = 32 * 1024 * 1024


class Rollouts(GoingBack):
    """The staged rollouts of one device."""

    def __init__(
        self,
        device: Device,
        host: str = "",
        clock: Clock | None = None,
        gauge: Gauge | None = None,
        lock_file: Path = Path(LOCK_FILE),
        pause: Callable[[float], None] = lambda _seconds: None,
        patience: float = 60.0,
    ) -> None:
        super().__init__(device, clock, pause, patience)
        self._host = host
        self._gauge = gauge or ServerGauge()
        self._lock_file = lock_file

    # -- orders -----------------------------------------------------------------------------

    def do(self, order: Order) -> Answer:
        """Do one step; whatever comes of it is an answer."""
        gates: list[Gate] = []
        refused = failure = ""
        before = self.device.moved
        steps = {
            STAGE: self._stage,
            ACTIVATE: self._activate,
            COMMIT: self._commit,
            REVERT: self._revert,
            LOOK: self._look,
        }
        try:
            order.check()
            steps[order.step](order, gates)
        except HeldError as error:
            refused = str(error)
        except RegistryError as error:
            failure = str(error)
        except (OSError, Interrupted) as error:
            failure = f"The step {order.step} did not work: {error}."
        return self._answer(order, gates, refused, failure, self.device.moved - before)

    def _answer(
        self, order: Order, gates: Sequence[Gate], refused: str, failure: str, moved: int = 0
    ) -> Answer:
        phase, served = NONE, ""
        try:
            phase = self._phase(order, self.store.record(order.model))
        except RegistryError as error:
            failure = failure or str(error)
        with contextlib.suppress(OSError, RegistryError):
            served = self.device.look(patient=False).of(order.model).digest or ""
        return Answer(
            self._host, order.step, True, phase, served, tuple(gates), refused, failure, moved
        )

    def _phase(self, order: Order, record: Record) -> str:
        """Where the device is with this rollout; what it is with another one is none of it.

        Who went back from another release to the one that the fleet went back to is there.
        """
        if record.rollout == order.rollout:
            return record.phase
        back = order.rollback and record.phase == REVERTED and record.digest != order.digest
        there = back and self.store.linked(order.model, CURRENT) == order.digest
        return COMMITTED if there else NONE

    def _heed(self, order: Order) -> Record:
        """Refuse an order of a controller that another one has replaced, and a locked device."""
        if order.step in LOCKED_STEPS:
            reason = self.locked()
            if reason:
                raise HeldError(reason)
        record = self.store.record(order.model)
        if order.generation < record.generation:
            raise HeldError(
                f"The order is of generation {order.generation} (rollout {order.rollout}), and "
                f"this device has seen {record.generation} (rollout {record.rollout}): another "
                "controller has taken over. Ask it for the state (rollout_action=status)."
            )
        return record

    def locked(self) -> str:
        """Why the operator or the safety logic of this device refuses; empty if nobody does."""
        try:
            text = self._lock_file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            text = f"it cannot be read: {error.strerror}"
        reason = " ".join(text.split())[:MOST_REASON] or "no reason is given"
        return f"The device is locked by {self._lock_file}: {reason}"

    # -- stage ------------------------------------------------------------------------------

    def _stage(self, order: Order, gates: list[Gate]) -> None:
        with self._locked():
            if self._staging(order) is None:
                return
        try:
            self.device.pull(order.digest, order.model, partial(_as_ordered, order))
        except (DamagedError, UntrustedError, MistakenError) as error:
            gates.append(Gate("signature", FAIL, str(error)))
            raise
        with self._locked():
            record = self._heed(order)
            if (record.rollout, record.digest) != (order.rollout, order.digest):
                raise HeldError(
                    f"While the release was fetched, the rollout {record.rollout} has taken over "
                    "this device."
                )
            self._judge_signature(order, gates)
            if record.phase == NONE:
                self.store.note(order.model, replace(record, phase=STAGED))
            self.device.drop_surplus()

    def _staging(self, order: Order) -> Record | None:
        """Write down what is about to be fetched; None where that is done and more."""
        record = self._heed(order)
        same = (record.rollout, record.digest) == (order.rollout, order.digest)
        if record.phase == ACTIVATED and not same:
            raise HeldError(
                f"The release {record.digest} of the rollout {record.rollout} is neither committed "
                "nor reverted on this device; order that first, or wait for its deadline."
            )
        if same and record.phase == REVERTED and order.generation == record.generation:
            raise RegistryError(self._was_reverted(record))
        self.device.adopt(self.device.look(patient=False), order.model)
        if same and record.phase in (ACTIVATED, COMMITTED):
            self.store.note(order.model, replace(record, generation=order.generation))
            return None
        phase = record.phase if same and record.phase == STAGED else NONE
        fresh = Record(order.rollout, order.generation, phase, order.digest)
        self.store.note(order.model, fresh)
        self.store.tidy(order.digest)
        return fresh

    def _judge_signature(self, order: Order, gates: list[Gate]) -> None:
        """Judge what is here as an activation would; raises where it would refuse."""
        try:
            release, verdict = self.device.verified(order.digest, order.model)
            _as_ordered(order, release, verdict)
            highest = self.device.highest(order.digest, verdict, order.model, order.rollback)
        except (DamagedError, UntrustedError, MistakenError) as error:
            gates.append(Gate("signature", FAIL, str(error)))
            raise
        counter = float(verdict.claims.counter) if verdict.claims is not None else 0.0
        said = "A trusted key has signed it for this site and model; every file has its digest."
        seen = {"highest_counter": float(highest)}
        gates.append(Gate("signature", PASS, said, {"counter": counter}, seen))

    # -- activate ---------------------------------------------------------------------------

    def _activate(self, order: Order, gates: list[Gate]) -> None:
        with self._locked():
            record = self._heed(order)
            if (record.rollout, record.digest) != (order.rollout, order.digest) or (
                record.phase == NONE
            ):
                raise RegistryError(
                    f"The release {order.digest} is not staged here in the rollout "
                    f"{order.rollout}; order the step stage first."
                )
            if record.phase == REVERTED:
                raise RegistryError(self._was_reverted(record))
            if record.expired(self._clock):
                raise RegistryError(self._expire(order.model, record))
            if record.phase == COMMITTED:
                return
            state = self.device.state(order.model, self.device.look())
            self._judge_signature(order, gates)
            self.device.admit(order.digest, state, order.rollback)
            record = self._armed(order, record, state)
            self._gauge.start()
            if state.current != order.digest:
                self.device.point(order.digest, state)
            failure, _final = self.device.serve(order.model, order.digest)
            growth = self._gauge.stop()
            if failure:
                gates.extend(failed_load(failure))
            else:
                if state.served.digest != order.digest and growth is not None:
                    record = replace(record, growth=growth)
                    self.store.note(order.model, record)
                gates.append(memory_gate(record.growth, order.limits))
                gates.extend(self._asked(order))
            wrong = [gate for gate in gates if gate.verdict == FAIL]
            if wrong:
                raise RegistryError(self._give_up(order.model, record, wrong))
            self.device.settle(order.model, order.digest)
            self.device.tell()

    def _armed(self, order: Order, record: Record, state: State) -> Record:
        """Arm the deadline before anything is switched; a repeated order moves none."""
        if record.phase == ACTIVATED:
            record = replace(record, generation=order.generation)
        else:
            record = replace(
                record,
                generation=order.generation,
                phase=ACTIVATED,
                origin=state.current or "",
                before=state.previous or "",
                deadline=self._clock.now() + order.deadline,
                boot=self._clock.boot(),
                until=self._clock.uptime() + order.deadline,
                seconds=order.deadline,
                reason="",
                growth=-1,
            )
        self.store.arm(order.model)
        self.store.note(order.model, record)
        return record

    def _asked(self, order: Order) -> Sequence[Gate]:
        def one(question: Any) -> tuple[int, Any]:
            for _attempt in range(BUSY_TRIES):
                status, answer = self.device.ask(order.model, question)
                if status not in BUSY:
                    break
                self._pause(PAUSE_SECONDS)
            return status, answer

        try:
            return judge(self.store.path(order.digest), order.limits, one)
        except Interrupted as error:
            said = f"The model server stopped answering golden requests: {error}."
            return (Gate("golden", FAIL, said),)

    def _give_up(self, model: str, record: Record, wrong: Sequence[Gate]) -> str:
        """Go back at once; the sentence that says why and how that ended."""
        reason = " ".join(gate.said for gate in wrong)
        memory = self.store.memory(model)
        failed = with_failed(memory.failed, record.digest)
        self.store.remember(model, replace(memory, failed=failed))
        return f"{reason} {self._back(model, replace(record, reason=reason))}"

    # -- commit and revert ------------------------------------------------------------------

    def _commit(self, order: Order, _gates: list[Gate]) -> None:
        with self._locked():
            record = self._heed(order)
            if (record.rollout, record.digest) != (order.rollout, order.digest):
                raise RegistryError(
                    f"There is nothing to commit: the release {order.digest} was not activated "
                    f"here in the rollout {order.rollout}."
                )
            if record.phase == COMMITTED:
                self.store.disarm(order.model)
                return
            if record.phase == REVERTED:
                raise RegistryError(self._was_reverted(record))
            if record.phase != ACTIVATED:
                raise RegistryError(
                    f"There is nothing to commit: the release {order.digest} is {record.phase} "
                    "here; order the step activate first."
                )
            if record.expired(self._clock):
                raise RegistryError(self._expire(order.model, record))
            served = self.device.look().of(order.model).digest
            if served != order.digest:
                raise RegistryError(
                    f"The release {order.digest} is not committed: the model server serves "
                    f"{served or 'none'}. Without a commit this device goes back at its deadline."
                )
            committed = replace(record, phase=COMMITTED, generation=order.generation)
            self.store.note(order.model, committed)
            self.store.disarm(order.model)
            self.device.drop_surplus()

    def _revert(self, order: Order, _gates: list[Gate]) -> None:
        with self._locked():
            record = self._heed(order)
            if record.rollout != order.rollout:
                # Never took part: what it serves is of no concern to this rollout.
                return
            if record.phase == REVERTED:
                return
            record = replace(record, generation=order.generation)
            if record.phase in (NONE, STAGED):
                self.store.note(order.model, replace(record, phase=REVERTED))
                self.device.drop_surplus()
                return
            self._back(order.model, replace(record, reason="It was told to."))

    def _look(self, order: Order, _gates: list[Gate]) -> None:
        """Everything that there is to say stands in every answer."""

    # -- by itself --------------------------------------------------------------------------

    def forget(self) -> None:
        """Let any controller lead again, where what the last one signed has no word any more."""
        for model in self.store.models():
            with self._locked():
                record = self.store.record(model)
                if record.generation:
                    self.store.note(model, replace(record, generation=0))

    def stands(self, order: Order) -> str:
        """Where this device is with a model, in lines: what a step may change."""
        links = [
            f"{link}: {self.store.linked(order.model, link, present=False) or 'none'}"
            for link in (CURRENT, PREVIOUS)
        ]
        try:
            record = self.store.record(order.model)
        except RegistryError as error:
            return "\n".join([str(error), *links, ""])
        about = [f"rollout: {record.rollout or 'none'}", f"generation: {record.generation}"]
        about += [f"phase: {record.phase}", f"release: {record.digest or 'none'}"]
        return "\n".join([*about, *links, ""])

    def status(self) -> dict[str, dict[str, Any]]:
        """Where every model of the device is with a rollout."""
        found = {}
        for model in self.store.models():
            try:
                record = self.store.record(model)
                expired = record.expired(self._clock)
                found[model] = {**record.to_json(), "expired": expired, "failure": ""}
            except RegistryError as error:
                found[model] = {"failure": str(error)}
        return found

    def probe(self, model: str, digest: str, number: int) -> int:
        """Ask the model server golden questions, as a client would; how many were asked.

        What comes of them is in what the server counts. Only where the release is the one that is
        served; no longer than the gateway is kept waiting for a word of this device, and with no
        more bytes of questions and answers than ``PROBE_BYTES``; one question is always asked.
        """
        if self.device.look(patient=False).of(model).digest != digest:
            return 0
        try:
            cases = read_golden(self.store.path(digest)).cases
        except (OSError, ValueError, TypeError, KeyError):
            return 0
        until = self._clock.uptime() + PROBE_SECONDS
        asked, left = 0, PROBE_BYTES
        while cases and asked < number and left > 0 and self._clock.uptime() < until:
            question = cases[asked % len(cases)]["request"]
            answer = self.device.probe(model, question)
            left -= len(json.dumps([question, answer[1]]))
            asked += 1
        return asked

    # -- check mode -------------------------------------------------------------------------

    def foresee(self, order: Order) -> tuple[Answer, bool]:
        """Say what a step would come to and whether it changes anything; changes nothing."""
        gates: list[Gate] = []
        refused = failure = ""
        changed = False
        try:
            order.check()
            record = self._heed(order)
            changed = self._changes(order, record)
            if order.step == STAGE and changed:
                state = self.device.state(order.model, self.device.look(patient=False))
                self.device.foresee(order.digest, state, activate=True, rollback=order.rollback)
        except HeldError as error:
            refused, changed = str(error), False
        except (DamagedError, UntrustedError, MistakenError) as error:
            gates.append(Gate("signature", FAIL, str(error)))
            failure, changed = str(error), False
        except RegistryError as error:
            failure, changed = str(error), False
        except (OSError, Interrupted) as error:
            failure, changed = f"The step {order.step} would not work: {error}.", False
        return self._answer(order, gates, refused, failure), changed

    @staticmethod
    def _changes(order: Order, record: Record) -> bool:
        same = (record.rollout, record.digest) == (order.rollout, order.digest)
        phase = record.phase if same else NONE
        wanted = {
            STAGE: (NONE, REVERTED),
            ACTIVATE: (STAGED,),
            COMMIT: (ACTIVATED,),
            REVERT: (STAGED, ACTIVATED, COMMITTED),
        }
        return phase in wanted.get(order.step, ())


def _as_ordered(order: Order, release: Release, verdict: Verdict) -> None:
    """Refuse a release of which the order said something else."""
    claims = verdict.claims
    order.check_release(claims.counter if claims is not None else 0, release.size)


def open_rollouts(
    settings: Settings,
    host: str = "",
    rate: int = 0,
    timeout: float = 60.0,
    lock_file: str = LOCK_FILE,
) -> Rollouts:
    """Put everything together from the settings of the device."""
    device = open_device(
        settings,
        rated(WebTransport(settings.ca_file), rate),
        WebTransport(timeout=timeout),
        time.sleep,
        timeout,
    )
    return Rollouts(device, host, lock_file=Path(lock_file), pause=time.sleep, patience=timeout)
