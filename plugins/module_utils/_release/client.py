# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the OCI distribution protocol that releases need, over a transport passed in."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Callable, Protocol

from .errors import DamagedError, RegistryError
from .oci import MANIFEST_TYPE, MAX_MANIFEST_BYTES, Descriptor, check_digest, digest_of, shown

READ_BYTES = 256 * 1024
CHUNK_BYTES = 16 * 1024 * 1024
ATTEMPTS = 4
REDIRECTS = 3
PATIENCE_SECONDS = 60.0
LEAST_RATE = 16 * 1024

_REPOSITORY = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")


class Interrupted(Exception):
    """The connection broke or did not come about; trying again may help."""


class Answer(Protocol):
    """An HTTP answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]

    def read(self, size: int) -> bytes:
        """Return up to so many bytes, none at the end. May raise ``Interrupted``."""

    def close(self) -> None:
        """Let go of the connection."""


class Transport(Protocol):
    """Sends one HTTP request and returns as soon as the headers of the answer are there."""

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer:
        """May raise ``Interrupted``."""


class Deadline:
    """The time that a transfer may take: some patience, and what its size takes at the least rate.

    A timeout of the connection only sees silence. Who sends a byte now and then would keep us
    for ever.
    """

    def __init__(
        self,
        size: int,
        clock: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE_SECONDS,
        least_rate: int = LEAST_RATE,
    ) -> None:
        self._clock = clock
        self._started = clock()
        self._seconds = patience + size / least_rate

    def check(self, moved: int, what: str) -> None:
        """Refuse to go on after so many bytes if it takes too long."""
        gone = self._clock() - self._started
        if gone > self._seconds:
            raise RegistryError(
                f"It takes too long to {what}: {moved} bytes came in {gone:.0f} s, wanted all in "
                f"{self._seconds:.0f} s."
            )


def read_all(answer: Answer, limit: int, what: str, deadline: Deadline | None = None) -> bytes:
    """Read an answer to its end and let go of it; refuse what is too large or too slow."""
    data = bytearray()
    allowed = Deadline(0) if deadline is None else deadline
    try:
        while True:
            part = answer.read(min(READ_BYTES, limit + 1 - len(data)))
            if not part:
                return bytes(data)
            data += part
            if len(data) > limit:
                raise RegistryError(f"The answer to {what} is larger than {limit} bytes.")
            allowed.check(len(data), what)
    finally:
        answer.close()


class Sink(Protocol):
    """Where a blob is written. ``start`` says how much is there already and feeds the hash."""

    def start(self, digest: hashlib._Hash) -> int:
        """Return the number of bytes kept from an earlier attempt."""

    def write(self, data: bytes) -> None:
        """Append."""

    def restart(self) -> None:
        """Forget what was written."""


class RegistryClient:
    """One repository of one registry."""

    def __init__(
        self,
        url: str,
        repository: str,
        transport: Transport,
        user: str = "",
        password: str = "",
        pause: Callable[[float], None] = lambda _seconds: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise RegistryError(f"Found {url!r}, wanted the URL of a registry (https://host).")
        if not _REPOSITORY.fullmatch(repository):
            raise RegistryError(
                f"Found {repository!r}, wanted a repository such as models/name in lower case."
            )
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._prefix = f"{parts.path.rstrip('/')}/v2/{repository}"
        self.reference = f"{parts.netloc}{parts.path.rstrip('/')}/{repository}"
        self._transport = transport
        self._headers: dict[str, str] = {}
        if user:
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers["authorization"] = f"Basic {token}"
        self._user = user
        self._pause = pause
        self._clock = clock

    # -- requests ---------------------------------------------------------------------------

    def _ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        wanted = dict(headers or {})
        for _hop in range(REDIRECTS + 1):
            ours = url.startswith(self._base + "/")
            answer = self._transport(
                method, url, {**wanted, **(self._headers if ours else {})}, body
            )
            if answer.status not in (301, 302, 303, 307, 308) or method not in ("GET", "HEAD"):
                return answer
            location = answer.headers.get("location", "")
            answer.close()
            try:
                target = urllib.parse.urljoin(url, location)
                urllib.parse.urlsplit(target).port  # noqa: B018 - reading it checks it
            except ValueError:
                raise RegistryError(
                    f"The registry {self._base} sends us to {shown(location)}, which is no address."
                ) from None
            if url.startswith("https:") and not target.startswith("https:"):
                raise RegistryError(
                    f"The registry {self._base} sends us to {shown(target)}, without TLS."
                )
            url = target
        raise RegistryError(f"The registry {self._base} sends us round in circles.")

    def _persist(self, what: str, attempt: Callable[[], bool]) -> None:
        """Try until it is done; only a broken connection or an overloaded server counts."""
        last: Exception | None = None
        for number in range(ATTEMPTS):
            if number:
                self._pause(min(2.0**number, 10.0))
            try:
                if attempt():
                    return
            except Interrupted as error:
                last = error
        reason = f": {last}" if last else ""
        raise RegistryError(f"The registry {self._base} did not let us {what}{reason}.")

    def _refuse(self, answer: Answer, what: str) -> RegistryError:
        with contextlib.suppress(Interrupted):
            answer.read(READ_BYTES)
        answer.close()
        who = f"as {self._user}" if self._user else "without a user"
        reasons = {
            401: f"it does not accept us {who}",
            403: f"it does not allow it {who}",
            404: "it is not there",
            413: "it is too large for the server in front of the registry",
            429: "it asks us to come back later",
        }
        why = reasons.get(answer.status, f"it answered HTTP {answer.status}")
        return RegistryError(f"The registry {self._base} did not let us {what}: {why}.")

    # -- reading ----------------------------------------------------------------------------

    def manifest(self, reference: str, limit: int = MAX_MANIFEST_BYTES) -> bytes | None:
        """Return a manifest by digest (checked) or tag; None if it is not there."""
        what = f"read the manifest {reference}"
        found: list[bytes | None] = []

        def attempt() -> bool:
            answer = self._ask(
                "GET",
                f"{self._base}{self._prefix}/manifests/{reference}",
                {"accept": MANIFEST_TYPE},
            )
            if answer.status == 404:
                answer.close()
                found.append(None)
                return True
            if answer.status >= 500:
                raise Interrupted(f"HTTP {answer.status}")
            if answer.status != 200:
                raise self._refuse(answer, what)
            found.append(read_all(answer, limit, what, Deadline(0, self._clock)))
            return True

        self._persist(what, attempt)
        data = found[0]
        if data is not None and reference.startswith("sha256:") and digest_of(data) != reference:
            raise DamagedError(
                f"The manifest {reference} was tampered with: what the registry sent has the "
                f"digest {digest_of(data)}."
            )
        return data

    def blob(self, blob: Descriptor, sink: Sink, name: str = "") -> int:
        """Write a blob, going on where an earlier attempt ended; return the bytes transferred.

        The digest is checked over all of it, also over what was there before.
        """
        what = f"read {name or blob.digest}"
        moved = 0

        def attempt() -> bool:
            nonlocal moved
            digest = hashlib.sha256()
            have = kept = sink.start(digest)
            if have > blob.size:
                digest, have = _from_the_start(sink)
            if have < blob.size:
                answer = self._rest(blob, have, what)
                if answer.status == 416 or (answer.status == 200 and have):
                    digest, have = _from_the_start(sink)
                    kept = 0
                try:
                    if answer.status == 416:
                        return False
                    deadline = Deadline(blob.size - have, self._clock)
                    for data in _parts(answer, have, blob.size):
                        deadline.check(moved, what)
                        have += len(data)
                        moved += len(data)
                        if have <= blob.size:
                            digest.update(data)
                            sink.write(data)
                finally:
                    answer.close()
            found = "sha256:" + digest.hexdigest()
            if found != blob.digest or have != blob.size:
                sink.restart()
                if kept:
                    # What an earlier attempt left can have suffered from a power cut.
                    return False
                raise DamagedError(
                    f"The file {name or blob.digest} was tampered with: found the digest {found}, "
                    f"the manifest says {blob.digest}."
                )
            return True

        self._persist(what, attempt)
        return moved

    def _rest(self, blob: Descriptor, have: int, what: str) -> Answer:
        """Ask for what is missing of a blob: 206 is that, 200 is all of it, 416 is neither."""
        headers = {"range": f"bytes={have}-"} if have else {}
        answer = self._ask("GET", f"{self._base}{self._prefix}/blobs/{blob.digest}", headers)
        if answer.status >= 500:
            answer.close()
            raise Interrupted(f"HTTP {answer.status}")
        if answer.status not in (200, 206, 416):
            raise self._refuse(answer, what)
        return answer

    def small_blob(self, blob: Descriptor, limit: int = MAX_MANIFEST_BYTES) -> bytes:
        """Return a small blob, checked."""
        if blob.size > limit:
            raise RegistryError(
                f"The blob {blob.digest} is too large to be a statement: {blob.size} bytes, at "
                f"most {limit} are read."
            )
        sink = _Memory()
        self.blob(blob, sink)
        return bytes(sink.data)

    def has_blob(self, digest: str) -> bool:
        """Say whether the registry holds a blob."""
        answer = self._ask("HEAD", f"{self._base}{self._prefix}/blobs/{check_digest(digest)}")
        if answer.status not in (200, 404):
            raise self._refuse(answer, f"look for {digest}")
        answer.close()
        return answer.status == 200

    # -- writing ----------------------------------------------------------------------------

    def _location(self, answer: Answer) -> str:
        """Where an upload goes on. A registry behind a proxy may not know its own address."""
        try:
            parts = urllib.parse.urlsplit(answer.headers.get("location", ""))
        except ValueError:
            parts = urllib.parse.urlsplit("")
        if not parts.path:
            raise RegistryError(f"The registry {self._base} does not say where to upload to.")
        return self._base + parts.path + (f"?{parts.query}" if parts.query else "")

    def push_blob(self, blob: Descriptor, stream: BinaryIO) -> int:
        """Upload a blob in chunks unless it is there; return the bytes transferred."""
        if self.has_blob(blob.digest):
            return 0
        what = f"store {blob.digest}"
        octets = {"content-type": "application/octet-stream"}

        def attempt() -> bool:
            stream.seek(0)
            answer = self._ask("POST", f"{self._base}{self._prefix}/blobs/uploads/", body=b"")
            if answer.status >= 500:
                answer.close()
                raise Interrupted(f"HTTP {answer.status}")
            if answer.status != 202:
                raise self._refuse(answer, what)
            url = self._location(answer)
            answer.close()
            sent = 0
            while True:
                data = stream.read(CHUNK_BYTES)
                if sent + len(data) >= blob.size:
                    break
                answer = self._ask(
                    "PATCH",
                    url,
                    {**octets, "content-range": f"{sent}-{sent + len(data) - 1}"},
                    data,
                )
                if answer.status != 202:
                    raise self._refuse(answer, what)
                url = self._location(answer)
                answer.close()
                sent += len(data)
            mark = "&" if "?" in url else "?"
            digest = urllib.parse.quote(blob.digest, safe="")
            answer = self._ask("PUT", f"{url}{mark}digest={digest}", octets, data)
            if answer.status >= 500:
                answer.close()
                raise Interrupted(f"HTTP {answer.status}")
            if answer.status != 201:
                raise self._refuse(answer, what)
            answer.close()
            return True

        self._persist(what, attempt)
        return blob.size

    def push_manifest(self, data: bytes, reference: str = "") -> str:
        """Store a manifest under its digest or a tag; return its digest."""
        digest = digest_of(data)
        what = f"store the manifest {reference or digest}"

        def attempt() -> bool:
            answer = self._ask(
                "PUT",
                f"{self._base}{self._prefix}/manifests/{reference or digest}",
                {"content-type": MANIFEST_TYPE},
                data,
            )
            if answer.status >= 500:
                answer.close()
                raise Interrupted(f"HTTP {answer.status}")
            if answer.status != 201:
                raise self._refuse(answer, what)
            answer.close()
            return True

        self._persist(what, attempt)
        return digest


def _from_the_start(sink: Sink) -> tuple[hashlib._Hash, int]:
    sink.restart()
    return hashlib.sha256(), 0


def _parts(answer: Answer, have: int, size: int) -> Iterator[bytes]:
    """What is missing, piece by piece, and at most one byte that should not be there."""
    while have < size:
        data = answer.read(min(READ_BYTES, size - have + 1))
        if not data:
            raise Interrupted(f"{have} of {size} bytes came")
        have += len(data)
        yield data


class _Memory:
    """A sink for small blobs."""

    def __init__(self) -> None:
        self.data = bytearray()

    def start(self, digest: hashlib._Hash) -> int:
        digest.update(self.data)
        return len(self.data)

    def write(self, data: bytes) -> None:
        self.data += data

    def restart(self) -> None:
        self.data.clear()
