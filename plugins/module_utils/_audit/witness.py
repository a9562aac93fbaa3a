# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells a second host the hash of the last line. Its nginx writes down each request, and nothing
that it offers takes one back."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping

from .chain import Head
from .errors import AuditError

TIMEOUT = 10.0


def tell(target: Mapping[str, str], head: Head) -> None:
    """Hand over a head; an :class:`AuditError` says why it was not taken."""
    try:
        context = ssl.create_default_context(cafile=target["ca_file"])
        context.load_cert_chain(target["cert_file"], target["key_file"])
        connection = http.client.HTTPSConnection(
            target["address"], int(target["port"]), timeout=TIMEOUT, context=context
        )
        try:
            connection.request("PUT", f"/audit/head/{head.seq}/{head.hash}")
            status = connection.getresponse().status
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise AuditError(
            f"The second host {target['address']} did not take the head: {error}. See that "
            "mlops-nginx runs there (audit_log_witness)."
        ) from None
    if status != 204:
        raise AuditError(
            f"The second host {target['address']} answered the head with {status}, wanted 204. Run "
            "site.yml again, which tells its nginx who may hand heads over."
        )
