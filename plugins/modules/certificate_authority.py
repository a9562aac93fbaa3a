#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the certificate_authority action; the work is done on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_authority
short_description: Keep the certificate authority of a site on the controller
version_added: 0.1.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Keeps two files on the controller, C(ca.crt), the certificate of the authority that issues the
    certificates of the hosts, and C(ca-bundle.crt), everything that the platform trusts.
  - The authority is the company's, if O(certificate_file) is given, otherwise one of the site's
    own, made once for O(key). It is made anew with the same key when it is due, so that the
    certificates it issued stay valid.
  - Runs on the controller only; the host of the task is not contacted.
options:
  directory:
    description: Directory of the files on the controller.
    type: path
    required: true
  common_name:
    description: Name of the site's own authority.
    type: str
    required: true
  key:
    description: Key of the authority in PEM. Not needed if all certificates are issued elsewhere.
    type: str
  known:
    description: The authority as hosts trust it, which is used where O(directory) holds none.
    type: str
    default: ""
  certificate_file:
    description: Certificate of the company's authority in PEM, those above it after it.
    type: path
  extra_files:
    description: Files with certificates that are to be trusted besides.
    type: list
    elements: path
    default: []
  client_certificate_file:
    description: Certificate of the client that reads metrics, if it was issued elsewhere.
    type: path
  days:
    description: Days for which the site's own authority is valid.
    type: int
    default: 3650
  renew_days:
    description: The site's own authority is made anew when it is valid for fewer days than this.
    type: int
    default: 730
  probe:
    description: Answer findings about what would be used, and change nothing.
    type: bool
    default: false
  host_certificate_file:
    description: With O(probe), the certificate of the host that was issued elsewhere.
    type: path
  host_key_file:
    description: With O(probe), the key of O(host_certificate_file).
    type: path
  host_names:
    description: With O(probe), the names by which the host is reached.
    type: list
    elements: str
    default: []
  host_address:
    description: With O(probe), the name or address by which other hosts reach the host.
    type: str
    default: ""
  host_days:
    description: With O(probe), days for which a certificate would be issued.
    type: int
    default: 397
  host_renew_days:
    description: With O(probe), days that a certificate should be valid for.
    type: int
    default: 60
  host_renews:
    description: With O(probe), whether the host renews the certificate that it was given by itself.
    type: bool
    default: false
    version_added: 0.3.0
attributes:
  check_mode:
    support: full
    description: Returns what would be written.
  diff_mode:
    support: full
    description: Shows the certificates before and after.
"""

EXAMPLES = r"""
- name: Keep the authority of the site
  mlops.onprem.certificate_authority:
    directory: "{{ inventory_dir }}/.state"
    common_name: Example site
    key: "{{ lookup('mlops.onprem.secret', 'trust_ca_key', kind='private_key') }}"
  run_once: true
"""

RETURN = r"""
certificate:
  description: Certificate of the issuing authority in PEM, those above it after it.
  returned: success
  type: str
bundle:
  description:
    - Every certificate that the platform trusts, in PEM. With a probe empty where the authority is
      still to be made, or cannot be used.
  returned: success
  type: str
clients:
  description:
    - What to verify clients with, in PEM. The authority and those above it up to the root, or those
      of O(client_certificate_file).
  returned: success
  type: str
findings:
  description: What the probe found.
  returned: with probe
  type: list
  elements: dict
"""
