# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where data live: a directory (file:///path or a path) or an S3 bucket (s3://bucket/prefix)."""

from __future__ import annotations

import contextlib
import os
import urllib.parse
from pathlib import Path
from typing import Any, Protocol

from .config import Config
from .errors import PipelineError


class Storage(Protocol):
    """Objects by name below one place."""

    uri: str

    def read(self, name: str) -> bytes | None:
        """Return an object; None if it is not there."""

    def write(self, name: str, data: bytes) -> None:
        """Store an object, whole or not at all."""


class DirectoryStorage:
    """Objects as files."""

    def __init__(self, path: str) -> None:
        self._root = Path(path)
        self.uri = self._root.resolve().as_uri()

    def read(self, name: str) -> bytes | None:
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".new")
        with fresh.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)


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

    def read(self, name: str) -> bytes | None:
        from botocore.exceptions import ClientError

        with self._sentences(f"read {self.uri}/{name}"):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
            except ClientError as error:
                if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                    return None
                raise
            data: bytes = answer["Body"].read()
            return data

    def write(self, name: str, data: bytes) -> None:
        with self._sentences(f"write {self.uri}/{name}"):
            self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=data)


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
