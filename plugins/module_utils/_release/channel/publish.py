# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control host's side: it keeps the online key, signs channels with it and lays them out.

What is published is first judged by the very rules of the devices, with a memory of its own for
each ring: what a device would refuse is not published, and says why with the same sentence. The
sequence is on the disk before anything with it is signed.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import RegistryError
from ..keys import key_id
from ..oci import read_json
from ..openssl import Run, run_openssl
from .documents import (
    MAX_NUMBER,
    Channel,
    Mark,
    Role,
    Signed,
    Target,
    build_signatures,
    parse_channel,
    parse_root,
    parse_signatures,
    parse_target,
)
from .rules import Clock, Own, State, Verify, first, judge
from .state import Folder, Keeper, Trust, by_openssl

ROTATE = "playbooks/fleet_keys.yml"
SERIAL = "sequence.json"
CLOCK_WENT_BACK = 86400


def hand_to_owner(handle: int, place: Path) -> None:
    """What root puts in a directory belongs to its owner, whose timer goes on with it."""
    owner, own = place.stat(), os.fstat(handle)
    if os.geteuid() == 0:
        os.fchown(handle, owner.st_uid, owner.st_gid)
    elif own.st_gid != owner.st_gid:
        os.fchown(handle, -1, owner.st_gid)


def put(path: Path, data: bytes, mode: int) -> None:
    """Put a file in its place whole, and return when it is on the medium."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            hand_to_owner(stream.fileno(), path.parent)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    Folder(path.parent).sync_names()


class Keys:
    """The online keys of a site, each in a file that its id names and only its owner reads."""

    def __init__(self, directory: Path, run: Run = run_openssl) -> None:
        self._directory, self._run = directory, run

    def all(self) -> dict[str, Path]:
        """Return the files of the keys by their ids."""
        return {path.stem: path for path in sorted(self._directory.glob("*.key"))}

    def public(self, name: str) -> str:
        """Return the public half of a key in PEM form."""
        return self._run(["pkey", "-in", str(self.all()[name]), "-pubout"], b"").decode("ascii")

    def make(self) -> str:
        """Make a key; return its id."""
        data = self._run(
            ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], b""
        )
        name = key_id(self._run(["pkey", "-pubout"], data).decode("ascii"))
        put(self._directory / f"{name}.key", data, 0o600)
        return name

    def sign(self, name: str, data: bytes) -> bytes:
        """Sign literal bytes with a key."""
        return self._run(["dgst", "-sha256", "-sign", str(self.all()[name])], data)

    def drop(self, name: str) -> None:
        """Take a key away that has no word any more."""
        self.all()[name].unlink()


@dataclass(frozen=True)
class Wanted:
    """What the devices of a ring are to be told."""

    ring: str
    device_classes: tuple[str, ...]
    targets: tuple[Target, ...]
    next_poll: int = 300
    valid_seconds: int = 30 * 86400


@dataclass(frozen=True)
class Published:
    """What came of it."""

    changed: bool
    channel: Channel


class Publisher:
    """Publishes for one site: ``fleet`` is what nginx serves, ``own`` what nobody else reads."""

    def __init__(
        self, site: str, fleet: Path, own: Path, now: float, verify: Verify = by_openssl
    ) -> None:
        self.site, self._now, self._verify = site, int(now), verify
        self._roots, self._channels, self._own = fleet / "root", fleet / "channel", own
        self.keys = Keys(own)
        for place in (self._roots, self._channels, own):
            if not place.is_dir():
                raise RegistryError(
                    f"The directory {place} is not there; set gateway_fleet to true and run "
                    "site.yml."
                )

    def hand_over(self) -> None:
        """Give what root has made among the keys to whom they belong; others change nothing."""
        if os.geteuid() != 0:
            return
        owner = self._own.stat()
        for place, _directories, names in os.walk(self._own):
            for path in (Path(place), *(Path(place) / name for name in names)):
                found = path.lstat()
                if (found.st_uid, found.st_gid) != (owner.st_uid, owner.st_gid):
                    os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

    # -- roots ------------------------------------------------------------------------------

    def roots(self) -> list[Signed]:
        """Return the root documents that are published, the first one first."""
        found: list[Signed] = []
        while (self._roots / f"{len(found) + 1}.json").exists():
            found.append(self._signed(self._roots / f"{len(found) + 1}.json"))
        return found

    @staticmethod
    def _signed(path: Path) -> Signed:
        try:
            return Signed(path.read_bytes(), Path(f"{path}.sig").read_bytes())
        except OSError as error:
            raise RegistryError(f"{error.filename} cannot be read: {error.strerror}.") from None

    def trusted(self) -> State | None:
        """Return what a device that follows all roots would trust; None before the first."""
        roots = self.roots()
        return self._followed(roots) if roots else None

    def _followed(self, roots: Sequence[Signed]) -> State:
        state = first(roots[0], self.site, self._verify)
        verdict = judge(state, roots[1:], None, self._clock(False), self._self(""), self._verify)
        if verdict.refusal is not None:
            raise RegistryError(verdict.refusal.sentence)
        return verdict.state

    def _self(self, ring: str, device_class: str = "") -> Own:
        return Own(self.site, ring, device_class)

    def _clock(self, synchronised: bool = True) -> Clock:
        return Clock(self._now, synchronised)

    def key(self, fresh: bool = False, write: bool = True) -> str:
        """Return the id of the online key that the next root is to name.

        That is the one that speaks now; one that was made and named by no root ever, where
        ``fresh`` asks for another or none speaks.
        """
        state, known = self.trusted(), self.keys.all()
        ever = {name for root in self.roots() for name in parse_root(root.data).channel.keys}
        speaking = [n for n in known if state is not None and n in state.root.channel.keys]
        waiting = [name for name in known if name not in ever]
        found = waiting if fresh or not speaking else speaking
        if found:
            return found[0]
        return self.keys.make() if write else ""

    def install(self, root: Signed, write: bool = True) -> bool:
        """Publish the next root document; say whether anything changed.

        Channels are published anew under it: those that a key signed which has no word any more
        would be refused.
        """
        roots = self.roots()
        version = parse_root(root.data).version
        if version <= len(roots) and roots[version - 1].data == root.data:
            return False
        if version != len(roots) + 1:
            raise RegistryError(
                f"Found the root document {version}, wanted {len(roots) + 1}: one follows the "
                "other."
            )
        state = self._followed([*roots, root])
        if not set(self.keys.all()) & set(state.root.channel.keys):
            raise RegistryError(
                f"The root document {version} names the online keys "
                f"{', '.join(state.root.channel.keys)}, and none of them is on this host; make it "
                f"with {ROTATE}."
            )
        if write:
            path = self._roots / f"{version}.json"
            put(Path(f"{path}.sig"), root.signatures, 0o640)
            put(path, root.data, 0o640)
            for name in set(self.keys.all()) - set(state.root.channel.keys):
                self.keys.drop(name)
            self.renew(always=True)
        return True

    # -- channels ---------------------------------------------------------------------------

    def channels(self) -> dict[str, Channel]:
        """Return what is published, by ring."""
        found = {}
        for path in sorted(self._channels.glob("*.json")):
            channel = parse_channel(path.read_bytes(), str(path))
            found[channel.ring] = channel
        return found

    def renew(self, always: bool = False, write: bool = True) -> list[str]:
        """Publish anew what has used up half of its time; return the rings."""
        state = self.trusted()
        if state is None:
            return []
        done = []
        for ring, channel in self.channels().items():
            if always or self._is_due(channel, state):
                if write:
                    self._publish(replace(channel, root_version=state.root.version), state)
                done.append(ring)
        return done

    def _is_due(self, channel: Channel, state: State) -> bool:
        half = channel.issued + (channel.expires - channel.issued) / 2
        return channel.root_version != state.root.version or self._now >= half

    def probe(
        self, ring: str, model: str, probes: int, until: int, write: bool = True
    ) -> Published | None:
        """Have devices that stay on their release ask themselves; None where nobody told them."""
        before = self.channels().get(ring)
        named = before is not None and any(target.model == model for target in before.models)
        if before is None or not named:
            return None
        targets = tuple(
            replace(target, probes=probes, probe_until=until) if target.model == model else target
            for target in before.models
        )
        valid = before.expires - before.issued
        return self.publish(
            Wanted(ring, before.device_classes, targets, before.next_poll, valid), write
        )

    def publish(self, wanted: Wanted, write: bool = True) -> Published:
        """Tell the devices of a ring; nothing is signed where they were told the same."""
        state = self.trusted()
        if state is None:
            raise RegistryError(f"This site has no root document yet; make it with {ROTATE}.")
        channel = Channel(
            site=self.site,
            ring=wanted.ring,
            device_classes=wanted.device_classes,
            sequence=1,
            issued=self._now,
            expires=self._now + wanted.valid_seconds,
            root_version=state.root.version,
            next_poll=wanted.next_poll,
            models=wanted.targets,
        )
        parse_channel(channel.to_bytes())
        before = self.channels().get(wanted.ring)
        if before is not None and not self._is_due(before, state):
            same = replace(
                channel, sequence=before.sequence, issued=before.issued, expires=before.expires
            )
            valid = before.expires - before.issued == wanted.valid_seconds
            if valid and same.to_bytes() == before.to_bytes():
                return Published(False, before)
        if not write:
            return Published(True, channel)
        return Published(True, self._publish(channel, state))

    def _publish(self, channel: Channel, state: State) -> Channel:
        """Sign a channel with the next number, once the devices' own rules have taken it."""
        valid = channel.expires - channel.issued
        sequence, issued = self._next()
        channel = replace(channel, sequence=sequence, issued=issued, expires=issued + valid)
        data = channel.to_bytes()
        marks = [(name, self.keys.sign(name, data)) for name in self._speaking(state.root.channel)]
        path = self._channels / f"{channel.ring}.json"
        signed = Signed(data, build_signatures(marks))
        self._rehearse(channel, signed)
        # Whoever fetches one file before and the other after the change finds a good signature.
        put(Path(f"{path}.sig"), build_signatures([*marks, *self._marks(path)]), 0o640)
        put(path, data, 0o640)
        return channel

    def _speaking(self, role: Role) -> list[str]:
        found = [name for name in role.keys if name in self.keys.all()]
        if len(found) < role.threshold:
            raise RegistryError(
                f"This host has {len(found)} of the online keys that the root document names, "
                f"wanted {role.threshold}; make new ones with {ROTATE}."
            )
        return found

    @staticmethod
    def _marks(path: Path) -> list[Mark]:
        """The newest signature of each key beside what is published now."""
        try:
            found = parse_signatures(Path(f"{path}.sig").read_bytes())
        except (OSError, RegistryError):
            return []
        return [mark for number, mark in enumerate(found) if mark[0] not in dict(found[:number])]

    def _rehearse(self, channel: Channel, signed: Signed) -> None:
        """Let the device that this host keeps for the ring judge it first."""
        place = self._own / channel.ring
        if not place.is_dir():
            place.mkdir(mode=0o700)
            os.chown(place, -1, self._own.stat().st_gid)
        roots = self.roots()
        own = self._self(channel.ring, channel.device_classes[0])
        device = Trust(Keeper(Folder(place)), own, self._verify)
        device.enrol(roots[0])
        known = device.state().root.version
        verdict = device.take(roots[known:], signed, self._clock())
        if verdict.refusal is not None:
            raise RegistryError(f"Devices would refuse this: {verdict.refusal.sentence}")

    def _next(self) -> tuple[int, int]:
        """Return the next number and the time of a document; the number is used up from now on."""
        path = self._own / SERIAL
        last, issued = self._last(path)
        if self._now < issued - CLOCK_WENT_BACK:
            raise RegistryError(
                f"The clock of this host says {self._now}, and the last document was issued at "
                f"{issued}: set the clock. Where that one was wrong, publish a new online key "
                f"({ROTATE} -e fleet_rotate=online), which lets devices forget it."
            )
        published = [(one.sequence, one.issued) for one in self.channels().values()]
        sequence = max([last, *(number for number, _when in published)]) + 1
        if sequence > MAX_NUMBER:
            raise RegistryError(f"There is no number after {last}; publish a new online key.")
        put(
            path,
            json.dumps({"sequence": sequence, "issued": max(self._now, issued)}).encode(),
            0o600,
        )
        return sequence, max(self._now, issued)

    @staticmethod
    def _last(path: Path) -> tuple[int, int]:
        try:
            value: Any = read_json(path.read_bytes(), str(path))
            return int(value["sequence"]), int(value["issued"])
        except FileNotFoundError:
            return 0, 0
        except (RegistryError, ValueError, KeyError, TypeError) as error:
            raise RegistryError(
                f"{path} cannot be read ({error}); put the sequence of the newest document in "
                'it: {"sequence": 1, "issued": 1}.'
            ) from None


def read_target(row: dict[str, Any], minimum: int, where: str) -> Target:
    """Read what a playbook says of one model; what it leaves out is the least there is."""
    return parse_target(
        {
            "minimum_counter": minimum,
            "deadline": 0,
            "limits": {},
            "rate": 0,
            "rollback": False,
            "probes": 0,
            "probe_until": 0,
            **{name: value for name, value in row.items() if value is not None},
        },
        where,
    )
