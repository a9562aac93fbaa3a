# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Ceph cluster as values: who is in it, what its monitor should know, who may use its S3.

Values in, values out; nothing here opens a file or a socket, reads a clock or knows of Ansible.
"""

from __future__ import annotations
