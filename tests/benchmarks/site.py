# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the lab takes from nothing, how long again, and what its services weigh.

    python tests/benchmarks/site.py [--skip-cold] [--output build/benchmarks/site.json]

Measures, on the hosts of the lab, which it empties first:

- the whole site cold (no wheelhouses) and warm (a second run), with seconds by role and stage and
  the number of tasks by host;
- the memory of every service of ours (proportional set size, MiB);
- the lower bound: the same Debian packages and the same Python environments put onto empty hosts by
  a plain shell script over SSH, without configuration, certificates, services or checks.

Prints a table and writes everything as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
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


def site(name: str, output: Path, environment: dict[str, str]) -> dict[str, Any]:
    """One run of the site; its times as the progress callback measured them."""
    timings = output.with_name(f"{name}-timings.json")
    environment = {**os.environ, **environment, "MLOPS_TIMINGS_FILE": str(timings)}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "inventories/lab"]
    started = time.monotonic()
    with output.with_name(f"{name}.log").open("w") as log:
        subprocess.run([*command, "site.yml"], check=True, cwd=ROOT, env=environment, stdout=log)
    report: dict[str, Any] = json.loads(timings.read_text())
    report["wall_seconds"] = round(time.monotonic() - started, 1)
    report["changes"] = sum(task["changed"] for task in report.pop("tasks"))
    return report


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
    options = parser.parse_args()
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
    options.output.write_text(json.dumps(report, indent=1))
    print(table(report))
    print(f"\nAll of it: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
