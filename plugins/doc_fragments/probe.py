# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options shared by the modules that probe what the platform needs from outside."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  strict:
    description:
      - Fail with the sentences of all findings of severity V(fail), instead of only returning them.
      - In check mode they are only returned, because what is to be looked at may not exist yet.
    type: bool
    default: false
"""
