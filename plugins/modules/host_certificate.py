#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give a host its key and its certificate; the key never leaves the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_certificate
short_description: Give a host its key and its certificate
version_added: 0.1.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Creates an ECDSA P-256 key on the host, which never leaves it, has the controller sign a request
    for it, and places the certificate. Renews it when it is due, when the names of the host change,
    or when another authority is to be used.
  - A certificate that was issued elsewhere is placed as given, together with its key.
  - The files are C(/etc/mlops/tls/host.key) and C(/etc/mlops/tls/host.crt), which holds the
    intermediate certificates too. Both are recorded in the ledger of the host.
options:
  site_id:
    description:
      - Identity of the site that the task is for, as the action plugin sends it. A host that says
        it belongs to another site is refused. Not for playbooks.
    type: str
  owner:
    description: Name of the role that owns the files.
    type: str
    required: true
  common_name:
    description: First name of the host. Also one of the alternative names.
    type: str
    required: true
  names:
    description: Further DNS names and addresses by which the host is reached.
    type: list
    elements: str
    default: []
  group:
    description: Group that may read the key.
    type: str
    default: mlops-tls
  authority:
    description: Certificate of the issuing authority in PEM, those above it after it.
    type: str
  authority_key:
    description: Key of the issuing authority in PEM. Used on the controller only.
    type: str
  certificate:
    description: A certificate in PEM that was issued elsewhere.
    type: str
  key:
    description: The key of O(certificate) in PEM.
    type: str
  days:
    description: Days for which a new certificate is valid, at most as long as its authority.
    type: int
    default: 397
  renew_days:
    description: A certificate that is valid for fewer days than this is issued anew.
    type: int
    default: 60
  keep_later:
    description:
      - Keep a certificate on the host that ends later than O(certificate), if it is for O(key). The
        host has renewed it by itself.
    type: bool
    default: false
    version_added: 0.3.0
attributes:
  check_mode:
    support: full
    description: Says whether a certificate would be issued, and why.
  diff_mode:
    support: full
    description: Shows what the certificate says before and after.
"""

EXAMPLES = r"""
- name: Give the host its certificate
  mlops.onprem.host_certificate:
    owner: trust
    common_name: "{{ inventory_hostname }}"
    names: [192.0.2.10]
    authority: "{{ lookup('ansible.builtin.file', 'ca.crt') }}"
    authority_key: "{{ lookup('mlops.onprem.secret', 'trust_ca_key', kind='private_key') }}"
"""

RETURN = r"""
certificate:
  description: The certificate in PEM, as it is on the host. In check mode the one before.
  returned: success
  type: str
request:
  description: A certificate request for the key of the host, in PEM. Empty if there is no key yet.
  returned: success
  type: str
renews:
  description: Whether a timer of the host renews the certificate by itself.
  returned: success
  type: bool
ended:
  description: Whether the certificate has ended. In check mode that of the one to be placed.
  returned: success
  type: bool
  version_added: 0.3.0
reasons:
  description: Why the certificate was issued anew.
  returned: success
  type: list
  elements: str
"""

import grp
import os
import stat

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._host import args
from ansible_collections.mlops.onprem.plugins.module_utils._host.certificate import (
    CERTIFICATE,
    KEY,
    TIMER,
    end_of,
    has_ended,
    refuse_foreign,
)
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import (
    Book,
    must,
    write_whole,
)


def read(path: str) -> str:
    """The content of a file, empty if there is none."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def new_key() -> str:
    """A fresh key, which exists only in memory so far."""
    return must(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        "create a key for the host",
    ).out


def request(common_name: str) -> str:
    """A request for the key on the host. Its names are decided by whoever signs it."""
    name = "".join(letter for letter in common_name if letter not in "/+=,\\")[:64]
    return must(
        ["openssl", "req", "-new", "-batch", "-key", KEY, "-subj", f"/CN={name}"],
        "create a certificate request for the host",
    ).out


def later(ours: str, given: str) -> bool:
    """Say whether our certificate ends after the one that is given."""
    ends = end_of(ours), end_of(given)
    return None not in ends and ends[0] > ends[1]  # type: ignore[operator]


def group_id(name: str, check: bool) -> int:
    """The number of the group; check mode may come before the group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        if check:
            return -1
        raise HostError(f"The group {name} does not exist on this host.") from None


def fits(path: str, mode: int, gid: int) -> bool:
    """Whether owner and mode of the file are as wanted."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return (
        stat.S_ISREG(status.st_mode)
        and stat.S_IMODE(status.st_mode) == mode
        and (status.st_uid, status.st_gid) == (0, gid)
    )


def work(module: AnsibleModule) -> dict[str, object]:
    """Place what is given; create the key if there is none; ask for a certificate."""
    params, check = module.params, module.check_mode
    role = args.role_of(params, "owner")
    with Book(check, site=params["site_id"]) as book:
        refuse_foreign(book.ledger)
        gid = group_id(params["group"], check)
        key, certificate = read(KEY), read(CERTIFICATE)
        wanted_key = params["key"] or key
        wanted = params["certificate"] or certificate
        if params["keep_later"] and key == wanted_key and later(certificate, wanted):
            wanted = certificate
        changes = [
            path
            for path, old, new, mode in (
                (KEY, key, wanted_key, 0o640),
                (CERTIFICATE, certificate, wanted, 0o644),
            )
            if old != new or not (new or path == CERTIFICATE) or (new and not fits(path, mode, gid))
        ]
        if not check and changes:
            book.write(book.ledger.claim(role, "file", KEY).claim(role, "file", CERTIFICATE))
            if KEY in changes:
                write_whole(KEY, (wanted_key or new_key()).encode(), 0o640, gid=gid)
            if CERTIFICATE in changes:
                write_whole(CERTIFICATE, wanted.encode(), 0o644, gid=gid)
        return {
            "changed": bool(changes),
            "certificate": certificate if check else wanted,
            "request": request(params["common_name"]) if os.path.exists(KEY) else "",
            "renews": os.path.exists(TIMER),
            "ended": bool(wanted) and has_ended(wanted),
            "reasons": [],
        }


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec=dict(args.CERTIFICATE),
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()
