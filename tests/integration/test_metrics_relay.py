# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device writes of its metrics, through the real nginx and relay to a real Prometheus."""

from __future__ import annotations

import json
import os
import ssl
import struct
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.integration import fleet_gateway
from tests.integration.fleet_gateway import ROLES, Gateway, free_port, rendered
from tests.integration.test_fleet_gateway import ask, device
from tests.patience import PATIENCE
from tests.prometheus_programs import program
from tests.unit.plugins.module_utils._trust.companies import authority

Labels = Sequence[tuple[str, str]]


SERIES = 300


def number(value: int) -> bytes:
    """A number as protocol buffers write it."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def part(field: int, data: bytes) -> bytes:
    return number(field << 3 | 2) + number(len(data)) + data


def written(*rows: Labels) -> bytes:
    """A request of remote write, packed by snappy without packing anything."""
    at = number(2 << 3) + number(int(time.time() * 1000))
    sample = number(1 << 3 | 1) + struct.pack("<d", 1.0) + at
    data = b"".join(
        part(
            1,
            b"".join(
                part(1, part(1, name.encode()) + part(2, value.encode())) for name, value in row
            )
            + part(2, sample),
        )
        for row in rows
    )
    return number(len(data)) + bytes([63 << 2]) + struct.pack("<I", len(data) - 1) + data


@contextmanager
def started(command: list[str], log: Path, **environment: str) -> Iterator[None]:
    told = {**os.environ, **environment}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=told)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


def wait_for(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            if true():
                return
        except OSError:
            pass
        assert time.monotonic() < end, what
        time.sleep(0.1)


@dataclass(frozen=True)
class Site:
    gateway: Gateway
    prometheus: str
    relay: str

    def counted(self, name: str) -> float:
        """What the relay counts of itself, as the rules read it."""
        shown = {"Authorization": f"Basic {fleet_gateway.RELAY_SHOWN}"}
        request = urllib.request.Request(f"{self.relay}/metrics", headers=shown)
        with urllib.request.urlopen(request, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.split()[0] == name)

    def context(self, name: str) -> ssl.SSLContext:
        """What a device shows, and whom it trusts."""
        context = ssl.create_default_context(cadata=self.gateway.ca.pem)
        holder = device(self.gateway, name)
        file = self.gateway.place / "client.pem"
        file.write_text(holder.pem + holder.key)
        context.load_cert_chain(file)
        return context

    def write(self, name: str, path: str, *rows: Labels, method: str = "POST") -> int:
        """Write as a device; the status of the answer."""
        return self.send(self.context(name), path, *rows, method=method)

    def send(self, context: ssl.SSLContext, path: str, *rows: Labels, method: str = "POST") -> int:
        """One request; the status of the answer."""
        request = urllib.request.Request(
            f"https://localhost:{self.gateway.port}/fleet/metrics/{path}",
            written(*rows),
            {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def series(self) -> list[dict[str, str]]:
        """All that came of devices."""
        match = urllib.parse.quote('{host=~".+"}')
        address = f"{self.prometheus}/api/v1/series?match[]={match}"
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
            return list(json.loads(answer.read())["data"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    try:
        fleet_gateway.program()
    except fleet_gateway.NoNginx as reason:
        pytest.skip(str(reason))
    place = tmp_path_factory.mktemp("relay")
    relay, inner = free_port(), free_port()
    (place / "prometheus.yml").write_text("{}\n")
    (place / "relay.yml").write_text(rendered(ROLES / "gateway/templates/metrics_relay.yml.j2"))
    prometheus = [
        program("prometheus"),
        f"--config.file={place}/prometheus.yml",
        f"--storage.tsdb.path={place}/tsdb",
        "--web.enable-remote-write-receiver",
        f"--web.listen-address=127.0.0.1:{inner}",
    ]
    vmagent = [
        program("vmagent"),
        f"-httpListenAddr=127.0.0.1:{relay}",
        "-httpAuth.username=mlops",
        "-envflag.enable",
        f"-remoteWrite.url=http://127.0.0.1:{inner}/api/v1/write",
        f"-remoteWrite.tmpDataPath={place}/queue",
        "-remoteWrite.queues=1",
        f"-remoteWrite.relabelConfig={place}/relay.yml",
        f"-remoteWrite.maxHourlySeries={SERIES}",
    ]
    with (
        started(prometheus, place / "prometheus.log"),
        started(vmagent, place / "relay.log", httpAuth_password=fleet_gateway.RELAY_PASSWORD),
        fleet_gateway.running(place / "gateway", authority("Site"), relay) as gateway,
    ):
        found = Site(gateway, f"http://127.0.0.1:{inner}", f"http://127.0.0.1:{relay}")
        up = (("__name__", "up"), ("job", "first"))
        wait_for(lambda: found.write("first", "first", up) == 204, "the relay takes samples")
        wait_for(lambda: any(row["host"] == "first" for row in found.series()), "they arrive")
        yield found


def test_a_device_writes_under_its_own_name_and_no_other(site: Site) -> None:
    claims = [("host", "edge2"), ("instance", "edge3"), ("mlops_writer", "edge4")]
    kept = [("mlops_kept_host", "edge5"), ("mlops_kept_instance", "edge6")]
    row = (("__name__", "mlops_model_info"), ("model_name", "iris"), *claims, *claims, *kept)
    assert site.write("edge1", "edge1", row) == 204
    wait_for(lambda: any(one["host"] == "edge1" for one in site.series()), "it arrives")
    assert [one for one in site.series() if one["__name__"] == "mlops_model_info"] == [
        {"__name__": "mlops_model_info", "model_name": "iris", "host": "edge1", "instance": "edge1"}
    ]


@pytest.mark.parametrize("path", ["edge2", "edge1.plant", "edge", "../state/edge1", "edge1%0a", ""])
def test_another_place_is_refused(site: Site, path: str) -> None:
    row = (("__name__", "up"), ("job", "elsewhere"))
    assert site.write("edge1", path, row) in (403, 404, 405)
    assert [one for one in site.series() if one.get("job") == "elsewhere"] == []
    assert site.write("edge1", "edge1", row, method="PUT") == 405


def test_what_prometheus_would_refuse_for_good_does_not_stop_the_others(site: Site) -> None:
    """Of labels that stand twice one is left: else all that comes after would wait for ever."""
    twice = (("__name__", "up"), ("__name__", "node_load1"), ("job", "a"), ("job", "b"))
    odd = (("__name__", "mlops_model_info"), ("no name", "x"), ("model_name", "odd"))
    foreign = (("__name__", "mlops_rollout_channel_expires_seconds"), ("ring", "ring_canary"))
    nameless = (("job", "nothing"),)
    assert site.write("edge7", "edge7", twice, odd, foreign, nameless) == 204
    assert site.write("edge8", "edge8", (("__name__", "up"), ("job", "behind"))) == 204
    wait_for(lambda: any(one["host"] == "edge8" for one in site.series()), "the next one arrives")
    assert sorted(
        (one["__name__"], one.get("job", "")) for one in site.series() if one["host"] == "edge7"
    ) == [("mlops_model_info", ""), ("up", "a")]


def test_a_device_that_sends_without_end_is_turned_away_and_the_others_are_not(site: Site) -> None:
    up = (("__name__", "up"), ("job", "flood"))
    context = site.context("edge11")
    answers: list[int] = []
    with ThreadPoolExecutor(32) as many:
        while len(answers) < 2000 and 429 not in answers:
            answers += many.map(lambda _number: site.send(context, "edge11", up), range(64))
    assert set(answers) == {204, 429}
    assert answers.count(204) >= 20
    assert site.write("edge12", "edge12", up) == 204
    # What it is told by, and tells how it is, has a share of its own.
    holder = device(site.gateway, "edge11")
    assert ask(site.gateway, "PUT", "/fleet/state/edge11", holder, b"{}")[0] in (201, 204)
    wait_for(lambda: site.write("edge11", "edge11", up) == 204, "it is taken again")


def test_a_block_that_no_sender_makes_is_refused(site: Site) -> None:
    def write(size: int) -> int:
        return site.write("edge13", "edge13", *[(("__name__", "up"), ("job", "x" * 1000))] * size)

    command = yaml.safe_load((ROLES / "model_serving/vars/main.yml").read_text())
    most = next(
        int(word.partition("=")[2])
        for word in command["__model_serving_sender_command"]
        if word.startswith("-remoteWrite.maxBlockSize=")
    )
    limit = yaml.safe_load((ROLES / "gateway/vars/main.yml").read_text())[
        "__gateway_metrics_body_kib"
    ]
    # Packed by snappy a block is at worst a sixth larger.
    assert most * 7 // 6 + 32 <= limit * 1024
    assert write(40) == 204
    assert write(400) == 413


def test_nobody_on_the_host_writes_in_the_name_of_a_device(site: Site) -> None:
    row = written((("__name__", "up"), ("job", "forged"), ("mlops_writer", "edge1")))
    headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}

    def status(path: str, body: bytes | None, shown: str = "") -> int:
        more = {"Authorization": f"Basic {shown}"} if shown else {}
        address = f"{site.relay}{path}"
        request = urllib.request.Request(address, body, {**headers, **more})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    write = "/api/v1/write?extra_label=mlops_writer=edge1"
    assert status(write, row) == 401
    assert status(write, row, "bWxvcHM6Z3Vlc3M=") == 401
    # What the unit is judged by needs no account.
    assert status("/health", None) == 200
    assert [one for one in site.series() if one.get("job") == "forged"] == []


def test_what_the_relay_leaves_out_is_counted_where_the_rules_look(site: Site) -> None:
    """Last, as it uses up the series of an hour: what is left out is answered with 204 as well."""
    rules = (ROLES / "gateway/files/alerts.yml").read_text()
    foreign, full = (
        "vmagent_remotewrite_global_relabel_metrics_dropped_total",
        "vmagent_hourly_series_limit_rows_dropped_total",
    )
    assert all(name in rules for name in (foreign, full))
    before = site.counted(foreign)
    assert site.write("edge14", "edge14", (("__name__", "made_up"), ("job", "x"))) == 204
    wait_for(lambda: site.counted(foreign) == before + 1, "it is counted")
    assert site.counted(full) == 0
    rows = [(("__name__", "up"), ("job", str(number))) for number in range(SERIES + 50)]
    assert site.write("edge15", "edge15", *rows) == 204
    wait_for(lambda: site.counted(full) >= 50, "these are counted")
