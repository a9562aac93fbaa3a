# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module: what it foretells is what it does, also where it removes or one model fails."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.settings import Settings
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.modules import model_release

from .conftest import KEY, MODEL, OTHER_KEY, Bench

OTHER = "other"


def run(bench: Bench, check_mode: bool = False, **params: Any) -> dict[str, Any]:
    given = {
        "digest": None,
        "model": None,
        "state": "present",
        "models": None,
        "releases": None,
        "rollback": False,
        "activate": True,
    }
    return model_release.run(bench.device, {**given, **params}, check_mode)


def both(bench: Bench) -> tuple[str, str]:
    first, second = bench.publish("1"), bench.publish("1", model=OTHER)
    run(bench, digest=first, model=MODEL)
    run(bench, digest=second, model=OTHER)
    return first, second


SAME = ("changed", "digest", "before", "model_name", "model_version", "releases", "diff", "removed")


def test_check_mode_foretells_a_release(bench: Bench) -> None:
    digest = bench.publish()
    foretold = run(bench, True, digest=digest, model=MODEL)
    assert bench.store.releases() == []
    assert bench.serving.loaded == {}
    done = run(bench, digest=digest, model=MODEL)
    assert {key: foretold[key] for key in SAME} == {key: done[key] for key in SAME}
    assert done["changed"]
    assert not run(bench, True, digest=digest, model=MODEL)["changed"]
    assert not run(bench, digest=digest, model=MODEL)["changed"]


def test_check_mode_foretells_a_removal(bench: Bench) -> None:
    first, _second = both(bench)
    foretold = run(bench, True, models=[MODEL])
    assert foretold["removed"] == [OTHER]
    assert set(bench.serving.loaded) == {MODEL, OTHER}
    done = run(bench, models=[MODEL])
    assert {key: foretold[key] for key in SAME} == {key: done[key] for key in SAME}
    assert bench.serving.loaded == {MODEL: first}
    assert not run(bench, models=[MODEL])["changed"]


def test_one_model_is_removed_by_its_name(bench: Bench) -> None:
    both(bench)
    assert run(bench, True, model=OTHER, state="absent")["removed"] == [OTHER]
    assert run(bench, model=OTHER, state="absent")["changed"]
    assert not run(bench, model=OTHER, state="absent")["changed"]
    assert not run(bench, True, model=OTHER, state="absent")["changed"]


def test_all_models_of_a_device_are_released_at_once(bench: Bench) -> None:
    wanted = {MODEL: bench.publish("1"), OTHER: bench.publish("1", model=OTHER)}
    foretold = run(bench, True, releases=wanted)
    assert bench.serving.loaded == {}
    done = run(bench, releases=wanted)
    assert bench.serving.loaded == wanted == done["models"]
    for model in wanted:
        row, said = done["outcomes"][model], foretold["outcomes"][model]
        assert {key: row[key] for key in SAME[:6]} == {key: said[key] for key in SAME[:6]}
        assert (row["failed"], row["changed"], row["model_name"]) == (False, True, model)
    assert not run(bench, releases=wanted)["changed"]
    assert run(bench, releases={})["outcomes"] == {}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_module_answers_for_any_number_of_releases(
    count: int,
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = {model: bench.publish("1", model=model) for model in (MODEL, OTHER)[:count]}
    settings = tmp_path / "release.json"
    settings.write_text("{}")
    monkeypatch.setattr(Settings, "parse", lambda *_words: SimpleNamespace(ca_file=""))
    monkeypatch.setattr(model_release, "WebTransport", lambda *_words, **_more: None)
    monkeypatch.setattr(model_release, "open_device", lambda *_words: bench.device)
    said = {"releases": wanted, "settings": str(settings)}
    for changed in (count > 0, False):
        with patch_module_args(said), pytest.raises(SystemExit):
            model_release.main()
        answer = json.loads(capsys.readouterr().out)
        assert (answer["changed"], answer.get("failed", False)) == (changed, False)
        assert set(answer["outcomes"]) == set(answer["models"]) == set(wanted)
        # Each is told in thousandths, and so may be half of one beside what it was.
        together = sum(row["seconds"] for row in answer["outcomes"].values())
        assert answer["seconds"] >= together - 0.001 * (count + 1)


def test_one_release_that_fails_does_not_hold_up_the_others(bench: Bench) -> None:
    wanted = {MODEL: "sha256:" + "0" * 64, OTHER: bench.publish("1", model=OTHER)}
    done = run(bench, releases=wanted)
    assert bench.serving.loaded == {OTHER: wanted[OTHER]} == done["models"]
    assert done["changed"]
    assert done["outcomes"][MODEL]["failed"]
    assert wanted[MODEL] in done["outcomes"][MODEL]["msg"]
    assert not done["outcomes"][OTHER]["failed"]


def test_without_a_digest_every_model_is_looked_at(bench: Bench) -> None:
    first, second = both(bench)
    (bench.store.path(second) / "model.onnx").write_bytes(b"evil")
    foretold = run(bench, True)
    done = run(bench)
    assert foretold["changed"]
    assert done["changed"]
    assert "was tampered with" in done["mended"]
    assert done["models"] == {MODEL: first, OTHER: second}
    assert done["digest"] == ""
    assert not run(bench)["changed"]


def test_one_model_that_cannot_be_mended_does_not_hold_up_the_other(bench: Bench) -> None:
    first, second = both(bench)
    for digest in (first, second):
        (bench.store.path(digest) / "model.onnx").write_bytes(b"evil")
    bench.registry.manifests.pop(first)
    with pytest.raises(RegistryError, match="It was left as it is"):
        run(bench)
    assert bench.device.verify(second).digest == second


def test_what_was_refused_is_told_and_does_not_end_the_run(bench: Bench) -> None:
    digest = bench.publish()
    run(bench, digest=digest, model=MODEL)
    bench.ring.trusted, bench.ring.revoked = [OTHER_KEY], [KEY]
    bench.device.guard()
    assert not run(bench)["changed"]
    assert "was taken out of service" in bench.device.complaints()[MODEL]


def test_a_device_without_a_release_is_left_as_it_is(bench: Bench) -> None:
    assert run(bench) == {**model_release.NOTHING, "models": {}, "removed": [], "diff": []}
