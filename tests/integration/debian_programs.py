# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Programs of Debian's packages, unpacked instead of installed.

Packages are kept in the cache, so that they are fetched once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mlops.onprem" / "debian"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"


def unpack(found: Iterable[Path], root: Path) -> None:
    """Unpack packages below ``root``, which is made."""
    root.mkdir()
    root.chmod(0o755)
    for directory in ("bin", "lib", "lib64", "sbin"):
        (root / "usr" / directory).mkdir(parents=True)
        (root / directory).symlink_to(f"usr/{directory}")
    for archive in found:
        subprocess.run(
            f"dpkg-deb --fsys-tarfile {archive} | tar -x -C {root} --no-same-owner "
            "--keep-directory-symlink",
            shell=True,
            check=True,
        )


def start_through_loader(program: Path, root: Path) -> None:
    """Have a program use the libraries that came with it."""
    real = program.with_name(f"{program.name}.real")
    program.rename(real)
    loader = next(
        path for place in ("usr/lib", "usr/lib64") for path in (root / place).glob("ld-linux*.so.*")
    )
    libraries = next((root / "usr/lib").glob("*-linux-gnu*"))
    program.write_text(
        f'#!/bin/sh\nexec {loader} --library-path {libraries} --argv0 "$0" {real} "$@"\n'
    )
    program.chmod(0o755)


def archives(release: str, packages: list[str], name: str = "") -> list[Path]:
    """Packages of a release with the libraries that they need, fetched once and kept."""
    place = CACHE / (name or release)
    ready = place / "complete"
    if not ready.exists():
        if not shutil.which("apt-get"):
            pytest.skip("needs apt-get, which is not here")
        _fetch(release, packages, place)
        ready.touch()
    return sorted(place.glob("*.deb"))


def _fetch(release: str, packages: list[str], place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    for directory in ("lists/partial", "cache/archives/partial"):
        (place / directory).mkdir(parents=True)
    (place / "status").touch()
    signed = f"[signed-by={KEYS}] " if Path(KEYS).exists() else ""
    (place / "sources.list").write_text(f"deb {signed}{_mirror()} {release} main\n")
    apt = [
        "apt-get",
        "--quiet",
        f"-oDir::Etc::sourcelist={place}/sources.list",
        "-oDir::Etc::sourceparts=-",
        f"-oDir::State::lists={place}/lists",
        f"-oDir::State::status={place}/status",
        f"-oDir::Cache={place}/cache",
        "-oAPT::Sandbox::User=",
        "-oAPT::Install-Recommends=false",
    ]
    updated = subprocess.run([*apt, "update"], check=False, capture_output=True, text=True)
    plan = subprocess.run(
        [*apt, "--simulate", "install", *packages], check=False, capture_output=True, text=True
    )
    names = [line.split()[1] for line in plan.stdout.splitlines() if line.startswith("Inst ")]
    if not names:
        pytest.fail(f"packages of {release} cannot be had here: {updated.stderr.strip()[-200:]}")
    libraries = [
        name
        for name in names
        if name.startswith(("lib", "zlib")) and "perl" not in name and "python" not in name
    ]
    subprocess.run(
        [*apt, "download", "libc-bin", *packages, *libraries],
        cwd=place,
        check=True,
        capture_output=True,
    )
    for directory in ("lists", "cache"):
        shutil.rmtree(place / directory)


def _mirror() -> str:
    """The mirror of Debian that this machine uses."""
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)"],
        check=False,
        capture_output=True,
        text=True,
    )
    for line in done.stdout.splitlines():
        origin, _space, address = line.partition(" ")
        if origin == "Debian" and address.rstrip("/").endswith("/debian"):
            return address
    pytest.skip("needs a mirror of Debian, and this machine uses none")
