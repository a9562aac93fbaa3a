"""The artifact registry, as tools and devices use it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from testinfra.host import Host

from tests.infra.outside import Client, exposure, open_ports, secret, spills
from tests.patience import PATIENCE

PASSWORDS = ["artifact_registry_push_password", "artifact_registry_pull_password"]
README = Path(__file__).resolve().parents[2] / "roles/artifact_registry/README.md"
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


def test_guesses_are_slow_and_few_at_a_time(host: Host, pull: Client) -> None:
    """The scenario allows five at the same time."""
    begun = time.monotonic()
    assert Client(host, ("pull", "wrong")).ask("GET", "/v2/").status_code == 401
    assert time.monotonic() - begun >= 0.5
    guesses = [Client(host, ("pull", f"guess-{number}")) for number in range(15)]
    together = Barrier(len(guesses))

    def ask(guess: Client) -> int:
        together.wait()
        return guess.ask("GET", "/v2/").status_code

    codes: set[int] = set()
    give_up = time.monotonic() + PATIENCE
    with ThreadPoolExecutor(len(guesses)) as threads:
        while 429 not in codes:  # on a busy machine they do not arrive together at once
            assert time.monotonic() < give_up, codes
            codes.update(threads.map(ask, guesses))
    assert codes == {401, 429}
    assert pull.ask("GET", "/v2/").status_code == 200


def test_other_users_of_the_host_do_not_get_past_the_gateway(host: Host) -> None:
    reach = (
        "runuser -u %s -- python3 -c 'import socket;"
        'socket.socket(socket.AF_UNIX).connect("/run/mlops-registry/registry.sock")\''
    )
    assert "Permission denied" in host.run(reach % "nobody").stderr
    assert host.run(reach % "mlops-nginx").succeeded
    assert ":5001 " not in host.check_output("ss -Hltn")


def test_it_cannot_read_the_key_of_the_host(host: Host) -> None:
    tried = host.run("runuser -u mlops-registry -- cat /etc/mlops/tls/host.key")
    assert "Permission denied" in tried.stderr


def test_each_model_has_a_repository_of_its_own(push: Client, pull: Client) -> None:
    content = os.urandom(100)
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    for name in ("models/one", "models/two"):
        place = push.ask("POST", f"/v2/{name}/blobs/uploads/").headers["Location"]
        assert push.ask("PUT", f"{place}&digest={digest}", data=content).status_code == 201
        assert pull.ask("GET", f"/v2/{name}/blobs/{digest}").content == content
    assert pull.ask("GET", f"/v2/models/three/blobs/{digest}").status_code == 404


def test_the_pulling_account_may_not_write(push: Client, pull: Client) -> None:
    blob = upload(push, b"stays")
    assert pull.ask("POST", UPLOADS).status_code == 401
    assert pull.ask("DELETE", blob).status_code == 401
    assert pull.ask("GET", blob).content == b"stays"


def test_the_account_of_one_device_pulls_and_does_no_more(host: Host, push: Client) -> None:
    blob = upload(push, b"for edge7")
    device = Client(host, ("edge7", "of edge7 alone"))
    assert device.ask("GET", blob).content == b"for edge7"
    assert device.ask("POST", UPLOADS).status_code == 401
    assert device.ask("DELETE", blob).status_code == 401
    assert Client(host, ("edge8", "of edge7 alone")).ask("GET", blob).status_code == 401


def test_the_pushing_account_may_delete(push: Client) -> None:
    blob = upload(push, os.urandom(100))
    assert push.ask("DELETE", blob).status_code == 202
    assert push.ask("GET", blob).status_code == 404


def test_the_readme_speaks_of_this_version(host: Host) -> None:
    """What it does not do is written down for this one."""
    assert " 2.8.3" in host.check_output("docker-registry --version").replace("+", " ")
    assert "Of 2.8.3" in README.read_text(encoding="utf-8")


def test_what_no_manifest_names_is_collected_as_the_readme_says(host: Host, push: Client) -> None:
    content = json.dumps({"architecture": "none", "seen": time.time_ns()}).encode()
    digest = upload(push, content).rpartition("/")[2]
    kept = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest,
            "size": len(content),
        },
        "layers": [],
    }
    body, kind = json.dumps(kept).encode(), {"Content-Type": str(kept["mediaType"])}
    name = "sha256:" + hashlib.sha256(body).hexdigest()
    where = f"/v2/models/seen/manifests/{name}"  # by digest only, without a tag
    assert push.ask("PUT", where, data=body, headers=kind).status_code == 201
    orphan = upload(push, os.urandom(1000))
    lines = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    host.check_output("set -e\n" + lines[0])
    deadline = time.monotonic() + PATIENCE
    while push.ask("GET", "/v2/").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert push.ask("GET", orphan).status_code == 404
    assert push.ask("GET", where, headers={"Accept": kind["Content-Type"]}).content == body
    assert push.ask("GET", f"/v2/models/seen/blobs/{digest}").content == content


def test_it_comes_back_after_it_was_killed(host: Host, push: Client) -> None:
    host.check_output("systemctl kill --signal=KILL mlops-registry.service")
    deadline = time.monotonic() + PATIENCE
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
