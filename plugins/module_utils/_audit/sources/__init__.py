# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each source turns lines that somebody else has written into events. What a source has to
remember from one batch to the next is a plain mapping, kept with its place in the file."""
