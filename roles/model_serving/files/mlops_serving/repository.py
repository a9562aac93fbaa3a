# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of a device: each loads, fails and goes on its own.

A model has the directory ``models/<name>`` with the links ``current`` and ``previous`` to releases.
The links of the layout before, with one model, lay in the root itself and are read as well.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from .protocol import ProtocolError
from .release import ReleaseError, versions_of

logger = logging.getLogger("kserve")
NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Series(Protocol):
    """What the repository tells the metrics."""

    def announce(self, name: str, version: str, digest: str, run_id: str, now: float) -> None:
        """Speak of this version of a model from now on."""

    def forget(self, name: str) -> None:
        """Speak of a model no longer."""

    def failed(self) -> None:
        """Count a release that could not be loaded."""


Build = Callable[[Path], Any]
"""Makes a model of a release's directory, or raises a ReleaseError."""


def name_in(directory: Path) -> str:
    """Read which model the links of the layout before belong to."""
    for link in ("current", "previous"):
        try:
            manifest = json.loads((directory / link / "manifest.json").read_bytes())
            return str(manifest["annotations"]["org.mlops.model.name"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return ""


class ReleaseRepository:
    """Holds the models of the active releases, and nothing before the first one."""

    def __init__(
        self, root: Path, build: Build, metrics: Series, changed: Callable[[], None]
    ) -> None:
        self.root = root
        self.models: dict[str, Any] = {}
        self.failures: dict[str, str] = {}
        self.metrics = metrics
        self._build = build
        self._changed = changed
        self._loading = asyncio.Lock()

    # -- what lies on the disk ----------------------------------------------------------------

    def places(self) -> dict[str, Path]:
        """Find the directory of every model that has a release."""
        found = {
            link.parent.name: link.parent
            for link in sorted(self.root.glob("models/*/current"))
            if link.is_symlink() and NAME.fullmatch(link.parent.name)
        }
        if (self.root / "current").is_symlink():
            found.setdefault(name_in(self.root), self.root)
        return found

    # -- what is served -----------------------------------------------------------------------

    def find(self, name: str, version: str | None = None) -> Any:
        """Find a model that answers."""
        model = self.models.get(name)
        if model is None:
            if name in self.failures:
                raise ProtocolError(503, f"The model {name} cannot be served here.")
            known = ", ".join(sorted(self.models)) or "none"
            raise ProtocolError(404, f"There is no model of this name here; there is {known}.")
        if version is not None and version not in versions_of(model.version):
            raise ProtocolError(
                404, f"The model {name} is served here in version {model.version} alone."
            )
        return model

    def unready(self) -> list[str]:
        """Name the models with a release of which none is served."""
        return sorted(name for name in self.places() if name not in self.models)

    def describe(self) -> dict[str, Any]:
        """Say which releases answer and what failed; for one model also as it was always said."""
        models = {
            name: {
                "digest": model.release.digest,
                "model_version": model.version,
                "run_id": model.release.run_id,
                "loaded_at": model.loaded_at,
                "settings": model.settings.as_dict(),
                "failure": self.failures.get(name),
            }
            for name, model in self.models.items()
        }
        for name, failure in self.failures.items():
            empty = {"digest": None, "model_version": None, "run_id": None, "loaded_at": None}
            models.setdefault(name, {**empty, "failure": failure})
        if len(models) == 1:
            ((name, only),) = models.items()
            always = {key: value for key, value in only.items() if key != "settings"}
            return {"models": models, "model_name": name, **always}
        failures = " ".join(self.failures[name] for name in sorted(self.failures))
        return {"models": models, "digest": None, "failure": failures or None}

    def _swap(self, model: Any) -> None:
        # The old model finishes the requests that hold it; no request finds the name missing.
        model.loaded_at = time.time()
        release = model.release
        self.models[model.name] = model
        self.failures.pop(model.name, None)
        self.metrics.announce(
            model.name, model.version, release.digest, release.run_id, model.loaded_at
        )
        self._changed()
        logger.info("Serving %s version %s", model.name, model.version)

    def _failed(self, name: str, error: Exception) -> None:
        self.metrics.failed()
        logger.error("%s", error)
        self.failures[name] = str(error)

    def _make(self, name: str, link: Path) -> Any:
        model = self._build(link.resolve())
        if name and model.name != name:
            raise ReleaseError(f"The active release is the model {model.name}, not {name}.")
        return model

    def load_at_start(self) -> None:
        """Serve what is active; where that does not work, what was active before it."""
        for name, place in self.places().items():
            failed = ""
            for link in ("current", "previous"):
                if not (place / link).is_symlink():
                    continue
                try:
                    self._swap(self._make(name, place / link))
                except ReleaseError as error:
                    self._failed(name, error)
                    failed = failed or str(error)
                else:
                    break
            if failed:
                self.failures[name] = failed

    async def load(self, name: str) -> None:
        """Read ``current`` again; the model before answers until the new one has proved itself."""
        async with self._loading:
            places = self.places()
            # The layout before has one place, whatever model its links lead to.
            older = next((path for path in places.values() if path == self.root), None)
            place = places.get(name, older)
            if place is None:
                raise ProtocolError(404, f"No release of a model {name[:128]} is active here.")
            served = self.models.get(name)
            if served is None or served.release.directory != (place / "current").resolve():
                try:
                    self._swap(await asyncio.to_thread(self._make, name, place / "current"))
                except ReleaseError as error:
                    self._failed(name, error)
                    raise ProtocolError(503, str(error)) from error
            self.failures.pop(name, None)
            if place == self.root:
                for gone in [other for other in self.models if other not in self.places()]:
                    self._drop(gone)
                self.failures.pop("", None)

    def _drop(self, name: str) -> None:
        self.failures.pop(name, None)
        if self.models.pop(name, None) is not None:
            self.metrics.forget(name)
            self._changed()
            logger.info("No longer serving %s", name)

    async def unload(self, name: str) -> None:
        """Stop serving a model whose ``current`` is gone."""
        async with self._loading:
            if name in self.places():
                raise ProtocolError(
                    409,
                    f"A release of the model {name} is active here; models are not unloaded while "
                    "one is. Take the model from the device first.",
                )
            self._drop(name)
