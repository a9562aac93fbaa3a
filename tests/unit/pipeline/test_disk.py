# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A step takes no more disk than it was told it may, and leaves some to others."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlops_pipeline import disk, prepare, project, sources, train
from mlops_pipeline.config import Config, Section
from mlops_pipeline.data import Entry, build_manifest, fetch_dataset, sha256
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.storage import DirectoryStorage
from mlops_pipeline.timing import Timings

MIB = 2**20
WRITES = """
import pathlib, sys, time
with (pathlib.Path(sys.argv[1]) / "much").open("wb") as stream:
    for _turn in range(int(sys.argv[2])):
        stream.write(bytes([7]) * 2**20)
        stream.flush()
time.sleep(float(sys.argv[3]))
"""
TEXT = """
name: greedy
entry_points:
  prepare:
    parameters: {output: path, mib: float, after: float}
    command: "python writes.py {output} {mib} {after}"
"""


@pytest.fixture(name="greedy")
def _greedy(tmp_path: Path) -> project.Project:
    folder = tmp_path / "greedy"
    folder.mkdir()
    (folder / "MLproject").write_text(TEXT)
    (folder / "writes.py").write_text(WRITES)
    (folder / "requirements.txt").write_text("six==1.17.0 --hash=sha256:" + "0" * 64 + "\n")
    return project.load_project(folder)


def run(code: project.Project, output: Path, mib: int, after: int, most: int) -> None:
    values = {"output": output, "mib": mib, "after": after}
    project.run(code, "prepare", values, sys.executable, 1200, most)


def test_what_is_written_within_the_bound_is_no_matter(
    greedy: project.Project, tmp_path: Path
) -> None:
    run(greedy, tmp_path, 3, 0, 8)
    assert (tmp_path / "much").stat().st_size == 3 * MIB


@pytest.mark.parametrize("after", [0, 1000])
def test_a_project_that_writes_more_is_ended(
    greedy: project.Project, tmp_path: Path, after: int
) -> None:
    started = time.monotonic()
    with pytest.raises(PipelineError) as refusal:
        run(greedy, tmp_path, 12, after, 8)
    assert time.monotonic() - started < 500  # it would have gone on for a thousand
    assert str(refusal.value) == (
        "The entry point prepare of greedy was ended: its files take 12 MiB of disk, above the 8 "
        "MiB that a step may take (disk_max_mib of the configuration; in the inventory "
        "pipeline_disk_max_mib, for timers pipelines_disk_max_mib)."
    )


def test_a_hole_in_a_file_takes_no_disk(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(64 * MIB)
    (tmp_path / "dangling").symlink_to("/nowhere")
    assert disk.used([tmp_path]) < MIB
    (tmp_path / "full").write_bytes(b"x" * MIB)
    assert disk.used([tmp_path]) >= MIB


def left(monkeypatch: pytest.MonkeyPatch, mib: int) -> None:
    found = shutil.disk_usage("/")._replace(free=mib * MIB)
    monkeypatch.setattr("mlops_pipeline.disk.shutil.disk_usage", lambda _path: found)


def test_a_disk_that_fills_up_ends_the_project(
    greedy: project.Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left(monkeypatch, 100)
    with pytest.raises(PipelineError, match="has 100 MiB of disk left, wanted at least 256; free"):
        run(greedy, tmp_path, 1, 0, 8)
    assert not (tmp_path / "much").exists()


def test_data_are_not_fetched_to_a_disk_without_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = DirectoryStorage(str(tmp_path / "stored"))
    manifest = build_manifest("demo", {}, [Entry("big", 300 * MIB, "0" * 64)])
    storage.write(f"{sha256(manifest)}/manifest.json", manifest)
    left(monkeypatch, 500)
    with pytest.raises(PipelineError, match=r"takes 300 MiB and .* has 500 MiB of disk left, of w"):
        fetch_dataset(storage, sha256(manifest), tmp_path)


def config(**options: Any) -> Config:
    return Config(Section(options, "config.json"), {})


def test_a_source_larger_than_the_bound_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "here").mkdir()
    for name in ("a", "b"):
        (tmp_path / "source" / name).write_bytes(b"x" * (MIB + 1))
    with pytest.raises(PipelineError, match="has 2 MiB or more, above the 2 MiB that a step may"):
        sources.fetch(config(source=str(tmp_path / "source"), disk_max_mib=2), tmp_path / "here")
    assert [each.name for each in (tmp_path / "here").iterdir()] == ["a"]


def test_the_bound_of_the_configuration_counts(
    greedy: project.Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project, "python_of", lambda *_words: sys.executable)
    given = {"project": str(greedy.folder), "data_uri": str(tmp_path / "stored")}
    parameters = {"prepare": {"mib": 4, "after": 0}}
    with pytest.raises(PipelineError, match="its files take 4 MiB of disk, above the 2 MiB"):
        prepare.run(config(**given, parameters=parameters, disk_max_mib=2), Timings())
    assert not (tmp_path / "stored").exists()
    assert prepare.run(config(**given, parameters=parameters), Timings())["bytes"] == 4 * MIB
    with pytest.raises(PipelineError, match="disk_max_mib: found 0, wanted 1 or more"):
        prepare.run(config(**given, parameters=parameters, disk_max_mib=0), Timings())


def test_a_model_larger_than_devices_take_is_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "written").mkdir()
    source = Path(__file__).resolve().parents[2] / "fixtures/release"
    for name in ("model.onnx", "golden.json"):
        shutil.copy(source / name, tmp_path / "written")
    with (tmp_path / "written/model.onnx").open("ab") as stream:
        # A field that nobody knows (number 100, of bytes), as large as it says.
        stream.write(b"\xa2\x06\x80\x80\x80\x01" + b"\0" * (2 * MIB))
    given = config(model_name="demo", limits={"release_max_mib": 1})
    with pytest.raises(PipelineError, match=r"2\.\d MiB, more than the 1 MiB that devices"):
        train.settle(tmp_path / "written", tmp_path / "candidate", given, "v")
    assert not (tmp_path / "candidate").exists()
    left(monkeypatch, 257)
    given = config(model_name="demo", limits={"release_max_mib": 4})
    with pytest.raises(PipelineError, match=r"A copy of the model takes 2 MiB and .* has 257 MiB"):
        train.settle(tmp_path / "written", tmp_path / "candidate", given, "v")
