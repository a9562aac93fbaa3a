# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``mlops-enrol`` on a device that nobody reaches: it asks for its certificate itself.

It runs from the bundle that a person brought. The key is made here and never leaves. The request
goes to the gateway with the token of the bundle, a person approves it by the fingerprint that both
sides show, and the device fetches its certificate. Until all of that is done nothing of what the
device had is replaced, so that a run that was killed is begun again.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from ..client import Interrupted
from ..errors import RegistryError
from ..openssl import Run, run_openssl

INVITATION = "enrol.json"
AUTHORITY = "ca.crt"
# What else a bundle brings, and where it belongs.
BROUGHT = ("fleet.json", "fleet_root.json", "fleet_root.json.sig")
AGENT = "mlops-fleet-agent.service"
ASK_AGAIN = 15.0
MOST_BYTES = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_PUBLIC = re.compile("-----BEGIN PUBLIC KEY-----(.*?)-----END PUBLIC KEY-----", re.DOTALL)
_TOKEN = re.compile(r"[A-Za-z0-9]{32,128}")


@dataclass(frozen=True)
class Invitation:
    """Who this device is to be, where it asks, and the token that is good for its name once."""

    name: str
    gateway: str
    token: str
    expires: float

    @classmethod
    def parse(cls, data: bytes, where: str) -> Invitation:
        """Read the invitation, naming what is wrong with it."""
        try:
            value: Any = json.loads(data)
            found = cls(
                str(value["name"]),
                str(value["gateway"]),
                str(value["token"]),
                float(value["expires"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise RegistryError(f"{where}: this is no invitation ({error!r}).") from None
        if not _NAME.fullmatch(found.name) or not _TOKEN.fullmatch(found.token):
            raise RegistryError(f"{where}: the name or the token is not one that enrol.yml makes.")
        if urllib.parse.urlsplit(found.gateway).scheme != "https":
            raise RegistryError(f"{where}: found the gateway {found.gateway!r}, wanted https.")
        return found


Ask = Callable[[str, str, bytes], "tuple[int, bytes]"]


def fingerprint(public_key: bytes) -> str:
    """What people compare of a public key in PEM form: 128 bits of its SHA-256."""
    # Some versions of openssl say beside the key that the request is good.
    found = _PUBLIC.search(public_key.decode("ascii", "replace"))
    try:
        der = base64.b64decode("".join(found[1].split()) if found else "", validate=True)
    except ValueError:
        der = b""
    if not der:
        raise RegistryError("This is no public key in PEM form.")
    text = hashlib.sha256(der).hexdigest()[:32]
    return "-".join(text[at : at + 4] for at in range(0, 32, 4))


def asker(invitation: Invitation, authority: Path, timeout: float = 30.0) -> Ask:
    """Ask the gateway with the token, verified by the authority of the bundle."""
    parts = urllib.parse.urlsplit(invitation.gateway)
    try:
        context = ssl.create_default_context(cafile=str(authority))
    except (OSError, ssl.SSLError) as error:
        raise RegistryError(f"{authority} cannot be read: {error}.") from None
    pair = f"{invitation.name}:{invitation.token}".encode()
    headers = {"Authorization": "Basic " + base64.b64encode(pair).decode()}

    def ask(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        line = http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 443, timeout=timeout, context=context
        )
        try:
            line.request(method, parts.path.rstrip("/") + path, body or None, headers)
            answer = line.getresponse()
            return answer.status, answer.read(MOST_BYTES)
        except ssl.SSLCertVerificationError as error:
            raise RegistryError(
                f"The certificate of {parts.netloc} is not accepted: {error.verify_message}."
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise Interrupted(str(error) or type(error).__name__) from None
        finally:
            line.close()

    return ask


def put(path: Path, data: bytes, mode: int) -> None:
    """Put a file in its place whole, and return when it is on the medium."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(fresh, path)


class Enrolment:
    """One device that enrols: its bundle, and where the files of the device are."""

    def __init__(
        self, bundle: Path, root: Path, ask: Ask | None = None, run: Run = run_openssl
    ) -> None:
        self.bundle = bundle
        self.invitation = Invitation.parse(self._brought(INVITATION), str(bundle / INVITATION))
        self._ask = ask or asker(self.invitation, bundle / AUTHORITY)
        self._run = run
        self.tls = root / "etc/mlops/tls"
        self.settings = root / "etc/mlops/model_serving"
        # The key that waits for its certificate; the one in use stays until there is one.
        self._key = self.tls / "enrol.key"

    def _brought(self, name: str) -> bytes:
        try:
            return (self.bundle / name).read_bytes()
        except OSError as error:
            raise RegistryError(
                f"{self.bundle / name} cannot be read: {error.strerror}; unpack the whole bundle."
            ) from None

    def public_key(self) -> bytes:
        """The public half of the key that waits; one that is not there is made."""
        if not self._key.exists():
            made = self._run(
                ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], b""
            )
            put(self._key, made, 0o600)
        return self._run(["pkey", "-in", str(self._key), "-pubout"], b"")

    def request(self) -> bytes:
        """A request that proves the key; what the certificate says is the authority's matter."""
        subject = f"/CN={self.invitation.name}"
        return self._run(["req", "-new", "-key", str(self._key), "-subj", subject], b"")

    def hand_in(self) -> None:
        """Hand the request in; once it was approved the token is good for fetching alone."""
        status, _body = self._ask(
            "PUT", f"/fleet/enroll/{self.invitation.name}.csr", self.request()
        )
        if status in (401, 403):
            raise RegistryError(
                "The gateway does not take the token: it was used, has expired, or there is a "
                "newer one. Ask for a new bundle (playbooks/enrol.yml -e enrol_device="
                f"{self.invitation.name})."
            )
        self._check(status)

    @staticmethod
    def _check(status: int) -> None:
        if status == 429 or status >= 500:
            raise Interrupted(f"HTTP {status}")
        if status not in (200, 201, 204):
            raise RegistryError(f"The gateway answered HTTP {status}.")

    def fetch(self) -> bytes:
        """The certificate, nothing where none was issued for this key yet."""
        status, body = self._ask("GET", f"/fleet/enroll/{self.invitation.name}.crt", b"")
        if status in (401, 403, 404):
            return b""
        self._check(status)
        own = self._run(["x509", "-pubkey", "-noout"], body)
        if fingerprint(own) != fingerprint(self.public_key()):
            return b""
        waiting = self.tls / "enrol.crt"
        put(waiting, body, 0o644)
        authority = str(self.bundle / AUTHORITY)
        try:
            self._run(
                ["verify", "-CAfile", authority, "-untrusted", str(waiting), str(waiting)], b""
            )
        except RegistryError as error:
            raise RegistryError(
                f"The certificate is not one of the authority of the bundle: {error}"
            ) from None
        finally:
            waiting.unlink()
        return body

    def place(self, certificate: bytes) -> None:
        """Put everything in its place, the key and its certificate last."""
        for name in BROUGHT:
            put(self.settings / name, self._brought(name), 0o644)
        put(self.tls / AUTHORITY, self._brought(AUTHORITY), 0o644)
        old = self.tls / "host.key"
        mode = old.stat().st_mode & 0o777 if old.exists() else 0o640
        put(self.tls / "host.crt", certificate, 0o644)
        put(old, self._key.read_bytes(), mode)
        with contextlib.suppress(LookupError, OSError):
            shutil.chown(old, group="mlops-tls")
        self._key.unlink()

    def shown(self) -> str:
        """The fingerprint that the person who approves compares."""
        return fingerprint(self.public_key())


def enrol(
    one: Enrolment,
    say: Callable[[str], object],
    until: float,
    pause: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
) -> bool:
    """Ask, wait for a person, take what was issued; whether there is a certificate now."""
    say(f"This device is to be {one.invitation.name}. The fingerprint of its key: {one.shown()}\n")
    handed, said = False, ""
    while True:
        try:
            certificate = one.fetch()
            if certificate:
                one.place(certificate)
                return True
            if not handed:
                one.hand_in()
                handed = True
                say("The request is handed in; a person approves it by this fingerprint.\n")
            sentence = ""
        except Interrupted as error:
            sentence = f"The gateway is not reached ({error}); this goes on.\n"
        if sentence and sentence != said:
            say(sentence)
        said = sentence
        if now() >= until:
            return False
        pause(ASK_AGAIN)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="mlops-enrol",
        description="Ask the platform for the certificate of this device, and wait for it.",
    )
    made.add_argument("--bundle", type=Path, required=True, help="the unpacked bundle")
    made.add_argument("--root", type=Path, default=Path("/"), help="default: %(default)s")
    made.add_argument("--wait", type=float, default=7 * 86400.0, help="seconds; default: a week")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 with a certificate, 3 where none was issued in time, 1 where it failed."""
    options = parser().parse_args(arguments)
    try:
        one = Enrolment(options.bundle, options.root)
        done = enrol(
            one,
            lambda text: (sys.stdout.write(text), sys.stdout.flush()),
            time.time() + options.wait,
        )
    except (RegistryError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if not done:
        sys.stderr.write("No certificate was issued yet; run this again to go on waiting.\n")
        return 3
    sys.stdout.write(f"This device is {one.invitation.name} now.\n")
    subprocess.run(["systemctl", "try-restart", AGENT], check=False, capture_output=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
