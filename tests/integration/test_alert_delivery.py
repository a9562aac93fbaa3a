# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alerts arrive: Debian's Alertmanager, a mail server with TLS and accounts, and an HTTP server."""

from __future__ import annotations

import datetime
import email
import email.policy
import http.server
import importlib
import ipaddress
import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from ansible_collections.mlops.onprem.plugins.filter.alertmanager import alertmanager
from ansible_collections.mlops.onprem.plugins.module_utils._monitoring import delivery
from ansible_collections.mlops.onprem.plugins.modules import alert_test
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests import prometheus_programs
from tests.patience import PATIENCE, eventually

from .conftest import free_port

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "roles" / "monitoring" / "files"))
watch = importlib.import_module("mlops_alert_watch")
PASSWORD, TOKEN = "correct horse", "hush-hush"


@pytest.fixture(scope="module", name="certificate")
def _certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sink")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "crt", folder / "key"


@dataclass
class Mailbox:
    """A mail server's inside: what came, by whom, over what."""

    port: int = 0
    mails: list[tuple[Envelope, bool]] = field(default_factory=list)

    async def handle_DATA(  # noqa: N802 - as aiosmtpd calls it
        self, _server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        self.mails.append((envelope, session.ssl is not None))
        return "250 taken"


def login(_server: object, _session: object, _envelope: object, _how: str, data: Any) -> AuthResult:
    right = isinstance(data, LoginPassword) and data.password == PASSWORD.encode()
    return AuthResult(success=right and data.login == b"mlops", handled=False)


@pytest.fixture(name="mailbox")
def _mailbox(certificate: tuple[Path, Path]) -> Iterator[Mailbox]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    box = Mailbox(free_port())
    server = Controller(
        box,
        hostname="127.0.0.1",
        port=box.port,
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=login,
        # Alertmanager knows the words of LOGIN that other servers use, not those of this one.
        auth_exclude_mechanism=["LOGIN"],
        ready_timeout=PATIENCE,
    )
    server.start()
    yield box
    server.stop()


@dataclass
class Hook:
    """An HTTP server's inside: path, token and body of what came."""

    port: int = 0
    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def alerts(self, path: str) -> list[dict[str, Any]]:
        return [
            one for where, _token, body in self.calls if where == path for one in body["alerts"]
        ]


@pytest.fixture(name="hook")
def _hook() -> Iterator[Hook]:
    found = Hook()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.calls.append((self.path, self.headers.get("Authorization", ""), body))
            self.send_response(500 if self.path == "/broken" else 200)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()


def mail_template() -> str:
    path = ROOT / "roles" / "monitoring" / "templates" / "mail.tmpl.j2"
    text: str = jinja2.Template(path.read_text()).render(
        mlops_site_name="example", monitoring_external_url="https://gw"
    )
    return text


@pytest.fixture(name="start")
def _start(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts Alertmanager as the role does; answers its address."""
    running: list[subprocess.Popen[bytes]] = []

    def start(**told: Any) -> str:
        given = {"mail": {}, "password": "", "webhooks": [], "heartbeat": "", **told}
        made = alertmanager({}, directory=str(tmp_path), **given)
        assert made["problems"] == []
        (tmp_path / "mail.tmpl").write_text(mail_template())
        for name, content in made["secrets"].items():
            (tmp_path / name).write_text(content)
        (tmp_path / "alertmanager.yml").write_text(json.dumps(made["configuration"]))
        port = free_port()
        running.append(
            subprocess.Popen(
                [
                    *prometheus_programs.alertmanager(),
                    f"--config.file={tmp_path / 'alertmanager.yml'}",
                    f"--storage.path={tmp_path / 'state'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                    "--web.route-prefix=/alertmanager/",
                    "--cluster.listen-address=",
                ],
                stderr=(tmp_path / "log").open("wb"),
            )
        )
        url = f"http://127.0.0.1:{port}/alertmanager"

        def answers() -> bool:
            assert running[-1].poll() is None, (tmp_path / "log").read_text()
            try:
                alert_test.Alertmanager(url).counted()
            except OSError:
                return False
            return True

        eventually(answers, "a start of Alertmanager")
        return url

    yield start
    for process in running:
        process.terminate()
        process.wait(timeout=PATIENCE)


def mail_of(box: Mailbox, certificate: tuple[Path, Path]) -> dict[str, Any]:
    return {
        "to": ["ops@example.com", "night@example.com"],
        "from": "mlops@example.com",
        "server": "127.0.0.1",
        "port": box.port,
        "user": "mlops",
        "ca_file": str(certificate[0]),
    }


def asked(url: str, timeout: float = PATIENCE, **deliveries: int) -> dict[str, Any]:
    return {
        "url": url,
        "user": "",
        "password_file": None,
        "secret_file": None,
        "ca_file": None,
        "deliveries": deliveries,
        "site": "example",
        "sender": "a test",
        "runbook": "https://gw/runbooks/NotificationTest.html",
        "timeout": timeout,
    }


def test_a_test_alert_arrives_by_mail_and_webhook(
    start: Callable[..., str], mailbox: Mailbox, hook: Hook, certificate: tuple[Path, Path]
) -> None:
    url = start(
        mail=mail_of(mailbox, certificate),
        password=PASSWORD,
        webhooks=[{"url": f"http://127.0.0.1:{hook.port}/alerts", "token": TOKEN}],
    )
    test, taken, lacking = alert_test.send(asked(url, email=1, webhook=1))
    assert (lacking, taken) == ([], {"email": 1, "webhook": 1})
    ((envelope, encrypted),) = mailbox.mails
    assert encrypted
    assert envelope.rcpt_tos == ["ops@example.com", "night@example.com"]
    mail = email.message_from_bytes(envelope.content or b"", policy=email.policy.default)
    assert "NotificationTest" in mail["Subject"]
    for kind in ("plain", "html"):
        part = mail.get_body(preferencelist=(kind,))
        assert part is not None
        said = part.get_content()
        assert "https://gw/runbooks/NotificationTest.html" in said
        assert "Test of the alerts of example" in said
    ((path, token, body),) = hook.calls
    assert (path, token) == ("/alerts", f"Bearer {TOKEN}")
    assert body["alerts"][0]["labels"]["test"] == test
    # A second test is one of its own, and comes at once too.
    assert alert_test.send(asked(url, email=1, webhook=1))[1] == {"email": 1, "webhook": 1}


def test_an_alertmanager_of_the_company_shows_a_test_alert_and_then_no_more(
    start: Callable[..., str], mailbox: Mailbox, hook: Hook, certificate: tuple[Path, Path]
) -> None:
    webhook = {"url": f"http://127.0.0.1:{hook.port}/company", "token": TOKEN}
    url = start(mail=mail_of(mailbox, certificate), password=PASSWORD, webhooks=[webhook])
    manager = alert_test.Alertmanager(url)
    manager.send({"labels": {"alertname": "Theirs", "severity": "warning"}})
    test, told, lacking = alert_test.arrive(asked(url))
    assert (told, lacking) == (["site"], [])
    assert manager.seen(test) == []
    assert manager.seen("") != []  # nothing else is ended: what has no such label matches this
    # What comes and goes so soon is not kept from its people.
    eventually(lambda: bool(hook.alerts("/company")), "a call", 2 * PATIENCE)


def test_an_alertmanager_that_shows_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, start: Callable[..., str]
) -> None:
    url = start(webhooks=[{"url": "http://127.0.0.1:9/none"}])
    shown = alert_test.Alertmanager.seen
    monkeypatch.setattr(alert_test.Alertmanager, "seen", lambda *_args: [])
    _test, told, lacking = alert_test.arrive(asked(url, timeout=0))
    assert (told, lacking) == ([], ["it was taken, and Alertmanager does not show it"])
    # It was ended all the same.
    monkeypatch.setattr(alert_test.Alertmanager, "seen", shown)
    assert shown(alert_test.Alertmanager(url), _test) == []


def over_when_tried(url: str, wrong: str, right: str) -> SimpleNamespace:
    """A time that is up once one delivery was taken and the other was tried in vain."""
    manager, looks = alert_test.Alertmanager(url), [False]

    def monotonic() -> float:
        counted = manager.counted()
        none = delivery.Attempts()
        tried = counted.get(wrong, none).failed > 0 and counted.get(right, none).taken > 0
        looks.append(tried)  # what is told was counted before this look
        return time.monotonic() + (2 * PATIENCE if looks[-2] else 0)

    return SimpleNamespace(
        monotonic=monotonic,
        sleep=time.sleep,
        time=time.time,
        gmtime=time.gmtime,
        strftime=time.strftime,
    )


@pytest.mark.parametrize("broken", ["password", "webhook", "nobody"])
def test_what_is_not_taken_is_told(
    broken: str,
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[..., str],
    mailbox: Mailbox,
    hook: Hook,
    certificate: tuple[Path, Path],
) -> None:
    mail = mail_of(mailbox, certificate)
    if broken == "nobody":
        mail["port"] = free_port()
    url = start(
        mail=mail,
        password="wrong" if broken == "password" else PASSWORD,
        webhooks=[
            {"url": f"http://127.0.0.1:{hook.port}/{'broken' if broken == 'webhook' else 'x'}"}
        ],
    )
    wrong, right = ("webhook", "email") if broken == "webhook" else ("email", "webhook")
    monkeypatch.setattr(alert_test, "time", over_when_tried(url, wrong, right))
    _test, taken, lacking = alert_test.send(asked(url, email=1, webhook=1))
    assert taken == {wrong: 0, right: 1}
    (sentence,) = lacking
    assert sentence.startswith(f"0 of 1 deliveries by {wrong} were taken; ")
    assert "attempts failed" in sentence


def test_the_watchdog_calls_its_heartbeat_and_nobody_else(
    start: Callable[..., str], mailbox: Mailbox, hook: Hook, certificate: tuple[Path, Path]
) -> None:
    url = start(
        mail=mail_of(mailbox, certificate),
        password=PASSWORD,
        heartbeat=f"http://127.0.0.1:{hook.port}/beat",
    )
    alert_test.Alertmanager(url).send({"labels": {"alertname": "Watchdog", "severity": "none"}})
    eventually(lambda: bool(hook.alerts("/beat")), "a heartbeat")
    assert hook.alerts("/beat")[0]["labels"]["alertname"] == "Watchdog"
    # What else happens is sent to people, and not to the heartbeat.
    assert alert_test.send(asked(url, email=1))[2] == []
    assert len(mailbox.mails) == 1
    assert {one["labels"]["alertname"] for one in hook.alerts("/beat")} == {"Watchdog"}


def test_a_silent_prometheus_is_told_by_mail_and_ends_when_it_speaks(
    start: Callable[..., str], mailbox: Mailbox, certificate: tuple[Path, Path]
) -> None:
    url = start(mail=mail_of(mailbox, certificate), password=PASSWORD)
    manager, ask = alert_test.Alertmanager(url), watch.asker(url, "", "")
    now = datetime.datetime.now(datetime.timezone.utc)
    later = now + watch.GRACE
    assert not watch.look(ask, "ctl1", "https://gw", now)  # it has only just been started
    manager.send({"labels": {"alertname": "Watchdog", "severity": "none"}})
    assert not watch.look(ask, "ctl1", "https://gw", later)
    ended = (now - datetime.timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    manager.send({"labels": {"alertname": "Watchdog", "severity": "none"}, "endsAt": ended})
    assert watch.look(ask, "ctl1", "https://gw", later)
    (alert,) = ask("alerts?filter=alertname%3DPrometheusDown")
    assert alert["status"]["state"] == "active"
    assert alert["receivers"] == [{"name": "site"}]
    # After group_wait, as any other alert.
    eventually(lambda: bool(mailbox.mails), "a mail", 2 * PATIENCE)
    mail = email.message_from_bytes(mailbox.mails[0][0].content or b"", policy=email.policy.default)
    assert "PrometheusDown ctl1" in mail["Subject"]
