# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the platform needs from outside, and how to judge whether it is there.

Values in, values out: what was observed on a PostgreSQL server or an S3 endpoint goes in as frozen
dataclasses, findings and plans come out. Sockets are handed in; nothing here opens a connection,
reads a clock or knows of Ansible.
"""

from __future__ import annotations
