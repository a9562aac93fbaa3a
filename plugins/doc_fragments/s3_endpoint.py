# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options shared by the modules that speak to an S3 endpoint."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  endpoint:
    description: URL of the endpoint, as C(https://host) or C(https://host:port).
    type: str
    required: true
  region:
    description: Region that requests are signed for and buckets are made in.
    type: str
    default: us-east-1
  ca_file:
    description:
      - PEM file on the controller with the authority that signed the endpoint's certificate.
      - If empty, the authorities that the controller trusts.
    type: path
    default: ""
  accounts:
    description: Accounts with the buckets that each of them uses.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the account in findings and messages.
        type: str
        required: true
      access_key:
        description: Access key of the account.
        type: str
        required: true
      secret_key:
        description: Secret key of the account.
        type: str
        required: true
      buckets:
        description: Buckets that the account uses.
        type: list
        elements: str
        default: []
requirements:
  - boto3
"""
