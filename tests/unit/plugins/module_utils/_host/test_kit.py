# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device installs itself from, and in which order it does so."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host import kit, kit_apply
from ansible_collections.mlops.onprem.plugins.module_utils._host.app import Target
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError
from ansible_collections.mlops.onprem.plugins.module_utils._host.ledger import Ledger

HANDS = "ansible_collections.mlops.onprem.plugins.module_utils._host"
HERE = Target("3.13", "x86_64", "glibc 2.41")
SITE = {"id": "site-of-the-tests", "name": "Example"}


def task(role: str, module: str, **params: Any) -> dict[str, Any]:
    return {"role": role, "module": module, "name": f"Do {module}", "params": params}


TASKS = [
    task("trust", kit.PACKAGES, name=["openssl"]),
    task("trust", kit.FILES),
    task("trust", kit.CERTIFICATE),
    task("model_serving", kit.PACKAGES, name=["openssl", "python3"]),
    task("model_serving", kit.APP, digests={"any": "d"}),
    task("model_serving", kit.SERVICE, name="server", health={"url": "http://127.0.0.1:8080/x"}),
    task("agent", kit.FILES),
    task("agent", kit.SERVICE, name="agent"),
    task("model_serving", kit.PACKAGES, name=["nginx"], disable_units=["nginx.service"]),
    task("model_serving", kit.SERVICE, name="front", health={"tcp": "127.0.0.1:9113"}),
]


def written(**more: Any) -> bytes:
    value = {
        "format": kit.FORMAT,
        "device": "edge7",
        "site": SITE,
        "system": "debian 13",
        "target": {"version": "3.13", "machine": "x86_64", "libc": "glibc 2.41"},
        "archives": {"d": "environment.tar.gz"},
        "tasks": TASKS,
        **more,
    }
    return json.dumps(value).encode()


KIT = kit.parse(written(), "kit.json")


def test_what_goes_first_is_what_came_last() -> None:
    assert KIT.owners == ("agent", "model_serving", "trust")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", "is no kit of a device"),
        (written(format=2), "has the format 2, wanted 1; make the bundle anew"),
        (written(tasks=[{}]), "is no kit of a device"),
        (written(tasks=[task("x", "host_quadlet")]), "host_quadlet, which a device does not do"),
    ],
)
def test_another_document_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(HostError, match=said):
        kit.parse(data, "kit.json")


def test_a_device_that_has_all_lacks_nothing() -> None:
    installed = {"openssl", "python3", "nginx", "bash"}
    assert kit.lacking(KIT, HERE, installed) == []
    newer = Target("3.13", "x86_64", "glibc 2.42")
    assert kit.lacking(KIT, newer, installed) == []


@pytest.mark.parametrize(
    ("here", "said"),
    [
        (Target("3.11", "x86_64", "glibc 2.41"), "Found Python 3.11 on x86_64, wanted Python 3.13"),
        (Target("3.13", "aarch64", "glibc 2.41"), "Found Python 3.13 on aarch64"),
        (Target("3.13", "x86_64", "glibc 2.36"), "Found glibc 2.36, wanted glibc 2.41"),
    ],
)
def test_another_device_than_the_bundle_was_made_for_is_told_with_what_is_missing(
    here: Target, said: str
) -> None:
    found = kit.lacking(KIT, here, {"openssl", "python3"})
    assert len(found) == 2
    assert found[0].startswith(said)
    assert "enrol_system" in found[0]
    assert found[1].startswith("Found no package nginx; ")
    assert found[1].endswith("apt-get install --no-install-recommends nginx")


def test_a_port_that_somebody_else_has_is_told_and_ones_own_service_is_not() -> None:
    answering = {("127.0.0.1", 9113), ("127.0.0.1", 8080)}
    mine = Ledger().claim("model_serving", "unit", "server.service")
    (said,) = kit.taken(KIT, mine, answering)
    assert "127.0.0.1:9113, wanted the port free for front.service" in said
    assert said.endswith("systemctl disable --now nginx.service")


def test_the_device_of_another_site_is_refused() -> None:
    other = Ledger(site={"id": "another-site", "name": "Other"})
    with pytest.raises(HostError, match=r"belongs to another site, Other \(another-site\)"):
        kit.site_of(KIT, other)
    kept = kit.site_of(KIT, Ledger(site={"id": SITE["id"], "fingerprints": {"ca": "x"}}))
    assert kept == {**SITE, "fingerprints": {"ca": "x"}}


class Device:
    """A device whose hands are told what they were asked; a certificate comes by enrolment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, changed: bool = True) -> None:
        self.did: list[str] = []
        self.ledger, self.certificate, self.changed = Ledger(), False, changed

        def hand(module: str) -> Any:
            def converge(params: Any, check: bool) -> dict[str, Any]:
                sent = params.get("archive", "")
                self.did.append(" ".join(str(one) for one in (module, sent or "") if one))
                lacks = self.changed and not sent
                about = {"digest": "d", "python_version": "3.13"}
                return {"changed": self.changed, "archive_wanted": lacks, **about}

            return converge

        for name in ("files", "service", "app"):
            monkeypatch.setattr(f"{HANDS}.{name}_apply.converge", hand(name))
        monkeypatch.setattr(kit_apply, "has_certificate", lambda _device: self.certificate)
        monkeypatch.setattr(kit_apply, "Book", self.book)
        monkeypatch.setattr(f"{HANDS}.kit_apply.os.chown", lambda *_words: None)
        monkeypatch.setattr(f"{HANDS}.kit_apply.os.chmod", lambda *_words: None)
        group = SimpleNamespace(gr_gid=1)
        monkeypatch.setattr(f"{HANDS}.kit_apply.grp.getgrnam", lambda _name: group)

    @contextlib.contextmanager
    def book(self, check: bool) -> Iterator[Any]:
        device = self

        class Book:
            ledger = device.ledger

            def write(self, ledger: Ledger) -> None:
                if not check:
                    device.ledger = ledger

        yield Book()

    def enrol(self, code: int = 0) -> int:
        self.did.append("enrol")
        assert self.ledger.has("file", kit_apply.WAITING_KEY)
        self.certificate = code == 0
        return code

    def install(self, code: int = 0, check: bool = False) -> tuple[int, bool]:
        self.did.clear()
        one = kit_apply.Installer(
            Path("/stick"), KIT, lambda: self.enrol(code), lambda _text: None, check
        )
        return one.install(), one.changed


def test_the_software_is_there_before_the_person_is_waited_for_and_services_come_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Device(monkeypatch)
    assert device.install() == (0, True)
    environment = "app /stick/environment.tar.gz"
    services = ["service"] * 3
    assert device.did == ["files", "app", environment, "files", "enrol", *services]
    assert device.ledger.site == SITE
    # What is there from now on, and not what waited.
    assert device.ledger.names("file") == {"/etc/mlops/tls/host.key", "/etc/mlops/tls/host.crt"}


def test_nothing_is_started_until_a_person_has_approved(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    assert device.install(code=3)[0] == 3
    assert device.did[-1] == "enrol"
    # What the killed run left goes with the rest.
    assert device.ledger.has("file", kit_apply.WAITING_KEY)
    assert device.install()[0] == 0


def test_a_second_run_changes_nothing_and_needs_no_enrolment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Device(monkeypatch)
    device.install()
    device.changed = False
    before = device.ledger
    assert device.install() == (0, False)
    assert "enrol" not in device.did
    assert device.ledger == before


def test_check_mode_writes_nothing_and_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    assert device.install(check=True) == (0, True)
    assert device.ledger == Ledger()
    assert device.did == ["files", "app", "files"]


def test_a_bundle_for_another_python_is_refused_though_the_system_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Device(monkeypatch)
    other = kit.parse(written(archives={}), "kit.json")
    one = kit_apply.Installer(Path("/stick"), other, device.enrol, lambda _text: None, False)
    with pytest.raises(HostError, match="has no Python environment"):
        one.install()


def test_somebody_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{HANDS}.kit_apply.os.geteuid", lambda: 1000)
    (said,) = kit_apply.obstacles(KIT)
    assert "run this as root" in said
