# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a certificate is read by Debian's prober also when it lies in the past."""

from __future__ import annotations

import datetime
import socket
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests import prometheus_programs
from tests.patience import PATIENCE, eventually

from .conftest import free_port

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


def expired(folder: Path) -> ssl.SSLContext:
    """A certificate that was good until yesterday."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edge1")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - datetime.timedelta(days=2))
        .not_valid_after(NOW - datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "ca.crt", folder / "key")
    return context


@pytest.fixture(name="server")
def _server(tmp_path: Path) -> Iterator[int]:
    """Shakes hands with everybody."""
    context = expired(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    taken = listener.accept()[0]
                except OSError:
                    return
                try:
                    context.wrap_socket(taken, server_side=True).close()
                except OSError:
                    taken.close()

        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1])


@pytest.fixture(name="prober")
def _prober(tmp_path: Path) -> Iterator[str]:
    own = (ROOT / "roles/monitoring/templates/blackbox.yml.j2").read_text()
    config = tmp_path / "blackbox.yml"
    config.write_text(own.replace("/etc/mlops/tls/ca.crt", str(tmp_path / "ca.crt")))
    url = f"127.0.0.1:{free_port()}"
    command = [
        prometheus_programs.program("prometheus-blackbox-exporter"),
        f"--config.file={config}",
        f"--web.listen-address={url}",
    ]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as running:

        def answers() -> bool:
            assert running.poll() is None, (tmp_path / "log").read_text()
            try:
                return bool(get(f"http://{url}/-/healthy"))
            except OSError:
                return False

        eventually(answers, "a start of the prober")
        yield f"http://{url}/probe"
        running.terminate()


def get(url: str) -> str:
    opened = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    with opened(url, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def test_the_end_of_an_expired_certificate_is_told(server: int, prober: str) -> None:
    told = get(f"{prober}?module=certificate&target=127.0.0.1:{server}").splitlines()
    (line,) = [one for one in told if one.startswith("probe_ssl_earliest_cert_expiry ")]
    assert float(line.split()[1]) == (NOW - datetime.timedelta(days=1)).timestamp()


def test_an_address_with_an_expired_certificate_does_not_count_as_an_answer(
    server: int, prober: str
) -> None:
    told = get(f"{prober}?module=answers&target=https://127.0.0.1:{server}/").splitlines()
    assert "probe_success 0" in told
