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
