# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The openssl command, which every Debian host has; it verifies ECDSA P-256 signatures too."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

from .errors import RegistryError

Run = Callable[[Sequence[str], bytes], bytes]


def run_openssl(arguments: Sequence[str], data: bytes = b"") -> bytes:
    """Run the openssl command; no key is ever among the arguments."""
    try:
        done = subprocess.run(
            ["openssl", *arguments],
            input=data,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RegistryError(f"The command openssl cannot be run: {error}.") from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[:1]
        raise RegistryError(f"openssl {arguments[0]} failed: {' '.join(said)}.")
    return done.stdout


def verifier(public_key: str, openssl: str = "openssl") -> OpenSSL:
    """Return a verifier for a public key in PEM form."""
    if "PUBLIC KEY" not in public_key:
        raise RegistryError("The public key of releases is not in PEM form.")
    return OpenSSL(public_key, openssl)


def _whole(signature: bytes) -> bool:
    """Say whether a signature is one DER sequence and nothing after it.

    ``openssl dgst`` reads as many bytes as the longest signature of the key has, and passes over
    what follows; other verifiers refuse that.
    """
    return 2 < len(signature) < 130 and signature[0] == 0x30 and signature[1] == len(signature) - 2


class OpenSSL:
    """Says whether a signature is that of one public key."""

    def __init__(self, public_key: str, openssl: str) -> None:
        self._public_key = public_key
        self._openssl = openssl

    def __call__(self, payload: bytes, signature: bytes) -> bool:
        with tempfile.TemporaryDirectory(prefix="mlops-verify-") as name:
            folder = Path(name)
            for file, data in (
                ("key.pem", self._public_key.encode()),
                ("payload", payload),
                ("signature", signature),
            ):
                (folder / file).write_bytes(data)
            command = [self._openssl, "dgst", "-sha256", "-verify", str(folder / "key.pem")]
            command += ["-signature", str(folder / "signature"), str(folder / "payload")]
            try:
                done = subprocess.run(
                    command,
                    env={**os.environ, "LC_ALL": "C"},
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=30,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise RegistryError(
                    f"The command {self._openssl} cannot be run: {error}."
                ) from None
        if "Could not" in done.stderr and "key" in done.stderr:
            raise RegistryError("The public key of releases cannot be read by openssl.")
        good = done.returncode == 0 and "Verified OK" in done.stdout
        return good and _whole(signature)
