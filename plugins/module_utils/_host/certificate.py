# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Key and certificate of a host: where they are, whether they are ours, how long they last."""

from __future__ import annotations

import calendar
import os.path
import tempfile
import time

from .errors import HostError
from .ledger import Ledger
from .system import run

DIRECTORY = "/etc/mlops/tls"
KEY = DIRECTORY + "/host.key"
CERTIFICATE = DIRECTORY + "/host.crt"
TIMER = "/etc/systemd/system/mlops-certificate.timer"
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def refuse_foreign(ledger: Ledger) -> None:
    """Refuse to take the place of a key or certificate that somebody else put there."""
    for path in (KEY, CERTIFICATE):
        if os.path.lexists(path) and not ledger.has("file", path):
            raise HostError(
                f"{path} exists, but was not made by the platform; move it away and run again."
            )


def end_of(certificate: str) -> float | None:
    """When the certificate in a text ends, in seconds since 1970; None if it cannot be read."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as stream:
        stream.write(certificate)
        stream.flush()
        return _end(stream.name)


def has_ended(certificate: str, now: float | None = None) -> bool:
    """Say whether the certificate in a text has ended; one that cannot be read has not."""
    end = end_of(certificate)
    return end is not None and end <= (time.time() if now is None else now)


def days_left(path: str = CERTIFICATE, now: float | None = None) -> float | None:
    """Days until the certificate ends, fewer than none after that; None if none can be read.

    OpenSSL is installed with the certificate, so without it there is none of ours.
    """
    end = _end(path) if os.path.isfile(path) else None
    return None if end is None else (end - (time.time() if now is None else now)) / 86400


def _end(path: str) -> float | None:
    ran = run(["openssl", "x509", "-in", path, "-noout", "-enddate"], timeout=10)
    _name, sign, end = ran.out.strip().partition("=")
    if ran.rc != 0 or not sign:
        return None
    try:
        # Written in English, whatever the host speaks, and in UTC.
        month, *rest = end.split()
        text = " ".join([str(MONTHS.index(month) + 1), *rest])
        return calendar.timegm(time.strptime(text, "%m %d %H:%M:%S %Y GMT"))
    except ValueError:
        return None
