# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to an S3 gateway, signed (AWS Signature Version 4) with the standard library only."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from urllib.parse import quote

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True)
class Key:
    access: str
    secret: str
    region: str


def headers(key: Key, method: str, host: str, path: str, body: bytes, stamp: str) -> dict[str, str]:
    """The headers of a request without query; ``stamp`` is the time as 20260131T235959Z."""
    digest = hashlib.sha256(body).hexdigest()
    signed = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    names = ";".join(sorted(signed))
    canonical = "\n".join(
        [
            method,
            quote(path, safe="/-_.~"),
            "",
            *(f"{name}:{signed[name]}" for name in sorted(signed)),
            "",
            names,
            digest,
        ]
    )
    scope = f"{stamp[:8]}/{key.region}/s3/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join([_ALGORITHM, stamp, scope, hashed])
    step = ("AWS4" + key.secret).encode()
    for part in (stamp[:8], key.region, "s3", "aws4_request"):
        step = hmac.new(step, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(step, text.encode(), hashlib.sha256).hexdigest()
    authorization = (
        f"{_ALGORITHM} Credential={key.access}/{scope}, SignedHeaders={names}, "
        f"Signature={signature}"
    )
    return {
        "Host": host,
        "x-amz-date": stamp,
        "x-amz-content-sha256": digest,
        "Authorization": authorization,
    }


def bucket_names(answer: bytes) -> frozenset[str]:
    """The names in the answer to ListBuckets; such names need no XML parser."""
    found = re.findall(rb"<Bucket>.*?<Name>([^<]+)</Name>", answer, re.DOTALL)
    return frozenset(name.decode("utf-8", "replace") for name in found)


def error_code(answer: bytes) -> str:
    """The code in an error answer, empty if it is not one."""
    found = re.search(rb"<Code>([A-Za-z0-9]+)</Code>", answer)
    return found.group(1).decode() if found else ""
