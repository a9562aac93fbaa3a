"""Two snapshots of a host differ in lines that a person can read."""

from __future__ import annotations

import pytest

from tests.infra.snapshot import EXCLUDED, differences

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
