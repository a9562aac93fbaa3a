# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several models on one device: kept apart, removed, moved from the older layout, kept honest."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError

from .conftest import KEY, MODEL, OTHER_KEY, Bench

OTHER = "other"


class Killed(BaseException):
    """The process is gone."""


class Trap:
    """Kills the process at the so-manieth change of the disk."""

    def __init__(self, patch: pytest.MonkeyPatch, fatal: int) -> None:
        self.fatal = fatal
        self.count = 0
        for owner, names in (
            (os, ("rename", "symlink", "replace", "utime", "fsync", "open")),
            (Path, ("mkdir", "write_bytes", "unlink", "rename", "replace")),
            (shutil, ("rmtree",)),
        ):
            for name in names:
                self._set(patch, owner, name)

    def _set(self, patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def step(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.fatal:
                raise Killed
            return real(*arguments, **options)

        patch.setattr(owner, name, step)


def both(bench: Bench) -> tuple[str, str]:
    """A device that serves two models."""
    first, second = bench.publish("1"), bench.publish("1", model=OTHER)
    bench.release(first)
    bench.device.release(second, model=OTHER)
    return first, second


def make_old(bench: Bench, *versions: str, old: bool = True) -> list[str]:
    """A device as version 0.3 left it: links in the root, signatures without claims."""
    digests = [bench.publish(version, old=old) for version in versions]
    for digest in digests:
        place = bench.store.begin(digest)
        manifest = bench.registry.manifests[digest]
        (place / "manifest.json").write_bytes(manifest)
        for layer in json.loads(manifest)["layers"]:
            name = layer["annotations"]["org.opencontainers.image.title"]
            (place / name).write_bytes(bench.registry.blobs[layer["digest"]])
        stored = bench.registry.manifests[f"sha256-{digest[7:]}.sig"]
        layer = json.loads(stored)["layers"][0]
        pair = {
            "payload": b64(bench.registry.blobs[layer["digest"]]),
            "signature": layer["annotations"]["dev.cosignproject.cosign/signature"],
        }
        (place / "signature.json").write_text(json.dumps([pair]))
        names = [path.name for path in place.iterdir()]
        bench.store.complete(digest, names)
    for link, digest in zip(("current", "previous"), reversed(digests), strict=False):
        (bench.store.root / link).symlink_to(Path("releases") / digest[7:])
    bench.serving.digest = digests[-1]
    return digests


def b64(data: bytes) -> str:
    """Bytes as they stand in JSON."""
    return base64.b64encode(data).decode()


# -- several models -----------------------------------------------------------------------------


def test_two_models_are_served_and_neither_touches_the_other(bench: Bench) -> None:
    first, second = both(bench)
    assert bench.serving.loaded == {MODEL: first, OTHER: second}
    newer = bench.publish("2", model=OTHER)
    bench.device.release(newer, model=OTHER)
    assert bench.serving.loaded == {MODEL: first, OTHER: newer}
    assert bench.store.linked(MODEL, "previous") is None
    assert bench.store.linked(OTHER, "previous") == second
    states = bench.device.states(bench.device.look())
    assert [(state.model, state.releases) for state in states] == [
        (MODEL, (first,)),
        (OTHER, (newer, second)),
    ]


def test_each_model_keeps_its_own_number_of_releases(bench: Bench) -> None:
    mine = [bench.publish(str(number)) for number in range(5)]
    theirs = [bench.publish(str(number), model=OTHER) for number in range(5)]
    for one, two in zip(mine, theirs, strict=True):
        bench.release(one)
        bench.device.release(two, model=OTHER)
    assert sorted(bench.store.releases()) == sorted([*mine[2:], *theirs[2:]])


def test_a_release_of_another_model_is_refused(bench: Bench) -> None:
    digest = bench.publish(model=OTHER)
    with pytest.raises(RegistryError, match="was signed for the repository models/other"):
        bench.release(digest)
    bench.device.release(digest, model=OTHER)
    with pytest.raises(RegistryError, match=f"is one of the model {OTHER}, wanted {MODEL}"):
        bench.release(digest)
    assert bench.store.linked(MODEL, "current") is None


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        ({"site": "elsewhere"}, "was signed for the site elsewhere, wanted site-of-the-test"),
        ({"repository": "theirs/demo"}, "was signed for the repository theirs/demo"),
        ({"model_version": "7"}, "calls itself demo 1; it was signed as demo 7"),
        ({"kind": "gguf"}, "is a model of the kind gguf; served here: onnx"),
    ],
)
def test_what_is_signed_is_compared(bench: Bench, claims: dict[str, Any], sentence: str) -> None:
    digest = bench.publish(signed=False)
    bench.sign_release(digest, digest, **claims)
    with pytest.raises(RegistryError, match=sentence):
        bench.release(digest)
    assert bench.store.releases() == []
    assert bench.store.models() == [], "a device says that it has a model of which nothing came"


@pytest.mark.parametrize("name", ["", "../x", ".hidden", "a/b", "x" * 64])
def test_a_name_that_leads_elsewhere_makes_no_directory(bench: Bench, name: str) -> None:
    with pytest.raises(RegistryError, match="wanted the name of a model"):
        bench.store.welcome(name)
    assert not (bench.store.root / "models").exists()


def test_without_its_name_a_release_is_looked_for_where_sites_had_one_model(bench: Bench) -> None:
    digest = bench.publish(signed=False)
    bench.sign_release(digest, digest, repository="models")
    assert bench.device.release(digest).after.model == MODEL


# -- a failed release ---------------------------------------------------------------------------


def test_a_release_that_failed_is_not_kept_in_place_of_a_good_one(bench: Bench) -> None:
    good = [bench.publish(str(number)) for number in range(3)]
    for digest in good:
        bench.release(digest)
    bad = bench.publish("bad")
    bench.serving.refuses[bad] = "Golden request 3 differs by 0.7."
    for _attempt in range(2):
        with pytest.raises(RegistryError, match=f"the device went back to {good[-1]}"):
            bench.release(bad)
    assert sorted(bench.store.releases()) == sorted(good)
    assert bench.store.linked(MODEL, "previous") == good[-2]


def test_one_fetched_ahead_that_failed_counts_for_nothing_later(bench: Bench) -> None:
    good = [bench.publish("1")]
    bad = bench.publish("bad")
    good.append(bench.publish("2"))
    bench.release(good[0])
    bench.release(bad, activate=False)
    bench.serving.refuses[bad] = "no"
    with pytest.raises(RegistryError):
        bench.release(bad)
    assert bad in bench.store.releases()
    assert bench.store.memory(MODEL).failed == (bad,)
    bench.release(good[1])
    assert bench.store.releases() == good[::-1]


# -- the counter --------------------------------------------------------------------------------


def test_an_older_release_is_refused_unless_it_is_asked_for(bench: Bench) -> None:
    first, second = bench.publish("1"), bench.publish("2")
    bench.release(first)
    bench.release(second)
    with pytest.raises(RegistryError, match=r"has the counter 1, and this device has had one"):
        bench.release(first)
    assert bench.serving.digest == bench.store.linked(MODEL, "current") == second
    assert bench.release(first, rollback=True).after.served.digest == first
    # Going back does not lower what was highest, and what is served is no step back.
    assert bench.store.memory(MODEL).highest == 2
    bench.serving.digest = None
    assert bench.release(first).after.served.digest == first


def test_the_counter_is_written_down_before_the_release_is_served(bench: Bench) -> None:
    digest = bench.publish()
    seen: list[int] = []
    real = bench.serving.load

    def load(model: str) -> str:
        written = (bench.store.root / f"models/{model}/state.json").read_bytes()
        seen.append(json.loads(written)["highest"])
        return real(model)

    bench.serving.load = load  # type: ignore[method-assign]
    bench.release(digest)
    assert seen == [1]
    assert (bench.store.root / "models/demo/state.json").stat().st_mode & 0o777 == 0o600


def test_going_back_by_itself_needs_no_permission(bench: Bench) -> None:
    first, second = bench.publish("1"), bench.publish("2")
    bench.release(first)
    bench.serving.refuses[second] = "no"
    with pytest.raises(RegistryError, match=f"the device went back to {first}"):
        bench.release(second)
    assert bench.store.memory(MODEL).highest == 2
    assert bench.release(first).after.served.digest == first


def test_counters_of_models_are_their_own(bench: Bench) -> None:
    older = bench.publish("1", model=OTHER)
    bench.release(bench.publish("1"))
    assert bench.device.release(older, model=OTHER).after.served.digest == older


def test_what_cannot_be_read_of_the_counter_lets_nothing_older_in(bench: Bench) -> None:
    first, second = bench.publish("1"), bench.publish("2")
    bench.release(first)
    (bench.store.root / "models/demo/state.json").write_text("{")
    with pytest.raises(RegistryError, match=r"So it is not known which counter was the highest"):
        bench.release(second)
    assert bench.serving.digest == first
    assert bench.release(second, rollback=True).after.served.digest == second
    assert bench.store.memory(MODEL).highest == 2


def test_check_mode_refuses_what_a_run_would(bench: Bench) -> None:
    first, second = bench.publish("1"), bench.publish("2")
    bench.release(first)
    bench.release(second)
    state = bench.device.state(MODEL, bench.device.look())
    with pytest.raises(RegistryError, match="going back has to be asked for"):
        bench.device.foresee(first, state)
    assert bench.device.foresee(first, state, rollback=True)[1].switch
    assert not bench.device.foresee(second, state)[1].needed


# -- removal ------------------------------------------------------------------------------------


def test_a_model_that_is_removed_leaves_nothing(bench: Bench) -> None:
    first, second = both(bench)
    assert bench.device.remove(OTHER)
    assert bench.serving.loaded == {MODEL: first}
    assert bench.store.releases() == [first]
    assert sorted(path.name for path in (bench.store.root / "models").iterdir()) == [MODEL]
    assert not bench.device.remove(OTHER)
    assert second not in bench.store.all_linked()


def test_every_model_but_those_named_is_removed(bench: Bench) -> None:
    first, _second = both(bench)
    assert bench.device.others([MODEL], bench.device.look()) == [OTHER]
    assert bench.device.keep_only([MODEL]) == [OTHER]
    assert bench.device.keep_only([MODEL]) == []
    assert bench.serving.loaded == {MODEL: first}
    assert bench.device.keep_only([]) == [MODEL]
    assert bench.store.releases() == []


@pytest.mark.parametrize("fatal", range(1, 20))
def test_killed_while_a_model_is_removed_the_next_run_converges(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fatal: int
) -> None:
    first, _second = both(bench)
    with monkeypatch.context() as patch:
        Trap(patch, fatal)
        with contextlib.suppress(Killed):
            bench.device.remove(OTHER)
    bench.device.verify(first)
    bench.device.remove(OTHER)
    assert bench.serving.loaded == {MODEL: first}
    assert bench.store.releases() == [first]
    assert bench.store.models() == [MODEL]
    assert not bench.device.remove(OTHER)


# -- the layout of version 0.3 ------------------------------------------------------------------


def test_a_device_of_version_0_3_is_taken_over(bench: Bench) -> None:
    first, second = make_old(bench, "1", "2")
    assert bench.device.states(bench.device.look(patient=False))[0].current == second
    run = bench.release(second)
    assert not run.done.needed
    assert bench.store.linked(MODEL, "current") == second
    assert bench.store.linked(MODEL, "previous") == first
    assert not bench.store.old_links()
    # Both go on to be served, also without the network and with no counter.
    bench.registry.manifests.clear()
    assert bench.release(first).after.served.digest == first
    assert bench.device.complaints() == {MODEL: ""}


def test_after_a_release_with_a_counter_one_without_has_to_be_asked_for(bench: Bench) -> None:
    (first,) = make_old(bench, "1")
    bench.release(bench.publish("2"))
    with pytest.raises(RegistryError, match="was signed without a counter"):
        bench.release(first)
    assert bench.release(first, rollback=True).after.served.digest == first


def test_a_release_signed_as_before_does_not_come_in_anew(bench: Bench) -> None:
    digest = bench.publish("1", old=True)
    with pytest.raises(RegistryError, match="does not say for which site and model it was made"):
        bench.release(digest)
    assert bench.store.releases() == []


def test_a_damaged_release_of_version_0_3_is_fetched_anew(bench: Bench) -> None:
    (digest,) = make_old(bench, "1")
    (bench.store.path(digest) / "manifest.json").write_text("{}")
    bench.serving.digest = None
    run = bench.release(digest)
    assert run.done.mend
    assert run.after.served.digest == digest
    assert bench.store.linked(MODEL, "current") == digest


@pytest.mark.parametrize("fatal", range(1, 25))
def test_killed_while_it_is_moved_the_next_run_converges(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fatal: int
) -> None:
    first, second = make_old(bench, "1", "2")
    with monkeypatch.context() as patch:
        Trap(patch, fatal)
        with contextlib.suppress(Killed):
            bench.release(second)
    # Whatever a server finds when it starts now is the release that was served.
    own = bench.store.root / "models" / MODEL / "current"
    link = own if own.is_symlink() else bench.store.root / "current"
    assert link.resolve() == bench.store.path(second).resolve()
    bench.release(second)
    assert bench.store.linked(MODEL, "current") == second
    assert bench.store.linked(MODEL, "previous") == first
    assert not bench.store.old_links()
    assert not bench.release(second).done.needed


def test_a_server_that_knows_one_model_gets_its_links_where_it_reads_them(bench: Bench) -> None:
    bench.serving.old = True
    make_old(bench, "1")
    digest = bench.publish("2")
    assert bench.release(digest).after.served.digest == digest
    assert (bench.store.root / "current").readlink() == Path("releases") / digest[7:]
    assert not (bench.store.root / "models/demo/current").is_symlink()
    with pytest.raises(RegistryError, match="is of an earlier version and cannot let go"):
        bench.device.remove(MODEL)
    # Once the role has brought the new one, the links move.
    bench.serving.old = False
    assert bench.release(digest).after.current == digest
    assert not bench.store.old_links()


# -- trust --------------------------------------------------------------------------------------


def test_a_release_whose_key_was_revoked_is_told_and_refused_at_the_next_start(
    bench: Bench,
) -> None:
    first, second = both(bench)
    assert bench.device.complaints() == {MODEL: "", OTHER: ""}
    bench.ring.trusted, bench.ring.revoked = [OTHER_KEY], [KEY]
    said = bench.device.complaints()[MODEL]
    assert f"The release {first} of the model {MODEL} is served and cannot be verified" in said
    assert f"The key {KEY} was revoked" in said
    assert bench.serving.loaded == {MODEL: first, OTHER: second}
    told = bench.device.guard()
    assert [sentence.split(":")[0] for sentence in told] == ["The release sha256"] * 2
    assert "was taken out of service, nothing is served instead" in told[0]
    assert bench.store.linked(MODEL, "current") is None
    # Set aside, not removed; and it stays so.
    assert bench.store.linked(MODEL, "refused") == first
    assert sorted(bench.store.releases()) == sorted([first, second])
    assert bench.device.guard() == []
    metrics = (bench.store.root / "releases.prom").read_text()
    assert 'mlops_release_verified{model_name="demo"} 0' in metrics
    assert bench.device.wanted(MODEL) == first
    # Signed anew with a key that counts, it comes back.
    bench.key = OTHER_KEY
    bench.sign_release(first, first)
    assert bench.release(first).after.served.digest == first
    assert bench.store.linked(MODEL, "refused") is None
    assert bench.device.complaints()[MODEL] == ""
    assert (
        'mlops_release_verified{model_name="demo"} 1'
        in (bench.store.root / "releases.prom").read_text()
    )


def test_the_one_before_takes_its_place_if_it_counts(bench: Bench) -> None:
    first = bench.publish("1")
    bench.key = OTHER_KEY
    bench.ring.trusted = [KEY, OTHER_KEY]
    second = bench.publish("2")
    bench.release(first)
    bench.release(second)
    bench.ring.trusted, bench.ring.revoked = [KEY], [OTHER_KEY]
    assert f"{first} is served instead" in bench.device.guard()[0]
    assert bench.store.linked(MODEL, "current") == first
    assert bench.store.linked(MODEL, "previous") is None
    third = bench.publish("3", signed=False)
    bench.key = KEY
    bench.sign_release(third, third, "3")
    assert bench.release(third).after.refused is None


def test_what_cannot_be_judged_now_is_served_on(bench: Bench) -> None:
    digest = bench.publish()
    bench.release(digest)
    bench.ring.broken = "The command openssl cannot be run: timed out after 30 seconds."
    assert "was not verified: The command openssl cannot be run" in bench.device.guard()[0]
    assert bench.store.linked(MODEL, "current") == digest


def test_a_device_of_version_0_3_is_guarded_too(bench: Bench) -> None:
    (digest,) = make_old(bench, "1")
    assert bench.device.guard() == []
    assert bench.store.linked(MODEL, "current") == digest
    bench.ring.trusted = [OTHER_KEY]
    assert "was taken out of service" in bench.device.guard()[0]


@pytest.mark.parametrize("fatal", range(1, 20))
def test_killed_while_it_is_taken_out_of_service_the_next_start_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fatal: int
) -> None:
    first, second = bench.publish("1"), bench.publish("2")
    bench.release(first)
    bench.release(second)
    bench.ring.trusted = [OTHER_KEY]
    with monkeypatch.context() as patch:
        Trap(patch, fatal)
        with contextlib.suppress(Killed):
            bench.device.guard()
    bench.device.guard()
    assert bench.store.linked(MODEL, "current") is None
    assert bench.store.linked(MODEL, "refused") == second
    assert bench.store.has(first)
    assert "Release one that a trusted key has signed" in bench.device.complaints()[MODEL]
