# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases for engines that are started with a directory: what is not signed is never named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.library import (
    Library,
    NoServing,
    Wanted,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.source import Source
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import (
    MistakenError,
    RegistryError,
    RevokedError,
    UntrustedError,
)
from ansible_collections.mlops.onprem.plugins.modules import workload_releases

from .conftest import KEY, MODEL, OTHER_KEY, SITE, Bench

CHAT = Wanted("chat", MODEL, version="1")


@pytest.fixture
def library(bench: Bench) -> Library:
    source = Source("models", bench.client, bench.ring, SITE)
    return Library(bench.device, source, bench.client, "models")


def publish(bench: Bench, version: str = "1", **more: Any) -> str:
    """A release that the registry has under its version, too."""
    digest = bench.publish(version, **more)
    bench.registry.manifests[f"v{version}"] = bench.registry.manifests[digest]
    return digest


def run(
    library: Library, *rows: Wanted, prune: bool = False, check_mode: bool = False
) -> dict[str, Any]:
    releases = [
        {
            "workload": row.workload,
            "model": row.model,
            "version": row.version or None,
            "digest": row.digest or None,
        }
        for row in rows
    ]
    params = {"releases": releases, "prune": prune}
    return workload_releases.run(library, params, check_mode)


def test_a_release_is_fetched_verified_and_named_by_its_directory(
    bench: Bench, library: Library
) -> None:
    digest = publish(bench)
    told = run(library, CHAT)
    brought = told["releases"]["chat"]
    assert brought["digest"] == digest
    assert brought["directory"] == str(bench.store.path(digest))
    assert brought["version"] == "1"
    assert brought["config"] == {"version": "1"}
    assert told["bytes"] > 0
    assert told["changed"]
    assert told["diff"] == {"before": "", "after": f"{digest}\n"}


def test_a_version_that_is_here_needs_no_registry(bench: Bench, library: Library) -> None:
    digest = publish(bench)
    run(library, CHAT)
    bench.registry.manifests.clear()
    bench.registry.blobs.clear()
    told = run(library, CHAT)
    assert (told["changed"], told["bytes"]) == (False, 0)
    assert told["releases"]["chat"]["digest"] == digest
    assert run(library, CHAT, check_mode=True)["changed"] is False


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(
    ("option", "what"),
    [("version", f"version 1 of {MODEL}"), ("digest", f"the release of {MODEL}")],
)
def test_a_release_without_a_signature_is_not_brought(
    bench: Bench, library: Library, option: str, what: str, check_mode: bool
) -> None:
    digest = publish(bench, signed=False)
    wanted = CHAT if option == "version" else Wanted("chat", MODEL, digest=digest)
    with pytest.raises(UntrustedError) as refusal:
        run(library, wanted, check_mode=check_mode)
    assert str(refusal.value) == (
        f"chat: The release {digest} is not signed. Publish {what} signed with a key that is "
        f"trusted (make pipeline), or set run.{option} of chat in mlops_workloads to one that is."
    )
    assert bench.store.releases() == []


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_release_that_a_stranger_signed_is_not_brought(
    bench: Bench, library: Library, check_mode: bool
) -> None:
    bench.key = OTHER_KEY
    digest = publish(bench)
    words = rf"^chat: The release {digest} is refused\. .*Publish version 1 of {MODEL} signed with"
    with pytest.raises(UntrustedError, match=words):
        run(library, CHAT, check_mode=check_mode)
    assert bench.store.releases() == []


def test_a_key_that_was_revoked_since_counts_for_what_is_here(
    bench: Bench, library: Library
) -> None:
    publish(bench)
    library.bring(CHAT)
    bench.ring.trusted.remove(KEY)
    bench.ring.revoked.append(KEY)
    with pytest.raises(RevokedError, match=r"^chat: "):
        library.bring(CHAT)


def test_a_file_that_was_changed_here_is_fetched_anew(bench: Bench, library: Library) -> None:
    digest = publish(bench)
    library.bring(CHAT)
    model = bench.store.path(digest) / "model.onnx"
    good = model.read_bytes()
    model.chmod(0o644)
    model.write_bytes(b"evil" + good[4:])
    assert library.lacks(CHAT)
    told = run(library, CHAT)
    assert model.read_bytes() == good
    assert told["changed"]
    assert told["bytes"] > 0
    assert not library.lacks(CHAT)


def test_a_registry_that_hands_out_other_bytes_is_found_out(bench: Bench, library: Library) -> None:
    publish(bench)
    for digest, data in bench.registry.blobs.items():
        if data.startswith(b"onnx"):
            bench.registry.blobs[digest] = b"evil" + data[4:]
    with pytest.raises(RegistryError, match=r"^chat: "):
        library.bring(CHAT)
    assert bench.store.releases() == []


def test_a_version_that_was_signed_as_another_is_refused(bench: Bench, library: Library) -> None:
    digest = bench.publish("2")
    bench.registry.manifests["v1"] = bench.registry.manifests[digest]
    for check_mode in (True, False):
        with pytest.raises(MistakenError, match="it was signed as version 2; publish the version"):
            run(library, CHAT, check_mode=check_mode)


def test_a_version_that_is_not_there_is_said_with_what_to_set(library: Library) -> None:
    with pytest.raises(RegistryError, match=r"set run.version in mlops_workloads"):
        library.bring(CHAT)


def test_check_mode_says_that_it_would_fetch_and_does_not(bench: Bench, library: Library) -> None:
    publish(bench)
    told = run(library, CHAT, check_mode=True)
    assert told["changed"]
    assert told["releases"] == {}
    assert bench.store.releases() == []


def test_pruning_keeps_what_workloads_have_and_fetches_nothing(
    bench: Bench, library: Library
) -> None:
    old, new = publish(bench, "1"), publish(bench, "2")
    run(library, CHAT, Wanted("other", MODEL, digest=new))
    requests = len(bench.registry.log)
    keep = Wanted("chat", MODEL, digest=new)
    previewed = run(library, keep, prune=True, check_mode=True)
    assert (previewed["removed"], previewed["changed"]) == ([old], True)
    assert set(bench.store.releases()) == {old, new}
    told = run(library, keep, prune=True)
    assert told["removed"] == [old]
    assert bench.store.releases() == [new]
    assert told["diff"]["after"] == f"{new}\n"
    assert run(library, keep, prune=True)["changed"] is False
    assert len(bench.registry.log) == requests
    assert run(library, prune=True)["removed"] == [new]


def test_a_digest_that_is_none_is_refused_before_anything_is_asked(
    bench: Bench, library: Library
) -> None:
    with pytest.raises(RegistryError):
        library.digest_of(Wanted("chat", MODEL, digest="latest"))
    assert bench.registry.log == []


def test_nothing_here_serves_by_itself() -> None:
    serving = NoServing()
    assert serving.look().models == {}
    assert "nothing here loads demo" in serving.load("demo")
    assert json.dumps(serving.unload("demo"))
