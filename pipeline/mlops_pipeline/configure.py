# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a release of one that exists, with another configuration: the same model, signed anew.

Model, golden answers and profile are the blobs that lie in the registry, and are not read here;
only ``config.json`` is written. Its evaluation goes with it, since what was judged is the model. A
device that serves the release it was made of fetches some hundred bytes.

The first configuration of version 7 is version ``7-config.1``. The newest is taken again where it
is what is asked for, so that the same command finds the release that it has made.
"""

from __future__ import annotations

import importlib
import io
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._release.client import RegistryClient
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.source import (
    Found,
    Source,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.keys import KeyRing
from ansible_collections.mlops.onprem.plugins.module_utils._release.oci import (
    EMPTY,
    EMPTY_CONFIG,
    Descriptor,
    canonical,
    digest_of,
    read_json,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.release import (
    CONFIG_FILE,
    Release,
    build_manifest,
    media_type,
    parse_release,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.resolve import (
    digest_of_version,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.signature import (
    Claims,
    Expected,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.statement import Statement

from .candidate import check_name
from .config import Config
from .errors import PipelineError
from .publish import open_registry
from .signing import (
    Signer,
    attest,
    attested,
    open_signer,
    ring_of,
    sign_release,
    signed,
    site_ring,
)
from .timing import Timings
from .trial import SERVER

VARIABLE = "rollout_config"
BASE = "org.mlops.config.base"
TOLERANCE, EDGES, SERVING = "tolerance", "prediction_edges", "serving"
MAY_CHANGE = (TOLERANCE, EDGES, SERVING)
MAX_CONFIG_BYTES = 1024 * 1024
MOST = 999
MIB = 2**20


def server(name: str) -> Any:
    """A module of the model server, whose own rules are those that count."""
    if str(SERVER) not in sys.path:
        sys.path.insert(0, str(SERVER))
    return importlib.import_module(f"mlops_serving.{name}")


@dataclass(frozen=True)
class Change:
    """One key of the configuration; None is one that is not there."""

    key: str
    before: Any
    after: Any


# -- what is asked for ------------------------------------------------------------------------


def refuse(path: str, problem: str) -> PipelineError:
    """A sentence that names the place."""
    return PipelineError(f"{VARIABLE}{'.' if path else ''}{path}: {problem}")


def check_keys(change: Any) -> Mapping[str, Any]:
    """Refuse what is no change of a configuration. On a command line it may be JSON."""
    if isinstance(change, str):
        try:
            change = read_json(change.encode(), VARIABLE)
        except RegistryError as error:
            raise PipelineError(
                f'{error} Wanted such as {{"serving": {{"threads": 2}}}}.'
            ) from None
    if not isinstance(change, Mapping) or not change:
        raise refuse("", "wanted a mapping with what is to change, such as {serving: {threads: 2}}")
    for key in change:
        if key not in MAY_CHANGE:
            raise refuse(
                str(key)[:80],
                f"this belongs to the model or is not known; found {str(key)[:80]!r}, wanted "
                f"{', '.join(MAY_CHANGE)}. What belongs to the model comes with a new version.",
            )
    serving = change.get(SERVING)
    if serving is not None and not isinstance(serving, Mapping):
        raise refuse(SERVING, f"found {str(serving)[:60]!r}, wanted a mapping")
    return change


def merged(before: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with a change: a key of nothing is taken out (RFC 7396)."""
    found = dict(before)
    for key, value in change.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, Mapping):
            old = found.get(key)
            found[key] = merged(old if isinstance(old, Mapping) else {}, value)
            if not found[key]:
                del found[key]
        else:
            found[key] = value
    return found


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    """What differs, key by key."""
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if key == SERVING:
            for one in changes(old or {}, new or {}):
                yield Change(f"{SERVING}.{one.key}", one.before, one.after)
        elif old != new:
            yield Change(key, old, new)


@dataclass(frozen=True)
class Bounds:
    """What a configuration has to stay within; 0 is no bound."""

    tolerance: float
    memory_mib: float = 0
    request_max_mib: float = 0
    waived: tuple[str, ...] = ()


def check(after: Mapping[str, Any], found: Sequence[Change], size: int, bounds: Bounds) -> None:
    """Refuse a configuration that devices would refuse, or that the site has not planned for."""
    try:
        serving = server("settings").read(after)
        server("predictions").edges_of(after.get(EDGES))
    except ValueError as error:
        raise PipelineError(f"{VARIABLE}.{error}.") from None
    keys = {one.key for one in found}
    if TOLERANCE in keys:
        _check_tolerance(after.get(TOLERANCE), bounds.tolerance)
    if EDGES in keys and "shift" not in bounds.waived:
        raise refuse(
            EDGES,
            "predictions of old and new devices fall into other buckets, which the gate shift "
            "cannot compare; waive it with a reason (rollout_gates.waive.shift)",
        )
    asked = serving.get("request_max_mib", 0)
    if bounds.request_max_mib and asked > bounds.request_max_mib:
        raise refuse(
            f"{SERVING}.request_max_mib",
            f"found {asked:g}, and devices take requests of {bounds.request_max_mib:g} MiB at most "
            "(model_serving_request_max_mib)",
        )
    truths = serving.get("truth_requests", 0) * server("settings").TRUTH_BYTES
    needed = (size + truths) / MIB
    if truths and bounds.memory_mib and needed > bounds.memory_mib:
        raise refuse(
            f"{SERVING}.truth_requests",
            f"with its files of {size / MIB:.1f} MiB the model would need {needed:.1f} MiB at "
            f"least, and {bounds.memory_mib:g} MiB are planned for it (memory_mib of the model, or "
            "model_serving_memory_max_mib)",
        )


def _check_tolerance(value: Any, most: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value <= most:
        raise refuse(
            TOLERANCE,
            f"found {str(value)[:60]!r}, wanted a number from 0 to {most:g}, with which the model "
            "was evaluated",
        )


# -- the registry -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Base:
    """The release that the new one is made of, judged by the keys of the site."""

    found: Found
    claims: Claims
    config: Mapping[str, Any]
    statement: Statement | None

    @property
    def release(self) -> Release:
        """Its manifest, read."""
        return self.found.release

    @property
    def version(self) -> str:
        """The version of the model, without that of a configuration."""
        return str(server("release").versions_of(self.release.model_version)[-1])

    @property
    def tolerance(self) -> float:
        """The largest gap of an answer with which it was evaluated."""
        if self.statement is not None:
            return self.statement.evaluation.tolerance
        return float(self.config.get(TOLERANCE, 1e-5))


def find_base(config: Config, name: str, ring: KeyRing) -> Base:
    """Find the release whose model is served on."""
    options = config.options
    base = options.section("base")
    site = options.text("site", "-").removeprefix("-")
    prefix = options.section("registry").text("repository", "models").strip("/")

    def client_of(repository: str) -> RegistryClient:
        own = repository.removeprefix(prefix).strip("/")
        return open_registry(config, own)

    digest = base.text("digest", "-").removeprefix("-")
    if not digest:
        version = base.text("version", "-").removeprefix("-")
        if not version:
            raise PipelineError(
                f"No rollout has brought devices to a release of {name} yet; say whose "
                "configuration is to change: set rollout_version or rollout_digest."
            )
        digest = digest_of_version(client_of(f"{prefix}/{name}"), version)
    source = Source(prefix, client_of, ring, site)
    found = source.find(digest, name, fresh=True)
    claims = found.verdict.claims
    if claims is None:  # for what comes from elsewhere this is refused before
        raise PipelineError(f"The signature of {digest} does not say for which model it was made.")
    blob = found.release.files[CONFIG_FILE]
    value = read_json(found.client.small_blob(blob, MAX_CONFIG_BYTES), CONFIG_FILE)
    if not isinstance(value, dict):
        raise PipelineError(f"The {CONFIG_FILE} of {digest} is not a mapping.")
    statement = None
    if claims.statement:
        files = {file: each.digest for file, each in found.release.files.items()}
        statement = attested(found.client, digest, files, ring, claims.statement)
    return Base(found, claims, value, statement)


def newest(registry: RegistryClient, version: str) -> tuple[int, bytes]:
    """Number and manifest of the newest configuration of a version; 0 where there is none."""
    mark = server("release").CONFIGURED
    number, last = 0, b""
    while number < MOST:
        manifest = registry.manifest(f"v{version}{mark}{number + 1}")
        if manifest is None:
            return number, last
        number, last = number + 1, manifest
    raise PipelineError(
        f"Version {version} has had {MOST} configurations; publish the model under a new version."
    )


def digests(files: Mapping[str, Descriptor]) -> dict[str, str]:
    """The digest of each file."""
    return {name: blob.digest for name, blob in files.items()}


def manifest_of(base: Base, number: int, files: Mapping[str, Descriptor], at: float) -> bytes:
    """The manifest of a configuration."""
    release = base.release
    made = build_manifest(
        files,
        release.model_name,
        f"{base.version}{server('release').CONFIGURED}{number}",
        release.run_id,
        datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    notes = {**made.annotations, BASE: release.digest}
    return bytes(replace(made, annotations=notes).to_bytes())


@dataclass(frozen=True)
class Made:
    """The release with the other configuration: what it is, and what of it there is already."""

    manifest: bytes
    text: bytes
    there: bool
    last: int

    @property
    def digest(self) -> str:
        """The digest of its manifest."""
        return digest_of(self.manifest)


def make(base: Base, after: Mapping[str, Any], ring: KeyRing) -> Made:
    """Describe the release; the newest configuration if it is the same one."""
    registry = base.found.client
    text = canonical(after)
    files = {**base.release.files, CONFIG_FILE: Descriptor.of(media_type(CONFIG_FILE), text)}
    number, last = newest(registry, base.version)
    highest = base.claims.counter
    if last:
        found = parse_release(last)
        expected = Expected(
            base.claims.site, registry.reference, found.model_name, (base.claims.kind,)
        )
        verdict = signed(registry, found.digest, ring, expected)
        trusted = verdict is not None and verdict.claims is not None
        if trusted and digests(found.files) == digests(files):
            return Made(last, text, True, 0)
        if verdict is not None and verdict.claims is not None:
            highest = max(highest, verdict.claims.counter)
    return Made(manifest_of(base, number + 1, files, time.time()), text, False, highest)


def publish(base: Base, made: Made, signer: Signer) -> None:
    """Push and sign it. The tag comes last, so that a version that is found is a signed one."""
    registry, release = base.found.client, parse_release(made.manifest)
    blob = release.files[CONFIG_FILE]
    registry.push_blob(blob, io.BytesIO(made.text))
    registry.push_blob(EMPTY_CONFIG, io.BytesIO(EMPTY))
    registry.push_manifest(made.manifest)
    statement = ""
    if base.statement is not None:
        evaluation = base.statement.evaluation
        statement = attest(registry, made.digest, digests(release.files), signer, evaluation)
    claims = replace(base.claims, model_version=release.model_version, statement=statement)
    sign_release(registry, made.digest, signer, claims, made.last)
    registry.push_manifest(made.manifest, f"v{release.model_version}")


def judged(config: Config, base: Base) -> tuple[dict[str, Any], list[Change]]:
    """The new configuration, within its bounds, and what is other about it."""
    options = config.options
    after = merged(base.config, check_keys(options.value.get("change")))
    found = list(changes(base.config, after))
    planned = options.section("planned")
    bounds = Bounds(
        base.tolerance,
        planned.number("memory_mib", 0.0),
        planned.number("request_max_mib", 0.0),
        tuple(str(name) for name in options.get("waived", list, [])),
    )
    check(after, found, base.release.size, bounds)
    return after, found


def told(base: Base, release: Release, found: Sequence[Change]) -> dict[str, Any]:
    """What the step answers."""
    same = digests(base.release.files)
    return {
        "digest": release.digest,
        "model_name": release.model_name,
        "model_version": release.model_version,
        "base": {"digest": base.release.digest, "version": base.release.model_version},
        "changes": [
            {"key": one.key, "before": json.dumps(one.before), "after": json.dumps(one.after)}
            for one in found
        ],
        "size": release.size,
        "fetched": sum(
            blob.size for name, blob in release.files.items() if same.get(name) != blob.digest
        ),
    }


def run(config: Config, timings: Timings, checking: bool) -> dict[str, Any]:
    """Make the release, or only say which one it would be."""
    name = check_name(config.options.text("model_name"))
    check_keys(config.options.value.get("change"))
    signer = None if checking else open_signer(config)
    ring = ring_of(signer, config) if signer is not None else site_ring(config)
    if ring is None:
        raise PipelineError("No key of the site is known here (release_keys).")
    try:
        with timings.measure("read the release"):
            base = find_base(config, name, ring)
        after, found = judged(config, base)
        if not found:
            return {"changed": False, **told(base, base.release, found)}
        with timings.measure("look for the configuration"):
            made = make(base, after, ring)
        if signer is not None and not made.there:
            with timings.measure("push and sign"):
                publish(base, made, signer)
        return {"changed": not made.there, **told(base, parse_release(made.manifest), found)}
    except RegistryError as error:
        raise PipelineError(str(error)) from None
