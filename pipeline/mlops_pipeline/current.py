# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the release that was published last, with its golden answers; change nothing.

Asks the model registry over its REST interface: importing MLflow's client takes longer than all
the rest.
"""

from __future__ import annotations

import base64
import json
import urllib.parse
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._release.client import (
    Interrupted,
    RegistryClient,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.release import (
    GOLDEN_FILE,
    parse_release,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.web import WebTransport

from .config import Config
from .errors import PipelineError
from .publish import keep_golden, open_registry
from .timing import Timings
from .tracking import TAG_DIGEST


def aliased_version(config: Config, name: str, alias: str) -> dict[str, Any] | None:
    """Return the version of a model that bears an alias; None if there is none."""
    options = config.options.section("mlflow")
    ca_file = options.text("ca_file", "-")
    headers = {"accept": "application/json"}
    if options.text("user", "-") != "-":
        pair = f"{options.text('user')}:{config.secret('PIPELINE_MLFLOW_PASSWORD')}"
        headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    query = urllib.parse.urlencode({"name": name, "alias": alias})
    url = f"{options.text('url').rstrip('/')}/api/2.0/mlflow/registered-models/alias?{query}"
    data = b""
    try:
        answer = WebTransport("" if ca_file == "-" else ca_file)("GET", url, headers)
        while part := answer.read(65536):
            data += part
        answer.close()
        value = json.loads(data)
    except (Interrupted, RegistryError) as error:
        raise PipelineError(f"The model registry does not answer: {error}") from None
    except ValueError:
        value = {}
    if answer.status == 200 and "model_version" in value:
        found: dict[str, Any] = value["model_version"]
        return found
    # An unknown model and an unknown alias are answered differently by different versions.
    if value.get("error_code") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
        return None
    raise PipelineError(
        f"The model registry did not let us look for the last release: HTTP {answer.status} "
        f"{value.get('message', '')}".rstrip()
    )


def find_manifest(config: Config, name: str, digest: str) -> tuple[RegistryClient, bytes | None]:
    """Find a release in the repository of its model, or in the one that all models once shared."""
    registry = open_registry(config, name)
    manifest = registry.manifest(digest)
    if manifest is None:
        registry = open_registry(config)
        manifest = registry.manifest(digest)
    return registry, manifest


def run(config: Config, timings: Timings, golden: str | None = None) -> dict[str, Any]:
    """Find the release; a digest of None says that there is none."""
    name = config.options.text("model_name")
    alias = config.options.text("alias", "champion")
    none = {"changed": False, "digest": None}
    with timings.measure("ask the registry"):
        version = aliased_version(config, name, alias)
    tags = {tag["key"]: tag["value"] for tag in (version or {}).get("tags", [])}
    digest = tags.get(TAG_DIGEST)
    if version is None or not digest:
        return none
    try:
        with timings.measure("read the release"):
            registry, manifest = find_manifest(config, name, digest)
            if manifest is None:
                return none
            release = parse_release(manifest)
            if release.model_name != name:
                raise PipelineError(
                    f"The model registry names {digest} as the release of {name}; it is one of "
                    f"{release.model_name}."
                )
            if golden:
                keep_golden(golden, registry.small_blob(release.files[GOLDEN_FILE]))
    except RegistryError as error:
        raise PipelineError(str(error)) from None
    return {
        "changed": False,
        "digest": digest,
        "model_name": name,
        "model_version": str(version["version"]),
        "run_id": version.get("run_id", ""),
        "alias": alias,
        "bytes": release.size,
    }
