# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens on a device: activation, going back, and being killed anywhere in between."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release import oci, statement
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.disk import PartialFile
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.settings import Settings
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.state import plan
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError

from tests.releases import EVALUATION

from .conftest import KEY, MODEL, OTHER_KEY, Bench


class Killed(BaseException):
    """The process is gone."""


def test_a_release_is_fetched_verified_and_served(bench: Bench) -> None:
    digest = bench.publish()
    run = bench.release(digest)
    before, after, done, moved = run.before, run.after, run.done, run.moved
    assert (before.current, after.current, after.served.digest) == (None, digest, digest)
    assert done.needed
    assert moved > 400
    place = bench.store.path(digest)
    assert sorted(path.name for path in place.iterdir()) == [
        "config.json",
        "golden.json",
        "manifest.json",
        "model.onnx",
        "signature.json",
    ]
    assert oct(place.stat().st_mode & 0o777) == "0o750"
    assert (bench.store.root / "models/demo/current").readlink() == (
        Path("../../releases") / place.name
    )


def evaluated(bench: Bench, changed: bytes = b"") -> tuple[str, bytes]:
    """A release whose signature names its evaluation; another one may be stored in its place."""
    digest = bench.publish(signed=False)
    said = statement.build_statement("registry/models/demo", digest, {}, EVALUATION)
    bench.sign_release(digest, digest, statement=oci.digest_of(said))
    envelope = statement.build_envelope(changed or said, [])
    bench.registry.blobs[oci.digest_of(envelope)] = envelope
    stored = statement.build_attestation_manifest(envelope)
    bench.client().push_manifest(stored.to_bytes(), statement.attestation_tag(digest))
    return digest, said


def test_the_evaluation_that_the_signature_names_is_kept_beside_the_release(bench: Bench) -> None:
    digest, said = evaluated(bench)
    bench.release(digest)
    assert (bench.store.path(digest) / "evaluation.json").read_bytes() == said
    assert not bench.release(digest).done.needed


@pytest.mark.parametrize("broken", ["another", "gone", "damaged"])
def test_a_release_is_served_without_an_evaluation_that_is_not_its_own(
    bench: Bench, broken: str
) -> None:
    digest, said = evaluated(bench, b"{}" if broken == "another" else b"")
    if broken == "gone":
        del bench.registry.manifests[statement.attestation_tag(digest)]
    if broken == "damaged":
        bench.registry.blobs[oci.digest_of(statement.build_envelope(said, []))] = b"x"
    assert bench.release(digest).after.served.digest == digest
    assert not (bench.store.path(digest) / "evaluation.json").exists()


def test_a_second_time_nothing_changes(bench: Bench) -> None:
    digest = bench.publish()
    bench.release(digest)
    asked, loads = len(bench.registry.log), bench.serving.loads
    run = bench.release(digest)
    done, moved = run.done, run.moved
    assert not done.needed
    assert (moved, len(bench.registry.log), bench.serving.loads) == (0, asked, loads)


def test_fetching_ahead_does_not_activate(bench: Bench) -> None:
    digest = bench.publish()
    run = bench.release(digest, activate=False)
    after, done = run.after, run.done
    assert done.needed
    assert (after.current, after.served.digest, after.releases) == (None, None, (digest,))
    assert not bench.release(digest, activate=False).done.needed


def test_an_older_release_comes_back_without_the_network(bench: Bench) -> None:
    first, second = bench.publish("1"), bench.publish("2")
    bench.release(first)
    bench.release(second)
    bench.registry.blobs.clear()
    bench.registry.manifests.clear()
    after = bench.release(first, rollback=True).after
    assert (after.current, after.previous, after.served.digest) == (first, second, first)


def test_only_so_many_releases_are_kept(bench: Bench) -> None:
    digests = [bench.publish(str(number)) for number in range(6)]
    for digest in digests:
        bench.release(digest)
    assert bench.store.releases() == digests[:2:-1]
    assert bench.store.linked(MODEL, "previous") == digests[-2]
    assert not list((bench.store.root / "incoming").iterdir())


def test_an_unsigned_release_is_refused_before_anything_is_fetched(bench: Bench) -> None:
    digest = bench.publish(signed=False)
    with pytest.raises(RegistryError, match=f"The release {digest} is not signed"):
        bench.release(digest)
    assert not bench.store.has(digest)
    assert not any("/blobs/" in path for _method, path, _headers in bench.registry.log)


def test_a_wrong_signature_is_refused(bench: Bench) -> None:
    digest = bench.publish(signed=False)
    bench.key = OTHER_KEY
    bench.sign_release(digest, digest)
    with pytest.raises(RegistryError, match="was not made with a key that is trusted here"):
        bench.release(digest)


def test_the_signature_of_another_release_is_refused(bench: Bench) -> None:
    good, bad = bench.publish("1"), bench.publish("2", signed=False)
    bench.sign_release(bad, good)
    with pytest.raises(RegistryError, match=f"The signature stored for {bad} speaks of {good}"):
        bench.release(bad)


def test_a_tampered_file_is_refused_and_the_device_serves_on(bench: Bench) -> None:
    first, second = bench.publish("1"), bench.publish("2", model_onnx=b"better")
    bench.release(first)
    for digest, data in bench.registry.blobs.items():
        if data == b"better":
            bench.registry.blobs[digest] = b"evil!!"
    with pytest.raises(RegistryError, match=r"The file model.onnx was tampered with"):
        bench.release(second)
    assert bench.store.linked(MODEL, "current") == bench.serving.digest == first


def test_a_file_changed_on_the_disk_is_found_before_it_is_activated(bench: Bench) -> None:
    first, second = bench.publish("1"), bench.publish("2")
    bench.release(first)
    bench.release(second)
    (bench.store.path(first) / "model.onnx").write_bytes(b"evil")
    with pytest.raises(RegistryError, match=r"model.onnx was tampered with: found the digest"):
        bench.device.verify(first)
    # The registry still has it as it was.
    assert bench.release(first, rollback=True).after.served.digest == first


def spoil(bench: Bench, digest: str, how: str) -> None:
    """What happens to files on a bad memory card."""
    place = bench.store.path(digest)
    if how == "another byte":
        (place / "model.onnx").write_bytes(b"evil" * 100)
    elif how == "cut short":
        os.truncate(place / "golden.json", 3)
    elif how == "file gone":
        (place / "model.onnx").unlink()
    elif how == "manifest of another":
        (place / "manifest.json").write_bytes(b"{}")
    elif how == "signature unreadable":
        (place / "signature.json").write_bytes(b"[")
    elif how == "a directory in its place":
        (place / "model.onnx").unlink()
        (place / "model.onnx").mkdir()
    elif how == "all gone":
        shutil.rmtree(place)
    else:
        raise AssertionError(how)


SPOILT = [
    "another byte",
    "cut short",
    "file gone",
    "manifest of another",
    "signature unreadable",
    "a directory in its place",
    "all gone",
]


@pytest.mark.parametrize("served", [True, False], ids=["still served", "server refused it"])
@pytest.mark.parametrize("how", SPOILT)
def test_a_damaged_release_is_fetched_again_and_served(
    bench: Bench, how: str, served: bool
) -> None:
    digest = bench.publish()
    bench.release(digest)
    spoil(bench, digest, how)
    if not served:
        bench.serving.digest = None
    assert bench.device.wanted(MODEL) == digest
    run = bench.release(digest)
    after, done, moved = run.after, run.done, run.moved
    assert done.needed
    assert bool(done.mend) == (how != "all gone")
    assert moved > 0
    assert after.served.digest == after.current == digest
    assert bench.device.verify(digest).digest == digest
    # Nothing is left over, and the next run has nothing to do.
    run = bench.release(digest)
    again, moved = run.done, run.moved
    assert (again.needed, moved) == (False, 0)
    assert not list((bench.store.root / "incoming").iterdir())


@pytest.mark.parametrize("how", SPOILT[:5])
def test_what_is_damaged_stays_until_there_is_better(bench: Bench, how: str) -> None:
    digest = bench.publish()
    bench.release(digest)
    spoil(bench, digest, how)
    before = {path.name: path.read_bytes() for path in bench.store.path(digest).iterdir()}
    bench.registry.manifests.clear()
    with pytest.raises(RegistryError, match=r"It was left as it is: The registry holds no release"):
        bench.release(digest)
    assert before == {path.name: path.read_bytes() for path in bench.store.path(digest).iterdir()}
    assert bench.store.linked(MODEL, "current") == digest


def test_modes_that_lock_the_server_out_are_put_right_without_the_network(bench: Bench) -> None:
    digest = bench.publish()
    bench.release(digest)
    (bench.store.path(digest) / "model.onnx").chmod(0o600)
    bench.store.path(digest).chmod(0o700)
    bench.registry.manifests.clear()
    run = bench.release(digest)
    done, moved = run.done, run.moved
    assert "other modes" in done.mend
    assert moved == 0
    assert (bench.store.path(digest) / "model.onnx").stat().st_mode & 0o777 == 0o640
    assert not bench.release(digest).done.needed


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("broken", "The command openssl cannot be run"),
        ("trusted", "was not made with a key that is trusted here"),
        ("revoked", f"The key {KEY} was revoked"),
    ],
    ids=["openssl cannot be run", "the key was changed", "the key was revoked"],
)
@pytest.mark.parametrize("registry", ["there", "away"])
def test_a_refused_rollback_keeps_the_release_that_is_here(
    bench: Bench, what: str, sentence: str, registry: str
) -> None:
    first, second = bench.publish("1"), bench.publish("2")
    bench.release(first)
    bench.release(second)
    if registry == "away":
        bench.registry.manifests.clear()
        bench.registry.blobs.clear()
    if what == "broken":
        bench.ring.broken = "The command openssl cannot be run: timed out after 30 seconds."
    else:
        bench.ring.trusted = [OTHER_KEY]
        bench.ring.revoked = [KEY] if what == "revoked" else []
    with pytest.raises(RegistryError, match=sentence):
        bench.release(first, rollback=True)
    assert bench.store.has(first)
    assert bench.store.linked(MODEL, "current") == second
    assert bench.store.linked(MODEL, "previous") == first
    bench.ring.trusted, bench.ring.revoked, bench.ring.broken = [KEY], [], ""
    assert bench.release(first, rollback=True).after.served.digest == first


@pytest.mark.parametrize("fatal", range(1, 8))
def test_killed_while_it_is_mended_the_next_run_converges(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fatal: int
) -> None:
    digest = bench.publish()
    bench.release(digest)
    spoil(bench, digest, "another byte")
    bench.serving.digest = None
    count = 0
    real = os.replace

    def step(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if count == fatal:
            raise Killed
        real(*arguments)

    monkeypatch.setattr(os, "replace", step)
    with contextlib.suppress(Killed):
        bench.release(digest)
    assert bench.store.linked(MODEL, "current") == digest
    assert bench.release(digest).after.served.digest == digest
    assert bench.device.verify(digest).digest == digest
    assert not list((bench.store.root / "incoming").iterdir())


def test_a_release_signed_anew_gets_its_new_signature(bench: Bench) -> None:
    first, second = bench.publish("1"), bench.publish("2")
    bench.release(first)
    bench.release(second)
    bench.ring.trusted = [OTHER_KEY]
    bench.key = OTHER_KEY
    bench.sign_release(first, first)
    assert bench.release(first).after.served.digest == first
    assert bench.device.verify(first).digest == first


def test_a_device_that_was_mended_keeps_the_order_of_its_releases(bench: Bench) -> None:
    digests = [bench.publish(str(number)) for number in range(3)]
    for digest in digests:
        bench.release(digest)
    spoil(bench, digests[0], "another byte")
    bench.release(digests[0], activate=False)
    assert bench.store.releases() == digests[::-1]


def test_a_release_that_cannot_be_served_is_taken_back(bench: Bench) -> None:
    first, second = bench.publish("1"), bench.publish("2")
    bench.release(first)
    bench.serving.refuses[second] = "Golden request 3 differs by 0.7."
    with pytest.raises(RegistryError) as refusal:
        bench.release(second)
    assert str(refusal.value) == (
        f"The release {second} cannot be served (Golden request 3 differs by 0.7); "
        f"the device went back to {first}."
    )
    assert bench.store.linked(MODEL, "current") == bench.serving.digest == first
    assert bench.store.linked(MODEL, "previous") is None


def test_a_first_release_that_cannot_be_served_leaves_the_device_empty(bench: Bench) -> None:
    digest = bench.publish()
    bench.serving.refuses[digest] = "no"
    with pytest.raises(RegistryError, match="this device has no earlier release to go back to"):
        bench.release(digest)
    assert bench.store.linked(MODEL, "current") is None


def test_a_server_that_is_starting_is_waited_for(bench: Bench) -> None:
    bench.serving.silent = 2
    assert bench.release(bench.publish()).after.served.digest


def test_a_server_that_does_not_answer_changes_nothing(bench: Bench) -> None:
    bench.serving.silent = 1000
    with pytest.raises(RegistryError, match="The model server of this device does not answer"):
        bench.release(bench.publish())
    assert bench.store.releases() == []


def test_a_disk_that_is_too_small_is_said_before_the_download(bench: Bench) -> None:
    digest, left = bench.publish(), [0]
    bench.device._fetcher._free = lambda _path: left[0]
    for left[0] in (100, 16 * 2**20 + 10):
        said = rf"16 MiB have to be left for others, {left[0]} bytes are free; keep fewer releases"
        with pytest.raises(RegistryError, match=said):
            bench.release(digest)
    left[0] = 17 * 2**20
    assert bench.release(digest)


def test_a_digest_that_is_not_there_is_said(bench: Bench) -> None:
    digest = "sha256:" + "f" * 64
    with pytest.raises(RegistryError, match=f"The registry holds no release {digest}"):
        bench.release(digest)


def test_two_at_a_time_is_one_too_many(bench: Bench) -> None:
    with bench.store.lock(), pytest.raises(RegistryError, match="Another process works on"):
        bench.release(bench.publish())


@pytest.mark.parametrize("fatal", range(40))
def test_killed_anywhere_the_device_serves_and_the_next_run_converges(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fatal: int
) -> None:
    old, current, wanted = (bench.publish(version) for version in "123")
    for digest in (old, current):
        bench.release(digest)
    bench.device._keep = 2
    count = 0

    def trap(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == fatal:
                raise Killed
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, step)

    with monkeypatch.context():
        for owner, name in (
            (os, "rename"),
            (os, "symlink"),
            (os, "replace"),
            (os, "utime"),
            (os, "fsync"),
            (Path, "mkdir"),
            (Path, "write_bytes"),
            (Path, "unlink"),
            (shutil, "rmtree"),
            (PartialFile, "write"),
            (bench.serving, "load"),
        ):
            trap(owner, name)
        with contextlib.suppress(Killed):
            bench.release(wanted)
        fatal = -1
        # Restarted with whatever is there, it serves one whole release.
        assert bench.store.linked(MODEL, "current") in (current, wanted)
        bench.device.verify(bench.store.linked(MODEL, "current") or "")
        bench.release(wanted)
    assert bench.serving.digest == bench.store.linked(MODEL, "current") == wanted
    assert bench.store.linked(MODEL, "previous") == current
    assert bench.store.releases() == [wanted, current]
    assert list((bench.store.root / "incoming").iterdir()) == []


def test_the_plan_says_what_is_missing(bench: Bench) -> None:
    digest = bench.publish()
    state = bench.device.state(MODEL, bench.device.look())
    wanted = plan(state, digest)
    assert (wanted.pull, wanted.switch, wanted.reload) == (True, True, True)
    assert not plan(state, digest, activate=False).reload


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"{", "s.json: this is not JSON"),
        (b"[]", "s.json: wanted a mapping."),
        (b'{"registry_url": 7}', "s.json: registry_url is missing or not str."),
    ],
)
def test_settings_that_are_wrong_are_named(data: bytes, sentence: str) -> None:
    with pytest.raises(RegistryError) as refusal:
        Settings.parse(data, "s.json")
    assert sentence in str(refusal.value)
