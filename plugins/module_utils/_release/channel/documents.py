# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documents that a device believes: ``root.json`` and one ``channel.json`` for each ring.

A channel is what The Update Framework calls timestamp, snapshot and targets, in one document.
Signatures are detached and are over the literal bytes, so that nothing has to be written the same
way twice. Both sides are here: the control host builds, the device reads. Reading is strict, since
what is read was fetched from a gateway that may have been taken over.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..device.orders import ACTIVATE, COMMIT, REVERT, STAGE, Order
from ..errors import RegistryError
from ..keys import key_id
from ..oci import canonical, check_digest, read_json, shown

FORMAT = 1
MAX_ROOT_BYTES = 64 * 1024
MAX_CHANNEL_BYTES = 256 * 1024
MAX_SIGNATURES_BYTES = 16 * 1024
MAX_SIGNATURES = 16
MAX_KEYS = 16
MAX_MODELS = 32
MAX_CLASSES = 64
MAX_LIMITS = 16
MAX_PROBES = 1000
"""The most golden requests that a device sends itself at one contact."""
MAX_NUMBER = 2**53 - 1
"""The largest whole number that every reader of JSON takes for the same."""

LEAST_POLL, MOST_POLL = 5, 7 * 86400

ROOT, CHANNEL, RELEASE = "root", "channel", "release"
ORDERED = (STAGE, ACTIVATE, COMMIT, REVERT)

_SITE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")
_ROLLOUT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:+-]{0,99}")
_LIMIT = re.compile(r"[a-z][a-z0-9_]{0,30}")
_ID = re.compile(r"[0-9a-f]{16}")
# The one way in which a P-256 key is written, so that no key can count twice under two ids.
_P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
_P256_BYTES = len(_P256) + 64


class DocumentError(RegistryError):
    """A document is not written as it must be."""


class _Fields:
    """The fields of a mapping, each read once into its type; an error names the place."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise DocumentError(f"{where}: found {shown(value)}, wanted a mapping.")
        self._value, self.where = value, where

    def any(self, name: str) -> Any:
        if name not in self._value:
            raise DocumentError(f"{self.where}: {name} is missing.")
        return self._value[name]

    def text(self, name: str, pattern: re.Pattern[str]) -> str:
        found = self.any(name)
        if not isinstance(found, str) or not pattern.fullmatch(found):
            raise self.wrong(name, found, f"text such as {pattern.pattern}")
        return found

    def whole(self, name: str, least: int = 0, most: int = MAX_NUMBER) -> int:
        found = self.any(name)
        if not _is_whole(found) or not least <= found <= most:
            raise self.wrong(name, found, f"a whole number from {least} to {most}")
        return int(found)

    def seconds(self, name: str) -> float:
        found = self.any(name)
        if not _is_number(found) or not 0 <= found <= MAX_NUMBER:
            raise self.wrong(name, found, "a number of seconds")
        return float(found)

    def flag(self, name: str) -> bool:
        found = self.any(name)
        if not isinstance(found, bool):
            raise self.wrong(name, found, "true or false")
        return found

    def several(self, name: str, least: int, most: int) -> list[Any]:
        found = self.any(name)
        if not isinstance(found, list) or not least <= len(found) <= most:
            raise self.wrong(name, found, f"a list of {least} to {most}")
        return found

    def names(self, name: str, least: int, most: int, pattern: re.Pattern[str]) -> tuple[str, ...]:
        """A list of different names."""
        found = self.several(name, least, most)
        for one in found:
            if not isinstance(one, str) or not pattern.fullmatch(one):
                raise self.wrong(name, one, f"text such as {pattern.pattern}")
        if len(set(found)) != len(found):
            raise self.wrong(name, found, "every name once")
        return tuple(found)

    def mapping(self, name: str, most: int) -> dict[str, Any]:
        found = self.any(name)
        if not isinstance(found, dict) or len(found) > most:
            raise self.wrong(name, found, f"a mapping of at most {most}")
        return found

    def wrong(self, name: str, found: Any, wanted: str) -> DocumentError:
        return DocumentError(f"{self.where}, {name}: found {shown(found)}, wanted {wanted}.")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _read(data: bytes, limit: int, where: str) -> Any:
    """Read JSON in plain ASCII; anything else might be read in two ways."""
    if len(data) > limit:
        raise DocumentError(f"{where}: this is larger than {limit} bytes.")
    if b"\0" in data or not data.isascii():
        raise DocumentError(f"{where}: this is not plain ASCII.")
    try:
        return read_json(data, where)
    except RegistryError as error:
        raise DocumentError(str(error)) from None


def _head(value: Any, kind: str, where: str) -> _Fields:
    fields = _Fields(value, where)
    if fields.any("type") != kind:
        raise fields.wrong("type", fields.any("type"), kind)
    fields.whole("format", FORMAT, FORMAT)
    return fields


# -- root ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Role:
    """Who may sign one kind of document, and how many different ones of them have to."""

    keys: tuple[str, ...]
    threshold: int = 1


@dataclass(frozen=True)
class Root:
    """The keys of a site. Version n is signed by the root keys of n-1 and by its own.

    ``keys`` are public keys in PEM form by id. ``release`` may be left out: devices then know the
    keys of releases from their settings alone.
    """

    site: str
    version: int
    issued: int
    expires: int
    keys: Mapping[str, str]
    root: Role
    channel: Role
    release: Role | None = None

    def to_bytes(self) -> bytes:
        """Write the document that is signed, and read it back: nothing is signed unread."""
        roles = {ROOT: self.root, CHANNEL: self.channel, RELEASE: self.release}
        data = canonical(
            {
                "type": ROOT,
                "format": FORMAT,
                "site": self.site,
                "version": self.version,
                "issued": self.issued,
                "expires": self.expires,
                "keys": dict(self.keys),
                "roles": {
                    name: {"keys": list(role.keys), "threshold": role.threshold}
                    for name, role in roles.items()
                    if role is not None
                },
            }
        )
        parse_root(data)
        return data

    def release_keys(self) -> tuple[str, ...]:
        """Return the public keys that may sign releases; none where the root names none."""
        return tuple(self.keys[one] for one in self.release.keys) if self.release else ()


def check_key(public_key: Any, where: str) -> str:
    """Return the id of a public key, or refuse what is no P-256 key in its plain form."""
    if not isinstance(public_key, str) or len(public_key) > 1024:
        raise DocumentError(f"{where}: found {shown(public_key)}, wanted a key in PEM form.")
    try:
        found = key_id(public_key)
    except RegistryError as error:
        raise DocumentError(f"{where}: {error}") from None
    body = "".join(line for line in public_key.split("\n") if "-----" not in line)
    der = base64.b64decode("".join(body.split()))
    if len(der) != _P256_BYTES or not der.startswith(_P256):
        raise DocumentError(f"{where}: this is no ECDSA P-256 key, which all keys here are.")
    return found


def parse_root(data: bytes, where: str = "root document") -> Root:
    """Read a root document; who signed it is another matter."""
    fields = _head(_read(data, MAX_ROOT_BYTES, where), ROOT, where)
    keys = fields.mapping("keys", MAX_KEYS)
    for name, public_key in keys.items():
        found = check_key(public_key, f"{where}, key {shown(name)}")
        if found != name:
            raise DocumentError(
                f"{where}: a key is listed as {shown(name)}, the key itself has the id {found}."
            )
    roles = _Fields(fields.any("roles"), f"{where}, roles")
    release = fields.any("roles").get(RELEASE)
    issued = fields.whole("issued")
    return Root(
        site=fields.text("site", _SITE),
        version=fields.whole("version", 1),
        issued=issued,
        expires=fields.whole("expires", issued + 1),
        keys=keys,
        root=_role(roles.any(ROOT), keys, f"{where}, role {ROOT}"),
        channel=_role(roles.any(CHANNEL), keys, f"{where}, role {CHANNEL}"),
        release=None if release is None else _role(release, keys, f"{where}, role {RELEASE}"),
    )


def _role(value: Any, keys: Mapping[str, str], where: str) -> Role:
    fields = _Fields(value, where)
    named = fields.names("keys", 1, MAX_KEYS, _ID)
    for name in named:
        if name not in keys:
            raise fields.wrong("keys", name, "a key that the document lists")
    return Role(named, fields.whole("threshold", 1, len(named)))


# -- channel ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """What the devices of a ring are to do with one model.

    ``size`` is that of all files of the release, in bytes: nothing beyond it is fetched.
    ``counter`` is that of the release's own signature. ``minimum_counter`` only ever grows; what
    lies below is never installed again, not even by a rollback.

    ``probes`` golden requests are sent by the device to itself at each contact while it serves the
    release, until ``probe_until``: nobody else may be able to ask it. They are left out of the
    document where there are none, as readers of version 0.3 and older know nothing of them.
    """

    model: str
    digest: str
    size: int
    counter: int
    minimum_counter: int
    step: str
    rollout: str
    generation: int
    deadline: float = 0.0
    limits: Mapping[str, float] = field(default_factory=dict)
    rate: int = 0
    rollback: bool = False
    probes: int = 0
    probe_until: int = 0

    def order(self) -> Order:
        """Return what the device is told, in the words of a rollout."""
        return Order(
            step=self.step,
            rollout=self.rollout,
            generation=self.generation,
            model=self.model,
            digest=self.digest,
            deadline=self.deadline,
            limits=dict(self.limits),
            rate=self.rate,
            rollback=self.rollback,
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as it stands in the document."""
        return {
            "model": self.model,
            "digest": self.digest,
            "size": self.size,
            "counter": self.counter,
            "minimum_counter": self.minimum_counter,
            "step": self.step,
            "rollout": self.rollout,
            "generation": self.generation,
            "deadline": self.deadline,
            "limits": dict(self.limits),
            "rate": self.rate,
            "rollback": self.rollback,
            **({"probes": self.probes, "probe_until": self.probe_until} if self.probes else {}),
        }


@dataclass(frozen=True)
class Channel:
    """What the devices of a ring are to be on; the online key signs it."""

    site: str
    ring: str
    device_classes: tuple[str, ...]
    sequence: int
    issued: int
    expires: int
    root_version: int
    next_poll: int
    models: tuple[Target, ...] = ()

    def to_bytes(self) -> bytes:
        """Write the document that is signed, and read it back: nothing is signed unread."""
        data = canonical(
            {
                "type": CHANNEL,
                "format": FORMAT,
                "site": self.site,
                "ring": self.ring,
                "device_classes": list(self.device_classes),
                "sequence": self.sequence,
                "issued": self.issued,
                "expires": self.expires,
                "root_version": self.root_version,
                "next_poll": self.next_poll,
                "models": [target.to_json() for target in self.models],
            }
        )
        parse_channel(data)
        return data


def parse_channel(data: bytes, where: str = "channel document") -> Channel:
    """Read a channel document; who signed it is another matter."""
    fields = _head(_read(data, MAX_CHANNEL_BYTES, where), CHANNEL, where)
    rows = fields.several("models", 0, MAX_MODELS)
    models = tuple(
        parse_target(row, f"{where}, model {number}") for number, row in enumerate(rows, start=1)
    )
    if len({target.model for target in models}) != len(models):
        raise fields.wrong("models", [target.model for target in models], "every model once")
    issued = fields.whole("issued")
    return Channel(
        site=fields.text("site", _SITE),
        ring=fields.text("ring", _NAME),
        device_classes=fields.names("device_classes", 1, MAX_CLASSES, _NAME),
        sequence=fields.whole("sequence", 1),
        issued=issued,
        expires=fields.whole("expires", issued + 1),
        root_version=fields.whole("root_version", 1),
        next_poll=fields.whole("next_poll", LEAST_POLL, MOST_POLL),
        models=models,
    )


def parse_target(row: Any, where: str) -> Target:
    """Read what is wanted of one model."""
    fields = _Fields(row, where)
    try:
        digest = check_digest(fields.any("digest"))
    except DocumentError:
        raise
    except RegistryError as error:
        raise DocumentError(f"{where}, digest: {error}") from None
    step = fields.any("step")
    if not isinstance(step, str) or step not in ORDERED:
        raise fields.wrong("step", step, " or ".join(ORDERED))
    limits = fields.mapping("limits", MAX_LIMITS)
    for name, number in limits.items():
        if not _LIMIT.fullmatch(name) or not _is_number(number) or number < 0:
            raise fields.wrong("limits", {name: number}, "names with numbers from 0")
    return Target(
        model=fields.text("model", _NAME),
        digest=digest,
        size=fields.whole("size", 1),
        counter=fields.whole("counter"),
        minimum_counter=fields.whole("minimum_counter"),
        step=step,
        rollout=fields.text("rollout", _ROLLOUT),
        generation=fields.whole("generation"),
        deadline=fields.seconds("deadline"),
        limits={name: float(number) for name, number in limits.items()},
        rate=fields.whole("rate"),
        rollback=fields.flag("rollback"),
        probes=fields.whole("probes", 0, MAX_PROBES) if "probes" in row else 0,
        probe_until=fields.whole("probe_until") if "probes" in row else 0,
    )


# -- signatures ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signed:
    """A document as it was fetched: its literal bytes, and those of its signatures beside it."""

    data: bytes
    signatures: bytes


Mark = tuple[str, bytes]
"""The id of a key, and a signature that is said to be its own."""


def build_signatures(marks: Iterable[Mark]) -> bytes:
    """Write the file of signatures that lies beside a document."""
    rows = [
        {"key": key, "signature": base64.b64encode(signature).decode()} for key, signature in marks
    ]
    data = canonical({"signatures": rows[:MAX_SIGNATURES]}) + b"\n"
    parse_signatures(data)
    return data


def parse_signatures(data: bytes, where: str = "signatures") -> tuple[Mark, ...]:
    """Read a file of signatures. Nothing in it is true before it was verified."""
    fields = _Fields(_read(data, MAX_SIGNATURES_BYTES, where), where)
    found = []
    for row in fields.several("signatures", 0, MAX_SIGNATURES):
        one = _Fields(row, where)
        text = one.any("signature")
        try:
            if not isinstance(text, str) or len(text) > 512:
                raise ValueError
            signature = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise one.wrong("signature", text, "a signature in base64") from None
        found.append((one.text("key", _ID), signature))
    return tuple(found)
