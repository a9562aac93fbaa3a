# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All rollouts of the scenario `rollout`, also those that CI leaves out.

    python -m tests.soak.rollout [--network 10.216] [--debian12 rdev2,rdev6]

Eight devices in three rings, made for it and taken away. One JSON line a case; exits 1 when one
failed. The output of the scenario is kept in ``build/soak``.

With ``--network`` the hosts have another network than those that CI runs the scenario on, so that
both can be there at once: the working tree is copied below ``build/soak`` and moved there.
With ``--debian12`` some of the hosts are Debian 12, as devices of the field are, in a copy as well.
``PYTEST_ADDOPTS`` chooses among the cases.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tomllib

from tests.lanes import environment_of

ROOT = Path(__file__).resolve().parents[2]
NAME = "rollout"


def cases(text: str) -> Iterator[dict[str, Any]]:
    """What a report of pytest says of each case."""
    for case in ElementTree.fromstring(text).iter("testcase"):
        wrong = case.find("failure") if case.find("failure") is not None else case.find("error")
        yield {
            "case": case.get("name", ""),
            "seconds": round(float(case.get("time", 0)), 1),
            "passed": wrong is None and case.find("skipped") is None,
            "said": "" if wrong is None else str(wrong.get("message", "")),
        }


def network_of(tree: Path, name: str) -> str:
    """The first two numbers of the network of a scenario's hosts."""
    topology = tomllib.loads((scenario(tree, name) / "topology.toml").read_text("utf-8"))
    return ".".join(str(topology["network"]).split(".")[:2])


def scenario(tree: Path, name: str) -> Path:
    """Where a scenario lies."""
    return tree / "extensions" / "molecule" / name


def aged(topology: str, hosts: Sequence[str]) -> str:
    """The text of a topology in which some of the hosts are Debian 12.

    Raises:
        SystemExit: There is no host of one of the names.
    """
    known = tomllib.loads(topology).get("hosts", {})
    strange = sorted(set(hosts) - set(known))
    if strange:
        raise SystemExit(f"--debian12: no host {', '.join(strange)}, wanted {', '.join(known)}.")
    for host in hosts:
        topology = topology.replace(f"[hosts.{host}]\n", f'[hosts.{host}]\nsystem = "bookworm"\n')
    return topology


def moved(name: str, network: str, source: Path = ROOT, older: Sequence[str] = ()) -> Path:
    """A copy of the working tree in which the hosts of a scenario have another network.

    Args:
        name: Of the scenario.
        network: The first two numbers of its hosts' addresses there.
        source: The working tree.
        older: The hosts that are Debian 12 there.
    """
    tree = source / "build" / "soak" / f"{name}-{network}"
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=source, check=True, capture_output=True, text=True)
    for one in filter(None, done.stdout.split("\0")):
        if (source / one).is_file():
            (tree / one).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / one, tree / one)
    collections = tree / ".collections" / "ansible_collections" / "mlops"
    collections.mkdir(parents=True, exist_ok=True)
    links = {collections / "onprem": tree}
    links |= {tree / venv: source / venv for venv in (".venv", ".venv-test")}
    for link, target in links.items():
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    before = network_of(source, name)
    for path in scenario(tree, name).rglob("*"):
        if (
            path.is_file()
            and ".state" not in path.parts
            and path.suffix in (".toml", ".yml", ".py")
        ):
            text = path.read_text("utf-8").replace(f"{before}.", f"{network}.")
            path.write_text(text.replace(f'project = "{name}"', f'project = "{name}-soak"'))
    topology = scenario(tree, name) / "topology.toml"
    topology.write_text(aged(topology.read_text("utf-8"), older))
    return tree


def run(name: str, tree: Path, log: Path) -> tuple[int, list[dict[str, Any]]]:
    """Run a scenario in a tree: how it ended, and what each case came to."""
    report = tree / "build" / "molecule" / f"{name}.xml"
    report.unlink(missing_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | environment_of(scenario(ROOT, name) / "inventory", name)
    environment |= {f"MLOPS_{name.upper()}_ALL": "1", "MLOPS_LAB_FOR_TESTS": "1"}
    ephemeral = tree / ".cache" / f"molecule-{name}" / "ephemeral"
    environment["MOLECULE_EPHEMERAL_DIRECTORY"] = str(ephemeral)
    paths = (str(tree / path) for path in (".collections", "extensions/lab"))
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    command = [str(Path(sys.executable).with_name("molecule")), "test", "-s", name]
    with log.open("wb") as stream:
        done = subprocess.run(
            [*command, "--no-command-borders"],
            cwd=tree,
            env=environment,
            stdout=stream,
            stderr=stream,
            check=False,
        )
    return done.returncode, list(cases(report.read_text("utf-8"))) if report.exists() else []


def main(name: str = NAME, arguments: Sequence[str] | None = None) -> int:
    """Run the scenario; say what each case came to."""
    parser = argparse.ArgumentParser(description="All cases of a scenario with hosts of its own.")
    usual = network_of(ROOT, name)
    parser.add_argument("--network", default=usual, metavar="A.B", help="of the hosts, as 10.216")
    parser.add_argument("--debian12", default="", metavar="HOST,…", help="hosts that are Debian 12")
    options = parser.parse_args(arguments)
    older = [host for host in options.debian12.split(",") if host]
    usually = options.network == usual and not older
    log = ROOT / "build" / "soak" / f"{name}.log"
    code, found = run(name, ROOT if usually else moved(name, options.network, ROOT, older), log)
    for one in found:
        print(json.dumps(one))
    passed = sum(one["passed"] for one in found)
    failed = len(found) - passed
    if code and not failed:
        failed = 1  # before the first case, or after the last
    print(json.dumps({"passed": passed, "failed": failed, "log": str(log.relative_to(ROOT))}))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
