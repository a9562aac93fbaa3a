# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of this machine, or Debian's out of their packages, which are not installed for that."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mlops.onprem"


def program(name: str, packages: tuple[str, ...], place: str) -> str | None:
    """Where a program is; ``place`` in the cache keeps what the packages hold. None: nowhere.

    Of several packages the first that has the program is taken: by release it is one or another.
    """
    folder = CACHE / place
    here = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/bin"
    kept = f"{folder}/usr/sbin:{folder}/usr/bin"
    found = shutil.which(name, path=here) or shutil.which(name, path=kept)
    if found or not shutil.which("apt-get"):
        return found
    folder.mkdir(parents=True, exist_ok=True)
    for package in packages:
        subprocess.run(
            ["apt-get", "download", "-qq", package], cwd=folder, check=False, capture_output=True
        )
        for archive in folder.glob(f"{package}_*.deb"):
            subprocess.run(["dpkg-deb", "--extract", archive, folder], check=True)
            archive.unlink()
        found = shutil.which(name, path=kept)
        if found:
            return found
    return None
