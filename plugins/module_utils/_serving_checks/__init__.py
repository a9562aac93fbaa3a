# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge the way from data to prediction: golden answers, latency, metrics, the closing table.

Values in, values out: the modules ask devices and Prometheus, this package says what it means.
"""
