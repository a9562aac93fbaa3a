# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device and its releases: fetch by digest, verify, activate, go back when it does not work."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable

from ..client import Interrupted, RegistryClient, Transport
from ..errors import DamagedError, MistakenError, RegistryError, UntrustedError
from ..oci import check_digest, digest_of
from ..release import MANIFEST_FILE, Release, parse_release
from ..signature import Verdict, check_counter
from .memory import with_failed, without
from .serving import Answers, HttpServing, Served, Serving
from .settings import Settings, read_text
from .source import Pairs, Source, check_model, evaluation_of, read_pairs
from .store import CURRENT, PREVIOUS, REFUSED, PartialFile, ReleaseStore, digest_of_file

SIGNATURE_FILE, EVALUATION_FILE = "signature.json", "evaluation.json"
PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class State:
    """One model of the device as it is.

    ``refused`` is what was served and may not be served any longer, and ``reason`` why.
    """

    model: str
    current: str | None
    previous: str | None
    served: Served
    releases: tuple[str, ...]
    refused: str | None = None
    reason: str = ""
    highest: int = 0


@dataclass(frozen=True)
class Plan:
    """What has to happen until the wanted release is served."""

    pull: bool
    switch: bool
    reload: bool
    drop: tuple[str, ...] = field(default=())
    mend: str = ""

    @property
    def needed(self) -> bool:
        """Say whether anything changes."""
        return self.pull or self.switch or self.reload or bool(self.drop) or bool(self.mend)


@dataclass(frozen=True)
class Done:
    """What a run came to: the model before and after, what was done, bytes transferred."""

    before: State
    after: State
    done: Plan
    moved: int


Check = Callable[[Release, Verdict], None]
"""Refuses what a trusted key has signed, for a reason of the one who asks for it."""


def _any(_release: Release, _verdict: Verdict) -> None:
    """Take whatever a trusted key has signed."""


def plan(
    state: State,
    wanted: str,
    activate: bool = True,
    surplus: tuple[str, ...] = (),
    damage: str = "",
) -> Plan:
    """Compare a model with what is wanted; ``damage`` says what is wrong with its files."""
    return Plan(
        pull=wanted not in state.releases,
        switch=activate and state.current != wanted,
        reload=activate and state.served.digest != wanted,
        drop=surplus,
        mend=damage,
    )


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
        self._free = free
        self._metrics = metrics
        self.moved = 0

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
        release, verdict = self._trusted(digest, model)
        self._check_files(release)
        return release, verdict

    def _trusted(self, digest: str, model: str) -> tuple[Release, Verdict]:
        """Check manifest and signature of a release on the disk, not its other files."""
        release, pairs = self._read(digest)
        verdict = self._source.judge(digest, pairs, model or release.model_name)
        check_model(release, model, verdict)
        return release, verdict

    def damage(self, digest: str) -> str:
        """Say what of a release on the disk is not as it was fetched; nothing where all is well."""
        try:
            release, _pairs = self._read(digest)
            self._check_files(release)
        except DamagedError as error:
            return str(error)
        if self.store.misplaced(digest):
            return f"The files in {self.store.path(digest)} have other modes or another group."
        return ""

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
            self._trusted(digest, model)
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

    def _read(self, digest: str) -> tuple[Release, Pairs]:
        """The manifest of a release on the disk, of the right digest, and its signatures."""
        place = self.store.path(digest)
        try:
            manifest = (place / MANIFEST_FILE).read_bytes()
            pairs = read_pairs((place / SIGNATURE_FILE).read_bytes())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedError(
                f"The release in {place} cannot be read: {type(error).__name__}: {error}."
            ) from None
        if digest_of(manifest) != digest:
            raise DamagedError(
                f"The release in {place} was tampered with: its manifest has the digest "
                f"{digest_of(manifest)}."
            )
        return parse_release(manifest), pairs

    def _check_files(self, release: Release) -> None:
        place = self.store.path(release.digest)
        for name, layer in release.files.items():
            try:
                found = digest_of_file(place / name)
            except OSError as error:
                raise DamagedError(f"The file {place / name} cannot be read: {error}.") from None
            if found != layer.digest:
                raise DamagedError(
                    f"The file {place / name} was tampered with: found the digest "
                    f"{found}, the manifest says {layer.digest}."
                )

    # -- fetching ---------------------------------------------------------------------------

    def foresee(
        self, digest: str, state: State, activate: bool = True, rollback: bool = False
    ) -> tuple[Release, Plan]:
        """Judge a release as ``release`` would, and say what that would do; nothing is fetched."""
        damage = self.damage(digest) if digest in state.releases else ""
        wanted = plan(state, digest, activate, damage=damage)
        if wanted.pull or wanted.mend:
            found = self._source.find(digest, state.model, self._fresh(digest))
            release, verdict = found.release, found.verdict
        else:
            release, verdict = self.verified(digest, state.model)
        if wanted.switch or wanted.reload:
            self.highest(digest, verdict, state.model, rollback)
        return release, wanted

    def _fresh(self, digest: str) -> bool:
        """Whether a release is new to this device, so that its signature has to say everything."""
        return not self.store.has(digest) and digest not in self.store.all_linked()

    def pull(self, digest: str, model: str, check: Check = _any) -> int:
        """Fetch and verify a release; return the bytes transferred. Goes on after a break.

        What is here and good is kept. What is here and damaged stays until what replaces it is
        complete and verified. ``check`` may refuse what is signed, before anything is fetched.
        """
        if not self.store.has(digest):
            return self._fetch(digest, model, check)
        try:
            release, verdict = self.verified(digest, model)
        except (DamagedError, UntrustedError, MistakenError) as error:
            try:
                return self._fetch(digest, model, check)
            except RegistryError as other:
                raise type(error)(f"{error} It was left as it is: {other}") from None
        check(release, verdict)
        self.store.give(digest)
        return 0

    def _fetch(self, digest: str, model: str, check: Check) -> int:
        with self.store.fetching():
            return self._fetched(digest, model, check)

    def _fetched(self, digest: str, model: str, check: Check) -> int:
        found = self._source.find(digest, model, self._fresh(digest))
        release = found.release
        check(release, found.verdict)
        place = self.store.begin(digest)
        for name, layer in release.files.items():
            self.store.share(digest, name, layer)
        have = sum(path.stat().st_size for path in place.iterdir())
        free = self._free(place)
        if release.size - have > free:
            raise RegistryError(
                f"The release {digest} needs {release.size - have} bytes in {self.store.root}, "
                f"{free} are free; keep fewer releases (model_serving_releases_kept)."
            )
        before = self.moved
        for name, layer in release.files.items():
            found.client.blob(layer, PartialFile(place / name, self._count), name)
        (place / MANIFEST_FILE).write_bytes(found.manifest)
        (place / SIGNATURE_FILE).write_bytes(found.signature)
        names = [*release.files, MANIFEST_FILE, SIGNATURE_FILE]
        evaluation = evaluation_of(found)
        if evaluation and EVALUATION_FILE not in release.files:
            (place / EVALUATION_FILE).write_bytes(evaluation)
            names.append(EVALUATION_FILE)
        if self.store.has(digest):
            self.store.replace(digest, names)
        else:
            self.store.complete(digest, names)
        return self.moved - before

    def _count(self, size: int) -> None:
        """Bytes count also where the transfer breaks off."""
        self.moved += size

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
            self._trusted(digest, model)
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
            found = self._source.find(digest, "", self._fresh(digest)).release.model_name
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
                    self._trusted(digest, model)
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
                self._trusted(previous, model)
            except RegistryError:
                previous = None
        self.store.switch(model, CURRENT, previous)
        if previous is not None:
            self.store.switch(model, PREVIOUS, None)

    def tell(self) -> None:
        """Write down for the metrics whether what is served could be verified."""
        if self._metrics is not None and self._metrics.parent.is_dir():
            write_metrics(self._metrics, self.complaints())


def write_metrics(path: Path, complaints: Mapping[str, str]) -> None:
    """Write the metrics that nginx hands to Prometheus."""
    name = "mlops_release_verified"
    lines = [
        f"# HELP {name} 1 where the release that a model is to serve is signed by a trusted key.",
        f"# TYPE {name} gauge",
        *(
            f'{name}{{model_name="{model}"}} {0 if complaint else 1}'
            for model, complaint in sorted(complaints.items())
        ),
    ]
    text = "\n".join(lines) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(0o644)
    fresh.replace(path)


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


def describe(state: State) -> Mapping[str, Any]:
    """Return the state of a model as plain data."""
    return {
        "current": state.current,
        "previous": state.previous,
        "served": state.served.digest,
        "model_name": state.served.model_name or state.model or None,
        "model_version": state.served.model_version or None,
        "releases": list(state.releases),
        "refused": state.refused,
        "reason": state.reason,
        "counter": state.highest,
    }
