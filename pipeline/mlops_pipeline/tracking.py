# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model registry: MLflow over its gateway."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .config import Config
from .errors import PipelineError

MODEL_FILE = "model.onnx"
GOLDEN_FILE = "golden.json"
CONFIG_FILE = "config.json"
RELEASE_FOLDER = "release"

TAG_EVALUATION = "mlops.evaluation"
TAG_DATA = "mlops.data_version"
TAG_DIGEST = "mlops.release_digest"
TAG_PROJECT = "mlops.project_digest"
TAG_COMMIT = "mlops.project_commit"
TAG_LOCK = "mlops.lock_digest"
TAG_CANDIDATE = "mlops.candidate"
TAG_CHAMPION = "mlops.champion_digest"


def connect(config: Config) -> Any:
    """Point MLflow's client at the registry; credentials stay in this process's environment."""
    options = config.options.section("mlflow")
    settings = {
        "MLFLOW_TRACKING_URI": options.text("url"),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "GIT_PYTHON_REFRESH": "quiet",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    if options.text("user", "-") != "-":
        settings["MLFLOW_TRACKING_USERNAME"] = options.text("user")
        settings["MLFLOW_TRACKING_PASSWORD"] = config.secret("PIPELINE_MLFLOW_PASSWORD")
    ca_file = options.text("ca_file", "-")
    if ca_file != "-":
        settings["MLFLOW_TRACKING_SERVER_CERT_PATH"] = ca_file
    os.environ.update(settings)
    import mlflow

    return mlflow


class Later:
    """MLflow's client, loaded while something else is done."""

    def __init__(self, config: Config) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._loaded = self._pool.submit(connect, config)

    def get(self) -> Any:
        """Return the client; raise what went wrong."""
        self._pool.shutdown(wait=True)
        return self._loaded.result()


@contextlib.contextmanager
def sentences(what: str) -> Iterator[None]:
    """Turn what MLflow's client raises into a sentence."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:  # the client raises MlflowException, requests' and urllib3's errors
        text = " ".join(str(error).split())[:400]
        raise PipelineError(f"The model registry did not let us {what}: {text}") from None
