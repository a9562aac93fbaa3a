# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ``ansible-test sanity`` on a copy of the working tree, with every Python it can use here.

ansible-test wants the collection below ``ansible_collections`` and not through a link, and looks
at what git tracks. The copy lies in ``build/sanity``; ansible-test itself keeps its environments.
The tests are not in it: no user gets them, ruff, mypy and yamllint read every line of them, and
pylint takes as long for them as for all the rest.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPY = ROOT / "build" / "sanity" / "ansible_collections" / "mlops" / "onprem"
CACHE = Path.home() / ".ansible" / "test" / "cache"
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
LEFT_OUT = "tests/"
OLDEST, CONTROLLER = (3, 9), (3, 11)  # the oldest Python of a host, and of a controller
# What ansible-test would fetch from a server of its own, made of pip's own wheel instead.
BOOTSTRAP = """\
import runpy, sys
sys.path.insert(0, {wheel!r})
skip = ("--no-setuptools", "--no-wheel")
sys.argv = ["pip", "install", "--upgrade", *[word for word in sys.argv[1:] if word not in skip]]
runpy.run_module("pip", run_name="__main__")
"""


def git(*arguments: str, directory: Path = ROOT) -> str:
    """Run git and return what it says."""
    return subprocess.run(
        ["git", *arguments], cwd=directory, check=True, capture_output=True, text=True
    ).stdout


def copy_tree() -> None:
    """Make the copy equal to the working tree, as git sees it; leave what is equal alone."""
    wanted = set(git("ls-files", "-z", "-co", "--exclude-standard").split("\0")) - {""}
    wanted = {name for name in wanted if (ROOT / name).is_file() and not name.startswith(LEFT_OUT)}
    COPY.mkdir(parents=True, exist_ok=True)
    if not (COPY / ".git").exists():
        git("init", "--quiet", directory=COPY)
    present = {
        str(path.relative_to(COPY))
        for path in COPY.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(COPY).parts
    }
    for name in present - wanted:
        if not name.startswith("tests/output/"):
            (COPY / name).unlink()
    for name in wanted:
        source, target = ROOT / name, COPY / name
        if not target.exists() or source.read_bytes() != target.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
        target.chmod(source.stat().st_mode)
    (COPY / ".git" / "info" / "exclude").write_text("tests/output/\n", encoding="utf-8")
    git("add", "--all", directory=COPY)


def bootstrap_pip() -> None:
    """Let ansible-test fill its environments where its own download server is out of reach."""
    import ansible_test  # type: ignore[import-untyped]

    requirements = Path(ansible_test.__file__).parent / "_internal" / "python_requirements.py"
    found = re.search(r"pip='([0-9.]+)'", requirements.read_text(encoding="utf-8"))
    version = found.group(1) if found else "24.2"
    script = CACHE / f"get_pip_{version.replace('.', '_')}.py"
    if script.exists():
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(CACHE)]
    subprocess.run([*pip, f"pip=={version}"], check=True)
    wheel = CACHE / f"pip-{version}-py3-none-any.whl"
    script.write_text(BOOTSTRAP.format(wheel=str(wheel)), encoding="utf-8")


def host_pythons() -> dict[str, Path]:
    """Return the directories of the Pythons installed here that only a host may have."""
    found: dict[str, Path] = {}
    places = [Path(place) for place in os.environ.get("PATH", "").split(":") if place]
    for place in [*places, *sorted(PYENV.glob("*/bin"))]:
        for program in place.glob("python3.[0-9]*"):
            version = program.name.removeprefix("python")
            if not re.fullmatch(r"3\.\d+", version) or version in found:
                continue
            if OLDEST <= tuple(map(int, version.split("."))) < CONTROLLER:
                question = [str(program), "-c", "import sys, venv; print(sys.executable)"]
                answer = subprocess.run(question, check=False, capture_output=True, text=True)
                if answer.returncode == 0:
                    found[version] = Path(answer.stdout.strip()).parent
    return found


def sanity(arguments: list[str], path: str) -> int:
    """Run ansible-test on the copy and return its exit status."""
    program = Path(sys.executable).with_name("ansible-test")
    command = [str(program), "sanity", "--local", "--color", "no", *arguments]
    environment = {**os.environ, "PATH": path}
    return subprocess.run(command, cwd=COPY, env=environment, check=False).returncode


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--light", action="store_true", help="only this Python, only quick tests")
    parser.add_argument("test", nargs="*", help="names of sanity tests; default: all")
    options = parser.parse_args()
    copy_tree()
    bootstrap_pip()
    mine = f"{sys.version_info.major}.{sys.version_info.minor}"
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    chosen = [word for name in options.test for word in ("--test", name)]
    if options.light:
        chosen = [
            word
            for name in ("ansible-doc", "compile", "import", "validate-modules", "yamllint")
            for word in ("--test", name)
        ]
    status = sanity(["--python", mine, *chosen], path)
    if options.light or options.test:
        return status
    for version, place in sorted(host_pythons().items()):
        travels = ["--python", version, "--test", "compile", "--test", "import"]
        status |= sanity(travels, f"{path}:{place}")
    return status


if __name__ == "__main__":
    sys.exit(main())
