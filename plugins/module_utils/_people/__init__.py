# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""People of the site and their accounts: what is there, what is wanted, and the way between.

``registry`` thinks about the accounts of MLflow, ``invitation`` writes what a new person is handed.
"""
