# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Environments are built for the host's platform, from locked files, by the user's index."""

from __future__ import annotations

import re

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host import app
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError
from ansible_collections.mlops.onprem.plugins.module_utils._host.ledger import Ledger

LOCKED = """\
# made by uv
--index-url https://example.invalid
flask[async]==3.1.3 ; sys_platform == 'linux' \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via x
"""


@pytest.mark.parametrize(
    ("machine", "libc", "platform"),
    [
        ("x86_64", "glibc 2.41", "x86_64-manylinux_2_40"),
        ("x86_64", "glibc 2.31", "x86_64-manylinux_2_31"),
        ("aarch64", "glibc 2.36", "aarch64-manylinux_2_36"),
        ("x86_64", "glibc 2.30", "x86_64-manylinux_2_28"),
    ],
)
def test_the_newest_platform_that_the_host_can_run(machine: str, libc: str, platform: str) -> None:
    assert app.Target("3.13", machine, libc).platform == platform


@pytest.mark.parametrize(
    ("machine", "libc", "sentence"),
    [
        ("x86_64", "glibc 2.12", "need glibc 2.17; this host has glibc 2.12"),
        ("x86_64", "musl 1.2", "need glibc; this host has musl 1.2"),
        ("x86_64", "", "this host has another C library"),
        ("riscv64", "glibc 2.41", "built for x86_64 and aarch64; this host is a riscv64"),
        ("armv7l", "glibc 2.41", "is a armv7l; install its system anew in the 64-bit edition"),
        ("aarch64 of 32 bits", "glibc 2.41", "anew in the 64-bit edition"),
    ],
)
def test_platforms_that_are_refused(machine: str, libc: str, sentence: str) -> None:
    with pytest.raises(HostError, match=sentence):
        assert app.Target("3.13", machine, libc).platform


def test_a_locked_file_is_accepted() -> None:
    app.refuse_unlocked(LOCKED, "requirements.txt")


@pytest.mark.parametrize(
    "line", ["flask", "flask>=3", "flask==3.1.3", "git+https://example.invalid/x", "-e ."]
)
def test_an_unlocked_requirement_is_refused(line: str) -> None:
    with pytest.raises(HostError, match=r"requirements.txt is not locked"):
        app.refuse_unlocked(LOCKED + line + "\n", "requirements.txt")


@pytest.mark.parametrize(
    ("lock", "python"),
    [
        ("requirements-py311.txt", "3.11"),
        ("requirements-py310.txt", "3.10"),
        ("requirements.txt", None),
        ("requirements-py3.txt", None),
        ("requirements-test.txt", None),
        ("requirements-py311.in", None),
        ("other-py311.txt", None),
    ],
)
def test_a_lock_for_one_python_is_told_by_its_name(lock: str, python: str | None) -> None:
    assert app.python_of(lock, "requirements.txt") == python


def test_a_host_gets_the_lock_of_its_python_or_the_one_for_all() -> None:
    digests = {app.ANY_PYTHON: "a", "3.11": "b"}
    assert [app.digest_for(digests, version) for version in ("3.11", "3.12", "3.1")] == [
        "b",
        "a",
        "a",
    ]


@pytest.mark.parametrize(
    ("first", "line"),
    [
        (b"#!/root/.venv/bin/python\n", b"#!/opt/x/bin/python\n"),
        (b"#!/usr/bin/env python3\n", b"#!/opt/x/bin/python\n"),
        (b"#!/bin/sh\n", None),
        (b"\x7fELF", None),
    ],
)
def test_only_python_scripts_are_pointed_elsewhere(first: bytes, line: bytes | None) -> None:
    assert app.shebang(first, "/opt/x/bin/python") == line


@pytest.mark.parametrize(
    ("path", "compiled"),
    [
        ("kube/client/__init__.py", True),
        ("kube/client/models/__init__.py", True),
        ("kube/client/models/pod.py", False),
        ("kube/client/models/deeper/__init__.py", False),
        ("kube/client/models_of_another/pod.py", True),
        ("other/kube/client/models/pod.py", True),
        ("a.b/x.py", False),
        ("aXb/x.py", True),
        ("pkg/tests/x.py", False),
        ("pkg/test/x.py", False),
    ],
)
def test_what_is_rarely_imported_gets_no_bytecode(path: str, compiled: bool) -> None:
    words = app.without_bytecode(("kube/client/models", "a.b"))
    found = re.search(words, f"/opt/x/lib/python3.13/site-packages/{path}")
    assert (found is None) is compiled


def test_the_cache_name_depends_on_everything_that_matters() -> None:
    target = app.Target("3.13", "x86_64", "glibc 2.41")
    names = {
        app.key("a", target, "uv 1"),
        app.key("b", target, "uv 1"),
        app.key("a", app.Target("3.14", "x86_64", "glibc 2.41"), "uv 1"),
        app.key("a", app.Target("3.13", "aarch64", "glibc 2.41"), "uv 1"),
        app.key("a", target, "uv 2"),
    }
    assert len(names) == 5


def test_settings_of_pip_become_those_of_uv() -> None:
    pip = app.pip_settings(
        [
            "global.index-url='https://pypi.example.invalid/simple'",
            "global.extra-index-url='https://a.example.invalid\\nhttps://b.example.invalid'",
            ":env:.find-links='/opt/a /opt/b'",
            "not a setting",
        ]
    )
    assert app.index_environment(pip, {}) == {
        "UV_DEFAULT_INDEX": "https://pypi.example.invalid/simple",
        "UV_INDEX": "https://a.example.invalid https://b.example.invalid",
        "UV_FIND_LINKS": "/opt/a,/opt/b",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_settings_of_uv_itself_win() -> None:
    pip = {"global.index-url": "https://pypi.example.invalid/simple"}
    assert app.index_environment(pip, {"UV_DEFAULT_INDEX": "https://x.example.invalid"}) == {}


# Where an environment goes

WANTED = app.Environment(
    "x", "d" * 64, "/usr/bin/python3", app.Target("3.13", "x86_64", "glibc 2.41")
)


@pytest.mark.parametrize("name", ["X", "a/b", "", "-x", "1x", ".."])
def test_names_that_are_no_application_are_refused(name: str) -> None:
    with pytest.raises(HostError, match="is not a name for a Python application"):
        app.Environment(name, "d", "/usr/bin/python3", WANTED.target)


def test_an_environment_and_the_folders_around_it_are_recorded() -> None:
    ledger = app.claimed(Ledger(), "first", WANTED, [])
    assert {(thing.kind, thing.name) for thing in ledger} == {
        ("app", "/opt/mlops/x"),
        ("directory", "/opt/mlops"),
        ("directory", "/opt/mlops/.builds"),
    }
    again = app.claimed(ledger, "second", WANTED, ["/opt/mlops", "/opt/mlops/x"])
    assert {thing.owners for thing in again} == {("first", "second")}


def test_a_folder_that_was_there_before_is_not_recorded() -> None:
    ledger = app.claimed(Ledger(), "first", WANTED, ["/opt/mlops"])
    assert not ledger.has("directory", "/opt/mlops")


def test_an_environment_of_somebody_else_is_refused() -> None:
    with pytest.raises(HostError, match="/opt/mlops/x is there already and was not made by the"):
        app.claimed(Ledger(), "first", WANTED, ["/opt/mlops/x"])


@pytest.mark.parametrize(
    "other",
    [
        app.Environment("x", "e" * 64, "/usr/bin/python3", WANTED.target),
        app.Environment("x", "d" * 64, "/opt/python", WANTED.target),
        app.Environment("x", "d" * 64, "/usr/bin/python3", app.Target("3.14", "", "")),
    ],
)
def test_a_change_of_requirements_or_python_changes_the_marker(other: app.Environment) -> None:
    assert other.text != WANTED.text
    assert other.marker == WANTED.marker
