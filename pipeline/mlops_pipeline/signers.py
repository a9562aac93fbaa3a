# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signers that hold no key themselves: a command of the operator's, or a PKCS#11 token.

Options below ``signing`` in the configuration (the inventory's ``release_signing``):

    kind         key (the default), command or pkcs11
    public_key   public half of the key, in PEM form; may be left out where release_keys lists
                 one key only that is not revoked
    timeout      seconds that one signature may take (60)
    command      kind command: program and arguments. It reads what is to be signed from standard
                 input and writes the ECDSA signature over its SHA-256 to standard output, in DER
                 form or in base64
    module       kind pkcs11: file of the token's library
    token        kind pkcs11: label of the token
    key          kind pkcs11: id of the private key in the token, in hexadecimal digits
    tool         kind pkcs11: the program pkcs11-tool (of OpenSC), if not in the path

The PIN of a token is the secret PIPELINE_SIGNING_PIN. No program is given any other secret.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import re
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.keys import KeyRing, key_id

from .config import Config, Section
from .errors import PipelineError

TIMEOUT_SECONDS = 60.0
MAX_ANSWER_BYTES = 8 * 1024
RAW_BYTES = 64  # r and s of P-256 behind one another
_KEY = re.compile(r"([0-9a-fA-F]{2})+")
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "SSH_AUTH_SOCK", "SOFTHSM2_CONF")


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """What a signing program is told: enough to find its files, none of our secrets."""
    return {**{name: os.environ[name] for name in PASSED_ON if name in os.environ}, **extra}


def run_signer(
    command: Sequence[str], data: bytes, timeout: float, extra: Mapping[str, str] | None = None
) -> bytes:
    """Run a program that signs; return what it writes, which is little and comes in time."""
    name = command[0]
    with tempfile.TemporaryFile() as given:
        given.write(data)
        given.seek(0)
        try:
            process = subprocess.Popen(
                list(command),
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(extra or {}),
                start_new_session=True,
            )
        except OSError as error:
            raise PipelineError(
                f"The signing command {name} cannot be run: {error.strerror}; "
                "release_signing names it."
            ) from None
    try:
        answer, said = _gather(process, name, time.monotonic() + timeout, timeout)
    finally:
        if process.poll() is None:
            # Its own group: what it has started ends with it.
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    if process.returncode != 0:
        text = " ".join(said.decode("utf-8", "replace").split())
        text = "".join(each for each in text if each.isprintable())[-300:]
        raise PipelineError(
            f"The signing command {name} ended with {process.returncode}"
            f"{': ' + text if text else ', without a word'}."
        )
    return answer


def _gather(
    process: subprocess.Popen[bytes], name: str, until: float, timeout: float
) -> tuple[bytes, bytes]:
    """Read both outputs to their end, until a point in time."""
    assert process.stdout is not None
    assert process.stderr is not None
    parts: dict[int, bytearray] = {}
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdout, process.stderr):
            selector.register(stream, selectors.EVENT_READ)
            parts[stream.fileno()] = bytearray()
        answer, said = parts[process.stdout.fileno()], parts[process.stderr.fileno()]
        late = PipelineError(
            f"The signing command {name} did not end within {timeout:g} s "
            "(release_signing, timeout)."
        )
        while selector.get_map():
            left = until - time.monotonic()
            if left <= 0:
                raise late
            for key, _events in selector.select(left):
                piece = os.read(key.fd, MAX_ANSWER_BYTES)
                if not piece:
                    selector.unregister(key.fileobj)
                parts[key.fd] += piece
            if len(answer) > MAX_ANSWER_BYTES:
                raise PipelineError(
                    f"The signing command {name} wrote more than {MAX_ANSWER_BYTES} bytes; wanted "
                    "a signature."
                )
            del said[:-MAX_ANSWER_BYTES]
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise late from None
    return bytes(answer), bytes(said)


def _is_der(answer: bytes) -> bool:
    """Say whether these are one sequence in DER; base64 and bare numbers may begin like it."""
    return answer[:1] == b"\x30" and len(answer) > 2 and answer[1] == len(answer) - 2


def der_of(answer: bytes) -> bytes:
    """Return a signature in DER form: given so, in base64, or as the two bare numbers."""
    if len(answer) == RAW_BYTES:
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

        half = RAW_BYTES // 2
        return encode_dss_signature(
            int.from_bytes(answer[:half], "big"), int.from_bytes(answer[half:], "big")
        )
    if _is_der(answer):
        return answer
    try:
        found = base64.b64decode(b"".join(answer.split()), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    return der_of(found) if _is_der(found) or len(found) == RAW_BYTES else b""


def verified_by(public_key: str, payload: bytes, signature: bytes) -> bool:
    """Say whether a signature was made with a key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(public_key.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return False
        key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


class CommandSigner:
    """Has a command sign. What it answers is verified before it goes anywhere."""

    def __init__(self, command: Sequence[str], public_key: str, timeout: float) -> None:
        self._command = tuple(command)
        self._timeout = timeout
        self.public_key = public_key
        self.key_id = key_id(public_key)

    def _answer(self, payload: bytes) -> bytes:
        return run_signer(self._command, payload, self._timeout)

    def sign(self, payload: bytes) -> bytes:
        signature = der_of(self._answer(payload))
        if not signature or not verified_by(self.public_key, payload, signature):
            raise PipelineError(
                f"What the signing command {self._command[0]} wrote is not a signature of the key "
                f"{self.key_id}; public_key in release_signing and the command's key are to be "
                "two halves of one pair."
            )
        return signature


class TokenSigner(CommandSigner):
    """Has a PKCS#11 token sign, by OpenSC's pkcs11-tool. The PIN is in no argument."""

    def __init__(
        self,
        tool: str,
        module: str,
        token: str,
        key: str,
        pin: str,
        public_key: str,
        timeout: float,
    ) -> None:
        command = [tool, "--module", module, "--token-label", token, "--id", key]
        command += ["--login", "--pin", "env:MLOPS_SIGNING_PIN"]
        # Every token knows plain ECDSA; what it signs is the digest.
        command += ["--sign", "--mechanism", "ECDSA", "--signature-format", "openssl"]
        super().__init__(command, public_key, timeout)
        self._pin = pin

    def _answer(self, payload: bytes) -> bytes:
        with tempfile.TemporaryDirectory(prefix="mlops-sign-") as folder:
            given, made = Path(folder, "digest"), Path(folder, "signature")
            given.write_bytes(hashlib.sha256(payload).digest())
            files = ["--input-file", str(given), "--output-file", str(made)]
            run_signer(
                [*self._command, *files], b"", self._timeout, {"MLOPS_SIGNING_PIN": self._pin}
            )
            try:
                with made.open("rb") as stream:
                    return stream.read(MAX_ANSWER_BYTES)
            except OSError:
                return b""


def public_key_of(options: Section, ring: KeyRing | None) -> str:
    """Return the public half of the signer's key, as configured or as the only one in use."""
    given = options.text("public_key", "-")
    if given != "-":
        try:
            key_id(given)
        except RegistryError as error:
            raise PipelineError(f"{options.where}, public_key: {error}") from None
        return given
    used = [key for key in ring.keys if not key.revoked] if ring is not None else []
    if len(used) != 1:
        raise PipelineError(
            f"{options.where}: the option public_key is missing, and release_keys lists "
            f"{len(used)} keys that are not revoked, of which one would do; set "
            "release_signing.public_key."
        )
    return used[0].public_key


def open_outer(config: Config, ring: KeyRing | None) -> CommandSigner:
    """Return a signer that holds no key, as the options below ``signing`` say."""
    options = config.options.section("signing")
    kind = options.text("kind", "key")
    timeout = options.number("timeout", TIMEOUT_SECONDS)
    if kind == "command":
        command = options.get("command", list)
        if not command or not all(isinstance(word, str) and word for word in command):
            raise PipelineError(
                f"{options.where}, command: found {command!r}, wanted a list of a program and its "
                "arguments."
            )
        return CommandSigner(command, public_key_of(options, ring), timeout)
    if kind == "pkcs11":
        key = options.text("key")
        if not _KEY.fullmatch(key):
            raise PipelineError(
                f"{options.where}, key: found {key!r}, wanted the id of the key in hexadecimal "
                "digits, as pkcs11-tool --list-objects shows it."
            )
        return TokenSigner(
            options.text("tool", "pkcs11-tool"),
            options.text("module"),
            options.text("token"),
            key,
            config.secret("PIPELINE_SIGNING_PIN"),
            public_key_of(options, ring),
            timeout,
        )
    raise PipelineError(f"{options.where}, kind: found {kind!r}, wanted key, command or pkcs11.")
