# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A private key that this machine does not hold: a command signs, and is not believed blindly."""

from __future__ import annotations

import base64
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlops_pipeline import signers, signing
from mlops_pipeline.config import Config, Section
from mlops_pipeline.errors import PipelineError

from tests.patience import PATIENCE

Keys = tuple[Path, str]
Open = Callable[..., signing.Signer]


def make_key(path: Path) -> Keys:
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    done = subprocess.run(
        ["openssl", "ec", "-in", path, "-pubout"], check=True, capture_output=True, text=True
    )
    return path, done.stdout


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_key(tmp_path_factory.mktemp("keys") / "sign.key")


@pytest.fixture
def opened(pair: Keys, tmp_path: Path) -> Open:
    """Open a signer that is a script; ``KEY`` in it stands for the file of the key."""

    def make(script: str, ring: list[dict[str, Any]] | None = None, **options: Any) -> Any:
        program = tmp_path / "sign"
        program.write_text("#!/bin/sh\n" + script.replace("KEY", str(pair[0])) + "\n")
        program.chmod(0o755)
        settings = {"kind": "command", "command": [str(program)], "public_key": pair[1], **options}
        settings = {name: value for name, value in settings.items() if value is not None}
        value = {"signing": settings, "release_keys": ring or []}
        return signing.open_signer(Config(Section(value, "config.json"), {}))

    return make


SIGN = "openssl dgst -sha256 -sign KEY"


@pytest.mark.parametrize("script", [SIGN, f"{SIGN} | base64"], ids=["DER", "base64"])
def test_a_command_signs(opened: Open, script: str) -> None:
    signer = opened(script)
    payload = b"payload" * 20_000  # more than a pipe holds
    mark = signer.sign(payload)
    assert signing.ring_of(signer).verify(payload, mark, signer.key_id).id == signer.key_id


def test_the_two_bare_numbers_are_a_signature_too(pair: Keys) -> None:
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    mark = signing.PemSigner(pair[0].read_text()).sign(b"payload")
    numbers = decode_dss_signature(mark)
    raw = b"".join(number.to_bytes(32, "big") for number in numbers)
    assert signers.der_of(raw) == signers.der_of(base64.b64encode(raw)) == mark


def test_numbers_whose_base64_begins_as_der_does_are_read_all_the_same() -> None:
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    numbers = [int.from_bytes(bytes([first, *[7] * 31]), "big") for first in (0xD3, 0x30)]
    for number in numbers:
        raw = number.to_bytes(32, "big") * 2
        text = base64.b64encode(raw)
        assert text[:1] == b"0" or raw[:1] == b"0"
        mark = encode_dss_signature(number, number)
        assert signers.der_of(raw) == signers.der_of(text) == signers.der_of(mark) == mark
    assert signers.der_of(b"junk") == signers.der_of(b"") == signers.der_of(b"\xff" * 63) == b""


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("exit 3", "ended with 3, without a word"),
        (
            "printf 'no \\033]0;card\\nhere' >&2; exit 1",
            r"ended with 1: no \]0;card here",
        ),
        ("cat", "is not a signature of the key"),
        ("echo junk", "is not a signature of the key"),
        ("true", "is not a signature of the key"),
        ("cat /dev/zero", "wrote more than 8192 bytes; wanted a signature"),
        ("cat /dev/zero | head -c 100000000 >&2; exit 4", "ended with 4"),
        ("sleep 3600 & wait", "did not end within 0.5 s"),
        ("exec >&- 2>&-; sleep 3600", "did not end within 0.5 s"),
    ],
)
def test_a_command_that_does_not_sign_is_a_sentence(
    opened: Open, script: str, sentence: str
) -> None:
    patience = 0.5 if "sleep" in script else PATIENCE
    started = time.monotonic()
    with pytest.raises(PipelineError, match=sentence):
        opened(script, timeout=patience).sign(b"payload")
    assert time.monotonic() - started < 2 * PATIENCE


def test_a_command_that_is_not_there_is_named(opened: Open) -> None:
    with pytest.raises(PipelineError, match=r"/nowhere/sign cannot be run: No such file"):
        opened("", command=["/nowhere/sign"]).sign(b"payload")


def test_the_signature_of_another_key_is_refused(opened: Open, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other.key")
    with pytest.raises(PipelineError, match="are to be two halves of one pair"):
        opened(f"openssl dgst -sha256 -sign {other[0]}").sign(b"payload")


def test_a_command_is_told_no_secret(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_REGISTRY_PASSWORD", "the-secret")
    opened(f"env > {tmp_path}/env; {SIGN}").sign(b"payload")
    told = (tmp_path / "env").read_text()
    assert f"PATH={os.environ['PATH']}" in told
    assert "the-secret" not in told


def test_the_public_key_may_be_the_only_one_in_use(
    opened: Open, pair: Keys, tmp_path: Path
) -> None:
    other = make_key(tmp_path / "other.key")[1]
    ring = [{"public_key": pair[1]}, {"public_key": other, "revoked": True}]
    assert opened(SIGN, ring, public_key=None).public_key.strip() == pair[1].strip()
    with pytest.raises(PipelineError, match="release_keys lists 2 keys that are not revoked"):
        opened(SIGN, [ring[0], {"public_key": other}], public_key=None)
    with pytest.raises(PipelineError, match="release_keys lists 0 keys"):
        opened(SIGN, public_key=None)


def test_a_key_that_devices_do_not_trust_signs_nothing(
    opened: Open, pair: Keys, tmp_path: Path
) -> None:
    other = make_key(tmp_path / "other.key")[1]
    for ring in ([{"public_key": other}], [{"public_key": pair[1], "revoked": True}]):
        value = {"release_keys": ring}
        with pytest.raises(PipelineError, match="which release_keys does not list or revokes"):
            signing.ring_of(opened(SIGN), Config(Section(value, "config.json"), {}))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kind": "card"}, "config.json, signing, kind: found 'card', wanted key, command or"),
        ({"command": "sign --now"}, "command: found 'sign --now', wanted list"),
        ({"command": []}, "wanted a list of a program and its arguments"),
        ({"command": ["sign", 7]}, "wanted a list of a program and its arguments"),
        ({"public_key": "ssh-rsa A"}, "public_key: Found 'ssh-rsa A', wanted a public key"),
        ({"kind": "pkcs11"}, "signing: the option key is missing"),
        (
            {"kind": "pkcs11", "module": "m", "token": "t", "key": "mine"},
            "key: found 'mine', wanted the id of the key in hexadecimal digits",
        ),
        (
            {"kind": "pkcs11", "module": "m", "token": "t", "key": "01"},
            "The secret PIPELINE_SIGNING_PIN is missing",
        ),
    ],
)
def test_options_that_are_wrong_are_named(
    opened: Open, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(PipelineError, match=sentence):
        opened(SIGN, **options)


@pytest.mark.parametrize("rows", [[7], [{"id": "x"}], [{"public_key": "x"}]])
def test_release_keys_that_are_wrong_are_named(rows: list[Any]) -> None:
    with pytest.raises(PipelineError, match="release_keys, key 1"):
        signing.site_ring(Config(Section({"release_keys": rows}, "config.json"), {}))
