# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documents that a device believes: written and read back, and everything else refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel import documents
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.documents import (
    DocumentError,
    build_signatures,
    parse_channel,
    parse_root,
    parse_signatures,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.orders import Order
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.benchmarks import channel_world as world

KEY, OTHER = world.Key.make(), world.Key.make()
ROOT = world.root(1, [KEY], [OTHER])
CHANNEL = world.channel(
    4,
    world.target(limits={"p95_ms": 20.0}, deadline=600.5, rate=1000, rollback=True),
    world.target(model="texts", step="commit"),
)


def changed(data: bytes, path: tuple[Any, ...], value: Any) -> bytes:
    """The document with one value changed, or taken out where the value is ``...``."""
    document = json.loads(data)
    place = document
    for name in path[:-1]:
        place = place[name]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(document).encode()


def test_documents_read_back() -> None:
    assert parse_root(ROOT.to_bytes()) == ROOT
    assert parse_channel(CHANNEL.to_bytes()) == CHANNEL


def test_release_keys_come_with_the_root_where_it_names_some() -> None:
    assert ROOT.release_keys() == ()
    other = world.root(1, [KEY], [OTHER], release=world.role([KEY]))
    assert parse_root(other.to_bytes()).release_keys() == (KEY.public,)


def test_a_target_is_an_order_in_the_words_of_a_rollout() -> None:
    assert CHANNEL.models[0].order() == Order(
        "activate",
        "defects-7",
        1,
        "defects",
        "sha256:" + "a" * 64,
        600.5,
        {"p95_ms": 20.0},
        1000,
        True,
    )


def test_what_a_later_version_adds_does_no_harm() -> None:
    assert parse_channel(changed(CHANNEL.to_bytes(), ("more",), 1)) == CHANNEL


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("type",), "root", "channel document, type: found root, wanted channel."),
        (("format",), 2, "channel document, format: found 2, wanted a whole number from 1 to 1."),
        (("site",), ..., "channel document: site is missing."),
        (("ring",), "../x", "channel document, ring: found ../x"),
        (("ring",), 7, "channel document, ring: found 7"),
        (("device_classes",), [], "channel document, device_classes: found []"),
        (("device_classes",), ["a", "a"], "wanted every name once"),
        (("sequence",), 0, "channel document, sequence: found 0"),
        (("sequence",), True, "channel document, sequence: found True"),
        (("sequence",), 4.0, "channel document, sequence: found 4.0"),
        (("sequence",), "4", "channel document, sequence: found 4,"),
        (("sequence",), 2**53, "channel document, sequence: found 9007199254740992"),
        (("expires",), world.NOW, "channel document, expires: found 1800000000"),
        (("root_version",), 0, "channel document, root_version: found 0"),
        (("next_poll",), 1, "channel document, next_poll: found 1"),
        (("next_poll",), 10**9, "channel document, next_poll: found 1000000000"),
        (("models",), {}, "channel document, models: found {}"),
        (("models", 0), 7, "channel document, model 1: found 7, wanted a mapping."),
        (("models", 1, "model"), "defects", "wanted every model once"),
        (("models", 0, "model"), "", "channel document, model 1, model: found ''"),
        (("models", 0, "digest"), "sha256:AA", "model 1, digest: Found sha256:AA"),
        (("models", 0, "size"), 0, "model 1, size: found 0"),
        (("models", 0, "counter"), -1, "model 1, counter: found -1"),
        (("models", 0, "minimum_counter"), ..., "model 1: minimum_counter is missing."),
        (("models", 0, "step"), "look", "model 1, step: found look, wanted stage or activate"),
        (("models", 0, "rollout"), "a b", "model 1, rollout: found 'a b'"),
        (("models", 0, "generation"), None, "model 1, generation: found None"),
        (("models", 0, "deadline"), -1, "model 1, deadline: found -1"),
        (("models", 0, "limits"), {"x": "1"}, "model 1, limits: found {'x': '1'}"),
        (("models", 0, "limits"), {"x": -1}, "model 1, limits: found {'x': -1}"),
        (("models", 0, "rate"), 1.5, "model 1, rate: found 1.5"),
        (("models", 0, "rollback"), 1, "model 1, rollback: found 1"),
    ],
)
def test_a_channel_that_is_not_as_it_must_be_is_refused(
    path: tuple[Any, ...], value: Any, said: str
) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_channel(changed(CHANNEL.to_bytes(), path, value))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("version",), 0, "root document, version: found 0"),
        (("expires",), 5, "root document, expires: found 5"),
        (("keys",), [], "root document, keys: found []"),
        (("keys", KEY.id), OTHER.public, f"the key itself has the id {OTHER.id}"),
        (("keys", KEY.id), "x", "Found x, wanted a public key in PEM form"),
        (("roles", "root"), ..., "root document, roles: root is missing."),
        (("roles", "root", "keys"), [], "root document, role root, keys: found []"),
        (("roles", "root", "keys"), ["0" * 16], "wanted a key that the document lists"),
        (("roles", "root", "keys"), [KEY.id, KEY.id], "wanted every name once"),
        (("roles", "channel", "threshold"), 0, "role channel, threshold: found 0"),
        (("roles", "channel", "threshold"), 2, "role channel, threshold: found 2"),
        (("roles",), 7, "root document, roles: found 7"),
    ],
)
def test_a_root_that_is_not_as_it_must_be_is_refused(
    path: tuple[Any, ...], value: Any, said: str
) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_root(changed(ROOT.to_bytes(), path, value))
    assert said in str(caught.value)


def test_keys_other_than_p256_in_its_plain_form_are_refused() -> None:
    larger = world.Key.of(ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(DocumentError, match="no ECDSA P-256 key"):
        world.root(1, [larger], [OTHER]).to_bytes()
    # The same key with its point compressed would count a second time, under another id.
    point = KEY.private.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    der = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point
    pem = (
        "-----BEGIN PUBLIC KEY-----\n"
        + base64.b64encode(der).decode()
        + "\n-----END PUBLIC KEY-----\n"
    )
    with pytest.raises(DocumentError, match="no ECDSA P-256 key"):
        documents.check_key(pem, "key")
    assert documents.check_key(KEY.public, "key") == KEY.id


@pytest.mark.parametrize("parse", [parse_root, parse_channel, parse_signatures])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b'{"type": "root", "type": "channel"}',
        b'{"type": "r\xc3\xb6\xc3\xb6t"}',
        '{"type": "root"}'.encode("utf-16"),
        b'{"a": NaN}',
        b"[" * 100_000,
        b"9" * 5000,
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(parse: Any, data: bytes) -> None:
    with pytest.raises(RegistryError):
        parse(data)


def test_what_is_too_large_is_not_even_read() -> None:
    for parse, limit in (
        (parse_root, documents.MAX_ROOT_BYTES),
        (parse_channel, documents.MAX_CHANNEL_BYTES),
        (parse_signatures, documents.MAX_SIGNATURES_BYTES),
    ):
        with pytest.raises(DocumentError, match=f"larger than {limit} bytes"):
            parse(b" " * (limit + 1))


def test_an_endless_number_is_no_number() -> None:
    data = CHANNEL.to_bytes().replace(b"600.5", b"1e999")
    with pytest.raises(DocumentError, match="deadline"):
        parse_channel(data)


def test_signatures_read_back_and_are_few() -> None:
    marks = [(KEY.id, b"one"), (KEY.id, b"two")]
    assert parse_signatures(build_signatures(marks)) == tuple(marks)
    assert len(parse_signatures(build_signatures(marks * 20))) == documents.MAX_SIGNATURES
    row = {"key": KEY.id, "signature": "AAAA"}
    bad: list[Any] = [[row] * 17, [{**row, "key": "x"}], [{**row, "signature": "?"}], [7], {}]
    for rows in bad:
        with pytest.raises(DocumentError):
            parse_signatures(json.dumps({"signatures": rows}).encode())
