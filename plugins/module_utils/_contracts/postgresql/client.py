# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of modules that speak to a PostgreSQL server; documented in C(postgresql_account)."""

from __future__ import annotations

from typing import Any

_DATABASE: dict[str, Any] = dict(
    name=dict(type="str", required=True),
    owner=dict(type="str", required=True),
    password=dict(type="str", required=True, no_log=True),
    connection_limit=dict(type="int", required=True),
    extra_databases=dict(type="list", elements="str", default=[]),
    monitoring=dict(type="bool", default=False),
)

POSTGRESQL_ACCOUNT: dict[str, Any] = dict(
    host=dict(type="str", required=True),
    port=dict(type="int", default=5432),
    ca_file=dict(type="path", default=""),
    sslmode=dict(type="str", choices=["verify-full", "verify-ca"], default="verify-full"),
    user=dict(type="str", required=True),
    password=dict(type="str", required=True, no_log=True),
    database=dict(type="str", default="postgres"),
    site=dict(type="str", required=True),
    databases=dict(type="list", elements="dict", default=[], options=_DATABASE),
    timeout=dict(type="int", default=10),
)
