# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the model registry removes for good, and what it leaves; MLflow itself: tests/infra."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.unit.roles.test_model_registry import module

tidy = module("tidy")
S3 = "s3://models"


@pytest.fixture(autouse=True)
def _mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two names of MLflow that the program reads itself."""
    entities, clock = ModuleType("mlflow.entities"), ModuleType("mlflow.utils.time")
    entities.ViewType = SimpleNamespace(DELETED_ONLY=2, ALL=3)  # type: ignore[attr-defined]
    clock.get_current_time_millis = lambda: 10**9  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.setitem(sys.modules, "mlflow.utils.time", clock)


class Page(list[Any]):
    token: str | None = None


@dataclass
class Store:
    """As much of MLflow's store as is asked: runs and the models that they logged, by their ids."""

    runs: dict[str, str] = field(default_factory=dict)  # run: stage
    models: dict[str, str] = field(default_factory=dict)  # model: run
    deleted_models: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)

    def _get_deleted_runs(self, older_than: int) -> list[str]:
        self.asked.append(older_than)
        return [run for run, stage in self.runs.items() if stage != "active"]

    def _get_deleted_logged_models(self, older_than: int) -> list[str]:
        self.asked.append(older_than)
        return self.deleted_models

    def get_run(self, run: str) -> Any:
        return SimpleNamespace(
            info=SimpleNamespace(
                experiment_id="1",
                artifact_uri=f"mlflow-artifacts:/1/{run}/artifacts",
                lifecycle_stage="active" if self.runs[run] == "restored" else self.runs[run],
            )
        )

    def search_logged_models(self, experiments: list[str], **_words: Any) -> Page:
        assert experiments == ["1"]
        return Page(
            SimpleNamespace(model_id=model, source_run_id=run) for model, run in self.models.items()
        )

    def get_logged_model(self, model: str, allow_deleted: bool) -> Any:
        assert allow_deleted
        return SimpleNamespace(artifact_location=f"mlflow-artifacts:/1/models/{model}/artifacts")

    def search_runs(self, *_words: Any) -> list[str]:
        return [run for run in self.runs if run not in self.gone]

    def search_experiments(self, **_words: Any) -> Page:
        return Page([SimpleNamespace(experiment_id="1")])

    def _hard_delete_run(self, run: str) -> None:
        self.gone.append(run)

    def _hard_delete_logged_model(self, model: str) -> None:
        self.gone.append(model)
        self.models.pop(model, None)

    def _hard_delete_experiment(self, experiment: str) -> None:
        self.gone.append(f"experiment {experiment}")


def version(run: str = "", model: str = "", source: str = "") -> Any:
    return SimpleNamespace(run_id=run, model_id=model, source=source)


def looked(store: Store, *versions: Any, broken: str = "") -> tuple[list[str], Any]:
    """What lost its files, and the counts."""
    removed = []

    def remove(uri: str) -> None:
        if broken and broken in uri:
            raise OSError("the store\nis away")
        removed.append(tidy.place_of(uri, S3))

    work = tidy.Tidy(store, tidy.References(versions), remove, 30.0)
    work.run()
    return removed, work.counts


def test_a_run_goes_with_the_models_that_it_has_logged() -> None:
    store = Store({"r1": "deleted", "r2": "active"}, {"m1": "r1", "m2": "r2"})
    removed, counts = looked(store)
    assert removed == [f"{S3}/1/models/m1/artifacts", f"{S3}/1/r1/artifacts"]
    assert store.gone == ["m1", "r1"]
    assert store.asked == [30 * 24 * 3600 * 1000] * 2
    # Something is left in the experiment.
    assert (counts["run"], counts["kept"]) == (1, 1)


def test_an_experiment_goes_when_nothing_is_left_in_it() -> None:
    store = Store({"r1": "deleted"}, {"m1": "r1"})
    assert looked(store)[1]["experiment"] == 1
    assert store.gone == ["m1", "r1", "experiment 1"]


@pytest.mark.parametrize(
    "held",
    [
        version(run="r1"),
        version(model="m1"),
        version(source="models:/m1"),
        version(source="mlflow-artifacts:/1/r1/artifacts/model"),
    ],
)
def test_what_a_version_refers_to_stays(held: Any) -> None:
    store = Store({"r1": "deleted"}, {"m1": "r1"})
    removed, counts = looked(store, held)
    assert (removed, store.gone) == ([], [])
    assert counts["kept"] == 2  # the run, and its experiment
    store = Store({}, {"m1": "r9"}, deleted_models=["m1"])
    looked(store, version(model="m1"))
    assert store.gone == []


def test_what_was_restored_meanwhile_stays() -> None:
    store = Store({"r1": "restored"})
    assert looked(store)[0] == []
    assert store.gone == []


def test_one_that_cannot_be_removed_does_not_keep_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Store({"r1": "deleted", "r2": "deleted"})
    removed, counts = looked(store, broken="/r1/")
    assert removed == [f"{S3}/1/r2/artifacts"]
    assert store.gone == ["r2"]
    assert (counts["failed"], counts["run"]) == (1, 1)
    # A run stays as long as one of its models does.
    store = Store({"r1": "deleted"}, {"m1": "r1"})
    looked(store, broken="/m1/")
    assert store.gone == []
    assert "The run r1 was not removed: the store is away" in caplog.text


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("mlflow-artifacts:/1/r/artifacts", f"{S3}/1/r/artifacts"),
        ("mlflow-artifacts://ctl1/1/r/artifacts", f"{S3}/1/r/artifacts"),
        ("mlflow-artifacts:/", ""),
        ("mlflow-artifacts:/1/../2", ""),
        (f"{S3}/1/r", f"{S3}/1/r"),
        ("s3://models-of-others/1/r", ""),
        (S3, ""),
        ("/etc", ""),
    ],
)
def test_only_files_of_the_registry_are_removed(uri: str, place: str) -> None:
    assert tidy.place_of(uri, S3) == place
