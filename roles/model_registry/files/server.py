# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: PLC0415 - the environment has to be complete before MLflow is imported
"""The model registry's server: MLflow behind uvicorn, as quick to come back as it can be.

MLflow's own command imports everything twice, once in the command and once in each worker, which
takes half a minute. Here everything is imported once. The databases are brought up to date and the
administrator is created before the first request is answered.

It listens on sockets that only nginx may reach: what speaks to it has passed the gateway, and
other users of the host cannot. Several of these servers run beside one another, so that one may
end, or be replaced, while another answers.

Everything is configured by environment variables, so that no secret is ever an argument.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from admission import Admission, turns
from guard import Guard, Tries
from rights import apply as apply_rights

SOCKET = os.environ["MODEL_REGISTRY_SOCKET"]
METRICS_SOCKET = os.environ["MODEL_REGISTRY_METRICS_SOCKET"]
WRONG_PASSWORDS = int(os.environ["MODEL_REGISTRY_WRONG_PASSWORDS"])
CONNECTIONS = int(os.environ["MODEL_REGISTRY_CONNECTIONS"])
# Requests about accounts open one session each, so that any number of connections is enough.
ACCOUNT_CONNECTIONS = int(os.environ["MODEL_REGISTRY_ACCOUNT_CONNECTIONS"])
# Any number that all servers of the platform agree on: they wait for each other's migrations.
ADVISORY_LOCK = 0x6D6C666C
log = logging.getLogger("uvicorn.error")


def translate_environment() -> None:
    """Tell MLflow's application what its command would have told it."""
    os.environ.update(
        {
            "_MLFLOW_SERVER_FILE_STORE": os.environ["MLFLOW_BACKEND_STORE_URI"],
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": os.environ["MLFLOW_ARTIFACTS_DESTINATION"],
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_STATIC_PREFIX": os.environ["MLFLOW_STATIC_PREFIX"],
            "_MLFLOW_SGI_NAME": "uvicorn",
            "_MLFLOW_AUTH_ADMIN_BOOTSTRAPPED": "true",
            "_MLFLOW_IN_JOB_EXECUTOR": "false",
            "MLFLOW_ENABLE_WORKSPACES": "false",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
    )


def forget_ended_servers() -> None:
    """Each server keeps its counters in files named after its process."""
    for path in Path(os.environ["prometheus_multiproc_dir"]).glob("*_*.db"):  # noqa: SIM112
        process = path.stem.rpartition("_")[2]
        if not Path("/proc", process).exists():
            path.unlink(missing_ok=True)


def limit_connections(most: int) -> None:
    """The size of the pools that are made from now on; half of it stays connected."""
    kept = max(most // 2, 1)
    os.environ["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"] = str(kept)
    os.environ["MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW"] = str(most - kept)


@contextlib.contextmanager
def alone(uri: str) -> Iterator[None]:
    """Hold a lock of the database; it goes with the connection, so nothing stale is left."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({ADVISORY_LOCK})"))
        yield
    engine.dispose()


def prepare_databases() -> None:
    """Create or upgrade the schemas. A killed upgrade is undone by the database and done again."""
    from mlflow.server import auth
    from mlflow.store.db import utils

    uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
    limit_connections(ACCOUNT_CONNECTIONS)
    with alone(uri):
        engine = utils.create_sqlalchemy_engine_with_retry(uri)
        if utils._is_empty_database(engine):
            log.info("Creating the schema of the registry's database")
            utils._initialize_tables(engine)
        elif utils._get_schema_version(engine) != utils._get_latest_schema_revision():
            log.info("Upgrading the schema of the registry's database")
            utils._upgrade_db(engine)
        engine.dispose()
        auth.store.init_db(auth.auth_config.database_uri)
        set_administrator(auth)
        auth.store.engine.dispose()  # the application makes another one


def set_administrator(auth: types.ModuleType) -> None:
    """The configured password is the administrator's password, also after it was changed."""
    user, password = auth.auth_config.admin_username, auth.auth_config.admin_password
    if not auth.store.has_user(user):
        auth.create_admin_user(user, password)
    elif not auth.store.authenticate_user(user, password):
        log.info("Setting the administrator's password to the configured one")
        auth.store.update_user(user, password=password)


class Never:
    """No object is one of these."""


def share_connections() -> None:
    """One pool for experiments and models, and no more requests at once than it can serve."""
    from mlflow.store.db import utils
    from mlflow.store.model_registry import sqlalchemy_store as models
    from mlflow.store.tracking import sqlalchemy_store as experiments

    limit_connections(CONNECTIONS)
    models.SqlAlchemyStore._engine_map = experiments.SqlAlchemyStore._engine_map
    admission, make = Admission(turns(CONNECTIONS)), utils._get_managed_session_maker

    def make_admitted(*arguments: Any) -> Callable[..., Any]:
        return admission.wrap(make(*arguments))

    utils._get_managed_session_maker = make_admitted
    models._get_managed_session_maker = make_admitted


def say_nothing_of_usage_data() -> None:
    """The pages tell everybody that usage data are collected, also where that is switched off. They
    ask nothing but the browser's memory whether to: put the answer there before they look."""
    from mlflow.server import app

    remembered = {
        "mlflow.telemetry.info.alert.dismissed_v1": "true",
        "mlflow.settings.telemetry.enabled_v1": "false",
    }
    lines = "".join(
        f"localStorage.setItem({name!r},{value!r});" for name, value in remembered.items()
    )
    page = Path(str(app.static_folder), "index.html").read_text(encoding="utf-8")
    page = page.replace("<head>", f"<head><script>try{{{lines}}}catch(none){{}}</script>", 1)

    def serve() -> Any:
        return app.response_class(page, mimetype="text/html", headers={"Cache-Control": "no-cache"})

    app.view_functions["serve"] = serve


def open_stores() -> None:
    """Connect before the first request asks for it."""
    from mlflow.server import handlers

    share_connections()
    # Clients reach the gateway, not S3: do not offer them to go there with links.
    handlers.MultipartUploadMixin = handlers.MultipartDownloadMixin = Never
    uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
    handlers.initialize_backend_stores(uri, uri, "mlflow-artifacts:/")


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Listens on a socket. Whichever server is asked answers for all of them."""

    address_family = socket.AF_UNIX
    daemon_threads = True

    def server_bind(self) -> None:
        Path(METRICS_SOCKET).unlink(missing_ok=True)
        self.socket.bind(METRICS_SOCKET)
        Path(METRICS_SOCKET).chmod(0o666)  # its directory lets nobody in but nginx
        self.server_name, self.server_port = "localhost", 80
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        return self.socket.accept()[0], ("localhost", 0)


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing about each request."""


def serve_metrics() -> None:
    """Metrics on a socket of their own, which needs no account of the registry."""
    from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    ProcessCollector(registry=registry)
    server = MetricsServer((METRICS_SOCKET, 0), Quiet)
    server.set_app(make_wsgi_app(registry))
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


def serve() -> None:
    """Answer requests until asked to stop."""
    import uvicorn
    from mlflow.server import auth

    open_stores()
    limit_connections(ACCOUNT_CONNECTIONS)
    apply_rights(auth, Path(os.environ["HOME"]))
    application = auth.create_app()
    say_nothing_of_usage_data()
    if WRONG_PASSWORDS:
        key = os.environ["MLFLOW_FLASK_SERVER_SECRET_KEY"].encode()
        application = Guard(
            application, Tries(WRONG_PASSWORDS, Path(os.environ["HOME"], "known"), key)
        )
    config = uvicorn.Config(
        application,
        uds=SOCKET,
        access_log=False,  # the gateway logs requests
        proxy_headers=True,
        forwarded_allow_ips="*",
        server_header=False,
        date_header=False,  # the gateway writes one
        timeout_graceful_shutdown=10,
    )
    uvicorn.Server(config).run()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    translate_environment()
    forget_ended_servers()
    gc.disable()  # what is imported stays
    import mlflow.server.auth  # noqa: F401

    gc.freeze()
    gc.enable()
    prepare_databases()
    serve_metrics()
    serve()


if __name__ == "__main__":
    main()
