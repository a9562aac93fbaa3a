# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 4: publish a candidate: exactly the bytes that were named, tried, judged and then signed.

The order is what protects: nothing is registered, pushed or signed before the same bytes were
loaded by the code of the model server, and the alias moves last.
"""

from __future__ import annotations

import io
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._release.client import RegistryClient
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.oci import (
    EMPTY,
    EMPTY_CONFIG,
    Descriptor,
    digest_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.release import (
    GOLDEN_FILE,
    MEDIA_TYPES,
    OTHER_TYPE,
    Release,
    build_manifest,
    parse_release,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.signature import (
    ONNX,
    Claims,
    Expected,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.web import WebTransport

from . import judgement as judgements
from . import register
from .candidate import PROFILE_FILE, Candidate, check_digest
from .config import Config
from .errors import PipelineError
from .fetched import fetched
from .judgement import Judgement
from .signing import Signer, attest, last_counter, open_signer, ring_of, sign_release, signed
from .timing import Timings
from .trial import Limits, Trial, trial


def open_registry(config: Config, name: str = "") -> RegistryClient:
    """Open the repository of a model; without a name the one that all models once shared."""
    options = config.options.section("registry")
    ca_file = options.text("ca_file", "-")
    prefix = options.text("repository", "models").strip("/")
    return RegistryClient(
        options.text("url"),
        f"{prefix}/{name}" if name else prefix,
        WebTransport("" if ca_file == "-" else ca_file, timeout=60.0),
        options.text("user"),
        config.secret("PIPELINE_REGISTRY_PASSWORD"),
        time.sleep,
    )


def keep_golden(path: str, data: bytes) -> None:
    """Write the golden answers where the check of the devices finds them."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(data)
    except OSError as error:
        raise PipelineError(f"The golden answers cannot be written to {path}: {error}.") from None


def judged(config: Config, candidate: Candidate, tried: Trial, file: Path | None) -> Judgement:
    """The judgement that is signed: that of ``evaluate``, held against today's thresholds.

    A model without thresholds is judged by its cases alone, which the trial has just compared.
    """
    thresholds = judgements.thresholds_of(config)
    margin = judgements.margin_of(config)
    tolerance = judgements.tolerance_of(config, candidate)
    place = file or judgements.default_place(candidate.digest)
    found = judgements.read(place, candidate.digest)
    gap = max(tried.gaps.values(), default=0.0)
    if found is None:
        if thresholds or file:
            raise PipelineError(
                f"The candidate {candidate.digest} has not passed its evaluation here (looked for "
                f"{place}); run the step evaluate first."
            )
        return Judgement(
            candidate=candidate.digest,
            cases=judgements.cases_digest(candidate),
            tolerance=tolerance,
            thresholds={},
            metrics={"golden_gap": gap},
            data_version="",
            project_commit="",
            lock_digest="",
            time=judgements.now(),
        )
    problems = judgements.judge(found.metrics, thresholds)
    if found.cases != judgements.cases_digest(candidate):
        problems.append("It was judged on other cases.")
    champion = found.champion
    if margin is not None:
        if champion is None:
            raise PipelineError(
                "The candidate was not compared with the last release, which margin asks for; run "
                "the step evaluate again with this configuration."
            )
        champion = replace(champion, margin=margin)
        problems += judgements.outdone(found.metrics, thresholds, champion, margin)
    if problems:
        raise PipelineError(f"The candidate is not good enough. {' '.join(problems)}")
    return replace(found, thresholds=thresholds, tolerance=tolerance, champion=champion)


def check_last(
    config: Config, timings: Timings, name: str, candidate: Candidate, verdict: Judgement
) -> None:
    """Refuse a candidate if another release was published since it was compared."""
    if verdict.champion is None or not config.compares:
        return
    from .current import find_last

    try:
        last = find_last(config, timings, name).release
    except RegistryError as error:
        raise PipelineError(str(error)) from None
    if last is None or last.digest == verdict.champion.digest:
        return
    files = {each: blob.digest for each, blob in descriptors(candidate).items()}
    if files == {each: blob.digest for each, blob in last.files.items()}:
        return  # What an earlier try of this step has published.
    compared = verdict.champion.digest or "no release"
    raise PipelineError(
        f"The candidate was compared with {compared}; since then {last.digest} (version "
        f"{last.model_version}) was published. Run the step evaluate again."
    )


def descriptors(candidate: Candidate) -> dict[str, Descriptor]:
    """The files as the manifest names them."""
    return {
        each.path: Descriptor(
            MEDIA_TYPES.get(each.path, OTHER_TYPE), f"sha256:{each.sha256}", each.size
        )
        for each in candidate.files
    }


def release_manifest(
    registry: RegistryClient, candidate: Candidate, name: str, version: str, run_id: str, at: float
) -> bytes:
    """The manifest of a version, the one that is there if it is of the same files.

    A version that is there with other files is never written over.
    """
    files = descriptors(candidate)
    tagged = registry.manifest(f"v{version}")
    if tagged is not None:
        old: Release = parse_release(tagged)
        same = {each: files[each].digest for each in files} == {
            each: old.files[each].digest for each in old.files
        }
        if (old.model_name, old.model_version) != (name, version) or not same:
            raise PipelineError(
                f"Version {version} of {name} is in the registry with other files "
                f"({digest_of(tagged)}); publish this one under a new version."
            )
        return bytes(tagged)
    created = datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return bytes(build_manifest(files, name, version, run_id, created).to_bytes())


def push(registry: RegistryClient, candidate: Candidate, manifest: bytes, version: str) -> int:
    """Push files and manifest unless they are there; return the bytes transferred."""
    moved = 0
    for path, blob in descriptors(candidate).items():
        with (candidate.folder / path).open("rb") as stream:
            moved += registry.push_blob(blob, stream)
    registry.push_blob(EMPTY_CONFIG, io.BytesIO(EMPTY))
    registry.push_manifest(manifest)
    registry.push_manifest(manifest, f"v{version}")
    return moved


def sign_all(
    config: Config,
    registry: RegistryClient,
    signer: Signer,
    candidate: Candidate,
    digest: str,
    claims: Claims,
    judgement: Judgement,
) -> bool:
    """Sign judgement and release; say whether a signature had to be added."""
    expected = Expected(claims.site, registry.reference, claims.model_name)
    ring = ring_of(signer, config)
    found = signed(registry, digest, ring, expected)
    if found is not None and found.claims is not None and found.claims.statement:
        return False
    files = {each.path: f"sha256:{each.sha256}" for each in candidate.files}
    statement = attest(registry, digest, files, signer, judgement.evaluation())
    full = Claims(
        claims.site,
        claims.model_name,
        claims.model_version,
        ONNX,
        0,
        "",
        statement,
        files.get(PROFILE_FILE, ""),
    )
    last = last_counter(registry, ring, expected, claims.model_version)
    sign_release(registry, digest, signer, full, last)
    return True


def run(
    config: Config,
    timings: Timings,
    run_id: str = "",
    golden: str | None = None,
    candidate: str | None = None,
    package: Path | None = None,
    version: str = "",
    judgement: Path | None = None,
) -> dict[str, Any]:
    """Publish a candidate, from a folder or from the run that has logged it."""
    options = config.options
    if not candidate:
        raise PipelineError(
            "Which bytes are to be published is said by --candidate sha256:…; package and train "
            "print it."
        )
    check_digest(candidate)
    signer = open_signer(config)
    with fetched(config, timings, candidate, run_id, package) as (found, mlflow):
        name = judgements.name_of(config, found)
        with timings.measure("try the release"):
            tried = trial(found, Limits.of(options), golden=judgements.golden_of(config, found))
            verdict = judged(config, found, tried, judgement)
        check_last(config, timings, name, found, verdict)
        with timings.measure("register"):
            place = register.version_of(config, mlflow, name, found, run_id, version)
        try:
            with timings.measure("push"):
                registry = open_registry(config, name)
                manifest = release_manifest(
                    registry, found, name, place.version, place.run_id, place.created
                )
                digest = digest_of(manifest)
                pushed = registry.manifest(f"v{place.version}") != manifest
                moved = push(registry, found, manifest, place.version) if pushed else 0
            with timings.measure("sign"):
                site = options.text("site", "default") or "default"
                claims = Claims(site, name, place.version, ONNX, 0, "")
                added = sign_all(config, registry, signer, found, digest, claims, verdict)
        except RegistryError as error:
            raise PipelineError(str(error)) from None
        with timings.measure("register"):
            alias = options.text("alias", "champion")
            register.announce(place, name, alias, digest)
        if golden:
            keep_golden(golden, (found.folder / GOLDEN_FILE).read_bytes())
        return {
            "changed": place.fresh or pushed or added,
            "digest": digest,
            "candidate": found.digest,
            "model_name": name,
            "model_version": place.version,
            "run_id": place.run_id,
            "alias": alias if place.mlflow is not None else "",
            "bytes_pushed": moved,
            "bytes": found.size,
            "trial": tried.to_json(),
        }
