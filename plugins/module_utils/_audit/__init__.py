# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event stream: who did what to which model, release, device or host, and when.

sources/   lines of logs and journals in, drafts of events out
event      one event, and the line that it is
chain      lines that each name the hash of the line before, in segments; what was changed
names      pseudonyms for people
questions  events in, answers out
store      the segments on a disk, written so that a power loss tears nothing
witness    tells a second host the hash of the last line
syslog     hands the lines to a server of the company's
collector  the program that does all of this on a control host
"""
