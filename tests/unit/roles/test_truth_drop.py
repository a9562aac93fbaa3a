# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables with what was right, as files: what is read, who is told, what becomes of them."""

from __future__ import annotations

import http.server
import importlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "roles/model_registry/files"))
drop = importlib.import_module("mlops_truth")
NOW = 2_000_000_000.0


class Sink:
    """A device: what it was told, and what it answers."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, list[dict[str, Any]]]] = []
        self.status = 200
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                token = self.headers.get("Authorization", "")
                sink.told.append((self.path, token, body["truth"]))
                text = json.dumps({"known": 1, "unknown": 0}).encode()
                self.send_response(sink.status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(name="sink")
def _sink() -> Iterator[Sink]:
    found = Sink()
    yield found
    found.server.shutdown()


def settings(folder: Path, *urls: str, token: str = "", days: int = 7, mib: int = 1) -> Any:
    for name in ("told", "refused"):
        (folder / name).mkdir(exist_ok=True)
    config = {
        "directory": str(folder),
        "devices": [{"name": f"edge{at}", "url": url} for at, url in enumerate(urls, start=1)],
        "ca_file": "/nowhere",
        "token": token,
        "days": days,
        "most_mib": mib,
    }
    path = folder / ".config"
    path.write_text(json.dumps(config))
    return drop.Settings.read(path)


def put(folder: Path, name: str, text: str, age: float = 60) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    os.utime(path, (NOW - age, NOW - age))
    return path


@pytest.mark.parametrize(
    ("kind", "text", "wanted"),
    [
        (
            "csv",
            'id, value,when\r\nq1,good,1\r\n\r\n"q,2",2.5,2\r\n',
            [("q1", "good"), ("q,2", "2.5")],
        ),
        ("csv", "\ufeffvalue,id\ngood,q1\n", [("q1", "good")]),
        (
            "jsonl",
            '{"id": "q1", "value": 1}\n\n{"id": 7, "value": true, "more": []}\n',
            [("q1", 1), ("7", True)],
        ),
    ],
)
def test_a_table_has_ids_and_values(
    tmp_path: Path, kind: str, text: str, wanted: list[Any]
) -> None:
    assert drop.rows_of(put(tmp_path, f"m@x.{kind}", text), kind) == wanted


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("csv", "", "columns nothing; wanted are id and value"),
        ("csv", "id,value\n", "no row"),
        ("csv", "id;value\n1;2\n", "columns id;value"),
        ("csv", "id;value\n1;2\n", "parted by commas"),
        ("csv", "id,value\nq1\n", "Line 2 has 1 of 2 columns"),
        ("csv", "id,value\nq1,0,5\n", "Line 2 has 3 of 2 columns; numbers have a point"),
        ("csv", "id,value\nq1, \n", "Line 2 has no value; leave out rows"),
        ("csv", "id,value,value\nq1,1,2\n", "the column value twice"),
        # What a parser, or arithmetic, ends at.
        ("jsonl", "[" * 100_000, "cannot be read after 0 rows: maximum recursion depth"),
        ("jsonl", f'{{"id": "a", "value": {"9" * 400}}}', "cannot be read after 0 rows: int too"),
        ("jsonl", '{"id": "a", "value": "\\ud800"}', "cannot be read after 0 rows"),
        ("csv", 'id,value\n"q1,1\n', "not CSV in UTF-8"),
        ("csv", "id,value\n,1\n", "Line 2 has no id"),
        ("jsonl", '{"id": "a", "value": 1}\n{"id"', "Line 2 is not JSON"),
        ("jsonl", "[1]", "Line 1 is not like"),
        ("jsonl", '{"id": "a"}', "columns id; wanted"),
        ("jsonl", '{"id": null, "value": 1}', "Line 1 has no id"),
        ("jsonl", '{"id": true, "value": 1}', "Line 1 has no id"),
        ("jsonl", '{"id": "a", "value": null}', "Line 1 has no value"),
        ("jsonl", '{"id": "a", "value": NaN}', "has nan for a value"),
    ],
)
def test_what_is_no_such_table_is_refused(tmp_path: Path, kind: str, text: str, said: str) -> None:
    with pytest.raises(drop.Refused, match=said):
        drop.rows_of(put(tmp_path, f"m@x.{kind}", text), kind)


def test_more_than_is_taken_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, "m@x.csv", "id,value\na,1\nb,2\nc,3\n")
    monkeypatch.setattr(drop, "MOST_ROWS", 2)
    with pytest.raises(drop.Refused, match="more than 2 rows; split it"):
        drop.rows_of(path, "csv")
    monkeypatch.setattr(drop, "MOST_BYTES", 10)
    with pytest.raises(drop.Refused, match="at most 10 are taken"):
        drop.rows_of(path, "csv")


def test_files_that_are_still_written_wait(tmp_path: Path) -> None:
    settings(tmp_path)
    put(tmp_path, "m@a.csv", "")
    put(tmp_path, "m@b.csv", "", age=1)
    put(tmp_path, "m@c.csv.part", "")
    put(tmp_path, ".m@d.csv", "")
    (tmp_path / "m@e.csv").symlink_to("/etc/passwd")
    assert [path.name for path in drop.new_files(tmp_path, NOW)] == ["m@a.csv"]


def test_each_device_is_told_all_of_it_with_the_token(tmp_path: Path, sink: Sink) -> None:
    told = settings(tmp_path, sink.url, sink.url, token="line.secret")
    rows = "".join(f"q{number},1\n" for number in range(drop.SENT_AT_ONCE + 5))
    drop.take(put(tmp_path, "churn@x.csv", f"id,value\n{'x' * 129},1\n{rows}"), told, NOW)
    assert {(path, token) for path, token, _rows in sink.told} == {
        ("/v2/models/churn/truth", "Bearer line.secret")
    }
    assert [len(part) for _path, _token, part in sink.told] == [drop.SENT_AT_ONCE, 5] * 2
    report = json.loads((tmp_path / "told/churn@x.csv.json").read_text())
    assert report["known"] == {"edge1": 2, "edge2": 2}
    assert (report["rows"], report["away"]) == (drop.SENT_AT_ONCE + 6, {})
    assert (tmp_path / "told/churn@x.csv").exists()
    assert not (tmp_path / "churn@x.csv").exists()


def test_a_device_that_is_away_is_asked_again_and_the_others_are_not(
    tmp_path: Path, sink: Sink
) -> None:
    path = put(tmp_path, "churn@x.csv", "id,value\nq1,1\n")
    drop.take(path, settings(tmp_path, sink.url, "http://127.0.0.1:9"), NOW)
    assert path.exists()
    report = json.loads((tmp_path / "told/churn@x.csv.json").read_text())
    assert list(report["away"]) == ["edge2"]
    drop.take(path, settings(tmp_path, sink.url, sink.url), NOW)
    assert not path.exists()
    assert len(sink.told) == 2
    report = json.loads((tmp_path / "told/churn@x.csv.json").read_text())
    assert set(report["known"]) == {"edge1", "edge2"}
    # Another file of the same name is another table.
    other = put(tmp_path, "churn@x.csv", "id,value\nq2,1\n", age=50)
    drop.take(other, settings(tmp_path, sink.url), NOW)
    assert sink.told[-1][2] == [{"id": "q2", "value": "1"}]


def test_a_device_that_stays_away_is_not_waited_for_longer_than_declared(tmp_path: Path) -> None:
    path = put(tmp_path, "churn@x.csv", "id,value\nq1,1\n", age=8 * 86400)
    drop.take(path, settings(tmp_path, "http://127.0.0.1:9"), NOW)
    assert (tmp_path / "told/churn@x.csv").exists()
    assert list(json.loads((tmp_path / "told/churn@x.csv.json").read_text())["away"]) == ["edge1"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("notes.csv", "id,value\nq1,1\n", "Wanted is a name such as churn@"),
        ("churn@x.xlsx", "x", "Wanted is a name"),
        ("churn@x.csv", "id\n", "wanted are id and value"),
        ("churn@y.csv", "id,value\nq1,1\n", "No device takes what was right of churn"),
    ],
)
def test_a_refused_file_has_a_sentence_beside_it(
    tmp_path: Path, sink: Sink, name: str, text: str, said: str
) -> None:
    sink.status = 404
    drop.take(put(tmp_path, name, text), settings(tmp_path, sink.url), NOW)
    assert (tmp_path / "refused" / name).exists()
    assert said in (tmp_path / f"refused/{name}.txt").read_text()
    assert list((tmp_path / "told").iterdir()) == []


@pytest.mark.parametrize("status", [401, 413, 503])
def test_a_device_that_takes_nothing_now_is_asked_again(
    tmp_path: Path, sink: Sink, status: int
) -> None:
    sink.status = status
    path = put(tmp_path, "churn@x.csv", "id,value\nq1,1\n")
    drop.take(path, settings(tmp_path, sink.url), NOW)
    assert path.exists()
    report = json.loads((tmp_path / "told/churn@x.csv.json").read_text())
    assert report["away"]["edge1"].startswith(f"HTTP {status}")


def test_what_was_kept_long_enough_is_deleted_and_the_oldest_where_room_is_short(
    tmp_path: Path,
) -> None:
    told = settings(tmp_path, days=1, mib=1)
    put(told.told, "a", "x" * 600_000)
    put(told.told, "b", "x" * 600_000)
    moved = max(path.stat().st_ctime for path in told.told.iterdir())
    drop.tidy(told.told, told, moved + 3600)
    assert [path.name for path in told.told.iterdir()] == ["b"]
    drop.tidy(told.told, told, moved + 2 * 86400)
    assert list(told.told.iterdir()) == []


def test_columns_without_a_head_are_let_be_where_they_are_empty(tmp_path: Path) -> None:
    """As spreadsheets write them."""
    assert drop.rows_of(put(tmp_path, "m@x.csv", "id,value\nq1,1,,\n"), "csv") == [("q1", "1")]
