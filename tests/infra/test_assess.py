"""The assessment of a small site on real hosts: what it lets go, what it refuses, what it leaves.

Every case is a site of its own: the hosts of the scenarios as a control plane, an object store
and an edge device, with one thing wrong. A run is `assess.yml` followed by a play that changes
every host, so that a refusal which came too late would be seen.
"""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra.outside import SITE
from tests.infra.snapshot import Snapshot, differences, take

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


def web_server(port: int) -> str:
    """The company's own program on a port of the control host."""
    return (
        "systemd-run --quiet --unit=company-web --property=WorkingDirectory=/usr/share/doc "
        f"/usr/bin/python3 -m http.server {port} && "
        "for try in 1 2 3 4 5 6 7 8 9 10; do "
        f"ss -ltn | grep -q ':{port} ' && exit 0; sleep 0.3; done; exit 1"
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
class Case:
    """What is wrong, what is said about it, and with which code the run ends."""

    name: str
    spoil: Any
    expect: str
    code: int = 1
    # Shell lines run on the control host around the case.
    before: str = ""
    after: str = ""
    arguments: tuple[str, ...] = field(default=())


def unreachable(site: Site) -> None:
    address = site.data["all"]["hosts"][site.edge]["ansible_host"]
    nobody = re.sub(r"\d+$", "99", address)
    site.data["all"]["children"]["gpu"] = {"hosts": {"gpu9": {}}}
    site.data["all"]["hosts"]["gpu9"] = {"ansible_host": nobody}


def too_much_for_those_measured(site: Site) -> None:
    """Work that no other host takes, and a host whose Python does not work."""
    site.set(site.control, ansible_python_interpreter="/bin/false")
    work = {"name": "giant", "kind": "training", "requests": {"cpu_cores": 50_000}}
    site.set(mlops_workloads=[work])


def known_key(line: str) -> Any:
    """The edge device with this line, or none, as what is known about its SSH key."""

    def spoil(site: Site) -> None:
        address = site.data["all"]["hosts"][site.edge]["ansible_host"]
        known = Path(tempfile.mkdtemp()) / "known_hosts"
        known.write_text(line and f"{address} {line}\n")
        site.set(
            site.edge,
            ansible_ssh_common_args=f"-o UserKnownHostsFile={known}",
            ansible_ssh_args="-o ControlPath=none",  # an open connection asks for no key
        )

    return spoil


def two_rings(site: Site) -> None:
    site.data["all"]["children"]["ring_fleet"]["hosts"][site.edge] = {}


def half_read(site: Site) -> None:
    """The slip that is made most: Ansible warns, and goes on with what it has read."""
    site.data["all"]["children"]["ring_canary"]["hosts"] = [site.edge]


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
        "things of the company in the way",
        lambda _site: None,
        r"FAIL {control}: The user mlops-nginx exists on this host and was not created by the "
        r"platform .* FAIL {control}: /opt/mlops shall be a directory, but is something else .* "
        r"FAIL {control}: A unit mlops-prometheus\.service exists already .* "
        r"FAIL {control}: /etc/mlops was there before the platform and differs from what is wanted "
        r"\(mode 0700 to 0755\) .* remedy: move it away, or change it, with: chmod 0755 /etc/mlops",
        before=IN_THE_WAY,
        after=OUT_OF_THE_WAY,
    ),
    Case(
        "packages that apt would not install",
        lambda _site: None,
        # The page is wrapped at hyphens.
        r"(?=.*FAIL {control}: apt cannot install docker- ?registry, because these packages are )"
        r"(?=.*remedy: let them go with: apt- ?mark unhold docker- ?registry)"
        r"(?=.*FAIL {control}: Installing [^;]*nginx[^;]* would remove company- ?web)",
        before=PACKAGED,
        after=UNPACKAGED,
    ),
    Case(
        "a mirror of packages that does not answer",
        lambda _site: None,
        r"FAIL {control}: apt on this host cannot fetch packages from \S+ \(.* remedy: mend its "
        r"way there, its proxy",
        before=f"echo 'Acquire::http::Proxy \"http://127.0.0.1:9\";' > {NO_WAY} && "
        "mount -t tmpfs tmpfs /var/cache/apt/archives",
        after=f"rm {NO_WAY}; umount /var/cache/apt/archives",
    ),
    Case(
        "a mirror that does not answer and no package lists",
        lambda _site: None,
        r"FAIL {control}: The package lists of this host are missing or too old, and cannot be "
        r"fetched",
        before=f"echo 'Acquire::http::Proxy \"http://127.0.0.1:9\";' > {NO_WAY} && "
        "mv /var/lib/apt/lists /var/lib/apt/lists.company && mkdir /var/lib/apt/lists",
        after=f"rm {NO_WAY}; rm -r /var/lib/apt/lists; "
        "mv /var/lib/apt/lists.company /var/lib/apt/lists",
    ),
    Case(
        "places where nothing can be written or run",
        lambda _site: None,
        r"(?=.*FAIL {control}: No unit of the platform can be written: /etc/systemd/system lies on "
        r"/etc/systemd/system, which is mounted read- ?only)"
        r"(?=.*FAIL {control}: /opt/mlops/model_registry cannot be made: /opt lies on /opt, which "
        r"is mounted noexec .* remedy: mount it with exec, with: mount -o remount,exec /opt)",
        before=MOUNTED,
        after="umount /opt /etc/systemd/system",
    ),
    Case(
        "too little memory on one host",
        lambda site: site.set(metadata_db_memory_mib=4_000_000),
        r"FAIL {control}: memory has room for [\d,]+ MiB \([\d,]+ in total, .* wanted: [\d,]+ MiB "
        r"\(PostgreSQL 4,000,000.* metadata_db_memory_mib",
    ),
    Case(
        "a disk too small for what is asked",
        lambda site: site.set(object_store_osd_size_gib=9000),
        r"FAIL {store}: disk / has room for [\d,]+ MiB .* object_store_osd_size_gib",
    ),
    Case(
        "a disk too small for the retention of measurements",
        lambda site: site.set(monitoring_retention_days=365_000),
        r"FAIL {control}: disk / has room for [\d,]+ MiB .* monitoring_retention_days",
    ),
    Case(
        "a port taken by a foreign process",
        lambda _site: None,
        r"FAIL {control}: port 443/tcp on 0\.0\.0\.0 is held by python3 \(process \d+, "
        r"company-web\.service\) wanted: port 443 free for .* remedy: stop it with: "
        r"systemctl disable "
        r"--now company-web\.service, or choose another port by gateway_port",
        before=web_server(443),
        after="systemctl stop company-web",
    ),
    Case(
        "the port of the metrics of all roles taken by a foreign process",
        lambda _site: None,
        r"FAIL {control}: port 9443/tcp on 0\.0\.0\.0 is held by python3 \(process \d+, "
        r"company-web\.service\) wanted: port 9443 free for nginx .* or set "
        r"common_nginx_metrics_port to a free one",
        before=web_server(9443),
        after="systemctl stop company-web",
    ),
    Case(
        "a server that does not answer",
        unreachable,
        r"FAIL gpu9: cannot be reached: .* wanted: a host that answers over SSH remedy: "
        r"check with: "
        r"ssh -i \S+ .*root@[\d.]+99 true; or take gpu9 out of the inventory",
    ),
    Case(
        "a device whose SSH key nobody has looked at",
        known_key(""),
        r"FAIL {edge}: the SSH key of [\d.]+ is not known here, .* remedy: compare what "
        r"\"ssh-keyscan [\d.]+ \| ssh-keygen -lf -\" prints",
    ),
    Case(
        "another machine in the place of a device",
        known_key(
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIyN6gYTVXn+wQ9vRuKTBZhCaYCLWMpZsCbQHrAxqEOQ"
        ),
        r"FAIL {edge}: the SSH key of [\d.]+ is another one than the known one: .* remedy: if it "
        r"was installed anew, forget the old key \(ssh-keygen -R [\d.]+\)",
    ),
    Case(
        "an unknown group",
        unknown_group,
        r"FAIL site: the group 'egde' is not one of the platform \(did you mean edge\?\)",
    ),
    Case(
        "a misspelt variable",
        lambda site: site.set(site.edge, model_serving_prot=8443),
        r"FAIL {edge}: sets the variable model_serving_prot, which nothing reads; did you mean "
        r"model_serving_port\?",
    ),
    Case(
        "a network that overlaps another one",
        lambda site: site.set(mlops_networks={"all": "10.0.0.0/8", "floor": "10.9.0.0/16"}),
        r"FAIL site: mlops_networks\.all \(10\.0\.0\.0/8\) overlaps mlops_networks\.floor",
    ),
    Case(
        "a malformed network",
        lambda site: site.set(mlops_networks={"floor": "10.9.0.7/16"}),
        r"FAIL site: mlops_networks\.floor is '10\.9\.0\.7/16': .* set mlops_networks\.floor: "
        r"10\.9\.0\.0/16",
    ),
    Case(
        "a host in two exclusive groups",
        two_rings,
        r"FAIL {edge}: is in the groups ring_canary and ring_fleet wanted: one ring a device",
    ),
    Case(
        "a clock that is ten minutes off",
        lambda site: site.set(site.control, ansible_python_interpreter=f"{LATE}/python3"),
        r"FAIL {control}: its clock is 10 minutes ahead wanted: at most 60 seconds from "
        r"the controller "
        r"remedy: set it with: ",
        before=LATE_CLOCK,
        after=f"rm -r {LATE}",
    ),
    Case(
        "an expired waiver",
        lambda site: site.set(
            mlops_waivers=[
                {
                    "check": "capacity.cpu",
                    "host": site.edge,
                    "reason": "for a while",
                    "owner": "jane",
                    "expires": "2020-01-31",
                }
            ]
        ),
        r"FAIL {edge}: mlops_waivers\[0\] for capacity\.cpu expired on 2020-01-31",
    ),
    Case(
        "a variable of the wrong type",
        lambda site: site.set(gateway_port="many"),
        r"FAIL site: gateway_port is not a valid int: .* remedy: mend gateway_port in "
        r"\S+/group_vars/all/main\.yml .*what gateway would need and find was not asked",
    ),
    Case(
        "a list of hosts, before which Ansible stopped to read",
        half_read,
        r"FAIL site: \S+/hosts\.yml: hosts of the group ring_canary is a list wanted: a mapping of "
        r"names remedy: write 'hosts: \{{edge}: \{\}\}'",
    ),
    Case(
        "a port held by a program that was started from a login",
        lambda _site: None,
        r"FAIL {control}: port 443/tcp on 0\.0\.0\.0 is held by python3 \(process \d+, \S+\): "
        r"\S*python3 -m http\.server 443 wanted: port 443 free for .* remedy: end it where it was "
        r"started \(see it with: ps -o pid,ppid,user,args -p \d+\), or choose another port",
        before="cd /usr/share/doc && { setsid nohup /usr/bin/python3 -m http.server 443 "
        ">/dev/null 2>&1 </dev/null & echo $! >/run/company.pid; }; "
        "for try in 1 2 3 4 5 6 7 8 9 10; do "
        "ss -ltn | grep -q ':443 ' && exit 0; sleep 0.3; done; exit 1",
        after="kill $(cat /run/company.pid); rm /run/company.pid",
    ),
    Case(
        "work that does not fit on any host",
        lambda site: site.set(
            mlops_workloads=[
                {"name": "giant", "kind": "training", "requests": {"cpu_cores": 50_000}}
            ]
        ),
        r"FAIL site: the workloads do not fit: [\d,.]+ cores of CPU missing "
        r"\(50,000 cores requested",
    ),
    Case(
        "work of which nobody can say whether it fits",
        too_much_for_those_measured,
        r"it is not decided whether the workloads fit: .* not measured: {control};.* "
        r"COULD NOT ASSESS: no host has been changed\.",
        code=2,
    ),
    Case(
        "a workload that cannot be meant",
        lambda site: site.set(
            mlops_workloads=[{"name": "chat", "kind": "serving", "gpu": {"share": 1.4}}]
        ),
        r"FAIL site: mlops_workloads\[0\]\.gpu\.share: 1\.4 is more than one GPU; ask for "
        r"gpu\.count: 2",
    ),
    Case(
        "facts that are too old",
        lambda site: site.set(mlops_facts_max_age=0),
        r"COULD NOT ASSESS: no host has been changed\.",
        code=2,
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

    def _collect(self, groups: dict[str, Any]) -> None:
        for group in groups.values():
            for name, variables in ((group or {}).get("hosts") or {}).items():
                self.addresses[name] = variables["ansible_host"]
            self._collect((group or {}).get("children") or {})

    def shell(self, host: str, line: str) -> None:
        if line:
            subprocess.run(["ssh", "-F", self.ssh_config, host, line], check=True)

    def read(self, host: str, path: str) -> str:
        command = ["ssh", "-F", str(self.ssh_config), host, "cat", path]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def snapshot(self) -> dict[str, Snapshot]:
        return {name: take(name, self.ssh_config) for name in sorted(self.addresses)}

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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_refuses_and_changes_nothing(case: Case, hosts: Hosts, tmp_path: Path) -> None:
    site = hosts.site()
    case.spoil(site)
    hosts.shell(hosts.control, case.before)
    try:
        before = hosts.snapshot()
        code, said = run(site, tmp_path, *case.arguments)
        changed = changes(hosts, before)
    finally:
        hosts.shell(hosts.control, case.after)
    names = {"control": hosts.control, "store": hosts.store, "edge": hosts.edge}
    pattern = re.sub(r"\{(control|store|edge)\}", lambda found: names[found.group(1)], case.expect)
    assert re.search(pattern, said), f"wanted {pattern!r}, but the run said:\n{said}"
    assert code == case.code, said[-2000:]
    assert not changed, changed


def test_a_site_that_fits_goes_and_the_assessment_itself_changes_nothing(
    hosts: Hosts, tmp_path: Path
) -> None:
    before = hosts.snapshot()
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


def test_check_mode_assesses_and_writes_no_report(hosts: Hosts, tmp_path: Path) -> None:
    before = hosts.snapshot()
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
    before = hosts.snapshot()
    code, said = run(hosts.site(), tmp_path, "--skip-tags", "always")
    assert code == 1
    assert "This run has not assessed the site, so nothing is changed" in said
    assert not changes(hosts, before)
