# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control host fetches requests that a device kept and puts them into the object store."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from testinfra.host import Host

from tests.infra.outside import exposure

PORT = 18444  # of extensions/molecule/registries/vars.yml
UNIT = "mlops-samples"
CONFIG = "/etc/mlops/samples/config.json"
PYTHON = "/opt/mlops/model_registry/bin/python"
BATCH = "0123456789abcdef" * 2
# What the model server hands out, over the certificate of the host: one batch, until it is stored.
DEVICE = f"""
import http.server, json, ssl
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    done = False
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = self.headers["Authorization"] == "Bearer samples.of-the-scenario"
        Handler.done |= body == {{"done": "{BATCH}", "stored": {{"churn": 2}}}}
        lines = [{{"model": "churn", "id": n}} for n in range(2)] + [{{"model": "other"}}]
        text = b"" if Handler.done else b"".join(json.dumps(x).encode() + b"\\n" for x in lines)
        self.send_response(200 if known else 401)
        self.send_header("x-mlops-batch", "" if Handler.done else "{BATCH}")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
server = http.server.ThreadingHTTPServer(("0.0.0.0", {PORT}), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/etc/mlops/tls/host.crt", "/etc/mlops/tls/host.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
# What lies in the bucket, by the account of the service.
LOOK = f"""
import json, sys
sys.path.insert(0, "/etc/mlops/samples")
import mlops_samples
from pathlib import Path
store = mlops_samples.Store(mlops_samples.Settings.read(Path("{CONFIG}")).store)
client, bucket = store._client, store._bucket
found = client.list_objects_v2(Bucket=bucket).get("Contents", [])
read = lambda key: client.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
print(json.dumps({{one["Key"]: read(one["Key"]) for one in found}}))
"""


@pytest.fixture(name="device")
def _device(host: Host) -> Iterator[Host]:
    # Described, as systemd else writes the command, and the account within, into the journal.
    run = "systemd-run --quiet --unit=samples-device --description=Device /usr/bin/python3 -c %s"
    host.check_output(run, DEVICE.replace("%", "%%"))
    listens = f"ss -Hltn | grep -q ':{PORT} '"
    host.check_output(f"for n in $(seq 240); do {listens} && exit 0; sleep 0.5; done; exit 1")
    try:
        yield host
    finally:
        host.check_output("systemctl stop samples-device")


def test_what_a_device_kept_is_stored_once_and_nothing_that_nobody_asked_for(device: Host) -> None:
    for _turn in range(2):
        device.check_output(f"systemctl start {UNIT}")
    stored = json.loads(device.check_output(f"{PYTHON} -B -c %s", LOOK))
    ((key, content),) = stored.items()
    assert key.startswith("churn/")
    assert key.endswith(f"/device-{BATCH}.jsonl")
    assert [json.loads(line)["id"] for line in content.splitlines()] == [0, 1]


def test_nobody_else_reads_the_account(host: Host) -> None:
    assert exposure(host, UNIT) <= 4.0
    assert host.file(CONFIG).mode == 0o640
    assert "Permission denied" in host.run(f"runuser -u nobody -- cat {CONFIG}").stderr
