# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device and its releases: fetch by digest, verify, activate, go back when it does not work."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Protocol

from ..client import Interrupted, RegistryClient, Transport
from ..errors import DamagedError, RegistryError, UntrustedError
from ..oci import canonical, check_digest, digest_of
from ..openssl import verifier
from ..release import MANIFEST_FILE, Release, parse_release
from ..signature import Verify, check_payload, signature_tag, signatures
from .store import READ_BYTES, PartialFile, ReleaseStore

SIGNATURE_FILE = "signature.json"
SETTINGS_FILE = "/etc/mlops/model_serving/release.json"
PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class Settings:
    """What the role wrote down on the device."""

    registry_url: str
    repository: str
    user: str
    password_file: str
    ca_file: str
    public_key_file: str
    root: str
    serving_url: str
    keep: int

    @classmethod
    def parse(cls, data: bytes, where: str) -> Settings:
        """Read the settings, naming what is wrong with them."""
        try:
            value: Any = json.loads(data)
        except ValueError as error:
            raise RegistryError(f"{where}: this is not JSON ({error}).") from None
        if not isinstance(value, dict):
            raise RegistryError(f"{where}: wanted a mapping.")
        fields: dict[str, Any] = {}
        for name in cls.__dataclass_fields__:
            kind = int if name == "keep" else str
            if not isinstance(value.get(name), kind):
                raise RegistryError(f"{where}: {name} is missing or not {kind.__name__}.")
            fields[name] = value[name]
        return cls(**fields)


@dataclass(frozen=True)
class Served:
    """What the model server says it serves."""

    digest: str | None
    model_name: str = ""
    model_version: str = ""
    failure: str = ""


@dataclass(frozen=True)
class State:
    """The device as it is."""

    current: str | None
    previous: str | None
    served: Served
    releases: tuple[str, ...]


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


class Serving(Protocol):
    """The model server of the device."""

    def served(self) -> Served:
        """May raise ``Interrupted`` when the server does not answer."""

    def reload(self, model_name: str) -> str:
        """Serve what is current; return why that did not work, or nothing."""


class HttpServing:
    """The model server, asked over loopback."""

    def __init__(self, url: str, transport: Transport) -> None:
        self._url = url.rstrip("/")
        self._transport = transport

    def _ask(self, method: str, path: str) -> tuple[int, Any]:
        answer = self._transport(
            method,
            self._url + path,
            {"accept": "application/json"},
            b"" if method == "POST" else None,
        )
        data = b""
        while True:
            part = answer.read(READ_BYTES)
            if not part:
                break
            data += part
        answer.close()
        try:
            return answer.status, json.loads(data)
        except ValueError:
            return answer.status, {}

    def served(self) -> Served:
        status, value = self._ask("GET", "/release")
        if status != 200:
            raise Interrupted(f"HTTP {status}")
        return Served(
            digest=value.get("digest"),
            model_name=value.get("model_name") or "",
            model_version=value.get("model_version") or "",
            failure=value.get("failure") or "",
        )

    def reload(self, model_name: str) -> str:
        status, value = self._ask("POST", f"/v2/repository/models/{model_name}/load")
        if status == 200:
            return ""
        try:
            reason = self.served().failure
        except Interrupted:
            reason = ""
        return reason or str(value.get("error") or f"the model server answered HTTP {status}")


def plan(
    state: State,
    wanted: str,
    activate: bool = True,
    surplus: tuple[str, ...] = (),
    damage: str = "",
) -> Plan:
    """Compare the device with what is wanted; ``damage`` says what is wrong with its files."""
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
        client: RegistryClient,
        serving: Serving,
        verify: Verify,
        keep: int,
        pause: Callable[[float], None] = lambda _seconds: None,
        patience: float = 60.0,
        free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        self.store = store
        self._client = client
        self._serving = serving
        self._verify = verify
        self._keep = keep
        self._pause = pause
        self._patience = patience
        self._free = free

    # -- reading ----------------------------------------------------------------------------

    def state(self, patient: bool = True) -> State:
        """Look at links, releases and server. A server that is just starting is waited for."""
        served = Served(None, failure="the model server does not answer")
        for _attempt in range(int(self._patience / PAUSE_SECONDS) if patient else 1):
            try:
                served = self._serving.served()
                break
            except Interrupted:
                self._pause(PAUSE_SECONDS)
        else:
            if patient:
                raise RegistryError(
                    "The model server of this device does not answer; look at "
                    "journalctl -u mlops-model-serving. Nothing was changed."
                )
        return State(
            current=self.store.linked("current"),
            previous=self.store.linked("previous"),
            served=served,
            releases=tuple(self.store.releases()),
        )

    def _check_signature(self, digest: str, pairs: list[tuple[bytes, bytes]]) -> None:
        if not pairs:
            raise UntrustedError(f"The release {digest} is not signed.")
        for payload, signature in pairs:
            if self._verify(payload, signature):
                check_payload(payload, digest)
                return
        raise UntrustedError(
            f"The signature of the release {digest} was not made with the key that this device "
            "trusts."
        )

    def inspect(self, digest: str) -> tuple[Release, bytes, bytes]:
        """Ask the registry for a release and judge it before a single file is fetched.

        Returns the release, its manifest and its signature file.
        """
        manifest = self._client.manifest(check_digest(digest))
        if manifest is None:
            raise RegistryError(
                f"The registry holds no release {digest} in {self._client.reference}."
            )
        stored = self._client.manifest(signature_tag(digest))
        pairs = [
            (self._client.small_blob(blob), signature)
            for blob, signature in (signatures(stored) if stored is not None else ())
        ]
        self._check_signature(digest, pairs)
        text = canonical(
            [
                {
                    "payload": base64.b64encode(payload).decode(),
                    "signature": base64.b64encode(signature).decode(),
                }
                for payload, signature in pairs
            ]
        )
        return parse_release(manifest), manifest, text

    def verify(self, digest: str) -> Release:
        """Check a release on the disk from scratch: manifest, signature and every file."""
        release, pairs = self._read(digest)
        self._check_signature(digest, pairs)
        self._check_files(release)
        return release

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

    def _read(self, digest: str) -> tuple[Release, list[tuple[bytes, bytes]]]:
        """The manifest of a release on the disk, of the right digest, and its signatures."""
        place = self.store.path(digest)
        try:
            manifest = (place / MANIFEST_FILE).read_bytes()
            entries = json.loads((place / SIGNATURE_FILE).read_bytes())
            pairs = [
                (base64.b64decode(entry["payload"]), base64.b64decode(entry["signature"]))
                for entry in entries
            ]
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
            hasher = hashlib.sha256()
            try:
                with (place / name).open("rb") as stream:
                    while True:
                        data = stream.read(READ_BYTES)
                        if not data:
                            break
                        hasher.update(data)
            except OSError as error:
                raise DamagedError(f"The file {place / name} cannot be read: {error}.") from None
            if "sha256:" + hasher.hexdigest() != layer.digest:
                raise DamagedError(
                    f"The file {place / name} was tampered with: found the digest "
                    f"sha256:{hasher.hexdigest()}, the manifest says {layer.digest}."
                )

    # -- changing ---------------------------------------------------------------------------

    def pull(self, digest: str) -> int:
        """Fetch and verify a release; return the bytes transferred. Goes on after a break.

        What is here and good is kept. What is here and damaged stays until what replaces it is
        complete and verified.
        """
        here = self.store.has(digest)
        if here:
            try:
                self.verify(digest)
                self.store.give(digest)
                return 0
            except (DamagedError, UntrustedError) as error:
                try:
                    return self._fetch(digest)
                except RegistryError as other:
                    raise type(error)(f"{error} It was left as it is: {other}") from None
        return self._fetch(digest)

    def _fetch(self, digest: str) -> int:
        release, manifest, signature = self.inspect(digest)
        place = self.store.begin(digest)
        have = sum(path.stat().st_size for path in place.iterdir())
        free = self._free(place)
        if release.size - have > free:
            raise RegistryError(
                f"The release {digest} needs {release.size - have} bytes in {self.store.root}, "
                f"{free} are free; keep fewer releases (model_serving_releases_kept)."
            )
        moved = 0
        for name, layer in release.files.items():
            moved += self._client.blob(layer, PartialFile(place / name), name)
        (place / MANIFEST_FILE).write_bytes(manifest)
        (place / SIGNATURE_FILE).write_bytes(signature)
        names = [*release.files, MANIFEST_FILE, SIGNATURE_FILE]
        if self.store.has(digest):
            self.store.replace(digest, names)
        else:
            self.store.complete(digest, names)
        return moved

    @property
    def current(self) -> str | None:
        """The release that the device is to serve, also where it is gone from the disk."""
        return self.store.linked("current", present=False)

    def activate(self, digest: str, state: State) -> None:
        """Serve a release that is here; go back to the one before if that does not work."""
        if state.current == digest and state.served.digest == digest:
            return
        release = self.verify(digest)
        earlier = state.previous
        if state.current != digest:
            if state.current is not None:
                self.store.switch("previous", state.current)
            earlier, back = state.previous, state.current
            self.store.touch(digest)
            self.store.switch("current", digest)
        else:
            back = state.previous if state.previous != digest else None
        try:
            failure = self._reload(release.model_name, digest)
        except Interrupted:
            failure = "the model server stopped answering"
        if not failure:
            return
        self.store.switch("current", back)
        self.store.switch("previous", earlier if earlier not in (digest, back) else None)
        if back is None:
            raise RegistryError(
                f"The release {digest} cannot be served ({failure.rstrip('.')}); "
                "this device has no earlier release to go back to."
            )
        try:
            again = self._reload(self.verify(back).model_name, back)
        except (Interrupted, RegistryError) as error:
            again = str(error)
        end = f"and going back to {back} failed too: {again}" if again else f"went back to {back}."
        raise RegistryError(
            f"The release {digest} cannot be served ({failure.rstrip('.')}); the device {end}"
        )

    def _reload(self, model_name: str, digest: str) -> str:
        failure = ""
        for _attempt in range(3):
            try:
                failure = self._serving.reload(model_name)
                break
            except Interrupted:
                # Restarted meanwhile: it reads ``current`` by itself when it is up again.
                failure = "the model server stopped answering"
                self.state()
        if failure:
            return failure
        served = self._serving.served()
        if served.digest != digest:
            return served.failure or f"the model server still serves {served.digest}"
        return ""

    def release(self, digest: str, activate: bool = True) -> tuple[State, State, Plan, int]:
        """Bring the device to a release: state before and after, what was planned, bytes moved."""
        check_digest(digest)
        with self.store.lock():
            self.store.tidy(digest)
            before = self.state(patient=activate)
            damage = self.damage(digest) if digest in before.releases else ""
            wanted = plan(before, digest, activate, damage=damage)
            moved = self.pull(digest) if wanted.needed else 0
            if activate:
                self.activate(digest, before)
            surplus = tuple(self.store.surplus(self._keep))
            for old in surplus:
                self.store.drop(old)
            self.store.tidy()
            after = self.state(patient=False)
        return before, after, plan(before, digest, activate, surplus, damage), moved


def open_device(
    settings: Settings,
    transport: Transport,
    local: Transport,
    pause: Callable[[float], None],
    patience: float,
    read: Callable[[str], str] = lambda path: Path(path).read_text(encoding="utf-8"),
) -> Device:
    """Put a device together from its settings."""
    try:
        password = read(settings.password_file).strip() if settings.user else ""
        public_key = read(settings.public_key_file)
    except OSError as error:
        raise RegistryError(
            f"The file {error.filename} cannot be read: {error.strerror}."
        ) from None
    return Device(
        store=ReleaseStore(Path(settings.root)),
        client=RegistryClient(
            settings.registry_url,
            settings.repository,
            transport,
            settings.user,
            password,
            pause,
        ),
        serving=HttpServing(settings.serving_url, local),
        verify=verifier(public_key),
        keep=settings.keep,
        pause=pause,
        patience=patience,
    )


def describe(state: State) -> Mapping[str, Any]:
    """Return the state as plain data."""
    return {
        "current": state.current,
        "previous": state.previous,
        "served": state.served.digest,
        "model_name": state.served.model_name or None,
        "model_version": state.served.model_version or None,
        "releases": list(state.releases),
    }
