# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""S3: the buckets of a site at an endpoint, ours or the company's.

``client`` speaks to an endpoint, ``read`` looks through it, ``judge`` says what to think of it,
and ``buckets`` makes and takes away what is the site's.
"""
