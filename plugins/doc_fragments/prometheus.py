# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options shared by the modules that ask Prometheus."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  url:
    description: Address of Prometheus.
    type: str
    required: true
  user:
    description: User, if Prometheus asks for one.
    type: str
    default: ""
  password:
    description: Password of the user.
    type: str
    default: ""
  ca_file:
    description: Certificates to trust.
    type: path
    required: true
"""
