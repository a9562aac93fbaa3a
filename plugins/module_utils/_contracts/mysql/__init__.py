# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MariaDB and MySQL: the databases of a site inside a server, ours or the company's.

``client`` speaks to a server, ``read`` looks through it, ``judge`` says what to think of it,
``plan`` what to do, and ``databases`` does it.
"""
