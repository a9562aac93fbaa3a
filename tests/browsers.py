# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A browser for the tests: Chromium and what drives it, from npm, kept in the cache.

The packages are locked by their digests in ``tests/browser/package-lock.json``. Chromium comes
inside one of them, with the libraries that it needs where the machine has none; nothing is
installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent / "browser"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mlops.onprem"
UNPACK = """
import { join } from "node:path";
import { inflate } from "%(package)s/build/esm/lambdafs.js";
for (const name of ["chromium.br", "fonts.tar.br", "swiftshader.tar.br", "al2023.tar.br"]) {
  await inflate(join("%(package)s", "bin", name));
}
"""

# The package looks for its fonts in /tmp and at places of one cloud, and Chromium ends where it
# needs a font that it has not: those of the package, and those of the machine.
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{fonts}</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir>{fonts}/cache</cachedir>
</fontconfig>
"""


@dataclass(frozen=True)
class Browser:
    """Where the packages lie and where Chromium was unpacked."""

    node: str
    packages: Path
    chromium: Path

    @property
    def environment(self) -> dict[str, str]:
        """What the programs that drive it need; libraries and fonts of the machine go first."""
        return {
            **os.environ,
            "LD_LIBRARY_PATH": str(self.chromium.parent / "al2023" / "lib"),
            "FONTCONFIG_PATH": str(self.chromium.parent / "fonts"),
        }


def browser() -> Browser:
    """Chromium of the locked packages; the first call on a machine fetches them."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.fail("no node or npm here for the browser of the tests: apt-get install nodejs npm")
    made_of = (HERE / "package-lock.json").read_bytes() + FONTS.encode()
    digest = hashlib.sha256(made_of).hexdigest()[:16]
    place = CACHE / f"browser-{digest}"
    chromium = place / "unpacked" / "chromium"
    if not (place / "ready").exists():
        shutil.rmtree(place, ignore_errors=True)
        chromium.parent.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, place / name)
        fetched = subprocess.run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=place,
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if fetched.returncode:
            pytest.fail(f"npm could not fetch the browser of the tests: {fetched.stderr[-500:]}")
        package = place / "node_modules/@sparticuz/chromium"
        subprocess.run(
            [node, "--input-type=module", "-e", UNPACK % {"package": package}],
            check=True,
            env={**os.environ, "TMPDIR": str(chromium.parent)},
            timeout=300,
        )
        (chromium.parent / "fonts" / "fonts.conf").write_text(
            FONTS.format(fonts=chromium.parent / "fonts"), encoding="utf-8"
        )
        (place / "ready").touch()
    return Browser(node, place / "node_modules", chromium)
