# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the lab takes from nothing, how long again, and what its services weigh.

    python tests/benchmarks/site.py [--skip-cold] [--devices 8] [--output FILE]

Measures, on the hosts of the lab, which it empties first:

- the whole site cold (no wheelhouses) and warm (a second run), with seconds by role and stage and
  the number of tasks by host;
- the memory of every service of ours (proportional set size, MiB);
- the lower bound: the same Debian packages and the same Python environments put onto empty hosts by
  a plain shell script over SSH, without configuration, certificates, services or checks;
- what one more edge device costs: tasks, seconds, and CPU seconds of the controller in a warm run,
  by comparing the lab with a second site of its own hosts that has more devices (--devices; 0 for
  none).

Prints a table and writes everything as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".collections"))

from ansible_collections.mlops.onprem.plugins.action.host_python_app import built  # noqa: E402
from ansible_collections.mlops.onprem.plugins.module_utils._host.app import Target  # noqa: E402

STATE = ROOT / "inventories" / "lab" / ".state"
LAB = [sys.executable, str(ROOT / "extensions/lab/lab.py")]
SSH = ["ssh", "-F", str(STATE / "ssh" / "config")]
# The larger site: a lab with more devices, in a network of its own.
LARGER = ROOT / ".cache" / "bench"
LAB_NETWORK, LARGER_NETWORK = "10.203.0.", "10.209.0."
FIRST_DEVICE = 21
MOST_DEVICES = 200

# Proportional set size of every process in our slice, by unit.
MEMORY = r"""
import glob, json, re
found = {}
for path in glob.glob("/proc/[0-9]*/cgroup"):
    try:
        unit = re.search(r"mlops\.slice/(?:[^\n]*/)?([^/\n]+\.service)", open(path).read())
        if unit:
            text = open(path.replace("cgroup", "smaps_rollup")).read()
            kib = int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1))
            found[unit.group(1)] = found.get(unit.group(1), 0) + kib / 1024
    except (OSError, AttributeError):
        pass
print(json.dumps({unit: round(mib, 1) for unit, mib in sorted(found.items())}))
"""

# What a Python environment is built for.
TARGET = r"""
import json, platform, sys
print(json.dumps({"version": "%d.%d" % sys.version_info[:2], "machine": platform.machine(),
                  "libc": " ".join(platform.libc_ver())}))
"""

# Packages and Python environments of ours, as the host's ledger has them.
LEDGER = r"""
import json
things = json.load(open("/var/lib/mlops/ledger.json"))["things"]
print(json.dumps({kind: sorted(t["name"].rpartition("/")[2] for t in things if t["kind"] == kind)
                  for kind in ("package", "app")}))
"""


def on(host: str, program: str) -> Any:
    """Run a Python program on a host; what it printed as JSON."""
    done = subprocess.run(
        [*SSH, host, "python3", "-"], input=program, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def empty_lab() -> float:
    subprocess.run([*LAB, "down"], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    started = time.monotonic()
    subprocess.run([*LAB, "up"], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return round(time.monotonic() - started, 1)


def site(
    name: str, output: Path, environment: dict[str, str], inventory: str = "inventories/lab"
) -> dict[str, Any]:
    """One run of the site; its times as the progress callback measured them."""
    timings = output.with_name(f"{name}-timings.json")
    environment = {**os.environ, **environment, "MLOPS_TIMINGS_FILE": str(timings)}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", inventory]
    started, used = time.monotonic(), cpu_seconds()
    with output.with_name(f"{name}.log").open("w") as log:
        subprocess.run([*command, "site.yml"], check=True, cwd=ROOT, env=environment, stdout=log)
    report: dict[str, Any] = json.loads(timings.read_text())
    report["wall_seconds"] = round(time.monotonic() - started, 1)
    report["controller_cpu_seconds"] = round(cpu_seconds() - used, 1)
    report["changes"] = sum(task["changed"] for task in report.pop("tasks"))
    return report


def cpu_seconds() -> float:
    """What programs that have ended used here; the hosts' services are nobody's children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return float(used.ru_utime + used.ru_stime)


def rings(devices: list[str]) -> dict[str, list[str]]:
    """One device first, a quarter of the others next, then the rest."""
    early = 1 + max(1, (len(devices) - 1) // 4)
    return {
        "ring_canary": devices[:1],
        "ring_early": devices[1:early],
        "ring_fleet": devices[early:],
    }


def larger_topology(devices: int) -> str:
    """The hosts of a lab with that many devices."""
    lines = ['project = "bench"', f'network = "{LARGER_NETWORK}0/24"', 'inventory = "inventory"']
    addresses = {"db1": 11, "store1": 12, "ctl1": 13}
    addresses |= {f"edge{n}": FIRST_DEVICE + n - 1 for n in range(1, devices + 1)}
    for name, last in addresses.items():
        lines += ["", f"[hosts.{name}]", f'ip = "{LARGER_NETWORK}{last}"']
        lines += ['kind = "postgresql"'] if name == "db1" else []
    return "\n".join(lines) + "\n"


def larger_inventory(devices: int) -> dict[str, Any]:
    """The inventory of those hosts, shaped as the lab's."""

    def group(names: list[str], last: int) -> dict[str, Any]:
        return {
            "hosts": {
                name: {"ansible_host": f"{LARGER_NETWORK}{last + at}"}
                for at, name in enumerate(names)
            }
        }

    names = [f"edge{n}" for n in range(1, devices + 1)]
    children = {
        ring: group(members, FIRST_DEVICE + names.index(members[0])) if members else {}
        for ring, members in rings(names).items()
    }
    return {
        "metadata_db": {},
        "object_store": group(["store1"], 12),
        "control": group(["ctl1"], 13),
        "edge": {"children": children},
    }


def build_larger(devices: int) -> None:
    """Write the topology and the inventory, and start the hosts."""
    shared = ROOT / "inventories" / "lab" / "group_vars" / "all"
    target = LARGER / "inventory" / "group_vars" / "all"
    target.mkdir(parents=True, exist_ok=True)
    (LARGER / "topology.toml").write_text(larger_topology(devices))
    # JSON is YAML.
    (LARGER / "inventory" / "hosts.yml").write_text(json.dumps(larger_inventory(devices)))
    for name in ("connection.yml", "site.yml"):
        text = (shared / name).read_text().replace(LAB_NETWORK, LARGER_NETWORK)
        (target / name).write_text(text)
    subprocess.run([*LAB, "up", *larger_hosts()], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def larger_hosts() -> list[str]:
    return [f"--topology={LARGER / 'topology.toml'}"]


def larger(devices: int, output: Path) -> dict[str, Any]:
    """A warm run of a site with that many devices, which is taken away again."""
    if (LARGER / "topology.toml").exists():  # of an earlier run that was killed
        subprocess.run([*LAB, "down", *larger_hosts()], check=True, cwd=ROOT)
    try:
        build_larger(devices)
        inventory = str(LARGER / "inventory")
        site("larger-cold", output, {}, inventory)
        return site("larger-warm", output, {}, inventory)
    finally:
        subprocess.run([*LAB, "clean", *larger_hosts()], check=True, cwd=ROOT)
        shutil.rmtree(LARGER)


def per_device(small: dict[str, Any], large: dict[str, Any]) -> dict[str, float]:
    """What one more device costs in a warm run, from two runs with different numbers of them."""

    def of(run: dict[str, Any]) -> list[int]:
        return [n for host, n in run["tasks_per_host"].items() if host.startswith("edge")]

    few, many = of(small), of(large)
    more = len(many) - len(few)
    if more <= 0:
        raise ValueError(f"wanted more than {len(few)} devices, found {len(many)}")

    def margin(figure: str) -> float:
        return round(float(large[figure] - small[figure]) / more, 2)

    return {
        "devices": len(many),
        "compared_with": len(few),
        "tasks": round(sum(many) / len(many), 1),
        "controller_cpu_seconds": margin("controller_cpu_seconds"),
        "wall_seconds": margin("wall_seconds"),
    }


def lower_bound(hosts: dict[str, dict[str, list[str]]], cache: Path) -> float:
    """Seconds for the same packages and environments on empty hosts with nothing but a shell."""
    empty_lab()
    archives = {
        (host, app): built(
            (ROOT / "roles" / app / "files" / "requirements.txt").read_text(),
            Target(**on(host, TARGET)),
            cache / "apps",
        )
        for host, things in hosts.items()
        for app in things["app"]
    }

    def install(host: str) -> None:
        # As the roles do: no daemon starts while it is not configured.
        script = f"""
            printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d
            chmod 755 /usr/sbin/policy-rc.d
            export DEBIAN_FRONTEND=noninteractive
            apt-get update -qq
            apt-get install -y -qq --no-install-recommends {" ".join(hosts[host]["package"])}
        """
        shell(host, script)
        for app in hosts[host]["app"]:
            with archives[host, app].open("rb") as stream:
                unpack = f"mkdir -p /srv/{app} && tar -xzf - -C /srv/{app}"
                subprocess.run([*SSH, host, unpack], stdin=stream, check=True)
            shell(host, f"python3 -m venv --without-pip /srv/{app}")
            shell(host, f"python3 -m compileall -q /srv/{app}/lib || test $? = 1")

    started = time.monotonic()
    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(install, hosts))
    return round(time.monotonic() - started, 1)


def shell(host: str, script: str) -> None:
    subprocess.run(
        [*SSH, host, "sh", "-e"], input=script, text=True, check=True, stdout=subprocess.DEVNULL
    )


def table(report: dict[str, Any]) -> str:
    lines = ["", f"{'run':<26}{'seconds':>9}{'changes':>9}"]
    for name in ("cold", "warm"):
        if name in report:
            run = report[name]
            lines.append(f"{name:<26}{run['wall_seconds']:>9.1f}{run['changes']:>9}")
    lines.append(f"{'plain shell, lower bound':<26}{report['lower_bound_seconds']:>9.1f}")
    lines += ["", f"{'role':<26}{'cold s':>9}{'warm s':>9}"]
    cold, warm = report.get("cold", {}).get("roles", {}), report["warm"]["roles"]
    for role in sorted(set(cold) | set(warm)):
        name = role or "(playbooks)"
        lines.append(f"{name:<26}{cold.get(role, 0):>9.1f}{warm.get(role, 0):>9.1f}")
    lines += ["", f"{'host':<26}{'tasks':>9}"]
    lines += [f"{host:<26}{n:>9}" for host, n in report["warm"]["tasks_per_host"].items()]
    if more := report.get("per_device"):
        lines += ["", f"one more device, {more['compared_with']} compared with {more['devices']}"]
        lines += [
            f"{what:<26}{more[figure]:>9.1f}"
            for figure, what in (
                ("tasks", "tasks"),
                ("controller_cpu_seconds", "CPU s of the controller"),
                ("wall_seconds", "seconds"),
            )
        ]
    lines += ["", f"{'service':<40}{'MiB':>9}"]
    for host, services in report["memory_mib"].items():
        lines += [f"{host + ' ' + unit:<40}{mib:>9.1f}" for unit, mib in services.items()]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the lab site.")
    parser.add_argument("--skip-cold", action="store_true", help="measure the site that stands")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "build" / "benchmarks" / "site.json", metavar="FILE"
    )
    parser.add_argument(
        "--devices",
        type=int,
        default=8,
        metavar="N",
        help="edge devices of the larger site (5 or more; 0: none)",
    )
    options = parser.parse_args()
    if options.devices and not 5 <= options.devices <= MOST_DEVICES:
        parser.error(f"--devices: found {options.devices}, wanted 0, or 5 to {MOST_DEVICES}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mlops.onprem"
    report: dict[str, Any] = {"cores": os.cpu_count()}
    if not options.skip_cold:
        for archive in cache.glob("apps/*.tar.gz"):
            archive.unlink()
        report["lab_seconds"] = empty_lab()
        report["cold"] = site("cold", options.output, {})
    report["warm"] = site("warm", options.output, {})
    hosts = list(report["warm"]["tasks_per_host"])
    hosts = [host for host in hosts if host != "localhost"]
    report["memory_mib"] = {host: on(host, MEMORY) for host in hosts}
    if options.skip_cold:
        report["lower_bound_seconds"] = float("nan")
    else:
        report["lower_bound_seconds"] = lower_bound({h: on(h, LEDGER) for h in hosts}, cache)
    if options.devices:
        report["larger"] = larger(options.devices, options.output)
        report["per_device"] = per_device(report["warm"], report["larger"])
    options.output.write_text(json.dumps(report, indent=1))
    print(table(report))
    print(f"\nAll of it: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
