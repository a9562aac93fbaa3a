# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The login as the protocol says it, against answers that a server could give."""

from __future__ import annotations

import hashlib
import socket
import struct

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.dialogue import (
    Scram,
    Talk,
    converse,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.login import (
    Login,
    Refusal,
)

DBA = Login("dba", "secret", "postgres")


def message(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("!i", len(content) + 4) + content


def asks(number: int, more: bytes = b"") -> bytes:
    return message(b"R", struct.pack("!i", number) + more)


def answer_to(login: Login, *messages: bytes) -> tuple[Refusal, bytes]:
    """What is made of the messages of a server, and what was said to it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"".join(messages))
        theirs.shutdown(socket.SHUT_WR)
        found = converse(Talk(ours, 5), login)
        ours.shutdown(socket.SHUT_WR)
        said = b""
        while more := theirs.recv(4096):
            said += more
    return found, said


NO = message(
    b"E",
    b"SFATAL\0VFATAL\0C28P01\0MPasswort falsch \xc3\xa4\0Rauth_failed\0\0",
)


def test_a_refusal_is_read_by_its_letters() -> None:
    found, _said = answer_to(DBA, NO)
    assert found == Refusal("28P01", "Passwort falsch \xe4", "auth_failed")


def test_words_that_are_not_utf8_are_no_obstacle() -> None:
    found, _said = answer_to(DBA, message(b"E", b"C3D000\0Mf\xfcr\0\0"))
    assert (found.sqlstate, found.said) == ("3D000", "f\ufffdr")


def test_a_password_is_said_plainly_only_where_that_is_asked_for() -> None:
    found, said = answer_to(DBA, asks(3), NO)
    assert (found.method, found.sqlstate) == ("password", "28P01")
    assert said.endswith(message(b"p", b"secret\0"))


def test_a_password_is_hashed_twice_for_md5() -> None:
    found, said = answer_to(DBA, asks(5, b"salt"), NO)
    inner = hashlib.md5(b"secretdba").hexdigest().encode()
    assert (found.method, found.sqlstate) == ("md5", "28P01")
    assert said.endswith(b"md5" + hashlib.md5(inner + b"salt").hexdigest().encode() + b"\0")
    assert b"secret\0" not in said


@pytest.mark.parametrize(
    ("number", "method"),
    [(2, "Kerberos 5"), (7, "GSSAPI (Kerberos)"), (9, "SSPI")],
)
def test_what_cannot_be_answered_is_named(number: int, method: str) -> None:
    found, said = answer_to(DBA, asks(number))
    assert found == Refusal(method=method)
    assert b"secret" not in said


def test_no_password_is_told_without_trying_one() -> None:
    found, _said = answer_to(Login("dba", "", "postgres"), asks(10, b"SCRAM-SHA-256\0\0"))
    assert found.outcome == "no password"


def test_a_server_that_lets_us_in_is_told() -> None:
    found, _said = answer_to(DBA, asks(0), message(b"S", b"a\0b\0"), message(b"Z", b"I"))
    assert found.outcome == "welcome"


@pytest.mark.parametrize(
    "junk", [b"", b"R", message(b"R", b"x"), b"E\xff\xff\xff\xff", b"HTTP/1.1"]
)
def test_what_is_no_answer_is_an_error_that_the_caller_expects(junk: bytes) -> None:
    with pytest.raises((OSError, ValueError, struct.error)):
        answer_to(DBA, junk)


def test_a_server_that_never_decides_is_left_in_time() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(message(b"S", b"a\0b\0"))
        talk = Talk(ours, 0.05)
        with pytest.raises(socket.timeout, match="timed out"):
            converse(talk, DBA)


def test_the_proof_of_rfc_7677() -> None:
    client = Scram("pencil", b"rOprNGfwEbeRWgbNEkqO")
    client.first = b"n=user,r=rOprNGfwEbeRWgbNEkqO"
    challenge = (
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    assert client.answer(challenge).endswith(b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
