# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a role asks for is checked before anything is made."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host import files
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError


def test_defaults_of_users_directories_and_files() -> None:
    assert files.user_of({"name": "mlops-x"}) == files.User("mlops-x", "/var/lib/mlops/mlops-x")
    assert files.directory_of({"path": "/etc/mlops/x"}) == files.Directory("/etc/mlops/x")
    assert files.file_of({"path": "/etc/mlops/x/a"}, b"t", ()) == files.File("/etc/mlops/x/a", b"t")


@pytest.mark.parametrize(("text", "mode"), [("0640", 0o640), ("640", 0o640), ("1777", 0o1777)])
def test_modes_are_octal(text: str, mode: int) -> None:
    assert files.mode_of(text, "x") == mode


@pytest.mark.parametrize("text", ["u=rw", "0o640", "888", "", "64"])
def test_other_modes_are_refused(text: str) -> None:
    with pytest.raises(HostError, match='octal in quotes, such as "0640"'):
        files.mode_of(text, "x")


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("etc/x", "has to be an absolute path in its shortest form"),
        ("/etc/../x", "has to be an absolute path in its shortest form"),
        ("/etc/x/", "has to be an absolute path in its shortest form"),
        ("/etc", "/etc belongs to the system"),
        ("/", "/ belongs to the system"),
    ],
)
def test_paths_that_are_refused(path: str, sentence: str) -> None:
    with pytest.raises(HostError, match=sentence):
        files.directory_of({"path": path})


@pytest.mark.parametrize(
    ("row", "content", "validate", "sentence"),
    [
        ({"link": "/x"}, b"x", (), "exactly one of template, source, content and link"),
        ({}, None, (), "exactly one of template, source, content and link"),
        ({}, b"x", ("check",), "validate needs a %s"),
    ],
)
def test_files_that_are_refused(
    row: dict[str, Any], content: bytes | None, validate: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(HostError, match=sentence):
        files.file_of({"path": "/etc/mlops/a", **row}, content, validate)


@pytest.mark.parametrize("name", ["Root", "a b", "", "-x", "a" * 40])
def test_names_that_are_no_account(name: str) -> None:
    with pytest.raises(HostError, match="is not a name for a user or group"):
        files.user_of({"name": name})


def test_one_path_twice_is_refused() -> None:
    with pytest.raises(HostError, match="/etc/mlops/a is asked for twice"):
        files.refuse_twice((files.Directory("/etc/mlops/a"),), (files.File("/etc/mlops/a", b"x"),))


@pytest.mark.parametrize(
    ("said", "content", "shown"),
    [
        ("no global SMTP smarthost set", "to: ops@example.com\n", "no global SMTP smarthost set"),
        ("line 2: cannot use s3cr3t-word as url", "a: 1\nurl: s3cr3t-word\n", "********"),
        ("bad value 'hunter2hunter2'", 'password = "hunter2hunter2"\n', "********"),
        ("unsupported scheme in https-x://u:pw@h", "url: https-x://u:pw@h\n", "********"),
    ],
)
def test_a_checker_is_quoted_without_the_values_of_a_secret_file(
    said: str, content: str, shown: str
) -> None:
    quoted = files.masked(said, content.encode())
    assert shown in quoted
    for secret in ("s3cr3t-word", "hunter2hunter2", "u:pw@h"):
        assert secret not in quoted
