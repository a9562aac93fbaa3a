# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log in as the protocol says it, to hear why a server turns somebody away.

libpq gives the words of the server, in the server's language, and not the SQLSTATE. So where a
login failed, it is said once more here, and the answer is read with its SQLSTATE, the routine of
the server that gave it, and the kind of login that was asked for.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from ..._findings.sentence import one_line
from ..client_certificate import shown_name
from ..endpoint import Endpoint, verifying
from .greeting import SSL_REQUEST
from .login import Login, Refusal
from .scram import prepared

_VERSION_3 = 196608
_LONGEST = 1 << 20
_OK, _CLEAR, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12
_NEVER_ANSWERED = {2: "Kerberos 5", 7: "GSSAPI (Kerberos)", 8: "GSSAPI (Kerberos)", 9: "SSPI"}
_SCRAM = b"SCRAM-SHA-256"
WELCOME = "welcome"
NO_CERTIFICATE = "certificate"


class Talk:
    """Messages of the protocol over a socket that is already encrypted, for so many seconds."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self.sock = sock
        self.end = time.monotonic() + seconds

    def say(self, kind: bytes, content: bytes) -> None:
        self.sock.sendall(kind + struct.pack("!i", len(content) + 4) + content)

    def hear(self) -> tuple[bytes, bytes]:
        """The next message: its kind and its content. OSError if there is none."""
        kind, size = struct.unpack("!ci", self._exactly(5))
        if not 4 <= size <= _LONGEST:
            raise OSError("not a message of the PostgreSQL protocol")
        return kind, self._exactly(size - 4)

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            self.sock.settimeout(max(self.end - time.monotonic(), 0.001))
            more = self.sock.recv(size - len(found))
            if not more:
                raise OSError("the server closed the connection")
            found += more
        return found


def ask(endpoint: Endpoint, login: Login, timeout: int) -> Refusal:
    """Log in once more. A server that does not get as far as an answer gives an empty refusal."""
    shown = shown_name(endpoint.certificate_of(login.user))
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout=timeout) as sock:
            sock.sendall(SSL_REQUEST)
            if sock.recv(1) != b"S":
                return Refusal()
            context = verifying(endpoint, login.user)
            with context.wrap_socket(sock, server_hostname=endpoint.host) as tls:
                return replace(converse(Talk(tls, timeout), login), certificate=shown)
    except ssl.SSLCertVerificationError:
        return Refusal()
    except ssl.SSLError as error:
        # It is the server that breaks off here, by an alert, once it has seen what it is shown.
        if not shown:
            return Refusal()
        said = one_line(error.reason or error).lower().replace("_", " ")
        return Refusal(said=said, outcome=NO_CERTIFICATE, certificate=shown)
    except (OSError, ValueError, struct.error):
        return Refusal()


def converse(talk: Talk, login: Login) -> Refusal:
    """Say who logs in, answer what is asked, and stop at the first word that decides."""
    words = [b"user", login.user.encode(), b"database", login.database.encode()]
    words += [b"client_encoding", b"UTF8", b"application_name", b"mlops.onprem"]
    talk.say(b"", struct.pack("!i", _VERSION_3) + b"\0".join(words) + b"\0\0")
    method, proven = "", False
    scram = Scram(login.password, base64.b64encode(os.urandom(18)))
    while True:
        kind, content = talk.hear()
        if kind == b"E":
            return replace(refusal_of(content, method), proven=proven)
        if kind == b"Z":
            return Refusal(method=method, outcome=WELCOME)
        if kind != b"R":
            continue
        number = struct.unpack("!i", content[:4])[0]
        # Said only to who has proven the password.
        proven = proven or number == _SASL_FINAL
        method = _NEVER_ANSWERED.get(number) or _METHODS.get(number) or method
        if number in _NEVER_ANSWERED or (method and not login.password and number != _OK):
            return Refusal(method=method, outcome="" if login.password else "no password")
        if number in _ANSWERS:
            talk.say(b"p", _ANSWERS[number](login, scram, content[4:]))


def refusal_of(content: bytes, method: str) -> Refusal:
    """Read an ErrorResponse, whose fields are told apart by a letter and not by the language."""
    fields = {
        part[:1]: part[1:].decode("utf-8", "replace") for part in content.split(b"\0") if part
    }
    said = " ".join(fields[key] for key in (b"M", b"D", b"H") if key in fields)
    return Refusal(
        sqlstate=fields.get(b"C", ""),
        said=one_line(said),
        routine=fields.get(b"R", ""),
        method=method,
    )


class Scram:
    """The client's side of SCRAM-SHA-256 without channel binding (RFC 5802, RFC 7677)."""

    def __init__(self, password: str, nonce: bytes) -> None:
        self.password = password
        self.first = b"n=,r=" + nonce

    def begin(self) -> bytes:
        message = b"n,," + self.first
        return _SCRAM + b"\0" + struct.pack("!i", len(message)) + message

    def answer(self, challenge: bytes) -> bytes:
        """Prove the password without saying it."""
        parts = dict(part.split(b"=", 1) for part in challenge.split(b","))
        salt, rounds = base64.b64decode(parts[b"s"]), int(parts[b"i"])
        salted = hashlib.pbkdf2_hmac("sha256", prepared(self.password), salt, rounds)
        key = hmac.new(salted, b"Client Key", "sha256").digest()
        last = b"c=biws,r=" + parts[b"r"]
        signed = b",".join((self.first, challenge, last))
        signature = hmac.new(hashlib.sha256(key).digest(), signed, "sha256").digest()
        proof = bytes(one ^ other for one, other in zip(key, signature))
        return last + b",p=" + base64.b64encode(proof)


def _md5(login: Login, salt: bytes) -> bytes:
    def digest(text: bytes) -> bytes:
        # What servers without SCRAM ask for; nothing of ours is kept in it.
        return hashlib.md5(text, usedforsecurity=False).hexdigest().encode()

    return b"md5" + digest(digest(login.password.encode() + login.user.encode()) + salt) + b"\0"


_METHODS = {_CLEAR: "password", _MD5: "md5", _SASL: "scram-sha-256"}
_ANSWERS: Mapping[int, Callable[[Login, Scram, bytes], bytes]] = {
    _CLEAR: lambda login, _scram, _content: login.password.encode() + b"\0",
    _MD5: lambda login, _scram, content: _md5(login, content[:4]),
    _SASL: lambda _login, scram, _content: scram.begin(),
    _SASL_CONTINUE: lambda _login, scram, content: scram.answer(content),
}
