# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of a site as people write them: parsed once, refused in a sentence.

``mlops_models`` becomes a tuple of ``Model``. Every problem begins with the place of the value,
such as ``mlops_models[1].targets[0]``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .._findings.shape import (
    ShapeError,
    field,
    known_keys,
    mapping,
    number,
    optional,
    shown,
    text,
)
from .entries import entries
from .quantities import at_most, counted, shown_any
from .words import meant, name_of, words

PLACE = "mlops_models"
EDGE = "edge"
ARTIFACT = re.compile(r"(models|runs):/.+")
STEPS = ("prepare", "train", "evaluate")
# What a model of which nothing else is known takes on a device, beside the server itself.
MEMORY_MIB, RELEASE_MAX_MIB = 64, 100
MOST_MIB, MOST_CASES = 1024 * 1024, 10_000
MODEL_KEYS = (
    "name",
    "project",
    "artifact",
    "data",
    "parameters",
    "thresholds",
    "margin",
    "tolerance",
    "cases",
    "targets",
    "memory_mib",
    "release_max_mib",
    "schedule",
    "sample",
)
SAMPLE_KEYS = ("rate", "days", "redact", "mib_per_day")
DROP, HASH = "drop", "hash"
MOST_DAYS, MIB_PER_DAY = 3650, 10
SCHEDULE_KEYS = ("calendar", "unchanged_data")
# What systemd's calendar expressions are made of; the control host reads them in full.
CALENDAR = re.compile(r"[0-9A-Za-z*][0-9A-Za-z *:,./~+_-]{0,99}")
WAIT, TRAIN = "wait", "train"


@dataclass(frozen=True)
class Schedule:
    """When a model is trained by itself.

    ``calendar`` is an expression of systemd.time(7), such as ``Mon *-*-* 03:00``. While the data
    are those of the last training, ``wait`` trains nothing and ``train`` trains all the same.
    """

    calendar: str
    unchanged_data: str = WAIT


@dataclass(frozen=True)
class Sample:
    """Which requests are kept in the object store.

    ``rate`` is the share of them, ``days`` how long they are kept, ``mib_per_day`` the most of a
    day over all devices. ``redact`` names inputs, or columns of them, that are left out (``drop``)
    or replaced by a keyed hash (``hash``).
    """

    rate: float
    days: int
    redact: Mapping[str, str]
    mib_per_day: int = MIB_PER_DAY

    @property
    def most_mib(self) -> int:
        """The most that is ever kept: the day that goes is there beside the one that comes."""
        return self.mib_per_day * (self.days + 1)


@dataclass(frozen=True)
class Model:
    """One model as a person wrote it.

    Either ``project`` (a directory, or the name of a sample) or ``artifact`` (a path,
    ``models:/name@alias`` or ``runs:/id/path``) says where it comes from. ``cases`` is how many
    golden requests are made, or the file that has them. Of ``tolerance`` None means the pipeline's
    own default, of ``margin`` that nothing is compared with the release before.
    """

    name: str
    project: str = ""
    artifact: str = ""
    data: str | Mapping[str, Any] = ""
    parameters: Mapping[str, Any] | None = None
    thresholds: Mapping[str, float] | None = None
    margin: float | None = None
    tolerance: float | None = None
    cases: int | str | None = None
    targets: tuple[str, ...] = (EDGE,)
    memory_mib: int = MEMORY_MIB
    release_max_mib: int = RELEASE_MAX_MIB
    schedule: Schedule | None = None
    sample: Sample | None = None

    def hosts(self, groups: Mapping[str, Sequence[str]]) -> list[str]:
        """The devices that it is for, in the order of the group of devices."""
        wanted = {host for target in self.targets for host in groups.get(target, (target,))}
        return [host for host in groups.get(EDGE, ()) if host in wanted]

    def as_dict(self, groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Plain data for playbooks: what was written, and the hosts. What was not is left out."""
        data: dict[str, Any] = {key: getattr(self, key) for key in MODEL_KEYS}
        data["targets"] = list(self.targets)
        data["schedule"] = asdict(self.schedule) if self.schedule else None
        data["sample"] = asdict(self.sample) if self.sample else None
        for key in ("data", "parameters", "thresholds"):
            if isinstance(data[key], Mapping):
                data[key] = dict(data[key])
        kept = {key: value for key, value in data.items() if value not in (None, "")}
        return {**kept, "hosts": self.hosts(groups)}


def _artifact(value: object) -> str:
    found = text(value)
    if ":/" in found and not ARTIFACT.fullmatch(found):
        raise ShapeError(
            f"must be a path, models:/name@alias or runs:/id/path, but is {shown(found)}"
        )
    return found


def _data(value: object) -> str | Mapping[str, Any]:
    """A place, or what a query needs; a password stands in a variable of its own."""
    if not isinstance(value, Mapping):
        return text(value)
    given = mapping(value)
    known_keys(given, ("postgresql",))
    query = field(given, "postgresql", mapping)
    allowed = ("query", "database", "user", "host", "port")
    try:
        known_keys(query, allowed)
        for key in ("query", "database", "user", "host"):
            field(query, key, text)
        optional(query, "port", counted(1, 65535), 5432)
    except ShapeError as error:
        raise error.within("postgresql") from None
    return given


def _thresholds(value: object) -> Mapping[str, float]:
    given = mapping(value)
    if not given:
        raise ShapeError("must name at least one metric")
    return {key: field(given, key, number) for key in given}


def _parameters(value: object) -> Mapping[str, Any]:
    given = mapping(value)
    known_keys(given, STEPS)
    for step in given:
        field(given, step, mapping)
    return given


def _cases(value: object) -> int | str:
    said = str(value).strip()
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ShapeError(f"must be a number of cases, or a file of them, but is {shown_any(value)}")
    return counted(1, MOST_CASES)(value) if said.isdigit() or isinstance(value, int) else text(said)


def _targets(value: object, groups: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    found = words([value] if isinstance(value, str) else value)
    devices = set(groups.get(EDGE) or ())
    for index, target in enumerate(found):
        place = "" if isinstance(value, str) else f"[{index}]"
        if target not in groups and target not in groups.get("all", ()):
            raise ShapeError(
                f"the inventory has no group and no host {shown(target)}"
                + meant(target, [*groups, *devices]),
                place,
            )
        strangers = [host for host in groups.get(target, (target,)) if host not in devices]
        if strangers and len(strangers) == len(groups.get(target, (target,))):
            raise ShapeError(f"{shown(target)} has no device; devices are in the group edge", place)
    return found


def _calendar(value: object) -> str:
    found = text(value)
    if not CALENDAR.fullmatch(found):
        raise ShapeError(
            "must be a calendar expression of systemd, such as daily or 'Mon *-*-* 03:00', but is"
            f" {shown(found)}"
        )
    return found


def _unchanged(value: object) -> str:
    found = text(value)
    if found not in (WAIT, TRAIN):
        raise ShapeError(f"must be {WAIT} or {TRAIN}, but is {shown(found)}")
    return found


def _schedule(value: object) -> Schedule:
    """A calendar alone, or with what is done while the data stay the same."""
    if isinstance(value, str):
        return Schedule(_calendar(value))
    given = mapping(value)
    known_keys(given, SCHEDULE_KEYS)
    return Schedule(
        field(given, "calendar", _calendar), optional(given, "unchanged_data", _unchanged, WAIT)
    )


def _redaction(value: object) -> Mapping[str, str]:
    given = mapping(value)
    for name in given:
        if field(given, name, text) not in (DROP, HASH):
            raise ShapeError(f"must be {DROP} or {HASH}, but is {shown(given[name])}", name)
    return dict(given)


def _sample(value: object) -> Sample:
    """What is kept of a model; that nothing has to be redacted is said, and not assumed."""
    given = mapping(value)
    known_keys(given, SAMPLE_KEYS)
    return Sample(
        rate=field(given, "rate", at_most(1.0, number, "all requests")),
        days=field(given, "days", counted(1, MOST_DAYS)),
        redact=field(given, "redact", _redaction),
        mib_per_day=optional(given, "mib_per_day", counted(1, MOST_MIB), MIB_PER_DAY),
    )


def _margin(value: object) -> float:
    return at_most(1.0, number, "a metric can differ")(value)


def _check_margin(given: Mapping[str, Any], artifact: str) -> None:
    """Refuse a margin that would have no effect."""
    if optional(given, "margin", _margin, None) is None:
        return
    if artifact:
        raise ShapeError(
            "compares what a project measures of two releases; nothing measures an artifact",
            "margin",
        )
    if not given.get("thresholds"):
        raise ShapeError("compares the metrics of thresholds; name at least one there", "margin")


def parse_model(data: object, groups: Mapping[str, Sequence[str]]) -> Model:
    """One entry of ``mlops_models``. Raises ShapeError with the field that is wrong."""
    given = mapping(data)
    known_keys(given, MODEL_KEYS)
    name = field(given, "name", name_of)
    project = optional(given, "project", text, "")
    artifact = optional(given, "artifact", _artifact, "")
    if project and artifact:
        raise ShapeError("cannot stand beside project; keep one of them", "artifact")
    if not project and not artifact:
        raise ShapeError("must have project or artifact, which say where the model comes from")
    if artifact:
        for key in ("data", "parameters"):
            if given.get(key) is not None:
                raise ShapeError("is read by a project; an artifact is there already", key)
        if given.get("schedule") is not None:
            raise ShapeError("trains a project again; nothing trains an artifact", "schedule")
    _check_margin(given, artifact)
    mib = counted(1, MOST_MIB)
    return Model(
        name=name,
        project=project,
        artifact=artifact,
        data="" if given.get("data") is None else field(given, "data", _data),
        parameters=optional(given, "parameters", _parameters, None),
        thresholds=optional(given, "thresholds", _thresholds, None),
        margin=optional(given, "margin", _margin, None),
        tolerance=optional(given, "tolerance", number, None),
        cases=optional(given, "cases", _cases, None),
        targets=optional(given, "targets", lambda value: _targets(value, groups), (EDGE,)),
        memory_mib=optional(given, "memory_mib", mib, MEMORY_MIB),
        release_max_mib=optional(given, "release_max_mib", mib, RELEASE_MAX_MIB),
        schedule=optional(given, "schedule", _schedule, None),
        sample=optional(given, "sample", _sample, None),
    )


def parse_models(
    value: object, groups: Mapping[str, Sequence[str]], place: str = PLACE
) -> tuple[tuple[Model, ...], tuple[str, ...]]:
    """All models that can be read, and a sentence for each that cannot."""
    return entries(value, lambda row: parse_model(row, groups), place)
