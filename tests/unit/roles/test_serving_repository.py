# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several models in one server: each loads, fails and goes on its own; the older layout is read."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "roles/model_serving/files"))
release_module = importlib.import_module("mlops_serving.release")
settings_module = importlib.import_module("mlops_serving.settings")
repository_module = importlib.import_module("mlops_serving.repository")
ProtocolError = importlib.import_module("mlops_serving.protocol").ProtocolError


def put(
    root: Path, name: str, version: str, broken: bool = False, config: str = '{"tolerance": 0.5}'
) -> Path:
    """Write a release and return its directory."""
    files = {"model.onnx": version.encode(), "config.json": config.encode()}
    layers = [
        {
            "digest": "sha256:" + hashlib.sha256(data).hexdigest(),
            "annotations": {"org.opencontainers.image.title": file},
        }
        for file, data in files.items()
    ]
    notes = {"org.mlops.model.name": name, "org.mlops.model.version": version}
    manifest = json.dumps({"layers": layers, "annotations": notes}).encode()
    directory = root / "releases" / hashlib.sha256(manifest).hexdigest()
    directory.mkdir(parents=True)
    for file, data in {**files, "manifest.json": manifest}.items():
        (directory / file).write_bytes(data + b"x" * (broken and file == "model.onnx"))
    return directory


def link(place: Path, name: str, target: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    (place / name).unlink(missing_ok=True)
    (place / name).symlink_to(target)


class Metrics:
    def __init__(self) -> None:
        self.served: dict[str, str] = {}
        self.failures = 0

    def announce(self, name: str, version: str, *_more: Any) -> None:
        self.served[name] = version

    def forget(self, name: str) -> None:
        del self.served[name]

    def failed(self) -> None:
        self.failures += 1


def build(directory: Path) -> Any:
    release = release_module.read_release(directory)
    return SimpleNamespace(
        name=release.model_name,
        version=release.model_version,
        release=release,
        settings=settings_module.Settings().of(release.config),
        loaded_at=0.0,
    )


def started(root: Path) -> Any:
    repository = repository_module.ReleaseRepository(root, build, Metrics(), lambda: None)
    repository.load_at_start()
    return repository


def refused(step: Any) -> Any:
    with pytest.raises(ProtocolError) as refusal:
        asyncio.run(step)
    return refusal.value


def test_each_model_is_served_or_fails_on_its_own(tmp_path: Path) -> None:
    link(tmp_path / "models/a", "current", put(tmp_path, "a", "1"))
    link(tmp_path / "models/b", "current", put(tmp_path, "b", "1", broken=True))
    link(tmp_path / "models/c", "current", put(tmp_path, "c", "2", broken=True))
    link(tmp_path / "models/c", "previous", put(tmp_path, "c", "1"))
    repository = started(tmp_path)
    assert {name: model.version for name, model in repository.models.items()} == {
        "a": "1",
        "c": "1",
    }
    assert repository.unready() == ["b"]
    state = repository.describe()
    assert state["models"]["a"]["failure"] is None
    assert state["models"]["b"]["digest"] is None
    assert "the manifest says" in state["models"]["b"]["failure"]
    # What is served in place of a broken release does not hide that it is broken.
    assert state["models"]["c"]["model_version"] == "1"
    assert "the manifest says" in state["models"]["c"]["failure"]
    assert state["digest"] is None
    assert repository.metrics.served == {"a": "1", "c": "1"}
    assert repository.metrics.failures == 2
    with pytest.raises(ProtocolError) as refusal:
        repository.find("b")
    assert refusal.value.status == 503


def test_an_empty_device_is_ready(tmp_path: Path) -> None:
    repository = started(tmp_path)
    assert repository.unready() == []
    assert repository.describe() == {"models": {}, "digest": None, "failure": None}


def test_one_model_is_described_as_it_always_was(tmp_path: Path) -> None:
    directory = put(tmp_path, "a", "1")
    link(tmp_path / "models/a", "current", directory)
    state = started(tmp_path).describe()
    assert state["digest"] == f"sha256:{directory.name}"
    assert (state["model_name"], state["model_version"], state["failure"]) == ("a", "1", None)
    assert set(state) == {
        "models",
        "model_name",
        "digest",
        "model_version",
        "run_id",
        "loaded_at",
        "failure",
    }


def test_versions_other_than_the_served_one_are_not_found(tmp_path: Path) -> None:
    link(tmp_path / "models/a", "current", put(tmp_path, "a", "1"))
    repository = started(tmp_path)
    assert repository.find("a", "1").version == "1"
    for name, version in (("a", "2"), ("z", None)):
        with pytest.raises(ProtocolError) as refusal:
            repository.find(name, version)
        assert refusal.value.status == 404


def test_a_configuration_of_its_own_is_told_and_asked_by_the_version_of_the_model(
    tmp_path: Path,
) -> None:
    config = '{"serving": {"threads": 3}}'
    link(tmp_path / "models/a", "current", put(tmp_path, "a", "1-config.2", config=config))
    repository = started(tmp_path)
    for version in ("1", "1-config.2", None):
        assert repository.find("a", version).version == "1-config.2"
    with pytest.raises(ProtocolError):
        repository.find("a", "1-config.1")
    assert repository.describe()["models"]["a"]["settings"]["threads"] == 3


def test_a_release_with_a_configuration_that_nobody_knows_is_not_served(tmp_path: Path) -> None:
    config = '{"serving": {"threads": 0}}'
    link(tmp_path / "models/a", "current", put(tmp_path, "a", "1", config=config))
    failure = started(tmp_path).describe()["models"]["a"]["failure"]
    assert "serving.threads is '0', wanted a whole number from 1 to 64" in failure


def test_loading_swaps_one_model_and_leaves_the_others(tmp_path: Path) -> None:
    for name in ("a", "b"):
        link(tmp_path / "models" / name, "current", put(tmp_path, name, "1"))
    repository = started(tmp_path)
    link(tmp_path / "models/a", "current", put(tmp_path, "a", "2"))
    asyncio.run(repository.load("a"))
    assert repository.metrics.served == {"a": "2", "b": "1"}
    link(tmp_path / "models/a", "current", put(tmp_path, "a", "3", broken=True))
    refusal = refused(repository.load("a"))
    assert (refusal.status, "the manifest says" in str(refusal)) == (503, True)
    assert repository.find("a").version == "2"
    assert repository.describe()["models"]["a"]["failure"]


def test_a_release_of_another_model_is_refused(tmp_path: Path) -> None:
    link(tmp_path / "models/a", "current", put(tmp_path, "b", "1"))
    repository = started(tmp_path)
    assert repository.models == {}
    assert "is the model b, not a" in repository.describe()["failure"]


def test_a_model_goes_when_its_release_is_gone_and_not_before(tmp_path: Path) -> None:
    for name in ("a", "b"):
        link(tmp_path / "models" / name, "current", put(tmp_path, name, "1"))
    repository = started(tmp_path)
    assert refused(repository.unload("a")).status == 409
    (tmp_path / "models/a/current").unlink()
    asyncio.run(repository.unload("a"))
    asyncio.run(repository.unload("a"))
    assert repository.metrics.served == {"b": "1"}
    assert refused(repository.load("a")).status == 404


def test_the_layout_before_is_served_and_taken_over(tmp_path: Path) -> None:
    first = put(tmp_path, "a", "1")
    link(tmp_path, "current", first)
    repository = started(tmp_path)
    assert repository.find("a").version == "1"
    asyncio.run(repository.load("a"))
    # The only place holds another model now: what was served before goes with the swap.
    link(tmp_path, "current", put(tmp_path, "b", "1"))
    asyncio.run(repository.load("b"))
    assert repository.metrics.served == {"b": "1"}
    # The links move below models/; the release is the same, and nothing is loaded again.
    served = repository.find("b")
    (tmp_path / "models/b").mkdir(parents=True)
    (tmp_path / "current").rename(tmp_path / "models/b/current")
    asyncio.run(repository.load("b"))
    assert repository.find("b") is served


def test_a_broken_release_of_the_layout_before_is_named(tmp_path: Path) -> None:
    link(tmp_path, "current", tmp_path / "releases/none")
    repository = started(tmp_path)
    assert repository.unready() == [""]
    assert "cannot be read" in repository.describe()["failure"]


def test_names_that_are_none_are_not_looked_for(tmp_path: Path) -> None:
    link(tmp_path / "models/a b", "current", put(tmp_path, "a b", "1"))
    assert started(tmp_path).models == {}
    assert refused(started(tmp_path).load("../a b")).status == 404
