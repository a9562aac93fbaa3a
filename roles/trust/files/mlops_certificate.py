# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renew the certificate of this host before it ends, without a controller.

A command of the company's has the request signed: it reads the request from its standard input and
writes the certificate, and those above it, to its standard output. No key leaves this host, and
nothing of the answer is believed: it takes the place of the certificate only if it is for the key
and all names of this host, lasts, and is accepted by everything that trusted the one before.

python3 mlops_certificate.py --days=60 --name=edge1 --name=10.0.0.5 --reload=UNIT -- COMMAND …
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

MOST_BYTES = 64 * 1024
BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----\r?\n[A-Za-z0-9+/=\r\n]+-----END CERTIFICATE-----")


class RenewalError(Exception):
    """The certificate was not renewed; the message is a sentence."""


def openssl(*words: str) -> subprocess.CompletedProcess[str]:
    """Ask OpenSSL; whoever calls judges the answer."""
    return subprocess.run(
        ["openssl", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
    )


def said(*words: str) -> str:
    """What OpenSSL says where it has to say something."""
    done = openssl(*words)
    if done.returncode != 0 or not done.stdout.strip():
        raise RenewalError(f"openssl {words[0]} ended with {done.returncode}: {last(done.stderr)}")
    return done.stdout.strip()


def last(text: str) -> str:
    """The last line of what a program said, without anything that changes a terminal."""
    line = next(iter(reversed(text.strip().splitlines())), "no reason was given")
    return "".join(each if each.isprintable() else "?" for each in line)[-300:]


def is_address(name: str) -> bool:
    """Say whether a name is an address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def lasts(certificate: Path, days: float) -> bool:
    """Say whether a certificate is valid for that many days."""
    seconds = str(int(days * 86400))
    return openssl("x509", "-in", str(certificate), "-noout", "-checkend", seconds).returncode == 0


def request(key: Path, subject: str, names: Sequence[str]) -> bytes:
    """A request for the key and the names of this host."""
    kinds = ["IP" if is_address(name) else "DNS" for name in names]
    listed = ",".join(f"{kind}:{name}" for kind, name in zip(kinds, names))
    more = [
        f"subjectAltName={listed}",
        "keyUsage=critical,digitalSignature",
        "extendedKeyUsage=serverAuth,clientAuth",
    ]
    words = ["req", "-new", "-batch", "-key", str(key), "-subj", subject]
    return said(*words, *(word for text in more for word in ("-addext", text))).encode() + b"\n"


def subject_of(certificate: Path, form: str) -> str:
    """The subject of a certificate in one of OpenSSL's spellings."""
    text = said("x509", "-in", str(certificate), "-noout", "-subject", "-nameopt", form)
    return text.partition("=")[2].strip()


def ask(command: Sequence[str], asked: bytes, seconds: float) -> bytes:
    """Have the command answer a request; its own group ends with it."""
    with contextlib.ExitStack() as stack:
        given, out, errors = (stack.enter_context(tempfile.TemporaryFile()) for _file in range(3))
        given.write(asked)
        given.seek(0)
        try:
            process = subprocess.Popen(
                list(command),
                stdin=given,
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )
        except OSError as error:
            raise RenewalError(
                f"{command[0]} cannot be run: {error.strerror}; trust_renewal_command names it."
            ) from None
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise RenewalError(f"{command[0]} did not answer within {seconds:g} seconds.") from None
        finally:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode != 0:
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - 4096))
            reason = last(errors.read().decode("utf-8", "replace"))
            raise RenewalError(f"{command[0]} ended with {process.returncode}: {reason}.")
        out.seek(0)
        return out.read(MOST_BYTES + 1)


def chain_in(answer: bytes) -> list[bytes]:
    """The certificates of an answer, that of the host first."""
    if len(answer) > MOST_BYTES:
        raise RenewalError(f"The answer has more than {MOST_BYTES // 1024} KiB.")
    found = [block.replace(b"\r", b"") + b"\n" for block in BLOCK.findall(answer)]
    if not found:
        raise RenewalError("The answer holds no certificate in PEM form.")
    return found


def judge(fresh: Path, above: Path, folder: Path, names: Sequence[str], days: float) -> None:
    """Refuse a certificate that could not take the place of the one that is there."""
    held = said("pkey", "-in", str(folder / "host.key"), "-pubout")
    if said("x509", "-in", str(fresh), "-noout", "-pubkey") != held:
        raise RenewalError("The answer is a certificate for another key than that of this host.")
    before = subject_of(folder / "host.crt", "RFC2253")
    after = subject_of(fresh, "RFC2253")
    if after != before:
        # Hosts that read metrics, and what devices may ask for, are known by it.
        raise RenewalError(f"The answer is for the subject {last(after)}, wanted {before}.")
    if not lasts(fresh, days):
        raise RenewalError(
            f"The answer is valid for fewer than {days:g} days, so that it would be due at once; "
            "have longer ones issued, or lower trust_renew_days."
        )
    for purpose, trusted in (("sslserver", "ca.crt"), ("sslclient", "authority.crt")):
        words = ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(folder / trusted)]
        done = openssl(*words, "-untrusted", str(above), str(fresh))
        if done.returncode != 0:
            reason = last(done.stderr)
            raise RenewalError(f"The answer is not accepted by {folder / trusted}: {reason}.")
        for name in names if purpose == "sslserver" else ():
            kind = "-verify_ip" if is_address(name) else "-verify_hostname"
            if openssl(*words, kind, name, "-untrusted", str(above), str(fresh)).returncode != 0:
                raise RenewalError(f"The answer is not for {name}, by which this host is reached.")


def place(path: Path, content: bytes) -> None:
    """Take the place of a file in one step; owner and mode stay."""
    there = path.stat()
    fresh = path.with_name(f".mlops-new-{path.name}")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
        if (there.st_uid, there.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(stream.fileno(), there.st_uid, there.st_gid)
        os.fchmod(stream.fileno(), there.st_mode & 0o777)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def renew(folder: Path, names: Sequence[str], days: float, command: Sequence[str]) -> bool:
    """Renew the certificate if it is due; say whether it was."""
    certificate = folder / "host.crt"
    if lasts(certificate, days):
        return False
    subject = "/" + subject_of(certificate, "compat").lstrip("/")
    answer = ask(command, request(folder / "host.key", subject, names), 120)
    chain = chain_in(answer)
    with tempfile.TemporaryDirectory() as scratch:
        fresh, above = Path(scratch, "fresh.pem"), Path(scratch, "above.pem")
        fresh.write_bytes(chain[0])
        # OpenSSL wants at least one; the certificate itself vouches for nothing.
        above.write_bytes(b"".join(chain[1:]) or chain[0])
        judge(fresh, above, folder, names, days)
    place(certificate, b"".join(chain))
    return True


def reload(units: Sequence[str]) -> None:
    """Have services that are running read the certificate; one that does not is a sentence."""
    for unit in units:
        done = subprocess.run(
            ["systemctl", "try-reload-or-restart", unit],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0 and "not found" not in done.stderr.lower():
            raise RenewalError(
                f"The certificate was renewed, and {unit} did not take it: {last(done.stderr)}."
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Renew what is due; 1 and a sentence where it could not be."""
    parser = argparse.ArgumentParser(description="Renew the certificate of this host.")
    parser.add_argument("--folder", type=Path, default=Path("/etc/mlops/tls"))
    parser.add_argument("--days", type=float, required=True)
    parser.add_argument("--name", action="append", required=True)
    parser.add_argument("--reload", action="append", default=[])
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    try:
        if renew(options.folder, options.name, options.days, options.command):
            end = said("x509", "-in", str(options.folder / "host.crt"), "-noout", "-enddate")
            print(f"The certificate was renewed, {end}.")
            reload(options.reload)
    except (RenewalError, OSError, subprocess.TimeoutExpired) as error:
        print(f"The certificate of this host is due and was not renewed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
