# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ten troubles strike a standing lab site: each is seen on its start page, as a mail, and ends.

    python -m tests.soak.troubles [--inventory inventories/lab] [--as-it-is] [--only NAME ...]
    python -m tests.soak.troubles --network 10.213 [--as-it-is] [--keep] [--only NAME ...]

The site is told of a mail server that runs here, and its devices to remember predictions and to
judge short windows; a release is made and rolled out. Then nine troubles are done to it together,
and the tenth, Prometheus itself, after them. For each: the alert on the API that the start page
reads, the alert as Chromium has drawn it on that page (``tests/soak/eye.py``) and the mail within
the declared time, then the trouble is undone and the alert ends, there and on the page. At the
end the site gets the configuration of its inventory again. ``--as-it-is`` leaves out the first
step, for a site that was left prepared by ``--keep``. With ``--network`` the site is one of its
own beside the lab: made, prepared from the start, and taken away again. It keeps a sample of its
requests, which is looked at first (``tests/soak/kept_requests.py``).

Not real are the slow disk, the lost GPU and the full volume: a container has none of its own to
break, so the numbers that an exporter would tell are put where Prometheus reads them.
Prints JSON lines and the counts.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import email
import email.policy
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import requests
import tomllib
import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.soak import beside, kept_requests
from tests.soak.eye import looking, to_address

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "build" / "soak"
BESIDE, PROJECT = PICTURES / "troubles", "troubles"
LAB_FILE = ROOT / "extensions/lab/lab.toml"
PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))
TAGS = "audit_log,monitoring,model_serving"
MODEL = "breast-cancer"
SAMPLED = {
    "name": MODEL,
    "project": "breast_cancer",
    "thresholds": {"accuracy": 0.93, "roc_auc": 0.97},
    "sample": kept_requests.SAMPLE,
}
SAMPLES = "sample of requests"
REMEMBERED, WINDOW_SECONDS, WINDOW_REQUESTS = 2000, 10, 200
END_SECONDS = 1200.0
"""An alert ends when its window has passed; the longest looks back for ten minutes."""


# ---------------------------------------------------------------- what is judged


@dataclass(frozen=True)
class Mail:
    """A mail as it came."""

    at: float
    subject: str

    def tells(self, alert: str, host: str) -> bool:
        words = self.subject.split()
        return "[FIRING" in words and alert in words and (not host or host in words)


@dataclass
class Trouble:
    """What is done, the alert that has to follow on a host within so many seconds, how it ends."""

    name: str
    alert: str
    host: str
    seconds: float
    inject: Callable[[], object]
    undo: Callable[[], object]
    injected: float = 0.0
    seen: float | None = None
    drawn: float | None = None
    mailed: float | None = None
    undone: float = 0.0
    ended: float | None = None
    wiped: float | None = None

    def look_at_page(self, drawn: set[tuple[str, str]], now: float) -> None:
        """Take notice of what is drawn on the start page."""
        there = (self.alert, self.host) in drawn
        if self.drawn is None and there:
            self.drawn = now
        if self.undone and self.wiped is None and not there:
            self.wiped = now

    def look(self, firing: set[tuple[str, str]], mails: Sequence[Mail], now: float) -> None:
        """Take notice of what there is to see now."""
        if self.seen is None and (self.alert, self.host) in firing:
            self.seen = now
        if self.mailed is None:
            came = [one.at for one in mails if one.tells(self.alert, self.host)]
            self.mailed = next((at for at in came if at >= self.injected), None)

    def end(self) -> None:
        self.undo()
        self.undone = time.time()

    def look_for_its_end(self, firing: set[tuple[str, str]], now: float) -> None:
        if self.ended is None and (self.alert, self.host) not in firing:
            self.ended = now

    @property
    def told(self) -> bool:
        return None not in (self.seen, self.drawn, self.mailed)

    @property
    def over(self) -> bool:
        return self.ended is not None and self.wiped is not None

    def against(self) -> list[str]:
        """What speaks against it."""
        found = []
        looks = (("alert", self.seen), ("alert on the page", self.drawn), ("mail", self.mailed))
        for what, at in looks:
            if at is None:
                found.append(f"no {what} came")
            elif at - self.injected > self.seconds:
                found.append(f"the {what} took {at - self.injected:.0f} s")
        if self.ended is None:
            found.append("the alert did not end")
        elif self.wiped is None:
            found.append("the alert stayed on the page")
        return found

    def row(self) -> dict[str, Any]:
        def since(at: float | None, begin: float) -> float | None:
            return None if at is None else round(at - begin, 1)

        return {
            "trouble": self.name,
            "alert": self.alert,
            "host": self.host,
            "within": self.seconds,
            "alert_after": since(self.seen, self.injected),
            "drawn_after": since(self.drawn, self.injected),
            "mail_after": since(self.mailed, self.injected),
            "ended_after": since(self.ended, self.undone),
            "against": self.against(),
        }


class Shown(Protocol):
    """Whoever answers which alerts Alertmanager has."""

    def alerts(self) -> list[dict[str, Any]]: ...


class Looks(Protocol):
    """Whoever sees which alerts are drawn on the start page."""

    def see(self, word: str = "look") -> tuple[set[tuple[str, str]], str]: ...


def firing_in(alerts: Sequence[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """Alert and host of what Alertmanager has."""
    return {(str(one["labels"]["alertname"]), str(one["labels"].get("host", ""))) for one in alerts}


# ---------------------------------------------------------------- the site and its mail


@dataclass
class Mailbox:
    """The inside of a mail server."""

    mails: list[Mail] = field(default_factory=list)

    async def handle_DATA(  # noqa: N802 - as aiosmtpd calls it
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        mail = email.message_from_bytes(envelope.content or b"", policy=email.policy.default)
        self.mails.append(Mail(time.time(), str(mail["Subject"])))
        return "250 taken"


class Site:
    """A lab site: its hosts over SSH, its gateway as people reach it."""

    def __init__(self, inventory: Path, topology: Path = LAB_FILE) -> None:
        self.inventory, self.topology = inventory, topology
        self.addresses = dict(_addresses(yaml.safe_load((inventory / "hosts.yml").read_text())))
        self._session = requests.Session()
        self._session.verify = str(inventory / ".state/ca-bundle.crt")
        self._session.trust_env = False

    @property
    def own(self) -> bool:
        """Whether it was made for this, with an inventory that says so."""
        return self.topology != LAB_FILE

    @property
    def account(self) -> tuple[str, str]:
        """Of an administrator of the platform."""
        secrets = (self.inventory / "group_vars/all/secrets.yml").read_text()
        return "admin", str(yaml.safe_load(secrets)["gateway_admin_password"])

    def ask(self, method: str, url: str, **more: Any) -> requests.Response:
        return self._session.request(method, url, timeout=30, **more)

    def alerts(self) -> list[dict[str, Any]]:
        """What the start page asks."""
        url = f"https://{self.addresses['ctl1']}/alertmanager/api/v2/alerts"
        answer = self.ask("GET", url, params={"active": "true"}, auth=self.account)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found

    def on(self, host: str, script: str) -> str:
        config = self.inventory / ".state/ssh/config"
        words = ["ssh", "-F", str(config), host, "sh -e"]
        done = subprocess.run(words, input=script, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{host}: {done.stderr or done.stdout}")
        return done.stdout

    def lab(self, *words: str) -> None:
        program = LAB_FILE.with_name("lab.py")
        command = [
            sys.executable,
            str(program),
            words[0],
            f"--topology={self.topology}",
            *words[1:],
        ]
        subprocess.run(command, check=True, capture_output=True)

    def container(self, host: str) -> str:
        """How podman calls a host."""
        return f"mlops-{tomllib.loads(self.topology.read_text())['project']}-{host}"

    def play(self, playbook: str, *words: str, **variables: Any) -> None:
        command = [PLAYBOOK, "-i", str(self.inventory), playbook, *words]
        command += ["-e", json.dumps(variables)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{playbook} failed:\n{done.stdout[-4000:]}")

    def own_address(self) -> str:
        """Where the hosts reach this machine."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            asked.connect((self.addresses["ctl1"], 9))
            return str(asked.getsockname()[0])


def _addresses(groups: Any) -> Iterator[tuple[str, str]]:
    for group in (groups or {}).values():
        for name, variables in ((group or {}).get("hosts") or {}).items():
            yield name, variables["ansible_host"]
        yield from _addresses((group or {}).get("children"))


def told(site: Site, port: int) -> dict[str, Any]:
    """Have mails sent here, devices remember, and short windows judged."""
    return {
        "monitoring_alert_mail": {
            "to": ["ops@soak.example"],
            "from": "mlops@soak.example",
            "server": site.own_address(),
            "port": port,
            "security": "none",
        },
        "model_serving_truth_requests": REMEMBERED,
        "model_serving_drift_window_seconds": WINDOW_SECONDS,
        "model_serving_drift_window_requests": WINDOW_REQUESTS,
    }


def prepare(site: Site, port: int) -> None:
    """Tell the site, then make a release with all that one has today."""
    site.play("site.yml", "--tags", TAGS, **told(site, port))
    site.play("playbooks/pipeline_check.yml", pipeline_rollout=True, pipeline_model_names=MODEL)


def made_beside(network: str) -> Site:
    """The hosts of a site of its own, prepared as the lab is by ``make lab``."""
    site = Site(*beside.write(BESIDE, network, PROJECT))
    site.lab("up")
    return site


# ---------------------------------------------------------------- the line that asks a device


class Line(threading.Thread):
    """A production line: asks a device some times a second and tells the truth later."""

    def __init__(self, site: Site, host: str, rows: Sequence[tuple[list[float], str]]) -> None:
        super().__init__(daemon=True)
        self._site, self._rows, self.host = site, rows, host
        self._url = f"https://{site.addresses[host]}/v2/models/{MODEL}"
        self._input = site.ask("GET", self._url).json()["inputs"][0]
        self._over = threading.Event()
        self.shifted = False
        self.lies = False
        self.answered = 0

    def run(self) -> None:
        choose = random.Random(7)
        told: list[dict[str, str]] = []
        while not self._over.wait(0.05):
            values, label = choose.choice(self._rows)
            if self.shifted:
                values = [value * 1.8 for value in values]
            tensor = {"name": self._input["name"], "datatype": self._input["datatype"]}
            tensor.update(shape=[1, len(values)], data=values)
            with contextlib.suppress(requests.RequestException, KeyError):
                answer = self._site.ask("POST", f"{self._url}/infer", json={"inputs": [tensor]})
                told.append({"id": answer.json()["id"], "value": "none" if self.lies else label})
                self.answered += 1
            if len(told) >= 50:
                with contextlib.suppress(requests.RequestException):
                    self._site.ask("POST", f"{self._url}/truth", json={"truth": told})
                told = []

    def end(self) -> None:
        self._over.set()
        self.join()

    def set(self, name: str, value: bool) -> None:
        setattr(self, name, value)


def rows_of() -> list[tuple[list[float], str]]:
    """Rows of the data that the model was judged by, with what is right of each."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mlops.onprem"
    pythons = sorted(cache.glob("pipeline-*/bin/python"), key=lambda path: path.stat().st_mtime)
    if not pythons:
        raise SystemExit(f"no environment of the pipeline is in {cache}: run make pipeline first")
    with tempfile.TemporaryDirectory() as place:
        program = ROOT / "pipeline/sample/breast_cancer/prepare.py"
        words = [str(pythons[-1]), str(program), "--output", place]
        subprocess.run(words, check=True, capture_output=True)
        return read_rows(Path(place) / "test.csv")


def read_rows(path: Path) -> list[tuple[list[float], str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        table = csv.reader(stream)
        next(table)
        return [([float(value) for value in row[:-1]], row[-1]) for row in table]


# ---------------------------------------------------------------- the troubles

STAND_IN = "/run/soak-stand-in"
BASELINE = "/etc/mlops/monitoring/baseline.prom"
# Numbers beside those that the host's own exporter tells, renewed as it renews them.
STAND_IN_LOOP = f"""
mkdir -p {STAND_IN}; cp -a {BASELINE} {STAND_IN}/before
cat > {STAND_IN}/loop.sh <<'END'
n=0
while sleep 5; do
  n=$((n+1))
  {{ cat {STAND_IN}/before; cat {STAND_IN}/*.prom 2>/dev/null
    if [ -e {STAND_IN}/disk ]; then
      for one in read write; do
        echo "node_disk_${{one}}_time_seconds_total{{device=\\"soak\\"}} $((n*30))"
        echo "node_disk_${{one}}s_completed_total{{device=\\"soak\\"}} $((n*40))"
      done
    fi; }} > {STAND_IN}/next
  cat {STAND_IN}/next > {BASELINE}
done
END
systemctl stop soak-stand-in 2>/dev/null || true
systemd-run --quiet --unit=soak-stand-in sh {STAND_IN}/loop.sh
"""
STAND_IN_END = f"""
systemctl stop soak-stand-in
cat {STAND_IN}/before > {BASELINE}; rm -rf {STAND_IN}
"""
VOLUME = (
    'node_filesystem_size_bytes{device="soak",fstype="ext4",mountpoint="/srv/soak"} 1e12\\n'
    'node_filesystem_avail_bytes{device="soak",fstype="ext4",mountpoint="/srv/soak"} 1e10\\n'
)
GPU = 'mlops_gpu_planned{uuid="GPU-soak"} 1\\n'
EXPIRED = """
cp -a /etc/mlops/tls/host.crt /root/soak.host.crt
openssl req -x509 -key /etc/mlops/tls/host.key -subj "/CN=$(hostname)" \
  -not_before 20250101000000Z -not_after 20250102000000Z -out /root/soak.crt 2>/dev/null
cat /root/soak.crt > /etc/mlops/tls/host.crt
systemctl reload mlops-nginx
"""
VALID = """
cat /root/soak.host.crt > /etc/mlops/tls/host.crt
systemctl reload mlops-nginx
rm /root/soak.host.crt /root/soak.crt
"""


def guess(site: Site) -> None:
    """Wrong passwords of an account that there is, and of some that nobody has."""
    url = f"https://{site.addresses['ctl1']}/site.json"
    for number in range(40):
        name = "admin" if number % 2 else f"nobody-{number}"
        status = site.ask("GET", url, auth=(name, "guessed")).status_code
        if status not in (401, 429):
            raise SystemExit(f"a wrong password was answered with {status}")


def troubles(site: Site, shifted: Line, lying: Line) -> list[Trouble]:
    """All but Prometheus itself."""
    stand_in = "store1"

    def put(name: str, text: str) -> Callable[[], str]:
        return lambda: site.on(stand_in, f"printf '{text}' > {STAND_IN}/{name}")

    def drop(name: str) -> Callable[[], str]:
        return lambda: site.on(stand_in, f"rm -f {STAND_IN}/{name}")

    return [
        Trouble(
            *("device off", "HostUnreachable", "edge4", 420),
            lambda: site.lab("podman", "stop", "--time", "30", site.container("edge4")),
            lambda: site.lab("restart", "edge4"),
        ),
        Trouble(
            *("slow disk", "DiskSlow", stand_in, 1200),
            put("disk", ""),
            drop("disk"),
        ),
        Trouble(
            *("shifted inputs", "ModelDrift", "edge1", 420),
            lambda: shifted.set("shifted", True),
            lambda: shifted.set("shifted", False),
        ),
        Trouble(
            *("wrong predictions", "ModelQualityLow", "edge2", 600),
            lambda: lying.set("lies", True),
            lambda: lying.set("lies", False),
        ),
        Trouble(
            *("expired certificate", "CertificateExpired", "edge3", 300),
            lambda: site.on("edge3", EXPIRED),
            lambda: site.on("edge3", VALID),
        ),
        Trouble(*("GPU gone", "GpuLost", stand_in, 540), put("gpu.prom", GPU), drop("gpu.prom")),
        Trouble(
            *("full volume", "DiskAlmostFull", stand_in, 720),
            put("volume.prom", VOLUME),
            drop("volume.prom"),
        ),
        Trouble(
            *("failed job", "ScheduledTrainingFailed", "ctl1", 360),
            lambda: site.on("ctl1", "systemd-run --quiet --unit=mlops-pipeline-soak /bin/false"),
            lambda: site.on("ctl1", "systemctl reset-failed mlops-pipeline-soak"),
        ),
        Trouble(
            *("wrong passwords", "PasswordsGuessed", "ctl1", 420),
            lambda: guess(site),
            lambda: None,
        ),
    ]


def prometheus_down(site: Site) -> Trouble:
    return Trouble(
        *("Prometheus itself down", "PrometheusDown", "ctl1", 720),
        lambda: site.on("ctl1", "systemctl stop mlops-prometheus"),
        lambda: site.on("ctl1", "systemctl start mlops-prometheus"),
    )


# ---------------------------------------------------------------- the campaign


def tell(**words: Any) -> None:
    print(json.dumps(words), flush=True)


def unsettled(mails: Sequence[Mail], one: Trouble) -> bool:
    """Whether the last mail about this says that it fires: while it does, no other one comes."""
    about = [mail for mail in mails if {one.alert, one.host} <= set(mail.subject.split())]
    return bool(about) and about[-1].tells(one.alert, one.host)


def wait_for_quiet(site: Shown, chosen: Sequence[Trouble], box: Mailbox) -> None:
    """Wait until nothing of this fires any more, and whoever was told so was told its end."""
    deadline = time.time() + END_SECONDS
    while True:
        firing = firing_in(site.alerts())
        there = [one for one in chosen if (one.alert, one.host) in firing]
        there += [one for one in chosen if one not in there and unsettled(box.mails, one)]
        if not there:
            return
        if time.time() > deadline:
            one = there[0]
            raise SystemExit(f"{one.alert} of {one.host} fires already; mend that first.")
        time.sleep(2)


def strike(site: Shown, chosen: Sequence[Trouble], box: Mailbox, eye: Looks | None = None) -> None:
    """Do all of it, wait for what is told, undo all of it, wait for the end.

    Where nobody looks at the page, what it asks stands for what it draws.
    """
    wait_for_quiet(site, chosen, box)
    with contextlib.ExitStack() as done:  # all of it is undone, also if some of that fails
        for one in chosen:
            one.injected = time.time()
            one.inject()
            done.callback(one.end)
        deadline = time.time() + max(one.seconds for one in chosen) + 60
        while time.time() < deadline and not all(one.told for one in chosen):
            time.sleep(2)
            now, firing = time.time(), firing_in(site.alerts())
            drawn = eye.see()[0] if eye else firing
            for one in chosen:
                one.look(firing, box.mails, now)
                one.look_at_page(drawn, time.time())
        if eye:
            eye.see("picture")
    deadline = time.time() + END_SECONDS
    while time.time() < deadline and not all(one.over for one in chosen):
        time.sleep(2)
        now, firing = time.time(), firing_in(site.alerts())
        drawn = eye.see()[0] if eye else firing
        for one in chosen:
            one.look_for_its_end(firing, now)
            one.look_at_page(drawn, time.time())


def campaign(
    site: Site, eye: Looks, rows: Sequence[tuple[list[float], str]], box: Mailbox, only: set[str]
) -> list[list[str]]:
    """Nine together, then the tenth: what speaks against each.

    A site of its own keeps a sample of its requests, which is looked at before.
    """
    against = []
    lines = [Line(site, host, rows) for host in ("edge1", "edge2")]
    first = [one for one in troubles(site, *lines) if not only or one.name in only]
    last = [one for one in [prometheus_down(site)] if not only or one.name in only]
    site.on("store1", STAND_IN_LOOP)
    for line in lines:
        line.start()
    try:
        while min(line.answered for line in lines) < 2 * WINDOW_REQUESTS:
            time.sleep(1)
        if site.own and (not only or SAMPLES in only):
            row = kept_requests.watched(site, MODEL, [line.host for line in lines], rows)
            tell(**row)
            against.append(row["against"])
        for some in (first, last):
            if some:
                strike(site, some, box, eye)
            for one in some:
                tell(**one.row())
                against.append(one.against())
    finally:
        for line in lines:
            line.end()
        site.on("store1", STAND_IN_END)
    return against


@contextlib.contextmanager
def standing(options: argparse.Namespace) -> Iterator[tuple[Site, Mailbox]]:
    """A prepared site, whose mails come here; afterwards as before, or gone."""
    network = options.network
    site = made_beside(network) if network else Site(options.inventory.resolve())
    box = Mailbox()
    server = Controller(box, hostname=site.own_address(), port=options.port)
    server.start()
    try:
        if not options.as_it_is and network:
            settings = site.inventory / "group_vars/all/troubles.yml"
            given = {**told(site, options.port), "mlops_models": [SAMPLED]}
            settings.write_text(yaml.safe_dump(given), "utf-8")
            site.play("site.yml")
        elif not options.as_it_is:
            prepare(site, options.port)
        yield site, box
    finally:
        server.stop()
        if not options.keep and network:
            site.lab("down")
        elif not options.keep:
            site.play("site.yml", "--tags", TAGS)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inventory", type=Path, default=ROOT / "inventories/lab")
    parser.add_argument("--network", metavar="A.B", help="of a site of its own, as 10.213")
    parser.add_argument("--port", type=int, default=2525, help="of the mail server")
    parser.add_argument("--as-it-is", action="store_true", help="the site was left prepared")
    parser.add_argument("--keep", action="store_true", help="leave the site prepared")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="some troubles")
    options = parser.parse_args()
    with (
        standing(options) as (site, box),
        tempfile.TemporaryDirectory(prefix="mlops-eye-") as place,
    ):
        connect = to_address(site.addresses["ctl1"], 443)
        with looking(Path(place), connect, site.account) as eye:
            found = campaign(site, eye, rows_of(), box, set(options.only))
        for picture in Path(place).glob("*.png"):
            shutil.copy(picture, PICTURES)
    failed = sum(map(bool, found))
    print(f"{len(found) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
