# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Follow docs/own_model.md from files to answers of a device, and time it.

    python -m tests.soak.own_model [--network 10.212] [--mib 160] [--as-it-is] [--keep]

A company's database, an object store, a control host and one device (edge4, as on the page) are
made for it and taken away again. The site begins with the two sample projects; then the commands
of the page are run for four models as users bring them: with external data, with a string input,
with two inputs, and one of ``--mib`` MiB. Only names, places and the address of edge4 are put into
the commands. What the device answers to the page's ``curl`` is compared with what the trainer says,
which is ONNX's reference implementation and not ONNX Runtime. Then the page's way by hand, with
a model of its own, and at the end the device has all of them at once.

``--as-it-is`` leaves out the first installation, for hosts that ``--keep`` has left.
Prints JSON lines and the counts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.soak.beside import Misplaced, put

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "soak" / "own_model"
SITE = WORK / "site"
TOPOLOGY = WORK / "topology.toml"
FIXTURES = ROOT / "tests" / "fixtures"
PAGE = ROOT / "docs" / "own_model.md"
LAB = ROOT / "inventories" / "lab"
DEVICE = "edge4"
OTHERS = re.compile(r"edge[123]")
KINDS = ("external", "string", "two_inputs", "big")
HAND = "by-hand"
TOLERANCE = 1e-4
SAMPLES: tuple[Mapping[str, Any], ...] = (
    {
        "name": "breast-cancer",
        "project": "breast_cancer",
        "thresholds": {"accuracy": 0.93, "roc_auc": 0.97},
    },
    {"name": "digits", "project": "digits", "thresholds": {"accuracy": 0.9}},
)
LIMITS = {"memory_mib": 512, "release_max_mib": 200}
"""Of the large model, in the inventory and for package."""


class Failed(Exception):
    """A command of the page did not do what the page says; the message says what."""


# ---------------------------------------------------------------- the page


@dataclass(frozen=True)
class Block:
    """A block of code of a page."""

    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """The blocks of code of a page, in their order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [Block(language, text) for language, text in found]


def block(page: str, word: str) -> str:
    """The text of the one block in which a word stands."""
    found = [one.text for one in blocks(page) if word in one.text]
    if len(found) != 1:
        raise Failed(f"docs/own_model.md: {len(found)} blocks have {word!r}, wanted one.")
    return found[0]


# ---------------------------------------------------------------- commands


def tell(**words: Any) -> None:
    print(json.dumps(words), flush=True)


def run(words: Sequence[str], log: str, folder: Path = ROOT, **environment: str) -> str:
    """Run a command; what it says goes to a file, too. Raises Failed with its last lines."""
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    with (WORK / f"{log}.log").open("a", encoding="utf-8") as stream:
        stream.write(f"$ {shlex.join(words)}\n{done.stdout}\n")
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-30:])
        raise Failed(f"{shlex.join(words)} ended with {done.returncode}:\n{last}")
    return done.stdout


def shell(commands: str, log: str, folder: Path = ROOT) -> str:
    """Run commands as a person's shell does, in a folder, after those that prepare it."""
    prepare = block(PAGE.read_text("utf-8"), "environment.py")
    text = f"cd {ROOT}\n{prepare}\ncd {folder}\n{commands}"
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    return run(["bash", "-c", text], log, PATH=path, CURL_HOME=str(WORK))


def lab(*words: str) -> str:
    return run([sys.executable, "extensions/lab/lab.py", words[0], f"--topology={TOPOLOGY}"], "lab")


def on_device(command: str) -> str:
    words = ["ssh", "-F", str(SITE / ".state/ssh/config"), DEVICE, command]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


# ---------------------------------------------------------------- the site


def write_site(network: str) -> None:
    """The inventory of the lab with one device and a network of its own."""
    shutil.rmtree(SITE / "group_vars", ignore_errors=True)
    SITE.mkdir(parents=True, exist_ok=True)
    shutil.copytree(
        LAB / "group_vars",
        SITE / "group_vars",
        ignore=shutil.ignore_patterns("secrets.yml", "company*.yml", "people.yml"),
    )
    settings = SITE / "group_vars/all/site.yml"
    settings.write_text(settings.read_text().replace("10.203.", f"{network}."))
    hosts = yaml.safe_load((LAB / "hosts.yml").read_text().replace("10.203.", f"{network}."))
    for ring in hosts["edge"]["children"].values():
        ring["hosts"] = {n: v for n, v in ring["hosts"].items() if not OTHERS.fullmatch(n)}
    (SITE / "hosts.yml").write_text(yaml.safe_dump(hosts, sort_keys=False))
    write_models(list(SAMPLES))
    lab_file = (ROOT / "extensions/lab/lab.toml").read_text()
    for old, new in (
        ("10.203.", f"{network}."),
        ('project = "lab"', 'project = "own"'),
        ('inventory = "../../inventories/lab"', 'inventory = "site"'),
    ):
        lab_file = put(lab_file, {old: new})
    TOPOLOGY.write_text(re.sub(r"\[hosts\.edge[123]\]\nip = .*\n", "", lab_file))
    (WORK / ".curlrc").write_text(f'connect-to = "{DEVICE}:443:{network}.0.24:443"\n')


def write_models(models: Sequence[Mapping[str, Any]]) -> None:
    given = {"mlops_models": [dict(model) for model in models]}
    (SITE / "group_vars/all/models.yml").write_text(yaml.safe_dump(given, sort_keys=False))


def make(target: str, log: str, *more: str) -> float:
    """Run the front door for this inventory; the seconds it took."""
    own = {"MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "ARGS"}
    started = time.monotonic()
    words = ["env", *(f"--unset={name}" for name in sorted(own)), "make", target]
    run([*words, f"INVENTORY={SITE.relative_to(ROOT)}", *more], log)
    return time.monotonic() - started


# ---------------------------------------------------------------- what is judged


def difference(answer: Mapping[str, Any], expected: Mapping[str, Sequence[Any]]) -> float:
    """Largest gap between a device's answer and the trainer's; relative above 1."""
    found = {output["name"]: output["data"] for output in answer["outputs"]}
    gaps = [0.0]
    for name, wanted in expected.items():
        if len(found.get(name, ())) != len(wanted):
            return math.inf
        for got, want in zip(found[name], wanted, strict=True):
            if isinstance(want, str):
                gaps.append(0.0 if got == want else math.inf)
            else:
                gaps.append(abs(got - want) / max(1.0, abs(want)))
    return max(gaps)


def judged(answer: Mapping[str, Any], expected: Mapping[str, Sequence[Any]], who: str) -> float:
    """The gap, which has to be small."""
    gap = difference(answer, expected)
    if not gap <= TOLERANCE:
        raise Failed(f"{who} answers {json.dumps(answer)[:300]}, the trainer {expected}.")
    return gap


def pipeline_python() -> str:
    prepare = block(PAGE.read_text("utf-8"), "environment.py")
    return run(["bash", "-euc", f"{prepare}\necho $python"], "python").splitlines()[-1]


def bring_models(mib: int) -> Path:
    """Models as users bring them, each with a request and what its trainer answers."""
    place = WORK / "models"
    shutil.rmtree(place, ignore_errors=True)
    python = pipeline_python()
    run([python, str(FIXTURES / "own_models.py"), str(place), str(mib)], "models")
    shutil.copytree(place / "two_inputs", place / HAND)
    for kind in (*KINDS, HAND):
        run([python, str(FIXTURES / "trainer_answers.py"), str(place / kind)], "models")
    return place


def case_of(folder: Path) -> tuple[Any, dict[str, list[Any]]]:
    case = json.loads((folder / "answered.json").read_text())["cases"][0]
    return case["request"], case["expected"]


# ---------------------------------------------------------------- the ways of the page


def package(folder: Path, name: str, limits: Mapping[str, int]) -> dict[str, Any]:
    """The page's first step; between its two commands the answers are looked at."""
    options = "".join(f" --{key.replace('_', '-')} {value}" for key, value in limits.items())
    commands = put(
        block(PAGE.read_text("utf-8"), "package model.onnx"),
        {"fraud": name, " --out": f"{options} --out"},
    )
    said = shell(commands, name, folder)
    lines = [json.loads(line) for line in said.splitlines() if line.startswith('{"')]
    first, second = [line for line in lines if line.get("step") == "package"]
    if first["ok"] or not second["ok"]:
        raise Failed(f"package said {first} and then {second}.")
    _request, expected = case_of(folder)
    shown = json.loads((folder / name / "answers.json").read_text())["cases"][0]["expected"]
    outputs = [{"name": key, "data": values} for key, values in shown.items()]
    judged({"outputs": outputs}, expected, "package")
    return dict(second)


def ask(name: str, folder: Path) -> dict[str, Any]:
    """The page's question to the device."""
    line = block(PAGE.read_text("utf-8"), "curl --cacert").splitlines()[1]
    command = put(line, {"inventories/mine": str(SITE), "models/fraud": f"models/{name}"})
    answer: dict[str, Any] = json.loads(shell(command, name, folder).splitlines()[-1])
    return answer


def way(folder: Path, kind: str) -> dict[str, Any]:
    """From a file to an answer, by the page's commands."""
    name = f"own-{kind.replace('_', '-')}"
    limits = LIMITS if kind == "big" else {}
    page = PAGE.read_text("utf-8")
    started = time.monotonic()
    packaged = package(folder, name, limits)
    in_package = time.monotonic() - started
    given = yaml.safe_load(
        put(block(page, "artifact: /srv/fraud"), {"/srv/fraud/": f"{folder}/", "fraud": name})
    )
    entry = given["mlops_models"][0]
    written = yaml.safe_load((SITE / "group_vars/all/models.yml").read_text())["mlops_models"]
    kept = [model for model in written if model["name"] != name]
    write_models([*kept, {**entry, **limits}])
    line = block(page, "curl --cacert").splitlines()[0]
    command = put(
        line, {"inventories/mine": str(SITE.relative_to(ROOT)), "MODEL=fraud": f"MODEL={name}"}
    )
    shell(command, name)
    answer = ask(name, folder)
    seconds = time.monotonic() - started
    _request, expected = case_of(folder)
    return {
        "bytes": packaged["bytes"],
        "peak_mib": packaged["peak_mib"],
        "package_seconds": round(in_package, 1),
        "seconds": round(seconds, 1),
        "difference": judged(answer, expected, DEVICE),
    }


def by_hand(folder: Path, network: str) -> dict[str, Any]:
    """The page's way by hand: publish with files of secrets, then one device by the module."""
    started = time.monotonic()
    packaged = package(folder, HAND, {})
    secrets = yaml.safe_load((SITE / "group_vars/all/secrets.yml").read_text())
    told = json.loads(on_device("cat /etc/mlops/model_serving/release.json"))
    for file, secret in (
        ("sign.key", "release_signing_key"),
        ("push", "artifact_registry_push_password"),
        ("admin", "model_registry_admin_password"),
    ):
        (folder / file).touch(mode=0o600)
        (folder / file).write_text(secrets[secret])
    page = PAGE.read_text("utf-8")
    authorities = str(SITE / ".state/ca-bundle.crt")
    config = put(
        block(page, "site: 5f0c1d2e"),
        {
            "5f0c1d2e…": told["site"],
            "https://ctl1": f"https://{network}.0.13",
            "ca-bundle.crt": authorities,
        },
    )
    (folder / "publish.yml").write_text(config)
    lines = block(page, "PIPELINE_SIGNING_KEY_FILE").splitlines()
    publish = put(
        "\n".join(lines[:-1]), {"fraud": HAND, "sha256:2c35…": str(packaged["candidate"])}
    )
    said = shell(publish, HAND, folder)
    published = json.loads(next(x for x in said.splitlines() if x.startswith('{"')))
    release = put(
        lines[-1],
        {"inventories/mine": str(SITE), "fraud": HAND, "sha256:9f1e…": published["digest"]},
    )
    shell(release, HAND)
    answer = ask(HAND, folder)
    _request, expected = case_of(folder)
    return {
        "seconds": round(time.monotonic() - started, 1),
        "difference": judged(answer, expected, DEVICE),
    }


def sample(model: Mapping[str, Any], network: str) -> dict[str, Any]:
    """A project from data to answers: all golden requests, as the trainer answered them."""
    name = model["name"]
    seconds = make("pipeline", name, f"MODEL={name}")
    golden = json.loads((SITE / f".state/pipeline/golden-{name}.json").read_text())
    gaps = []
    for case in golden["cases"]:
        answer = requests.post(
            f"https://{network}.0.24/v2/models/{name}/infer",
            json=case["request"],
            verify=str(SITE / ".state/ca-bundle.crt"),
            timeout=60,
        )
        answer.raise_for_status()
        gaps.append(judged(answer.json(), case["expected"], DEVICE))
    return {"seconds": round(seconds, 1), "cases": len(gaps), "difference": max(gaps)}


def together(models: Path, names: Sequence[str]) -> dict[str, Any]:
    """All models are on the device at once, and the first ones answer as before."""
    found = json.loads(on_device("/opt/mlops/model_serving_app/mlops-release status"))["models"]
    missing = sorted(set(names) - set(found))
    if missing:
        raise Failed(f"{DEVICE} has {', '.join(sorted(found))}, not {', '.join(missing)}.")
    for kind in KINDS:
        answer = ask(f"own-{kind.replace('_', '-')}", models / kind)
        judged(answer, case_of(models / kind)[1], DEVICE)
    memory = on_device("cat /proc/$(systemctl show -p MainPID --value mlops-model-serving)/status")
    resident = re.search(r"VmRSS:\s+(\d+) kB", memory)
    return {"models": sorted(found), "resident_mib": int(resident[1]) // 1024 if resident else 0}


# ---------------------------------------------------------------- the campaign


def campaign(network: str, mib: int, prepared: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is done, by its name, in this order."""
    models = bring_models(mib)
    steps: dict[str, Callable[[], dict[str, Any]]] = {}
    if not prepared:
        steps["site"] = lambda: {"seconds": round(make("site", "site"), 1)}
    for model in SAMPLES:
        steps[f"project {model['name']}"] = partial(sample, model, network)
    for kind in KINDS:
        steps[f"model {kind}"] = partial(way, models / kind, kind)
    names = [*(str(model["name"]) for model in SAMPLES)]
    names += [f"own-{kind.replace('_', '-')}" for kind in KINDS]
    steps["together"] = partial(together, models, names)
    steps["by hand"] = partial(by_hand, models / HAND, network)
    return steps


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", default="10.212", metavar="A.B", help="of the hosts")
    parser.add_argument("--mib", type=int, default=160, help="size of the large model")
    parser.add_argument("--as-it-is", action="store_true", help="the site stands already")
    parser.add_argument("--only", nargs="*", default=[], metavar="STEP", help="these steps alone")
    parser.add_argument("--keep", action="store_true", help="leave the hosts for a look")
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    for log in WORK.glob("*.log"):
        log.unlink()
    if not options.as_it_is:
        write_site(options.network)
    failed = passed = 0
    try:
        lab("up")
        for name, step in campaign(options.network, options.mib, options.as_it_is).items():
            if options.only and name not in options.only:
                continue
            try:
                tell(step=name, **step())
                passed += 1
            except (Failed, Misplaced, requests.RequestException) as error:
                tell(step=name, failed=str(error))
                failed += 1
                if name == "site":
                    break
    finally:
        if not options.keep:
            with contextlib.suppress(Failed):
                lab("down")
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
