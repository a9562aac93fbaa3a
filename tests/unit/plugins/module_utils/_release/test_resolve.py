# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the version of a model to its release: by tag, judged, and refused where it is not it."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.resolve import (
    Resolved,
    resolve,
)
from ansible_collections.mlops.onprem.plugins.modules import model_release_info

from .conftest import MODEL, SITE, Bench


def ask(bench: Bench, version: str = "", digest: str = "", site: str = SITE) -> Resolved:
    return resolve("models", bench.client, bench.ring, site, MODEL, version, digest)


def tag(bench: Bench, digest: str, version: str) -> None:
    manifest = bench.client().manifest(digest)
    assert manifest is not None
    bench.client().push_manifest(manifest, f"v{version}")


def test_a_version_is_found_by_its_tag(bench: Bench) -> None:
    first, second = bench.publish("1"), bench.publish("2")
    tag(bench, first, "1")
    tag(bench, second, "2")
    found = ask(bench, "2")
    assert found.release.digest == second
    assert (found.release.model_version, found.counter) == ("2", 2)
    assert found.release.size > 0
    assert found.golden == bench.client().small_blob(found.release.files["golden.json"])


def test_a_version_that_was_not_published_is_told(bench: Bench) -> None:
    with pytest.raises(RegistryError, match=r"Found no version 9 in .*rollout_version"):
        ask(bench, "9")


def test_a_digest_of_another_version_is_told(bench: Bench) -> None:
    digest = bench.publish("1")
    assert ask(bench, digest=digest).release.digest == digest
    with pytest.raises(RegistryError, match=r"is version 1 of .* wanted 2"):
        ask(bench, "2", digest)


def test_what_no_trusted_key_signed_is_refused(bench: Bench) -> None:
    unsigned = bench.publish("1", signed=False)
    tag(bench, unsigned, "1")
    with pytest.raises(RegistryError, match="is not signed"):
        ask(bench, "1")
    signed = bench.publish("2")
    with pytest.raises(RegistryError, match="another"):
        ask(bench, digest=signed, site="another")


def test_the_number_of_golden_requests_is_counted() -> None:
    assert model_release_info.cases_of(b'{"cases": [1, 2]}') == 2
    assert model_release_info.cases_of(b"nothing") == 0
