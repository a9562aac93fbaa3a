# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take from a process what a foreign model must not have; say what could not be taken.

Standard library only. ``before`` is called before anything is imported that starts threads,
``after`` when all libraries are in memory and before a byte of the model is read.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
from collections.abc import Iterable
from pathlib import Path

NOBODY = 65534
CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWIPC = 0x08000000
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38

# Landlock: system calls and rights as the kernel numbers them, the same on all machines.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION_FLAG = 1
PATH_BENEATH = 1
READ_FILE, READ_DIR = 1 << 2, 1 << 3
RIGHTS_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}


def before() -> list[str]:
    """Leave the network and all ways back to more rights."""
    weaker = []
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.geteuid() == 0:
        alone = libc.unshare(CLONE_NEWNET | CLONE_NEWIPC) == 0
    else:
        alone = libc.unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC) == 0
    if not alone:
        weaker.append(f"the network could not be taken away ({os.strerror(ctypes.get_errno())})")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return weaker


def after(folder: Path, user: bool, memory_mib: int, answer_mib: int, seconds: int) -> list[str]:
    """Limit memory, time and files; leave the own user; see nothing but one folder."""
    weaker = []
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (answer_mib * 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    room = mapped() + memory_mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208
        weaker.append("the file system stays readable, as a library has started threads")
    else:
        reason = see_only(folder)
        if reason:
            weaker.append(f"the file system stays readable ({reason})")
    reason = leave_user(user)
    if reason:
        weaker.append(f"it ran as the user of this process ({reason})")
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    # Whoever waits for the answer may be killed; only after the user was left, which undoes it.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return weaker


def leave_user(user: bool) -> str:
    """Become nobody; return why not."""
    if os.geteuid() != 0:
        return "only root may take another"
    if not user:
        return "no other user may enter the folder of temporary files, see TMPDIR"
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError as error:
        return f"this container does not let us take another: {error.strerror}"
    return ""


def mapped() -> int:
    """Bytes of address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def see_only(folder: Path, more: Iterable[str] = ("/sys/devices/system/cpu", "/proc/self")) -> str:
    """Let this process read one folder (and what describes processors); return why not."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    version = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION_FLAG)
    if version < 1:
        return "this kernel has no Landlock"
    handled = RIGHTS_BY_VERSION[min(version, 3)]
    attributes = struct.pack("=Q", handled)
    ruleset = libc.syscall(
        CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)
    )
    if ruleset < 0:
        return os.strerror(ctypes.get_errno())
    try:
        for place in (str(folder), *more):
            try:
                handle = os.open(place, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            rule = struct.pack("=Qi", READ_FILE | READ_DIR, handle)
            failed = libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, rule, ctypes.c_uint32(0))
            os.close(handle)
            if failed:
                return os.strerror(ctypes.get_errno())
        if libc.syscall(RESTRICT_SELF, ruleset, ctypes.c_uint32(0)):
            return os.strerror(ctypes.get_errno())
    finally:
        os.close(ruleset)
    return ""
