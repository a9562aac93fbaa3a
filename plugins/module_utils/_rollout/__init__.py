# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A staged rollout: rings, plan, journal, state machine and gates.

Pure thinking: no clock, no network, no task. What decides never touches a device, and what touches
a device (``_release.device``) never decides. Standard library only: it travels to the control host.
"""
