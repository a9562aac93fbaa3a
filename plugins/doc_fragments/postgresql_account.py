# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Further options of the modules that speak to a PostgreSQL server."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  port:
    description: TCP port of the server.
    type: int
    default: 5432
  password:
    description: Its password.
    type: str
    required: true
  database:
    description: Database to log in to.
    type: str
    default: postgres
  site:
    description: Name of the site. Comments on the server tell by it what this site made.
    type: str
    required: true
  site_id:
    description:
      - Random identity of the site, 8 to 64 letters, digits, C(-) and C(_), also in the comments.
        Two sites with one O(site) never touch each other's roles and databases.
      - If empty, comments carry O(site) only, as those of release 0.2.0 do, and what bears it is
        taken as this site's as long as the passwords hold.
    type: str
    default: ""
  adopt_named_marks:
    description:
      - With O(site_id), take what bears O(site) and no identity as this site's, as long as the
        passwords hold, and renew its comments. For a site that release 0.2.0 installed.
    type: bool
    default: false
  databases:
    description: Databases of the platform with the roles that own them.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the database.
        type: str
        required: true
      owner:
        description: Role that owns it and logs in.
        type: str
        required: true
      password:
        description: Password of the role.
        type: str
        required: true
      connection_limit:
        description: Connections that the role may open at a time, which is the sum of its pools.
        type: int
        required: true
      extra_databases:
        description: More databases of the same role.
        type: list
        elements: str
        default: []
      monitoring:
        description: Make the role a member of C(pg_monitor), if O(user) may grant that.
        type: bool
        default: false
  client_certificates:
    description:
      - Certificates to show to a server that asks for one (C(cert), or C(clientcert) in its
        pg_hba.conf). Each login shows its own, else the one without O(client_certificates[].login).
    type: list
    elements: dict
    default: []
    suboptions:
      login:
        description: Role that logs in. If empty, every role without a certificate of its own.
        type: str
        default: ""
      certificate_file:
        description:
          - PEM file on the controller with the client's certificate, and after it those of the
            authorities between it and the one that the server trusts.
        type: path
        required: true
      key_file:
        description: PEM file on the controller with its key, without passphrase, mode 0600.
        type: path
        required: true
requirements:
  - psycopg >= 3.1
  - cryptography >= 42, if O(client_certificates) is given
"""
