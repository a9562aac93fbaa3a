# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for the package bcrypt inside the Ceph manager.

The manager runs each of its modules in an own sub-interpreter. Debian's bcrypt refuses to be loaded
there, and with it every module fails that shares mgr_util, the Prometheus exporter among them.
They need bcrypt only to make accounts of the dashboard, which is not installed: loading works,
using it does not.
"""


def __getattr__(name: str) -> object:
    if name.startswith("__"):
        raise AttributeError(name)
    raise RuntimeError(f"bcrypt.{name} is not available inside the Ceph manager")
