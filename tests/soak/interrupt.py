"""Kill a first run of the site at random moments, run again, and see that it converges.

    python -m tests.soak.interrupt --kills 10 --kills-per-site 1 --seed 42

Each site starts from empty lab hosts. A run goes on for a random time, then the controller's
ansible-playbook and its workers are killed with SIGKILL, and the next run begins; with more than
one kill per site that run is killed, too, which is quicker and harsher. After the last kill of a
site a run goes to the end, then one more: that one has to change nothing. All sites have to end
in the same state: packages, units, users, groups, ports, mounts, and the files with their owners
and modes. Prints one JSON line a kill and one a site; exits 1 when a site did not converge.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.infra.snapshot import Snapshot, differences

ROOT = Path(__file__).resolve().parents[2]
LAB = [sys.executable, str(ROOT / "extensions/lab/lab.py")]
PLAYBOOK = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "inventories/lab"]


def run_site(log: Path, kill_after: float | None = None) -> tuple[int | None, int]:
    """Run the site; exit code (None when killed) and number of changes."""
    with tempfile.NamedTemporaryFile(suffix=".json") as timings, log.open("w") as output:
        environment = os.environ | {"MLOPS_TIMINGS_FILE": timings.name}
        process = subprocess.Popen(
            [*PLAYBOOK, "site.yml"],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait(kill_after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None, 0
        report = json.loads(Path(timings.name).read_text() or "{}")
        return code, sum(task["changed"] for task in report.get("tasks", []))


def empty_hosts() -> None:
    for verb in ("down", "up"):
        subprocess.run([*LAB, verb], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def converge(logs: Path, site: int) -> dict[str, object]:
    """Run to the end, then once more; what both runs said."""
    started = time.monotonic()
    code, changes = run_site(logs / f"{site}-rerun.log")
    seconds = round(time.monotonic() - started, 1)
    again, left = run_site(logs / f"{site}-again.log")
    return {
        "converged": code == 0 and again == 0 and left == 0,
        "rerun_code": code,
        "rerun_changes": changes,
        "rerun_seconds": seconds,
        "second_rerun_code": again,
        "second_rerun_changes": left,
    }


# Contents are of one installation only: keys, certificates, databases, measurements, journals.
DATA = re.compile(r"^(/var/lib/mlops/|/var/lib/ceph/|/var/lib/postgresql/|/var/tmp/|/tmp/|/run/)")


def end_state(folder: Path) -> dict[str, Snapshot]:
    """What every host is in the end, without what differs from installation to installation."""
    subprocess.run([*LAB, "snapshot", "--output", str(folder)], check=True, cwd=ROOT)
    found = {}
    for page in sorted(folder.glob("*.json")):
        picture: Snapshot = json.loads(page.read_text())
        picture.pop("process")  # what runs is told by units and ports
        picture["file"] = {
            path: re.sub(r" sha256:\w+$", "", what)
            for path, what in picture["file"].items()
            if not DATA.match(path)
        }
        found[page.stem] = picture
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--kills-per-site", type=int, default=1, metavar="N")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--longest", type=float, default=300.0, help="latest moment, seconds")
    parser.add_argument("--logs", type=Path, default=ROOT / "build" / "interrupt")
    options = parser.parse_args()
    options.logs.mkdir(parents=True, exist_ok=True)
    chance = random.Random(options.seed)
    first: dict[str, Snapshot] = {}
    failures = sites = kills = 0
    while kills < options.kills:
        sites += 1
        empty_hosts()
        for _kill in range(min(options.kills_per_site, options.kills - kills)):
            kills += 1
            moment = round(chance.uniform(5.0, options.longest), 1)
            code, _changes = run_site(options.logs / f"{sites}-{kills}-killed.log", moment)
            told: dict[str, object] = {"site": sites, "kill": kills, "after_seconds": moment}
            if code is not None:
                told["ended_before_the_kill"] = code
            print(json.dumps(told), flush=True)
        result = {"site": sites, **converge(options.logs, sites)}
        state = end_state(options.logs / f"{sites}-state")
        first = first or state
        result["differs"] = [
            f"{host}: {line}"
            for host in first
            for line in differences(first[host], state[host], [])
        ]
        failures += not result["converged"] or bool(result["differs"])
        print(json.dumps(result), flush=True)
    print(f"{sites - failures} passed, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
