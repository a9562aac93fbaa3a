"""Two snapshots of a host differ in lines that a person can read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.infra.snapshot import EXCLUDED, Sums, came_with_others, differences

BEFORE = {"package": {"nginx": "1 ii manual"}, "file": {"/etc/a": "file 0644 0:0 sha256:1"}}


def test_the_same_is_the_same() -> None:
    assert differences(BEFORE, BEFORE, []) == []


def test_added_removed_and_changed_are_told_apart() -> None:
    after = {
        "package": {"curl": "8 ii manual"},
        "file": {"/etc/a": "file 0600 0:0 sha256:1"},
    }
    assert differences(BEFORE, after, []) == [
        "~ file /etc/a: file 0644 0:0 sha256:1 -> file 0600 0:0 sha256:1",
        "+ package curl: 8 ii manual",
        "- package nginx: 1 ii manual",
    ]


def test_a_new_directory_is_one_line() -> None:
    added = {
        "/etc/b": "directory 0755 0:0",
        "/etc/b/c": "directory 0755 0:0",
        "/etc/b/c/d": "file 0644 0:0 sha256:1",
        "/etc/bb": "file 0644 0:0 sha256:2",
    }
    assert differences({"file": {}}, {"file": added}, []) == [
        "+ file /etc/b/: directory with 2 entries",
        "+ file /etc/bb: file 0644 0:0 sha256:2",
    ]


def test_what_is_kept_on_purpose_is_not_told() -> None:
    after = {**BEFORE, "file": {**BEFORE["file"], "/var/lib/mlops/x": "file 0600 0:0 sha256:3"}}
    assert differences(BEFORE, after, [r"/var/lib/mlops/"]) == []


@pytest.mark.parametrize(
    ("path", "excluded"),
    [
        ("/proc", True),
        ("/etc/passwd", True),
        ("/usr/lib/python3.13/__pycache__", True),
        ("/var/log", True),
        ("/etc/passwd.d", False),
        ("/etc/systemd/system/mlops-nginx.service", False),
        ("/var/lib/mlops", False),
        ("/opt/proc", False),
    ],
)
def test_little_is_excluded(path: str, excluded: bool) -> None:
    assert bool(EXCLUDED.search(path)) == excluded


@pytest.fixture
def long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """All files were touched long ago, as on a host that stands."""
    monkeypatch.setattr(Sums, "JUST_NOW", -(10**18))


def read(tmp_path: Path) -> str:
    """The sum of a file, by a snapshot of its own."""
    sums = Sums(str(tmp_path / "sums.json"))
    found = sums.of(str(tmp_path / "file"), (tmp_path / "file").stat())
    sums.keep()
    return found


@pytest.mark.usefixtures("long_ago")
def test_a_file_is_read_once_and_again_when_it_was_touched(tmp_path: Path) -> None:
    file, kept = tmp_path / "file", tmp_path / "sums.json"
    file.write_text("one")
    first = read(tmp_path)
    assert kept.stat().st_mode & 0o777 == 0o600
    page = json.loads(kept.read_text())
    page[str(file)][0] = "as kept"
    kept.write_text(json.dumps(page))
    assert read(tmp_path) == "as kept"
    times = file.stat()
    file.write_text("two")  # of the same size, and with the same time of its content
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert read(tmp_path) not in ("as kept", first)


def test_a_file_that_was_just_touched_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one")
    read(tmp_path)
    assert json.loads((tmp_path / "sums.json").read_text()) == {}


@pytest.mark.usefixtures("long_ago")
def test_what_somebody_else_kept_or_spoilt_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("one")
    (tmp_path / "sums.json").write_text("nonsense")
    right = read(tmp_path)
    page = {name: ["other", *marks[1:]] for name, marks in _kept(tmp_path).items()}
    (tmp_path / "sums.json").write_text(json.dumps(page))
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    assert read(tmp_path) == right


def _kept(tmp_path: Path) -> dict[str, list[object]]:
    found: dict[str, list[object]] = json.loads((tmp_path / "sums.json").read_text())
    return found


def test_what_came_with_others_is_read_from_where_apt_keeps_it(tmp_path: Path) -> None:
    kept = tmp_path / "extended_states"
    assert came_with_others(str(kept)) == set()
    kept.write_text(
        "Package: libpq5\nArchitecture: amd64\nAuto-Installed: 1\n\n"
        "Package: nginx\nArchitecture: amd64\nAuto-Installed: 0\n\n"
        "Package: perl\nArchitecture: all\nAuto-Installed: 1\n\n"
    )
    assert came_with_others(str(kept)) == {"libpq5", "libpq5:amd64", "perl", "perl:all"}
