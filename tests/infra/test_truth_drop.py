"""Tables with what was right are dropped on the control host, and a device is told of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from testinfra.host import Host

from tests.infra.outside import address, exposure

DROP = "/var/lib/mlops/truth"
PORT = 18443  # of extensions/molecule/registries/vars.yml
SEEN = "/run/truth-device.jsonl"
PYTHON = "/opt/mlops/model_registry/bin/python"
# What the model server's truth endpoint answers, over the certificate of the host.
DEVICE = f"""
import http.server, json, ssl
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        open("{SEEN}", "a").write(json.dumps([self.path, body["truth"]]) + "\\n")
        served = self.path == "/v2/models/churn/truth"
        text = json.dumps({{"known": len(body["truth"]), "unknown": 0}}).encode()
        self.send_response(200 if served else 404)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
server = http.server.ThreadingHTTPServer(("0.0.0.0", {PORT}), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/etc/mlops/tls/host.crt", "/etc/mlops/tls/host.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
# As people make them, by the writer that pandas uses too, and long enough ago to be complete.
WRITE = f"""
import os
import pyarrow as pa
from pyarrow import parquet
folder = "{DROP}/"
rows = 2500
parquet.write_table(
    pa.table({{"when": ["monday"] * rows, "id": [f"q{{n}}" for n in range(rows)],
              "value": pa.array(["stays", "leaves"] * (rows // 2)).dictionary_encode()}}),
    folder + "churn@monday.parquet", compression="zstd")
def write(name, **columns):
    parquet.write_table(pa.table(columns), folder + name)
write("churn@bool.parquet", id=[1, 2], value=[True, False])
write("churn@columns.parquet", id=["a"], label=[1])
write("unknown@x.parquet", id=["a"], value=[1])
open(folder + "churn@text.parquet", "w").write("id,value\\n")
open(folder + "churn@lines.jsonl", "w").write('{{"id": "z", "value": 2.5}}\\n')
open(folder + "churn@new.csv.part", "w").write("id,value\\nq1,stays\\n")
open(folder + "notes.csv", "w").write("id,value\\nq1,stays\\n")
for name in os.listdir(folder):
    os.utime(folder + name, (1, 1)) if os.path.isfile(folder + name) else None
"""


@pytest.fixture(name="device")
def _device(host: Host) -> Iterator[Host]:
    host.check_output(
        "systemd-run --quiet --unit=truth-device /usr/bin/python3 -c %s", DEVICE.replace("%", "%%")
    )
    ready = (
        f"for n in $(seq 240); do ss -Hltn | grep -q ':{PORT} ' && exit 0; sleep 0.5; done; exit 1"
    )
    try:
        host.check_output(ready)
        yield host
    finally:
        host.check_output(f"systemctl stop truth-device; rm -f {SEEN}")


def told(host: Host) -> list[tuple[str, list[dict[str, Any]]]]:
    said = host.check_output(f"cat {SEEN}")
    return [tuple(json.loads(line)) for line in said.splitlines()]


def test_tables_are_told_and_what_nobody_can_read_is_refused(device: Host) -> None:
    device.check_output(f"{PYTHON} -c %s", WRITE)
    device.check_output("systemctl start mlops-truth")
    found = told(device)
    of_churn = [row for path, rows in found if path == "/v2/models/churn/truth" for row in rows]
    assert len(of_churn) == 2500 + 2 + 1
    assert {"id": "q2499", "value": "leaves"} in of_churn
    assert {"id": "1", "value": True} in of_churn
    assert {"id": "z", "value": 2.5} in of_churn
    assert max(len(rows) for _path, rows in found) == 1000
    assert device.check_output(f"ls {DROP}").split() == [
        "churn@new.csv.part",
        "refused",
        "told",
    ]
    report = json.loads(device.check_output(f"cat {DROP}/told/churn@monday.parquet.json"))
    assert (report["rows"], report["known"], report["away"]) == (2500, {"device": 2500}, {})
    refused = {
        name: device.check_output(f"cat {DROP}/refused/{name}.txt")
        for name in (
            "churn@columns.parquet",
            "churn@text.parquet",
            "notes.csv",
            "unknown@x.parquet",
        )
    }
    assert "has the columns id, label; wanted are id and value" in refused["churn@columns.parquet"]
    assert "is not Parquet that can be read" in refused["churn@text.parquet"]
    assert "Wanted is a name such as churn@" in refused["notes.csv"]
    assert "No device takes what was right of unknown" in refused["unknown@x.parquet"]
    assert len(device.check_output(f"ls {DROP}/refused").split()) == 2 * len(refused)
    device.check_output(f"rm -f {DROP}/churn@new.csv.part {DROP}/told/* {DROP}/refused/*")


def test_a_device_that_is_away_is_told_later(host: Host) -> None:
    host.check_output(
        f"echo 'id,value\nq1,stays' > {DROP}/churn@away.csv; touch -d '1 hour ago' {DROP}/*.csv"
    )
    host.check_output("systemctl start mlops-truth")
    report = json.loads(host.check_output(f"cat {DROP}/told/churn@away.csv.json"))
    assert set(report["away"]) == {"device"}
    assert host.file(f"{DROP}/churn@away.csv").exists
    assert host.check_output("systemctl show -P Result mlops-truth") == "success"
    host.check_output(f"rm -f {DROP}/churn@away.csv {DROP}/told/*")


def test_it_reads_nothing_that_is_not_for_it(host: Host) -> None:
    assert exposure(host, "mlops-truth") <= 4.0
    assert host.file(DROP).mode == 0o2770
    assert host.file("/etc/mlops/truth/config.json").mode == 0o640
    assert "Permission denied" in host.run(f"runuser -u nobody -- ls {DROP}").stderr
    assert address(host) in host.file("/etc/mlops/truth/config.json").content_string
