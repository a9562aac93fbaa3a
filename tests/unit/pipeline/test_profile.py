# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rows a profile is made of, and which files are refused with a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlops_pipeline import profile
from mlops_pipeline.errors import PipelineError


def saved(folder: Path, **arrays: Any) -> Path:
    path = folder / "reference.npz"
    np.savez(path, **arrays)
    return path


def test_rows_are_read_as_they_are(tmp_path: Path) -> None:
    found = profile.read_rows(saved(tmp_path, x=np.ones((60, 3)), w=np.asarray(["a"] * 60)))
    assert {name: value.shape for name, value in found.items()} == {"x": (60, 3), "w": (60,)}


def test_of_very_many_rows_evenly_spread_ones_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "MOST_ROWS", 100)
    found = profile.read_rows(saved(tmp_path, x=np.arange(1000).reshape(-1, 1)))["x"]
    assert (len(found), found[0, 0], found[-1, 0]) == (100, 0, 999)
    assert set(np.diff(found[:, 0])) == {10, 11}


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.ones((60, 1)), "y": np.ones((61, 1))}, "have 60, 61 rows"),
        ({}, "have no rows"),
        ({"x": np.ones((49, 1))}, "has 49 rows, wanted 50 or more; leave it out"),
        ({"x": np.asarray([{}] * 60, dtype=object)}, "wanted an npz file|Wanted an npz file"),
    ],
)
def test_rows_that_make_no_profile_are_refused(
    tmp_path: Path, arrays: dict[str, Any], said: str
) -> None:
    with pytest.raises(PipelineError, match=said):
        profile.read_rows(saved(tmp_path, **arrays))


@pytest.mark.parametrize("data", [b"", b"no archive", b"PK\x03\x04broken"])
def test_what_is_no_file_of_rows_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "reference.npz"
    path.write_bytes(data)
    with pytest.raises(PipelineError, match="cannot be read"):
        profile.read_rows(path)
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(PipelineError, match="not a plain file"):
        profile.read_rows(path)


def test_names_are_those_of_the_input_that_they_are_said_of() -> None:
    one, two = {"x": 0}, {"x": 0, "y": 0}
    names = {"feature_names": ["a", "b"]}
    assert profile.order_of(names, one)["names"] == {"x": ["a", "b"]}
    assert profile.order_of(names, two)["names"] == {}
    assert profile.order_of({**names, "input": "y"}, two)["names"] == {"y": ["a", "b"]}
    assert profile.order_of({"profile_features": ["b"]}, one)["declared"] == ["b"]
    with pytest.raises(PipelineError, match="profile_features: wanted a list"):
        profile.order_of({"profile_features": "b"}, one)
