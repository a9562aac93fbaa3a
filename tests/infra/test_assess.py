"""The assessment of a small site on real hosts: what it lets go, what it refuses, what it leaves.

Every case is a site of its own: the hosts of the scenarios as a control plane, an object store
and an edge device, with mistakes that do not hide each other. Each has to be named, and nothing
else. A run is `assess.yml` followed by a play that changes every host, so that a refusal which
came too late would be seen.
"""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra.outside import SITE
from tests.infra.snapshot import Snapshot, differences, take
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOK = ROOT / "extensions" / "molecule" / "assess" / "attempt.yml"
MARK = "/var/tmp/mlops-changed"
# An interpreter whose clock is ten minutes ahead: a container cannot have a clock of its own.
LATE = "/usr/local/lib/late-clock"
LATE_CLOCK = (
    f"mkdir -p {LATE} && printf '%s\\n' 'import time' 'now = time.time' "
    f"'time.time = lambda: now() + 600' > {LATE}/sitecustomize.py && "
    f"printf '%s\\n' '#!/bin/sh' 'exec env PYTHONPATH={LATE} PYTHONDONTWRITEBYTECODE=1 "
    f'/usr/bin/python3 "$@"\' > {LATE}/python3 && chmod 755 {LATE}/python3'
)


GIANT = {"name": "giant", "kind": "training", "requests": {"cpu_cores": 50_000}}


def until_listening(port: int) -> str:
    """Wait on a host until a program listens there."""
    look = f"until ss -ltn | grep -q ':{port} '; do sleep 0.2; done"
    return f'timeout {PATIENCE:.0f} sh -c "{look}"'


def web_server(port: int) -> str:
    """The company's own program on a port of the control host."""
    return (
        "systemd-run --quiet --unit=company-web --property=WorkingDirectory=/usr/share/doc "
        f"/usr/bin/python3 -m http.server {port} && "
        f"{until_listening(port)}"
    )


@dataclass
class Site:
    """The inventory of a case."""

    control: str
    store: str
    edge: str
    data: dict[str, Any]

    def set(self, host: str | None = None, **variables: Any) -> None:
        """Set variables of the site, or of one host."""
        place = self.data["all"]["vars"] if host is None else self.data["all"]["hosts"][host]
        place.update(variables)


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong, and the findings that name it and nothing else."""

    name: str
    findings: tuple[str, ...]
    spoil: Any = None
    # Shell lines run on a host around the case; {control}, {store} and {edge} are addresses there.
    before: str = ""
    after: str = ""
    on: str = "control"


@dataclass(frozen=True)
class Case:
    """A site with mistakes that do not hide each other, and the code with which its run ends.

    Each of them alone refuses the site: that a single finding does is the judge's own test.
    """

    name: str
    mistakes: tuple[Mistake, ...]
    code: int = 1
    # What the run says besides its findings.
    says: str = ""


def unreachable(site: Site) -> None:
    address = site.data["all"]["hosts"][site.edge]["ansible_host"]
    nobody = re.sub(r"\d+$", "99", address)
    site.data["all"]["children"]["gpu"] = {"hosts": {"gpu9": {}}}
    site.data["all"]["hosts"]["gpu9"] = {"ansible_host": nobody}


def too_much_for_those_measured(site: Site) -> None:
    """Work that no other host takes, and a host whose Python does not work."""
    site.set(site.control, ansible_python_interpreter="/bin/false")
    site.set(mlops_workloads=[GIANT])


def known_key(which: str, line: str) -> Any:
    """A host with this line, or none, as what is known about its SSH key."""

    def spoil(site: Site) -> None:
        host = site.edge if which == "edge" else site.store
        address = site.data["all"]["hosts"][host]["ansible_host"]
        known = Path(tempfile.mkdtemp()) / "known_hosts"
        known.write_text(line and f"{address} {line}\n")
        site.set(
            host,
            ansible_ssh_common_args=f"-o UserKnownHostsFile={known}",
            ansible_ssh_args="-o ControlPath=none",  # an open connection asks for no key
        )

    return spoil


def two_rings(site: Site) -> None:
    site.data["all"]["children"]["ring_fleet"]["hosts"][site.edge] = {}


def half_read(site: Site) -> None:
    """The slip that is made most: Ansible warns, and goes on with what it has read."""
    site.data["all"]["children"]["ring_canary"]["hosts"] = [site.edge]


def expired_waiver(site: Site) -> None:
    waiver = {"check": "capacity.cpu", "host": site.edge, "reason": "for a while"}
    site.set(mlops_waivers=[{**waiver, "owner": "jane", "expires": "2020-01-31"}])


def unknown_group(site: Site) -> None:
    site.data["all"]["children"]["egde"] = {"hosts": {site.edge: {}}}


# What the company has where the platform would put its own things.
IN_THE_WAY = (
    "install -d -m 700 /etc/mlops && echo secret > /etc/mlops/notes && "
    "useradd --system mlops-nginx && "
    "printf '[Service]\\nExecStart=/bin/true\\n' > /etc/systemd/system/mlops-prometheus.service && "
    "echo company > /opt/mlops"
)
OUT_OF_THE_WAY = (
    "rm -r /etc/mlops /etc/systemd/system/mlops-prometheus.service /opt/mlops; "
    "userdel mlops-nginx; systemctl daemon-reload"
)
# A package of the company that cannot live with nginx, and one that must not change.
WEB = "/var/tmp/company-web"
PACKAGED = (
    f"mkdir -p {WEB}/DEBIAN && printf '%s\\n' 'Package: company-web' 'Version: 1' "
    "'Architecture: all' 'Maintainer: Company <it@example.com>' 'Conflicts: nginx' "
    f"'Description: web' > {WEB}/DEBIAN/control && dpkg-deb --build {WEB} && dpkg -i {WEB}.deb && "
    "apt-mark hold docker-registry"
)
UNPACKAGED = f"rm -r {WEB} {WEB}.deb; dpkg --purge company-web; apt-mark unhold docker-registry"
NO_WAY = "/etc/apt/apt.conf.d/99company"
# /opt can be written, but nothing in it be run; in /etc/systemd/system nothing can be written.
MOUNTED = (
    "mount --bind /opt /opt && mount -o remount,bind,noexec /opt && "
    "mount --bind /etc/systemd/system /etc/systemd/system && "
    "mount -o remount,bind,ro /etc/systemd/system"
)

CASES = [
    Case(
        "a host where the company has other things",
        (
            Mistake(
                "things of the company in the way",
                (
                    r"^FAIL {control}: The user mlops-nginx exists on this host and was not "
                    r"created by the platform",
                    r"^FAIL {control}: /opt/mlops shall be a directory, but is something else",
                    r"^FAIL {control}: A unit mlops-prometheus\.service exists already",
                    r"^FAIL {control}: /etc/mlops was there before the platform and differs from "
                    r"what is wanted \(mode 0700 to 0755\) .* remedy: move it away, or change it, "
                    r"with: chmod 0755 /etc/mlops",
                ),
                before=IN_THE_WAY,
                after=OUT_OF_THE_WAY,
            ),
            Mistake(
                "packages that apt would not install",
                # The page is wrapped at hyphens.
                (
                    r"^FAIL {control}: apt cannot install docker- ?registry, because these "
                    r"packages are .*remedy: let them go with: apt- ?mark unhold docker- ?registry",
                    r"^FAIL {control}: Installing [^;]*nginx[^;]* would remove company- ?web",
                ),
                before=PACKAGED,
                after=UNPACKAGED,
            ),
            Mistake(
                "a mirror of packages that does not answer",
                (
                    r"^FAIL {edge}: apt on this host cannot fetch packages from \S+ \(.* remedy: "
                    r"mend its way there, its proxy",
                ),
                before=f"echo 'Acquire::http::Proxy \"http://127.0.0.1:9\";' > {NO_WAY} && "
                "mount -t tmpfs tmpfs /var/cache/apt/archives",
                after=f"rm {NO_WAY}; umount /var/cache/apt/archives",
                on="edge",
            ),
            Mistake(
                "a mirror that does not answer and no package lists",
                (
                    r"^FAIL {store}: The package lists of this host are missing or too old, and "
                    r"cannot be fetched",
                ),
                before=f"echo 'Acquire::http::Proxy \"http://127.0.0.1:9\";' > {NO_WAY} && "
                "mv /var/lib/apt/lists /var/lib/apt/lists.company && mkdir /var/lib/apt/lists",
                after=f"rm {NO_WAY}; rm -r /var/lib/apt/lists; "
                "mv /var/lib/apt/lists.company /var/lib/apt/lists",
                on="store",
            ),
            Mistake(
                "a firewall that refuses what a device asks the gateway",
                (
                    r"^FAIL {edge}: {control} \([\d.]+:443/tcp\), for gateway, is not to be "
                    r"reached: a firewall or a router on the way refuses wanted: a free way from "
                    r"{edge} to {control} \([\d.]+:443/tcp\) remedy: allow 443/tcp from {edge} to "
                    r"{control} ",
                ),
                before="ip rule add to {control} ipproto tcp dport 443 unreachable",
                after="ip rule del to {control} ipproto tcp dport 443 unreachable",
                on="edge",
            ),
            Mistake(
                "a firewall that drops what the control host asks the object store",
                (
                    r"^FAIL {control}: {store} \([\d.]+:9443/tcp\), for metrics, gives no answer "
                    r"wanted: a free way from {control} to {store} ",
                    r"^FAIL {control}: {store} \([\d.]+:443/tcp\), for object store, gives no "
                    r"answer .* remedy: allow 443/tcp from {control} to {store} \([\d.]+:443/tcp\) "
                    r"in every firewall on the way, that of the other host included",
                ),
                # Packets go to a network card that nobody has.
                before="ip neigh replace {store} lladdr 02:00:00:00:00:99 nud permanent dev eth0",
                after="ip neigh del {store} dev eth0",
            ),
        ),
    ),
    Case(
        "hosts that have too little",
        (
            Mistake(
                "places where nothing can be written or run",
                (
                    r"^FAIL {control}: No unit of the platform can be written: "
                    r"/etc/systemd/system lies on /etc/systemd/system, which is mounted "
                    r"read- ?only",
                    r"^FAIL {control}: /opt/mlops/model_registry cannot be made: /opt lies on "
                    r"/opt, which is mounted noexec .* remedy: mount it with exec, with: "
                    r"mount -o remount,exec /opt",
                ),
                before=MOUNTED,
                after="umount /opt /etc/systemd/system",
            ),
            Mistake(
                "too little memory on one host",
                (
                    r"^FAIL {control}: memory has room for [\d,]+ MiB \([\d,]+ in total, .* "
                    r"wanted: [\d,]+ MiB \(PostgreSQL 4,000,000.* metadata_db_memory_mib",
                ),
                lambda site: site.set(metadata_db_memory_mib=4_000_000),
            ),
            Mistake(
                "a disk too small for what is asked",
                (r"^FAIL {store}: disk / has room for [\d,]+ MiB .* object_store_osd_size_gib",),
                lambda site: site.set(object_store_osd_size_gib=9000),
            ),
            Mistake(
                "a disk too small for the retention of measurements",
                (
                    r"^FAIL {control}: disk /.* has room for [\d,]+ MiB .* "
                    r"monitoring_retention_days",
                ),
                lambda site: site.set(monitoring_retention_days=365_000),
            ),
            Mistake(
                "work that does not fit on any host",
                (
                    r"^FAIL site: the workloads do not fit: .*[\d,.]+ cores of CPU missing "
                    r"\(50,000 cores requested",
                ),
                lambda site: site.set(mlops_workloads=[GIANT]),
            ),
            Mistake(
                "a port taken by a foreign process",
                (
                    r"^FAIL {control}: port 443/tcp on 0\.0\.0\.0 is held by python3 "
                    r"\(process \d+, company-web\.service\) wanted: port 443 free for .* remedy: "
                    r"stop it with: systemctl disable --now company-web\.service, or choose "
                    r"another port by gateway_port",
                ),
                before=web_server(443),
                after="systemctl stop company-web",
            ),
            Mistake(
                "the port of the metrics of all roles held by a program started from a login",
                (
                    r"^FAIL {control}: port 9443/tcp on 0\.0\.0\.0 is held by python3 "
                    r"\(process \d+, \S+\): \S*python3 -m http\.server 9443 wanted: port 9443 free "
                    r"for nginx.* remedy: end it where it was started \(see it with: "
                    r"ps -o pid,ppid,user,args -p \d+\), or set common_nginx_metrics_port to a "
                    r"free one",
                ),
                before="cd /usr/share/doc && { setsid nohup /usr/bin/python3 -m http.server 9443 "
                ">/dev/null 2>&1 </dev/null & echo $! >/run/company.pid; }; "
                + until_listening(9443),
                after="kill $(cat /run/company.pid); rm /run/company.pid",
            ),
            Mistake(
                "a clock that is ten minutes off",
                (
                    r"^FAIL {edge}: its clock is 10 minutes ahead wanted: at most 60 seconds from "
                    r"the controller remedy: set it with: ",
                ),
                lambda site: site.set(site.edge, ansible_python_interpreter=f"{LATE}/python3"),
                before=LATE_CLOCK,
                after=f"rm -r {LATE}",
                on="edge",
            ),
        ),
    ),
    Case(
        "servers that do not answer",
        (
            Mistake(
                "a server that does not answer",
                (
                    r"^FAIL gpu9: cannot be reached: .* wanted: a host that answers over SSH "
                    r"remedy: check with: ssh -i \S+ .*root@[\d.]+99 true; or take gpu9 out of "
                    r"the inventory",
                ),
                unreachable,
            ),
            Mistake(
                "a device whose SSH key nobody has looked at",
                (
                    r"^FAIL {edge}: the SSH key of [\d.]+ is not known here, .* remedy: compare "
                    r"what \"ssh-keyscan [\d.]+ \| ssh-keygen -lf -\" prints",
                ),
                known_key("edge", ""),
            ),
            Mistake(
                "another machine in the place of a host",
                (
                    r"^FAIL {store}: the SSH key of [\d.]+ is another one than the known one: .* "
                    r"remedy: if it was installed anew, forget the old key "
                    r"\(ssh-keygen -R [\d.]+\)",
                ),
                known_key(
                    "store",
                    "ssh-ed25519 "
                    "AAAAC3NzaC1lZDI1NTE5AAAAIIyN6gYTVXn+wQ9vRuKTBZhCaYCLWMpZsCbQHrAxqEOQ",
                ),
            ),
        ),
    ),
    Case(
        "an inventory with mistakes",
        (
            Mistake(
                "an unknown group",
                (
                    r"^FAIL site: the group 'egde' is not one of the platform \(did you mean "
                    r"edge\?\)",
                ),
                unknown_group,
            ),
            Mistake(
                "a misspelt variable",
                (
                    r"^FAIL {edge}: sets the variable model_serving_prot, which nothing reads; "
                    r"did you mean model_serving_port\?",
                ),
                lambda site: site.set(site.edge, model_serving_prot=8443),
            ),
            Mistake(
                "networks that overlap or are malformed",
                (
                    r"^FAIL site: mlops_networks\.all \(10\.0\.0\.0/8\) overlaps "
                    r"mlops_networks\.floor",
                    r"^FAIL site: mlops_networks\.dock is '10\.8\.0\.7/16': .* set "
                    r"mlops_networks\.dock: 10\.8\.0\.0/16",
                ),
                lambda site: site.set(
                    mlops_networks={
                        "all": "10.0.0.0/8",
                        "floor": "10.9.0.0/16",
                        "dock": "10.8.0.7/16",
                    }
                ),
            ),
            Mistake(
                "a host in two exclusive groups",
                (
                    r"^FAIL {edge}: is in the groups ring_canary and ring_fleet wanted: one ring "
                    r"a device",
                ),
                two_rings,
            ),
            Mistake(
                "an expired waiver",
                (r"^FAIL {edge}: mlops_waivers\[0\] for capacity\.cpu expired on 2020-01-31",),
                expired_waiver,
            ),
            Mistake(
                "a variable of the wrong type",
                (
                    r"^FAIL site: gateway_port is not a valid int: .* remedy: mend gateway_port in "
                    r"\S+/group_vars/all/main\.yml",
                ),
                lambda site: site.set(gateway_port="many"),
            ),
            Mistake(
                "a workload that cannot be meant",
                (
                    r"^FAIL site: mlops_workloads\[0\]\.gpu\.share: 1\.4 is more than one GPU; "
                    r"ask for gpu\.count: 2",
                ),
                lambda site: site.set(
                    mlops_workloads=[{"name": "chat", "kind": "serving", "gpu": {"share": 1.4}}]
                ),
            ),
        ),
        says="what gateway would need and find was not asked",
    ),
    Case(
        "a list of hosts before which Ansible stopped to read",
        (
            Mistake(
                "a list of hosts",
                (
                    r"^FAIL site: \S+/hosts\.yml: hosts of the group ring_canary is a list wanted: "
                    r"a mapping of names remedy: write 'hosts: \{{edge}: \{\}\}'",
                ),
                half_read,
            ),
        ),
    ),
    Case(
        "work of which nobody can say whether it fits",
        (Mistake("a host that cannot be measured", (), too_much_for_those_measured),),
        code=2,
        says=r"it is not decided whether the workloads fit: .* not measured: {control};.* "
        r"COULD NOT ASSESS: no host has been changed\.",
    ),
    Case(
        "facts that are too old",
        (Mistake("no age is allowed", (), lambda site: site.set(mlops_facts_max_age=0)),),
        code=2,
        says=r"COULD NOT ASSESS: no host has been changed\.",
    ),
]


class Hosts:
    """The hosts of the scenario, over SSH."""

    def __init__(self, ssh_config: str) -> None:
        self.ssh_config = Path(ssh_config)
        groups = yaml.safe_load((SITE / "hosts.yml").read_text())
        self.addresses: dict[str, str] = {}
        self._collect(groups)
        self.control, self.edge, self.store = sorted(self.addresses)[:3]
        # How the hosts were at last, as long as nothing was done to them since by a shell.
        self.known: dict[str, Snapshot] | None = None

    def _collect(self, groups: dict[str, Any]) -> None:
        for group in groups.values():
            for name, variables in ((group or {}).get("hosts") or {}).items():
                self.addresses[name] = variables["ansible_host"]
            self._collect((group or {}).get("children") or {})

    def shell(self, host: str, line: str) -> None:
        if line:
            self.known = None
            subprocess.run(["ssh", "-F", self.ssh_config, host, line], check=True)

    def answer(self, host: str, line: str) -> str:
        command = ["ssh", "-F", str(self.ssh_config), host, line]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def read(self, host: str, path: str) -> str:
        return self.answer(host, f"cat {path}")

    def wait(self, host: str, seconds: float = 2 * PATIENCE) -> None:
        """Until a host that was switched on answers."""
        end = time.monotonic() + seconds
        command = ["ssh", "-F", str(self.ssh_config), "-o", "ConnectTimeout=5", host, "true"]
        while subprocess.run(command, check=False, capture_output=True).returncode != 0:
            assert time.monotonic() < end, f"{host} does not answer after {seconds} s"
            time.sleep(0.5)

    def snapshot(self) -> dict[str, Snapshot]:
        names = sorted(self.addresses)
        with ThreadPoolExecutor(len(names)) as pool:
            taken = pool.map(lambda name: take(name, self.ssh_config), names)
            self.known = dict(zip(names, taken, strict=True))
        return self.known

    def as_they_are(self) -> dict[str, Snapshot]:
        """The snapshot that was taken last, where that holds still."""
        return self.known or self.snapshot()

    def site(self) -> Site:
        data = {
            "all": {
                "hosts": {
                    name: {"ansible_host": address} for name, address in self.addresses.items()
                },
                "vars": {"metadata_db_mode": "managed", "object_store_mode": "managed"},
                "children": {
                    "control": {"hosts": {self.control: {}}},
                    "metadata_db": {"hosts": {self.control: {}}},
                    "object_store": {"hosts": {self.store: {}}},
                    "edge": {
                        "children": {"ring_canary": {}, "ring_early": {}, "ring_fleet": {}},
                    },
                    "ring_canary": {"hosts": {self.edge: {}}},
                    "ring_early": {"hosts": {}},
                    "ring_fleet": {"hosts": {}},
                },
            }
        }
        return Site(self.control, self.store, self.edge, copy.deepcopy(data))


@pytest.fixture(scope="module")
def hosts(request: pytest.FixtureRequest) -> Hosts:
    return Hosts(request.config.option.ssh_config)


def run(site: Site, folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the play; its exit code, and what it said on one line."""
    variables = yaml.safe_load((SITE / "group_vars" / "all" / "main.yml").read_text())
    variables.update(
        mlops_state_dir=str(folder / "state"),
        mlops_secrets_file=str(folder / "secrets.yml"),
        metadata_db_mode="managed",
    )
    variables.update(site.data["all"]["vars"])
    site.data["all"]["vars"] = {}
    (folder / "group_vars" / "all").mkdir(parents=True, exist_ok=True)
    (folder / "group_vars" / "all" / "main.yml").write_text(yaml.safe_dump(variables))
    (folder / "hosts.yml").write_text(yaml.safe_dump(site.data))
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={folder / 'hosts.yml'}",
            *arguments,
            str(PLAYBOOK),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "MOLECULE_PROJECT_DIRECTORY": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)


def changes(hosts: Hosts, before: dict[str, Snapshot]) -> list[str]:
    now = hosts.snapshot()
    return [
        f"{name}: {line}" for name in before for line in differences(before[name], now[name], [])
    ]


def parts(said: str) -> list[str]:
    """The findings of a run that stand against the site, one each."""
    pieces = re.split(r"(?=\bFAIL [\w-]+: )", said)
    return [piece for piece in pieces if piece.startswith("FAIL")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_refuses_and_changes_nothing(case: Case, hosts: Hosts, tmp_path: Path) -> None:
    site = hosts.site()
    names = {"control": hosts.control, "store": hosts.store, "edge": hosts.edge}

    addresses = {role: hosts.addresses[name] for role, name in names.items()}

    def filled(pattern: str, with_what: dict[str, str] = names) -> str:
        return re.sub(r"\{(control|store|edge)\}", lambda found: with_what[found[1]], pattern)

    with ExitStack() as cleanup:
        for mistake in case.mistakes:
            if mistake.spoil:
                mistake.spoil(site)
            cleanup.callback(hosts.shell, names[mistake.on], filled(mistake.after, addresses))
            hosts.shell(names[mistake.on], filled(mistake.before, addresses))
        before = hosts.as_they_are()
        code, said = run(site, tmp_path)
        changed = changes(hosts, before)
    left = parts(said)
    for mistake in case.mistakes:
        for pattern in map(filled, mistake.findings):
            found = [part for part in left if re.search(pattern, part)]
            assert found, f"{mistake.name}: wanted {pattern!r}, but the run said:\n{said}"
            left.remove(found[0])
    assert not left, f"nobody made these mistakes: {left}"
    assert re.search(filled(case.says), said), f"wanted {case.says!r}, but the run said:\n{said}"
    assert code == case.code, said[-2000:]
    assert not changed, changed


def test_a_site_that_fits_goes_and_the_assessment_itself_changes_nothing(
    hosts: Hosts, tmp_path: Path
) -> None:
    before = hosts.as_they_are()
    try:
        code, said = run(hosts.site(), tmp_path)
        changed = changes(hosts, before)
    finally:
        for name in hosts.addresses:
            hosts.shell(name, f"rm -f {MARK}")
    assert code == 0, said
    assert "GO: nothing stands against it." in said
    assert changed, "the play after the assessment did not run"
    assert all(MARK in line or " /var/tmp:" in line for line in changed), changed
    report = json.loads((tmp_path / "state" / "assessment.json").read_text())
    assert (report["verdict"], report["exit_code"]) == ("go", 0)
    assert {row["host"] for row in report["table"]} == set(hosts.addresses)
    assert (tmp_path / "state" / "assessment.html").read_text().startswith("<!doctype html>")


def test_work_goes_where_the_plan_says_and_stays_there(hosts: Hosts, tmp_path: Path) -> None:
    def attempt(*more: dict[str, Any]) -> dict[str, set[tuple[str, int]]]:
        site = hosts.site()
        site.set(mlops_workloads=[*work, *more], mlops_waivers=[])
        try:
            code, said = run(site, tmp_path)
            assert code == 0, said
            marks = {host: json.loads(hosts.read(host, MARK)) for host in hosts.addresses}
        finally:
            for name in hosts.addresses:
                hosts.shell(name, f"rm -f {MARK}")
        assert "Workloads: FEASIBLE" in said
        return {
            host: {(row["workload"], row["replica"]) for row in rows}
            for host, rows in marks.items()
        }

    little = {"cpu_cores": 0.1, "memory": "64MiB"}
    work = [
        {"name": "chat", "kind": "serving", "replicas": 2, "requests": little}
        | {"anti_affinity": True},
        {"name": "pictures", "kind": "dataset", "hosts": {"groups": ["object_store"]}}
        | {"requests": {"disks": [{"path": "/srv", "size": "1GiB"}]}},
    ]
    first = attempt()
    assert ("pictures", 0) in first[hosts.store]
    assert not first[hosts.edge]  # devices carry models, not work, unless that is asked for
    assert {("chat", 0), ("chat", 1)} <= first[hosts.store] | first[hosts.control]
    assert len({host for host, rows in first.items() if {("chat", 0), ("chat", 1)} & rows}) == 2

    more = {"name": "nightly", "kind": "training", "requests": little}
    second = attempt({**more, "hosts": {"names": [hosts.control]}})
    assert second == {**first, hosts.control: first[hosts.control] | {("nightly", 0)}}


def podman(word: str, host: str) -> None:
    """Switch a host of the scenario off or on."""
    topology = SITE.parent / "topology.toml"
    project = re.search(r'^project = "(.+)"', topology.read_text(), re.MULTILINE)
    assert project
    command = [sys.executable, "extensions/lab/lab.py", "podman", "--topology", str(topology)]
    subprocess.run(
        [*command, word, f"mlops-{project[1]}-{host}"], cwd=ROOT, check=True, capture_output=True
    )


def test_a_device_that_is_switched_off_is_left_out_and_caught_up(
    hosts: Hosts, tmp_path: Path
) -> None:
    site = hosts.site()
    away = hosts.store
    site.data["all"]["children"]["object_store"] = {"hosts": {site.control: {}}}
    site.data["all"]["children"]["ring_fleet"] = {"hosts": {away: {}}}
    hosts.known = None
    marked = f"test ! -e {MARK} || echo marked"
    podman("stop", away)
    try:
        off, said = run(copy.deepcopy(site), tmp_path)
    finally:
        podman("start", away)
        hosts.wait(away)
    try:
        left_out = hosts.answer(away, marked)
        report = json.loads((tmp_path / "state" / "assessment.json").read_text())
        on, said_later = run(site, tmp_path)
        caught_up = {host: hosts.answer(host, marked) for host in hosts.addresses}
    finally:
        for name in hosts.addresses:
            hosts.shell(name, f"rm -f {MARK}")
    assert off == 0, said
    assert "this run leaves the device out" in said
    assert report["deferred"] == [away]
    assert left_out == ""
    assert on == 0, said_later
    assert "leaves the device out" not in said_later
    assert caught_up == dict.fromkeys(hosts.addresses, "marked")


def test_check_mode_assesses_and_writes_no_report(hosts: Hosts, tmp_path: Path) -> None:
    before = hosts.as_they_are()
    code, said = run(hosts.site(), tmp_path, "--check")
    assert code == 0, said
    assert not changes(hosts, before)
    assert not (tmp_path / "state" / "assessment.json").exists()


def test_a_single_host_can_be_assessed(hosts: Hosts, tmp_path: Path) -> None:
    """Of a new site only with an identity: the others may have one already."""
    site = hosts.site()
    code, said = run(site, tmp_path, "--check", "--limit", hosts.edge)
    assert code == 1
    assert "run without --limit, or with a host of the site" in said
    site.set(mlops_site_id="of-the-other-hosts")
    code, said = run(site, tmp_path, "--check", "--limit", hosts.edge)
    assert code == 0, said


def test_refuses_to_go_on_without_an_assessment(hosts: Hosts, tmp_path: Path) -> None:
    before = hosts.as_they_are()
    code, said = run(hosts.site(), tmp_path, "--skip-tags", "always")
    assert code == 1
    assert "This run has not assessed the site, so nothing is changed" in said
    assert not changes(hosts, before)
