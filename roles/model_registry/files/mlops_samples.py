# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that devices kept are fetched, stored in the object store, and deleted in their time.

    mlops_samples.py CONFIG [--forget]

A device hands out a batch until it is told that the batch is stored; its name is part of that of
the object, so what is stored twice is there once. Objects are named
``<model>/<day>/<device>-<batch>.jsonl`` (UTC). Of a model no more than so many MiB of a day
are stored, and nothing of a model that is not named.

Deleted, with all their versions, are days that are over, and models that are no longer to be kept;
``--forget`` deletes everything. Runs once and ends; a timer starts it. boto3 comes with MLflow.
"""

from __future__ import annotations

import argparse
import datetime
import http.client
import json
import logging
import re
import ssl
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

BATCH = re.compile(r"[0-9a-f]{32}")
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
MOST_BATCH = 16 * 2**20
MOST_BATCHES = 100
"""Of a device in one run, so that none keeps the others waiting."""
TIMEOUT_SECONDS = 30.0
NOT_VERSIONED = frozenset(("NotImplemented", "MethodNotAllowed", "501", "405"))

logger = logging.getLogger("mlops-samples")


class SamplesError(Exception):
    """Samples cannot be fetched or stored; the message is a sentence for people."""


@dataclass(frozen=True)
class Rule:
    """How long samples of a model are kept, and how much of a day."""

    days: int
    most_bytes: int


@dataclass(frozen=True)
class Device:
    """A model server that keeps requests."""

    name: str
    url: str
    token: str
    ca_file: str

    def ask(self, done: str, stored: Mapping[str, int]) -> tuple[str, bytes]:
        """Tell what is stored; fetch the next batch. Its name is empty where there is none."""
        where = urlsplit(self.url)
        connection: http.client.HTTPConnection
        if where.scheme == "https":
            trusted = ssl.create_default_context(cafile=self.ca_file)
            connection = http.client.HTTPSConnection(
                where.netloc, timeout=TIMEOUT_SECONDS, context=trusted
            )
        else:
            connection = http.client.HTTPConnection(where.netloc, timeout=TIMEOUT_SECONDS)
        said = json.dumps({"done": done, "stored": stored})
        told = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            connection.request("POST", f"{where.path}/v2/samples", said, told)
            answer = connection.getresponse()
            data = answer.read(MOST_BATCH + 1)
        except (OSError, http.client.HTTPException) as error:
            raise SamplesError(f"{self.name} does not answer: {error}") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise SamplesError(
                f"{self.name} answers {answer.status}; run site.yml again, which gives it what it"
                " keeps requests by"
            )
        batch = answer.getheader("x-mlops-batch") or ""
        if len(data) > MOST_BATCH or (batch and not BATCH.fullmatch(batch)):
            raise SamplesError(f"{self.name} hands out what is no batch of samples")
        return batch, data


class Store:
    """The bucket of samples."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._bucket = str(given["bucket"])
        self._endpoint = str(given["endpoint"])
        self._client = boto3.client(
            "s3",
            endpoint_url=self._endpoint,
            region_name=given.get("region") or "us-east-1",
            verify=given["ca_file"],
            aws_access_key_id=given["access_key"],
            aws_secret_access_key=given["secret_key"],
            config=Config(
                connect_timeout=10,
                read_timeout=60,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"},
            ),
        )

    def put(self, key: str, data: bytes) -> None:
        """Store an object; of the same name it takes the place of the one before."""
        self._client.put_object(Bucket=self._bucket, Key=key, Body=data)

    def folders(self, prefix: str = "") -> list[str]:
        """The names of the next level, also where all that is left are versions and marks.

        A plain list does not show those: somebody has deleted an object, its versions are there.
        """
        return [
            found["Prefix"][len(prefix) : -1]
            for page in self._pages(prefix, Delimiter="/")
            for found in page.get("CommonPrefixes", ())
        ]

    def _pages(self, prefix: str, **more: str) -> list[Mapping[str, Any]]:
        """What there is below a prefix with all versions; without, where the store has none."""
        asked = {"Bucket": self._bucket, "Prefix": prefix, **more}
        try:
            return list(self._client.get_paginator("list_object_versions").paginate(**asked))
        except ClientError as error:
            if error.response["Error"]["Code"] not in NOT_VERSIONED:
                raise
        return list(self._client.get_paginator("list_objects_v2").paginate(**asked))

    def used(self, prefix: str) -> int:
        """Bytes of the objects below a prefix."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix
        )
        return sum(found["Size"] for page in pages for found in page.get("Contents", ()))

    def _versions(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Every object, every version of it, and the marks of deleted ones."""
        for page in self._pages(prefix):
            for part in ("Versions", "DeleteMarkers", "Contents"):
                for found in page.get(part, ()):
                    yield found["Key"], found.get("VersionId", "")

    def delete(self, prefix: str) -> int:
        """Delete what is below a prefix for good; say how many objects and versions there were."""
        found = list(self._versions(prefix))
        for key, version in found:
            more = {"VersionId": version} if version else {}
            self._client.delete_object(Bucket=self._bucket, Key=key, **more)
        return len(found)


@dataclass(frozen=True)
class Settings:
    """What the role writes."""

    devices: tuple[Device, ...]
    rules: Mapping[str, Rule]
    store: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Read the configuration."""
        given = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            tuple(
                Device(one["name"], one["url"], one["token"], given["ca_file"])
                for one in given["devices"]
            ),
            {
                one["name"]: Rule(int(one["days"]), int(one["mib_per_day"]) * 2**20)
                for one in given["models"]
            },
            {"ca_file": given["ca_file"], **given["store"]},
        )


class Day:
    """What is stored of one day, within what may be."""

    def __init__(self, settings: Settings, store: Store, today: datetime.date) -> None:
        self._rules = settings.rules
        self._store = store
        self._day = today.isoformat()
        self._used = {name: store.used(f"{name}/{self._day}/") for name in settings.rules}

    def keep(self, device: str, batch: str, data: bytes) -> dict[str, int]:
        """Store a batch, by model; say how many samples of each were stored."""
        by_model: dict[str, list[bytes]] = {}
        for line in data.splitlines(keepends=True):
            by_model.setdefault(model_of(line), []).append(line)
        stored = {}
        for model, lines in by_model.items():
            if model not in self._rules:
                continue
            fitting = self._fitting(model, lines)
            if fitting:
                self._store.put(f"{model}/{self._day}/{device}-{batch}.jsonl", b"".join(fitting))
            stored[model] = len(fitting)
        return stored

    def _fitting(self, model: str, lines: list[bytes]) -> list[bytes]:
        found = []
        for line in lines:
            if self._used[model] + len(line) > self._rules[model].most_bytes:
                break
            self._used[model] += len(line)
            found.append(line)
        return found


def model_of(line: bytes) -> str:
    """The model of a sample; empty where it is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return ""
    return str(found.get("model") or "") if isinstance(found, dict) else ""


def fetch(device: Device, day: Day) -> Counter[str]:
    """Fetch what a device has kept and store it; how many samples of each model were stored."""
    total: Counter[str] = Counter()
    done, stored = "", {}
    for _turn in range(MOST_BATCHES):
        batch, data = device.ask(done, stored)
        if not batch:
            return total
        stored = day.keep(device.name, batch, data)
        total.update(stored)
        done = batch
    device.ask(done, stored)
    return total


def tidy(store: Store, rules: Mapping[str, Rule], today: datetime.date) -> int:
    """Delete what is no longer to be kept; say how many objects and versions that were."""
    gone = 0
    for model in store.folders():
        rule = rules.get(model)
        if rule is None:
            gone += store.delete(f"{model}/")
            continue
        oldest = (today - datetime.timedelta(days=rule.days)).isoformat()
        for day in store.folders(f"{model}/"):
            if DAY.fullmatch(day) and day < oldest:
                gone += store.delete(f"{model}/{day}/")
    return gone


def run(settings: Settings, forget: bool, now: float) -> int:
    """Look once; 1 where a device did not answer."""
    store = Store(settings.store)
    today = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).date()
    gone = store.delete("") if forget else tidy(store, settings.rules, today)
    if gone or forget:
        logger.info("Deleted %d objects and versions of samples.", gone)
    if forget:
        return 0
    day, silent = Day(settings, store, today), 0
    for device in settings.devices:
        try:
            found = fetch(device, day)
        except SamplesError as error:
            logger.warning("%s.", error)
            silent += 1
            continue
        if found:
            logger.info("%s: stored %s.", device.name, dict(found))
    return 1 if silent and silent == len(settings.devices) else 0


def main(arguments: list[str] | None = None) -> int:
    """Look once."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--forget", action="store_true", help="delete all samples, fetch none")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logger.setLevel(logging.INFO)
    options = parser.parse_args(arguments)
    settings = Settings.read(options.config)
    try:
        return run(settings, options.forget, time.time())
    except (BotoCoreError, ClientError) as error:
        where = settings.store["endpoint"]
        logger.error("The object store %s does not do what samples need: %s", where, error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
