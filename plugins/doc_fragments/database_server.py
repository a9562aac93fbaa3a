# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options shared by the modules that speak to a database server, of whichever kind."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  host:
    description: Name or address of the server, as in its certificate.
    type: str
    required: true
  ca_file:
    description:
      - PEM file on the controller with the authority that signed the server's certificate.
      - If empty, the authorities that the controller trusts.
    type: path
    default: ""
  sslmode:
    description:
      - V(verify-full) also compares the name in the certificate with O(host).
      - V(verify-ca) does not, for servers whose certificate lacks the name they are reached by.
    type: str
    choices: [verify-full, verify-ca]
    default: verify-full
  user:
    description: The account that the platform was given, usually a DBA's.
    type: str
    required: true
  timeout:
    description: Seconds to wait for a connection.
    type: int
    default: 10
"""
