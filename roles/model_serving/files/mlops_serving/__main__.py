# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point: KServe's REST server bound to loopback, no gRPC, one worker.

KServe's own ``ModelServer`` always binds every address; this builds the same application from
KServe's parts and sets the address.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# KServe parses sys.argv while it is imported; what we take must not reach it.
_parser = argparse.ArgumentParser(prog="mlops_serving", description=__doc__)
_parser.add_argument(
    "--root", type=Path, required=True, help="directory with releases/ and current"
)
_parser.add_argument("--host", default="127.0.0.1")
_parser.add_argument("--port", type=int, default=8080)
_parser.add_argument("--threads", type=int, default=1, help="threads of one inference")
_parser.add_argument("--parallel", type=int, default=1, help="inferences at the same time")
ARGUMENTS = _parser.parse_args()
sys.argv = sys.argv[:1]

from kserve import ModelRepository  # noqa: E402
from kserve import logging as kserve_logging  # noqa: E402
from kserve.errors import ModelNotReady  # noqa: E402
from kserve.logging import logger  # noqa: E402
from kserve.model_server import app  # noqa: E402
from kserve.protocol.dataplane import DataPlane  # noqa: E402
from kserve.protocol.model_repository_extension import ModelRepositoryExtension  # noqa: E402
from kserve.protocol.rest.server import RESTServer  # noqa: E402

from .model import LOAD_FAILURES, OnnxModel, ReleaseError, read_release  # noqa: E402


class ReleaseRepository(ModelRepository):  # type: ignore[misc]
    """Holds the model of the active release, and nothing before the first one."""

    def __init__(self, root: Path, threads: int, parallel: int) -> None:
        super().__init__(str(root))
        self.root = root
        self.threads = threads
        self.failure = ""
        self._executor = ThreadPoolExecutor(parallel, thread_name_prefix="infer")
        self._loading = asyncio.Lock()

    @property
    def served(self) -> OnnxModel | None:
        return next(iter(self.models.values()), None)

    def _build(self, link: str) -> OnnxModel:
        model = OnnxModel(read_release((self.root / link).resolve()), self.threads, self._executor)
        cases = model.check_golden()
        logger.info("Golden answers of %s agree: %s", model.release.digest, cases)
        return model

    def _swap(self, model: OnnxModel) -> None:
        # The old model finishes the requests that hold it; no request finds the name missing.
        model.announce(time.time())
        self.models[model.name] = model
        for name in [name for name in self.models if name != model.name]:
            del self.models[name]
        self.failure = ""
        logger.info("Serving %s version %s", model.name, model.release.model_version)

    def load_at_start(self) -> None:
        """Serve what is active; if that does not work, what was active before it."""
        for link in ("current", "previous"):
            if not (self.root / link).is_symlink():
                continue
            try:
                self._swap(self._build(link))
                return
            except ReleaseError as error:
                LOAD_FAILURES.inc()
                logger.error("%s", error)
                self.failure = str(error)

    async def load(self, name: str) -> bool:
        """Read ``current`` again; the model before answers until the new one has proved itself."""
        async with self._loading:
            target = (self.root / "current").resolve()
            if self.served is not None and self.served.release.directory == target:
                return True
            try:
                model = await asyncio.to_thread(self._build, "current")
                if model.name != name:
                    raise ReleaseError(f"The active release is the model {model.name}, not {name}.")
                self._swap(model)
            except ReleaseError as error:
                LOAD_FAILURES.inc()
                logger.error("%s", error)
                self.failure = str(error)
                raise
        return True

    def unload(self, name: str) -> None:
        """Only a release decides what is served."""
        raise ModelNotReady(name, "Models are not unloaded by request; activate a release.")


class ReleaseDataPlane(DataPlane):  # type: ignore[misc]
    """KServe's data plane that also says which version answers."""

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        metadata: dict[str, Any] = await super().model_metadata(model_name)
        model = self.get_model_from_registry(model_name)
        return {
            **metadata,
            "versions": [model.release.model_version],
            "platform": "onnxruntime_onnx",
        }

    async def ready(self) -> bool:
        """Empty before the first release is ready; a release that cannot be served is not."""
        repository = self.model_registry
        return repository.served is not None or not (repository.root / "current").is_symlink()


class LoopbackServer(RESTServer):  # type: ignore[misc]
    """KServe's REST server without its middleware, which logs two lines for each request."""

    def _add_middlewares(self, app: Any) -> None:  # noqa: ARG002
        return


def main() -> None:
    """Serve until told to stop."""
    kserve_logging.configure_logging()
    repository = ReleaseRepository(ARGUMENTS.root, ARGUMENTS.threads, ARGUMENTS.parallel)
    repository.load_at_start()

    @app.get("/release", include_in_schema=False)
    async def release() -> dict[str, Any]:
        served = repository.served
        if served is None:
            return {"digest": None, "failure": repository.failure or None}
        return {
            "digest": served.release.digest,
            "model_name": served.name,
            "model_version": served.release.model_version,
            "run_id": served.release.run_id,
            "loaded_at": served.loaded_at,
            "failure": repository.failure or None,
        }

    server = LoopbackServer(
        "kserve.model_server:app",
        ReleaseDataPlane(repository),
        ModelRepositoryExtension(repository),
        ARGUMENTS.port,
        grace_period=10,
        event_loop="asyncio",
    )
    server.config.host = ARGUMENTS.host
    # A line for each request wears out a device's disk; the metrics count them.
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    server.run()


if __name__ == "__main__":
    os.umask(0o077)
    main()
