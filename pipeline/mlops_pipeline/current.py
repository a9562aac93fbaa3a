# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the release that was published last, or the one that is named; change nothing.

The model registry only gives a hint. Signature and evaluation are verified here as devices do it.
What names another site, model or key is refused. Where nothing can be verified, as with a release
signed before there were claims or without any key of the site, there is no current release, and
the answer says why (unverified): whoever asks makes a new one.

Asks the model registry over its REST interface: importing MLflow's client takes longer than all
the rest.
"""

from __future__ import annotations

import base64
import urllib.parse
from dataclasses import dataclass
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._release.client import (
    Deadline,
    Interrupted,
    RegistryClient,
    read_all,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.oci import (
    check_digest,
    read_json,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.release import (
    GOLDEN_FILE,
    Release,
    parse_release,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.signature import (
    Expected,
    check_names,
    judge,
    read_signatures,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.web import WebTransport

from .config import Config
from .errors import PipelineError
from .publish import keep_golden, open_registry
from .signing import attested, site_ring
from .timing import Timings
from .tracking import TAG_DIGEST

MAX_ANSWER_BYTES = 1024 * 1024


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
    try:
        answer = WebTransport("" if ca_file == "-" else ca_file)("GET", url, headers)
        data = read_all(answer, MAX_ANSWER_BYTES, "the question for the last release", Deadline(0))
    except (Interrupted, RegistryError) as error:
        raise PipelineError(f"The model registry does not answer: {error}") from None
    try:
        value = read_json(data, "answer")
    except RegistryError:
        value = {}
    value = value if isinstance(value, dict) else {}
    found = value.get("model_version")
    if answer.status == 200 and isinstance(found, dict):
        return found
    # An unknown model and an unknown alias are answered differently by different versions.
    if value.get("error_code") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
        return None
    raise PipelineError(
        f"The model registry did not let us look for the last release: HTTP {answer.status} "
        f"{one_line(value.get('message'))}".rstrip()
    )


def one_line(text: Any) -> str:
    """Return what a server says as it may stand in a sentence."""
    words = " ".join(str(text or "")[:1000].split())
    return "".join(each for each in words if each.isprintable())[:300]


def tagged_digest(version: dict[str, Any]) -> str:
    """Return the digest that the model registry has noted for a version, nothing without one."""
    tags = version.get("tags")
    for tag in tags if isinstance(tags, list) else []:
        if isinstance(tag, dict) and tag.get("key") == TAG_DIGEST:
            return str(tag.get("value") or "")
    return ""


def check_trust(config: Config, registry: RegistryClient, release: Release) -> str:
    """Refuse a release that the devices of this site would refuse, or that nobody has judged.

    Returns why it cannot be told, nothing where it is trusted.
    """
    ring = site_ring(config)
    if ring is None:
        return "No key of the site is known here (release_keys)."
    name = release.model_name
    site = config.options.text("site", "-")
    expected = Expected(None if site in ("", "-") else site, registry.reference, name)
    try:
        pairs = [each[1:] for each in read_signatures(registry, release.digest)]
        claims = judge(pairs, release.digest, ring, expected).claims
        if claims is None:
            return (
                f"The signature of {release.digest} does not say for which site and model it was "
                "made, as those of earlier versions do not."
            )
        check_names(claims, name, release.model_version)
        if claims.statement:
            files = {file: blob.digest for file, blob in release.files.items()}
            attested(registry, release.digest, files, ring, claims.statement)
    except RegistryError as error:
        raise PipelineError(
            f"The model registry names {release.digest} as the release of {name}. {error} Publish "
            "the model again (make pipeline), or give the alias to a version that was published "
            "here."
        ) from None
    return ""


def find_manifest(config: Config, name: str, digest: str) -> tuple[RegistryClient, bytes | None]:
    """Find a release in the repository of its model, or in the one that all models once shared."""
    registry = open_registry(config, name)
    manifest = registry.manifest(digest)
    if manifest is None:
        registry = open_registry(config)
        manifest = registry.manifest(digest)
    return registry, manifest


@dataclass(frozen=True)
class Last:
    """The release that was published last, or none, and then maybe why."""

    release: Release | None = None
    registry: RegistryClient | None = None
    unverified: str = ""


def find_last(config: Config, timings: Timings, name: str) -> Last:
    """Find the last release of a model that the site has signed. May raise ``RegistryError``.

    Where the devices were brought to one by a rollout (``release``), it is that one.
    """
    digest = config.options.text("release", "-")
    if digest == "-":
        with timings.measure("ask the registry"):
            version = aliased_version(config, name, config.options.text("alias", "champion"))
        digest = tagged_digest(version or {})
    if not digest:
        return Last()
    with timings.measure("read the release"):
        registry, manifest = find_manifest(config, name, check_digest(digest))
        if manifest is None:
            return Last()
        release = parse_release(manifest)
        if release.model_name != name:
            raise PipelineError(
                f"The model registry names {digest} as the release of {name}; it is one of "
                f"{release.model_name}."
            )
        unverified = check_trust(config, registry, release)
    return Last(unverified=unverified) if unverified else Last(release, registry)


def run(config: Config, timings: Timings, golden: str | None = None) -> dict[str, Any]:
    """Find the release; a digest of None says that there is none that counts."""
    name = config.options.text("model_name")
    alias = config.options.text("alias", "champion")
    try:
        last = find_last(config, timings, name)
        release, registry = last.release, last.registry
        if release is None or registry is None:
            none = {"changed": False, "digest": None}
            return {**none, "unverified": last.unverified} if last.unverified else none
        if golden:
            with timings.measure("read the release"):
                keep_golden(golden, registry.small_blob(release.files[GOLDEN_FILE]))
    except RegistryError as error:
        raise PipelineError(str(error)) from None
    return {
        "changed": False,
        "digest": release.digest,
        "model_name": name,
        "model_version": release.model_version,
        "run_id": release.run_id,
        "alias": alias,
        "bytes": release.size,
    }
