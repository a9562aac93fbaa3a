# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``mlops-release`` on a device: the module ``model_release`` without Ansible."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from ..client import Interrupted
from ..errors import RegistryError
from ..web import WebTransport
from .device import SETTINGS_FILE, Device, Settings, describe, open_device


def _bring(device: Device, options: argparse.Namespace) -> dict[str, Any]:
    """Bring the device to a release, or its own one back to what its digest names."""
    digest = device.current if options.command == "mend" else options.digest
    if digest is None:
        return {**describe(device.state(patient=False)), "changed": False, "bytes": 0}
    _before, after, done, moved = device.release(digest, activate=options.command != "pull")
    return {**describe(after), "changed": done.needed, "mended": done.mend, "bytes": moved}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; print one line of JSON, or a sentence on standard error."""
    parser = argparse.ArgumentParser(
        prog="mlops-release", description="Fetch, verify and activate model releases."
    )
    parser.add_argument("--settings", default=SETTINGS_FILE, help="default: %(default)s")
    parser.add_argument(
        "--timeout", type=float, default=60.0, help="seconds to wait for the server"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("status", help="say what is here and what is served")
    for name, text in (
        ("pull", "fetch and verify a release, do not activate it"),
        ("verify", "check a release on the disk: manifest, signature, every file"),
        ("activate", "fetch if need be, verify, serve; go back if it does not work"),
    ):
        commands.add_parser(name, help=text).add_argument("digest")
    commands.add_parser("mend", help="fetch again what is damaged of the release that is current")
    options = parser.parse_args(arguments)
    try:
        settings = Settings.parse(Path(options.settings).read_bytes(), options.settings)
        device = open_device(
            settings,
            WebTransport(settings.ca_file),
            WebTransport(timeout=options.timeout),
            time.sleep,
            options.timeout,
        )
        answer: dict[str, Any]
        if options.command == "status":
            answer = dict(describe(device.state(patient=False)))
        elif options.command == "verify":
            release = device.verify(options.digest)
            answer = {
                "digest": release.digest,
                "model_name": release.model_name,
                "model_version": release.model_version,
                "files": sorted(release.files),
            }
        else:
            answer = _bring(device, options)
    except RegistryError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (OSError, Interrupted) as error:
        sys.stderr.write(f"This did not work: {error}.\n")
        return 1
    sys.stdout.write(json.dumps(answer, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
