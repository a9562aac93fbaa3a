# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where data live: a directory (file:///path or a path) or an S3 bucket (s3://bucket/prefix)."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from .config import Config
from .errors import PipelineError

CHUNK = 1024 * 1024
MAX_SMALL_BYTES = 8 * 1024 * 1024


Expect = Callable[[int], None]


class Storage(Protocol):
    """Objects by name below one place."""

    uri: str

    def names(self) -> list[str]:
        """Return the names of all objects, in order."""

    def read(self, name: str) -> bytes | None:
        """Return a small object; None if it is not there."""

    def write(self, name: str, data: bytes) -> None:
        """Store a small object, whole or not at all."""

    def get(self, name: str, path: Path, expect: Expect | None = None) -> str | None:
        """Put an object into a file. Return the version that the store gives it, if it gives one
        ("" if not); None if the object is not there. ``expect`` is told its bytes before they are
        copied, and may refuse them."""

    def put(self, name: str, path: Path) -> None:
        """Store a file, whole or not at all."""


class DirectoryStorage:
    """Objects as files."""

    def __init__(self, path: str) -> None:
        self._root = Path(path)
        self.uri = self._root.resolve().as_uri()

    def names(self) -> list[str]:
        if self._root.is_file():
            raise PipelineError(f"{self._root} is a file; wanted a directory.")
        found = (path for path in self._root.rglob("*") if path.is_file())
        return sorted(path.relative_to(self._root).as_posix() for path in found)

    def read(self, name: str) -> bytes | None:
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        self._store(name, io.BytesIO(data))

    def get(self, name: str, path: Path, expect: Expect | None = None) -> str | None:
        try:
            if expect:
                expect((self._root / name).stat().st_size)
            shutil.copyfile(self._root / name, path)
        except FileNotFoundError:
            return None
        return ""

    def put(self, name: str, path: Path) -> None:
        with path.open("rb") as stream:
            self._store(name, stream)

    def _store(self, name: str, data: BinaryIO) -> None:
        path = self._root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(path.name + ".new")
            with fresh.open("wb") as stream:
                shutil.copyfileobj(data, stream, CHUNK)
                stream.flush()
                os.fsync(stream.fileno())
            fresh.replace(path)
        except OSError as error:
            raise PipelineError(f"{path} cannot be written: {error.strerror}.") from None


class S3Storage:
    """Objects in a bucket."""

    def __init__(self, uri: str, client: Any) -> None:
        parts = urllib.parse.urlsplit(uri)
        self.uri = uri.rstrip("/")
        self._bucket = parts.netloc
        self._prefix = parts.path.strip("/")
        self._client = client

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    @contextlib.contextmanager
    def _sentences(self, what: str) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise PipelineError(f"The object store did not let us {what}: {error}.") from None

    def _object(self, name: str) -> Any:
        """Ask for an object; None if it is not there."""
        from botocore.exceptions import ClientError

        try:
            return self._client.get_object(Bucket=self._bucket, Key=self._key(name))
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise

    def names(self) -> list[str]:
        found = []
        start = f"{self._prefix}/" if self._prefix else ""
        with self._sentences(f"list {self.uri}"):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=start):
                found += [each["Key"][len(start) :] for each in page.get("Contents", [])]
        return sorted(name for name in found if name and not name.endswith("/"))

    def read(self, name: str) -> bytes | None:
        with self._sentences(f"read {self.uri}/{name}"):
            answer = self._object(name)
            if answer is None:
                return None
            data: bytes = answer["Body"].read(MAX_SMALL_BYTES + 1)
        if len(data) > MAX_SMALL_BYTES:
            raise PipelineError(f"{self.uri}/{name} is larger than {MAX_SMALL_BYTES} bytes.")
        return data

    def get(self, name: str, path: Path, expect: Expect | None = None) -> str | None:
        with self._sentences(f"read {self.uri}/{name}"):
            answer = self._object(name)
            if answer is None:
                return None
            if expect:
                expect(int(answer["ContentLength"]))
            with path.open("wb") as stream:
                while part := answer["Body"].read(CHUNK):
                    stream.write(part)
            # A bucket without versions answers none, or "null" where it once had some.
            version = str(answer.get("VersionId") or "")
            return "" if version == "null" else version

    def write(self, name: str, data: bytes) -> None:
        with self._sentences(f"write {self.uri}/{name}"):
            self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=data)

    def put(self, name: str, path: Path) -> None:
        if path.stat().st_size <= MAX_SMALL_BYTES:
            self.write(name, path.read_bytes())
            return
        with self._sentences(f"write {self.uri}/{name}"):
            self._client.upload_file(str(path), self._bucket, self._key(name))


def open_storage(uri: str, config: Config) -> Storage:
    """Open the place that a URI names."""
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme == "file":
        return DirectoryStorage(urllib.parse.unquote(parts.path))
    if parts.scheme == "":
        return DirectoryStorage(uri)
    if parts.scheme != "s3" or not parts.netloc:
        raise PipelineError(f"Found the place {uri!r}, wanted s3://bucket/prefix or a directory.")
    from ansible_collections.mlops.onprem.plugins.module_utils._contracts.s3.client import open_s3

    options = config.options.section("s3")
    ca_file = options.text("ca_file", "-")
    client = open_s3(
        options.text("endpoint"),
        options.text("region", "us-east-1"),
        config.secret("PIPELINE_S3_ACCESS_KEY"),
        config.secret("PIPELINE_S3_SECRET_KEY"),
        "" if ca_file == "-" else ca_file,
        proxied=True,
    )
    return S3Storage(uri, client)
