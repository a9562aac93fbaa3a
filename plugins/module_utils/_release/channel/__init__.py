# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device believes: signed documents by TUF's rules, and what is remembered of them.

``documents`` reads and writes them, ``rules`` judges them (pure), ``state`` remembers: on the disk
before anything is used. ``docs/channel.md`` tells it to people.
"""

from __future__ import annotations
