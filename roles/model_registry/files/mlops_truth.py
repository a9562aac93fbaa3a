# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables with what was right, dropped as files, are told to the devices that answered.

    mlops_truth.py CONFIG

A file in the directory is named ``<model>@<anything>.csv``, ``.jsonl`` or ``.parquet`` and has the
columns ``id`` (of the request) and ``value``. Each device is sent the whole table and takes what it
has answered itself. A file that all devices were told goes to ``told``, with a report beside it;
one that cannot be read goes to ``refused``, with a sentence beside it. Where a device does not
answer, the file stays and that device is asked again.

Runs once and ends; a timer starts it. Parquet is read by pyarrow, which MLflow brings along.
"""

from __future__ import annotations

import argparse
import csv
import http.client
import importlib
import json
import logging
import math
import os
import re
import ssl
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

NAME = re.compile(r"(?P<model>[A-Za-z0-9._-]+)@[^/]+\.(?P<kind>csv|jsonl|parquet)")
WANTED = "a name such as churn@2026-11-28.csv, .jsonl or .parquet, with the model before the @"
MOST_BYTES = 64 * 2**20
MOST_ROWS = 1_000_000
SENT_AT_ONCE = 1000
"""Rows of one request: with the longest ids and labels they stay below a megabyte."""
ID_LENGTH, LABEL_LENGTH = 128, 100
"""As the model server has them: it remembers no longer id, and compares no more of a label."""
SETTLED_SECONDS = 10.0
"""A file that was changed more recently may still be written."""
TIMEOUT_SECONDS = 30.0

UNREADABLE = (ValueError, TypeError, ArithmeticError, LookupError, RecursionError)

logger = logging.getLogger("mlops-truth")
Row = tuple[str, Any]


class Refused(Exception):
    """A file that nobody can be told; the message is a sentence for people."""


# ---------------------------------------------------------------- tables


def rows_of(path: Path, kind: str) -> list[Row]:
    """The id and the value of each row; Refused says what is wrong with which."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise Refused(f"It has {size} bytes, at most {MOST_BYTES} are taken; split it.")
    read = {"csv": rows_of_csv, "jsonl": rows_of_lines, "parquet": rows_of_parquet}[kind]
    found: list[Row] = []
    try:
        for place, identifier, value in read(path):
            if len(found) == MOST_ROWS:
                raise Refused(f"It has more than {MOST_ROWS} rows; split it.")
            found.append(row_of(place, identifier, value))
    except UNREADABLE as error:
        # Such as text that is no UTF-8 in Parquet, or a time zone that there is not. One table that
        # cannot be read does not keep the others from the devices.
        said = " ".join(str(error).split())[:200]
        raise Refused(
            f"It cannot be read after {len(found)} rows: {said or type(error).__name__}."
        ) from None
    if not found:
        raise Refused("It has no row.")
    return found


def row_of(place: str, identifier: Any, value: Any) -> Row:
    """One row as a device takes it."""
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    if not isinstance(identifier, str) or not identifier:
        raise Refused(f"{place} has no id that is text or a whole number.")
    number = isinstance(value, (int, float))
    if not number and not isinstance(value, str):
        raise Refused(f"{place} has no value that is a number, a truth value or text.")
    if not number and not value.strip():
        raise Refused(f"{place} has no value; leave out rows of which nothing is known.")
    f"{identifier}{value}".encode()  # half a sign of JSON's \\u cannot be sent to anybody
    if number and not math.isfinite(value):
        raise Refused(f"{place} has {value} for a value; leave out rows of which nothing is known.")
    return identifier, value if number else value[:LABEL_LENGTH]


def columns(found: Sequence[str]) -> None:
    """Refuse a table without the two columns."""
    if not {"id", "value"} <= set(found):
        said = ", ".join(found)[:200] or "nothing"
        parted = ", parted by commas" if re.search(r"[;\t]", said) else ""
        raise Refused(f"It has the columns {said}; wanted are id and value{parted}.")
    for name in ("id", "value"):
        if list(found).count(name) > 1:
            raise Refused(f"It has the column {name} twice; wanted is one of each.")


def rows_of_csv(path: Path) -> Iterator[tuple[str, Any, Any]]:
    """Rows of a table with a head."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.reader(stream, strict=True)
            head = [name.strip() for name in next(rows, [])]
            columns(head)
            at, of = head.index("id"), head.index("value")
            for row in rows:
                place = f"Line {rows.line_num}"
                if row and len(row) <= max(at, of):
                    raise Refused(f"{place} has {len(row)} of {len(head)} columns.")
                if any(row[len(head) :]):
                    raise Refused(
                        f"{place} has {len(row)} of {len(head)} columns; numbers have a point, and "
                        "text with a comma stands in quotes."
                    )
                if row:
                    yield place, row[at], row[of]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refused(f"It is not CSV in UTF-8: {error}.") from None


def rows_of_lines(path: Path) -> Iterator[tuple[str, Any, Any]]:
    """Rows of JSON lines."""
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise Refused(f'Line {number} is not like {{"id": "…", "value": …}}.')
                columns(list(row))
                yield f"Line {number}", row["id"], row["value"]
    except UnicodeDecodeError as error:
        raise Refused(f"It is not JSON in UTF-8: {error}.") from None
    except ValueError as error:
        raise Refused(f"Line {number} is not JSON: {error}.") from None


def rows_of_parquet(path: Path) -> Iterator[tuple[str, Any, Any]]:
    """Rows of a Parquet file; of others than the two columns nothing is read."""
    pyarrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    number = 0
    try:
        with parquet.ParquetFile(path) as table:
            columns(table.schema_arrow.names)
            if table.metadata.num_rows > MOST_ROWS:
                raise Refused(f"It has more than {MOST_ROWS} rows; split it.")
            for batch in table.iter_batches(columns=["id", "value"], batch_size=10_000):
                named = batch.to_pydict()
                for identifier, value in zip(named["id"], named["value"]):
                    number += 1
                    yield f"Row {number}", identifier, value
    except (pyarrow.ArrowException, OSError) as error:
        first = str(error).splitlines()[0][:200]
        raise Refused(f"It is not Parquet that can be read: {first}.") from None


# ---------------------------------------------------------------- devices


@dataclass(frozen=True)
class Told:
    """What one device said: how many rows it remembered, or why it was told nothing."""

    known: int = 0
    absent: str = ""
    """It answered, and has no use for this table: it will not have one later either."""
    away: str = ""
    """It did not answer, or has no time now."""


class Device:
    """A model server, which says of a table what it remembered."""

    def __init__(self, url: str, ca_file: str, token: str = "") -> None:
        self._place = urlsplit(url)
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._ca_file = ca_file

    def _connect(self) -> http.client.HTTPConnection:
        host, port = str(self._place.hostname), self._place.port
        if self._place.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
        context = ssl.create_default_context(cafile=self._ca_file)
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context)

    def tell(self, model: str, rows: Sequence[Row]) -> Told:
        """Send the table, in parts; a device that ceases to answer is told all of it again.

        What it has taken already it no longer remembers then: nothing is judged twice.
        """
        path = f"/v2/models/{quote(model)}/truth"
        known = 0
        try:
            connection = self._connect()
            try:
                for begin in range(0, len(rows), SENT_AT_ONCE):
                    part = rows[begin : begin + SENT_AT_ONCE]
                    said = self._send(connection, path, part)
                    if said.absent or said.away:
                        return said
                    known += said.known
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            return Told(away=f"{type(error).__name__}: {error}"[:200])
        return Told(known)

    def _send(self, connection: http.client.HTTPConnection, path: str, rows: Sequence[Row]) -> Told:
        body = {"truth": [{"id": name, "value": value} for name, value in rows]}
        text = json.dumps(body, ensure_ascii=False).encode()
        connection.request("POST", path, text, self._headers)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status == 200:
            return Told(int(json.loads(data)["known"]))
        said = f"HTTP {answer.status}: {data[:200].decode(errors='replace')}"
        return Told(absent=said) if answer.status == 404 else Told(away=said)


# ---------------------------------------------------------------- the directory


@dataclass(frozen=True)
class Settings:
    """What the role wrote."""

    directory: Path
    devices: Mapping[str, Device]
    days: float
    most_bytes: int

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Read the configuration."""
        given = json.loads(path.read_text(encoding="utf-8"))
        devices = {
            one["name"]: Device(one["url"], given["ca_file"], given["token"])
            for one in given["devices"]
        }
        directory, mib = Path(given["directory"]), int(given["most_mib"])
        return cls(directory, devices, float(given["days"]), mib * 2**20)

    @property
    def told(self) -> Path:
        """Where files go that all devices were told."""
        return self.directory / "told"

    @property
    def refused(self) -> Path:
        """Where files go that cannot be told."""
        return self.directory / "refused"


def new_files(directory: Path, now: float) -> list[Path]:
    """Files that nobody writes any more; of names with a point before them there are none."""
    return sorted(
        path
        for path in directory.iterdir()
        if path.is_file()
        and not path.is_symlink()
        and not path.name.startswith(".")
        and not path.name.endswith((".part", ".tmp"))
        and now - path.stat().st_mtime >= SETTLED_SECONDS
    )


def take(path: Path, settings: Settings, now: float) -> None:
    """Tell the devices of one file, and put it where it then belongs."""
    try:
        named = NAME.fullmatch(path.name)
        if named is None:
            raise Refused(f"Wanted is {WANTED}.")
        try:
            rows = rows_of(path, named["kind"])
        except OSError as error:
            raise Refused(f"It cannot be read: {error.strerror or error}.") from None
        report = tell(path, named["model"], rows, settings, now)
    except Refused as error:
        put(path, settings.refused, f"{path.name}.txt", f"{error}\n")
        logger.warning("%s was refused: %s", path.name, error)
        return
    waits = f", of which {len(report['away'])} do not answer" if report["away"] else ""
    logger.info(
        "%s: %d rows, %d known to %d devices%s",
        *(path.name, report["rows"], sum(report["known"].values())),
        *(len(settings.devices), waits),
    )
    text = json.dumps(report, indent=1, sort_keys=True) + "\n"
    if report["away"] and now - path.stat().st_mtime < settings.days * 86400:
        write(settings.told / f"{path.name}.json", text)
        return
    put(path, settings.told, f"{path.name}.json", text)


def tell(
    path: Path, model: str, rows: Sequence[Row], settings: Settings, now: float
) -> dict[str, Any]:
    """Ask all devices that have not been told yet; what has come of it, for people."""
    state = path.stat()
    version = f"{state.st_ino}:{state.st_size}:{state.st_mtime_ns}"
    before = report_of(settings.told / f"{path.name}.json", version)
    known, absent = dict(before.get("known", {})), dict(before.get("absent", {}))
    away = {}
    ours = [row for row in rows if len(row[0]) <= ID_LENGTH]
    for name, device in settings.devices.items():
        if name in known or name in absent:
            continue
        said = device.tell(model, ours)
        if said.away:
            away[name] = said.away
        elif said.absent:
            absent[name] = said.absent
        else:
            known[name] = said.known
    if not known and not away:
        first = next(iter(absent.values()), "there is no device")
        raise Refused(
            f"No device takes what was right of {model} ({first}); wanted is a model that devices"
            " serve, and model_serving_truth_requests above 0."
        )
    return {
        "model": model,
        "rows": len(rows),
        "known": known,
        "absent": absent,
        "away": away,
        "looked": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "version": version,
    }


def report_of(path: Path, version: str) -> dict[str, Any]:
    """What came of this very file before; nothing where there was another of its name."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("version") == version else {}


def write(path: Path, text: str) -> None:
    """Write a file at once, or not at all."""
    beside = path.with_name(f".{path.name}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def put(path: Path, directory: Path, name: str, text: str) -> None:
    """Move a file, with something to read beside it."""
    write(directory / name, text)
    path.replace(directory / path.name)


def tidy(directory: Path, settings: Settings, now: float) -> None:
    """Delete what was kept for long enough, and the oldest of what takes too much room."""
    # A move changes the time of the entry, and not that of its content.
    kept = sorted(
        ((entry.stat().st_ctime, entry.stat().st_size, entry) for entry in directory.iterdir()),
        reverse=True,
    )
    room = settings.most_bytes
    for moved, size, entry in kept:
        room -= size
        if room < 0 or now - moved > settings.days * 86400:
            entry.unlink()


def main(arguments: list[str] | None = None) -> int:
    """Look once."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    os.umask(0o027)
    settings = Settings.read(parser.parse_args(arguments).config)
    now = time.time()
    for path in new_files(settings.directory, now):
        take(path, settings, now)
    for directory in (settings.told, settings.refused):
        tidy(directory, settings, now)
    return 0


if __name__ == "__main__":
    sys.exit(main())
