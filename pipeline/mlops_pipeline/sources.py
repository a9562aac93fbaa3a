# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a site's own data come from: S3, a directory, a file, or a query against PostgreSQL.

What is fetched goes into a folder, as it is; the project's entry point ``prepare`` reads it there.
Parquet, CSV, images: the door looks at none of them, only the project does.
"""

from __future__ import annotations

import csv
import os
import urllib.parse
from pathlib import Path
from typing import Any

from .config import Config, Section
from .data import Entry, describe, plain_path
from .disk import Filling
from .errors import PipelineError
from .storage import Storage, open_storage

BATCH = 2000
ROWS_FILE = "rows.csv"


def fetch(config: Config, folder: Path) -> tuple[str, list[Entry]]:
    """Put the source of the data into a folder; return what it is and every file of it."""
    source = config.options.value["source"]
    where = f"{config.options.where}, source"
    if isinstance(source, str):
        return _from_place(source, config, folder)
    if not isinstance(source, dict):
        raise PipelineError(
            f"{where}: found {source!r}, wanted s3://bucket/prefix, a path, or a mapping with "
            "postgresql."
        )
    options = Section(source, where)
    return _from_postgresql(options.section("postgresql"), config, folder)


def _from_place(uri: str, config: Config, folder: Path) -> tuple[str, list[Entry]]:
    """Copy what lies at a place: an object store, a directory, or one file."""
    parts = urllib.parse.urlsplit(uri)
    path = Path(urllib.parse.unquote(parts.path) if parts.scheme == "file" else uri).expanduser()
    if parts.scheme in ("", "file"):
        if not path.exists():
            raise PipelineError(f"The source of the data, {uri}, is not there.")
        storage: Storage = open_storage(str(path.parent if path.is_file() else path), config)
        names = [path.name] if path.is_file() else storage.names()
    else:
        storage = open_storage(uri, config)
        names = storage.names()
    if not names:
        raise PipelineError(f"The source of the data, {uri}, holds no file.")
    entries = []
    room = Filling(folder, config.disk_mib, f"The source of the data, {uri},")
    for name in names:
        target = folder / plain_path(name, f"The source {uri}")
        target.parent.mkdir(parents=True, exist_ok=True)
        version = storage.get(name, target, room.add)
        if version is None:
            raise PipelineError(f"{uri}/{name} went away while the source was read; run it again.")
        entries.append(describe(target, name, version))
    return uri, entries


def _from_postgresql(options: Section, config: Config, folder: Path) -> tuple[str, list[Entry]]:
    """Write the rows of a query as CSV. Reads only, and holds few rows at a time.

    The order of rows is part of the version: a query without ORDER BY may give another version of
    the same data.
    """
    query = options.text("query").strip().rstrip(";")
    database, user = options.text("database"), options.text("user")
    host, port = options.text("host"), options.count("port", 5432)
    where = f"The database {database} on {host}:{port}"
    try:
        import psycopg
    except ImportError:
        raise PipelineError(
            "The pipeline's environment has no psycopg; let pipeline/environment.py make a new one."
        ) from None
    target = folder / ROWS_FILE
    ca_file = options.text("ca_file", "-")
    try:
        with psycopg.connect(
            host=host,
            port=port,
            dbname=database,
            user=user,
            password=config.secret("PIPELINE_SOURCE_PASSWORD"),
            sslmode="verify-full" if ca_file != "-" else options.text("sslmode", "verify-full"),
            sslrootcert="system" if ca_file == "-" else ca_file,
            connect_timeout=10,
            application_name="mlops_pipeline",
            options="-c default_transaction_read_only=on "
            f"-c statement_timeout={options.count('timeout', 1800) * 1000}",
        ) as connection:
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            room = Filling(folder, config.disk_mib, f"What {where[0].lower()}{where[1:]} answers")
            _write_rows(connection, query, target, room)
    except psycopg.Error as error:
        text = " ".join(str(error).split())[:400]
        raise PipelineError(f"{where} did not let us read as {user}: {text}") from None
    return f"postgresql://{host}:{port}/{database}", [describe(target, ROWS_FILE)]


def _write_rows(connection: Any, query: str, target: Path, room: Filling) -> None:
    """Read through a cursor on the server, batch by batch."""
    with (
        connection.cursor(name="mlops_pipeline") as cursor,
        target.open("w", encoding="utf-8", newline="") as stream,
    ):
        cursor.itersize = BATCH
        cursor.execute(query)
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([column.name for column in cursor.description])
        for number, row in enumerate(cursor):
            if number % BATCH == 0:
                room.add(os.fstat(stream.fileno()).st_size - room.taken)
            writer.writerow(["" if value is None else value for value in row])
