# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point: KServe's REST server bound to loopback, no gRPC, one worker.

KServe's own ``ModelServer`` always binds every address; this builds the same application from
KServe's parts and sets the address and the routes.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import logging
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

# KServe parses sys.argv while it is imported; what we take must not reach it.
_parser = argparse.ArgumentParser(prog="mlops_serving", description=__doc__)
_where = _parser.add_mutually_exclusive_group(required=True)
_where.add_argument("--root", type=Path, help="directory with releases/ and models/")
_where.add_argument("--release", type=Path, help="directory of the one release to serve")
_parser.add_argument("--socket", type=Path, help="unix socket, in place of host and port")
_parser.add_argument("--host", default="127.0.0.1")
_parser.add_argument("--port", type=int, default=8080)
_parser.add_argument("--threads", type=int, default=1, help="threads of one inference")
_parser.add_argument("--parallel", type=int, default=1, help="inferences at the same time")
_parser.add_argument("--request-max-mib", type=int, default=8, help="largest request")
_parser.add_argument(
    "--memory-max-mib", type=int, default=512, help="memory at which the kernel ends the server"
)
_parser.add_argument(
    "--execution-provider",
    default="CPUExecutionProvider",
    help="of ONNX Runtime; what it cannot compute is computed by the processor",
)
_parser.add_argument("--clients", type=Path, help="file of those who may ask; without it everybody")
_parser.add_argument(
    "--drift-window-seconds", type=float, default=3600, help="shortest window of a verdict"
)
_parser.add_argument(
    "--drift-window-requests", type=int, default=500, help="least requests of a verdict"
)
_parser.add_argument(
    "--drift-false-alarms",
    type=float,
    default=0.1,
    help="false alarms of a model in thirty days; 0 does not compare with the profile at all",
)
_parser.add_argument(
    "--drift-features", type=int, default=5, help="features with series of their own"
)
_parser.add_argument(
    "--truth-requests", type=int, default=0, help="predictions kept until the truth is told"
)
_parser.add_argument("--samples", type=Path, help="file of the models of which requests are kept")
ARGUMENTS = _parser.parse_args()
sys.argv = sys.argv[:1]

from kserve import logging as kserve_logging  # noqa: E402
from kserve.model_server import app  # noqa: E402
from kserve.protocol.rest.server import RESTServer, metrics_handler  # noqa: E402
from prometheus_client import REGISTRY  # noqa: E402

from . import admission, application, metrics, routes  # noqa: E402
from .access import AccessError, read_clients  # noqa: E402
from .model import OnnxModel  # noqa: E402
from .release import read_release  # noqa: E402
from .repository import ReleaseRepository  # noqa: E402
from .samples import Samples, SamplesError, read_samples  # noqa: E402
from .settings import Settings  # noqa: E402

logger = logging.getLogger("kserve")
ORDINARY = 21
"""Memory that a byte of ordinary JSON takes: rows of numbers with a fraction."""


class LoopbackServer(RESTServer):  # type: ignore[misc]
    """KServe's REST server with the routes of ours alone.

    Its middleware logs two lines for each request, and its handlers a traceback for each mistake.
    """

    service: application.Service

    def _add_middlewares(self, app: Any) -> None:  # noqa: ARG002
        return

    def _add_exception_handlers(self, app: Any) -> None:
        routes.add_handlers(app, self.service)

    def _register_endpoints(self, app: Any) -> None:
        routes.add_routes(app, self.service)
        app.add_api_route("/metrics", metrics_handler, include_in_schema=False)


def settings_of() -> Settings:
    """How models are served whose releases do not say otherwise."""
    return Settings(
        ARGUMENTS.threads,
        ARGUMENTS.request_max_mib,
        ARGUMENTS.drift_window_seconds,
        ARGUMENTS.drift_window_requests,
        ARGUMENTS.drift_false_alarms,
        ARGUMENTS.drift_features,
        ARGUMENTS.truth_requests,
    )


def build(directory: Path, samples: Samples | None) -> OnnxModel:
    """Load a release and let it prove itself."""
    release, provider = read_release(directory), ARGUMENTS.execution_provider
    model = OnnxModel(release, settings_of(), provider, samples)
    cases = model.check_golden()
    logger.info("Golden answers of %s agree: %s", model.release.digest, cases)
    return model


def root_of() -> Path:
    """The directory with links to releases; for one release it is made beside the socket."""
    if ARGUMENTS.release is None:
        return Path(ARGUMENTS.root)
    if ARGUMENTS.socket is None:
        sys.exit("--release wants --socket, beside which a link to it is made.")
    name = read_release(ARGUMENTS.release.resolve()).model_name
    root = Path(ARGUMENTS.socket).parent / "served"
    link = root / "models" / name / "current"
    shutil.rmtree(root, ignore_errors=True)
    link.parent.mkdir(parents=True)
    link.symlink_to(ARGUMENTS.release.resolve())
    return root


def make_service() -> application.Service:
    """Put the parts together."""
    limits = application.Limits(
        ARGUMENTS.request_max_mib * admission.MIB, ARGUMENTS.memory_max_mib * admission.MIB
    )
    lanes = admission.Lanes()

    def weigh() -> None:
        """Share anew what is left, as models came or went; no large request is under way then."""
        admission.trim()
        lanes.resize(admission.share(limits.memory_max, admission.resident()))

    samples = read_samples(ARGUMENTS.samples, metrics.count_sample)
    builder = functools.partial(build, samples=samples)
    repository = ReleaseRepository(root_of(), builder, metrics.ServedModels(), weigh)
    REGISTRY.register(metrics.Drift(lambda: [*repository.models.values()]))
    repository.load_at_start()
    weigh()
    needed = ORDINARY * limits.request_max
    if needed > lanes.large.total:
        logger.warning(
            "Beside its models the server has %d MiB for a request; one of the largest size can "
            "take %d MiB and is refused then. Raise model_serving_memory_max_mib or lower "
            "model_serving_request_max_mib.",
            lanes.large.total // admission.MIB,
            needed // admission.MIB,
        )
    executor = ThreadPoolExecutor(ARGUMENTS.parallel, thread_name_prefix="infer")
    clients = read_clients(ARGUMENTS.clients)
    return application.Service(
        repository, clients, limits, lanes, executor, metadata.version("kserve"), samples
    )


def main() -> None:
    """Serve until told to stop."""
    kserve_logging.configure_logging()
    service = make_service()

    @asynccontextmanager
    async def lifespan(_app: Any) -> Any:
        if ARGUMENTS.socket is not None:
            yield
            return
        # nginx writes here, as to a syslog, what it answers without asking us.
        transport, _listener = await asyncio.get_running_loop().create_datagram_endpoint(
            metrics.FrontListener, local_addr=(ARGUMENTS.host, ARGUMENTS.port)
        )
        yield
        transport.close()

    app.title = "Model server"
    app.description = "Predictions by the Open Inference Protocol, version 2."
    app.router.lifespan_context = lifespan
    server = LoopbackServer(
        "kserve.model_server:app",
        None,
        None,
        ARGUMENTS.port,
        grace_period=10,
        event_loop="asyncio",
    )
    server.service = service
    server.config.host = ARGUMENTS.host
    if ARGUMENTS.socket is not None:
        ARGUMENTS.socket.unlink(missing_ok=True)
        server.config.uds = str(ARGUMENTS.socket)
    # A line for each request wears out a device's disk; the metrics count them.
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    server.run()


if __name__ == "__main__":
    if ARGUMENTS.socket is None:
        os.umask(0o077)
    try:
        main()
    except (AccessError, SamplesError) as error:
        sys.exit(str(error))
