# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules by which a device believes a document: values in, a verdict out.

They are those of The Update Framework (Samuel, Mathewson, Cappos, Dingledine: "Survivable key
compromise in software update systems", CCS 2010; the specification's sections 5.3 and 5.4), with
ring, device class, release counter and generation added. No rule stops what is served, and none
can be turned into a lock that the holder of the root keys cannot open again:

- a root is followed version by version, each signed by the one before and by itself, also where
  those in between have expired; only the last one has to be valid;
- what the online key has driven too far (sequence, time, counters, generations) is forgotten when
  the root takes its word away from it (section 5.3.11, fast-forward attacks);
- the clock of the device is compared, never kept: a wrong one does harm only while it is wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ..errors import RegistryError
from ..oci import shown
from .documents import (
    Channel,
    Mark,
    Role,
    Root,
    Signed,
    Target,
    parse_channel,
    parse_root,
    parse_signatures,
)

# Why a document is not taken.
UNREADABLE = "unreadable"  # not written as it must be, or too large
UNSIGNED = "unsigned"  # not by enough of the keys that count
MISPLACED = "misplaced"  # for another site, ring or device class, or under a root not yet seen
OLD = "old"  # replayed: a sequence, generation or counter that was passed before
STALE = "stale"  # expired: keep serving, take nothing new
KINDS = (UNREADABLE, UNSIGNED, MISPLACED, OLD, STALE)

_Document = TypeVar("_Document")

MAX_CHAIN = 64
MAX_REMEMBERED = 256

Verify = Callable[[str, bytes, bytes], bool]
"""Says whether a signature (third) over a payload (second) is that of a public key (first)."""


@dataclass(frozen=True)
class Own:
    """What a device knows of itself."""

    site: str
    ring: str
    device_class: str


@dataclass(frozen=True)
class Clock:
    """What the device has for the time, and whether that was compared with a time server."""

    now: float
    synchronised: bool


@dataclass(frozen=True)
class Ratchet:
    """How far one model has come; nothing here ever goes back while the same key speaks."""

    generation: int = 0
    counter: int = 0
    minimum: int = 0


@dataclass(frozen=True)
class State:
    """What a device remembers of the documents that it believed.

    ``root`` is the trusted root and ``root_data`` its literal bytes. ``signers`` are the keys that
    signed the last channel; ``digest`` is that of its bytes; ``issued`` is the floor of the time.
    ``resets`` counts how often the root took its word away from an online key: whoever keeps
    generations elsewhere forgets them when it has grown.
    """

    root: Root
    root_data: bytes
    sequence: int = 0
    digest: str = ""
    signers: tuple[str, ...] = ()
    issued: int = 0
    expires: int = 0
    models: Mapping[str, Ratchet] = field(default_factory=dict)
    resets: int = 0


@dataclass(frozen=True)
class Refusal:
    """Why nothing new is taken; the sentence is for people."""

    kind: str
    sentence: str


@dataclass(frozen=True)
class Judgement:
    """The verdict on what was fetched.

    ``state`` has to be on the disk before anything else of this is used; also where something was
    refused it may have a newer root in it. ``channel`` is None where it was refused. ``new`` is
    false where the same channel was believed before: its orders hold, and can be repeated.
    """

    state: State
    channel: Channel | None = None
    new: bool = False
    refusal: Refusal | None = None

    @property
    def targets(self) -> tuple[Target, ...]:
        """What is to be done with which model."""
        return self.channel.models if self.channel is not None else ()


class _Refused(Exception):
    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.refusal = Refusal(kind, sentence)


def first(root: Signed, site: str, verify: Verify) -> State:
    """Return the state of a device that is enrolled with a root document.

    Where the root comes from is trusted (a person brought it); that it is whole is checked. A
    later version than 1 will do.
    """
    try:
        found = parse_root(root.data)
        _check_site(found.site, site, "root document")
        _check_signed(root, found, found.root, "root document", verify)
    except _Refused as refused:
        raise RegistryError(refused.refusal.sentence) from None
    return State(root=found, root_data=root.data)


def judge(
    state: State,
    roots: Sequence[Signed],
    channel: Signed | None,
    clock: Clock,
    own: Own,
    verify: Verify,
) -> Judgement:
    """Judge the roots that follow the trusted one, in order, and then the channel under the last.

    Without a channel only the roots are followed.
    """
    try:
        for root in roots[:MAX_CHAIN]:
            state = _follow(state, root, own, verify)
    except _Refused as refused:
        # What was followed up to here was rightly signed, and stays.
        return Judgement(_released(state), refusal=refused.refusal)
    state = _released(state)
    try:
        _check_root_fresh(state.root, clock)
        if channel is None:
            return Judgement(state)
        return _take(state, channel, clock, own, verify)
    except _Refused as refused:
        return Judgement(state, refusal=refused.refusal)


# -- roots -----------------------------------------------------------------------------------


def _follow(state: State, signed: Signed, own: Own, verify: Verify) -> State:
    """Return the state with the next root."""
    root = _parsed(parse_root, signed.data)
    wanted = state.root.version + 1
    where = f"root document {root.version}"
    if root.version != wanted:
        raise _Refused(
            OLD if root.version < wanted else UNSIGNED,
            f"Found the root document {root.version}, wanted {wanted}: one follows the other.",
        )
    _check_site(root.site, own.site, where)
    _check_signed(signed, state.root, state.root.root, where, verify)
    _check_signed(signed, root, root.root, where, verify)
    return replace(state, root=root, root_data=signed.data)


def _released(state: State) -> State:
    """Forget what an online key said that has no word any more.

    The last channel would not be believed under this root: so what it drove forward counts no
    longer, and a thief who drove it to the end has locked nothing for good.
    """
    role = state.root.channel
    if not state.signers or len(set(state.signers) & set(role.keys)) >= role.threshold:
        return state
    return State(root=state.root, root_data=state.root_data, resets=state.resets + 1)


def _check_root_fresh(root: Root, clock: Clock) -> None:
    # The floor is that of the root keys alone: what the online key says of the time must not
    # make a root look expired.
    if clock.synchronised and max(clock.now, root.issued) >= root.expires:
        raise _Refused(
            STALE,
            f"The root document {root.version} has expired: this device keeps serving and takes "
            "nothing new. Publish the next root document (playbooks/fleet_keys.yml).",
        )


# -- channel ---------------------------------------------------------------------------------


def _take(state: State, signed: Signed, clock: Clock, own: Own, verify: Verify) -> Judgement:
    """Return the state with a channel that is believed."""
    channel = _parsed(parse_channel, signed.data)
    signers = _check_signed(signed, state.root, state.root.channel, "channel document", verify)
    _check_place(channel, own, state.root)
    digest = hashlib.sha256(signed.data).hexdigest()
    _check_sequence(channel, digest, state)
    _check_fresh(channel, state, clock)
    if digest == state.digest:
        return Judgement(state, channel)
    models = dict(state.models)
    for target in channel.models:
        models[target.model] = _advanced(models.get(target.model, Ratchet()), target)
    if len(models) > MAX_REMEMBERED:
        raise _Refused(
            MISPLACED,
            f"Found more than {MAX_REMEMBERED} names of models in the documents of this ring; "
            "a new online key (playbooks/fleet_keys.yml) lets the device forget the old ones.",
        )
    after = replace(
        state,
        sequence=channel.sequence,
        digest=digest,
        signers=signers,
        issued=max(state.issued, channel.issued),
        expires=channel.expires,
        models=models,
    )
    return Judgement(after, channel, new=True)


def _check_place(channel: Channel, own: Own, root: Root) -> None:
    """Refuse what is rightly signed, but for others."""
    _check_site(channel.site, own.site, "channel document")
    if channel.ring != own.ring:
        raise _Refused(
            MISPLACED,
            f"The channel document is for the ring {channel.ring}, this device is in {own.ring}.",
        )
    if own.device_class not in channel.device_classes:
        raise _Refused(
            MISPLACED,
            f"The channel document is for devices of the class {', '.join(channel.device_classes)};"
            f" this one is of the class {own.device_class}.",
        )
    if channel.root_version > root.version:
        raise _Refused(
            MISPLACED,
            f"The channel document was made under the root document {channel.root_version}, this "
            f"device has {root.version}: it has to fetch those in between first.",
        )


def _check_sequence(channel: Channel, digest: str, state: State) -> None:
    if channel.sequence < state.sequence:
        raise _Refused(
            OLD,
            f"Found the channel document {channel.sequence}, this device has believed "
            f"{state.sequence}: an older one is being replayed.",
        )
    if channel.sequence == state.sequence and digest != state.digest:
        raise _Refused(
            OLD,
            f"The channel document {channel.sequence} is not the one that this device believed "
            "under the same number; publish it under the next number.",
        )


def _check_fresh(channel: Channel, state: State, clock: Clock) -> None:
    """Refuse what has expired, as far as the time is known.

    A clock that was not compared is no reason; what was signed earlier says at least that it is
    later than that.
    """
    floor = max(state.issued, state.root.issued)
    now = max(clock.now, floor) if clock.synchronised else floor
    if now >= channel.expires:
        raise _Refused(
            STALE,
            f"The channel document {channel.sequence} has expired: this device keeps serving and "
            "takes nothing new. Look whether the control host publishes and what the clock says.",
        )


def _advanced(before: Ratchet, target: Target) -> Ratchet:
    """Return how far a model has come with a target, or refuse to go back.

    Going back to an older release is a new document that says so (``rollback``); below the
    minimum there is no way. The device's own revert to its recorded previous release asks nobody.
    """
    name = f"The channel document orders {target.model}"
    if target.generation < before.generation:
        raise _Refused(
            OLD,
            f"{name} with the generation {target.generation}, this device has seen "
            f"{before.generation}: another controller has taken over since.",
        )
    minimum = max(before.minimum, target.minimum_counter)
    if target.counter < minimum:
        raise _Refused(
            OLD,
            f"{name} with the release counter {target.counter}, the least that may be installed "
            f"is {minimum}: publish a release with a higher one.",
        )
    if target.counter < before.counter and not target.rollback:
        raise _Refused(
            OLD,
            f"{name} with the release counter {target.counter}, this device was told of "
            f"{before.counter}; going back has to be asked for (rollout_action=rollback).",
        )
    return Ratchet(target.generation, max(before.counter, target.counter), minimum)


# -- both ------------------------------------------------------------------------------------


def _parsed(parse: Callable[[bytes], _Document], data: bytes) -> _Document:
    try:
        return parse(data)
    except RegistryError as error:
        raise _Refused(UNREADABLE, str(error)) from None


def _check_site(found: str, wanted: str, where: str) -> None:
    if found != wanted:
        raise _Refused(
            MISPLACED, f"The {where} is of the site {shown(found)}, wanted {shown(wanted)}."
        )


def _check_signed(
    signed: Signed, root: Root, role: Role, where: str, verify: Verify
) -> tuple[str, ...]:
    """Return all keys of a role that signed, or refuse if they are too few.

    Every key counts once, however many signatures bear its name.
    """
    try:
        marks = parse_signatures(signed.signatures, f"{where}, signatures")
    except RegistryError as error:
        raise _Refused(UNREADABLE, str(error)) from None
    good = [key for key in role.keys if _has_signed(key, root, marks, signed.data, verify)]
    if len(good) < role.threshold:
        raise _Refused(
            UNSIGNED,
            f"The {where} was signed by {len(good)} of the keys {', '.join(role.keys)}, wanted "
            f"{role.threshold}.",
        )
    return tuple(good)


def _has_signed(key: str, root: Root, marks: Sequence[Mark], data: bytes, verify: Verify) -> bool:
    return any(
        verify(root.keys[key], data, signature) for named, signature in marks if named == key
    )
