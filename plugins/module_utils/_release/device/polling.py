# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``mlops-fleet`` on a device that fetches its orders itself."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

from ..channel.documents import MAX_ROOT_BYTES, MAX_SIGNATURES_BYTES, Signed
from ..channel.rules import Clock, Own
from ..channel.state import Folder, Keeper, Trust, by_openssl
from ..client import Interrupted, read_all
from ..errors import BusyError, RegistryError
from ..web import WebTransport
from .agent import Agent, Local, wait
from .fleet import FLEET_FILE, FleetSettings, Gateway, expiry_of
from .orders import Answer, Order
from .rollout import open_rollouts
from .settings import SETTINGS_FILE, Settings

MOST_METRICS = 4 * 1024 * 1024
# A device sleeps with its lid shut: its clock for waiting stands still then, this one does not.
LONGEST_NAP = 30.0


def run(command: list[str]) -> str:
    """What a command prints; nothing where it fails or is not there."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def clock() -> Clock:
    """The time, and whether a time server was asked for it."""
    said = run(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
    return Clock(time.time(), said.strip() == "yes")


class Opened:
    """The rollouts of this device, opened anew for each step: keys and caps are those of now."""

    def __init__(self, settings_file: str, host: str, timeout: float) -> None:
        self._file = settings_file
        self._host = host
        self._timeout = timeout

    def _settings(self) -> Settings:
        try:
            return Settings.parse(Path(self._file).read_bytes(), self._file)
        except OSError as error:
            raise RegistryError(f"{self._file} cannot be read: {error.strerror}.") from None

    def do(self, order: Order) -> Answer:
        """Do one step."""
        rollouts = open_rollouts(self._settings(), self._host, order.rate, self._timeout)
        return rollouts.do(order)

    def locked(self) -> str:
        """Why the operator or the device refuses."""
        return open_rollouts(self._settings(), self._host, timeout=self._timeout).locked()

    def probe(self, model: str, digest: str, number: int) -> int:
        """Send golden requests to the release that is served."""
        rollouts = open_rollouts(self._settings(), self._host, timeout=self._timeout)
        return rollouts.probe(model, digest, number)

    def forget(self) -> None:
        """Forget how far an online key has driven the generations that no longer counts."""
        open_rollouts(self._settings(), self._host, timeout=self._timeout).forget()

    def metrics(self) -> str:
        """The metrics page of the model server."""
        url = self._settings().serving_url.rstrip("/") + "/metrics"
        answer = WebTransport(timeout=10.0)("GET", url, {})
        if answer.status != 200:
            answer.close()
            return ""
        return read_all(answer, MOST_METRICS, "read the metrics").decode("utf-8", "replace")


def trust_of(fleet: FleetSettings) -> Trust:
    """What this device believes; it begins with the root document that a person brought."""
    own = Own(fleet.site, fleet.ring, fleet.device_class or platform.machine())
    trust = Trust(Keeper(Folder(Path(fleet.directory))), own, by_openssl)
    if Keeper(Folder(Path(fleet.directory))).load() is None:
        trust.enrol(_brought(fleet.root_file))
    return trust


def _brought(path: str) -> Signed:
    found = []
    for name, most in ((path, MAX_ROOT_BYTES), (path + ".sig", MAX_SIGNATURES_BYTES)):
        try:
            with open(name, "rb") as stream:
                found.append(stream.read(most + 1))
        except OSError as error:
            raise RegistryError(
                f"{name} cannot be read: {error.strerror}. It is the root document that this "
                "device begins with; run site.yml, or enrol the device."
            ) from None
    return Signed(*found)


def open_agent(fleet: FleetSettings, settings_file: str, timeout: float) -> Agent:
    """Put everything together from the settings of the device."""
    steps = Opened(settings_file, fleet.name, timeout)
    local = Local(
        clock=clock,
        metrics=steps.metrics,
        certificate_expires=lambda: expiry_of(fleet.certificate_file, run),
    )
    return Agent(
        fleet.name,
        fleet.ring,
        Gateway(fleet).contact,
        trust_of(fleet),
        steps,
        local,
        Path(fleet.directory),
        fleet.idle_seconds,
    )


def sleep(
    seconds: float,
    nap: Callable[[float], None] = time.sleep,
    uptime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
) -> None:
    """Wait so long, asleep or awake."""
    until = uptime() + seconds
    while True:
        left = until - uptime()
        if left <= 0:
            return
        nap(min(left, LONGEST_NAP))


def follow(
    agent: Agent,
    say: Callable[[str], object],
    pause: Callable[[float], None] = sleep,
    go_on: Callable[[], bool] = lambda: True,
) -> None:
    """Poll for ever. What is wrong is said once, not at each poll."""
    failures, said = 0, ""
    while go_on():
        try:
            agent.poll()
            failures, sentence = 0, ""
        except (RegistryError, Interrupted, OSError) as error:
            failures += 1
            sentence = str(error)
        if sentence != said:
            say((sentence or "The gateway is reached again.") + "\n")
            said = sentence
        pause(wait(agent.next_poll, failures))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="mlops-fleet",
        description="Fetch the orders of this device and tell how it is.",
    )
    made.add_argument("--fleet", default=FLEET_FILE, help="default: %(default)s")
    made.add_argument("--settings", default=SETTINGS_FILE, help="default: %(default)s")
    made.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for the server")
    commands = made.add_subparsers(dest="command", required=True)
    commands.add_parser("poll", help="once; print what was told")
    commands.add_parser("follow", help="for ever, as the service does")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; print one line of JSON, or a sentence on standard error."""
    options = parser().parse_args(arguments)
    try:
        fleet = FleetSettings.parse(Path(options.fleet).read_bytes(), options.fleet)
        agent = open_agent(fleet, options.settings, options.timeout)
        if options.command == "follow":
            follow(agent, lambda text: (sys.stderr.write(text), sys.stderr.flush()))
            return 0
        told: dict[str, Any] = agent.poll()
    except BusyError as error:
        told = {"busy": str(error)}
    except RegistryError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (OSError, Interrupted) as error:
        sys.stderr.write(f"This did not work: {error}.\n")
        return 1
    sys.stdout.write(json.dumps(told, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
