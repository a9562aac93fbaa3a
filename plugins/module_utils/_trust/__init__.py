# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of the site: values in, values out. The clock and all files are outside.

Runs on the controller only and needs the Python package cryptography there.
"""
