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
from .device import Device, open_device
from .rollout import Rollouts
from .settings import SETTINGS_FILE, Settings
from .state import describe

NOTHING: dict[str, Any] = {
    "current": None,
    "previous": None,
    "served": None,
    "model_name": None,
    "model_version": None,
    "releases": [],
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="mlops-release", description="Fetch, verify and activate model releases."
    )
    made.add_argument("--settings", default=SETTINGS_FILE, help="default: %(default)s")
    made.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for the server")
    commands = made.add_subparsers(dest="command", required=True)
    commands.add_parser("status", help="say what is here and what is served")
    commands.add_parser(
        "check", help="fail if what is served was not signed by a trusted key; change nothing"
    )
    commands.add_parser("rollout-status", help="say where every model is with a staged rollout")
    commands.add_parser(
        "revert-expired",
        help="go back from what was activated in a rollout and not committed by its deadline",
    )
    commands.add_parser(
        "verify-current",
        help="take out of service what no trusted key has signed; done before the server starts",
    )
    for name, text in (
        ("pull", "fetch and verify a release, do not activate it"),
        ("verify", "check a release on the disk: manifest, signature, every file"),
        ("activate", "fetch if need be, verify, serve; go back if it does not work"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("digest")
        command.add_argument("--model", default="", help="name of the model")
        if name == "activate":
            command.add_argument(
                "--rollback", action="store_true", help="also if a newer one has been here"
            )
    command = commands.add_parser("mend", help="fetch again what is damaged of what is current")
    command.add_argument("--model", default="", help="of this model only")
    commands.add_parser("remove", help="remove a model and its releases").add_argument("model")
    return made


def _bring(device: Device, digest: str, options: argparse.Namespace) -> dict[str, Any]:
    """Bring a model of the device to a release."""
    done = device.release(
        digest,
        activate=options.command != "pull",
        model=options.model,
        rollback=getattr(options, "rollback", False),
    )
    return {
        **describe(done.after),
        "changed": done.done.needed,
        "mended": done.done.mend,
        "bytes": done.moved,
    }


def _status(device: Device) -> dict[str, Any]:
    """All models; what a device with one model has always said stands beside them."""
    states = device.states(device.look(patient=False))
    models = {state.model: dict(describe(state)) for state in states}
    only = next(iter(models.values())) if len(models) == 1 else NOTHING
    return {**only, "models": models, "unverified": [one for one in _distrusted(device) if one]}


def _distrusted(device: Device) -> list[str]:
    return [said for said in device.complaints().values() if said]


def _mend(device: Device, options: argparse.Namespace) -> dict[str, Any]:
    models = [options.model] if options.model else device.store.models()
    found = {}
    for model in models:
        digest = device.wanted(model)
        if digest is not None:
            options.model = model
            found[model] = _bring(device, digest, options)
    if len(found) == 1:
        return next(iter(found.values()))
    changed = any(one["changed"] for one in found.values())
    return {**NOTHING, "changed": changed, "bytes": 0, "models": found}


def _answer(device: Device, options: argparse.Namespace) -> dict[str, Any]:
    if options.command == "status":
        return _status(device)
    if options.command == "check":
        said = _distrusted(device)
        if said:
            raise RegistryError(" ".join(said))
        return {"verified": device.store.models()}
    if options.command == "rollout-status":
        return {"models": Rollouts(device).status(), "locked": Rollouts(device).locked()}
    if options.command == "revert-expired":
        reverted = Rollouts(device, pause=time.sleep).revert_expired()
        for model, sentence in sorted(reverted.items()):
            # The journal of the unit keeps what is on standard error (<4> is a warning).
            sys.stderr.write(f"<4>{model}: {sentence}\n")
        return {"reverted": reverted}
    if options.command == "verify":
        release = device.verify(options.digest, options.model)
        return {
            "digest": release.digest,
            "model_name": release.model_name,
            "model_version": release.model_version,
            "files": sorted(release.files),
        }
    if options.command == "remove":
        return {"changed": device.remove(options.model)}
    if options.command == "mend":
        return _mend(device, options)
    return _bring(device, options.digest, options)


def _guard(device: Device) -> int:
    """Never keeps the server from starting: what may not be served is out of its sight by now."""
    for sentence in device.guard():
        sys.stderr.write(f"{sentence}\n")
    Rollouts(device, pause=time.sleep).point_back()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run one command; print one line of JSON, or a sentence on standard error."""
    options = parser().parse_args(arguments)
    guarding = options.command == "verify-current"
    try:
        path = Path(options.settings)
        settings = Settings.parse(path.read_bytes(), options.settings)
        device = open_device(
            settings,
            WebTransport(settings.ca_file),
            WebTransport(timeout=options.timeout),
            time.sleep,
            options.timeout,
        )
        if guarding:
            return _guard(device)
        answer = _answer(device, options)
    except RegistryError as error:
        sys.stderr.write(f"{error}\n")
        return 0 if guarding else 1
    except (OSError, Interrupted) as error:
        sys.stderr.write(f"This did not work: {error}.\n")
        return 0 if guarding else 1
    sys.stdout.write(json.dumps(answer, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
