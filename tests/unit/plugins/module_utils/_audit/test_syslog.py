"""Events reach a syslog server over TLS, and an outage loses none."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._audit.errors import AuditError
from ansible_collections.mlops.onprem.plugins.module_utils._audit.event import (
    DENIED,
    Actor,
    Event,
    parse,
)
from ansible_collections.mlops.onprem.plugins.module_utils._audit.syslog import (
    frame,
    message,
    send,
)

from tests.patience import PATIENCE
from tests.unit.plugins.module_utils._audit.day import lines_of, whole_day

LINES = lines_of(whole_day())
MESSAGES = [message(parse(line), line, "ctl1") for line in LINES]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sink")
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=sink"
    named = ["-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem")]
    subprocess.run(["openssl", *made.split(), *named, *files], check=True, capture_output=True)
    return directory


class Sink:
    """A syslog server over TLS. ``reads`` says after how many bytes it hangs up unread."""

    def __init__(self, directory: Path, reads: int | None = None) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
        self.listener = socket.create_server(("localhost", 0))
        self.reads = reads
        self.content = b""
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    @property
    def target(self) -> dict[str, str]:
        return {"host": "localhost", "port": str(self.listener.getsockname()[1])}

    def _serve(self) -> None:
        raw, _address = self.listener.accept()
        raw.settimeout(PATIENCE)
        try:
            stream = self.context.wrap_socket(raw, server_side=True, suppress_ragged_eofs=True)
        except OSError:
            raw.close()
            return
        with stream:
            try:
                while self.reads is None or len(self.content) < self.reads:
                    part = stream.recv(1024)
                    if not part:
                        break
                    self.content += part
            except OSError:
                pass

    def end(self) -> bytes:
        self.thread.join(timeout=PATIENCE)
        self.listener.close()
        return self.content


@pytest.fixture
def sink(certificate: Path) -> Iterator[Sink]:
    made = Sink(certificate)
    yield made
    made.end()


def target_of(sink: Sink, certificate: Path) -> dict[str, str]:
    return {**sink.target, "ca_file": str(certificate / "cert.pem")}


def unframed(content: bytes) -> list[bytes]:
    """As RFC 5425 says: a length, a space, the message."""
    found = []
    while content:
        length, _space, rest = content.partition(b" ")
        assert len(rest) >= int(length)
        found.append(rest[: int(length)])
        content = rest[int(length) :]
    return found


def test_a_server_gets_every_event_as_it_stands_in_the_stream(
    sink: Sink, certificate: Path
) -> None:
    send(target_of(sink, certificate), MESSAGES)
    got = unframed(sink.end())
    assert [text.partition(b" - ")[2].partition(b" - ")[2] for text in got] == LINES


def test_messages_have_the_form_of_rfc_5424() -> None:
    head = re.compile(
        rb"<(\d+)>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z [!-~]{1,255} [!-~]{1,48} - "
        rb"[!-~]{1,32} - \{"
    )
    assert all(head.match(text) for text in MESSAGES)
    denied = Event("2026-11-28T12:00:00Z", Actor(), "login.denied", outcome=DENIED)
    assert message(denied, b"{}", "ctl 1").startswith(b"<108>1 2026-11-28T12:00:00Z ctl1 ")


def test_who_hangs_up_before_all_was_read_has_not_taken_it(certificate: Path) -> None:
    sink = Sink(certificate, reads=2000)
    with pytest.raises(AuditError, match="They stay and are sent again"):
        send(target_of(sink, certificate), MESSAGES * 200)
    sink.end()


def test_a_server_that_is_away_has_not_taken_it(certificate: Path) -> None:
    with socket.create_server(("localhost", 0)) as closed:
        port = closed.getsockname()[1]
    target = {"host": "localhost", "port": str(port), "ca_file": str(certificate / "cert.pem")}
    with pytest.raises(AuditError, match="did not take the events"):
        send(target, MESSAGES)


def test_nothing_is_told_to_a_server_of_another_name_or_authority(certificate: Path) -> None:
    for name, authority in (("127.0.0.1", certificate / "cert.pem"), ("localhost", None)):
        sink = Sink(certificate)
        target = {"host": name, "port": sink.target["port"]}
        file = str(authority or ssl.get_default_verify_paths().openssl_cafile)
        with pytest.raises(AuditError):
            send({**target, "ca_file": file}, MESSAGES)
        assert sink.end() == b""


def test_a_frame_counts_octets() -> None:
    assert frame(b"abc") == b"3 abc"
