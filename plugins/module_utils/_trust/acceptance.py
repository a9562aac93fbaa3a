# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether clients will accept a certificate: two ends in memory shake hands with the very bundle.

Judged by OpenSSL with its strictest checks, so what passes here passes with openssl, libpq, nginx
and every Python, whichever of them is lenient in what.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from .certificates import (
    Authority,
    Names,
    TrustError,
    issue,
    parse_certificates,
    throwaway_request,
    to_pem,
)

_NO_ISSUER_ABOVE = 2
_NO_ISSUER = (20, 21)
_NOT_YET, _EXPIRED = 9, 10
_PURPOSE = 26
_PATH_LENGTH = 25
_CONSTRAINTS = range(47, 54)
_STRICT = "Python 3.13 and newer refuse it"


def refusal_of(bundle: str, chain: str, key: str) -> str:
    """Why a client or a server refuses a host's certificate; empty if both accept it.

    ``bundle`` is what the clients trust, ``chain`` what the host shows, and ``key`` its private
    key, all in PEM. The clock is that of this machine.
    """
    roots = to_pem(parse_certificates(bundle, "the bundle"))
    try:
        with _files(chain, key) as (chain_file, key_file):
            server = _context(ssl.PROTOCOL_TLS_SERVER, roots, chain_file, key_file)
            client = _context(ssl.PROTOCOL_TLS_CLIENT, roots, chain_file, key_file)
            _shake_hands(client, server)
    except ssl.SSLCertVerificationError as error:
        return _said(error.verify_code, error.verify_message)
    except ssl.SSLError as error:
        return f"TLS does not take the certificate ({error.reason or error})"
    return ""


def trial_refusal(bundle: str, authority: Authority, names: Names, now: datetime, days: int) -> str:
    """Why a certificate that the authority issued for these names would be refused.

    One is issued for a key that lives in this call only.
    """
    request, key = throwaway_request(names.common_name)
    try:
        chain = issue(request, authority, names, now, days)
    except ValueError as error:
        raise TrustError(f"no certificate can be issued for {names.text}: {error}") from error
    return refusal_of(bundle, chain, key)


@contextmanager
def _files(chain: str, key: str) -> Iterator[tuple[str, str]]:
    """The texts as files for OpenSSL, readable by this user only, for as long as the block."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, text in (("host.crt", chain), ("host.key", key)):
            path = os.path.join(folder, name)
            with open(path, "w", encoding="utf-8", opener=_private) as stream:
                stream.write(text)
            paths.append(path)
        yield paths[0], paths[1]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _context(protocol: int, roots: str, chain_file: str, key_file: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    # Strict as Python 3.13, and up to a root as everybody else.
    context.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=roots)
    context.load_cert_chain(chain_file, key_file)
    return context


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """TLS between two ends in memory, each of which verifies the other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                continue


def _said(code: int, message: str) -> str:
    """OpenSSL's verdict in words that say what is wrong with which file."""
    if code == _NO_ISSUER_ABOVE:
        return "the root above the authority is missing"
    if code in _NO_ISSUER:
        return "nothing that the platform trusts issued it, or an authority between is missing"
    if code == _NOT_YET:
        return "it, or an authority above it, is not valid yet"
    if code == _EXPIRED:
        return "it, or an authority above it, has expired"
    if code == _PURPOSE:
        return "it is not allowed both to servers and to clients (extended key usage)"
    if code == _PATH_LENGTH:
        return "an authority above allows no further authority below it (path length)"
    if code in _CONSTRAINTS:
        return f"an authority above does not allow these names ({message})"
    if code >= 79:
        return f"{_STRICT} ({message})"
    return message
