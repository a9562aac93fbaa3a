# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a run ends with a code of ours: one sentence, and exit code 1 where it is refused."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from ansible import context
from ansible.errors import AnsibleError
from ansible.utils.display import Display

REFUSED = 1
LOOKS = ("syntax", "listtasks", "listtags", "listhosts")


def facts_of_this_run(variables: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    """A fact of each host that has it; whose it is stands in its C(run), see ``is_of_this_run``."""
    hostvars = variables.get("hostvars") or {}
    for host in variables.get("groups", {}).get("all", []):
        facts = (hostvars.get(host) or {}).get("ansible_facts") or {}
        if facts.get(name):
            yield facts[name]


def is_of_this_run(found: Mapping[str, Any]) -> bool:
    """Whether this very run found it; facts of another one can come from a cache.

    A worker that reads the variables of another host asks again, as a child of the run.
    """
    here = (os.getpid(), os.getppid()) if multiprocessing.parent_process() else (os.getpid(),)
    return found.get("run") in here


def only_looks() -> bool:
    """Whether tasks are only listed or the syntax is checked."""
    return any(context.CLIARGS.get(key) for key in LOOKS)


def end(sentence: str, code: int = REFUSED) -> NoReturn:
    """End the whole run, on all hosts.

    An error in a lookup would be told with the name of the lookup and an excerpt of the playbook;
    Ansible lets this one pass, and cleans up behind it. In a worker, which may ask for the
    variables of a play again, it would end the worker only and leave Ansible waiting for it.
    """
    if multiprocessing.parent_process() is not None:
        raise AnsibleError(sentence)
    Display().error(sentence, wrap_text=False)
    raise SystemExit(code)
