# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install the last release on empty lab hosts, upgrade it to the working tree, see what is lost.

    python -m tests.soak.upgrade [--from 0.2.0] [--outage 45] [--network 10.214] [--keep]

One checkout in build/soak goes from the release to the working tree, as a user's does who pulls:
state, secrets and what the company handed over stay where they are. While the upgrade runs every
service is asked once a second. Wanted: secrets, releases, predictions, runs, models, artifacts and
metrics are kept (where devices no longer take what a release signed, tests/releases.toml says why,
and they answer as before from a release made anew), no device is away for longer than a restart, a
second run changes nothing, and after the removal hosts and the company's database are what they
were before the first install.

The hosts are those of the lab, which must not be standing unless --network gives them a network of
their own. Prints JSON lines and the counts.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.soak.judge import Outage, Release, losses, outage, releases, too_long, vanished

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "soak"
CHECKOUT = WORK / "checkout"
SITE = CHECKOUT / "inventories" / "lab"
NETWORK = "10.203"  # of the lab, in every release so far
LEDGER = "import json; print(json.dumps(json.load(open('/var/lib/mlops/ledger.json'))['things']))"
MODEL = "breast-cancer"  # what the pipeline check releases unless it is told otherwise
OF_MAKE = frozenset({"ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"})
STATUS = "/opt/mlops/model_serving_app/mlops-release status"


# ---------------------------------------------------------------- commands


def git(*words: str, directory: Path = ROOT) -> str:
    command = ["git", *words]
    return subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True).stdout


def make(target: str, log: str, **environment: str) -> None:
    """Run the front door of the checkout; its output goes to a file of its own."""
    # What this campaign was called with is not meant for the site.
    own = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    with (WORK / log).open("w") as output:
        done = subprocess.run(
            ["make", target],
            cwd=CHECKOUT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**own, **environment},
            check=False,
        )
    if done.returncode:
        lines = (WORK / log).read_text(errors="replace").splitlines()
        raise SystemExit("\n".join([f"make {target} failed:", *lines[-40:]]))


def lab(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "extensions/lab/lab.py", *words]
    return subprocess.run(command, cwd=CHECKOUT, check=check, capture_output=True, text=True)


def on(host: str, command: str) -> str:
    words = ["ssh", "-F", str(SITE / ".state/ssh/config"), host, command]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def check_out(release: Release) -> None:
    """A clone that shares the objects of this one, on the commit of the release."""
    if (CHECKOUT / "extensions/lab/lab.py").exists():  # of an earlier run that was killed
        lab("down", check=False)
    shutil.rmtree(CHECKOUT, ignore_errors=True)
    CHECKOUT.parent.mkdir(parents=True, exist_ok=True)
    git("clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(CHECKOUT))
    git("checkout", "--quiet", "--detach", release.commit, directory=CHECKOUT)


def take_over_the_working_tree() -> None:
    """Make what git knows of the checkout equal to the working tree; leave what it ignores."""
    listing = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    wanted = {name for name in git(*listing).split("\0") if name and (ROOT / name).is_file()}
    present = set(git("ls-files", "-z", directory=CHECKOUT).split("\0")) - {""}
    for name in present - wanted:
        (CHECKOUT / name).unlink(missing_ok=True)
    for name in wanted:
        (CHECKOUT / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, CHECKOUT / name)


def move_to(network: str) -> None:
    """Give the hosts of the checkout another network and project than those of the lab."""
    if network == NETWORK:
        return
    for name in git("ls-files", "-z", "extensions/lab/lab.toml", "inventories/lab").split("\0"):
        path = CHECKOUT / name
        if name and path.is_file() and f"{NETWORK}." in (text := path.read_text()):
            text = text.replace(f"{NETWORK}.", f"{network}.")
            path.write_text(text.replace('project = "lab"', 'project = "soak"'))


# ---------------------------------------------------------------- the site


class Site:
    """The services of the lab as its people reach them."""

    def __init__(self) -> None:
        self.addresses = managed_hosts()
        self.devices = sorted(name for name in self.addresses if name.startswith("edge"))
        self.gateway = f"https://{self.addresses['ctl1']}"
        self.store = f"https://{self.addresses['store1']}"
        self.secrets: dict[str, str] = yaml.safe_load(
            (SITE / "group_vars/all/secrets.yml").read_text()
        )

    def get(self, url: str, account: str = "", secret: str = "", **more: Any) -> Any:
        """Ask for JSON."""
        auth = (account, self.secrets[secret]) if account else None
        method = "POST" if "json" in more else "GET"
        verify = str(SITE / ".state/ca-bundle.crt")
        answer = requests.request(method, url, auth=auth, verify=verify, timeout=60, **more)
        answer.raise_for_status()
        return answer.json()

    def mlflow(self, path: str, **more: Any) -> Any:
        url = f"{self.gateway}/mlflow/api/2.0/mlflow/{path}"
        return self.get(url, "admin", "model_registry_admin_password", **more)

    def record(self) -> dict[str, Any]:
        """All that an upgrade may not lose. Secrets only as digests: the record is printed."""
        # One file of the site up to version 0.3, one of each model since then.
        reports = SITE / ".state/pipeline"
        files = [reports / f"golden-{MODEL}.json", reports / "golden.json"]
        golden = json.loads(next(path for path in files if path.exists()).read_text())
        case = golden["cases"][0]["request"]
        status = {name: json.loads(on(name, STATUS)) for name in self.devices}
        experiments = self.mlflow("experiments/search?max_results=1000").get("experiments", [])
        ids = [row["experiment_id"] for row in experiments]
        runs = self.mlflow("runs/search", json={"experiment_ids": ids, "max_results": 1000})
        versions = self.mlflow("model-versions/search?max_results=1000").get("model_versions", [])
        return {
            "secrets": {
                name: hashlib.sha256(str(value).encode()).hexdigest()
                for name, value in self.secrets.items()
            },
            "served": {name: told["served"] for name, told in status.items()},
            "predictions": {name: self.predict(name, case) for name in self.devices},
            "runs": sorted(row["info"]["run_id"] for row in runs.get("runs", [])),
            "models": sorted(f"{row['name']} {row['version']}" for row in versions),
            "artifacts": self.artifacts(),
            "oldest_sample": self.oldest_sample(),
            "ledgers": {
                host: [f"{row['kind']} {row['name']}" for row in json.loads(self.ledger(host))]
                for host in self.addresses
            },
        }

    def ledger(self, host: str) -> str:
        return on(host, f'python3 -c "{LEDGER}"')

    def predict(self, device: str, case: Any) -> Any:
        """What the device answers for a golden case."""
        url = f"https://{self.addresses[device]}/v2/models/{MODEL}/infer"
        return self.get(url, json=case)["outputs"]

    def artifacts(self) -> list[str]:
        url = f"{self.gateway}/v2/models/tags/list"
        listing = self.get(url, "push", "artifact_registry_push_password")
        return sorted(listing.get("tags") or [])

    def oldest_sample(self) -> float:
        """When the metrics begin, as Prometheus says of itself."""
        url = f"{self.gateway}/prometheus/api/v1/query"
        params = {"query": "min(prometheus_tsdb_lowest_timestamp_seconds)"}
        answer = self.get(url, "admin", "gateway_admin_password", params=params)
        return float(answer["data"]["result"][0]["value"][1])

    def questions(self) -> dict[str, str]:
        """One address for each service: any answer below 500 says that it is there."""
        found = {n: f"https://{self.addresses[n]}/v2/health/ready" for n in self.devices}
        found["gateway"] = f"{self.gateway}/healthz"
        found["object store"] = f"{self.store}/"
        for name, path in (("mlflow", "mlflow/health"), ("registry", "v2/")):
            found[name] = f"{self.gateway}/{path}"
        found["prometheus"] = f"{self.gateway}/prometheus/-/ready"
        return found


def managed_hosts() -> dict[str, str]:
    """Name and address of the hosts of the lab's inventory."""
    return dict(_addresses(yaml.safe_load((SITE / "hosts.yml").read_text())))


def _addresses(groups: Any) -> Iterator[tuple[str, str]]:
    for group in (groups or {}).values():
        for name, variables in ((group or {}).get("hosts") or {}).items():
            yield name, variables["ansible_host"]
        yield from _addresses((group or {}).get("children"))


class Prober:
    """Asks every service once a second, each in a thread of its own, on a fresh connection."""

    def __init__(self, questions: dict[str, str], ca_file: Path) -> None:
        self._stop = threading.Event()
        self._answers: dict[str, list[tuple[float, bool]]] = {name: [] for name in questions}
        self._ca_file = str(ca_file)
        self._threads = [
            threading.Thread(target=self._ask, args=(name, url), daemon=True)
            for name, url in questions.items()
        ]

    def _ask(self, name: str, url: str) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                answer = requests.get(url, verify=self._ca_file, timeout=5)
                good = answer.status_code < 500
            except requests.RequestException:
                good = False
            self._answers[name].append((begun, good))
            self._stop.wait(max(0.0, 1.0 - (time.monotonic() - begun)))

    def __enter__(self) -> Prober:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_reason: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def outages(self) -> dict[str, Outage]:
        return {name: outage(answers) for name, answers in self._answers.items()}


# ---------------------------------------------------------------- the campaign


def tell(**words: Any) -> None:
    print(json.dumps(words), flush=True)


def timed(name: str, action: Callable[[], None]) -> None:
    started = time.monotonic()
    action()
    tell(step=name, seconds=round(time.monotonic() - started, 1))


def changed_again() -> int:
    timings = WORK / "again.json"
    make("site", "again.log", MLOPS_TIMINGS_FILE=str(timings))
    rows: list[dict[str, Any]] = json.loads(timings.read_text())["tasks"]
    return sum(int(row["changed"]) for row in rows)


def snapshot(name: str) -> None:
    """Of the hosts that are managed; the company's own is told by its fingerprint."""
    lab("snapshot", "--output", str(WORK / name), *managed_hosts())


def left_behind() -> list[str]:
    """What the removal left on hosts or took from them, and what it did to the company."""
    found = []
    diff = [sys.executable, str(ROOT / "tests/infra/snapshot.py"), "diff"]
    for before in sorted((WORK / "before").glob("*.json")):
        words = [*diff, str(before), str(WORK / "after" / before.name)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            found += [f"{before.stem}: {line}" for line in done.stdout.splitlines()]
    company = ["company-fingerprint", f"--against={WORK / 'company.json'}", "--strict"]
    done = lab(*company, check=False)
    if done.returncode:
        found += [f"db1: {line}" for line in (done.stdout + done.stderr).splitlines()]
    return found


def campaign(release: Release, bound: float, network: str) -> dict[str, list[str]]:
    """Promise -> what speaks against it."""
    check_out(release)
    move_to(network)
    timed("hosts", lambda: make("lab", "hosts.log"))
    snapshot("before")
    (WORK / "company.json").write_text(lab("company-fingerprint").stdout)
    timed(f"install {release.version}", lambda: make("site", "install.log"))
    site = Site()
    before = site.record()
    (WORK / "before.json").write_text(json.dumps(before, indent=1))
    take_over_the_working_tree()
    move_to(network)
    with Prober(site.questions(), SITE / ".state/ca-bundle.crt") as prober:
        timed("upgrade", lambda: make("site", "upgrade.log"))
    outages = prober.outages()
    tell(outages={name: asdict(seen) for name, seen in outages.items()})
    changes = changed_again()
    after = Site().record()
    (WORK / "after.json").write_text(json.dumps(after, indent=1))
    tell(no_longer_in_ledgers=vanished(before["ledgers"], after["ledgers"]))
    timed("remove", lambda: make("remove", "remove.log"))
    snapshot("after")
    return {
        "nothing is lost": losses(before, after, anew=bool(release.reissued)),
        "devices answer": too_long(outages, site.devices, bound),
        "a second run changes nothing": [f"{changes} changes"] if changes else [],
        "the removal leaves what was before": left_behind(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    table = releases((ROOT / "tests/releases.toml").read_text())
    versions = [release.version for release in table]
    parser.add_argument("--from", dest="version", choices=versions, default=versions[-1])
    parser.add_argument("--outage", type=float, default=45.0, help="seconds a device may be away")
    parser.add_argument("--network", default=NETWORK, metavar="A.B", help="of the hosts, as 10.214")
    parser.add_argument("--keep", action="store_true", help="leave the hosts for a look")
    options = parser.parse_args()
    release = table[versions.index(options.version)]
    try:
        git("cat-file", "-e", f"{release.commit}^{{commit}}")
    except subprocess.CalledProcessError:
        print(
            f"Release {release.version} is commit {release.commit}, which this clone does not "
            "have; fetch the whole history (git fetch --unshallow), then run this again."
        )
        return 2
    WORK.mkdir(parents=True, exist_ok=True)
    try:
        promises = campaign(release, options.outage, options.network)
    finally:
        if not options.keep and (CHECKOUT / "extensions/lab/lab.py").exists():
            with contextlib.suppress(subprocess.CalledProcessError):
                lab("down")
    for promise, against in promises.items():
        tell(promise=promise, kept=not against, against=against)
    failed = sum(bool(against) for against in promises.values())
    print(f"{len(promises) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
