# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control host's side of enrolment: who was invited, who asks, who was let in.

A token is good for handing in one request. Approved, it is good for fetching the certificate of
that name and for nothing else; fetched or expired, for nothing. Every step is a line in a journal
that is on the disk before it takes effect.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .channel.publish import put
from .channel.renewal import alone
from .device.enrol import fingerprint
from .errors import RegistryError
from .openssl import Run, run_openssl

TICKETS, JOURNAL = "tickets.json", "journal.jsonl"
MAX_REQUEST_BYTES = 16 * 1024
FETCH_SECONDS = 7 * 86400
"""A certificate waits so long for a device that was switched off when it was issued."""


@dataclass(frozen=True)
class Ticket:
    """One invitation. ``hash`` is what nginx compares the token with."""

    name: str
    hash: str
    made: float
    expires: float
    issued: float = 0.0
    fingerprint: str = ""


@dataclass(frozen=True)
class Asking:
    """A request that waits for a person. ``again`` is when the name was let in before."""

    name: str
    fingerprint: str
    request: str
    at: float
    again: float = 0.0


def valid(
    tickets: Mapping[str, Ticket], now: float, fetched: Mapping[str, float]
) -> dict[str, Ticket]:
    """The tickets that are good for anything: not expired, and not fetched.

    ``fetched`` is when a device was heard of last by its certificate.
    """
    return {
        name: one
        for name, one in tickets.items()
        if now < one.expires and not (one.issued and fetched.get(name, 0.0) > one.issued)
    }


def password_files(tickets: Mapping[str, Ticket]) -> tuple[str, str]:
    """What nginx lets hand in requests, and what it lets fetch certificates."""
    rows = sorted(tickets.items())
    asking = "".join(f"{name}:{one.hash}\n" for name, one in rows if not one.issued)
    issued = "".join(f"{name}:{one.hash}\n" for name, one in rows if one.issued)
    return asking, issued


class Enrolments:
    """The enrolments of a site: ``fleet`` is read by nginx, ``written`` is what it writes."""

    def __init__(
        self, fleet: Path, written: Path, own: Path, now: float, run: Run = run_openssl
    ) -> None:
        self._fleet, self._written, self._own = fleet, written, own
        self._now, self._run = now, run
        for place in (fleet / "issued", written / "enroll", own):
            if not place.is_dir():
                raise RegistryError(
                    f"The directory {place} is not there; set gateway_fleet to true and run "
                    "site.yml."
                )

    # -- what is remembered -----------------------------------------------------------------

    def tickets(self) -> dict[str, Ticket]:
        """All invitations."""
        try:
            rows = json.loads((self._own / TICKETS).read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise RegistryError(f"{self._own / TICKETS} cannot be read: {error}.") from None
        return {row["name"]: Ticket(**row) for row in rows}

    def _keep(self, tickets: Mapping[str, Ticket]) -> None:
        rows = [asdict(one) for _name, one in sorted(tickets.items())]
        put(self._own / TICKETS, json.dumps(rows).encode(), 0o600)
        asking, issued = password_files(tickets)
        put(self._fleet / "enrolment.htpasswd", asking.encode(), 0o640)
        put(self._fleet / "issued.htpasswd", issued.encode(), 0o640)

    def _write_down(self, event: str, name: str, by: str = "", **more: Any) -> None:
        line = {"at": self._now, "event": event, "name": name, "by": by, **more}
        handle = os.open(self._own / JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        with open(handle, "ab") as stream:
            os.fchown(stream.fileno(), -1, self._own.stat().st_gid)
            stream.write(json.dumps(line, sort_keys=True).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def journal(self) -> list[dict[str, Any]]:
        """Every step of every enrolment, the oldest first."""
        try:
            lines = (self._own / JOURNAL).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines if line.endswith("}")]

    # -- steps ------------------------------------------------------------------------------

    def _fetched(self) -> dict[str, float]:
        """When each device was heard of last: only one with a certificate leaves a state."""
        return {
            path.stem: path.stat().st_mtime for path in (self._written / "state").glob("*.json")
        }

    def tidy(self) -> list[str]:
        """Take away what is good for nothing any more; the names."""
        before = self.tickets()
        kept = valid(before, self._now, self._fetched())
        gone = sorted(set(before) - set(kept))
        for name in gone:
            one = before[name]
            self._write_down(
                "fetched" if one.issued and self._now < one.expires else "expired", name
            )
            (self._fleet / "issued" / f"{name}.crt").unlink(missing_ok=True)
            (self._written / "enroll" / f"{name}.csr").unlink(missing_ok=True)
        if gone:
            self._keep(kept)
        return gone

    def invite(self, name: str, hashed: str, expires: float, by: str) -> None:
        """Let a name hand in one request; an earlier invitation of that name is good no more."""
        again = self._let_in_before(name)
        self._write_down("invited", name, by, expires=expires, again=again)
        (self._written / "enroll" / f"{name}.csr").unlink(missing_ok=True)
        (self._fleet / "issued" / f"{name}.crt").unlink(missing_ok=True)
        self._keep({**self.tickets(), name: Ticket(name, hashed, self._now, expires)})

    def _let_in_before(self, name: str) -> float:
        times = [
            one["at"] for one in self.journal() if (one["event"], one["name"]) == ("issued", name)
        ]
        return float(max(times, default=0.0))

    def asking(self, name: str) -> Asking:
        """The request of a name. Whoever sends one proves that the key is its own.

        Raises:
            RegistryError: There is none, or it is no request.
        """
        ticket = self.tickets().get(name)
        if ticket is None or self._now >= ticket.expires:
            raise RegistryError(
                f"{name} is not invited, or its invitation has expired; make a bundle with "
                f"playbooks/enrol.yml -e enrol_device={name}."
            )
        if ticket.issued:
            raise RegistryError(
                f"{name} was approved already ({ticket.fingerprint}) and fetches its certificate; "
                "for another key make a new bundle."
            )
        path = self._written / "enroll" / f"{name}.csr"
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            raise RegistryError(
                f"{name} has not asked yet: run mlops-enrol from its bundle on the device."
            ) from None
        with open(handle, "rb") as stream:
            at = os.fstat(stream.fileno()).st_mtime
            data = stream.read(MAX_REQUEST_BYTES + 1)
        if len(data) > MAX_REQUEST_BYTES:
            raise RegistryError(f"The request of {name} is over {MAX_REQUEST_BYTES} bytes.")
        public = self._run(["req", "-verify", "-noout", "-pubkey"], data)
        return Asking(
            name, fingerprint(public), data.decode("ascii"), at, self._let_in_before(name)
        )

    def issue(self, name: str, wanted: str, certificate: str, by: str) -> None:
        """Let a device in: the key that a person compared, and no other one sent since."""
        found = self.asking(name)
        if found.fingerprint != wanted:
            raise RegistryError(
                f"The request of {name} has the fingerprint {found.fingerprint}, approved was "
                f"{wanted}. Compare it with what the device shows."
            )
        self._write_down("issued", name, by, fingerprint=wanted, again=found.again)
        put(self._fleet / "issued" / f"{name}.crt", certificate.encode(), 0o640)
        tickets = self.tickets()
        let_in = replace(
            tickets[name],
            issued=self._now,
            fingerprint=wanted,
            expires=max(tickets[name].expires, self._now + FETCH_SECONDS),
        )
        self._keep({**tickets, name: let_in})
        (self._written / "enroll" / f"{name}.csr").unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command ``mlops-fleet-tidy`` of the control host: tokens end by themselves."""
    made = argparse.ArgumentParser(
        prog="mlops-fleet-tidy",
        description="Take invitations away that have expired or were used, from nginx as well.",
    )
    made.add_argument("--fleet", type=Path, required=True, help="what the gateway serves")
    made.add_argument("--written", type=Path, required=True, help="what the gateway writes")
    made.add_argument("--state", type=Path, required=True, help="invitations and their journal")
    options = made.parse_args(arguments)
    try:
        with alone(options.state):
            found = Enrolments(options.fleet, options.written, options.state, time.time())
            gone = found.tidy()
    except (RegistryError, OSError) as error:
        sys.stderr.write(f"Invitations cannot be tidied: {error}\n")
        return 1
    if gone:
        sys.stdout.write(f"Good for nothing any more: {', '.join(gone)}.\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
