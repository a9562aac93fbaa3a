# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures in cosign's layout: a "simple signing" payload beside the artifact it speaks of.

What is signed says what it is for: site, repository, model, version, kind and a counter stand in
the payload's ``optional`` part, and whoever asks for a release compares all of them with what it
was told. So a signature is good for one release in one place, not for whatever bears it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Callable, Protocol

from .errors import MistakenError, RegistryError, UntrustedError
from .oci import (
    EMPTY_CONFIG,
    Descriptor,
    Manifest,
    canonical,
    check_digest,
    hex_of,
    parse_manifest,
    read_json,
    shown,
)

PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
TYPE = "cosign container image signature"

MAX_SIGNATURES = 4
MAX_PAYLOAD_BYTES = 16 * 1024
MAX_MARK_BYTES = 1024
MAX_SIGNATURE_MANIFEST_BYTES = 64 * 1024
MAX_COUNTER = 2**53 - 1

ONNX = "onnx"
KINDS = (ONNX, "gguf", "safetensors")
"""Kinds of payload that have a name. Devices serve the first; the others are reserved."""

SITE = "org.mlops.site"
MODEL_NAME = "org.mlops.model.name"
MODEL_VERSION = "org.mlops.model.version"
MODEL_KIND = "org.mlops.model.kind"
COUNTER = "org.mlops.release.counter"
KEY_ID = "org.mlops.key.id"
STATEMENT = "org.mlops.statement"
REFERENCE_PROFILE = "org.mlops.reference_profile"

_SITE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_KIND = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_ID = re.compile(r"[0-9a-f]{16}")
_NUMBER = re.compile(r"[1-9][0-9]{0,15}")

Verify = Callable[[bytes, bytes], bool]
"""Says whether a signature (second) over a payload (first) is that of the trusted key."""


@dataclass(frozen=True)
class Claims:
    """What a signed payload says about a release, beyond its digest."""

    site: str
    model_name: str
    model_version: str
    kind: str
    counter: int
    key_id: str
    statement: str = ""
    reference_profile: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the ``optional`` part of a payload."""
        value: dict[str, Any] = {
            SITE: self.site,
            MODEL_NAME: self.model_name,
            MODEL_VERSION: self.model_version,
            MODEL_KIND: self.kind,
            COUNTER: self.counter,
            KEY_ID: self.key_id,
        }
        if self.statement:
            value[STATEMENT] = self.statement
        if self.reference_profile:
            value[REFERENCE_PROFILE] = self.reference_profile
        return value


@dataclass(frozen=True)
class Expected:
    """What a device, or the controller, was told by its operator.

    ``repository`` is a reference such as ``host/models/name``. Its host is not compared: a
    registry may move, and who is meant is said by the site. ``model_name`` is None only where
    any model of the repository will do, and ``site`` where nobody has said which it is.
    """

    site: str | None
    repository: str
    model_name: str | None = None
    kinds: tuple[str, ...] = (ONNX,)


@dataclass(frozen=True)
class Verdict:
    """A signature that counts: what it claims (None for one made before claims) and its key."""

    claims: Claims | None
    key_id: str


class Key(Protocol):
    """A trusted key, as far as it is asked here."""

    @property
    def id(self) -> str:
        """The id of the key."""


class Ring(Protocol):
    """The trusted keys; ``keys.KeyRing`` is one."""

    def verify(self, payload: bytes, signature: bytes, wanted: str = "") -> Key:
        """Return the key that made a signature, or raise ``UntrustedError``."""


class Stored(Protocol):
    """A repository, as far as signatures are read from it; ``client.RegistryClient`` is one."""

    def manifest(self, reference: str, limit: int = ...) -> bytes | None:
        """Return a manifest of at most so many bytes, None if it is not there."""

    def small_blob(self, blob: Descriptor, limit: int = ...) -> bytes:
        """Return a blob of at most so many bytes, checked."""


def signature_tag(digest: str) -> str:
    """Return the tag under which the signatures of an artifact are found."""
    return f"sha256-{hex_of(digest)}.sig"


def build_payload(reference: str, digest: str, claims: Claims | None = None) -> bytes:
    """Write the statement that is signed."""
    payload = canonical(
        {
            "critical": {
                "identity": {"docker-reference": reference},
                "image": {"docker-manifest-digest": digest},
                "type": TYPE,
            },
            "optional": claims.to_json() if claims is not None else {},
        }
    )
    if claims is not None:
        read_claims(payload)
    return payload


def build_signature_manifest(
    payload: bytes, signature: bytes, others: Iterable[Descriptor] = ()
) -> Manifest:
    """Describe a signature as the artifact that is stored under the signature tag.

    ``others`` are the entries that were there before; the newest stay, and the fresh one is last,
    where cosign puts it too.
    """
    layer = Descriptor.of(PAYLOAD_TYPE, payload)
    return Manifest(
        artifact_type="",
        config=EMPTY_CONFIG,
        layers=(
            *list(others)[-(MAX_SIGNATURES - 1) :],
            Descriptor(
                layer.media_type,
                layer.digest,
                layer.size,
                {SIGNATURE: base64.b64encode(signature).decode()},
            ),
        ),
    )


def signature_layers(manifest: bytes) -> Iterator[tuple[Descriptor, bytes]]:
    """Yield the entries worth a look, the newest first: few, small, and readable so far."""
    found = 0
    for layer in reversed(parse_manifest(manifest, "signature manifest").layers):
        text = layer.annotations.get(SIGNATURE, "")
        if (
            layer.media_type != PAYLOAD_TYPE
            or layer.size > MAX_PAYLOAD_BYTES
            or len(text) > 2 * MAX_MARK_BYTES
        ):
            continue
        try:
            mark = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            continue
        if not 0 < len(mark) <= MAX_MARK_BYTES:
            continue
        yield layer, mark
        found += 1
        if found == MAX_SIGNATURES:
            return


def signatures(manifest: bytes) -> Iterator[tuple[Descriptor, bytes]]:
    """Yield the payload's descriptor and the signature of each entry that is looked at."""
    return signature_layers(manifest)


def read_signatures(registry: Stored, digest: str) -> list[tuple[Descriptor, bytes, bytes]]:
    """Return entry, payload and signature of what is stored for a release, the newest first.

    Little is fetched, and an entry that cannot be had hides no other. Where none can be had, the
    first reason is raised: "not signed" would not be true.
    """
    stored = registry.manifest(signature_tag(digest), MAX_SIGNATURE_MANIFEST_BYTES)
    found: list[tuple[Descriptor, bytes, bytes]] = []
    reason: RegistryError | None = None
    for layer, mark in signature_layers(stored) if stored is not None else ():
        try:
            found.append((layer, registry.small_blob(layer, MAX_PAYLOAD_BYTES), mark))
        except RegistryError as error:
            reason = reason or error
    if reason is not None and not found:
        raise reason
    return found


def _critical(payload: bytes, digest: str) -> tuple[str, Any]:
    """Return the reference of a payload and its optional part; the digest must be the right one."""
    try:
        value = read_json(payload, "payload")
        critical = value["critical"]
        found, kind = critical["image"]["docker-manifest-digest"], critical["type"]
        reference = critical["identity"]["docker-reference"]
        optional = value.get("optional")
        if not isinstance(reference, str):
            raise TypeError
    except (RegistryError, KeyError, TypeError, AttributeError):
        raise MistakenError(f"The signature of {digest} carries no readable statement.") from None
    if kind != TYPE or found != digest:
        raise MistakenError(f"The signature stored for {digest} speaks of {shown(found)}.")
    return reference, {} if optional is None else optional


def _text(optional: Mapping[str, Any], name: str, pattern: re.Pattern[str], wish: str) -> str:
    value = optional.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise MistakenError(f"The signed statement names {name} as {shown(value)}, wanted {wish}.")
    return value


def _counter(value: Any) -> int:
    """Read the counter: a number, or the text of one, which is all that cosign can write."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MAX_COUNTER:
        raise MistakenError(
            f"The signed statement names {COUNTER} as {shown(value)}, wanted a whole number "
            f"from 1 to {MAX_COUNTER}."
        )
    return value


def _digest(optional: Mapping[str, Any], name: str) -> str:
    value = optional.get(name)
    if value is None:
        return ""
    try:
        return check_digest(value)
    except RegistryError as error:
        raise MistakenError(f"The signed statement, {name}: {error}") from None


def _claims(optional: Any) -> Claims | None:
    if not isinstance(optional, Mapping):
        raise MistakenError("The signed statement carries no readable claims.")
    if not any(name in optional for name in (SITE, MODEL_NAME, MODEL_KIND, COUNTER, KEY_ID)):
        return None
    name = "letters, digits, dots, dashes and underscores"
    return Claims(
        site=_text(optional, SITE, _SITE, name),
        model_name=_text(optional, MODEL_NAME, _NAME, name),
        model_version=_text(optional, MODEL_VERSION, _NAME, name),
        kind=_text(optional, MODEL_KIND, _KIND, "a kind of model such as onnx"),
        counter=_counter(optional.get(COUNTER)),
        key_id=_text(optional, KEY_ID, _ID, "16 hexadecimal digits"),
        statement=_digest(optional, STATEMENT),
        reference_profile=_digest(optional, REFERENCE_PROFILE),
    )


def read_claims(payload: bytes) -> Claims | None:
    """Read what a payload claims; None if it was made before there were claims."""
    value = read_json(payload, "signed statement")
    if not isinstance(value, dict):
        raise MistakenError("The signed statement is not a mapping.")
    return _claims(value.get("optional") or {})


def _path(reference: str) -> str:
    """The repository of a reference, without the registry's host and without tag or digest."""
    path = reference.partition("/")[2].partition("@")[0]
    head, slash, last = path.rpartition("/")
    return head + slash + last.partition(":")[0]


def check_payload(
    payload: bytes, digest: str, expected: Expected | None = None, fresh: bool = False
) -> Claims | None:
    """Refuse a statement, however well signed, that speaks of something else.

    ``fresh`` is true for what comes from elsewhere. Only a release that is already on this disk
    may have been signed before there were claims.
    """
    reference, optional = _critical(payload, digest)
    claims = _claims(optional)
    if claims is None:
        if fresh:
            raise MistakenError(
                f"The signature of {digest} does not say for which site and model it was made; "
                "publish the release again (make pipeline)."
            )
        return None
    if expected is None:
        return claims
    compared = (
        ("site", claims.site, expected.site),
        ("repository", _path(reference), _path(expected.repository)),
        ("model", claims.model_name, expected.model_name),
    )
    for what, found, wanted in compared:
        if wanted is not None and found != wanted:
            raise MistakenError(
                f"The release {digest} was signed for the {what} {shown(found)}, "
                f"wanted {shown(wanted)}."
            )
    if claims.kind not in expected.kinds:
        raise MistakenError(
            f"The release {digest} is a model of the kind {shown(claims.kind)}; "
            f"served here: {', '.join(expected.kinds)}."
        )
    return claims


def check_names(claims: Claims, model_name: str, model_version: str) -> None:
    """Refuse a release whose manifest is named otherwise than its signature says."""
    found = (model_name, model_version)
    if (claims.model_name, claims.model_version) != found:
        raise MistakenError(
            f"The release is signed as {claims.model_name} {claims.model_version}, its manifest "
            f"says {shown(model_name)} {shown(model_version)}."
        )


def named_key(payload: bytes) -> str:
    """Return the id of the key that a payload names, unchecked; nothing where it names none."""
    try:
        value = read_json(payload, "payload")["optional"][KEY_ID]
    except (RegistryError, KeyError, TypeError):
        return ""
    return value if isinstance(value, str) else ""


def judge(
    entries: Iterable[tuple[bytes, bytes]],
    digest: str,
    ring: Ring,
    expected: Expected | None = None,
    fresh: bool = False,
) -> Verdict:
    """Find the signature (payload, mark) that counts for a release, or say why none does.

    One that is bad or cannot be read does not hide a good one. Of several that are good, the one
    with the highest counter counts: a release may be signed again.
    """
    good: list[Verdict] = []
    refusals: list[RegistryError] = []
    for payload, mark in entries:
        try:
            key = ring.verify(payload, mark, named_key(payload))
            good.append(Verdict(check_payload(payload, digest, expected, fresh), key.id))
        except (MistakenError, UntrustedError) as error:
            refusals.append(error)
    if good:
        return max(good, key=_rank)
    if not refusals:
        raise UntrustedError(f"The release {digest} is not signed.")
    # What a trusted key has said about something else is told before what strangers say.
    told = next((error for error in refusals if isinstance(error, MistakenError)), refusals[0])
    if isinstance(told, MistakenError):
        raise told
    raise type(told)(f"The release {digest} is refused. {told}")


def _rank(verdict: Verdict) -> int:
    return verdict.claims.counter if verdict.claims is not None else 0


def check_counter(claims: Claims, highest: int, rollback: bool = False) -> int:
    """Refuse a release older than one that was here, unless going back is asked for.

    Returns the highest counter that is to be remembered; going back does not lower it.
    """
    if claims.counter < highest and not rollback:
        raise MistakenError(
            f"The release {claims.model_name} {claims.model_version} has the counter "
            f"{claims.counter}, and this device has had one with {highest}; going back has to be "
            "asked for (rollback)."
        )
    return max(claims.counter, highest)


def next_counter(now: float, last: int = 0) -> int:
    """Return the counter of a new release: the time, and in any case more than the last one."""
    counter = max(int(now), last + 1)
    if counter > MAX_COUNTER:
        raise RegistryError(f"There is no counter after {last}; the last one is {MAX_COUNTER}.")
    return counter
