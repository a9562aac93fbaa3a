# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that SSH does not let us talk to, because its key is not the one that is known."""

from __future__ import annotations

import re
import shlex

from .._findings.finding import FAIL, Finding

UNKNOWN, CHANGED, REVOKED = "unknown", "changed", "revoked"
# In the order in which they are looked for: what OpenSSH prints, also without a terminal.
SAID = (
    (REVOKED, r"REVOKED HOST KEY|host key .*is marked as revoked"),
    (CHANGED, r"REMOTE HOST IDENTIFICATION HAS CHANGED|host key for .* has changed"),
    (UNKNOWN, r"host key is known for|host key verification failed|authenticity of host"),
)


def host_key_state(said: str) -> str:
    """What is the matter with the key of a host, from what ssh printed; empty if it is not that."""
    for state, pattern in SAID:
        if re.search(pattern, said, re.IGNORECASE):
            return state
    return ""


def check_host_key(name: str, state: str, address: str, port: int = 22) -> Finding:
    """The finding about a key that is not the known one."""
    place = shlex.quote(address if port == 22 else f"[{address}]:{port}")
    scan = f"ssh-keyscan {f'-p {port} ' if port != 22 else ''}{shlex.quote(address)}"
    on_the_host = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
    add = (
        f'compare what "{scan} | ssh-keygen -lf -" prints with "{on_the_host}" on its own '
        f"console, and only if they agree: {scan} >> ~/.ssh/known_hosts (or the file that "
        "UserKnownHostsFile in ansible_ssh_common_args names)"
    )
    if state == UNKNOWN:
        return Finding(
            "assess.host_key",
            name,
            FAIL,
            f"the SSH key of {address} is not known here, so it may be any machine",
            "a host whose key is in known_hosts",
            add,
        )
    if state == REVOKED:
        return Finding(
            "assess.host_key",
            name,
            FAIL,
            f"the SSH key of {address} is revoked",
            "the key that is known",
            "give the host a new key, and find out why this one was revoked",
        )
    return Finding(
        "assess.host_key",
        name,
        FAIL,
        f"the SSH key of {address} is another one than the known one: it was installed anew, or "
        "another machine answers in its place",
        "the key that is known",
        f"if it was installed anew, forget the old key (ssh-keygen -R {place}), then {add}",
    )
