# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments that several ``host_*`` modules share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .errors import HostError

ROLE = {"type": "str", "required": True}
HEALTH = {
    "url": {"type": "str"},
    "status": {"type": "list", "elements": "int"},
    "contains": {"type": "str"},
    "method": {"type": "str"},
    "headers": {"type": "dict", "no_log": True},
    "ca": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path"},
    "server_name": {"type": "str"},
    "tcp": {"type": "str"},
    "command": {"type": "list", "elements": "str"},
}


def role_of(params: Mapping[str, Any], option: str = "role") -> str:
    """The role that a task names, by which the ledger remembers it."""
    role: str = params[option]
    if not re.fullmatch(r"[a-z][a-z0-9_]*", role):
        raise HostError(f"{option} has to be a role name such as model_registry, not {role!r}.")
    return role
