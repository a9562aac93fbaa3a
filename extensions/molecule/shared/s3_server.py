# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The company's own S3 endpoint for the scenarios: moto behind TLS, with permissions enforced.

``start`` creates a CA, a certificate, a writing and a reading account, and writes what the company
would hand over to the file of ``--facts``. Run again, it finds the server running and does nothing.
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import boto3
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

REGION = "us-east-1"
READ_ONLY = ["s3:Get*", "s3:List*", "s3:Head*"]


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(data)


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Serialise a private key."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def create_certificates(state: Path, address: str) -> None:
    """Create a CA and a certificate for the address of the server."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Storage CA of the company")])
    ca = (
        x509.CertificateBuilder()
        .subject_name(ca_name)
        .issuer_name(ca_name)
        .public_key(ca_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), False)
        .add_extension(
            x509.KeyUsage(False, False, False, False, False, True, True, False, False),
            critical=True,
        )
        .sign(ca_key, hashes.SHA256())
    )
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "storage")]))
        .issuer_name(ca_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]),
            critical=False,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    (state / "ca.crt").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    (state / "server.crt").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    write_private(state / "server.key", pem(key))


def create_account(endpoint: str, ca_file: Path, name: str, actions: list[str]) -> dict[str, str]:
    """Create a user of the server that may do the given actions."""
    iam = boto3.client(
        "iam",
        endpoint_url=endpoint,
        region_name=REGION,
        verify=str(ca_file),
        aws_access_key_id="setup",
        aws_secret_access_key="setup",  # noqa: S106 - accepted before permissions are enforced
    )
    iam.create_user(UserName=name)
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    iam.put_user_policy(
        UserName=name,
        PolicyName="storage",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {"access_key": key["AccessKeyId"], "secret_key": key["SecretAccessKey"]}


def running(state: Path) -> int | None:
    """Return the process id of the server if it is this one that runs."""
    try:
        pid = int((state / "pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"moto" in command else None


def wait_until_ready(endpoint: str, ca_file: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server answers."""
    context = ssl.create_default_context(cafile=str(ca_file))
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"{endpoint}/moto-api/data.json", context=context):
                return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"The S3 server does not answer at {endpoint}: {error}") from error
            time.sleep(0.3)


def start(state: Path, address: str, port: int, facts: Path) -> None:
    """Start the server, create its accounts and write what the company hands over."""
    if running(state) and facts.exists():
        return
    stop(state)
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    create_certificates(state, address)
    endpoint = f"https://{address}:{port}"
    with (state / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "moto.server",
                f"--host={address}",
                f"--port={port}",
                f"--ssl-cert={state / 'server.crt'}",
                f"--ssl-key={state / 'server.key'}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "6"},
            start_new_session=True,
        )
    (state / "pid").write_text(str(process.pid))
    ca_file = state / "ca.crt"
    wait_until_ready(endpoint, ca_file, process)
    writer = create_account(endpoint, ca_file, "mlops", ["s3:*"])
    reader = create_account(endpoint, ca_file, "mlops-reader", READ_ONLY)
    handed_over = {
        "mol_s3_endpoint": endpoint,
        "mol_s3_region": REGION,
        "mol_s3_ca_file": str(ca_file),
        "mol_s3_access_key": writer["access_key"],
        "mol_s3_secret_key": writer["secret_key"],
        "mol_s3_reader_access_key": reader["access_key"],
        "mol_s3_reader_secret_key": reader["secret_key"],
    }
    write_private(facts, yaml.safe_dump(handed_over, explicit_start=True).encode())


def stop(state: Path) -> None:
    """Stop the server if it runs."""
    pid = running(state)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
    (state / "pid").unlink(missing_ok=True)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["start", "stop"])
    parser.add_argument("--state", type=Path, required=True, help="directory of the server")
    parser.add_argument("--address", help="address to listen on")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--facts", type=Path, help="file that gets endpoint and keys")
    options = parser.parse_args()
    if options.action == "stop":
        stop(options.state)
    else:
        start(options.state, options.address, options.port, options.facts)


if __name__ == "__main__":
    main()
