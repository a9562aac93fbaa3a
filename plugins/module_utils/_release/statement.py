# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The evaluation of a release as a signed statement: in-toto's form in a DSSE envelope.

It says which files were judged, by what, on which data, against which thresholds, with which
result. It lies beside the release under the tag ``sha256-<hex>.att``, where cosign puts
attestations, and the release's own signature names its digest: neither can be exchanged alone.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import MistakenError, RegistryError, UntrustedError
from .oci import (
    EMPTY_CONFIG,
    MAX_LAYERS,
    Descriptor,
    Manifest,
    canonical,
    check_digest,
    digest_of,
    hex_of,
    parse_manifest,
    read_json,
    shown,
)
from .signature import MAX_MARK_BYTES, MAX_SIGNATURES, SIGNATURE, Ring

ENVELOPE_TYPE = "application/vnd.dsse.envelope.v1+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://mlops.onprem/evaluation/v1"
MAX_STATEMENT_BYTES = 256 * 1024
MAX_ENVELOPE_BYTES = 512 * 1024
MAX_FIGURES = 200

_WORD = re.compile(r"[^\x00-\x1f\x7f]{0,200}")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")


@dataclass(frozen=True)
class Champion:
    """The release that a candidate was compared with, on the same data. Empty where none was."""

    digest: str
    version: str
    metrics: Mapping[str, float]
    margin: float


@dataclass(frozen=True)
class Evaluation:
    """What was judged and how. Digests that do not apply are empty.

    ``champion`` is None where no comparison was asked for.
    """

    candidate: str
    project_commit: str
    lock: str
    data_manifest: str
    cases: str
    thresholds: Mapping[str, float]
    metrics: Mapping[str, float]
    tolerance: float
    time: str
    key_id: str
    champion: Champion | None = None


@dataclass(frozen=True)
class Statement:
    """A statement that was read: digests by what they belong to, and the evaluation."""

    subjects: Mapping[str, str]
    evaluation: Evaluation


@dataclass(frozen=True)
class Envelope:
    """A payload with the signatures over it, each with the id of the key it names."""

    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]


def attestation_tag(digest: str) -> str:
    """Return the tag under which the statements about an artifact are found."""
    return f"sha256-{hex_of(digest)}.att"


# -- writing --------------------------------------------------------------------------------


def build_statement(
    reference: str, digest: str, files: Mapping[str, str], evaluation: Evaluation
) -> bytes:
    """Write the statement about a release: its manifest comes first, then each of its files."""
    subjects = [(reference, digest), *sorted(files.items())]
    payload = canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": [
                {"name": name, "digest": {"sha256": hex_of(each)}} for name, each in subjects
            ],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "candidate": evaluation.candidate,
                "project": {"commit": evaluation.project_commit, "lock": evaluation.lock},
                "data": {"manifest": evaluation.data_manifest},
                "cases": evaluation.cases,
                "thresholds": dict(evaluation.thresholds),
                "metrics": dict(evaluation.metrics),
                "tolerance": evaluation.tolerance,
                "time": evaluation.time,
                "signer": evaluation.key_id,
                **_compared(evaluation.champion),
            },
        }
    )
    parse_statement(payload)
    return payload


def _compared(champion: Champion | None) -> dict[str, Any]:
    """The part about the release before; absent where nothing was compared."""
    if champion is None:
        return {}
    return {
        "champion": {
            "digest": champion.digest,
            "version": champion.version,
            "metrics": dict(champion.metrics),
            "margin": champion.margin,
        }
    }


def pae(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Return what is signed of an envelope: type and payload, each with its length before it."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def build_envelope(payload: bytes, marks: Iterable[tuple[str, bytes]]) -> bytes:
    """Put a payload and the signatures over ``pae(payload)`` into an envelope."""
    return canonical(
        {
            "payloadType": PAYLOAD_TYPE,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [
                {"keyid": key_id, "sig": base64.b64encode(mark).decode()} for key_id, mark in marks
            ],
        }
    )


def build_attestation_manifest(envelope: bytes, others: Iterable[Descriptor] = ()) -> Manifest:
    """Describe an envelope as the artifact that is stored under the attestation tag."""
    layer = Descriptor.of(ENVELOPE_TYPE, envelope)
    notes = {SIGNATURE: "", "predicateType": PREDICATE_TYPE}
    return Manifest(
        artifact_type="",
        config=EMPTY_CONFIG,
        layers=(
            *[each for each in others if each.digest != layer.digest][-(MAX_SIGNATURES - 1) :],
            Descriptor(layer.media_type, layer.digest, layer.size, notes),
        ),
    )


# -- reading --------------------------------------------------------------------------------


def attestations(manifest: bytes) -> list[Descriptor]:
    """Return the envelopes worth a look, the newest first: few and not too large."""
    layers = parse_manifest(manifest, "attestation manifest").layers
    found = [
        layer
        for layer in reversed(layers)
        if layer.media_type == ENVELOPE_TYPE and layer.size <= MAX_ENVELOPE_BYTES
    ]
    return found[:MAX_SIGNATURES]


def parse_envelope(data: bytes) -> Envelope:
    """Read an envelope; signatures that cannot be read are left out."""
    where = "attestation"
    if len(data) > MAX_ENVELOPE_BYTES:
        raise RegistryError(f"{where}: this is larger than {MAX_ENVELOPE_BYTES} bytes.")
    value = read_json(data, where)
    if not isinstance(value, dict) or value.get("payloadType") != PAYLOAD_TYPE:
        found = value.get("payloadType") if isinstance(value, dict) else value
        raise RegistryError(f"{where}: found the type {shown(found)}, wanted {PAYLOAD_TYPE}.")
    payload = _base64(value.get("payload"))
    if payload is None or len(payload) > MAX_STATEMENT_BYTES:
        raise RegistryError(
            f"{where}: the payload is not base64 of at most {MAX_STATEMENT_BYTES} bytes."
        )
    rows = value.get("signatures")
    marks: list[tuple[str, bytes]] = []
    for row in rows[:MAX_SIGNATURES] if isinstance(rows, list) else []:
        mark = _base64(row.get("sig")) if isinstance(row, dict) else None
        if mark and len(mark) <= MAX_MARK_BYTES:
            named = row.get("keyid")
            marks.append((named if isinstance(named, str) else "", mark))
    return Envelope(payload, tuple(marks))


def _base64(value: Any) -> bytes | None:
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None


def parse_statement(payload: bytes) -> Statement:
    """Read a statement strictly, naming the place where it goes wrong."""
    if len(payload) > MAX_STATEMENT_BYTES:
        raise RegistryError(f"The statement is larger than {MAX_STATEMENT_BYTES} bytes.")
    value = read_json(payload, "statement")
    if not isinstance(value, dict) or value.get("_type") != STATEMENT_TYPE:
        raise RegistryError(f"statement: this is not an in-toto statement ({STATEMENT_TYPE}).")
    if value.get("predicateType") != PREDICATE_TYPE:
        raise RegistryError(
            f"statement: found the predicate {shown(value.get('predicateType'))}, "
            f"wanted {PREDICATE_TYPE}."
        )
    predicate = _mapping(value.get("predicate"), "predicate")
    project = _mapping(predicate.get("project"), "project")
    data = _mapping(predicate.get("data"), "data")
    time = _text(predicate, "time")
    if not _TIME.fullmatch(time):
        raise RegistryError(f"statement, time: found {shown(time)}, wanted 2026-01-31T12:00:00Z.")
    return Statement(
        _subjects(value.get("subject")),
        Evaluation(
            candidate=_digest(predicate, "candidate"),
            project_commit=_text(project, "commit"),
            lock=_digest(project, "lock"),
            data_manifest=_digest(data, "manifest"),
            cases=_digest(predicate, "cases"),
            thresholds=_figures(predicate, "thresholds"),
            metrics=_figures(predicate, "metrics"),
            tolerance=_figure(predicate.get("tolerance"), "tolerance"),
            time=time,
            key_id=_text(predicate, "signer"),
            champion=_champion(predicate.get("champion")),
        ),
    )


def _champion(value: Any) -> Champion | None:
    if value is None:
        return None
    found = _mapping(value, "champion")
    return Champion(
        digest=_digest(found, "digest"),
        version=_text(found, "version"),
        metrics=_figures(found, "metrics"),
        margin=_figure(found.get("margin"), "champion, margin"),
    )


def _subjects(rows: Any) -> dict[str, str]:
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_LAYERS + 1:
        raise RegistryError("statement, subject: wanted a list of what the statement is about.")
    found: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        where = f"subject {number}"
        entry = _mapping(row, where)
        name = _text(entry, "name", where)
        if name in found:
            raise RegistryError(f"statement, {where}: {shown(name)} is there twice.")
        text = _mapping(entry.get("digest"), where).get("sha256")
        try:
            found[name] = check_digest(f"sha256:{text}")
        except RegistryError as error:
            raise RegistryError(f"statement, {where}: {error}") from None
    return found


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RegistryError(f"statement, {where}: found {shown(value)}, wanted a mapping.")
    return value


def _text(value: Mapping[str, Any], name: str, where: str = "") -> str:
    found = value.get(name)
    if not isinstance(found, str) or not _WORD.fullmatch(found):
        raise RegistryError(
            f"statement, {where or name}: found {shown(found)}, wanted a line of at most 200 "
            "characters."
        )
    return found


def _digest(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    if found == "":
        return ""
    try:
        return check_digest(found)
    except RegistryError as error:
        raise RegistryError(f"statement, {name}: {error}") from None


def _figure(value: Any, where: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            number = float(value)
            if math.isfinite(number):
                return number
    raise RegistryError(f"statement, {where}: found {shown(value)}, wanted a finite number.")


def _figures(value: Mapping[str, Any], name: str) -> dict[str, float]:
    found = _mapping(value.get(name), name)
    if len(found) > MAX_FIGURES:
        raise RegistryError(
            f"statement, {name}: found {len(found)} figures, at most {MAX_FIGURES} are read."
        )
    return {
        _text({"name": key}, "name", name): _figure(each, f"{name}, {shown(key)}")
        for key, each in found.items()
    }


# -- judging --------------------------------------------------------------------------------


def _trusted(envelope: Envelope, ring: Ring) -> str:
    """Return the id of the key that signed an envelope; one bad signature hides no good one."""
    signed = pae(envelope.payload)
    refusal = UntrustedError("it is not signed.")
    for named, mark in envelope.signatures:
        try:
            return ring.verify(signed, mark, named).id
        except UntrustedError as error:
            refusal = error
    raise type(refusal)(f"The evaluation of the release is not to be trusted: {refusal}")


def check_statement(
    data: bytes, ring: Ring, digest: str, files: Mapping[str, str], named: str = ""
) -> Statement:
    """Return the statement of an envelope if it is trusted and speaks of this release.

    ``files`` are the digests in the release's manifest, ``named`` is the digest of the statement
    that the release's own signature names.
    """
    envelope = parse_envelope(data)
    if named and digest_of(envelope.payload) != named:
        raise MistakenError(
            f"The evaluation stored for {digest} is not the one that its signature names ({named})."
        )
    signer = _trusted(envelope, ring)
    statement = parse_statement(envelope.payload)
    if statement.evaluation.key_id != signer:
        raise MistakenError(
            f"The evaluation stored for {digest} names the signer "
            f"{shown(statement.evaluation.key_id)}; it was signed by {signer}."
        )
    if digest not in statement.subjects.values():
        first = next(iter(statement.subjects.values()))
        raise MistakenError(f"The evaluation stored for {digest} speaks of {first}.")
    for name, wanted in sorted(files.items()):
        if statement.subjects.get(name) != wanted:
            raise MistakenError(
                f"The file {name} of the release {digest} is not the one that was evaluated: "
                f"found {wanted}, evaluated was {statement.subjects.get(name, 'none')}."
            )
    return statement


def find_statement(
    envelopes: Iterable[bytes], ring: Ring, digest: str, files: Mapping[str, str], named: str = ""
) -> Statement:
    """Return the first statement that counts for a release, or say why none does."""
    refusal: RegistryError | None = None
    for data in envelopes:
        try:
            return check_statement(data, ring, digest, files, named)
        except RegistryError as error:
            refusal = refusal or error
    if refusal is None:
        raise UntrustedError(f"No evaluation is stored for the release {digest}.")
    raise refusal
