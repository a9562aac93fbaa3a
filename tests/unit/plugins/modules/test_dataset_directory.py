# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module for datasets in a directory of its own: nothing is deleted that was not named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import PlatformError
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import Ran
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.datasets import Mount
from ansible_collections.mlops.onprem.plugins.modules import dataset_directory


class Module:
    """The part of AnsibleModule that the work asks for."""

    def __init__(self, check: bool = False, **params: Any) -> None:
        self.params = params
        self.check_mode = check
        self.warnings: list[str] = []

    def warn(self, said: str) -> None:
        self.warnings.append(said)


@pytest.fixture(autouse=True)
def _written_by_whoever_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(path: str, content: bytes, _mode: int, *_owner: int) -> None:
        Path(path).write_bytes(content)

    monkeypatch.setattr(dataset_directory, "write_whole", plain)
    monkeypatch.setattr(os, "chown", lambda *_args, **_more: None)


def data(path: Path, **more: Any) -> dict[str, Any]:
    wanted = {"workload": "images", "path": str(path), "mib": 0.0, "mount": "", "owner": ""}
    return {**wanted, "group": "", "mode": "0750", "quota": False, **more}


def work(
    folder: Path, rows: list[dict[str, Any]], check: bool = False, delete: list[str] | None = None
) -> tuple[dict[str, Any], list[str]]:
    module = Module(check, datasets=rows, known=str(folder / "known.json"), delete=delete or [])
    return dataset_directory.work(module), module.warnings


def mine() -> dict[str, str]:
    """The account of whoever tests, since nobody else can own what is made here."""
    return {
        "owner": dataset_directory.name_of_uid(os.getuid()),
        "group": dataset_directory.name_of_gid(os.getgid()),
    }


def test_a_directory_is_made_once_and_check_mode_makes_none(tmp_path: Path) -> None:
    rows = [data(tmp_path / "data" / "images", **mine())]
    told, _warnings = work(tmp_path, rows, check=True)
    assert told["changed"]
    assert not (tmp_path / "data").exists()
    assert work(tmp_path, rows)[0]["changed"]
    assert (tmp_path / "data" / "images").stat().st_mode & 0o777 == 0o750
    assert not work(tmp_path, rows)[0]["changed"]


def test_data_stays_until_it_is_named(tmp_path: Path) -> None:
    rows = [data(tmp_path / "images", **mine())]
    work(tmp_path, rows)
    (tmp_path / "images" / "a.png").write_text("x")
    for _run in range(2):
        told, warnings = work(tmp_path, [])
        assert not told["changed"]
        assert "the data stays, until workloads_datasets_delete names images" in warnings[0]
        assert (tmp_path / "images" / "a.png").exists()
    told, _warnings = work(tmp_path, [], delete=["other"])
    assert (tmp_path / "images").exists()
    told, _warnings = work(tmp_path, [], delete=["images"])
    assert told["changed"]
    assert not (tmp_path / "images").exists()
    assert not (tmp_path / "known.json").exists()


def test_a_directory_of_the_company_is_never_deleted(tmp_path: Path) -> None:
    place = tmp_path / "images"
    place.mkdir(mode=0o750)
    rows = [data(place, **mine())]
    assert not work(tmp_path, rows)[0]["changed"]
    told, warnings = work(tmp_path, [], delete=["images"])
    assert not told["changed"]
    assert "as the platform did not make the directory" in warnings[0]
    assert place.exists()


def test_accounts_are_the_companys(tmp_path: Path) -> None:
    rows = [data(tmp_path / "images", owner="nobody9here")]
    with pytest.raises(PlatformError, match=r"does not know \(getent passwd nobody9here\)"):
        work(tmp_path, rows)
    assert not (tmp_path / "images").exists()


def test_a_spoilt_memory_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "known.json").write_text("[]")
    with pytest.raises(PlatformError, match="cannot be read"):
        work(tmp_path, [])


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A file system that can limit, and what its tools are told."""
    said: list[list[str]] = []

    def run(argv: list[str], **_options: Any) -> Ran:
        said.append(argv)
        return Ran(0, "", "")

    monkeypatch.setattr(dataset_directory, "run", run)
    monkeypatch.setattr(
        dataset_directory, "mounts", lambda _text: (Mount(str(tmp_path), "ext4", ("prjquota",)),)
    )
    return said


def test_a_limit_comes_once_goes_when_it_is_not_wanted_and_goes_with_the_data(
    tmp_path: Path, tools: list[list[str]]
) -> None:
    place = tmp_path / "images"
    limited = [data(place, **mine(), mib=64.0, quota=True)]
    assert f"{place}: at most 64 MiB" in work(tmp_path, limited)[0]["changes"]
    assert [argv[0] for argv in tools] == ["find", "find", "setquota"]
    assert tools[-1][3:5] == ["0", "65536"]
    assert not work(tmp_path, limited)[0]["changed"]
    free = [data(place, **mine(), mib=64.0)]
    assert work(tmp_path, free)[0]["changes"] == [f"{place}: no longer limited"]
    assert not work(tmp_path, free)[0]["changed"]
    work(tmp_path, limited)
    tools.clear()
    work(tmp_path, [])
    work(tmp_path, [], check=True, delete=["images"])
    assert tools == []  # kept, with its limit
    work(tmp_path, [], delete=["images"])
    assert [argv[3:7] for argv in tools] == [["0", "0", "0", "0"]]
    assert not place.exists()


def test_a_limit_goes_with_a_directory_that_somebody_took_away(
    tmp_path: Path, tools: list[list[str]]
) -> None:
    work(tmp_path, [data(tmp_path / "images", **mine(), mib=64.0, quota=True)])
    (tmp_path / "images").rmdir()
    tools.clear()
    work(tmp_path, [])
    assert [argv[0] for argv in tools] == ["setquota"]
    assert not (tmp_path / "known.json").exists()


def test_a_tool_that_is_not_there_is_a_sentence(
    tmp_path: Path, tools: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tools == []
    missing = Ran(127, "", "setquota is not installed")
    monkeypatch.setattr(dataset_directory, "run", lambda _argv, **_options: missing)
    wanted = (
        r"is not installed; install quota \(ext4\) or xfsprogs \(XFS\), or set run.quota: false"
    )
    with pytest.raises(PlatformError, match=wanted):
        work(tmp_path, [data(tmp_path / "images", **mine(), mib=64.0, quota=True)])
