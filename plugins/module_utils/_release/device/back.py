# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Going back on a device: at once or at the deadline, written down first and finished by anybody.

A way back that was begun is one that is written down as due, so whoever is killed in it is
replaced by the timer of the device (``revert_expired``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Callable

from ..client import Interrupted
from ..errors import BusyError, MistakenError, RegistryError, UntrustedError
from .device import Device
from .orders import ACTIVATED, REVERTED
from .record import Clock, Record, SystemClock
from .store import CURRENT, PREVIOUS

PAUSE_SECONDS = 0.2


class GoingBack:
    """What a device does by itself, whoever started a rollout."""

    def __init__(
        self,
        device: Device,
        clock: Clock | None = None,
        pause: Callable[[float], None] = lambda _seconds: None,
        patience: float = 60.0,
    ) -> None:
        self.device = device
        self.store = device.store
        self._clock = clock or SystemClock()
        self._pause = pause
        self._patience = patience

    # -- by itself --------------------------------------------------------------------------

    def revert_expired(self) -> dict[str, str]:
        """Revert what was not committed in time; what was done, as a sentence, by model."""
        said: dict[str, str] = {}
        for model in self.store.models():
            if not self.store.armed(model):
                continue
            try:
                with self._locked():
                    record = self.store.record(model)
                    if record.phase != ACTIVATED:
                        # Killed between the record and the file ``armed``.
                        self.store.disarm(model)
                    elif record.expired(self._clock):
                        said[model] = self._expire(model, record)
            except (OSError, Interrupted, RegistryError) as error:
                said[model] = str(error)
        return said

    def point_back(self) -> None:
        """Before the model server starts: it is not to load what is to be reverted.

        The timer finishes it when the server is up.
        """
        for model in self.store.models():
            with contextlib.suppress(RegistryError), self._locked():
                record = self.store.record(model)
                current = self.store.linked(model, CURRENT)
                due = record.expired(self._clock) and current == record.digest != record.origin
                if due and (not record.origin or self.store.has(record.origin)):
                    self.store.switch(model, CURRENT, record.origin or None)

    # -- the way ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Wait for others to be done: the timer, or a step that was cut off and goes on here."""
        left = max(1, int(self._patience / PAUSE_SECONDS))
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(self.store.lock())
                    break
                except BusyError:
                    left -= 1
                    if not left:
                        raise
                    self._pause(PAUSE_SECONDS)
            yield

    def _expire(self, model: str, record: Record) -> str:
        """Go back as the deadline has passed; a way back that was begun has its own reason."""
        reason = record.reason or "It was not committed by its deadline."
        record = replace(record, reason=reason)
        return f"{self._was_reverted(record)} {self._back(model, record)}"

    def _back(self, model: str, record: Record) -> str:
        """Go back to what was served before, having written down that this is due."""
        record = replace(record, phase=ACTIVATED, deadline=0.0)
        self.store.arm(model)
        self.store.note(model, record)
        return self._finish(model, record)

    def _finish(self, model: str, record: Record) -> str:
        """Go back, or go on with it; say how that ended. Raises where it has to be tried again."""
        origin, said = record.origin, ""
        current = self.store.linked(model, CURRENT, present=False)
        if current not in (record.digest, origin or None):
            said = f"Another release ({current}) was activated here meanwhile and stays."
        elif record.digest != origin:
            if origin:
                origin, said = self._fit(model, origin)
            self.store.switch(model, CURRENT, origin or None)
            before = record.before if record.before not in (record.digest, origin) else ""
            there = bool(before) and self.store.has(before)
            self.store.switch(model, PREVIOUS, before if there else None)
            self._serve(model, origin)
            said = said or (
                f"The device went back to {origin}."
                if origin
                else "The device had no release before and serves nothing now."
            )
        reverted = replace(record, phase=REVERTED, deadline=0.0)
        self.store.note(model, reverted)
        self.store.disarm(model)
        self.device.drop_surplus()
        self.device.tell()
        return said or "The device served this release before the rollout and goes on with it."

    def _fit(self, model: str, origin: str) -> tuple[str, str]:
        """The release to go back to, mended if need be; none where it may not be served.

        Its counter is not looked at: this device has served it right before.
        """
        try:
            self.device.pull(origin, model)
        except (UntrustedError, MistakenError) as error:
            return "", f"The device serves nothing now; the release before may not be: {error}"
        except RegistryError:
            # Damaged and not to be had now: the server says itself what it cannot serve.
            return origin, ""
        return origin, ""

    def _serve(self, model: str, digest: str) -> None:
        failure = self.device.serve(model, digest)[0] if digest else self.device.let_go(model)
        if failure:
            raise RegistryError(
                f"Going back to {digest or 'nothing'} is written on the disk; the model server "
                f"has not followed yet ({failure.rstrip('.')}) and is asked again by the timer."
            )

    @staticmethod
    def _was_reverted(record: Record) -> str:
        return (
            f"This device has reverted the release {record.digest} in the rollout "
            f"{record.rollout}: {record.reason or 'it was told to'}"
        )
