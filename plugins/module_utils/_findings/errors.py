# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors that are answers, and how a module ends with one.

    PlatformError       a sentence for a person: found, wanted, remedy
    ├── BenchmarkError  _supply: nothing can be measured, or an answer cannot be read
    ├── BucketError     _contracts: a bucket at an endpoint that is not ours
    ├── CephError       _ceph: the cluster of a managed object store
    ├── CheckError      _serving_checks: what a check of a model that serves needs
    ├── DatabaseError   _contracts: a PostgreSQL server, or what is asked of it
    ├── EndpointError   _contracts: an S3 endpoint, or what is asked of it
    ├── HostError       _host: something about the host, or in what a role asks of it
    ├── PeopleError     _people: accounts of people, where they are kept
    │   └── UnreachableError   nobody listens there
    ├── RolloutError    _rollout: plan, rings, journal or lock of a staged rollout
    ├── SlurmError      _slurm: the scheduler, its nodes and its accounting
    ├── SiteError       _site: what the site computes from inventory and roles
    └── TrustError      _trust: certificates and keys

What travels to devices (``RegistryError`` in ``_release``) and what knows no site (``MigError`` in
``_planner``) have a base of their own; ``ShapeError`` grows a path before it is a sentence.

Whoever raises one of these has nothing to add; ``finish`` makes it the message of the module. Any
other exception is a mistake of ours and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar


class Module(Protocol):
    """The part of a module of Ansible that ends it."""

    def exit_json(self, **result: Any) -> Any: ...

    def fail_json(self, msg: str) -> Any: ...


M = TypeVar("M", bound=Module)


class PlatformError(Exception):
    """What stops us, said as a sentence for a person: found, wanted, remedy."""


def finish(module: M, work: Callable[[M], Mapping[str, Any]]) -> None:
    """Do the work of a module; an error that is a sentence becomes its message."""
    try:
        result = work(module)
    except PlatformError as error:
        module.fail_json(msg=str(error))
    except PermissionError as error:
        module.fail_json(msg=f"{error}. This needs root: set become: true for the play.")
    module.exit_json(**result)
