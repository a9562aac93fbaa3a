# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slurm: from measured hosts, owners of GPUs and teams to its configuration and its accounts.

nodes     what a node offers to jobs, of what was measured there
share     what jobs do not get of a host
settings  what the site says of the cluster
texts     the files that Slurm reads
plan      all of it together, with what is to be said about it
accounts  accounts, users and QoS: what is there, what is wanted, the way between
draining  nodes that change or leave, which jobs have to leave first
"""
