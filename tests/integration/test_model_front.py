# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""nginx as the role sets it up, before the model server: errors, limits, certificates, counting.

nginx is the one of this machine, or Debian's taken out of its package without installing it.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from tests.benchmarks import serving
from tests.integration import fleet_gateway
from tests.patience import PATIENCE, eventually
from tests.unit.plugins.module_utils._trust.companies import CLIENT, authority, leaf

ROLE = Path(__file__).resolve().parents[2] / "roles/model_serving"
HTTP = """
daemon off;
pid {place}/nginx.pid;
error_log {place}/error.log warn;
worker_processes 2;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    proxy_http_version 1.1;
    ssl_certificate {place}/host.crt;
    ssl_certificate_key {place}/host.key;
    include {place}/site.conf;
}}
"""


@pytest.fixture(scope="session")
def nginx() -> str:
    """The program."""
    try:
        return fleet_gateway.program()
    except fleet_gateway.NoNginx as error:
        pytest.skip(str(error))


@dataclass(frozen=True)
class Front:
    """A front that runs."""

    port: int
    place: Path
    ca: str

    def ask(
        self, method: str, path: str, body: bytes = b"", holder: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request on a connection of its own."""
        connection = http.client.HTTPSConnection(
            "localhost", self.port, timeout=PATIENCE, context=self.context(holder)
        )
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body or None, named)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def context(self, holder: Any = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.ca)
        if holder:
            file = self.place / "client.pem"
            file.write_text(holder.pem + holder.key)
            context.load_cert_chain(file)
        return context

    def raw(self, data: bytes, tls: bool = True) -> bytes:
        """Send bytes that no client library sends; return all that comes back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as plain:
            stream: Any = plain
            if tls:
                stream = self.context().wrap_socket(plain, server_hostname="localhost")
            stream.sendall(data)
            found = b""
            try:
                while part := stream.recv(65536):
                    found += part
            except OSError:
                pass
            return found


def rendered(**settings: Any) -> str:
    """The site as the role's template and defaults have it."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    environment.filters.update(to_json=json.dumps, bool=bool)
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    template = (ROLE / "templates/site.conf.j2").read_text()
    kept = {"__model_serving_kept": settings.get("model_serving_samples", [])}
    return environment.from_string(template).render({**defaults, **kept, **settings})


@contextmanager
def fronted(nginx: str, place: Path, backend: int, **settings: Any) -> Iterator[Front]:
    """Run nginx before a port of loopback."""
    place.chmod(0o755)
    ca = authority("Site")
    host = leaf(ca, ["localhost"])
    port = serving.free_port()
    site = rendered(
        model_serving_port=f"127.0.0.1:{port}", model_serving_loopback_port=backend, **settings
    )
    clients = settings.get("model_serving_client_ca", "")
    (place / "clients-ca.crt").write_text(clients)
    site = site.replace("/etc/mlops/model_serving/clients-ca.crt", str(place / "clients-ca.crt"))
    site = site.replace("/etc/mlops/nginx/", f"{place}/")
    (told,) = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__model_serving_front_files"]
    front = told["content"].replace("{{ __model_serving_front }}", "of-nginx")
    (place / "model_serving.front").write_text(front)
    (place / "site.conf").write_text(site)
    (place / "host.crt").write_text(host.pem)
    (place / "host.key").write_text(host.key)
    user = "user root;\n" if os.geteuid() == 0 else ""
    (place / "nginx.conf").write_text(user + HTTP.format(place=place))
    command = [nginx, "-e", str(place / "error.log"), "-c", str(place / "nginx.conf")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:

        def listening() -> bool:
            assert process.poll() is None, process.communicate()[1]
            with socket.socket() as one:
                return one.connect_ex(("127.0.0.1", port)) == 0

        eventually(listening, "nginx listens")
        yield Front(port, place, ca.pem)
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[serving.Server]:
    root = tmp_path_factory.mktemp("behind")
    fixture = serving.FIXTURE
    serving.put_release(
        root, "iris", "2", fixture / "model.onnx", (fixture / "golden.json").read_bytes()
    )
    clients = root / "clients.json"
    clients.write_text('{"clients": []}')
    try:
        with serving.serving(root, 512, f"--clients={clients}") as running:
            yield running
    except serving.CannotServe as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def front(
    nginx: str, server: serving.Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    with fronted(nginx, tmp_path_factory.mktemp("front"), server.port) as running:
        yield running


def error(answer: tuple[int, dict[str, str], bytes]) -> str:
    assert answer[1]["content-type"] == "application/json"
    document = json.loads(answer[2])
    assert list(document) == ["error"]
    return str(document["error"])


def test_the_protocol_passes_and_nothing_else(front: Front) -> None:
    for path in ("/v2", "/v2/models/iris/versions/2", "/openapi.json", "/release"):
        assert front.ask("GET", path)[0] == 200
    assert front.ask("POST", "/v2/models/iris/versions/2/infer", serving.document(1))[0] == 200
    inner = tuple(f"/v2/repository/models/iris/{one}" for one in ("load", "infer", "probe"))
    for path in ("/metrics", *inner, "/v2/models/a/b/c", "/docs"):
        assert "nothing at this path" in error(front.ask("GET", path))


@pytest.mark.parametrize(
    ("data", "tls", "status"),
    [
        (b"GARBAGE\r\n\r\n", True, 400),
        (b"GET / HTTP/1.1\r\n\r\n", True, 400),
        (b"GET /%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", True, 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", False, 400),
        (b"TRACE /v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", True, 405),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", True, 414),
        (b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40000 + b"\r\n\r\n", True, 431),
        (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n", True, 413),
        (b"GET /v2 HTTP/9.9\r\nHost: x\r\n\r\n", True, 505),
    ],
)
def test_what_nginx_answers_itself_has_the_protocols_form(
    front: Front, data: bytes, tls: bool, status: int
) -> None:
    head, _empty, body = front.raw(data, tls).partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status
    assert b"content-type: application/json" in head.lower()
    assert list(json.loads(body)) == ["error"]


def test_one_clients_mistakes_cost_the_others_nothing(front: Front) -> None:
    answers: Counter[str] = Counter()

    def good() -> None:
        connection = http.client.HTTPSConnection(
            "localhost", front.port, timeout=PATIENCE, context=front.context()
        )
        for _number in range(40):
            connection.request("POST", serving.PATH, serving.document(1))
            answer = connection.getresponse()
            answer.read()
            answers[f"good {answer.status}"] += 1

    def bad() -> None:
        for path, body, headers in serving.MALFORMED:
            named = {name.replace("-", "_"): value for name, value in headers.items()}
            status, _headers, data = front.ask("POST", path, body, **named)
            assert list(json.loads(data)) == ["error"]
            answers[f"bad {status // 100}xx"] += 1

    threads = [threading.Thread(target=one) for one in (good, good, good, bad, bad)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {"good 200": 120, "bad 4xx": 2 * len(serving.MALFORMED)}


def test_the_server_counts_what_nginx_answers(front: Front, server: serving.Server) -> None:
    def found() -> float:
        rows = server.ask("GET", "/metrics")[2].decode().splitlines()
        start = 'mlops_front_errors_total{code="414"} '
        return sum(float(row.removeprefix(start)) for row in rows if row.startswith(start))

    before = found()
    front.raw(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    eventually(lambda: found() != before, "it is counted")
    assert found() == before + 1


def test_a_server_that_is_down_is_told_in_the_protocols_form(nginx: str, tmp_path: Path) -> None:
    with fronted(nginx, tmp_path, serving.free_port()) as front:
        answer = front.ask("GET", "/v2")
        assert (answer[0], answer[1]["retry-after"]) == (502, "1")
        assert "does not answer" in error(answer)


def test_a_connection_that_the_server_closed_costs_no_request(nginx: str, tmp_path: Path) -> None:
    """The server answers once on each connection, promises to keep it, and closes it."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _peer = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)
                    # The next request comes, and finds nobody.
                    connection.settimeout(5)
                    with suppress(OSError):
                        connection.recv(65536)

        threading.Thread(target=serve, daemon=True).start()
        with fronted(nginx, tmp_path, listener.getsockname()[1]) as front:
            codes = [front.ask("POST", serving.PATH, b"{}")[0] for _number in range(6)]
            assert codes == [200] * 6
        listener.shutdown(socket.SHUT_RDWR)


def test_too_many_requests_of_one_address_are_told_so(
    nginx: str, server: serving.Server, tmp_path: Path
) -> None:
    with fronted(nginx, tmp_path, server.port, model_serving_requests_per_second=2) as front:
        # All on one connection: on a slow machine each handshake would be worth a request.
        one = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n"
        said = front.raw((one + b"\r\n") * 39 + one + b"Connection: close\r\n\r\n")
        answers = said.split(b"HTTP/1.1 ")[1:]
        codes = [int(answer[:3]) for answer in answers]
        assert len(codes) == 40
        assert codes[:3] == [200, 200, 200]
        head, _blank, body = answers[codes.index(429)].partition(b"\r\n\r\n")
        assert b"retry-after: 1\r\n" in head.lower() + b"\r\n"
        assert "too many requests" in json.loads(body)["error"]


def test_the_certificate_of_a_client_is_told_and_cannot_be_made_up(
    nginx: str, tmp_path: Path
) -> None:
    seen: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _peer = listener.accept()
                except OSError:
                    return
                with connection:
                    head = connection.recv(65536).decode().lower()
                    rows = dict(r.split(": ", 1) for r in head.split("\r\n")[1:] if ": " in r)
                    seen.append(rows.get("x-mlops-client-subject", ""))
                    connection.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
                    )

        threading.Thread(target=serve, daemon=True).start()
        plant, strangers = authority("Plant"), authority("Strangers")
        known = leaf(plant, ["gateway"], purposes=[CLIENT])
        unknown = leaf(strangers, ["gateway"], purposes=[CLIENT])
        backend = listener.getsockname()[1]
        with fronted(nginx, tmp_path, backend, model_serving_client_ca=plant.pem) as front:
            lie: dict[str, Any] = {"x_mlops_client_subject": "CN=gateway"}
            assert front.ask("GET", "/v2", **lie)[0] == 200
            assert front.ask("GET", "/v2", holder=known, **lie)[0] == 200
            refused = front.ask("GET", "/v2", holder=unknown)
            assert refused[0] == 401
            assert "not one that this server trusts" in error(refused)
        listener.shutdown(socket.SHUT_RDWR)
    assert seen[0].strip() == "of-nginx"
    assert seen[1].startswith("of-nginx ")
    assert "cn=gateway" in seen[1]
    assert len(seen) == 2
