# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""What clients do besides asking plainly: each is answered in the protocol's form.

And it costs nobody anything. Other bodies and paths stand in the tests of the model server and of
its front.
"""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.benchmarks import serving
from tests.integration import test_model_front
from tests.integration.test_model_front import Front

nginx, server, front = test_model_front.nginx, test_model_front.server, test_model_front.front

INFER = f"POST {serving.PATH} HTTP/1.1\r\nHost: edge1\r\n"
GOOD = serving.document(1)
CLOSE = "Connection: close\r\n"


def asked(
    body: bytes = GOOD, *headers: str, start: str = INFER, length: int | None = None
) -> bytes:
    """A request as bytes, with a length of its body that may be a lie."""
    told = [
        *headers,
        f"Content-Length: {len(body) if length is None else length}",
        "Connection: close",
    ]
    return start.encode() + "".join(f"{line}\r\n" for line in told).encode() + b"\r\n" + body


def chunked(*parts: bytes, headers: str = CLOSE) -> bytes:
    """A request whose length is not told before."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    return f"{INFER}Transfer-Encoding: chunked\r\n{headers}\r\n".encode() + body


def get(path: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    told = "".join(f"{line}\r\n" for line in headers)
    return f"{method} {path} HTTP/{version}\r\nHost: edge1\r\n{told}{CLOSE}\r\n".encode()


def changed(**more: Any) -> bytes:
    """A good request with something else in it."""
    return json.dumps({**json.loads(GOOD), **more}).encode()


def data_of(values: str) -> bytes:
    """A request with numbers as a program writes that knows no better."""
    inputs = json.loads(GOOD)["inputs"]
    inputs[0]["data"] = ["HERE"]
    return json.dumps({"inputs": inputs}).replace('"HERE"', values).encode()


def deflated(body: bytes) -> bytes:
    return zlib.compress(body)


FOUR = "1, 2, 3, 4"
HABITS: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "chunks": (chunked(GOOD[:7], GOOD[7:]), (200,)),
    "a chunk for each byte": (chunked(*(bytes([one]) for one in GOOD)), (200,)),
    "chunks of a wrong size": (chunked(GOOD).replace(b"\r\n0\r\n", b"\r\nzz\r\n"), (400,)),
    "waits to be told to go on": (asked(GOOD, "Expect: 100-continue"), (200,)),
    "expects what nobody knows": (asked(GOOD, "Expect: nonsense"), (200, 417)),
    "an old version of HTTP": (asked(start=INFER.replace("1.1", "1.0")), (200,)),
    "two lengths": (asked(GOOD, f"Content-Length: {len(GOOD) + 1}"), (400,)),
    "a length and chunks": (
        chunked(GOOD, headers=f"Content-Length: {len(GOOD)}\r\n{CLOSE}"),
        (400,),
    ),
    "a negative length": (asked(b"", length=-1), (400,)),
    "no length": (f"{INFER}{CLOSE}\r\n".encode(), (400, 411)),
    "HEAD": (get("/v2/health/ready", method="HEAD"), (200, 405)),
    "a browser asks whether it may": (
        get(
            serving.PATH,
            "Origin: https://a",
            "Access-Control-Request-Method: POST",
            method="OPTIONS",
        ),
        (405,),
    ),
    "wants a web socket": (
        get(serving.PATH, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: x"),
        (400, 405, 426),
    ),
    "offers another version of HTTP": (
        asked(GOOD, "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
        (200,),
    ),
    "wants a page": (asked(GOOD, "Accept: text/html"), (200,)),
    "wants it compressed in any way": (
        asked(GOOD, "Accept-Encoding: zstd, br, gzip;q=0.1"),
        (200,),
    ),
    "wants a part": (asked(GOOD, "Range: bytes=0-10"), (200,)),
    "knows it already": (asked(GOOD, 'If-None-Match: "*"'), (200,)),
    "large cookies": (asked(GOOD, "Cookie: " + "a=b; " * 700), (200,)),
    "says that it is somebody else": (asked(GOOD, "X-Forwarded-For: 127.0.0.1"), (200,)),
    "a name with an escape": (asked(start=INFER.replace("iris", "ir%69s")), (200, 404)),
    "a name with an escaped slash": (asked(start=INFER.replace("iris", "iris%2f..")), (400, 404)),
    "a path that leads up": (get("/v2/../../etc/passwd"), (400, 404)),
    "two slashes": (asked(start=INFER.replace("/v2/", "//v2//")), (200, 404)),
    "a slash at the end": (asked(start=INFER.replace("/infer", "/infer/")), (200, 404)),
    "a question": (asked(start=INFER.replace("/infer", "/infer?a=b&a=%00")), (200,)),
    "a mark before the text": (asked(b"\xef\xbb\xbf" + GOOD), (200, 400)),
    "another coding of text": (asked(GOOD.decode().encode("utf-16")), (200, 400)),
    "half a character": (asked(GOOD[:-1] + b',"id":"\xed\xa0\x80"}'), (400,)),
    "an id of many kinds of letters": (asked(changed(id="\U0001f600 \u202e grün")), (200,)),
    "an id that is a number": (asked(changed(id=7)), (200, 400)),
    "parameters that nobody knows": (
        asked(changed(parameters={"priority": 9, "x": [1]})),
        (200, 400),
    ),
    "a name twice": (asked(GOOD[:-1] + b',"inputs":[]}'), (200, 400)),
    "no number": (asked(data_of("NaN, 1, 2, 3")), (200, 400)),
    "without end": (asked(data_of("-Infinity, 1, 2, 3")), (200, 400)),
    "too large a number": (asked(data_of("1e999, 1, 2, 3")), (200, 400)),
    "a number of many digits": (asked(data_of("1" * 5000 + ", 1, 2, 3")), (400,)),
    "numbers in quotes": (asked(data_of('"1", "2", "3", "4"')), (200, 400)),
    "numbers that are none": (asked(data_of("true, null, {}, []")), (400,)),
    "gzip": (asked(gzip.compress(GOOD), "Content-Encoding: gzip"), (200,)),
    "gzip, by its old name": (asked(gzip.compress(GOOD), "Content-Encoding: x-gzip"), (200, 415)),
    "deflate": (asked(deflated(GOOD), "Content-Encoding: deflate"), (200, 400, 415)),
    "a coding that is not here": (asked(GOOD, "Content-Encoding: br"), (400, 415)),
    "compressed twice": (
        asked(gzip.compress(gzip.compress(GOOD)), "Content-Encoding: gzip, gzip"),
        (200, 400, 415),
    ),
    "small, and large when unpacked": (
        asked(gzip.compress(b" " * (32 * 2**20)), "Content-Encoding: gzip"),
        (413,),
    ),
    "half of something compressed": (
        asked(gzip.compress(GOOD)[:-9], "Content-Encoding: gzip"),
        (400,),
    ),
    "a form": (asked(b"a=b&c=d", "Content-Type: application/x-www-form-urlencoded"), (400, 415)),
    "a file of a form": (
        asked(b"--x\r\n\r\ny\r\n--x--", "Content-Type: multipart/form-data; boundary=x"),
        (400, 415),
    ),
    "a name that is not this host's": (
        asked(start=INFER.replace("edge1", "169.254.169.254")),
        (200, 400, 404),
    ),
    "a header without a value": (asked(GOOD, "X-Nothing:"), (200,)),
    "a header that goes on in the next line": (asked(GOOD, "X-Long: a\r\n b"), (200, 400)),
    "a line that ends otherwise": (asked().replace(b"\r\n", b"\n"), (200, 400)),
}


@pytest.fixture(autouse=True)
def _costs_nobody(front: Front, server: serving.Server) -> Iterator[None]:
    """Whatever was done: others are answered, by the same process, and nothing was written."""
    before = server.log.read_text()
    yield
    for _turn in range(3):
        assert front.ask("POST", serving.PATH, GOOD)[0] == 200
    assert server.log.read_text() == before


def answer_of(found: bytes) -> tuple[int, dict[str, str], bytes]:
    """The last answer among the bytes that came back."""
    while found.startswith(b"HTTP/1.1 100"):
        found = found.partition(b"\r\n\r\n")[2]
    head, _empty, body = found.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _sign, value in (x.partition(":") for x in lines)
    }
    if headers.get("transfer-encoding") == "chunked":
        whole = b""
        while body:
            size, _line, body = body.partition(b"\r\n")
            whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
        body = whole
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    return int(lines[0].split()[1]), headers, body


def no_constant(name: str) -> None:
    raise AssertionError(f"the answer holds {name}, which is not JSON")


@pytest.mark.parametrize("habit", HABITS)
def test_a_habit_is_answered_in_the_protocols_form(front: Front, habit: str) -> None:
    data, allowed = HABITS[habit]
    status, headers, body = answer_of(front.raw(data))
    assert status in allowed, body[:300]
    if habit == "HEAD":
        assert body == b""
        return
    assert headers["content-type"].startswith("application/json")
    document = json.loads(body, parse_constant=no_constant)
    assert ("outputs" in document) if status == 200 else list(document) == ["error"]


def test_two_requests_at_once_are_answered_in_their_order(front: Front) -> None:
    first, second = changed(id="first"), changed(id="second")
    data = asked(first).replace(CLOSE.encode(), b"") + asked(second)
    found = front.raw(data)
    assert found.count(b"HTTP/1.1 200") == 2
    assert found.index(b'"first"') < found.index(b'"second"')


def test_who_leaves_in_the_middle_holds_nobody_up(front: Front) -> None:
    for part in (asked()[:-5], asked(length=10_000), f"{INFER}Content-Le".encode(), b""):
        for leave in (True, False):
            with socket.create_connection(("127.0.0.1", front.port), timeout=10) as plain:
                stream = front.context().wrap_socket(plain, server_hostname="localhost")
                stream.sendall(part) if part else None
                if leave:  # with a reset, as a program that is killed does
                    linger = struct.pack("ii", 1, 0)
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                stream.close()
    # Asks, and does not wait for the answer.
    for _turn in range(20):
        with socket.create_connection(("127.0.0.1", front.port), timeout=10) as plain:
            stream = front.context().wrap_socket(plain, server_hostname="localhost")
            stream.sendall(asked())
            stream.close()


def test_who_is_slow_and_who_only_stands_there_hold_nobody_up(front: Front) -> None:
    standing = []
    try:
        for _turn in range(100):
            standing.append(socket.create_connection(("127.0.0.1", front.port), timeout=10))
        with socket.create_connection(("127.0.0.1", front.port), timeout=60) as plain:
            stream = front.context().wrap_socket(plain, server_hostname="localhost")
            whole = asked()
            for start in range(0, len(whole), max(1, len(whole) // 20)):
                stream.sendall(whole[start : start + max(1, len(whole) // 20)])
                time.sleep(0.02)
                assert start or front.ask("POST", serving.PATH, GOOD)[0] == 200
            found = b""
            while part := stream.recv(65536):
                found += part
            assert answer_of(found)[0] == 200
    finally:
        for each in standing:
            each.close()


def test_an_older_version_of_tls_is_answered_and_a_much_older_one_is_not(front: Front) -> None:
    context = front.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", front.port), timeout=10) as plain:
        stream = context.wrap_socket(plain, server_hostname="localhost")
        stream.sendall(asked())
        assert stream.version() == "TLSv1.2"
        assert stream.recv(64).startswith(b"HTTP/1.1 200")
        stream.close()
