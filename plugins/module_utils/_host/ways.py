# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether this host reaches the places that it will talk to, before anything is installed there.

A refusal is a good answer: the packet has come to the other host and back, only nobody listens yet.
A firewall that drops says nothing, one that rejects says so by ICMP; both are told apart from it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

SECONDS = 4.0  # two more tries of the kernel's after the first packet
AT_ONCE = 64
OPEN, REFUSED, SILENT, UNNAMED, FORBIDDEN = "open", "refused", "silent", "unnamed", "forbidden"
_FORBIDDING = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM)


def tried(places: Sequence[tuple[str, int]], seconds: float = SECONDS) -> list[str]:
    """What each place answers, all asked at the same time."""
    if not places:
        return []
    with ThreadPoolExecutor(min(len(places), AT_ONCE)) as pool:
        return list(pool.map(answer_of, places, [seconds] * len(places)))


def answer_of(place: tuple[str, int], seconds: float = SECONDS) -> str:
    """What comes of a connection, which is closed at once."""
    try:
        with socket.create_connection(place, timeout=seconds):
            return OPEN
    except (socket.gaierror, UnicodeError):
        return UNNAMED
    except ConnectionRefusedError:
        return REFUSED
    except TimeoutError:
        return SILENT
    except OSError as error:
        if error.errno in _FORBIDDING:
            return FORBIDDEN
        return OPEN if error.errno == errno.ECONNRESET else SILENT
