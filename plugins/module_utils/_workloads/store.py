# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts files into a bucket with Python alone, so that nodes need no client of S3.

Travels to hosts with ``batch``. The signature is AWS' version 4 over headers, as its documentation
describes it; the content is not part of it, so that a large file is read once. TLS keeps it whole.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlsplit

UNSIGNED = "UNSIGNED-PAYLOAD"
MOST_BYTES = 5 * 2**30
"""The most that one request may put (Amazon S3, PutObject)."""


class StoreError(Exception):
    """The object store does not take a file. Reads as a sentence."""


class Readable(Protocol):
    """What is read in pieces."""

    def read(self, amount: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class Bucket:
    """A bucket and the account that may write to it."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"
    ca_file: str = ""


def path_of(bucket: Bucket, key: str) -> str:
    """The path of an object, as it is sent and signed."""
    base = urlsplit(bucket.endpoint).path.rstrip("/")
    return f"{base}/{quote(bucket.bucket)}/{quote(key, safe='/-_.~')}"


def headers(bucket: Bucket, key: str, now: float) -> dict[str, str]:
    """The signed headers of putting an object."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    day = stamp[:8]
    signed = {
        "host": urlsplit(bucket.endpoint).netloc,
        "x-amz-content-sha256": UNSIGNED,
        "x-amz-date": stamp,
    }
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    request = "\n".join(["PUT", path_of(bucket, key), "", lines, names, UNSIGNED])
    scope = f"{day}/{bucket.region}/s3/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, digest])
    secret = f"AWS4{bucket.secret_key}".encode()
    for part in (day, bucket.region, "s3", "aws4_request"):
        secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
    told = f"Credential={bucket.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**signed, "authorization": f"AWS4-HMAC-SHA256 {told}"}


def put(
    bucket: Bucket,
    key: str,
    content: Readable,
    size: int,
    clock: Callable[[], float] = time.time,
) -> None:
    """Put a file. Raises StoreError with what the store says."""
    where = urlsplit(bucket.endpoint)
    connection: http.client.HTTPConnection
    if where.scheme == "https":
        trusted = ssl.create_default_context(cafile=bucket.ca_file or None)
        connection = http.client.HTTPSConnection(where.netloc, timeout=60, context=trusted)
    else:
        connection = http.client.HTTPConnection(where.netloc, timeout=60)
    told = {**headers(bucket, key, clock()), "content-length": str(size)}
    try:
        connection.request(
            "PUT",
            path_of(bucket, key),
            body=content,
            headers=told,
        )
        answer = connection.getresponse()
        said = answer.read(2000).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise StoreError(f"{bucket.endpoint} cannot be reached: {error}") from None
    finally:
        connection.close()
    if answer.status not in (200, 201, 204):
        raise StoreError(
            f"{bucket.endpoint} does not take {key} into {bucket.bucket}: {answer.status}"
            f" {' '.join(said.split())[:300]}"
        )
