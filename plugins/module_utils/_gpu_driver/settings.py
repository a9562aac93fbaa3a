# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the cards are to be: MIG layout of the plan, power limit, ECC, persistence mode.

Read the state, say the commands, read the state again: ``nvidia-smi -mig 1`` can end with 0 and
change nothing, and ECC and MIG may wait for a reset of the card. So what counts is never what a
command answered, but what the card says afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FIELDS = (
    "index",
    "uuid",
    "persistence_mode",
    "power.limit",
    "power.min_limit",
    "power.max_limit",
    "ecc.mode.current",
    "ecc.mode.pending",
    "mig.mode.current",
    "mig.mode.pending",
)
QUERY = ("nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits")
LIST = ("nvidia-smi", "mig", "-lgi")
# A row of ``nvidia-smi mig -lgi``: GPU, name, profile, instance, start and size of the placement.
INSTANCE = re.compile(r"^\|\s*(\d+)\s+MIG\s+(\S+)\s+(\d+)\s+(\d+)\s+(\d+):(\d+)\s*\|", re.M)
ON = {"Enabled": True, "Disabled": False}


@dataclass(frozen=True)
class Instance:
    """A GPU instance: its profile, and the memory slice at which it begins."""

    profile: str
    start: int


@dataclass(frozen=True)
class Card:
    """A card as it is. None: the card does not have it."""

    index: int
    uuid: str
    persistence: bool | None = None
    power: float | None = None
    power_least: float | None = None
    power_most: float | None = None
    ecc: bool | None = None
    ecc_pending: bool | None = None
    mig: bool | None = None
    mig_pending: bool | None = None
    instances: tuple[Instance, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """A card as it is to be. None: as it is."""

    persistence: bool | None = None
    power: float | None = None
    ecc: bool | None = None
    mig: bool | None = None
    instances: tuple[Instance, ...] = ()


@dataclass(frozen=True)
class Step:
    """A command, and what it is for."""

    said: str
    argv: tuple[str, ...]


def state(table: str, instances: str) -> tuple[Card, ...]:
    """The cards, of the answers to `QUERY` and `LIST`."""
    found: dict[int, list[Instance]] = {}
    for index, name, _profile, _instance, start, _size in INSTANCE.findall(instances):
        found.setdefault(int(index), []).append(Instance(name, int(start)))
    cards = []
    for line in table.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != len(FIELDS) or not parts[0].isdigit():
            continue
        row = dict(zip(FIELDS, parts))
        index = int(row["index"])
        cards.append(
            Card(
                index=index,
                uuid=row["uuid"],
                persistence=ON.get(row["persistence_mode"]),
                power=_figure(row["power.limit"]),
                power_least=_figure(row["power.min_limit"]),
                power_most=_figure(row["power.max_limit"]),
                ecc=ON.get(row["ecc.mode.current"]),
                ecc_pending=ON.get(row["ecc.mode.pending"]),
                mig=ON.get(row["mig.mode.current"]),
                mig_pending=ON.get(row["mig.mode.pending"]),
                instances=tuple(sorted(found.get(index, ()), key=lambda one: one.start)),
            )
        )
    return tuple(cards)


def _figure(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def layout(rows: Iterable[Mapping[str, Any]]) -> dict[str, tuple[Instance, ...]]:
    """MIG instances by card, of the replicas that the plan places on the host."""
    found: dict[str, list[Instance]] = {}
    for row in rows:
        profile = str(row.get("profile") or "")
        start = -1 if row.get("slice") is None else int(row["slice"])
        for card in (row.get("gpu_ids") or []) if profile else []:
            found.setdefault(str(card), []).append(Instance(profile, start))
    return {
        card: tuple(sorted(ones, key=lambda one: one.start)) for card, ones in sorted(found.items())
    }


def wanted(
    cards: Sequence[Card],
    plan: Mapping[str, Sequence[Instance]],
    persistence: bool | None = None,
    ecc: bool | None = None,
    power: Mapping[str, float] | None = None,
) -> dict[str, Wanted]:
    """By UUID, how each card is to be. ``power``: watts by index or UUID, or ``all``."""
    limits = dict(power or {})
    return {
        card.uuid: Wanted(
            persistence=persistence,
            power=limits.get(card.uuid, limits.get(str(card.index), limits.get("all"))),
            ecc=ecc,
            mig=True if plan.get(card.uuid) else None,
            instances=tuple(plan.get(card.uuid) or ()),
        )
        for card in cards
    }


def refusals(cards: Sequence[Card], goal: Mapping[str, Wanted]) -> tuple[str, ...]:
    """What no command could bring about, one sentence each."""
    found = []
    for card in cards:
        aim = goal.get(card.uuid, Wanted())
        named = f"GPU {card.index} ({card.uuid})"
        if aim.power is not None and card.power is None:
            found.append(f"{named} has no power limit that could be set (gpu_driver_power_limits)")
        elif aim.power is not None and not _within(aim.power, card):
            found.append(
                f"the power limit {aim.power:g} W of {named} lies outside of {card.power_least:g} "
                f"to {card.power_most:g} W (gpu_driver_power_limits)"
            )
        if aim.ecc is not None and card.ecc is None:
            found.append(f"{named} has no ECC that could be set (gpu_driver_ecc)")
        if aim.instances and card.mig is None:
            found.append(
                f"the plan divides {named}, and this card has no MIG: assess again, so that the "
                "plan knows it"
            )
        extra = [one for one in card.instances if one not in aim.instances]
        if aim.instances and extra:
            found.append(
                f"{named} is divided otherwise than the plan has it: "
                f"{', '.join(f'{one.profile} at {one.start}' for one in extra)} are there; once "
                f"nothing uses them: nvidia-smi mig -i {card.index} -dci, then -dgi"
            )
    return tuple(found)


def _within(watts: float, card: Card) -> bool:
    least, most = card.power_least, card.power_most
    return least is None or most is None or least <= watts <= most


def steps(cards: Sequence[Card], goal: Mapping[str, Wanted]) -> tuple[Step, ...]:
    """The commands that lead from the state to the goal; MIG mode before its instances."""
    found: list[Step] = []
    for card in cards:
        aim = goal.get(card.uuid, Wanted())
        one = ("nvidia-smi", "-i", card.uuid)
        named = f"GPU {card.index}"
        if _differs(aim.persistence, card.persistence):
            word = "1" if aim.persistence else "0"
            found.append(Step(f"{named}: persistence mode {word}", (*one, "-pm", word)))
        if aim.power is not None and card.power is not None and abs(aim.power - card.power) >= 1:
            watts = f"{aim.power:g}"
            found.append(Step(f"{named}: power limit {watts} W", (*one, "-pl", watts)))
        if _differs(aim.ecc, card.ecc_pending):
            word = "1" if aim.ecc else "0"
            found.append(Step(f"{named}: ECC {word}", (*one, "-e", word)))
        if aim.mig and not card.mig:
            if card.mig_pending:
                continue  # it waits for a reset, before which there are no instances
            found.append(Step(f"{named}: MIG on", (*one, "-mig", "1")))
        lacking = [new for new in aim.instances if new not in card.instances]
        found += [_create(named, card.uuid, new) for new in lacking]
    return tuple(found)


def _create(named: str, uuid: str, new: Instance) -> Step:
    where = f":{new.start}" if new.start >= 0 else ""
    return Step(
        f"{named}: MIG instance {new.profile}{where}",
        ("nvidia-smi", "mig", "-i", uuid, "-cgi", f"{new.profile}{where}", "-C"),
    )


def _differs(aim: bool | None, now: bool | None) -> bool:
    return aim is not None and now is not None and aim != now


def missing(cards: Sequence[Card], goal: Mapping[str, Wanted]) -> tuple[str, ...]:
    """What the cards say is not as it is to be, after all commands, one sentence each."""
    found = []
    there = {card.uuid for card in cards}
    for uuid in goal:
        if uuid not in there:
            found.append(f"GPU {uuid} is no longer told by the driver")
    for card in cards:
        aim = goal.get(card.uuid, Wanted())
        named = f"GPU {card.index} ({card.uuid})"
        if aim.mig and not card.mig:
            waits = "; it waits for a reset of the card" if card.mig_pending else ""
            found.append(
                f"MIG is not on for {named}, though nvidia-smi was told so{waits}: end what uses "
                f"it and run nvidia-smi -i {card.index} --gpu-reset, or restart the host "
                "(gpu_driver_reboot)"
            )
            continue
        lacking = [one for one in aim.instances if one not in card.instances]
        if lacking:
            found.append(
                f"{named} lacks the MIG instances "
                f"{', '.join(f'{one.profile} at {one.start}' for one in lacking)} of the plan"
            )
        if _differs(aim.ecc, card.ecc):
            found.append(
                f"ECC of {named} is to change at the next reset of the card: restart the host "
                "(gpu_driver_reboot)"
            )
        if _differs(aim.persistence, card.persistence):
            found.append(f"the persistence mode of {named} has not changed")
        if aim.power is not None and card.power is not None and abs(aim.power - card.power) >= 1:
            found.append(f"the power limit of {named} is {card.power:g} W, wanted {aim.power:g} W")
    return tuple(found)


def script(cards: Sequence[Card], goal: Mapping[str, Wanted]) -> str:
    """A shell script that brings all of it about after a start of the host.

    Power limits and MIG instances do not outlive one; MIG mode does not on Hopper and later.
    """
    fresh = tuple(
        Card(
            card.index,
            card.uuid,
            persistence=None if card.persistence is None else False,
            power=None if card.power is None else -1.0,
            mig=None if card.mig is None else False,
        )
        for card in cards
    )
    without_ecc = {
        uuid: Wanted(aim.persistence, aim.power, None, aim.mig, aim.instances)
        for uuid, aim in goal.items()
    }
    rows = [" ".join(step.argv) for step in steps(fresh, without_ecc)]
    head = ["#!/bin/sh", "# Written by mlops.onprem; changes made here are overwritten.", ""]
    return "\n".join([*head, *(f"{row} || true" for row in rows), ""])


def original(cards: Sequence[Card]) -> dict[str, dict[str, Any]]:
    """What a card was before it was first changed, to be put back at removal."""
    return {
        card.uuid: {
            "persistence": card.persistence,
            "power": card.power,
            "ecc": card.ecc_pending,
            "mig": card.mig,
            "instances": [[one.profile, one.start] for one in card.instances],
        }
        for card in cards
    }


def back(
    cards: Sequence[Card], before: Mapping[str, Mapping[str, Any]], made: Mapping[str, Any]
) -> tuple[Step, ...]:
    """The way back to ``before``, of what was made only: ``made`` has the goal of each card."""
    found: list[Step] = []
    for card in cards:
        was, mine = before.get(card.uuid), made.get(card.uuid)
        if was is None or mine is None:
            continue
        created = [
            Instance(str(name), int(start))
            for name, start in mine.get("instances") or []
            if [name, start] not in (was.get("instances") or [])
        ]
        if created and all(one in created for one in card.instances) and card.instances:
            command = ("nvidia-smi", "mig", "-i", card.uuid)
            found.append(Step(f"GPU {card.index}: compute instances gone", (*command, "-dci")))
            found.append(Step(f"GPU {card.index}: MIG instances gone", (*command, "-dgi")))
        one = ("nvidia-smi", "-i", card.uuid)
        if mine.get("mig") and was.get("mig") is False and card.mig:
            found.append(Step(f"GPU {card.index}: MIG off", (*one, "-mig", "0")))
        for key, flag, now in (
            ("persistence", "-pm", card.persistence),
            ("ecc", "-e", card.ecc_pending),
        ):
            old = was.get(key)
            if mine.get(key) is not None and old is not None and now is not None and now != old:
                word = "1" if old else "0"
                found.append(Step(f"GPU {card.index}: {key} {word}", (*one, flag, word)))
        old_power = was.get("power")
        if mine.get("power") is not None and old_power is not None and card.power != old_power:
            watts = f"{old_power:g}"
            found.append(Step(f"GPU {card.index}: power limit {watts} W", (*one, "-pl", watts)))
    return tuple(found)


def goal_as_data(goal: Mapping[str, Wanted]) -> dict[str, dict[str, Any]]:
    """The goal as plain data, kept with what was before."""
    return {
        uuid: {
            "persistence": aim.persistence,
            "power": aim.power,
            "ecc": aim.ecc,
            "mig": aim.mig,
            "instances": [[one.profile, one.start] for one in aim.instances],
        }
        for uuid, aim in sorted(goal.items())
    }
