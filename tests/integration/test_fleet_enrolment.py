# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device that nobody reaches gets its certificate: nginx and openssl are real."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.filter.htpasswd import htpasswd
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import Interrupted
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.enrol import (
    Enrolment,
    Invitation,
    enrol,
    fingerprint,
    main,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.fleet import (
    FleetSettings,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.fleet import (
    Gateway as Entrance,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.enrolment import Enrolments
from ansible_collections.mlops.onprem.plugins.module_utils._release.enrolment import main as tidy
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.openssl import run_openssl
from ansible_collections.mlops.onprem.plugins.module_utils._trust import certificates as trust

from tests.integration import fleet_gateway
from tests.integration.fleet_gateway import Gateway

TOKEN = "T0ken" * 9
NAME = "edge7"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    try:
        fleet_gateway.program()
    except fleet_gateway.NoNginx as reason:
        pytest.skip(str(reason))
    with fleet_gateway.running(tmp_path_factory.mktemp("gateway")) as running:
        yield running


class Site:
    """The control host and what a person does there."""

    def __init__(self, place: Path, gateway: Gateway) -> None:
        self.place, self.gateway, self.shift = place, gateway, 0.0
        (place / "own").mkdir()

    def enrolments(self) -> Enrolments:
        now = time.time() + self.shift
        return Enrolments(self.gateway.documents, self.gateway.written, self.place / "own", now)

    def invite(self, token: str = TOKEN, days: float = 7) -> Path:
        """Make a bundle, as tasks/bundle.yml of the role does."""
        row = htpasswd({NAME: token}, "s" * 16).strip()
        expires = time.time() + self.shift + days * 86400
        self.enrolments().invite(NAME, row.partition(":")[2], expires, "ann")
        bundle = self.place / f"bundle-{time.monotonic_ns()}"
        bundle.mkdir()
        where = f"https://localhost:{self.gateway.port}"
        value = {"name": NAME, "gateway": where, "token": token, "expires": expires}
        (bundle / "enrol.json").write_text(json.dumps(value))
        (bundle / "ca.crt").write_text(self.gateway.ca.pem)
        for name in ("fleet.json", "fleet_root.json", "fleet_root.json.sig"):
            (bundle / name).write_text(name)
        return bundle

    def approve(self, shown: str) -> None:
        found = self.enrolments().asking(NAME)
        authority = trust.load_authority(self.gateway.ca.pem, self.gateway.ca.key, "ca")
        names = trust.names_of(NAME, [])
        issued = trust.issue(found.request, authority, names, datetime.now(timezone.utc), 30)
        self.enrolments().issue(NAME, shown, issued, "ann")

    def events(self) -> list[str]:
        return [line["event"] for line in self.enrolments().journal()]


@pytest.fixture
def site(tmp_path: Path, gateway: Gateway) -> Iterator[Site]:
    made = Site(tmp_path, gateway)
    yield made
    for path in (*gateway.written.glob("*/edge7*"), *gateway.documents.glob("issued/edge7*")):
        path.unlink()


def take(one: Enrolment, meanwhile: Callable[[], object], turns: int = 3) -> tuple[bool, str]:
    """The command on the device, with what happens while it waits."""
    said: list[str] = []
    left = [meanwhile] + [lambda: None] * turns

    def pause(_seconds: float) -> None:
        left.pop(0)()

    done = enrol(one, said.append, 1.0, pause, lambda: float(not left))
    return done, "".join(said)


def test_a_device_gets_its_certificate_once_a_person_has_compared_its_key(
    site: Site, tmp_path: Path
) -> None:
    bundle, root = site.invite(), tmp_path / "device"
    one = Enrolment(bundle, root)
    done, said = take(one, lambda: site.approve(one.shown()))
    assert done
    assert "a person approves it by this fingerprint" in said
    tls = root / "etc/mlops/tls"
    assert (tls / "host.key").stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tls.iterdir()) == ["ca.crt", "host.crt", "host.key"]
    assert (root / "etc/mlops/model_serving/fleet_root.json").read_text() == "fleet_root.json"
    # It is let in by its certificate now, and by its token to nothing more.
    settings = FleetSettings(
        f"https://localhost:{site.gateway.port}", NAME, "s", "r", str(tls / "ca.crt"),
        str(tls / "host.crt"), str(tls / "host.key"), "x", str(tmp_path),
    )  # fmt: skip
    with Entrance(settings).contact() as talk:
        assert talk.get("/fleet/root/1.json", 1000).status == 404
        assert talk.put(f"/fleet/state/{NAME}", b"{}").status in (201, 204)
    second = Enrolment(bundle, tmp_path / "another device")
    second.public_key()
    with pytest.raises(RegistryError, match="does not take the token"):
        second.hand_in()
    site.shift = 5
    assert site.enrolments().tidy() == [NAME]
    assert second.fetch() == b""
    assert site.events() == ["invited", "issued", "fetched"]


def test_a_request_that_came_after_the_person_compared_is_not_signed(
    site: Site, tmp_path: Path
) -> None:
    """Whoever has stolen the bundle can ask, too; who is let in is whose key a person has seen."""
    bundle = site.invite()
    one, thief = Enrolment(bundle, tmp_path / "device"), Enrolment(bundle, tmp_path / "thief")
    one.public_key()
    thief.public_key()
    one.hand_in()
    thief.hand_in()
    with pytest.raises(RegistryError, match=f"{thief.shown()}, approved was {one.shown()}"):
        site.approve(one.shown())
    one.hand_in()
    site.approve(one.shown())
    # A certificate for another key is none for the thief, who has no key for it.
    assert thief.fetch() == b""
    assert one.fetch()


def test_an_invitation_ends_and_a_newer_one_replaces_it(site: Site, tmp_path: Path) -> None:
    one = Enrolment(site.invite(days=1), tmp_path / "device")
    one.public_key()
    one.hand_in()
    site.shift = 86400 + 1
    with pytest.raises(RegistryError, match="has expired"):
        site.approve(one.shown())
    assert site.enrolments().tidy() == [NAME]
    with pytest.raises(RegistryError, match="does not take the token"):
        one.hand_in()
    again = Enrolment(site.invite("N3wer" * 9), tmp_path / "device")
    again.hand_in()
    with pytest.raises(RegistryError, match="does not take the token"):
        one.hand_in()
    assert site.events() == ["invited", "expired", "invited"]


def test_a_token_that_has_expired_leaves_nginx_by_the_timer(site: Site, tmp_path: Path) -> None:
    """Nobody runs a playbook: the command of the control host does it."""
    one = Enrolment(site.invite(days=-1), tmp_path / "device")
    one.public_key()
    one.hand_in()  # nginx knows no dates
    words = [f"--fleet={site.gateway.documents}", f"--written={site.gateway.written}"]
    assert tidy([*words, f"--state={site.place / 'own'}"]) == 0
    with pytest.raises(RegistryError, match="does not take the token"):
        one.hand_in()
    assert site.events() == ["invited", "expired"]
    assert tidy([*words, f"--state={tmp_path}/missing"]) == 1


def test_a_device_whose_certificate_expired_is_let_in_again_and_that_is_written_down(
    site: Site, tmp_path: Path
) -> None:
    root = tmp_path / "device"
    for token in ("F1rst" * 9, "Sec0nd" * 8):
        one = Enrolment(site.invite(token), root)
        assert take(one, lambda one=one: site.approve(one.shown()))[0]  # type: ignore[misc]
        site.shift += 1
    lines = [line for line in site.enrolments().journal() if line["event"] == "issued"]
    assert (lines[0]["again"], lines[0]["by"]) == (0.0, "ann")
    assert lines[1]["again"] == lines[0]["at"]
    assert lines[1]["fingerprint"] != lines[0]["fingerprint"]


def test_what_is_no_request_is_not_shown_to_anybody(site: Site) -> None:
    site.invite()
    place = site.gateway.written / "enroll/edge7.csr"
    with pytest.raises(RegistryError, match="has not asked yet"):
        site.enrolments().asking(NAME)
    place.write_bytes(b"x" * 20000)
    with pytest.raises(RegistryError, match="over 16384 bytes"):
        site.enrolments().asking(NAME)
    place.write_bytes(b"no request")
    with pytest.raises(RegistryError, match="openssl req failed"):
        site.enrolments().asking(NAME)
    with pytest.raises(RegistryError, match="edge8 is not invited"):
        site.enrolments().asking("edge8")


def test_a_run_that_was_killed_goes_on_and_nothing_is_replaced_before(
    site: Site, tmp_path: Path
) -> None:
    bundle, root = site.invite(), tmp_path / "device"
    old = root / "etc/mlops/tls/host.key"
    old.parent.mkdir(parents=True)
    old.write_text("old key")
    one = Enrolment(bundle, root)
    assert take(one, lambda: None, 0) == (False, f"This device is to be {NAME}. The fingerprint of "
        f"its key: {one.shown()}\nThe request is handed in; a person approves it by this "
        "fingerprint.\n")  # fmt: skip
    assert old.read_text() == "old key"
    site.approve(one.shown())
    assert take(Enrolment(bundle, root), lambda: None)[0]
    assert "PRIVATE KEY" in old.read_text()


def test_a_certificate_of_another_authority_is_not_taken(site: Site, tmp_path: Path) -> None:
    bundle = site.invite()
    key = trust.throwaway_request("other")[1]
    now = datetime.now(timezone.utc)
    other = trust.new_authority(key, "Other", now, 30)
    one = Enrolment(bundle, tmp_path / "device")
    one.public_key()
    one.hand_in()
    request = site.enrolments().asking(NAME).request
    wrong = trust.issue(request, other, trust.names_of(NAME, []), now, 10)
    site.enrolments().issue(NAME, one.shown(), wrong, "ann")
    with pytest.raises(RegistryError, match="not one of the authority of the bundle"):
        one.fetch()
    assert not (tmp_path / "device/etc/mlops/tls/host.crt").exists()


def test_a_gateway_that_is_away_is_waited_for(site: Site, tmp_path: Path) -> None:
    def away(_method: str, _path: str, _body: bytes) -> tuple[int, bytes]:
        raise Interrupted("connection refused")

    one = Enrolment(site.invite(), tmp_path / "device", away)
    done, said = take(one, lambda: None)
    assert not done
    assert said.count("The gateway is not reached (connection refused)") == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "../x"}, "not one that enrol.yml makes"),
        ({"token": "short"}, "not one that enrol.yml makes"),
        ({"gateway": "http://x"}, "wanted https"),
        ({"expires": None}, "no invitation"),
    ],
)
def test_an_invitation_says_what_is_wrong_with_it(changed: dict[str, object], said: str) -> None:
    value = {"name": NAME, "gateway": "https://x", "token": TOKEN, "expires": 1, **changed}
    with pytest.raises(RegistryError, match=said):
        Invitation.parse(json.dumps(value).encode(), "enrol.json")


def test_the_command_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"--bundle={tmp_path}"]) == 1
    assert "unpack the whole bundle" in capsys.readouterr().err


def test_both_sides_show_the_same_of_a_key() -> None:
    key = run_openssl(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])
    public = run_openssl(["pkey", "-pubout"], key)
    shown = fingerprint(public)
    assert len(shown.replace("-", "")) == 32
    # The openssl of Debian 13 says beside it that the request is good.
    assert fingerprint(b"Certificate request self-signature verify OK\n" + public) == shown
    with pytest.raises(RegistryError, match="no public key"):
        fingerprint(key)
