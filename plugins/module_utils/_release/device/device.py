# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device and its releases: fetch by digest, verify, activate, go back when it does not work."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

from ..client import Interrupted, RegistryClient, Transport
from ..errors import DamagedError, MistakenError, RegistryError, UntrustedError
from ..oci import check_digest
from ..release import Release
from ..signature import Verdict, check_counter
from .fetch import Check, Fetcher, any_release
from .memory import with_failed, without
from .serving import Answers, HttpServing, Served, Serving
from .settings import Settings, read_text
from .source import Source
from .state import Done, Plan, State, plan
from .store import CURRENT, PREVIOUS, REFUSED, ReleaseStore
from .verify import Verifier, write_metrics

PAUSE_SECONDS = 0.5


class Device:
    """One device, with everything that varies passed in."""

    def __init__(
        self,
        store: ReleaseStore,
        source: Source,
        serving: Serving,
        keep: int,
        pause: Callable[[float], None] = lambda _seconds: None,
        patience: float = 60.0,
        free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
        metrics: Path | None = None,
    ) -> None:
        self.store = store
        self._source = source
        self._serving = serving
        self._keep = keep
        self._pause = pause
        self._patience = patience
        self._verifier = Verifier(store, source)
        self._fetcher = Fetcher(store, source, self._verifier, free)
        self._metrics = metrics

    # -- reading ----------------------------------------------------------------------------

    def look(self, patient: bool = True) -> Answers:
        """Ask the model server what it serves. One that is just starting is waited for."""
        for _attempt in range(int(self._patience / PAUSE_SECONDS) if patient else 1):
            try:
                answers = self._serving.look()
            except Interrupted:
                self._pause(PAUSE_SECONDS)
                continue
            self.store.single = answers.only is not None
            return answers
        if patient:
            raise RegistryError(
                "The model server of this device does not answer; look at "
                "journalctl -u mlops-model-serving. Nothing was changed."
            )
        return Answers({}, Served(None, failure="the model server does not answer"))

    def state(self, model: str, answers: Answers) -> State:
        """Look at links and releases of a model."""
        memory = self.store.memory(model)
        linked = {link: self.store.linked(model, link) for link in (CURRENT, PREVIOUS, REFUSED)}
        return State(
            model=model,
            current=linked[CURRENT],
            previous=linked[PREVIOUS],
            served=answers.of(model),
            releases=tuple(
                digest
                for digest in self.store.releases()
                if digest in linked.values() or self.store.model_of(digest) == model
            ),
            refused=linked[REFUSED],
            reason=memory.reason,
            highest=memory.highest,
        )

    def states(self, answers: Answers) -> list[State]:
        """Look at all models of the device."""
        return [self.state(model, answers) for model in self.store.models()]

    def wanted(self, model: str) -> str | None:
        """The release that a model is to have, also where it is gone from the disk."""
        current = self.store.linked(model, CURRENT, present=False)
        return current or self.store.linked(model, REFUSED, present=False)

    def verify(self, digest: str, model: str = "") -> Release:
        """Check a release on the disk from scratch: manifest, signature and every file."""
        return self.verified(digest, model)[0]

    def verified(self, digest: str, model: str) -> tuple[Release, Verdict]:
        """The same, with what its signature says."""
        return self._verifier.verified(digest, model)

    def damage(self, digest: str) -> str:
        """Say what of a release on the disk is not as it was fetched; nothing where all is well."""
        return self._verifier.damage(digest)

    def distrust(self, model: str) -> str:
        """Say why what is served of a model could not be verified; nothing where all is well.

        A release that is damaged is another matter: the model server sees it, and it is mended.
        """
        refused = self.store.linked(model, REFUSED, present=False)
        if refused is not None:
            current = self.store.linked(model, CURRENT)
            instead = f"{current} is served instead" if current else "nothing is served instead"
            return (
                f"The release {refused} of the model {model} was taken out of service, {instead}: "
                f"{self.store.memory(model).reason} Release one that a trusted key has signed."
            )
        digest = self.store.linked(model, CURRENT)
        if digest is None:
            return ""
        try:
            self._verifier.trusted(digest, model)
        except DamagedError:
            return ""
        except (UntrustedError, MistakenError) as error:
            return (
                f"The release {digest} of the model {model} is served and cannot be verified: "
                f"{error} The next start of the model server takes it out of service; release one "
                "that a trusted key has signed."
            )
        except RegistryError as error:
            return f"The release {digest} of the model {model} is served unverified: {error}"
        return ""

    def complaints(self) -> dict[str, str]:
        """What is wrong with the trust in what is served, by model; nothing where all is well."""
        return {model: self.distrust(model) for model in self.store.models()}

    # -- fetching ---------------------------------------------------------------------------

    def foresee(
        self, digest: str, state: State, activate: bool = True, rollback: bool = False
    ) -> tuple[Release, Plan]:
        """Judge a release as ``release`` would, and say what that would do; nothing is fetched."""
        damage = self.damage(digest) if digest in state.releases else ""
        wanted = plan(state, digest, activate, damage=damage)
        if wanted.pull or wanted.mend:
            found = self._source.find(digest, state.model, self._fetcher.fresh(digest))
            release, verdict = found.release, found.verdict
        else:
            release, verdict = self.verified(digest, state.model)
        if wanted.switch or wanted.reload:
            self.highest(digest, verdict, state.model, rollback)
        return release, wanted

    def pull(self, digest: str, model: str, check: Check = any_release) -> int:
        """Fetch and verify a release; return the bytes transferred (see ``Fetcher.pull``)."""
        return self._fetcher.pull(digest, model, check)

    @property
    def moved(self) -> int:
        """The bytes that were transferred since this device was opened."""
        return self._fetcher.moved

    # -- serving ----------------------------------------------------------------------------

    def activate(self, digest: str, state: State, rollback: bool = False) -> None:
        """Serve a release that is here; go back to the one before if that does not work."""
        model = state.model
        if state.current == digest and state.served.digest == digest:
            return
        self.admit(digest, state, rollback)
        earlier = state.previous
        if state.current != digest:
            back = state.current
            self.point(digest, state)
        else:
            back = state.previous if state.previous != digest else None
        failure, final = self.serve(model, digest)
        if not failure:
            return
        self.store.switch(model, CURRENT, back)
        self.store.switch(model, PREVIOUS, earlier if earlier not in (digest, back) else None)
        memory = self.store.memory(model)
        self.store.remember(model, replace(memory, failed=with_failed(memory.failed, digest)))
        end = self._back(model, back)
        if final and digest not in state.releases and digest not in self.store.all_linked():
            self.store.drop(digest)
        raise RegistryError(f"The release {digest} cannot be served ({failure.rstrip('.')}); {end}")

    def point(self, digest: str, state: State) -> None:
        """Make a release the current one of a model; the one before is then ``previous``."""
        if state.current is not None:
            self.store.switch(state.model, PREVIOUS, state.current)
        self.store.touch(digest)
        self.store.switch(state.model, CURRENT, digest)

    def _back(self, model: str, back: str | None) -> str:
        """Serve the release before again; say how that ended."""
        if back is None:
            return "this device has no earlier release to go back to."
        try:
            self.verified(back, model)
            again, _final = self.serve(model, back)
        except (Interrupted, RegistryError) as error:
            again = str(error)
        if again:
            return f"the device and going back to {back} failed too: {again}"
        return f"the device went back to {back}."

    def admit(self, digest: str, state: State, rollback: bool) -> None:
        """Refuse what is not verified or too old; remember its counter before it is served."""
        _release, verdict = self.verified(digest, state.model)
        highest = self.highest(digest, verdict, state.model, rollback)
        memory = replace(self.store.memory(state.model), highest=highest, unreadable="")
        self.store.remember(state.model, memory)

    def highest(self, digest: str, verdict: Verdict, model: str, rollback: bool) -> int:
        """Refuse a release that is older than one that was here; the counter to remember."""
        memory = self.store.memory(model)
        # What is to be served already is no step back, whatever came in between.
        allowed = rollback or digest == self.wanted(model)
        if memory.unreadable and not allowed:
            raise RegistryError(
                f"{memory.unreadable}. So it is not known which counter was the highest here; if "
                f"the release {digest} is the one that is meant, ask for going back (rollback)."
            )
        if verdict.claims is not None:
            return check_counter(verdict.claims, memory.highest, allowed)
        if memory.highest and not allowed:
            raise MistakenError(
                f"The release {digest} was signed without a counter, and this device has had one "
                f"with {memory.highest}; going back has to be asked for (rollback)."
            )
        return memory.highest

    def serve(self, model: str, digest: str) -> tuple[str, bool]:
        """Have the current release loaded: why that failed, and whether the server said so."""
        failure = ""
        try:
            for _attempt in range(3):
                try:
                    failure = self._serving.load(model)
                    break
                except Interrupted:
                    # Restarted meanwhile: it reads ``current`` by itself when it is up again.
                    failure = "the model server stopped answering"
                    self.look()
            if failure:
                return failure, True
            served = self._serving.look().of(model)
        except (Interrupted, RegistryError):
            # Also one that a release brings down again and again as it starts.
            return "the model server stopped answering", False
        if served.digest != digest:
            return served.failure or f"the model server still serves {served.digest}", True
        return "", True

    def let_go(self, model: str) -> str:
        """Have the server serve nothing of a model that has no release; why that failed."""
        try:
            return self._serving.unload(model)
        except Interrupted as error:
            return str(error)

    def ask(self, model: str, question: Any) -> tuple[int, Any]:
        """Ask what is served one question. May raise ``Interrupted``."""
        return self._serving.ask(model, question)

    def probe(self, model: str, question: Any) -> tuple[int, Any]:
        """Ask what is served one question that counts. May raise ``Interrupted``."""
        return self._serving.probe(model, question)

    # -- whole runs -------------------------------------------------------------------------

    def release(
        self, digest: str, activate: bool = True, model: str = "", rollback: bool = False
    ) -> Done:
        """Bring a model of the device to a release."""
        check_digest(digest)
        with self.store.lock():
            self.store.tidy(digest)
            answers = self.look(patient=activate)
            self.adopt(answers, model)
            model = self.name_of(digest, model)
            before = self.state(model, answers)
            damage = self.damage(digest) if digest in before.releases else ""
            wanted = plan(before, digest, activate, damage=damage)
            moved = 0
            try:
                if wanted.needed:
                    self.store.welcome(model)
                    moved = self.pull(digest, model)
                if activate:
                    self.activate(digest, before, rollback)
                    self.settle(model, digest)
            except Exception:
                self.store.part(model)
                raise
            surplus = self.drop_surplus()
            after = self.state(model, self.look(patient=False))
            self.tell()
        return Done(before, after, plan(before, digest, activate, surplus, damage), moved)

    def settle(self, model: str, digest: str) -> None:
        """A verified release is served: what was refused or failed before is of no use now."""
        memory = self.store.memory(model)
        if self.store.linked(model, REFUSED, present=False) is not None:
            self._verifier.trusted(digest, model)
            self.store.switch(model, REFUSED, None)
        calm = replace(memory, failed=without(memory.failed, digest), reason="")
        if not memory.unreadable and calm != memory:
            self.store.remember(model, calm)

    def drop_surplus(self) -> tuple[str, ...]:
        surplus = tuple(self.store.surplus(self._keep))
        for old in surplus:
            self.store.drop(old)
        self.store.tidy()
        return surplus

    def name_of(self, digest: str, model: str) -> str:
        """The model of a release: as its manifest says, here or in the registry."""
        found = self.store.model_of(digest)
        if not found:
            linked = [one for one in self.store.models() if self._links(one, digest)]
            found = model or (linked[0] if linked else "")
        if not found:
            found = self._source.find(digest, "", self._fetcher.fresh(digest)).release.model_name
        if model and found != model:
            raise MistakenError(
                f"The release {digest} is one of the model {found}, wanted {model}."
            )
        return found

    def _links(self, model: str, digest: str) -> bool:
        return digest in (
            self.store.linked(model, link, present=False) for link in (CURRENT, PREVIOUS, REFUSED)
        )

    def adopt(self, answers: Answers, model: str = "") -> bool:
        """Move the links of the layout for one model, if there are any and the server can follow.

        Whose they are is said by the manifest; where that is damaged, by the server, by the
        registry or by who asks.
        """
        if answers.only is not None or not self.store.old_links():
            return False
        digest = self.store.old_target()
        name = self.store.model_of(digest) if digest else ""
        if not name and digest is not None:
            served = [one for one, said in answers.models.items() if said.digest == digest]
            name = served[0] if served else model
        if not name and digest is not None:
            name = self._source.find(digest, "", fresh=False).release.model_name
        if name:
            self.store.adopt(name)
        return bool(name)

    def remove(self, model: str) -> bool:
        """Take a model and its releases from the device; say whether there was anything."""
        with self.store.lock():
            self.store.tidy()
            answers = self.look()
            self.adopt(answers)
            return self._remove(model, answers)

    def _remove(self, model: str, answers: Answers) -> bool:
        if not self.has(model, answers):
            return False
        if answers.only is not None:
            raise RegistryError(
                f"The model server of this device is of an earlier version and cannot let go of "
                f"the model {model}; run site.yml first, which brings the new one."
            )
        self.store.forget(model)
        failure = ""
        try:
            failure = self._serving.unload(model)
            if not failure and self._serving.look().of(model).digest is not None:
                failure = "it still serves it"
        except Interrupted as error:
            failure = str(error)
        if failure:
            raise RegistryError(
                f"The model {model} was taken from the disk; the model server did not let go of "
                f"it: {failure.rstrip('.')}. Restart mlops-model-serving."
            )
        self.drop_surplus()
        self.tell()
        return True

    def has(self, model: str, answers: Answers) -> bool:
        """Say whether anything of a model is here."""
        owners = {self.store.model_of(digest) for digest in self.store.releases()}
        known = model in self.store.models() or model in owners
        return known or answers.of(model).digest is not None

    def others(self, names: Collection[str], answers: Answers) -> list[str]:
        """The models of the device that are not among these names."""
        found = {*self.store.models(), *answers.models}
        found |= {self.store.model_of(digest) for digest in self.store.releases()}
        return sorted(found - set(names) - {""})

    def keep_only(self, names: Collection[str]) -> list[str]:
        """Remove every model but these; return those that were removed."""
        with self.store.lock():
            self.store.tidy()
            answers = self.look()
            self.adopt(answers)
            return [model for model in self.others(names, answers) if self._remove(model, answers)]

    # -- trust ------------------------------------------------------------------------------

    def guard(self) -> list[str]:
        """Before the model server starts: take out of service what may not be served.

        Nothing is removed. What cannot be judged now, such as where a command does not run, stays.
        """
        said = []
        with self.store.lock():
            self._adopt_offline()
            for model in self.store.models():
                digest = self.store.linked(model, CURRENT)
                if digest is None:
                    continue
                try:
                    self._verifier.trusted(digest, model)
                except DamagedError as error:
                    said.append(str(error))
                except (UntrustedError, MistakenError) as error:
                    self._refuse(model, digest, str(error))
                    said.append(self.distrust(model))
                except RegistryError as error:
                    said.append(f"The release {digest} of {model} was not verified: {error}")
            self.tell()
        return said

    def _adopt_offline(self) -> None:
        digest = self.store.old_target()
        name = self.store.model_of(digest) if digest else ""
        if name:
            self.store.adopt(name)

    def _refuse(self, model: str, digest: str, reason: str) -> None:
        """Set the current release aside; the one before takes its place if it can be verified."""
        self.store.switch(model, REFUSED, digest)
        self.store.remember(model, replace(self.store.memory(model), reason=reason, unreadable=""))
        previous = self.store.linked(model, PREVIOUS)
        if previous is not None:
            try:
                self._verifier.trusted(previous, model)
            except RegistryError:
                previous = None
        self.store.switch(model, CURRENT, previous)
        if previous is not None:
            self.store.switch(model, PREVIOUS, None)

    def tell(self) -> None:
        """Write down for the metrics whether what is served could be verified."""
        if self._metrics is not None and self._metrics.parent.is_dir():
            write_metrics(self._metrics, self.complaints())


def open_device(
    settings: Settings,
    transport: Transport,
    local: Transport,
    pause: Callable[[float], None],
    patience: float,
    read: Callable[[str], str] = read_text,
) -> Device:
    """Put a device together from its settings."""
    password = read(settings.password_file).strip() if settings.user else ""

    def client(repository: str) -> RegistryClient:
        return RegistryClient(
            settings.registry_url, repository, transport, settings.user, password, pause
        )

    return Device(
        store=ReleaseStore(Path(settings.root)),
        source=Source(settings.repository, client, settings.ring(read), settings.site),
        serving=HttpServing(settings.serving_url, local),
        keep=settings.keep,
        pause=pause,
        patience=patience,
        metrics=Path(settings.metrics_file) if settings.metrics_file else None,
    )
