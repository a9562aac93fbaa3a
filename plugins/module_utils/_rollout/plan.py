# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a rollout: everything that was decided before its first device, frozen at the start.

A controller that resumes reads the plan from the journal. What the inventory says by then changes
nothing about rings, limits and gates of a rollout that is under way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from .._findings.sentence import counted, plain
from .._findings.shape import (
    ShapeError,
    each,
    items,
    known_keys,
    mapping,
    number,
    optional,
    text,
    whole,
)
from .._findings.shape import field as field_of
from .errors import RolloutError
from .rings import Measured, cut, ring_groups
from .shapes import Ring
from .window import Window, parse

SCHEMA = 1
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MODEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
TRANSPORTS = PUSH, PULL = "push", "pull"
CONTACTS_A_SECOND = 100
# What a channel document can say (_release.channel.documents).
LEAST_CONTACT, MOST_CONTACT = 5.0, 86400.0
RING, ALL = "ring", "all"
NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Limits:
    """How long, how many and how fast. Times are seconds."""

    bake: float = 300.0  # a ring bakes at least so long
    bake_limit: float = 1800.0  # and without a verdict no longer than this
    poll: float = 30.0
    concurrent_downloads: int = 4
    bandwidth_mbit: float = 0.0  # of all downloads together; 0 is no cap
    deferred_share: float = 0.2  # of a ring; above it the ring pauses
    failed_share: float = 0.0  # of a ring; above it the ring fails
    min_requests: int = 0
    probe_requests: int = 0
    # Of devices that fetch their orders: seconds between two contacts while something is awaited of
    # them, and else. ``pace`` is the poll of rings without such devices; 0 is ``poll``.
    contact: float = 15.0
    idle: float = 300.0
    pace: float = 0.0

    @property
    def deadline(self) -> float:
        """After so many seconds an activated device that was not committed reverts by itself.

        Two polls beyond the limit of baking: one for the last look, one for the commit.
        """
        return self.bake_limit + 2 * self.poll


@dataclass(frozen=True)
class Planned:
    """One device in the plan."""

    previous: str = ""  # the digest that it served at the start; none is empty
    transport: str = "push"
    online: bool = True
    kind: str = ""
    channel: str = ""  # that it follows, where it fetches its orders


@dataclass(frozen=True)
class Change:
    """A key of the configuration that the release has otherwise; values are JSON."""

    key: str
    before: str
    after: str


@dataclass(frozen=True)
class Plan:
    """A rollout, frozen."""

    rollout: str
    model: str
    digest: str
    version: str
    counter: int
    size: int
    rings: tuple[Ring, ...]
    devices: Mapping[str, Planned]
    limits: Limits
    gates: Mapping[str, Any] = field(default_factory=dict)
    local: Mapping[str, float] = field(default_factory=dict)  # limits of the gates on the device
    approval: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    window: str = ""
    on_failure: str = RING
    promoted: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    # Of a configuration alone: what is other, of which version, and what a device with it fetches.
    changes: tuple[Change, ...] = ()
    base: str = ""
    fetched: int = 0
    schema: int = SCHEMA

    @property
    def first(self) -> bool:
        """Whether no device serves the model yet, so that no control ring can exist."""
        return not any(device.previous for device in self.devices.values())

    def as_dict(self) -> dict[str, Any]:
        """For the journal."""
        return asdict(self)

    def when(self) -> Window:
        """The maintenance window."""
        return parse(self.window)


def from_dict(data: Mapping[str, Any]) -> Plan:
    """Read a plan from the journal."""
    if data.get("schema") != SCHEMA:
        raise RolloutError(
            f"The plan in the journal has the schema {data.get('schema')}, this release reads "
            f"{SCHEMA}; finish that rollout with the release of the collection that began it."
        )
    names = set(Plan.__dataclass_fields__)
    values = {name: value for name, value in data.items() if name in names}
    values["rings"] = tuple(Ring(ring["name"], tuple(ring["hosts"])) for ring in data["rings"])
    values["devices"] = {host: Planned(**device) for host, device in data["devices"].items()}
    values["limits"] = Limits(**data["limits"])
    values["approval"] = {ring: tuple(names) for ring, names in data["approval"].items()}
    for name in ("promoted", "said"):
        values[name] = tuple(data[name])
    values["changes"] = tuple(Change(**change) for change in data.get("changes") or ())
    return Plan(**values)


# -- reading what was asked for ----------------------------------------------------------------

KEYS = (
    "version", "digest", "counter", "size", "devices", "groups", "rings", "shares", "gates",
    "local", "approval", "window", "on_failure", "bake_seconds", "bake_limit_seconds",
    "poll_seconds", "concurrent_downloads", "bandwidth_mbit", "deferred_share", "failed_share",
    "min_requests", "probe_requests", "contact_seconds", "idle_seconds", "changes", "base",
    "fetched",
)  # fmt: skip
DEVICE_KEYS = (
    "previous", "transport", "channel", "online", "architecture", "memory_mib", "accelerator",
)  # fmt: skip


def make(model: str, request: Mapping[str, Any], now: float, earlier: Sequence[str] = ()) -> Plan:
    """Freeze a plan; raises RolloutError with what of the request is not as it must be."""
    if not MODEL.fullmatch(model):
        raise RolloutError(
            f"rollout_model is {model!r}; a model has a name of small letters, digits, '.', '_' "
            "and '-'."
        )
    try:
        return _made(model, mapping(request), now, earlier)
    except ShapeError as error:
        raise RolloutError(f"The rollout cannot be planned: {error}.") from None


def _made(model: str, request: Mapping[str, Any], now: float, earlier: Sequence[str]) -> Plan:
    known_keys(request, KEYS)
    devices, measured = _devices(request.get("devices") or {})
    rings = cut(
        measured,
        each_names_of(request, "groups"),
        optional(request, "rings", lambda value: each(value, text), ()),
        optional(request, "shares", lambda value: each(value, number), (0.01, 0.1, 1.0)),
        earlier,
    )
    _one_ring_a_channel(rings.rings, devices)
    digest = str(request.get("digest") or "")
    if not DIGEST.fullmatch(digest):
        raise ShapeError(f"must be sha256: and 64 hexadecimal digits, but is {digest!r}", "digest")
    approval = approval_of(request)
    known_rings(approval, ring_names(request, [ring.name for ring in rings.rings]))
    on_failure = str(request.get("on_failure") or RING)
    if on_failure not in (RING, ALL):
        raise ShapeError(f"must be {RING} or {ALL}, but is {on_failure!r}", "on_failure")
    window = " ; ".join(str(line) for line in _lines(request.get("window")))
    parse(window)
    began = datetime.fromtimestamp(now, timezone.utc)
    return Plan(
        rollout=f"{model}-{began:%Y%m%dT%H%M%SZ}-{digest[7:15]}",
        model=model,
        digest=digest,
        version=str(request.get("version") or ""),
        counter=optional(request, "counter", whole, 0),
        size=optional(request, "size", whole, 0),
        rings=rings.rings,
        devices=devices,
        limits=limits_of(request, pulling(devices)),
        gates=optional(request, "gates", mapping, {}),
        local={name: number(value) for name, value in (request.get("local") or {}).items()},
        approval=approval,
        window=window,
        on_failure=on_failure,
        promoted=rings.promoted,
        said=rings.said,
        changes=optional(request, "changes", lambda value: each(value, _change), ()),
        base=str(request.get("base") or ""),
        fetched=optional(request, "fetched", whole, 0),
    )


def _change(value: object) -> Change:
    row = mapping(value)
    known_keys(row, ("key", "before", "after"))
    return Change(*(field_of(row, name, text) for name in ("key", "before", "after")))


def next_poll(devices: int, contact: float = 15.0) -> int:
    """Seconds after which devices that fetch their orders ask again while something is awaited.

    A contact takes the gateway 2 ms of one core (tests/benchmarks/fleet.py), so that a hundred a
    second leave most of it to others.
    """
    return max(int(contact), -(-devices // CONTACTS_A_SECOND))


def pulling(devices: Mapping[str, Planned]) -> int:
    """How many devices fetch their orders."""
    return sum(device.transport != PUSH for device in devices.values())


def _one_ring_a_channel(rings: Sequence[Ring], devices: Mapping[str, Planned]) -> None:
    """All that follow a channel do what it says, so it is of one ring."""
    where: dict[str, str] = {}
    for ring in rings:
        for host in ring.hosts:
            channel = devices[host].channel
            if channel and where.setdefault(channel, ring.name) != ring.name:
                raise ShapeError(
                    f"{host} of the ring {ring.name} follows the channel {channel}, as devices of "
                    f"the ring {where[channel]} do; put devices with rollout_transport: pull into "
                    "groups ring_* that are the rings of this rollout",
                    "devices",
                )


def _lines(window: object) -> Sequence[object]:
    if window is None or window == "":
        return ()
    return (window,) if isinstance(window, str) else items(window)


def each_names_of(request: Mapping[str, Any], key: str) -> dict[str, tuple[str, ...]]:
    """Lists of names by name."""
    found = {}
    for name, value in optional(request, key, mapping, NOTHING).items():
        try:
            found[name] = each(value, text)
        except ShapeError as error:
            raise error.within(f"{key}.{name}") from None
    return found


def approval_of(request: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Who may approve each ring; one that nobody may would begin unasked."""
    found = each_names_of(request, "approval")
    for ring, persons in found.items():
        if not persons:
            raise ShapeError("must name at least one person", f"approval.{ring}")
    return found


def ring_names(request: Mapping[str, Any], kept: Sequence[str]) -> tuple[str, ...]:
    """The rings of a site, those among them in which a model has no device."""
    declared = request.get("rings") or ring_groups(request.get("groups") or ())
    return tuple(dict.fromkeys((*declared, *kept)))


def known_rings(approval: Mapping[str, Any], rings: Sequence[str]) -> None:
    """Refuse persons for a ring that there is not."""
    for name in approval:
        if name not in rings:
            raise ShapeError(
                f"names the ring {name}, and the rings are {', '.join(rings)}", "approval"
            )


def _devices(data: Any) -> tuple[dict[str, Planned], dict[str, Measured]]:
    devices, measured = {}, {}
    for host, row in mapping(data).items():
        try:
            known_keys(mapping(row), DEVICE_KEYS)
            transport = str(row.get("transport") or "push")
            if transport not in TRANSPORTS:
                raise ShapeError(f"must be push or pull, but is {transport!r}", "transport")
            found = Measured(
                str(row.get("architecture") or ""),
                optional(row, "memory_mib", number, 0.0),
                str(row.get("accelerator") or ""),
            )
        except ShapeError as error:
            raise error.within(f"devices.{host}") from None
        measured[host] = found
        online = bool(row.get("online", True))
        devices[host] = Planned(
            str(row.get("previous") or ""),
            transport,
            online,
            found.kind,
            str(row.get("channel") or "") if transport != PUSH else "",
        )
    return devices, measured


def devices_of(request: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The devices that a request names, for those that come late."""
    try:
        devices, _measured = _devices(request.get("devices") or {})
    except ShapeError as error:
        raise RolloutError(f"The devices cannot be read: {error}.") from None
    return {host: asdict(device) for host, device in devices.items()}


def share(value: object) -> float:
    """A share of a ring, from 0 to 1."""
    found = number(value)
    if found > 1:
        raise ShapeError(f"must be a share from 0 to 1, but is {found:g}")
    return found


def positive(value: object) -> float:
    """A number above 0."""
    found = number(value)
    if found <= 0:
        raise ShapeError("must be above 0")
    return found


def _contact(value: object) -> float:
    found = number(value)
    if not LEAST_CONTACT <= found <= MOST_CONTACT:
        raise ShapeError(f"must be from {LEAST_CONTACT:g} to {MOST_CONTACT:g} seconds")
    return found


def limits_of(request: Mapping[str, Any], pull: int = 0) -> Limits:
    """The bounds of a rollout; ``pull`` is how many devices fetch their orders."""
    default = Limits()
    # A gate that tolerates failed devices means those that fail before it can look, too.
    failed = mapping(request.get("gates") or {}).get("device_failure_rate_max") or 0.0
    limits = Limits(
        bake=optional(request, "bake_seconds", number, default.bake),
        bake_limit=optional(request, "bake_limit_seconds", positive, default.bake_limit),
        poll=optional(request, "poll_seconds", positive, default.poll),
        concurrent_downloads=optional(
            request, "concurrent_downloads", whole, default.concurrent_downloads
        ),
        bandwidth_mbit=optional(request, "bandwidth_mbit", number, default.bandwidth_mbit),
        deferred_share=optional(request, "deferred_share", share, default.deferred_share),
        failed_share=optional(request, "failed_share", share, share(failed)),
        min_requests=optional(request, "min_requests", whole, default.min_requests),
        probe_requests=optional(request, "probe_requests", whole, default.probe_requests),
        contact=optional(request, "contact_seconds", _contact, default.contact),
        idle=optional(request, "idle_seconds", _contact, default.idle),
    )
    if pull:
        # Twice the time in which one asks: also the last look before a deadline hears of it.
        slow = max(limits.poll, 2.0 * next_poll(pull, limits.contact))
        limits = replace(limits, poll=slow, pace=limits.poll)
    if limits.concurrent_downloads < 1:
        raise ShapeError("must be at least 1", "concurrent_downloads")
    if limits.bake > limits.bake_limit:
        raise ShapeError(
            f"is {limits.bake:g} and bake_limit_seconds {limits.bake_limit:g}; a ring cannot bake "
            "longer than its limit",
            "bake_seconds",
        )
    return limits


# -- what --check prints -----------------------------------------------------------------------


def forecast(plan: Plan, detectable: Callable[[int], float]) -> list[dict[str, Any]]:
    """Per ring: devices, the smallest defect rate that it can detect, bytes and seconds.

    ``seconds`` is the download over the capped link and the shortest baking; where no cap is
    declared it is the baking alone, since nobody measured the link.
    """
    rows = []
    for ring in plan.rings:
        size = (plan.fetched or plan.size) * len(ring.hosts)
        cap = plan.limits.bandwidth_mbit * 1e6 / 8
        rows.append(
            {
                "ring": ring.name,
                "hosts": len(ring.hosts),
                "classes": sorted({plan.devices[host].kind for host in ring.hosts}),
                "offline": sum(not plan.devices[host].online for host in ring.hosts),
                "detectable": detectable(len(ring.hosts)),
                "bytes": size,
                "download_seconds": size / cap if cap else 0.0,
                "seconds": (size / cap if cap else 0.0) + plan.limits.bake,
                "approval": list(plan.approval.get(ring.name, ())),
            }
        )
    return rows


def lines(plan: Plan, rows: Sequence[Mapping[str, Any]], power: float) -> list[str]:
    """The plan, as ``--check`` prints it; ``power`` is how sure a ring sees the rate it detects."""
    found = [
        f"Rollout of {plan.model} {plan.version or plan.digest} to "
        f"{counted(len(plan.devices), 'device')} in {counted(len(rows), 'ring')}."
    ]
    if plan.changes:
        found.append(f"A configuration alone, of version {plan.base}:")
        found += [f"  {one.key}: {one.before} -> {one.after}" for one in plan.changes]
    for row in rows:
        found.append(
            f"{row['ring']}: {counted(row['hosts'], 'device')}"
            + (f" ({row['offline']} offline)" if row["offline"] else "")
            + f", detects a defect rate of {plain(100 * row['detectable'], 2)} % or more with a "
            f"probability of {plain(100 * power, 2)} %, "
            f"{plain(row['bytes'] / 1e6, 1)} MB, at least {row['seconds']:.0f} s"
            + (f", needs the approval of {' or '.join(row['approval'])}" if row["approval"] else "")
            + "."
        )
    limits = plan.limits
    found.append(
        f"A ring bakes {limits.bake:g} to {limits.bake_limit:g} s, looked at every "
        f"{limits.poll:g} s; a device without a commit reverts by itself after "
        f"{limits.deadline:g} s. At most {counted(limits.concurrent_downloads, 'device')} "
        "download at once"
        + (f", over {limits.bandwidth_mbit:g} Mbit/s." if limits.bandwidth_mbit else ".")
    )
    if plan.window:
        found.append(f"Rings begin and switch within {plan.window}.")
    if plan.first:
        found.append("No device serves the model yet: gates against a control ring are left out.")
    return [*found, *plan.said]
