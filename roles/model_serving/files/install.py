# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs a device from the bundle that this file lies in, by: sudo python3 -IB install.py

Every file of the bundle is compared with its digest before any other of them is used. Whether the
bundle is the one that enrol.yml made is seen before it is unpacked, by the digest that it showed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

MANIFEST = "manifest.json"
LEAST_PYTHON = (3, 9)


def damaged(bundle: Path) -> list[str]:
    """What of the bundle is missing, was changed or does not belong there: a sentence each."""
    try:
        wanted = dict(json.loads((bundle / MANIFEST).read_bytes())["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{bundle / MANIFEST} cannot be read ({error}); unpack the whole bundle."]
    found = []
    for name, digest in sorted(wanted.items()):
        try:
            content = (bundle / name).read_bytes()
        except OSError as error:
            found.append(f"{bundle / name} cannot be read ({error.strerror}).")
            continue
        if hashlib.sha256(content).hexdigest() != digest:
            found.append(f"{bundle / name} is not what the bundle was made with.")
    here = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if not path.is_dir()}
    strange = sorted(here - set(wanted) - {MANIFEST})
    return found + [f"{bundle / name} does not belong to the bundle." for name in strange]


def main() -> int:
    """Verify the bundle, then have its own code install the device."""
    if sys.version_info < LEAST_PYTHON:
        sys.stderr.write(f"Found Python {sys.version.split()[0]}, wanted 3.9 or newer.\n")
        return 1
    bundle = Path(__file__).resolve().parent
    wrong = damaged(bundle)
    if wrong:
        sys.stderr.write("".join(f"- {sentence}\n" for sentence in wrong))
        sys.stderr.write("The bundle is damaged: unpack it again. Nothing was changed.\n")
        return 1
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(bundle))
    # Only what was compared is run.
    from mlops_kit._host.kit_apply import main as install  # noqa: PLC0415
    from mlops_release.device.enrol import main as enrol  # noqa: PLC0415

    return install(bundle, lambda: enrol(["--bundle", str(bundle)]))


if __name__ == "__main__":
    sys.exit(main())
