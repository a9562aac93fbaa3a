# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the host about a service, unless it has answered in this run."""

from __future__ import annotations

from ansible_collections.mlops.onprem.plugins.plugin_utils.settled import SettledAction


class ActionModule(SettledAction):
    MODULE = "host_service"
