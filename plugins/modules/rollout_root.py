#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the rollout_root action; the work is done on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_root
short_description: Make and sign the next root document of a site
version_added: 0.3.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Makes the next version of the document that names the keys of the site, where what it says is
    to change or it would expire, and signs it with the root keys at hand.
  - Root keys that are elsewhere sign by hand. The document is then written into O(directory), the
    task fails with the command to sign it with, and the next run takes the signatures from there.
  - Runs on the controller only; the host of the task is not contacted.
    M(mlops.onprem.rollout_channel) publishes what is returned.
options:
  site:
    description: Identity of the site.
    type: str
    required: true
  current:
    description: The newest root document; nothing for the first.
    type: str
    default: ""
  root_keys:
    description: Private root keys at hand, in PEM form (ECDSA, P-256).
    type: list
    elements: str
    default: []
  root_public_keys:
    description: Public halves of root keys that are elsewhere, in PEM form.
    type: list
    elements: str
    default: []
  retired_root_keys:
    description:
      - Private root keys that the document is not to name any more. Those of the version before
        have to sign once more.
    type: list
    elements: str
    default: []
  threshold:
    description: How many root keys have to sign a root document.
    type: int
    default: 1
  online_keys:
    description: Public halves of the keys that sign channels.
    type: list
    elements: str
    required: true
  release_keys:
    description: Public keys of releases that devices are to learn from the root document.
    type: list
    elements: str
    default: []
  days:
    description: Days for which the document is valid.
    type: int
    default: 3650
  renew_days:
    description: It is made anew when it is valid for fewer days than this.
    type: int
    default: 730
  directory:
    description: Directory on the controller for what is signed by hand.
    type: path
    required: true
attributes:
  check_mode:
    support: full
    description: Says whether a new document is needed; nothing is written.
"""

EXAMPLES = r"""
- name: Make the root document of the site
  mlops.onprem.rollout_root:
    site: example
    current: "{{ published.root | default('') }}"
    root_keys: ["{{ lookup('mlops.onprem.secret', 'fleet_root_key', kind='private_key') }}"]
    online_keys: ["{{ published.public_key }}"]
    directory: "{{ inventory_dir }}/.state"
  register: made
"""

RETURN = r"""
root:
  description: The root document that the site is to have.
  returned: success
  type: str
signatures:
  description: Its signatures.
  returned: when there is a new one
  type: str
version:
  description: Its version.
  returned: success
  type: int
expires:
  description: When it expires, in seconds since 1970.
  returned: success
  type: int
"""
