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
# As the action plugins send it; without it nobody said which site a task is for.
SITE_ID = {"type": "str"}
HEALTH = {
    "url": {"type": "str"},
    "socket": {"type": "path"},
    "status": {"type": "list", "elements": "int"},
    "contains": {"type": "str"},
    "method": {"type": "str"},
    "headers": {"type": "dict", "no_log": True},
    "user": {"type": "str"},
    "password_file": {"type": "path", "no_log": False},
    "ca": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path"},
    "server_name": {"type": "str"},
    "tcp": {"type": "str"},
    "command": {"type": "list", "elements": "str"},
}
FILES: Mapping[str, Any] = {
    "role": ROLE,
    "site_id": SITE_ID,
    "groups": {"type": "list", "elements": "str", "default": []},
    "users": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "home": {"type": "path"},
            "groups": {"type": "list", "elements": "str", "default": []},
            "left_groups": {"type": "list", "elements": "str", "default": []},
            "shell": {"type": "str", "default": "/usr/sbin/nologin"},
            "comment": {"type": "str", "default": ""},
        },
    },
    "directories": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "path", "required": True},
            "owner": {"type": "str", "default": "root"},
            "group": {"type": "str", "default": "root"},
            "mode": {"type": "str", "default": "0755"},
            "guests": {"type": "bool", "default": False},
        },
    },
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "path", "required": True},
            "template": {"type": "str"},
            "source": {"type": "str"},
            "content": {"type": "str", "no_log": False},
            "link": {"type": "str"},
            "owner": {"type": "str", "default": "root"},
            "group": {"type": "str", "default": "root"},
            "mode": {"type": "str", "default": "0644"},
            "validate": {"type": "str"},
            "sensitive": {"type": "bool", "default": False},
            "adopt": {"type": "bool", "default": False},
            "payload": {"type": "str"},
            "secret_payload": {"type": "str", "no_log": True},
        },
    },
    "absent": {"type": "list", "elements": "path", "default": []},
}
PACKAGES: Mapping[str, Any] = {
    "role": ROLE,
    "site_id": SITE_ID,
    "name": {"type": "list", "elements": "str", "required": True},
    "disable_units": {"type": "list", "elements": "str", "default": []},
    "install_recommends": {"type": "bool", "default": False},
    "hold": {"type": "list", "elements": "str"},
    "undo": {"type": "bool", "default": False},
    "log": {"type": "str", "default": ""},
    "upgrade": {"type": "bool", "default": False},
}
APP: Mapping[str, Any] = {
    "role": ROLE,
    "site_id": SITE_ID,
    "name": {"type": "str", "required": True},
    "requirements": {"type": "str", "required": True},
    "python": {"type": "path", "default": "/usr/bin/python3"},
    "rarely_imported": {"type": "list", "elements": "str", "default": []},
    "digests": {"type": "dict"},
    "archive": {"type": "path"},
}
SERVICE: Mapping[str, Any] = {
    "role": ROLE,
    "site_id": SITE_ID,
    "name": {"type": "str", "required": True},
    "description": {"type": "str", "default": ""},
    "command": {"type": "list", "elements": "str", "default": []},
    "user": {"type": "str", "default": ""},
    "environment": {"type": "dict", "default": {}},
    "environment_file": {"type": "path"},
    "writable": {"type": "list", "elements": "path", "default": []},
    "settings": {"type": "dict", "default": {}},
    "restart_on": {"type": "list", "elements": "path", "default": []},
    "reload_on": {"type": "list", "elements": "path", "default": []},
    "health": {"type": "dict", "options": {**HEALTH, "timeout": {"type": "int", "default": 60}}},
    "restore": {"type": "list", "elements": "path", "default": []},
    "dropin": {"type": "bool", "default": False},
    "only_if_present": {"type": "bool", "default": False},
    "timer": {"type": "dict", "default": {}},
}
CERTIFICATE: Mapping[str, Any] = {
    "owner": ROLE,
    "site_id": SITE_ID,
    "common_name": {"type": "str", "required": True},
    "names": {"type": "list", "elements": "str", "default": []},
    "group": {"type": "str", "default": "mlops-tls"},
    "authority": {"type": "str"},
    "authority_key": {"type": "str", "no_log": True},
    "certificate": {"type": "str"},
    "key": {"type": "str", "no_log": True},
    "days": {"type": "int", "default": 397},
    "renew_days": {"type": "int", "default": 60},
    "keep_later": {"type": "bool", "default": False},
}
QUADLET: Mapping[str, Any] = {
    "role": {"type": "str", "required": True},
    "site_id": SITE_ID,
    "name": {"type": "str", "required": True},
    "text": {"type": "str", "required": True},
    "restart_on": {"type": "list", "elements": "path", "default": []},
    "health": {
        "type": "dict",
        "options": {
            "url": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 300},
        },
    },
}
REMOVE: Mapping[str, Any] = {
    "role": ROLE,
    "site_id": SITE_ID,
    "keep": {"type": "list", "elements": "path", "default": []},
    "unless": {"type": "list", "elements": "str", "default": []},
    "only": {"type": "list", "elements": "str", "default": []},
}
# By the name of the module.
MODULES: Mapping[str, Mapping[str, Any]] = {
    "host_files": FILES,
    "host_packages": PACKAGES,
    "host_python_app": APP,
    "host_service": SERVICE,
    "host_quadlet": QUADLET,
    "host_certificate": CERTIFICATE,
    "host_remove": REMOVE,
}


def role_of(params: Mapping[str, Any], option: str = "role") -> str:
    """The role that a task names, by which the ledger remembers it."""
    role: str = params[option]
    if not re.fullmatch(r"[a-z][a-z0-9_]*", role):
        raise HostError(f"{option} has to be a role name such as model_registry, not {role!r}.")
    return role
