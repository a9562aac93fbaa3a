# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command in a network of its own, which has loopback and nothing else.

    python tests/alone.py COMMAND [ARGUMENT...]

Chromium gives up every request under way (``net::ERR_NETWORK_CHANGED``) when an address of the
machine comes or goes. Whoever makes test hosts beside a test in the browser does that all the time.
"""

from __future__ import annotations

import fcntl
import functools
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

GET_FLAGS, SET_FLAGS = 0x8913, 0x8914  # SIOCGIFFLAGS and SIOCSIFFLAGS, linux/sockios.h
UP = 0x1  # IFF_UP, linux/if.h
REQUEST = "16sh22x"  # the name of an interface and its flags: struct ifreq, linux/if.h


@functools.cache
def unshare() -> tuple[str, ...]:
    """What gives a command a network of its own; nothing where this user may not have one."""
    own = ("unshare", *(("--map-root-user",) if os.geteuid() else ()), "--net")
    try:
        tried = subprocess.run([*own, "true"], check=False, capture_output=True)
    except FileNotFoundError:
        return ()
    return own if tried.returncode == 0 else ()


def alone(command: Sequence[str]) -> list[str]:
    """A command that runs another one alone, or that one itself where that is not to be had."""
    if not unshare():
        return list(command)
    return [*unshare(), sys.executable, str(Path(__file__).resolve()), *command]


def loopback_up() -> None:
    """Switch loopback on, as the system does for the network of the machine."""
    with socket.socket() as any_socket:
        asked = struct.pack(REQUEST, b"lo", 0)
        _name, flags = struct.unpack(REQUEST, fcntl.ioctl(any_socket, GET_FLAGS, asked))
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack(REQUEST, b"lo", flags | UP))


if __name__ == "__main__":
    loopback_up()
    os.execvp(sys.argv[1], sys.argv[1:])
