# Copyright: (c) 2026, The mlops.onprem developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments that several ``host_*`` modules share, and how each of them ends."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule

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


def finish(module: AnsibleModule, work: Callable[[AnsibleModule], dict[str, Any]]) -> None:
    """Do the work of a module; an error of ours becomes its message."""
    try:
        for option in ("role", "owner"):
            role = module.params.get(option)
            if role is not None and not re.fullmatch(r"[a-z][a-z0-9_]*", role):
                raise HostError(
                    f"{option} has to be a role name such as model_registry, not {role!r}."
                )
        result = work(module)
    except HostError as error:
        module.fail_json(msg=str(error))
    except PermissionError as error:
        module.fail_json(msg=f"{error}. This needs root: set become: true for the play.")
    module.exit_json(**result)
