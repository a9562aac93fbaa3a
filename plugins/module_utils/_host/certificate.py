# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the key and the certificate of a host are, and whether they are ours."""

from __future__ import annotations

import os.path

from .errors import HostError
from .ledger import Ledger

DIRECTORY = "/etc/mlops/tls"
KEY = DIRECTORY + "/host.key"
CERTIFICATE = DIRECTORY + "/host.crt"


def refuse_foreign(ledger: Ledger) -> None:
    """Refuse to take the place of a key or certificate that somebody else put there."""
    for path in (KEY, CERTIFICATE):
        if os.path.lexists(path) and not ledger.has("file", path):
            raise HostError(
                f"{path} exists, but was not made by the platform; move it away and run again."
            )
