# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role asks about jobs, sessions, datasets and images of others; plain data out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._demand.running import DatasetRun
from .._supply.facts import gpus_of
from .containers import quadlets
from .datasets import datasets
from .jobs import Around, account_of, jobs, scheduled
from .mig import divided
from .owners import owners
from .placed import Placed

More = Mapping[str, Any]


def around(more: More) -> Around:
    """What of the site decides about jobs."""
    return Around(
        site=str(more.get("site") or ""),
        teams={name: tuple(some) for name, some in (more.get("members") or {}).items()},
        scheduler=tuple(more.get("scheduler") or ()),
        gpus={host: gpus_of(facts) for host, facts in (more.get("supply") or {}).items()},
        tracking=str(more.get("tracking") or ""),
    )


def all_jobs(placed: Sequence[Placed], _host: str, more: More) -> list[dict[str, Any]]:
    """Every job of the site."""
    return [job.as_dict() for job in jobs(placed, around(more), bool(more.get("check")))]


def job_hosts(placed: Sequence[Placed], _host: str, _more: More) -> list[str]:
    """The hosts with jobs."""
    return sorted({one.host for one in placed if scheduled(one)})


def accounts(placed: Sequence[Placed], host: str, more: More) -> list[dict[str, Any]]:
    """Checks that a host knows the accounts of its jobs; without a host, of all jobs."""
    site = around({**more, "scheduler": ["any"]})
    names = {
        account_of(one, one.run, site): one.workload  # type: ignore[arg-type]
        for one in placed
        if scheduled(one) and host in ("", one.host)
    }
    return [
        {
            "title": f"account {name}, as whom {names[name]} runs",
            "command": ["getent", "passwd", name],
            "otherwise": "the host does not know it",
            "remedy": "let the host know the company's accounts (LDAP, files), or mend run.account"
            " in mlops_workloads; the platform makes no accounts of people",
        }
        for name in sorted(names)
    ]


def all_datasets(placed: Sequence[Placed], host: str, _more: More) -> list[dict[str, Any]]:
    """The datasets of a host."""
    return [one.as_dict() for one in datasets(placed, host)]


def all_quadlets(placed: Sequence[Placed], host: str, more: More) -> list[dict[str, Any]]:
    """The images of others on a host."""
    login = (str(more.get("registry") or ""), str(more.get("login") or ""))
    margin = float(more.get("margin_percent") or 0)
    mig = divided(gpus_of(more.get("facts")), more.get("instances"))
    found = quadlets(placed, host, mig, margin, login, bool(more.get("check")))
    return [one.as_dict() for one in found]


def gpu_owners(placed: Sequence[Placed], _host: str, more: More) -> dict[str, dict[str, str]]:
    """Who owns each GPU of each host: what serves, or the scheduler."""
    names = {
        host: [gpu.uuid for gpu in gpus if gpu.uuid] for host, gpus in around(more).gpus.items()
    }
    return owners(placed, names)


def with_data(placed: Sequence[Placed], _host: str, _more: More) -> list[str]:
    """The hosts with datasets."""
    return sorted({one.host for one in placed if isinstance(one.run, DatasetRun)})


QUESTIONS: Mapping[str, Callable[[Sequence[Placed], str, More], Any]] = {
    "jobs": all_jobs,
    "job_hosts": job_hosts,
    "accounts": accounts,
    "datasets": all_datasets,
    "quadlets": all_quadlets,
    "gpu_owners": gpu_owners,
    "dataset_hosts": with_data,
}
