# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root documents are signed by the keys at hand, and by hand where the others are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.action.rollout_root import SPEC, make
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.documents import (
    Signed,
    parse_root,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.rules import (
    Clock,
    Own,
    first,
    judge,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from cryptography.hazmat.primitives import serialization

from tests.benchmarks import channel_world as world
from tests.benchmarks.channel_world import NOW

ROOT, OTHER, ONLINE, NEXT = (world.Key.make() for _number in range(4))


def private(key: world.Key) -> str:
    return key.private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def made(place: Path, write: bool = True, **changed: Any) -> dict[str, Any]:
    args = {name: option.get("default") for name, option in SPEC.items()}
    args.update(
        site=world.SITE,
        root_keys=[private(ROOT)],
        online_keys=[ONLINE.public],
        directory=str(place),
    )
    return make({**args, **changed}, NOW, write)


def document(result: dict[str, Any]) -> Signed:
    return Signed(result["root"].encode(), result["signatures"].encode())


def believed(*results: dict[str, Any]) -> bool:
    """Whether a device that begins with the first of them believes all."""
    state = first(document(results[0]), world.SITE, world.verify)
    later = [document(one) for one in results[1:]]
    clock, own = Clock(NOW, synchronised=True), Own(world.SITE, world.RING, world.CLASS)
    verdict = judge(state, later, None, clock, own, world.verify)
    return verdict.refusal is None and verdict.state.root.version == len(results)


def test_the_first_root_is_signed_by_itself_and_then_stays(tmp_path: Path) -> None:
    one = made(tmp_path)
    assert (one["changed"], one["version"]) == (True, 1)
    assert believed(one)
    again = made(tmp_path, current=one["root"])
    assert (again["changed"], again["root"], again["version"]) == (False, one["root"], 1)


def test_another_online_key_is_another_root(tmp_path: Path) -> None:
    one = made(tmp_path)
    two = made(tmp_path, current=one["root"], online_keys=[NEXT.public])
    assert believed(one, two)
    assert parse_root(two["root"].encode()).channel.keys == (NEXT.id,)


def test_retired_root_keys_sign_once_more(tmp_path: Path) -> None:
    one = made(tmp_path)
    two = made(
        tmp_path,
        current=one["root"],
        root_keys=[private(OTHER)],
        retired_root_keys=[private(ROOT)],
    )
    assert believed(one, two)
    assert parse_root(two["root"].encode()).root.keys == (OTHER.id,)


def test_root_keys_that_are_elsewhere_sign_by_hand(tmp_path: Path) -> None:
    offline: dict[str, Any] = {"root_keys": [], "root_public_keys": [OTHER.public]}
    with pytest.raises(RegistryError) as caught:
        made(tmp_path, **offline)
    path = tmp_path / "fleet-root-1.json"
    assert f"lacks signatures: 1 of {OTHER.id}. Sign the file {path}" in str(caught.value)
    beside = tmp_path / f"fleet-root-1.json.{OTHER.id}.sig"
    beside.write_bytes(ROOT.sign(path.read_bytes()))
    with pytest.raises(RegistryError, match="is no signature of the key"):
        made(tmp_path, **offline)
    beside.write_bytes(OTHER.sign(path.read_bytes()))
    assert believed(made(tmp_path, **offline))


def test_both_kinds_of_keys_reach_a_threshold_together(tmp_path: Path) -> None:
    both: dict[str, Any] = {"root_public_keys": [OTHER.public], "threshold": 2}
    with pytest.raises(RegistryError, match=f"1 of {OTHER.id}"):
        made(tmp_path, **both)
    path = tmp_path / "fleet-root-1.json"
    path.with_name(f"{path.name}.{OTHER.id}.sig").write_bytes(OTHER.sign(path.read_bytes()))
    one = made(tmp_path, **both)
    assert believed(one)
    # What was signed for one document does not count for another.
    for said in ("lacks signatures", "is no signature of the key"):
        with pytest.raises(RegistryError, match=said):
            made(tmp_path, **both, online_keys=[NEXT.public])


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="lacks signatures"):
        made(tmp_path, write=False, root_keys=[], root_public_keys=[OTHER.public])
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="root_keys, number 2 is no private key in PEM form"):
        made(tmp_path, root_keys=[private(ROOT), "secret"])
    with pytest.raises(RegistryError, match="is of the site"):
        made(tmp_path, site="other", current=made(tmp_path)["root"])
