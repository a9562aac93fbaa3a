# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may ask: tokens of which only hashes are kept, and subjects of certificates."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "roles/model_serving/files"))
access = importlib.import_module("mlops_serving.access")

TOKEN, HASH = access.make_token("line-3")
SECRET = TOKEN.partition(".")[2]
DECLARED = [access.Client("line-3", HASH), access.Client("gateway", subject="CN=gateway,O=Plant")]
CLIENTS = access.Clients(DECLARED, hashlib.sha256(b"of-nginx").hexdigest())


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "subject", "name"),
    [
        (f"Bearer {TOKEN}", None, "line-3"),
        (f"bearer  {TOKEN} ", None, "line-3"),
        (basic(f"line-3:{SECRET}"), None, "line-3"),
        (None, "of-nginx CN=gateway,O=Plant", "gateway"),
        # Anybody on the host may send what nginx sends.
        (None, "CN=gateway,O=Plant", None),
        (None, " CN=gateway,O=Plant", None),
        (None, "guessed CN=gateway,O=Plant", None),
        (None, "of-nginx ", None),
        (f"Bearer {TOKEN}", "of-nginx ", "line-3"),
        (None, None, None),
        ("", "", None),
        (f"Bearer line-3.{SECRET}x", None, None),
        ("Bearer line-3.", None, None),
        ("Bearer line-3", None, None),
        (f"Bearer gateway.{SECRET}", None, None),
        ("Bearer gateway.", None, None),
        (f"Bearer other.{SECRET}", None, None),
        ("Bearer .", None, None),
        (TOKEN, None, None),
        ("Basic !!!", None, None),
        (f"Digest {TOKEN}", None, None),
        (None, "of-nginx CN=gateway", None),
        (None, "of-nginx O=Plant,CN=gateway", None),
        ("Bearer line-3.ü", None, None),
    ],
)
def test_only_declared_clients_are_known(
    authorization: str | None, subject: str | None, name: str | None
) -> None:
    assert CLIENTS.identify(authorization, subject) == name


def test_without_what_nginx_is_known_by_no_subject_counts(tmp_path: Path) -> None:
    assert access.Clients(DECLARED).identify(None, "CN=gateway,O=Plant") is None
    assert access.Clients(DECLARED).identify(None, " CN=gateway,O=Plant") is None
    page = tmp_path / "clients.json"
    page.write_text(json.dumps({"clients": [{"name": "gateway", "subject": "CN=g"}]}))
    assert access.read_clients(page).identify(None, "CN=g") is None
    known = hashlib.sha256(b"n").hexdigest()
    page.write_text(json.dumps({"front": known, "clients": [{"name": "gw", "subject": "CN=g"}]}))
    assert access.read_clients(page).identify(None, "n CN=g") == "gw"


def test_with_nobody_declared_everybody_may_ask() -> None:
    assert access.Clients([]).identify(None, None) == access.NOBODY


def test_a_token_is_not_in_what_is_kept_of_it() -> None:
    assert SECRET not in HASH
    assert access.make_token("line-3")[1] != HASH


def test_clients_are_read_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "clients.json"
    path.write_text(json.dumps({"clients": [{"name": "line-3", "token_hash": HASH}]}))
    assert access.read_clients(path).names == ["line-3"]
    path.write_text('{"clients": []}')
    assert not access.read_clients(path).required


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{}", "cannot be read"),
        ("[", "cannot be read"),
        ('{"clients": [3]}', "Client 1 is not an object"),
        ('{"clients": [{"name": "a.b", "subject": "CN=x"}]}', "has the name 'a.b'"),
        ('{"clients": [{"name": "a"}]}', "has neither token_hash nor subject"),
        ('{"clients": [{"name": "a", "token_hash": "secret"}]}', "is not sha256:<salt>:<hash>"),
    ],
)
def test_a_file_that_names_nobody_properly_opens_nothing(
    tmp_path: Path, text: str, sentence: str
) -> None:
    path = tmp_path / "clients.json"
    path.write_text(text)
    with pytest.raises(access.AccessError, match=sentence):
        access.read_clients(path)


def test_the_command_makes_a_token_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert access.main(["team_a"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    kept = second.partition("token_hash: '")[2].rstrip("'}")
    clients = access.Clients([access.Client("team_a", kept)])
    assert clients.identify(f"Bearer {first.rpartition(' ')[2]}", None) == "team_a"
    assert access.main(["a.b"]) == 2
