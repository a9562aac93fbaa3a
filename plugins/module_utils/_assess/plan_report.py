# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of the workloads for people, from the JSON that docs/schema describes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .._findings.sentence import counted, listing

Row = Sequence[str]
VERDICTS = {
    "FEASIBLE": "they fit; the placement was verified by separate code",
    "INFEASIBLE": "they do not fit",
    "UNDECIDED": "it is not decided whether they fit",
}
CAUSES = {
    "sum": "all hosts together have too little",
    "nowhere": "no single host has room for one replica",
    "types": "the hosts that are allowed have too little",
    "fragmentation": "the sum suffices, but what is free is cut up too small",
    "geometry": "the MIG instances cannot be placed together on the cards",
    "spread": "more replicas to keep apart than hosts",
}
PURCHASES = {
    "purchase": "What to buy so that everything fits",
    "purchase_for_horizon": "What to buy so that it lasts to the end of the horizon",
}
# Longer lists are cut in the text; the page and the JSON have everything.
MOST_ROWS = 20
WIDEST = 28
# Names of the planner for what its unit says already.
SELF_EVIDENT = ("all together", "hosts")


def value(number: float, unit: str) -> str:
    """A figure with its unit; MiB as GiB where that reads better."""
    if unit == "MiB":
        number, unit = (number / 1024, "GiB") if abs(number) >= 1024 else (round(number), unit)
    said = f"{number:,.{1 if unit == 'GiB' else 2}f}"
    said = said.rstrip("0").rstrip(".")
    return f"{said} {unit[:-1] if said == '1' and unit.endswith('s') else unit}".rstrip()


def spans(numbers: Iterable[int]) -> str:
    """Whole numbers in short: ``0-3, 6``."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def needs(work: Mapping[str, Any], units: Mapping[str, str]) -> str:
    """What one replica needs, as words."""
    said = [
        value(amount, units[resource])
        for resource, amount in work["needs"].items()
        if amount and not resource.startswith("disk for ")
    ]
    disks = [
        amount for resource, amount in work["needs"].items() if resource.startswith("disk for ")
    ]
    if any(disks):
        said.append(f"{value(max(disks), 'MiB')} disk")
    if work["gpu"]:
        said.append(work["gpu"])
    return ", ".join(said)


def places(rows: Iterable[Mapping[str, Any]], left_out: int) -> str:
    """Where the replicas of a workload are: host, how many, and on which GPUs."""
    by_host: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_host.setdefault(row["host"], []).append(row)
    said = []
    for host, here in by_host.items():
        times = f" x {len(here)}" if len(here) > 1 else ""
        gpus = spans(index for row in here for index in row["gpus"])
        said.append(f"{host}{times}" + (f" (GPU {gpus})" if gpus else ""))
    if left_out:
        said.append(f"{left_out} NOT PLACED")
    return ", ".join(said)


def headline(plan: Mapping[str, Any]) -> str:
    """The verdict in one sentence."""
    replicas = sum(work["replicas"] for work in plan["workloads"])
    said = (
        f"Workloads: {plan['verdict']}, {VERDICTS[plan['verdict']]}. "
        f"{len(plan['placement']):,} of {counted(replicas, 'replica')} placed"
    )
    if plan["kept"]:
        said += f", {plan['kept']:,} of them where they were"
    if plan["verdict"] != "FEASIBLE" and plan["at_least"]:
        said += f"; at least {plan['at_least']:,} cannot be placed at the same time"
    if plan["reason"]:
        said += f": {plan['reason']}"
    if plan["verdict"] == "INFEASIBLE" and plan["sums_fit"]:
        said += ". A sum over all hosts alone would have said yes"
    return f"{said}."


def workload_rows(plan: Mapping[str, Any]) -> list[Row]:
    """A line for each workload."""
    placed: dict[str, list[Mapping[str, Any]]] = {}
    for row in plan["placement"]:
        placed.setdefault(row["workload"], []).append(row)
    return [
        (
            work["name"],
            work["kind"],
            f"{work['replicas']:,}",
            needs(work, plan["resources"]),
            places(placed.get(work["name"], ()), plan["unplaced"].get(work["name"], 0)),
        )
        for work in plan["workloads"]
    ]


def host_rows(plan: Mapping[str, Any]) -> list[Row]:
    """A line for each host: what stays free under the plan."""
    return [
        (
            load["host"],
            f"{load['replicas']:,}",
            value(load["cpu"], ""),
            value(load["cpu_free"], ""),
            value(load["memory_mib"], "MiB"),
            value(load["memory_free_mib"], "MiB"),
            f"{value(load['gpus'], '')} of {load['gpus_total']}",
        )
        for load in plan["hosts"]
    ]


LOCAL = ("total", "reserved", "used", "free", "left")
HOST_HEAD = ("host", "replicas", "cores", "cores free", "memory", "memory free", "GPUs")


def runout_rows(plan: Mapping[str, Any]) -> list[Row]:
    """A line for each resource of each group of hosts."""
    return [
        (
            row["group"],
            row["resource"],
            value(row["supply"], row["unit"]),
            value(row["placed"], row["unit"]),
            value(row["at_horizon"], row["unit"]),
            row["runs_out"] or "not before",
        )
        for row in (plan["horizon"] or {}).get("resources", ())
    ]


RUNOUT_HEAD = ("group", "resource", "may be planned", "needed today", "at the end", "runs out")


def lasting(horizon: Mapping[str, Any]) -> str:
    """How long the plan as a whole lasts."""
    if horizon["ends"] is None:
        return f"The plan as a whole fits until the end of the horizon, {horizon['until']}."
    how = "it is proven that it does not" if horizon["proven"] else "no placement was found"
    return f"The plan as a whole fits until {horizon['fits_until']}; on {horizon['ends']} {how}."


def lost_rows(plan: Mapping[str, Any]) -> list[str]:
    """Which host may not be lost, and what would not start again."""
    rows = plan["lost_hosts"]
    if rows is None:
        return []
    told = [
        f"{row['host']} may not be lost: of {counted(row['moves'], 'replica')} on it, "
        + ("" if row["proven"] else "no other place was found for ")
        + ", ".join(f"{count:,} of {name}" for name, count in sorted(row["stranded"].items()))
        + (" would find no other place, wherever all others went" if row["proven"] else "")
        for row in rows
        if row["stranded"]
    ]
    good = [row["host"] for row in rows if row["moves"] and not row["stranded"]]
    if good:
        names = ", ".join(good[:6]) + (f" and {len(good) - 6:,} more" if len(good) > 6 else "")
        apart = ", one at a time" if len(good) > 1 else ""
        told.append(f"{names} may be lost{apart}: everything there finds another place")
    missed = len(plan["hosts"]) - len(rows)
    if missed:
        told.append(f"for {counted(missed, 'host')} there was no time to look")
    return told


def missing(row: Mapping[str, Any]) -> str:
    """What is missing, in short: ``2 GPUs``, ``40 GiB of memory``, ``4 replicas``."""
    short = row["short"]
    # A replica that fits in part does not fit.
    said = value(math.ceil(short - 1e-6) if row["unit"] == "replicas" else short, row["unit"])
    kind, _space, models = str(row["resource"]).partition(" ")
    if kind == "gpu" and row["unit"] == "GPUs":
        return f"{said} {models}".rstrip()
    if kind == "mig":
        return f"{said} with MIG ({models})"
    return said if row["resource"] in SELF_EVIDENT else f"{said} of {row['resource']}"


def shortage(row: Mapping[str, Any]) -> str:
    """What is missing, where, and against what."""
    unit = row["unit"]
    have = row["free_total"]
    where = "a single host" if row["scope"] == "host" else "the whole cluster"
    said = (
        f"{missing(row)}, in {where}: "
        f"{CAUSES.get(row['cause'], row['cause'])}. {value(row['requested'], unit)} requested, "
        f"{value(math.floor(have + 1e-6) if unit == 'replicas' else have, unit)} "
    )
    if not row["hosts"]:
        return f"{said}possible at most."
    return (
        f"{said}free in total, {value(row['reserved'], unit)} reserved, "
        f"{value(row['used'], unit)} used."
    )


def bought(purchase: Mapping[str, Any]) -> str:
    """What to buy, and the least that any purchase must be."""
    if purchase["verdict"] == "INFEASIBLE":
        said = f"Nothing listed in mlops_host_offers mends it: {purchase['steps'][-1]}."
        return (
            said if purchase["others"] is None else f"{said} All else: {bought(purchase['others'])}"
        )
    if purchase["counts"] is None:
        return (
            "No purchase of the hosts listed in mlops_host_offers that mends it was found; "
            f"at least {value(purchase['at_least'], '')} would be needed."
        )
    shapes = ", ".join(f"{count:,} x {name}" for name, count in purchase["counts"].items() if count)
    if not shapes:
        return "nothing to buy."
    price = "" if purchase["price"] is None else f" for {value(purchase['price'], '')}"
    what = "hosts" if purchase["price"] is None else "in price"
    return f"{shapes}{price}; proven lower bound: {value(purchase['at_least'], '')} {what}."


def reckoned_without(hosts: Sequence[str]) -> str:
    """Without which hosts a purchase was reckoned; of one that is off nothing is known."""
    if not hosts:
        return ""
    shown = listing(hosts if len(hosts) < 7 else [*hosts[:5], f"{len(hosts) - 5} more"])
    one = len(hosts) == 1
    return (
        f"reckoned without {shown}, which {'is' if one else 'are'} lost or switched off: neither"
        f" {'its' if one else 'their'} room nor the work that waits for {'it' if one else 'them'}"
        " is counted"
    )


def purchase_text(plan: Mapping[str, Any], key: str) -> str:
    """What to buy, and without which hosts that was reckoned."""
    said = reckoned_without(plan.get("without") or ())
    return f"{bought(plan[key])} {said[0].upper()}{said[1:]}." if said else bought(plan[key])


def changes_text(changes: Mapping[str, Any]) -> str:
    """The changes of a what-if in one line."""
    said = [f"{count:,} x {name} more" for name, count in changes["add_hosts"].items()]
    said += [f"without host {name}" for name in changes["remove_hosts"]]
    said += [f"workload {name} more" for name in changes["add_workloads"]]
    said += [f"without workload {name}" for name in changes["remove_workloads"]]
    return ", ".join(said)


def change_rows(what_if: Mapping[str, Any]) -> list[Row]:
    """What would be otherwise, line by line; what stays the same is left out."""
    before, after = what_if["before"], what_if["after"]

    def listed(side: Mapping[str, Any]) -> str:
        hosts = side["may_not_be_lost"]
        return "not known" if hosts is None else ", ".join(hosts) or "none"

    def short(side: Mapping[str, Any]) -> str:
        return ", ".join(dict.fromkeys(missing(row) for row in side["short"]))

    units = {"CPU": "cores", "memory": "MiB", "GPU": "GPUs"}
    rows: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("verdict", lambda side: str(side["verdict"])),
        ("hosts", lambda side: f"{side['hosts']:,}"),
        ("placed", lambda side: f"{side['placed']:,} of {side['replicas']:,}"),
        ("missing", lambda side: short(side) or "nothing"),
        *(
            (f"{name} free", lambda side, name=name, unit=unit: value(side["free"][name], unit))
            for name, unit in units.items()
        ),
        ("may not be lost", listed),
        ("fits until", lambda side: str(side["fits_until"] or "not known")),
    ]
    cells = [(name, show(before), show(after)) for name, show in rows]
    return [
        *((name, old, new) for name, old, new in cells if old != new),
        ("replicas that move", "", f"{len(what_if['moved']):,}"),
    ]


def cut(rows: Sequence[Row], width: int) -> list[Row]:
    """The first rows, and how many more there are."""
    kept = list(rows[:MOST_ROWS])
    if len(rows) > MOST_ROWS:
        kept.append((f"and {len(rows) - MOST_ROWS:,} more", *[""] * (width - 1)))
    return kept


def clip(cell: str) -> str:
    """A cell that leaves room for the others."""
    return cell if len(cell) <= WIDEST else cell[: WIDEST - 3] + "..."


def table(head: Row, rows: Sequence[Row], width: int, right: frozenset[int]) -> list[str]:
    """Rows in columns; the last column is wrapped so that a line fits the width."""
    every = [(*map(clip, row[:-1]), row[-1]) for row in (head, *rows)]
    widths = [max(len(row[index]) for row in every) for index in range(len(head))]
    start = sum(widths[:-1]) + 2 * (len(head) - 1)
    room = max(16, width - start)
    lines = []
    for row in every:
        front = "  ".join(
            cell.rjust(size) if index in right else cell.ljust(size)
            for index, (cell, size) in enumerate(zip(row[:-1], widths))
        )
        wrapped = textwrap.wrap(row[-1], room) or [""]
        if len(head) - 1 in right:
            wrapped = [part.rjust(min(room, widths[-1])) for part in wrapped]
        lines.append(f"{front}  {wrapped[0]}".rstrip())
        lines += [" " * start + more for more in wrapped[1:]]
    return lines


def plan_text(plan: Mapping[str, Any], width: int = 100) -> list[str]:
    """The plan for a terminal."""
    parts = (
        _workloads_text,
        _hosts_text,
        _shortages_text,
        _lost_text,
        _horizon_text,
        _purchases_text,
        _what_if_text,
    )
    lines = textwrap.wrap(headline(plan), width)
    for part in parts:
        lines += part(plan, width)
    return lines


def _wrap(text: str, width: int, indent: int = 2) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2)
    )


def _workloads_text(plan: Mapping[str, Any], width: int) -> list[str]:
    rows = [
        row
        for *front, need, where in cut(workload_rows(plan), 5)
        for row in ((*front, f"{need} each" if need else ""), ("", "", "", where and f"on {where}"))
        if any(row)
    ]
    head = ("workload", "kind", "replicas", "needs, and where")
    return ["", *table(head, rows, width, frozenset((2,)))]


def _hosts_text(plan: Mapping[str, Any], width: int) -> list[str]:
    lines = []
    used = [row for row, load in zip(host_rows(plan), plan["hosts"]) if load["replicas"]]
    if used:
        lines += ["", *table(HOST_HEAD, cut(used, 7), width, frozenset(range(1, 7)))]
    others = len(plan["hosts"]) - len(used)
    if others:
        lines.append(f"{counted(others, 'other host')} with nothing placed on it")
    return lines


def _shortages_text(plan: Mapping[str, Any], width: int) -> list[str]:
    lines = []
    for row in plan["shortages"]:
        lines.append("")
        lines += textwrap.wrap(f"Missing: {shortage(row)}", width, subsequent_indent="  ")
        for step in row["steps"]:
            lines += _wrap(step, width)
        if row["hosts"]:
            local = [
                (f"  {one['host']}", *(value(one[key], row["unit"]) for key in LOCAL))
                for one in row["hosts"]
            ]
            head = ("  host", "total", "reserved", "used", "free", "left by the best plan")
            lines += table(head, cut(local, 6), width, frozenset(range(1, 6)))
    return lines


def _lost_text(plan: Mapping[str, Any], width: int) -> list[str]:
    lost = lost_rows(plan)
    if not lost:
        return []
    lines = ["", "If a host is lost"]
    for said in lost[:MOST_ROWS]:
        lines += _wrap(said, width)
    if len(lost) > MOST_ROWS:
        lines += _wrap(f"and {len(lost) - MOST_ROWS:,} more", width)
    return lines


def _horizon_text(plan: Mapping[str, Any], width: int) -> list[str]:
    if plan["horizon"] is None:
        return []
    lines = ["", f"Until {plan['horizon']['until']}"]
    outs = runout_rows(plan)
    if outs:
        rows = table(RUNOUT_HEAD, cut(outs, 6), width - 2, frozenset((2, 3, 4)))
        lines += [f"  {line}" for line in rows]
    return [*lines, *_wrap(lasting(plan["horizon"]), width)]


def _purchases_text(plan: Mapping[str, Any], width: int) -> list[str]:
    lines = []
    for key, head in PURCHASES.items():
        if plan[key] is not None:
            lines += ["", head, *_wrap(purchase_text(plan, key), width)]
            for step in plan[key]["steps"]:
                lines += _wrap(step, width, 4)
    return lines


def _what_if_text(plan: Mapping[str, Any], width: int) -> list[str]:
    if plan["what_if"] is None:
        return []
    head = textwrap.wrap(f"What if: {changes_text(plan['what_if']['changes'])}", width)
    rows = table(("", "now", "then"), change_rows(plan["what_if"]), width - 2, frozenset())
    return ["", *head, *(f"  {line}" for line in rows)]
