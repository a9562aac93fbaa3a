"""Whoever asks for what he makes up adds no series: Prometheus' memory is not his to fill."""

from __future__ import annotations

import base64
import contextlib
import http.client
import random
import re
import ssl

import pytest

from tests.infra.site.conftest import Site
from tests.patience import PATIENCE

MARK = "zzq"
# Where each server is asked, below the gateway or on a device, and the metrics that it is seen by.
SERVERS = {
    "nginx": ("ctl1", "/", "GET"),
    "audit": ("ctl1", "/site.json", "GET"),
    "mlflow": ("ctl1", "/mlflow/", "GET"),
    "registry": ("ctl1", "/v2/", "GET"),
    "model_serving": ("edge1", "/v2/models/", "POST"),
}
ROUNDS, REQUESTS = 2, 60


def series(site: Site, host: str, job: str) -> set[str]:
    """Names and labels of all that a server tells Prometheus, without the values."""
    remote, tls = site.connect(host), "/etc/mlops/tls"
    url = f"https://{site.address(host)}:9443/metrics/{job}"
    reader = site.connect("ctl1")
    if job == "audit":
        remote.run_expect([0], "systemctl start mlops-audit-collect")
    program = (
        "import ssl, sys, urllib.request; context = ssl.create_default_context(cafile=sys.argv[2]);"
        "context.load_cert_chain(sys.argv[3], sys.argv[4]);"
        "print(urllib.request.urlopen(sys.argv[1], context=context).read().decode())"
    )
    words = f"{url} {tls}/ca.crt {tls}/host.crt {tls}/host.key"
    page = str(reader.check_output(f"python3 -c '{program}' {words}"))
    rows = [row for row in page.splitlines() if row and not row.startswith("#")]
    assert rows, f"{job} tells nothing"
    return {row.rpartition(" ")[0] for row in rows}


def ask(site: Site, host: str, path: str, method: str, choose: random.Random) -> None:
    """One request with made-up names in its path, query, method, account, headers and body."""
    word = f"{MARK}{choose.getrandbits(48):x}"
    account = base64.b64encode(f"{word}:{word}".encode()).decode()
    headers = {
        "Host": choose.choice([site.address(host), f"{word}.example"]),
        "User-Agent": word,
        f"X-{word}": word,
        **choose.choice([{}, {"Authorization": f"Basic {account}"}]),
    }
    ends = ["", f"/versions/{word}/infer", f"/manifests/{word}", f"?{word}={word}"]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(site.address(host), timeout=PATIENCE, context=context)
    # What is refused by closing the connection is answered, too.
    with contextlib.closing(connection), contextlib.suppress(http.client.HTTPException, OSError):
        wanted = choose.choice([method, method, "PUT", "DELETE", word.upper()])
        body = f'{{"{word}": "{word}"}}'.encode() if wanted != "GET" else None
        connection.request(wanted, f"{path}{word}{choose.choice(ends)}", body, headers)
        connection.getresponse().read()


@pytest.mark.parametrize("job", SERVERS)
def test_what_an_outsider_makes_up_adds_no_series(site: Site, job: str) -> None:
    host, path, method = SERVERS[job]
    seen = []
    for number in range(ROUNDS):
        choose = random.Random(f"{job} {number}")
        for _ in range(REQUESTS):
            ask(site, host, path, method, choose)
        seen.append(series(site, host, job))
    # The first round may be the first that is answered with some status; the second brings nothing.
    assert seen[-1] - seen[0] == set()
    assert [name for name in seen[-1] if re.search(MARK, name, re.IGNORECASE)] == []
