# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts, users and QoS of the teams: what is there, what is wanted, and the way between.

What is ours bears a mark in its description; what does not is somebody else's and is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import SlurmError
from .nodes import DENIED

ROOT = "root"
GPU = "gres/gpu"
# GPUs that serve, of which a job may not have any. A job that asks for more than its team may ever
# have at once is refused when it is sent, and does not wait for ever.
NO_JOBS = f"gres/{DENIED}"
REFUSE = "DenyOnLimit"
# How the state is asked for, always with -nP: no heading, fields between bars.
QOS_FIELDS = "name,description,grptres,grpjobs,flags"
ACCOUNT_FIELDS = "account,description"
ASSOCIATION_FIELDS = "account,user,fairshare,qos,defaultqos"
QUESTIONS = (
    ("show", "qos", f"format={QOS_FIELDS}"),
    ("show", "account", f"format={ACCOUNT_FIELDS}"),
)


@dataclass(frozen=True)
class Wanted:
    """A team as the accounting shall have it. None is no limit."""

    name: str
    members: tuple[str, ...]
    gpus: int | None = None
    fair_share: int = 1
    max_jobs: int | None = None


@dataclass(frozen=True)
class Qos:
    """A QoS with its limits."""

    description: str
    gpus: int | None = None
    jobs: int | None = None
    closed: bool = False  # jobs that ask for what serves are refused
    other: tuple[str, ...] = ()  # limits that we do not set: somebody's hand


@dataclass(frozen=True)
class State:
    """What the accounting holds of one cluster."""

    clusters: frozenset[str] = frozenset()
    qos: Mapping[str, Qos] = field(default_factory=dict)
    accounts: Mapping[str, str] = field(default_factory=dict)  # name: description
    # Fair share and the QoS of (account, user); "" is the account itself.
    associations: Mapping[tuple[str, str], tuple[str, str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """One call of sacctmgr, and what it does in words."""

    argv: tuple[str, ...]
    text: str


def rows(output: str, fields: str) -> list[dict[str, str]]:
    """Lines of ``sacctmgr -nP``."""
    names = fields.split(",")
    found = []
    for line in output.splitlines():
        if not line.strip():
            continue
        values = line.split("|")
        if len(values) != len(names):
            raise SlurmError(
                f"sacctmgr answered with {len(values)} fields, not {len(names)}: {line[:200]}"
            )
        found.append(dict(zip(names, values)))
    return found


def parse_state(clusters: str, qos: str, accounts: str, associations: str) -> State:
    """The state of the four answers."""
    return State(
        frozenset(line.strip("|") for line in clusters.splitlines() if line.strip("|")),
        {row["name"]: _qos(row) for row in rows(qos, QOS_FIELDS)},
        {row["account"]: row["description"] for row in rows(accounts, ACCOUNT_FIELDS)},
        {
            (row["account"], row["user"]): (row["fairshare"], row["qos"], row["defaultqos"])
            for row in rows(associations, ASSOCIATION_FIELDS)
        },
    )


def _qos(row: Mapping[str, str]) -> Qos:
    limits = dict(part.partition("=")[::2] for part in row["grptres"].split(",") if part)
    gpus = limits.pop(GPU, None)
    served = limits.pop(NO_JOBS, None)
    return Qos(
        row["description"],
        None if gpus is None else int(gpus),
        int(row["grpjobs"]) if row["grpjobs"] else None,
        served == "0" and REFUSE in row["flags"].split(","),
        tuple(sorted(f"{key}={value}" for key, value in limits.items())),
    )


def mark_of(site: str) -> str:
    """What a description bears that is ours. Slurm keeps descriptions in small letters."""
    return f"mlops:{site}".lower()


def plan(state: State, teams: Sequence[Wanted], cluster: str, mark: str) -> tuple[Change, ...]:
    """The calls that lead from the state to the teams, in their order.

    Raises:
        SlurmError: An account or QoS of the name of a team is somebody else's.
    """
    names = {team.name for team in teams}
    for what, there in (("account", state.accounts), ("QoS", _descriptions(state))):
        for name in sorted(names & set(there)):
            if there[name] != mark:
                raise SlurmError(
                    f"the {what} {name} is in Slurm's accounting already and is not of this site"
                    f" (its description is {there[name]!r}); give the team another name in"
                    " mlops_teams, or take that one away with sacctmgr"
                )
    found: list[Change] = []
    if cluster not in state.clusters:
        found.append(Change(("add", "cluster", cluster), f"add the cluster {cluster}"))
    for team in teams:
        found += _team(state, team, cluster, mark)
    found += _gone(state, names, cluster, mark)
    return tuple(found)


def leave(state: State, cluster: str, mark: str) -> tuple[Change, ...]:
    """The calls that take away what is ours."""
    return tuple(_gone(state, frozenset(), cluster, mark))


def _descriptions(state: State) -> dict[str, str]:
    return {name: qos.description for name, qos in state.qos.items()}


def _limits(team: Wanted) -> dict[str, str]:
    """-1 takes a limit away."""
    return {
        "GrpTRES": f"{GPU}={-1 if team.gpus is None else team.gpus},{NO_JOBS}=0",
        "GrpJobs": str(-1 if team.max_jobs is None else team.max_jobs),
        "Flags": REFUSE,
    }


def _said(team: Wanted) -> str:
    gpus = "any number of GPUs" if team.gpus is None else f"{team.gpus} GPUs at once"
    jobs = "" if team.max_jobs is None else f", {team.max_jobs} jobs at once"
    return f"{gpus}{jobs}"


def _team(state: State, team: Wanted, cluster: str, mark: str) -> Iterable[Change]:
    limits = tuple(f"{key}={value}" for key, value in _limits(team).items())
    there = state.qos.get(team.name)
    if there is None:
        yield Change(
            ("add", "qos", team.name, f"Description={mark}", *limits),
            f"add the QoS {team.name}: {_said(team)}",
        )
    elif (there.gpus, there.jobs, there.closed) != (team.gpus, team.max_jobs, True):
        yield Change(
            ("modify", "qos", "where", f"name={team.name}", "set", *limits),
            f"change the QoS {team.name}: {_said(team)}",
        )
    share = str(team.fair_share)
    wanted = (share, team.name, team.name)
    asked = (f"Fairshare={share}", f"QOS={team.name}", f"DefaultQOS={team.name}")
    there_now = state.associations.get((team.name, ""))
    if team.name not in state.accounts or there_now is None:
        marked = (f"Description={mark}", "Organization=mlops")
        yield Change(
            ("add", "account", team.name, f"Cluster={cluster}", *marked, *asked),
            f"add the account {team.name} with fair share {share}",
        )
    elif there_now != wanted:
        yield Change(
            (
                "modify",
                "account",
                "where",
                f"name={team.name}",
                f"cluster={cluster}",
                "set",
                *asked,
            ),
            f"change the account {team.name}: fair share {share}, QoS {team.name}",
        )
    for member in team.members:
        if (team.name, member) not in state.associations:
            yield Change(
                ("add", "user", member, f"Account={team.name}", f"Cluster={cluster}"),
                f"add {member} to {team.name}",
            )
    for account, user in sorted(state.associations):
        if account == team.name and user and user not in team.members:
            yield _out(user, account, cluster)


def _out(user: str, account: str, cluster: str) -> Change:
    return Change(
        ("remove", "user", "where", f"name={user}", f"account={account}", f"cluster={cluster}"),
        f"take {user} out of {account}",
    )


def _gone(
    state: State, names: frozenset[str] | set[str], cluster: str, mark: str
) -> Iterable[Change]:
    """What bears our mark and is no team any more: users first, as the rest hangs on them."""
    leaving = sorted(
        name for name, said in state.accounts.items() if said == mark and name not in names
    )
    for account, user in sorted(state.associations):
        if account in leaving and user:
            yield _out(user, account, cluster)
    for name in leaving:
        yield Change(("remove", "account", "where", f"name={name}"), f"remove the account {name}")
    for name, qos in sorted(state.qos.items()):
        if qos.description == mark and name not in names:
            yield Change(("remove", "qos", "where", f"name={name}"), f"remove the QoS {name}")


def wanted_of(rows_: Iterable[Mapping[str, Any]]) -> tuple[Wanted, ...]:
    """Teams as a module is told them."""
    return tuple(
        Wanted(
            name=row["name"],
            members=tuple(row["members"]),
            gpus=row.get("gpus"),
            fair_share=int(row.get("fair_share") or 1),
            max_jobs=row.get("max_jobs"),
        )
        for row in rows_
    )
