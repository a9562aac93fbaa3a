# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drivers of GPUs on a host: what is there, what fits together, what a run would do about it.

``facts`` reads texts, ``matrix`` is data with its sources, ``pairs`` says what does not fit,
``condition`` what is wrong with what is there, ``verdict`` what follows from the ``wish``;
``settings`` says how the cards are to be. ``read`` alone looks at a host,
and ``watch`` shows with it what Prometheus is told (``metrics``).
"""
