# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Further options of the modules that speak to a MariaDB or MySQL server."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  port:
    description: TCP port of the server.
    type: int
    default: 3306
  password:
    description: Its password. It is sent over TLS only.
    type: str
    required: true
  site:
    description: Name of the site, for people who read the marks on the server.
    type: str
    required: true
  site_id:
    description:
      - Random identity of the site, 8 to 64 letters, digits, C(-) and C(_), in its marks. Two sites
        never touch each other's databases and accounts.
    type: str
    required: true
  databases:
    description: Databases of the platform, each with the account that has it for itself.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the database.
        type: str
        required: true
      owner:
        description: User of the account that works in it.
        type: str
        required: true
      password:
        description: Password of the account.
        type: str
        required: true
      connection_limit:
        description: Connections that the account may open at a time.
        type: int
        required: true
      account_host:
        description: From where the account may log in, a host, an address or a pattern with C(%).
        type: str
        default: "%"
      tables:
        description:
          - Patterns such as C(*_table) that the names of the tables match. A table that matches
            none was made by somebody else, and its database is then not dropped.
          - If empty, every table counts as the account's.
        type: list
        elements: str
        default: []
requirements:
  - PyMySQL >= 1.1
"""
