# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Estimates: what people know about a model, a load or a store, turned into demand.

Every figure carries its formula with the numbers filled in, and where the formula comes from.
"""
