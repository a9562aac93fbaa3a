# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``install.py`` of a bundle: a device that nobody reaches installs its own software.

The tasks of the roles are done by the code that does them over SSH, and stand in the same ledger:
where the device is reached one day, a run finds everything as it wants it. Whatever would be in
the way is said before anything is changed.
"""

from __future__ import annotations

import argparse
import contextlib
import grp
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

from .._findings.errors import PlatformError
from . import app_apply, certificate, files_apply, remove_apply, service_apply
from .ask import Question, ask, digested
from .errors import HostError
from .kit import (
    APP,
    CERTIFICATE,
    FILES,
    SERVICE,
    Kit,
    Task,
    address_of,
    lacking,
    parse,
    said_of,
    site_of,
    taken,
)
from .packages import status
from .system import Book, run

KIT = "kit.json"
DONE, REFUSED, WAITING = 0, 1, 3
STATUS = "/var/lib/dpkg/status"
WAITING_KEY = certificate.DIRECTORY + "/enrol.key"
PYTHON = "/usr/bin/python3"
TLS_GROUP = "mlops-tls"

# Asks for the certificate of the device and waits for it; what main of the bundle's enrolment says.
Enrol = Callable[[], int]
Say = Callable[[str], object]


def obstacles(kit: Kit) -> list[str]:
    """Everything that would stop the installation, a sentence each; nothing is changed."""
    if os.geteuid() != 0:
        return ["Found a user who may not change the system; run this as root, by sudo."]
    if not os.path.isdir("/run/systemd/system"):
        return ["Found no systemd, which the services of a device are run by."]
    with open(STATUS, encoding="utf-8", errors="replace") as stream:
        installed = status(stream.read())
    found = lacking(kit, app_apply.target_of(PYTHON), set(installed))
    ledger = Book.peek()
    site_of(kit, ledger)
    addresses = {address for task in kit.of(SERVICE) for address in [address_of(task)] if address}
    found += taken(kit, ledger, {one for one in addresses if _answers(one)})
    key = os.urandom(16).hex()
    questions = [
        Question(task.role, task.module, digested(task.module, task.params, key))
        for task in kit.of(FILES, APP, SERVICE, CERTIFICATE)
    ]
    return found + [one.said for one in ask(questions, key).refusals]


def _answers(address: tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=2):
        return True
    return False


def has_certificate(device: str) -> bool:
    """Whether the device has a certificate of its name that is still good."""
    left = certificate.days_left()
    if left is None or left <= 0 or not os.path.exists(certificate.KEY):
        return False
    asked = ["openssl", "x509", "-in", certificate.CERTIFICATE, "-noout", "-checkhost", device]
    return "does match certificate" in run(asked, timeout=10).out


class Installer:
    """One device, its kit, and where that lies."""

    def __init__(self, bundle: Path, kit: Kit, enrol: Enrol, say: Say, check: bool) -> None:
        self._bundle, self._kit, self._enrol = bundle, kit, enrol
        self._say, self._check = say, check
        self.changed = False

    def install(self) -> int:
        """Place the software, get the certificate, start the services; the exit code."""
        self._mark()
        for task in self._kit.of(FILES, APP):
            self._do(task)
        if not has_certificate(self._kit.device):
            self.changed = True
            if self._check:
                self._say("Would ask for the certificate of the device, and start its services.\n")
                return DONE
            code = self._enrol()
            if code != 0:
                return code
        self._settle()
        for task in self._kit.of(SERVICE):
            self._do(task)
        return DONE

    def _mark(self) -> None:
        """Whose device this is, and what enrolment is about to make."""
        owner = next(task.role for task in self._kit.of(CERTIFICATE))
        with Book(self._check) as book:
            ledger = replace(book.ledger, site=site_of(self._kit, book.ledger))
            for path in (certificate.KEY, certificate.CERTIFICATE):
                ledger = ledger.claim(owner, "file", path)
            if not has_certificate(self._kit.device):
                ledger = ledger.claim(owner, "file", WAITING_KEY)
            book.write(ledger)

    def _settle(self) -> None:
        """The certificate is there: services of its group read it, and nothing waits any more."""
        if self._check:
            return
        with Book(False) as book:
            book.write(book.ledger.drop(("file", WAITING_KEY)))
        group = grp.getgrnam(TLS_GROUP).gr_gid
        for path, mode in ((certificate.KEY, 0o640), (certificate.CERTIFICATE, 0o644)):
            os.chown(path, 0, group)
            os.chmod(path, mode)

    def _do(self, task: Task) -> None:
        said = said_of(task, self._done(task))
        self.changed = self.changed or bool(said)
        for line in said:
            self._say(f"{task.role}: {line}\n")

    def _done(self, task: Task) -> dict[str, Any]:
        if task.module == FILES:
            return files_apply.converge(task.params, self._check)
        if task.module == SERVICE:
            return service_apply.converge(task.params, self._check)
        asked = app_apply.converge({**task.params, "archive": None}, self._check)
        if self._check or not asked["archive_wanted"]:
            return asked
        archive = self._kit.archives.get(asked["digest"])
        if archive is None:
            raise HostError(
                f"The bundle has no Python environment for Python {asked['python_version']}; make "
                "it anew with the enrol_system and enrol_machine of this device."
            )
        params = {**task.params, "archive": str(self._bundle / archive)}
        return app_apply.converge(params, self._check)

    def remove(self) -> None:
        """Take exactly that away which the platform made on this device."""
        for owner in self._kit.owners:
            done = remove_apply.converge(owner, (), self._check)
            self.changed = self.changed or done["changed"]
            for line in done["removed"]:
                self._say(f"{owner}: {line} removed\n")
            for line in done["kept"]:
                self._say(f"{owner}: kept: {line}\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="install.py",
        description="Install the software of this device from the bundle, and enrol the device.",
    )
    made.add_argument("--check", action="store_true", help="say what would be done; do nothing")
    made.add_argument("--remove", action="store_true", help="take away what was installed")
    return made


def main(bundle: Path, enrol: Enrol, arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 1 refused or failed, 3 without a certificate yet."""
    options = parser().parse_args(arguments)

    def say(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        kit = parse((bundle / KIT).read_bytes(), str(bundle / KIT))
        one = Installer(bundle, kit, enrol, say, options.check)
        if options.remove:
            one.remove()
            say("" if one.changed else "Nothing of the platform is on this device.\n")
            return DONE
        wrong = obstacles(kit)
        if wrong:
            sys.stderr.write("".join(f"- {sentence}\n" for sentence in wrong))
            sys.stderr.write("Nothing was changed. Mend this and run the command again.\n")
            return REFUSED
        code = one.install()
    except (PlatformError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    if code == DONE and not options.check:
        say(f"{kit.device} {'is installed' if one.changed else 'is as it has to be'}.\n")
    return code
