# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: PLC0415 - the environment has to be complete before MLflow is imported
"""Remove for good what people have deleted in the model registry long enough ago.

MLflow only marks runs, models and experiments as deleted; their files stay until ``mlflow gc``,
which needs its server, stops at the first thing that cannot be removed, leaves the models that a
deleted run has logged, and removes what versions of registered models refer to. Here files are
removed from the object store itself, then what is said of them from the database, so that the next
run goes on where one was killed. What a version of a registered model refers to stays.

Everything is configured by the environment of the server, and by MODEL_REGISTRY_DELETED_DAYS.
"""

from __future__ import annotations

import logging
import os
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

DAY_MS = 24 * 60 * 60 * 1000
SCHEME = "mlflow-artifacts"
PAGE = 1000
log = logging.getLogger("tidy")


def pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    """Everything that is told page by page."""
    token = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return


def place_of(uri: str, destination: str) -> str:
    """Where the server keeps the files of an artifact's URI; empty if it is not the server's."""
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme == SCHEME:
        path = parts.path.strip("/")
        if not path or ".." in path.split("/"):
            return ""
        return f"{destination.rstrip('/')}/{path}"
    return uri if uri.startswith(destination.rstrip("/") + "/") else ""


class References:
    """What versions of registered models refer to: runs, models, and where their files are."""

    def __init__(self, versions: Iterable[Any]) -> None:
        self._texts = [
            " ".join(str(each or "") for each in (one.run_id, one.source, one.model_id))
            for one in versions
        ]

    def hold(self, name: str) -> bool:
        """Say whether a version refers to a run or a model by its id, which are random."""
        return any(name in text for text in self._texts)


class Tidy:
    """One look at everything that is deleted."""

    def __init__(
        self, store: Any, references: References, remove: Callable[[str], None], days: float
    ) -> None:
        self._store = store
        self._references = references
        self._remove = remove
        self._older = int(days * DAY_MS)
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        """Remove runs with their models, then models, then experiments."""
        for run in sorted(self._store._get_deleted_runs(older_than=self._older)):
            logged = self._models_of(run)
            self._settle(
                "run", run, [run, *logged], lambda run=run, logged=logged: self._run(run, logged)
            )
        for model in sorted(self._store._get_deleted_logged_models(older_than=self._older)):
            self._settle("model", model, [model], lambda model=model: self._model(model))
        self._experiments()

    def _settle(self, kind: str, name: str, ids: list[str], work: Callable[[], None]) -> None:
        """Remove one that nothing refers to; one that fails does not keep the others."""
        if any(self._references.hold(each) for each in ids):
            self.counts["kept"] += 1
            return
        try:
            work()
        except Exception as error:
            self.counts["failed"] += 1
            said = " ".join(str(error).split())[:300]
            log.error("The %s %s was not removed: %s", kind, name, said)
        else:
            self.counts[kind] += 1

    def _models_of(self, run: str) -> list[str]:
        experiment = self._store.get_run(run).info.experiment_id
        found = pages(
            lambda token: self._store.search_logged_models([experiment], page_token=token)
        )
        return [each.model_id for each in found if each.source_run_id == run]

    def _model(self, name: str) -> None:
        found = self._store.get_logged_model(name, allow_deleted=True)
        self._remove(found.artifact_location)
        self._store._hard_delete_logged_model(name)

    def _run(self, name: str, logged: list[str]) -> None:
        found = self._store.get_run(name).info
        if found.lifecycle_stage != "deleted":
            return  # restored since
        for model in logged:
            self._model(model)
        self._remove(found.artifact_uri)
        self._store._hard_delete_run(name)

    def _experiments(self) -> None:
        """Those that are empty by now; what is left in one is somebody's."""
        from mlflow.entities import ViewType
        from mlflow.utils.time import get_current_time_millis

        before = get_current_time_millis() - self._older
        found = pages(
            lambda token: self._store.search_experiments(
                view_type=ViewType.DELETED_ONLY,
                filter_string=f"last_update_time < {before}",
                max_results=PAGE,
                page_token=token,
            )
        )
        for name in [each.experiment_id for each in found]:
            left = self._store.search_runs([name], "", ViewType.ALL, 1)
            models = self._store.search_logged_models([name], max_results=1)
            if left or models:
                self.counts["kept"] += 1
            else:
                self._settle(
                    "experiment",
                    name,
                    [],
                    lambda name=name: self._store._hard_delete_experiment(name),
                )


def remover(destination: str) -> Callable[[str], None]:
    """What removes the files of an artifact's URI; those that are not the server's stay."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    def remove(uri: str) -> None:
        place = place_of(uri, destination)
        if place:
            get_artifact_repository(place).delete_artifacts()
        else:
            log.warning("The files at %s are not the registry's and stay", uri)

    return remove


def main() -> int:
    """Look once; 1 where something could not be removed."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    log.setLevel(logging.INFO)
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Models
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Experiments

    uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
    destination = os.environ["MLFLOW_ARTIFACTS_DESTINATION"]
    store, registry = Experiments(uri, f"{SCHEME}:/"), Models(uri)
    versions = pages(
        lambda token: registry.search_model_versions(max_results=PAGE, page_token=token)
    )
    days = float(os.environ["MODEL_REGISTRY_DELETED_DAYS"])
    tidy = Tidy(store, References(versions), remover(destination), days)
    tidy.run()
    words = ("run", "model", "experiment", "kept", "failed")
    log.info("Removed for good: %s", ", ".join(f"{word} {tidy.counts[word]}" for word in words))
    return int(tidy.counts["failed"] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
