# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model server on an arm64 Debian that is emulated, down to the answers of a release.

    python -m tests.soak.arm64 [--suite trixie|bookworm] [--fresh]

Debian for arm64 is unpacked into a root of its own below the cache directory and runs under QEMU's
user emulation. The environment of the model server is built for that host as a run of the site
builds it, put in its place there by the code of host_python_app, and serves the release of the
tests. Wanted: every golden answer within its tolerance. Bytecode of all packages would take half an
hour to make here; the server's first start makes that of the modules it imports.

Needs root. QEMU is unpacked, not installed. While the campaign runs, this machine starts programs
for arm64; at the end, also a bad one, it does so no more. The root and what is installed in it are
kept, as they take minutes to make; --fresh makes them anew. Prints JSON lines and the counts.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.mlops.onprem.plugins.action.host_python_app import built, locks_beside
from ansible_collections.mlops.onprem.plugins.module_utils._host import app
from labhosts.image import Recipe
from labhosts.machine import CACHE, Machine

from tests.benchmarks import serving
from tests.soak.roots import CannotRun, root_of, say

ROOT = Path(__file__).resolve().parents[2]
PLACE = CACHE / "arm64"
APPS = CACHE / "apps"
FILES = ROOT / "roles/model_serving/files"
BINFMT = Path("/proc/sys/fs/binfmt_misc")
NAME = "mlops-arm64"
# What the kernel may be told at most as the path of an interpreter (BINPRM_BUF_SIZE - 1).
LONGEST = 127
# Debian's packages of an emulator without libraries: of bookworm, and of trixie.
EMULATORS = (("qemu-user-static",), ("qemu-user", "qemu-user-binfmt"))
PROGRAM = """
import json, sys
from module_utils._host import app, app_apply
name, digests, archive = json.loads(sys.argv[1])
target = app_apply.target_of("/usr/bin/python3")
digest = app.digest_for(digests, target.version)
wanted = app.Environment(name, digest, "/usr/bin/python3", target)
told = {"target": [target.version, target.machine, target.libc], "digest": digest}
if archive:
    told["seconds"] = app_apply.install(wanted, archive, bytecode=False)
told["there"] = app_apply.installed(wanted) and not app_apply.damaged(wanted)
print(json.dumps(told))
"""


# -- emulation --------------------------------------------------------------------------------


def emulator() -> Path:
    """Unpack QEMU's user emulation once."""
    place = PLACE / "qemu"
    if (place / "complete").exists():
        return place
    for packages in EMULATORS:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        fetched = ["apt-get", "-q", "-o", "APT::Sandbox::User=", "download", *packages]
        subprocess.run(fetched, cwd=place, check=False, capture_output=True)
        for archive in place.glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", str(archive), str(place)], check=True)
            archive.unlink()
        if interpreter(place):
            (place / "complete").touch()
            return place
    raise CannotRun(
        "QEMU's user emulation cannot be had; see what apt-get download qemu-user-static says."
    )


def interpreter(place: Path) -> tuple[list[str], Path] | None:
    """QEMU's own line for the kernel, in its parts, and the program that it names.

    Only a program that the kernel opens at once (flag F) is found from within another root.
    """
    line = place / "usr/lib/binfmt.d/qemu-aarch64.conf"
    if not line.exists():
        return None
    parts = line.read_text(encoding="ascii").strip().split(":")
    program = place / parts[-2].lstrip("/")
    return (parts, program) if "F" in parts[-1] and program.exists() else None


def rule(place: Path) -> str:
    """What the kernel is told: the line for aarch64, under our name and with our path."""
    found = interpreter(place)
    if found is None:
        raise CannotRun(f"{place} holds no emulator; remove it and run again.")
    parts, program = found
    if len(str(program)) > LONGEST:
        raise CannotRun(
            f"{program} is a longer path than the kernel takes; set XDG_CACHE_HOME to one that is "
            "shorter."
        )
    return ":".join(["", NAME, *parts[2:-2], str(program), parts[-1]])


def registered_already() -> bool:
    """Whether this machine starts programs for arm64 by itself."""
    return any(
        path.name.startswith(("qemu-aarch64", NAME)) and "enabled" in path.read_text()
        for path in BINFMT.iterdir()
        if path.name not in {"register", "status"}
    )


@contextlib.contextmanager
def emulation() -> Iterator[None]:
    """Have the kernel start programs for arm64, and leave the machine as it was."""
    mounted = not (BINFMT / "register").exists()
    if mounted:
        subprocess.run(["mount", "-t", "binfmt_misc", "none", str(BINFMT)], check=True)
    ours = False
    try:
        if os.uname().machine != "aarch64" and not registered_already():
            (BINFMT / "register").write_text(rule(emulator()), encoding="ascii")
            ours = True
        yield
    finally:
        if ours:
            (BINFMT / NAME).write_text("-1")
        if mounted:
            subprocess.run(["umount", str(BINFMT)], check=True)


# -- the host ---------------------------------------------------------------------------------


def debian(suite: str, fresh: bool) -> Path:
    """A root of Debian for arm64, made once."""
    machine = Machine()
    recipe = replace(
        Recipe.of(machine, suite),
        extra_cas=(),  # nothing is downloaded from within
        packages=("openssl", "python3"),
        hooks=(),
        architecture="arm64",
    )
    return root_of(machine, recipe, PLACE, suite, fresh)


def within(root: Path, *command: str) -> list[str]:
    """A command in the root; what it starts and mounts ends with it."""
    enter = f'mount -t proc proc {root}/proc && exec chroot {root} "$@"'
    apart = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    return [*apart, "sh", "-c", enter, "sh", *command]


def asked(root: Path, *arguments: Any) -> dict[str, Any]:
    """The answer of the code of host_python_app on the host."""
    library = root / "srv/mlops"
    shutil.rmtree(library, ignore_errors=True)
    for package in ("_host", "_findings"):
        source = ROOT / "plugins/module_utils" / package
        shutil.copytree(source, library / "module_utils" / package, ignore=_no_bytecode)
    words = ["env", "PYTHONPATH=/srv/mlops", "/usr/bin/python3", "-c", PROGRAM]
    done = subprocess.run(
        within(root, *words, json.dumps(arguments)), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CannotRun(f"the emulated host could not be asked: {done.stderr.strip()[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _no_bytecode(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__"}


def install(root: Path) -> dict[str, Any]:
    """The environment of the model server, as a run of the site installs it."""
    locks = locks_beside(FILES / "requirements.txt")
    digests = {version: app.digest(text) for version, text in locks.items()}
    answer = asked(root, "model_serving", digests, "")
    if answer["there"]:
        return answer
    began = time.monotonic()
    text = next(text for text in locks.values() if app.digest(text) == answer["digest"])
    archive = built(text, app.Target(*answer["target"]), APPS)
    fetched = time.monotonic() - began
    shutil.copyfile(archive, root / "srv/environment.tar.gz")
    answer = asked(root, "model_serving", digests, "/srv/environment.tar.gz")
    (root / "srv/environment.tar.gz").unlink()
    seconds = {"build": round(fetched, 1), **answer["seconds"]}
    say(step="environment", target=answer["target"], seconds=seconds)
    return answer


# -- serving ----------------------------------------------------------------------------------


def ask(port: int, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, body or None)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@contextlib.contextmanager
def server(root: Path, longest: float) -> Iterator[int]:
    """The model server in the root, as its unit starts it, on a free port of this machine."""
    port = serving.free_port()
    for folder in ("models", "server"):
        shutil.rmtree(root / "srv" / folder, ignore_errors=True)
    shutil.copytree(FILES / "mlops_serving", root / "srv/server/mlops_serving", ignore=_no_bytecode)
    golden = (serving.FIXTURE / "golden.json").read_bytes()
    model = serving.FIXTURE / "model.onnx"
    serving.put_release(root / "srv/models", "iris", "1", model, golden)
    words = ["env", "PYTHONPATH=/srv/server", "OMP_NUM_THREADS=1"]
    words += ["PYTHONWARNINGS=ignore", "/opt/mlops/model_serving/bin/python", "-m", "mlops_serving"]
    words += ["--root=/srv/models", f"--port={port}"]
    log = root.parent / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(within(root, *words), stdout=stream, stderr=subprocess.STDOUT)
    try:
        began = time.monotonic()
        while True:
            with contextlib.suppress(OSError):
                if ask(port, "GET", "/v2/health/ready")[0] == 200:
                    break
            if process.poll() is not None or time.monotonic() - began > longest:
                raise CannotRun(f"the server did not start: {log.read_text()[-2000:]}")
            time.sleep(0.5)
        say(step="server", seconds_until_ready=round(time.monotonic() - began, 1))
        yield port
    finally:
        process.kill()
        process.wait()


def judged(root: Path, longest: float) -> list[str]:
    """What is wrong with the answers, beside what the golden file expects."""
    cases = json.loads((serving.FIXTURE / "golden.json").read_text())["cases"]
    tolerance = json.loads((serving.FIXTURE / "config.json").read_text())["tolerance"]
    wrong = []
    milliseconds = []
    with server(root, longest) as port:
        for number, case in enumerate(cases):
            began = time.monotonic()
            body = json.dumps(case["request"]).encode()
            status, answer = ask(port, "POST", serving.PATH, body)
            milliseconds.append((time.monotonic() - began) * 1000)
            found = {
                output["name"]: output["data"] for output in json.loads(answer).get("outputs", [])
            }
            if status != 200 or not agree(found, case["expected"], tolerance):
                wrong.append(f"case {number}: {status} {found}, wanted {case['expected']}")
    say(step="answers", cases=len(cases), slowest_ms=round(max(milliseconds)))
    return wrong


def agree(
    found: dict[str, list[float]], expected: dict[str, list[float]], tolerance: float
) -> bool:
    """Whether an answer is the expected one, number by number."""
    return found.keys() == expected.keys() and all(
        len(found[name]) == len(values)
        and all(abs(one - other) <= tolerance for one, other in zip(found[name], values))
        for name, values in expected.items()
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--suite", choices=["trixie", "bookworm"], default="trixie")
    parser.add_argument("--fresh", action="store_true", help="make root and environment anew")
    parser.add_argument("--longest", type=float, default=1200.0, help="seconds for the start")
    options = parser.parse_args()
    # Who ends the campaign does not leave the machine starting programs for arm64.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit("tests.soak.arm64: ended"))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.geteuid():
        raise SystemExit("tests.soak.arm64: run it as root; it makes a root and changes into it.")
    try:
        with emulation():
            root = debian(options.suite, options.fresh)
            answer = install(root)
            wrong = judged(root, options.longest)
    except CannotRun as reason:
        raise SystemExit(f"tests.soak.arm64: {reason}") from None
    if answer["target"][1] != "aarch64" or not answer["there"]:
        wrong.append(f"the environment is not there or not for aarch64: {answer}")
    for sentence in wrong:
        say(failed=sentence)
    say(suite=options.suite, passed=int(not wrong), failed=len(wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
