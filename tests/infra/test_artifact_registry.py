"""The artifact registry, as tools and devices use it."""

from __future__ import annotations

import hashlib
import os
import time

import pytest
from testinfra.host import Host

from tests.infra.outside import Client, exposure, open_ports, secret, spills

PASSWORDS = ["artifact_registry_push_password", "artifact_registry_pull_password"]
UPLOADS = "/v2/models/seen/blobs/uploads/"


@pytest.fixture
def push(host: Host) -> Client:
    return Client(host, ("push", secret("artifact_registry_push_password")))


@pytest.fixture
def pull(host: Host) -> Client:
    return Client(host, ("pull", secret("artifact_registry_pull_password")))


def upload(client: Client, content: bytes) -> str:
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    place = client.ask("POST", UPLOADS).headers["Location"]
    answer = client.ask("PUT", f"{place}&digest={digest}", data=content)
    assert answer.status_code == 201, answer.text
    return f"/v2/models/seen/blobs/{digest}"


def test_what_was_pushed_is_pulled(push: Client, pull: Client) -> None:
    content = os.urandom(20_000_000)
    assert pull.ask("GET", upload(push, content)).content == content


def test_a_part_can_be_pulled(push: Client, pull: Client) -> None:
    blob = upload(push, b"0123456789")
    answer = pull.ask("GET", blob, headers={"Range": "bytes=2-4"})
    assert (answer.status_code, answer.content) == (206, b"234")


def test_clients_are_never_sent_to_s3(push: Client, pull: Client) -> None:
    answer = pull.ask("GET", upload(push, b"here"), allow_redirects=False)
    assert answer.status_code == 200


@pytest.mark.parametrize(("method", "path"), [("GET", "/v2/"), ("POST", UPLOADS)])
def test_strangers_may_do_nothing(host: Host, method: str, path: str) -> None:
    assert Client(host).ask(method, path).status_code == 401
    assert Client(host, ("pull", "wrong")).ask(method, path).status_code == 401


def test_the_pulling_account_may_not_write(push: Client, pull: Client) -> None:
    blob = upload(push, b"stays")
    assert pull.ask("POST", UPLOADS).status_code == 401
    assert pull.ask("DELETE", blob).status_code == 401
    assert pull.ask("GET", blob).content == b"stays"


def test_the_pushing_account_may_delete(push: Client) -> None:
    blob = upload(push, os.urandom(100))
    assert push.ask("DELETE", blob).status_code == 202
    assert push.ask("GET", blob).status_code == 404


def test_it_comes_back_after_it_was_killed(host: Host, push: Client) -> None:
    host.check_output("systemctl kill --signal=KILL mlops-registry.service")
    deadline = time.monotonic() + 10
    while push.ask("GET", "/v2/").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_packaged_service_does_not_run(host: Host) -> None:
    assert not host.service("docker-registry").is_running
    assert not host.service("docker-registry").is_enabled


def test_nothing_but_tls_leaves_the_host(host: Host) -> None:
    assert open_ports(host) == {22, 443, 9443}


def test_it_is_sandboxed(host: Host) -> None:
    assert exposure(host, "mlops-registry") <= 4.0


@pytest.mark.parametrize("name", PASSWORDS)
def test_its_passwords_are_nowhere_to_be_read(host: Host, name: str) -> None:
    assert spills(host, secret(name)) == []
